"""What a command prints: JSON for programs; while a load runs, a live table in a terminal and lines anywhere else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import typer

from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK

if TYPE_CHECKING:
    from rich.table import Table

    from zmqlab.judge.promises import Outcome
    from zmqlab.lab.feed import MetricsFeed
    from zmqlab.lab.load_client import LoadClient, LoadFigures
    from zmqlab.wire.control import NodeStatus

KEYED_OPTION = typer.Option(
    False,
    "--keys/--insecure",
    help="Encrypt all traffic and keep strangers out, with keys made for this run; or don't.",
)
JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs, instead of tables.")

REFRESH_S = 0.25
LINE_S = 1.0
SILENT_AFTER_NS = 1_000_000_000
"""A node publishes ten times a second. One that has missed ten snapshots is dead, paused or starved."""

_STYLES = {"leader": "bold green", "follower": "", "silent": "bold red"}


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def exit_status_of(outcome: Outcome) -> int:
    """0 for a run that passed; one that failed and one that could not be judged are told apart."""
    return {"passed": EXIT_OK, "failed": EXIT_FAILED, "not judged": EXIT_NOT_JUDGED}[outcome]


def show_progress(load: LoadClient, feed: MetricsFeed, to_stderr: bool = False) -> None:
    """Show the figures until the load process has ended; Ctrl-C ends the load early and goes on to its result."""
    stream = sys.stderr if to_stderr else sys.stdout
    try:
        if stream.isatty():
            _live(load, feed, stream)
        else:
            _lines(load, feed, stream)
    except KeyboardInterrupt:
        print("interrupted: ending the load", file=sys.stderr)
        load.stop()


def _live(load: LoadClient, feed: MetricsFeed, stream: TextIO) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), refresh_per_second=4, transient=True) as live:
        while load.running:
            live.update(_table(load.metrics, feed.newest()))
            time.sleep(REFRESH_S)


def _lines(load: LoadClient, feed: MetricsFeed, stream: TextIO) -> None:
    due = time.monotonic() + LINE_S
    while load.running:
        if time.monotonic() >= due:
            due += LINE_S
            print(_line(load.metrics, feed.newest()), file=stream, flush=True)
        time.sleep(0.05)


def _line(figures: LoadFigures | None, nodes: Mapping[str, NodeStatus]) -> str:
    roles = " ".join(f"{name}:{_role(status)}/{status.term}" for name, status in sorted(nodes.items()))
    if figures is None:
        return f"waiting for the load client  {roles}"
    return (
        f"{figures.elapsed_s:6.1f} s  {figures.rate:9,.0f} orders/s  p50 {figures.p50_ms:7.2f} ms  "
        f"p99 {figures.p99_ms:7.2f} ms  acknowledged {figures.acknowledged:,}  {roles}"
    )


def _role(status: NodeStatus) -> str:
    """The role that a node published last; ``silent`` if that was too long ago to be true."""
    return "silent" if time.time_ns() - status.time_ns > SILENT_AFTER_NS else status.role


def _table(figures: LoadFigures | None, nodes: Mapping[str, NodeStatus]) -> Table:
    from rich.table import Table

    table = Table(title=_title(figures), title_justify="left")
    for column in ("node", "role"):
        table.add_column(column)
    for column in ("term", "orders taken", "applied index", "lag", "CPU %", "memory MB"):
        table.add_column(column, justify="right")
    for name, status in sorted(nodes.items()):
        role = _role(status)
        table.add_row(
            name,
            role,
            str(status.term),
            f"{status.orders_taken:,}",
            f"{status.applied_index:,}",
            f"{status.lag:,}",
            f"{status.cpu_percent:.0f}",
            f"{status.rss_bytes / 1e6:.0f}",
            style=_STYLES.get(role, "yellow"),
        )
    return table


def _title(figures: LoadFigures | None) -> str:
    if figures is None:
        return "waiting for the load client"
    return (
        f"{figures.elapsed_s:.1f} s   {figures.rate:,.0f} orders/s acknowledged   "
        f"p50 {figures.p50_ms:.2f} ms   p99 {figures.p99_ms:.2f} ms   in all {figures.acknowledged:,}"
    )
