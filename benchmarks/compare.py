"""The cost of replication and of matching, compared with a bare echo in one run.

Three targets under the same load client: ``echo`` (a bare pyzmq ROUTER that answers at once), ``pipeline`` (three nodes
with Raft and journal, whose books do nothing) and ``cluster`` (three nodes). Each target is loaded open-loop at a fixed
rate, which gives its latency, and closed-loop with as many orders as it takes, which gives its saturation. The targets
take turns for several rounds. The medians are printed with their ratios to echo: on a shared machine only the ratios of
one run mean anything.

    python benchmarks/compare.py [--rate 30000] [--seconds 5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zmqlab.lab.hosts import free_base_ports
from zmqlab.load.generator import Generator
from zmqlab.load.load_report import LoadReport
from zmqlab.load.load_settings import LoadSettings

BARE_NODE = str(Path(__file__).parent / "bare_node.py")
NODES = 3
SETTLE_S = 1.0


class Figures(NamedTuple):
    """One target in one round."""

    p50_ms: float
    p99_ms: float
    saturation: float
    """Orders acknowledged a second."""


@contextlib.contextmanager
def running(target: str) -> Iterator[tuple[str, ...]]:
    """Start ``target``; gives the endpoints for clients."""
    with tempfile.TemporaryDirectory() as folder:
        ports = free_base_ports(1 if target == "echo" else NODES)
        processes = [
            subprocess.Popen(command_line(target, number, ports, folder), stdin=subprocess.PIPE)
            for number in range(len(ports))
        ]
        try:
            time.sleep(SETTLE_S)
            yield tuple(f"tcp://127.0.0.1:{port + 2}" for port in ports)
        finally:
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
            for process in processes:
                process.wait(10)


def command_line(target: str, number: int, ports: list[int], folder: str) -> list[str]:
    """The command that starts one process of a target. The process ends when its standard input ends."""
    if target == "echo":
        return [sys.executable, BARE_NODE, "echo", str(ports[0])]
    start = [BARE_NODE, "pipeline"] if target == "pipeline" else ["-m", "zmqlab.node"]
    peers = ",".join(f"tcp://127.0.0.1:{port}" for port in ports if port != ports[number])
    flags = ["--node", f"node{number}", "--port", str(ports[number]), "--peers", peers, "--run-dir", folder]
    return [sys.executable, *start, *flags, "--watch-stdin", *(["--leader"] if number == 0 else [])]


def measure(target: str, rate: float, seconds: float) -> Figures:
    """One round of one target."""
    with running(target) as nodes:
        paced = LoadReport(Generator(LoadSettings(nodes=nodes, rate=rate, duration_s=seconds)).run())
        flooded = LoadReport(Generator(LoadSettings(nodes=nodes, rate=None, duration_s=seconds)).run())
    return Figures(paced.response_time.p50_ms, paced.response_time.p99_ms, flooded.throughput)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=30_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds: dict[str, list[Figures]] = {"echo": [], "pipeline": [], "cluster": []}
    for _ in range(arguments.rounds):
        for target, figures in rounds.items():
            figures.append(measure(target, arguments.rate, arguments.seconds))
            print(f"  {target:9}", figures[-1], file=sys.stderr)
    print(f"medians of {arguments.rounds} rounds; latency at {arguments.rate:,.0f} orders/s; ratio to echo in brackets")
    print(f"{'':10}{'p50 ms':>16}{'p99 ms':>16}{'saturation, orders/s':>28}")
    medians = {
        target: Figures(*map(statistics.median, zip(*figures, strict=True))) for target, figures in rounds.items()
    }
    for target, figures in medians.items():
        ratios = [own / echo for own, echo in zip(figures, medians["echo"], strict=True)]
        cells = [f"{figures.p50_ms:.2f} ({ratios[0]:.1f})", f"{figures.p99_ms:.2f} ({ratios[1]:.1f})"]
        print(f"{target:10}{cells[0]:>16}{cells[1]:>16}{f'{figures.saturation:,.0f} ({ratios[2]:.2f})':>28}")


if __name__ == "__main__":
    main()
