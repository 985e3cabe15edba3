"""One load of a running target, in a process of its own: the settings come as an argument, the figures go out as JSON.

A benchmark starts this file with the ``PYTHONPATH`` of the checkout that it measures, so that an old generator can be
compared with a new one. It prints two lines: ``started`` when the first order is about to be sent, and the figures. The
benchmark counts the processor time of the nodes between the two. The CPU time of the load is that of this process from
the first order to the last answer, ZeroMQ's I/O thread included. It ends with its standard input.

    python benchmarks/load_once.py '{"nodes": ["tcp://127.0.0.1:5002"], "rate": 5000, "duration_s": 5}' [KEYS]
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from zmqlab import keys
from zmqlab.load.generator import Generator
from zmqlab.load.load_report import LoadReport
from zmqlab.load.load_settings import LoadSettings


def cpu_s() -> float:
    """Of this process, all threads."""
    times = os.times()
    return times.user + times.system


def end_with_parent() -> None:
    """End this process at once when its standard input ends: then the benchmark is gone."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin: the interpreter could not end while a thread holds it
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Clock:
    """Tells the parent of the start, and remembers when it was."""

    def __init__(self) -> None:
        self.began_s = 0.0
        self.cpu_s = 0.0

    def start(self, _: list[int]) -> None:
        """Called once, before the first order."""
        self.began_s, self.cpu_s = time.monotonic(), cpu_s()
        print("started", flush=True)


def main() -> None:
    """Run the load, print the figures."""
    end_with_parent()
    settings = LoadSettings.from_dict(json.loads(sys.argv[1]))
    keys.use(sys.argv[2] if len(sys.argv) > 2 else None)
    clock = Clock()
    result = Generator(settings, on_started=clock.start).run()
    spent_s = cpu_s() - clock.cpu_s
    report = LoadReport(result)
    figures = {
        "orders": result.total.acknowledged,
        "offered_per_s": result.total.offered / result.sending_s,
        "unserved": report.unserved,
        "requests": result.total.requests,
        "throughput": report.throughput,
        "elapsed_s": result.elapsed_s,
        "cpu_s": spent_s,
        "late": report.generator_limited,
        "gap_ms": result.longest_gap_ms,
        **report.response_time.as_dict(),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
