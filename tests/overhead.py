#!/usr/bin/env python3
"""What watching a run costs: the processor time that all views of it take, thread by thread.

    cargo build --release -p springbok --no-default-features
    python3 tests/overhead.py target/release/springbok --pairs 3

With all views: metrics.jsonl, TensorBoard's event file, the page with a client that follows it, and a scrape of /metrics a
second. Without: none of them. Both are CartPole-v1 with default settings, a learner and two actors, in turns (AB, BA, AB
...). Rates of two runs differ by far more than the views cost, so it is not rates that are compared: the kernel counts
nanoseconds for each thread of the learner, and the learner says which share of its trainer's time went into measuring and
writing. Linux only; needs nothing but Python's standard library.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

WARM_UP_S = 4


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def follow(port, stop):
    """Reads the events of the page until the learner is gone."""
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/events")
            answer = connection.getresponse()
            while answer.readline():
                pass
        except OSError:
            stop.wait(0.2)


def scrape(port, stop):
    while not stop.wait(1.0):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/metrics")
            connection.getresponse().read()
        except OSError:
            pass


def nanoseconds(process):
    """Processor time of each thread so far, by the name of the thread."""
    times = collections.Counter()
    for thread in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        name = (thread / "comm").read_text().strip()
        times[name] += int((thread / "schedstat").read_text().split()[0])
    return times


def run(binary, views, seconds):
    """Trains for so long; gives the share of a core that threads other than the trainer took, and of the trainer's time
    that went into measuring."""
    with tempfile.TemporaryDirectory() as out:
        port, page = free_port(), free_port()
        learner = [binary, "learner", "--listen", f"127.0.0.1:{port}", "--json", "--no-progress", "--device", "cpu"]
        learner += ["--total-steps", "1000000000", "--out", out, "--name", "run"]
        learner += ["--set", f"telemetry.metrics={str(views).lower()}"]
        if views:
            learner += ["--tensorboard", "--http", f"127.0.0.1:{page}"]
        learner = subprocess.Popen(learner, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        url = f"http://127.0.0.1:{port}"
        actors = [subprocess.Popen([binary, "actor", "--learner", url, "--index", str(at)], **quiet) for at in range(2)]
        stop = threading.Event()
        clients = [threading.Thread(target=client, args=(page, stop)) for client in (follow, scrape)]
        for client in clients if views else []:
            client.start()
        time.sleep(WARM_UP_S)
        before, begun = nanoseconds(learner), time.monotonic()
        time.sleep(seconds)
        after, elapsed = nanoseconds(learner), time.monotonic() - begun
        learner.send_signal(signal.SIGTERM)
        summary = json.loads(learner.communicate()[0])
        stop.set()
        for client in clients if views else []:
            client.join()
        for actor in actors:
            actor.wait()
    shares = {name: (after[name] - before[name]) / elapsed / 1e9 for name in after if name != "trainer"}
    return sum(shares.values()), summary["time"]["learner_measuring"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=25.0)
    asked = arguments.parse_args()
    binary = os.path.abspath(asked.binary)
    besides, measuring = [], []
    for pair in range(asked.pairs):
        order = [True, False] if pair % 2 == 0 else [False, True]
        found = {views: run(binary, views, asked.seconds) for views in order}
        besides.append(found[True][0] - found[False][0])
        measuring.append(found[True][1] - found[False][1])
        print(
            f"pair {pair + 1}: beside the trainer {found[True][0]:.2%} of a core with views, {found[False][0]:.2%} without; "
            f"of the trainer's time {found[True][1]:.2%} and {found[False][1]:.2%}",
            flush=True,
        )
    print(f"views cost {statistics.median(besides):.2%} of a core beside the trainer (median)")
    print(f"and {statistics.median(measuring):.2%} of the trainer's time (median)")


if __name__ == "__main__":
    main()
