"""The same as policy.py in plain numpy, from the equations: python policy_numpy.py RUN_DIR < observations.json."""

import json, math, sys

import numpy as np

STRIDES = {"mlp": [], "minatar_conv": [1], "nature_conv": [4, 2, 1]}

run = sys.argv[1]
spec = json.load(open(f"{run}/policy.json"))["network"]
file = open(f"{run}/policy.safetensors", "rb").read()
begin = 8 + int.from_bytes(file[:8], "little")
tensors = {
    name: np.frombuffer(file, "<f4", math.prod(entry["shape"]), begin + entry["data_offsets"][0]).reshape(entry["shape"])
    for name, entry in json.loads(file[8:begin]).items()
    if name != "__metadata__"
}
torso = "torso." if spec["shared_torso"] else "policy_torso."
linear = lambda x, name: x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
sigmoid = lambda x: 1 / (1 + np.exp(-x))
((kind, encoder),) = spec["encoder"].items()
shape, (_, high) = spec["observation"]["shape"], spec["observation"]["bounds"]

x = np.array(json.load(sys.stdin), dtype=np.float64)
if spec["observation"]["element"] == "uint8" and high > 1:
    x = x / high
elif spec["normalise_observations"]:
    x = np.clip((x - tensors["observation_mean"]) * tensors["observation_inv_std"], -10, 10)
if kind != "mlp":
    x = x.reshape(-1, *shape)
    x = x.transpose(0, 3, 1, 2) if encoder["layout"] == "channels_last" else x
    for index, stride in enumerate(STRIDES[kind]):
        weight, bias = (tensors[f"{torso}conv.{index}.{part}"] for part in ["weight", "bias"])
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
        x = np.maximum(np.einsum("ncyxij,ocij->noyx", windows, weight) + bias[:, None, None], 0)
    x = x.reshape(len(x), -1)
for index in range(len(encoder["hidden_sizes"])):
    x = linear(x, f"{torso}{'' if kind == 'mlp' else 'fc.'}{index}")
    x = np.tanh(x) if spec["activation"] == "tanh" else np.maximum(x, 0)
if spec["core"] != "none":
    ((core, size),) = ((core, value["size"]) for core, value in spec["core"].items())
    hidden, cell, rows = np.zeros(size), np.zeros(size), []
    for row in linear(x, f"{torso}core.input"):
        memory = tensors[f"{torso}core.recurrent.weight"] @ hidden
        if core == "lstm":
            i, f, g, o = np.split(row + memory, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
        else:
            r, z = np.split(sigmoid(row + memory)[: 2 * size], 2)
            n = np.tanh(row[2 * size :] + r * (memory[2 * size :] + tensors[f"{torso}core.recurrent.bias"]))
            hidden = (1 - z) * n + z * hidden
        rows.append(hidden)
    x = np.stack(rows)
print(json.dumps(linear(x, "policy_head").tolist()))
