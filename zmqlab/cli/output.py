"""What a command prints: JSON for programs; while a load runs, a live table in a terminal and lines anywhere else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from zmqlab.lab.feed import MetricsFeed
    from zmqlab.lab.load_client import LoadClient
    from zmqlab.load.load_report import LoadFigures
    from zmqlab.wire.node_status import NodeStatus

KEYED_OPTION = typer.Option(
    False,
    "--keys/--insecure",
    help="Encrypt all traffic and keep other processes of this machine out, with keys made for this run; or don't.",
)
JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs, instead of tables.")

FAIL_IF_OPTION = typer.Option(
    [],
    "--fail-if",
    help="A threshold on the figures, as in p99>10ms, unserved>0.1% or throughput<20k; crossed: exit status 10. Can be "
    "given several times.",
    metavar="THRESHOLD",
    show_default=False,
)

REFRESH_S = 0.25
LINE_S = 1.0
SILENT_AFTER_S = 1.0
"""A node publishes ten times a second. One that has missed ten snapshots is dead, paused or starved."""

_STYLES = {"leader": "bold green", "follower": "", "silent": "bold red"}


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


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
            live.update(_table(load.metrics, node_rows(feed)))
            time.sleep(REFRESH_S)


def _lines(load: LoadClient, feed: MetricsFeed, stream: TextIO) -> None:
    due = time.monotonic() + LINE_S
    while load.running:
        if time.monotonic() >= due:
            due += LINE_S
            print(_line(load.metrics, node_rows(feed)), file=stream, flush=True)
        time.sleep(0.05)


class NodeRow(NamedTuple):
    """What is shown of one node."""

    name: str
    role: str
    """As it published last; ``silent`` if that was too long ago to be true."""
    status: NodeStatus


def node_rows(feed: MetricsFeed) -> list[NodeRow]:
    """The nodes by name. How long one has been silent is told by this process' clock: the node's own may be wrong."""
    silent_s = feed.silent_s()
    return [
        NodeRow(name, "silent" if silent_s.get(name, 0.0) > SILENT_AFTER_S else status.role, status)
        for name, status in sorted(feed.newest().items())
    ]


def _line(figures: LoadFigures | None, nodes: Sequence[NodeRow]) -> str:
    roles = " ".join(f"{each.name}:{each.role}/{each.status.term}" for each in nodes)
    if figures is None:
        return f"waiting for the load client  {roles}"
    return (
        f"{figures.elapsed_s:6.1f} s  {figures.rate:9,.0f} orders/s  {figures.latencies}  "
        f"acknowledged {figures.acknowledged:,}  {roles}"
    )


def _table(figures: LoadFigures | None, nodes: Sequence[NodeRow]) -> Table:
    from rich.table import Table

    table = Table(title=_title(figures), title_justify="left")
    for column in ("node", "role"):
        table.add_column(column)
    for column in ("term", "orders taken", "applied index", "lag", "CPU %", "memory MB"):
        table.add_column(column, justify="right")
    for name, role, status in nodes:
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
        f"{figures.elapsed_s:.1f} s   {figures.rate:,.0f} orders/s acknowledged   {figures.latencies}   "
        f"in all {figures.acknowledged:,}"
    )
