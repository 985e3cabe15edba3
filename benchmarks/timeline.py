"""Where the microseconds of one order go: when each step of each process begins, and how long it takes.

    python benchmarks/timeline.py [--nodes 3] [--rounds 10]

One order at a time, through the leader and through a follower. Each node notes its steps (``stamped_node.py``), by the
clock that all processes of a machine share. The table has medians over all orders, in the order of the beginnings; a
step that fewer than half of the orders have is left out. Steps of a kind are counted in each process from the moment
the client sends; what it still does for the order before is among them. A step belongs to the order in which it begins,
even if it ends later: a node that answers may lose its core to the client that it answers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

from machine import line, unwind_at_sigterm
from one_order import IN_A_ROW, Bounce, Session
from tables import markdown
from targets import running

from zmqlab.client.bare_client import BareClient

Stamps = list[tuple[int, str, bool]]
Order = tuple[int, int]
"""When it was sent, and when its answer was there."""
Step = tuple[int, int, str]
"""When it began, how long it took, in nanoseconds, and what it is."""
Key = tuple[str, str, int]
"""Process, step, and which one of its kind since the order was sent."""
SHORTEST_NS = 1_500
"""A step that takes less found nothing to do."""


def timed(session: Session | Bounce) -> Order:
    """One question."""
    began_ns = time.monotonic_ns()
    session.ask()
    return began_ns, time.monotonic_ns()


def steps_of(stamps: Stamps) -> list[Step]:
    """What a process did, in the order of the beginnings."""
    found: list[Step] = []
    begun: dict[str, list[int]] = defaultdict(list)
    for at_ns, step, is_end in stamps:
        if not is_end:
            begun[step].append(at_ns)
        elif begun[step]:
            began_ns = begun[step].pop()
            if step == "wait":
                found.append((at_ns, 0, "woken"))
            elif at_ns - began_ns >= SHORTEST_NS:
                found.append((began_ns, at_ns - began_ns, step))
    return sorted(found)


def rows_of(steps: dict[str, list[Step]], orders: list[Order]) -> list[list[str]]:
    """The table of one way."""
    collected: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for process, done in steps.items():
        times = [began_ns for began_ns, _, _ in done]
        for sent_ns, answered_ns in orders:
            seen: Counter[str] = Counter()
            for began_ns, took_ns, step in done[bisect_left(times, sent_ns) : bisect_right(times, answered_ns)]:
                seen[step] += 1
                collected[process, step, seen[step]].append((began_ns - sent_ns, took_ns))
    rows = []
    for (process, step, number), found in collected.items():
        if 2 * len(found) > len(orders):
            began_us, took_us = (statistics.median(each[place] for each in found) / 1e3 for place in (0, 1))
            rows.append(
                (began_us, [f"{process}, {number}", step, f"{began_us:.0f}", f"{took_us:.0f}" if took_us else ""])
            )
    return [row for _, row in sorted(rows)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10, help=f"of {IN_A_ROW} orders each way")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    about = line()
    ways: dict[str, list[Order]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZMQLAB_STAMPS"] = folder
        with running("stamped", arguments.nodes) as target, ExitStack() as stack:
            roles = {status.port + 2: (status.pid, status.role) for status in target.statuses()}
            found = [(endpoint, *roles[int(endpoint.rpartition(":")[2])]) for endpoint in target.endpoints]
            found.sort(key=lambda each: each[2] != "leader")
            asked: dict[str, Session | Bounce] = {"bare": Bounce(stack)}
            for name, (endpoint, _, _) in zip(("the leader", "a follower"), found, strict=False):
                asked[name] = Session(stack.enter_context(BareClient({"node": endpoint})), "node")
            for round_ in range(arguments.rounds + 1):
                for name, session in asked.items():
                    orders = [timed(session) for _ in range(IN_A_ROW)]
                    if round_:  # the first one warms up
                        ways[name] += orders
        names = ["leader", "follower", *(f"other {number}" for number in range(1, arguments.nodes - 1))]
        steps = {
            name: steps_of(json.loads((Path(folder) / f"{pid}.json").read_text()))
            for name, (_, pid, _) in zip(names, found, strict=True)
        }
    medians = {name: statistics.median(end - began for began, end in orders) / 1e3 for name, orders in ways.items()}
    print(f"{about}.\nMedians of {len(ways['bare'])} orders each way, {arguments.nodes} nodes.")
    print(f"A bare round trip takes {medians['bare']:.0f} µs.")
    for name in list(asked)[1:]:
        print(f"\nThrough {name}: {medians[name]:.0f} µs.\n")
        print(markdown(["process", "step", "begins at, µs", "takes, µs"], rows_of(steps, ways[name]), text=2))


if __name__ == "__main__":
    main()
