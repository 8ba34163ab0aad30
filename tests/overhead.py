#!/usr/bin/env python3
"""What watching a run costs: pairs of runs with all views and without, in turns.

    cargo build --release -p springbok --no-default-features
    nice -n -5 python3 tests/overhead.py target/release/springbok --pairs 8

With all views: metrics.jsonl, TensorBoard's event file, the page with a client that follows it, and a scrape of /metrics a
second. Without: none of them. Both are CartPole-v1 with default settings, a learner and two actors, in the order AB, BA, AB
... The pairs are compared by trained steps per second, and by the learner's processor time, which a busy machine disturbs less:
what views cost is a matter of seconds, not of steps, so their part of it is given as a share of the time of the run on one
core. Needs nothing but Python's standard library.
"""

import argparse
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def follow(port, stop, seen):
    """Reads the events of the page until the learner is gone."""
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/events")
            answer = connection.getresponse()
            while line := answer.readline():
                seen["events"] += line.startswith(b"data: ")
        except OSError:
            stop.wait(0.2)


def scrape(port, stop, seen):
    while not stop.wait(1.0):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/metrics")
            seen["bytes"] = len(connection.getresponse().read())
            seen["scrapes"] += 1
        except OSError:
            pass


def run(binary, views, steps, seed):
    """Trains once; gives the summary, the learner's processor time in seconds, and what was seen."""
    seen = {"events": 0, "scrapes": 0, "bytes": 0}
    with tempfile.TemporaryDirectory() as out:
        port, page = free_port(), free_port()
        common = ["--set", f"telemetry.metrics={str(views).lower()}"]
        if views:
            common += ["--tensorboard", "--http", f"127.0.0.1:{page}"]
        learner = [binary, "learner", "--listen", f"127.0.0.1:{port}", "--json", "--no-progress", "--device", "cpu"]
        learner += ["--total-steps", str(steps), "--seed", str(seed), "--out", out, "--name", "run", *common]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes = [subprocess.Popen(learner, **quiet)]
        actors = {**os.environ, "RAYON_NUM_THREADS": "1"}
        for index in range(2):
            actor = [binary, "actor", "--learner", f"http://127.0.0.1:{port}", "--index", str(index)]
            processes.append(subprocess.Popen(actor, env=actors, **quiet))
        stop = threading.Event()
        clients = [threading.Thread(target=client, args=(page, stop, seen)) for client in (follow, scrape)]
        for client in clients if views else []:
            client.start()
        _, status, usage = os.wait4(processes[0].pid, 0)
        stop.set()
        for client in clients if views else []:
            client.join()
        for process in processes[1:]:
            process.wait()
        assert status == 0, f"the learner ended with {status}"
        summary = json.loads((pathlib.Path(out) / "run" / "summary.json").read_text())
    return summary, usage.ru_utime + usage.ru_stime, seen


def described(name, ratios):
    """Median, and the range between the order statistics that covers it with at least 95 % for 8 to 14 pairs."""
    ordered = sorted(ratios)
    low, high = ordered[1 if len(ordered) >= 9 else 0], ordered[-2 if len(ordered) >= 9 else -1]
    print(f"{name}: {statistics.median(ratios):.4f} ({low:.4f} to {high:.4f}, {len(ratios)} pairs)")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("--pairs", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=1_000_000)
    asked = arguments.parse_args()
    binary = os.path.abspath(asked.binary)
    rates, shares = [], []
    for pair in range(asked.pairs):
        order = [True, False] if pair % 2 == 0 else [False, True]
        found = {views: run(binary, views, asked.steps, pair + 1) for views in order}
        (summary, processor, seen), (bare, bare_processor, _) = found[True], found[False]
        rates.append(summary["trained_steps_per_s"] / bare["trained_steps_per_s"])
        # Per step, since runs end a few steps apart.
        extra = processor / summary["trained_steps"] - bare_processor / bare["trained_steps"]
        shares.append(extra * summary["trained_steps_per_s"])
        print(
            f"pair {pair + 1}: {summary['trained_steps_per_s']:.0f} and {bare['trained_steps_per_s']:.0f} steps/s; "
            f"{processor:.2f} and {bare_processor:.2f} s of the learner, {shares[-1]:.4f} of the time for views; "
            f"{seen['events']} events, {seen['scrapes']} scrapes of {seen['bytes']} bytes; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    described("steps per second, with views / without", rates)
    described("processor time of the learner for views, as a share of the time on one core", shares)


if __name__ == "__main__":
    main()
