#!/usr/bin/env python3
"""How fast Springbok, Sample Factory and stable-baselines3 train CartPole-v1 on this machine, and how fast a learner of
images is in Springbok and in PyTorch, in turns.

    python3 -m venv peers && peers/bin/pip install -r tests/peers/requirements.txt
    peers/bin/python tests/peers/compare.py throughput [--rounds 3]
    peers/bin/python tests/peers/compare.py threshold [--seeds 5]
    peers/bin/python tests/peers/compare.py learner [--device gpu] [--batches 256 1024 8192] [--modes eager compiled tf32]

`throughput`: trained environment steps a second with two layers of 64 units, one epoch for Springbok and Sample Factory,
the defaults otherwise. `threshold`: seconds from the start of the process until the mean return of 100 episodes is 475.
`learner`: steps of 4 x 84 x 84 bytes a second that updates of one epoch in one minibatch train on, with the encoders
"nature_conv" and "impala_resnet"; `--device gpu` takes a Springbok with GPU support and a PyTorch with CUDA.
But for that, everything is trained on the processor, with all of its cores. Only ratios within one run are worth comparing.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
THRESHOLD = 475
# The example's own flags for this environment, but for the size of network and batch. Frames are counted without skip.
SAMPLE_FACTORY = """--algo=APPO --env=CartPole-v1 --device=cpu --use_rnn=False --recurrence=1 --num_epochs=1 --rollout=32
    --encoder_mlp_layers 64 64 --num_workers=2 --num_envs_per_worker=16 --worker_num_splits=2 --batch_size=1024
    --reward_scale=0.1 --with_vtrace=False --decorrelate_experience_max_seconds=0 --decorrelate_envs_on_one_worker=False
    --save_every_sec=600 --experiment_summaries_interval=10 --stats_avg=100""".split()


def springbok(binary, out, *flags):
    return [binary, "train", "--env", "CartPole-v1", "--json", "--no-progress", "--out", out, *flags]


def run(command, name):
    """Output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def pace_of_springbok(binary, out, round_, steps):
    command = springbok(binary, out, "--seed", str(round_), "--total-steps", str(steps), "--set", "algorithm.epochs=1")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["trained_steps_per_s"]


def pace_of_sample_factory(out, round_, steps):
    command = [sys.executable, "-m", "sf_examples.train_gym_env", *SAMPLE_FACTORY, f"--train_dir={out}",
               f"--experiment=throughput{round_}", f"--seed={round_}", f"--train_for_env_steps={steps}"]
    return float(re.findall(r"Collected .*FPS: ([0-9.]+)", run(command, "Sample Factory"))[-1])


def pace_of_sb3(round_, steps, environments):
    command = [sys.executable, HERE / "sb3_ppo.py", "--steps", str(steps), "--seed", str(round_),
               "--environments", str(environments)]
    return json.loads(run(command, "stable-baselines3").strip().splitlines()[-1])["env_steps_per_s"]


def throughput(arguments, out):
    paces = {}

    def note(name, pace):
        paces.setdefault(name, []).append(pace)
        print(f"  {name}: {pace:.0f} steps/s", file=sys.stderr, flush=True)

    for round_ in range(1, arguments.rounds + 1):
        # Springbok before and after its peers: the difference is what the machine makes of the same work.
        note("springbok", pace_of_springbok(arguments.springbok, out, round_, arguments.steps))
        note("sample-factory APPO", pace_of_sample_factory(out, round_, arguments.steps // 8))
        note("stable-baselines3 PPO, 1 environment", pace_of_sb3(round_, arguments.steps // 64, 1))
        note("stable-baselines3 PPO, 16 environments", pace_of_sb3(round_, arguments.steps // 32, 16))
        note("springbok again", pace_of_springbok(arguments.springbok, out, round_ + 100, arguments.steps))
    ours = statistics.median(paces["springbok"] + paces["springbok again"])
    print("| system | steps/s (median) | range | Springbok / it |\n| --- | --- | --- | --- |")
    for name, own in paces.items():
        middle = statistics.median(own)
        print(f"| {name} | {middle:.0f} | {min(own):.0f} to {max(own):.0f} | {ours / middle:.2f} |")


def seconds_until(command, marker, patience_s):
    """Seconds from the start of the process to the first line that `marker` accepts; none if it ends before, or is too slow."""
    begun = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout:
                elapsed = time.perf_counter() - begun
                if marker(line):
                    return elapsed
                if elapsed > patience_s:
                    return None
        finally:
            # With its workers, which would go on and slow down whoever comes next.
            os.killpg(process.pid, signal.SIGKILL)
    return None


def threshold_of_sample_factory(out, seed, patience_s):
    command = [sys.executable, "-m", "sf_examples.train_gym_env", *SAMPLE_FACTORY, f"--train_dir={out}",
               f"--experiment=threshold{seed}", f"--seed={seed}", "--train_for_env_steps=100000000"]

    def reached(line):
        found = re.search(r"Avg episode reward: \[\(0, '([0-9.]+)'\)\]", line)
        return found and float(found.group(1)) >= THRESHOLD

    return seconds_until(command, reached, patience_s)


def threshold(arguments, out):
    times = {"springbok": [], "stable-baselines3 PPO": [], "sample-factory APPO": []}
    for seed in range(1, arguments.seeds + 1):
        command = springbok(arguments.springbok, out, "--seed", str(seed), "--stop-return", str(THRESHOLD),
                            "--total-steps", "10000000", "--name", f"threshold{seed}")
        # To the end of the process, which is later than the moment in question.
        times["springbok"].append(seconds_until(command, lambda line: '"threshold": {' in line, 600))
        command = [sys.executable, HERE / "sb3_ppo.py", "--steps", "1000000", "--seed", str(seed),
                   "--threshold", str(THRESHOLD)]
        times["stable-baselines3 PPO"].append(seconds_until(command, lambda line: "reached" in line, arguments.patience))
        times["sample-factory APPO"].append(threshold_of_sample_factory(out, seed, arguments.patience))
        print({name: own[-1] for name, own in times.items()}, file=sys.stderr, flush=True)
    print(f"| system | seconds to {THRESHOLD} (median of {arguments.seeds} seeds) | all |\n| --- | --- | --- |")
    for name, own in times.items():
        late = [seconds if seconds is not None else float("inf") for seconds in own]
        shown = ", ".join(f"{seconds:.1f}" if seconds != float("inf") else f"> {arguments.patience}" for seconds in sorted(late))
        print(f"| {name} | {statistics.median(late):.1f} | {shown} |")


# Unrolls of 256 steps of images, one epoch of one minibatch.
IMAGES = {
    "environment.id": "Synthetic",
    "environment.options": '{ element = "uint8", observation_shape = [4, 84, 84], actions = 6 }',
    "actor.environments_per_actor": 16,
    "actor.unroll_length": 16,
    "policy.shared_torso": "true",
    "algorithm.epochs": 1,
    "algorithm.minibatches": 1,
    "limits.memory_mib": 65536,
}
UNROLL = 256
MODES = {"eager": [], "compiled": ["--compile"], "tf32": ["--tf32"], "compiled-tf32": ["--compile", "--tf32"]}


def learner_of_springbok(arguments, network, batch):
    unrolls = batch // UNROLL
    settings = {**IMAGES, "policy.encoder": network, "learner.batch_unrolls": unrolls, "learner.queue_unrolls": unrolls}
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [arguments.springbok, "bench", "learner", "--json", "--rounds", "1", "--seconds", str(arguments.seconds),
               "--device", arguments.device, *sets]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"Springbok ended with {done.returncode}: {done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    return report["rows"][0]["rate"], report["settings"]["parameters"]


def learner_of_torch(arguments, network, batch, mode):
    device = {"cpu": "cpu", "gpu": "cuda"}[arguments.device]
    command = [sys.executable, HERE / "torch_learner.py", "--network", network, "--batch", str(batch), "--device", device,
               "--seconds", str(arguments.seconds), *MODES[mode]]
    report = json.loads(run(command, "PyTorch").strip().splitlines()[-1])
    return report["steps_per_s"], report["parameters"]


def learner(arguments, _):
    names = [f"PyTorch {mode}" for mode in arguments.modes]
    heads = [head for name in names for head in (name, f"Springbok / {name}")]
    print(f"| network | batch | Springbok, steps/s | {' | '.join(heads)} |\n|{' --- |' * (3 + len(heads))}")
    for network in arguments.networks:
        for batch in arguments.batches:
            paces = {}
            for round_ in range(1, arguments.rounds + 1):
                found = {"springbok": learner_of_springbok(arguments, network, batch)}
                for mode, name in zip(arguments.modes, names):
                    found[name] = learner_of_torch(arguments, network, batch, mode)
                sizes = {parameters for _, parameters in found.values()}
                assert len(sizes) == 1, f"not the same network: {sizes} parameters"
                for name, (pace, _) in found.items():
                    paces.setdefault(name, []).append(pace)
                print(f"  {network} {batch} round {round_}: {found}", file=sys.stderr, flush=True)
            cells = [f"{statistics.median(paces['springbok']):.0f}"]
            for name in names:
                ratios = [ours / theirs for ours, theirs in zip(paces["springbok"], paces[name])]
                cells.append(f"{statistics.median(paces[name]):.0f}")
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            print(f"| {network} | {batch} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "threshold", "learner"])
    parser.add_argument("--springbok", default="target/release/springbok")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2_000_000, help="environment steps of each run of Springbok")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=300, help="seconds after which a peer is given up")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="where learners compute")
    parser.add_argument("--networks", nargs="+", default=["nature_conv", "impala_resnet"])
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024], help=f"steps, multiples of {UNROLL}")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager"], help="of PyTorch")
    parser.add_argument("--seconds", type=float, default=3, help="of updates in each turn of a learner")
    arguments = parser.parse_args()
    if any(batch <= 0 or batch % UNROLL for batch in arguments.batches):
        parser.error(f"batches are multiples of {UNROLL}")
    with open("/proc/cpuinfo", encoding="utf8") as file:
        model = re.search(r"model name\s*: (.*)", file.read()).group(1)
    print(f"{os.cpu_count()} cores, {model}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as out:
        {"throughput": throughput, "threshold": threshold, "learner": learner}[arguments.what](arguments, out)


if __name__ == "__main__":
    main()
