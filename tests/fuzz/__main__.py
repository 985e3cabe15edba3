"""``python -m tests.fuzz --frames 1000000``: so many hostile frames to each socket, twice, and a summary.

First to the handlers of nodes in this process, then through real sockets to node processes; see
:mod:`tests.fuzz.handlers` and :mod:`tests.fuzz.processes`. A failure is an AssertionError, or whatever came out of the
node, with the seed and the place; the same arguments fail again at the same frame in the first run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable

from tests.fuzz.handlers import run_forged, run_handlers
from tests.fuzz.hostile import SOCKETS
from tests.fuzz.processes import run_processes

RUNS = ("handlers", "processes", "forged")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for each socket in each run")
    parser.add_argument("--socket", choices=SOCKETS, action="append", help="only this one")
    parser.add_argument("--run", choices=RUNS, action="append", help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("zmqlab.node").addHandler(logging.NullHandler())
    logging.getLogger("zmqlab.node").propagate = False
    runs = arguments.run or RUNS
    for socket in arguments.socket or SOCKETS:
        for name, run in (("handlers", run_handlers), ("processes", run_processes)):
            if name in runs:
                for outcome in run(socket, arguments.frames, arguments.seed, shown(f"{socket}, {name}")):
                    print(f"\r{outcome}", flush=True)
    if "forged" in runs:
        print(f"\r{run_forged(arguments.frames, arguments.seed, shown('forged'))}")


def shown(what: str) -> Callable[[int], None]:
    """Shows progress on a terminal, a few times a second."""
    last = 0.0

    def show(done: int) -> None:
        nonlocal last
        if sys.stderr.isatty() and time.monotonic() - last > 0.2:
            last = time.monotonic()
            print(f"\r{what}: {done:,} frames ", end="", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    main()
