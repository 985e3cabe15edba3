"""Where the processor time of an order goes: profiles of every node and of the load process, and a table of shares.

A cluster runs under load while py-spy looks at each of its processes a few hundred times a second. The stacks of each
process are written to a file that flame graph programs read (https://www.speedscope.app, ``flamegraph.pl``). The table
takes the CPU time that the system counted and splits it: what ZeroMQ's I/O threads used is known by itself, and what
the main thread used is shared out by the samples. A sample belongs to the innermost function of this package on its
stack, so that the time of a library counts for its caller.

py-spy must be allowed to look at other processes: as root, or with ``kernel.yama.ptrace_scope=0``. It takes some CPU
itself; on two cores the latencies of such a run mean nothing.

    pip install py-spy
    python benchmarks/flames.py [--rate 30000] [--seconds 10] [--nodes 3] [--by module|function] [--folder profiles]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
from machine import line, unwind_at_sigterm
from tables import markdown, short

from zmqlab import Cluster, LoadClient

SAMPLES_PER_S = 250
"""More would slow the nodes down on two cores."""
WARM_UP_S = 2.0
SMALL = 0.01
"""Rows below this share in every process are joined."""
FRAME = re.compile(r"^(?P<function>\S+) \((?:.*/)?zmqlab/(?P<path>[a-z_/]+)\.py:\d+\)$")
"""A frame of this package, as py-spy writes it."""
OUTSIDE = "interpreter, other libraries"
IO_THREADS = "ZeroMQ's I/O threads"
REST = "all else"


class Spent(NamedTuple):
    """CPU seconds of one process."""

    main_s: float
    io_s: float
    """Of all threads but the main one."""


class Profile(NamedTuple):
    """One process under load."""

    name: str
    shares: dict[str, float]
    """By part; they add up to 1."""
    us_per_order: float
    """Of CPU."""


def py_spy() -> str:
    """Where it is; ends the program if it is nowhere."""
    found = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit("py-spy is not installed: pip install py-spy")
    return found


def spent(pid: int) -> Spent:
    """Since the process began."""
    threads = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}
    main_s = threads.pop(pid)
    return Spent(main_s, sum(threads.values()))


def record(pids: dict[str, int], seconds: float, folder: Path) -> dict[str, Path]:
    """Have every process watched at the same time; returns the files."""
    files = {name: folder / f"{name}.txt" for name in pids}
    flags = ["--format", "raw", "--rate", str(SAMPLES_PER_S), "--duration", f"{seconds:g}", "--nonblocking"]
    with ExitStack() as stack:
        watchers = []
        for name, pid in pids.items():
            command = [py_spy(), "record", *flags, "--pid", str(pid), "--output", str(files[name])]
            watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            stack.callback(watcher.wait)
            stack.callback(watcher.kill)
            watchers.append(watcher)
        for watcher in watchers:
            _, said = watcher.communicate(timeout=seconds + 60)
            if watcher.returncode:
                sys.exit(f"py-spy failed: {said.strip().splitlines()[-1]}")
    return files


def samples_by_part(path: Path, by_function: bool) -> Counter[str]:
    """How many samples each part has."""
    found: Counter[str] = Counter()
    for stack in path.read_text().splitlines():
        frames, _, count = stack.rpartition(" ")
        found[part_of(frames.split(";"), by_function)] += int(count)
    return found


def part_of(frames: Sequence[str], by_function: bool) -> str:
    """The innermost function of this package, or its module."""
    for frame in reversed(frames):
        if match := FRAME.match(frame):
            module = match["path"].replace("/", ".")
            return f"{module}: {match['function']}" if by_function else module
    return OUTSIDE


def shares_of(samples: Counter[str], used: Spent) -> dict[str, float]:
    """Of the CPU time of the whole process."""
    total_s, seen = used.main_s + used.io_s, max(samples.total(), 1)
    main = used.main_s / total_s
    return {part: main * count / seen for part, count in samples.items()} | {IO_THREADS: used.io_s / total_s}


def table(profiles: Sequence[Profile]) -> str:
    """A row for each part: its share and its microseconds in each process, the largest first."""
    parts = {part for profile in profiles for part in profile.shares}
    large = {part for part in parts if any(profile.shares.get(part, 0) >= SMALL for profile in profiles)}
    rows = [
        [part, *(cell(profile, profile.shares.get(part, 0)) for profile in profiles)]
        for part in sorted(large, key=lambda each: -sum(profile.shares.get(each, 0) for profile in profiles))
    ]
    small = [sum(share for part, share in profile.shares.items() if part not in large) for profile in profiles]
    rows.append([REST, *(cell(profile, share) for profile, share in zip(profiles, small, strict=True))])
    rows.append(["all, µs of CPU for an order", *(short(profile.us_per_order) for profile in profiles)])
    return markdown(["part", *(profile.name for profile in profiles)], rows)


def cell(profile: Profile, share: float) -> str:
    """Per cent, and microseconds of an order."""
    return f"{100 * share:.1f} % ({share * profile.us_per_order:.2f})" if share else "-"


def run(arguments: argparse.Namespace) -> list[Profile]:
    """Load a cluster, watch it, read what was seen."""
    with Cluster(arguments.nodes) as cluster:
        rate = "max" if arguments.rate == "max" else float(arguments.rate)
        with LoadClient(cluster, rate=rate, duration=None) as load:
            load.start()
            time.sleep(WARM_UP_S)
            assert load.newest is not None
            leader = cluster.leader
            pids = {f"{name}, leader" if name == leader else name: cluster.pid(name) for name in cluster.nodes}
            pids["load"] = load.newest.pid
            before, orders = {name: spent(pid) for name, pid in pids.items()}, load.newest.total.acknowledged
            files = record(pids, arguments.seconds, arguments.folder)
            orders = max(load.newest.total.acknowledged - orders, 1)
            after = {name: spent(pid) for name, pid in pids.items()}
    profiles = []
    for name, path in files.items():
        used = Spent(*(late - early for late, early in zip(after[name], before[name], strict=True)))
        shares = shares_of(samples_by_part(path, arguments.by == "function"), used)
        profiles.append(Profile(name, shares, 1e6 * (used.main_s + used.io_s) / orders))
    return profiles


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="30000", help="orders a second, or max")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--by", choices=("module", "function"), default="module", help="what a row of the table is")
    parser.add_argument("--folder", type=Path, default=Path("profiles"), help="where the stacks go")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    py_spy()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    about = line()
    profiles = run(arguments)
    print(f"{about}.\n{arguments.rate} orders/s for {arguments.seconds:g} s; share of CPU (µs for an order).\n")
    print(table(profiles))
    print(f"\nStacks for speedscope.app or flamegraph.pl: {arguments.folder}/*.txt")


if __name__ == "__main__":
    main()
