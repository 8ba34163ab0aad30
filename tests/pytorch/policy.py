"""A trained policy in PyTorch: python policy.py RUN_DIR < observations.json. Needs torch and safetensors.

Reads the observations of one episode in order, [T, O], and prints what the policy head gives for each: logits, or the
means of a continuous action.
"""

import json, sys

import torch
from safetensors.torch import load_file
from torch.nn import GRU, LSTM, functional

STRIDES = {"mlp": [], "minatar_conv": [1], "nature_conv": [4, 2, 1]}

run = sys.argv[1]
spec = json.load(open(f"{run}/policy.json"))["network"]
tensors = load_file(f"{run}/policy.safetensors")
torso = "torso." if spec["shared_torso"] else "policy_torso."
layer = lambda name: (tensors[f"{name}.weight"], tensors[f"{name}.bias"])
((kind, encoder),) = spec["encoder"].items()
shape, (_, high) = spec["observation"]["shape"], spec["observation"]["bounds"]

x = torch.tensor(json.load(sys.stdin), dtype=torch.float32)
if spec["observation"]["element"] == "uint8" and high > 1:
    x = x / high
elif spec["normalise_observations"]:
    x = ((x - tensors["observation_mean"]) * tensors["observation_inv_std"]).clamp(-10, 10)
if kind != "mlp":
    x = x.reshape(-1, *shape)
    x = x.permute(0, 3, 1, 2) if encoder["layout"] == "channels_last" else x
    for index, stride in enumerate(STRIDES[kind]):
        x = functional.conv2d(x, *layer(f"{torso}conv.{index}"), stride=stride).relu()
    x = x.flatten(1)
for index in range(len(encoder["hidden_sizes"])):
    x = functional.linear(x, *layer(f"{torso}{'' if kind == 'mlp' else 'fc.'}{index}"))
    x = getattr(torch, spec["activation"])(x)
if spec["core"] != "none":
    ((core, size),) = ((core, value["size"]) for core, value in spec["core"].items())
    weight, bias = layer(f"{torso}core.input")
    hidden_bias = torch.zeros_like(bias)  # the file has the sum of both biases, except where they do not add up
    if core == "gru":
        hidden_bias[2 * size :] = tensors[f"{torso}core.recurrent.bias"]
    memory = {"lstm": LSTM, "gru": GRU}[core](x.shape[1], size)
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    values = [weight, tensors[f"{torso}core.recurrent.weight"], bias, hidden_bias]
    memory.load_state_dict(dict(zip(names, values)))
    x, _ = memory(x)
print(json.dumps(functional.linear(x, *layer("policy_head")).tolist()))
