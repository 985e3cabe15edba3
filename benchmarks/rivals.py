"""What a user would pick instead, under the same load: PySyncObj, Redis, etcd and NATS JetStream, three processes each.

Each is started on loopback with a temporary folder, is loaded and is ended, one after the other, for several rounds. A
table says what each promises before it answers, and another one what it costs. What is not installed is left out, with
the reason. The latency of an order counts from when it was due, and the rates are those of an open loop.

``zmqlab`` and ``PySyncObj`` match the orders; the same exchange runs in both. Redis, etcd and NATS store the bytes of
the orders as a log and do nothing with them: their readers would have to match. ``zmqlab pipeline`` does the same for
this project. So each of the three has an advantage over ``zmqlab``, and none over ``zmqlab pipeline``.

    apt-get install redis-server etcd-server nats-server; pip install -e '.[bench]'
    python benchmarks/rivals.py [--rate 5000,30000] [--seconds 5] [--rounds 3] [--only zmqlab,redis] [--json FILE]

The highest rate is found by doubling from 5,000 orders/s: the last one at which all orders were answered, the rate was
kept, and p99 was under 50 ms. ``saturation`` is closed-loop: 16 batches of 256 orders are outstanding all the time.

Not tuned: the kernel, the schedulers, cores, the garbage collectors of Go, file systems. Options that differ from each
program's default stand beside its start, with the reason (``rival_servers.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import machine
from rival_servers import MEMBERS, etcd, nats, needs, pysyncobj, redis
from tables import markdown, short
from targets import Load, Running, running

FIRST_RATE = 5_000
CARRIED_P99_MS = 50.0
RATE_MAX = 2_000_000


class Promise(NamedTuple):
    """What holds when an order is answered, by the program's documents and its default time-outs of elections."""

    majority: str
    survives: str
    synced: str
    order: str
    does: str


class Rival(NamedTuple):
    """One line of the tables."""

    name: str
    missing: Callable[[], str]
    """Why it can't be run here; empty: it can."""
    start: Callable[[], AbstractContextManager[Any]]
    """Gives something with a method ``load(rate, seconds)``."""
    promise: Promise


def this_project(kind: str, durability: str = "os", **settings: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Nodes of this project, with settings for their load client."""

    @contextlib.contextmanager
    def start() -> Iterator[Any]:
        with running(kind, MEMBERS, durability=durability) as target:
            yield _Chosen(target, settings)

    return start


class _Chosen:
    """A target with settings for its load client."""

    def __init__(self, target: Running, settings: dict[str, Any]) -> None:
        self._target = target
        self._settings = settings

    def load(self, rate: float | None, seconds: float) -> Load:
        """One load."""
        return self._target.load(rate, seconds, **self._settings)


ONE_LOG = "one log for all; an order is applied once, even if it is sent again"
RAFT = Promise("yes", "yes, a new leader within half a second", "no", ONE_LOG, "matches")
RIVALS = [
    Rival("zmqlab", needs(), this_project("cluster"), RAFT),
    Rival("zmqlab, leader only", needs(), this_project("cluster", node_choice="leader"), RAFT),
    Rival("zmqlab pipeline", needs(), this_project("pipeline"), RAFT._replace(does="stores")),
    Rival("zmqlab, fsync", needs(), this_project("cluster", durability="fsync"), RAFT._replace(synced="yes")),
    Rival(
        "PySyncObj",
        needs(packages=["pysyncobj"]),
        pysyncobj,
        Promise(
            "yes",
            "yes, a new leader after 0.4 to 1.4 s; its vote is on disk up to a second late",
            "no",
            "one log for all",
            "matches",
        ),
    ),
    Rival(
        "Redis, WAIT 1",
        needs(programs=["redis-server"]),
        redis,
        Promise(
            "2 of 3 have it in memory",
            "its data; no new primary without Sentinel",
            "no",
            "that of the primary",
            "stores",
        ),
    ),
    Rival(
        "etcd, no fsync",
        needs(programs=["etcd"], packages=["grpc"]),
        etcd("--unsafe-no-fsync"),
        Promise("yes", "yes, a new leader after 1 to 2 s", "no", "one log for all", "stores"),
    ),
    Rival(
        "etcd",
        needs(programs=["etcd"], packages=["grpc"]),
        etcd(),
        Promise("yes", "yes, a new leader after 1 to 2 s", "yes", "one log for all", "stores"),
    ),
    Rival(
        "NATS JetStream R3",
        needs(programs=["nats-server"]),
        nats,
        Promise("yes", "yes, a new leader after 4 to 9 s", "no", "one log for each stream", "stores"),
    ),
]


class Outcome(NamedTuple):
    """One rival in one round."""

    paced: list[Load]
    """In the order of the rates."""
    carried: float
    """The highest rate of the doubling that was kept; 0: not even the first."""
    flooded: Load


def measure(rival: Rival, rates: Sequence[float], seconds: float, highest: float) -> Outcome:
    """One round of one rival."""
    with rival.start() as target:
        paced = [target.load(rate, seconds) for rate in rates]
        carried, rate = 0.0, float(FIRST_RATE)
        while rate <= highest and carries(target.load(rate, seconds)):
            carried, rate = rate, 2 * rate
    with rival.start() as target:  # the queue of the rate that was too much is not part of this
        return Outcome(paced, carried, target.load(None, seconds))


def carries(load: Load) -> bool:
    """Whether the rate was kept, with a p99 that a user would call an answer."""
    return load.keeps_up and load.p99_ms < CARRIED_P99_MS


def row(name: str, outcomes: Sequence[Outcome], rates: Sequence[float]) -> list[str]:
    """Medians of the rounds. At a rate that was not kept there is no latency to tell of."""
    cells = []
    for at in range(len(rates)):
        loads = [one.paced[at] for one in outcomes]
        if not all(load.keeps_up for load in loads):
            cells += ["not kept", ""]
        else:
            cells += [
                f"{statistics.median(getattr(load, each) for load in loads):.2f}" for each in ("p50_ms", "p99_ms")
            ]
    last = [one.paced[-1] for one in outcomes]
    flooded = [one.flooded for one in outcomes]
    cells.append(short(statistics.median(one.carried for one in outcomes)))
    cells.append(short(statistics.median(load.throughput for load in flooded)))
    for name_of in ("nodes_us", "load_us"):
        cells.append(short(statistics.median(getattr(load, name_of) for load in last)))
    return [name, *cells]


def promises(rivals: Sequence[Rival]) -> str:
    """The table of promises."""
    head = [
        "when an order is answered",
        "a majority has it",
        "outlives a kill of one",
        "synced to disk",
        "order",
        "does",
    ]
    return markdown(head, [[rival.name, *rival.promise] for rival in rivals], text=len(head))


def chosen(only: str) -> list[Rival]:
    """Those whose name begins with one of the given words, and that can be run; says which are left out."""
    words = [word.strip().lower() for word in only.split(",") if word]
    found = []
    for rival in RIVALS:
        if words and not any(rival.name.lower().startswith(word) for word in words):
            continue
        if reason := rival.missing():
            print(f"{rival.name} is left out: {reason}.")
        else:
            found.append(rival)
    return found


def main() -> int:
    """Measure and print; fail if nothing could be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="5000,30000", help="orders a second, with commas")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--highest", type=float, default=RATE_MAX, help="where the doubling of the rate ends")
    parser.add_argument("--only", default="", help="beginnings of names, with commas")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    arguments = parser.parse_args()
    machine.unwind_at_sigterm()
    rates = [float(rate) for rate in arguments.rate.split(",")]
    print(f"{machine.line()}.")
    rivals = chosen(arguments.only)
    outcomes: dict[str, list[Outcome]] = {rival.name: [] for rival in rivals}
    for number in range(arguments.rounds):
        for rival in rivals if number % 2 == 0 else reversed(rivals):
            one = measure(rival, rates, arguments.seconds, arguments.highest)
            outcomes[rival.name].append(one)
            said = ", ".join(f"p99 {load.p99_ms:.1f} ms" for load in one.paced)
            print(f"  {rival.name:20} {said}, carries {one.carried:,.0f}", file=sys.stderr, flush=True)
    if not rivals:
        print("Nothing to run.")
        return 1
    print(f"Medians of {arguments.rounds} rounds of {arguments.seconds:g} s each; {MEMBERS} processes of each.\n")
    head = [""]
    for rate in rates:
        head += [f"p50 ms at {rate:,.0f}/s", "p99 ms"]
    last = f"{rates[-1]:,.0f}/s"
    head += ["highest rate by doubling", "saturation", f"CPU of servers, µs/order at {last}", "of load"]
    print(markdown(head, [row(name, each, rates) for name, each in outcomes.items()]))
    print(f"\n{promises(rivals)}")
    if arguments.json:
        values = {name: [one._asdict() for one in each] for name, each in outcomes.items()}
        arguments.json.write_text(json.dumps({"machine": machine.facts(), "rates": rates, "rivals": values}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
