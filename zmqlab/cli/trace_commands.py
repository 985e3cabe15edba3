"""The command that shows real frames: ``trace`` has running nodes traced, and draws what they tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zmqlab.cli.node_commands import KEYS_OPTION, NODES_OPTION, node_list
from zmqlab.endpoints import CLIENT_PORT, parse_endpoint
from zmqlab.errors import EXIT_FAILED, EXIT_OK, RequestTimeout
from zmqlab.settings import parse_duration
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.lab.feed import MetricsFeed
    from zmqlab.lab.sampled_traces import Traces

OUT_OPTION = typer.Option(Path("trace.html"), "--out", help="The page for the diagrams.", metavar="FILE")
HEARD_S = 2.0
"""A node publishes ten times a second; one that has said nothing by then is not there."""


def trace(
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    share: float = typer.Option(
        1.0, "--share", min=0, max=1, help="Of the requests, from 0 to 1; 0.01 costs hardly anything."
    ),
    duration: str = typer.Option("5s", "--duration", help="How long to trace, as in 5s or 2m."),
    group: int = typer.Option(0, "--group", min=0, help="Which Raft group, of a cluster with shards; one at a time."),
    out: Path = OUT_OPTION,
) -> int:
    """Trace running nodes, and draw the slowest order and each election of that time, from their real frames.

    The page opens offline. The exit status is 1 if there was neither an order nor an election.
    """
    endpoints, seconds = node_list(nodes, keys), parse_duration(duration)
    from zmqlab.lab.feed import MetricsFeed
    from zmqlab.lab.trace_leases import trace as ask_for_traces
    from zmqlab.runs.page_shell import expect_page, write_page
    from zmqlab.runs.trace_diagrams import Diagram, diagrams_page

    expect_page(out)
    with MetricsFeed() as feed:
        _listen(feed, endpoints)
        traces = ask_for_traces(feed, share, seconds, group=group)
        typer.echo(f"tracing for {seconds:g} s", err=True)
        time.sleep(seconds)
        shown = [Diagram(part, feed.events()) for part in (*traces.slowest()[:1], *traces.elections())]
        _tell(traces, len(shown))
        if not shown:
            return EXIT_FAILED
        title = f"{counted(len(feed.newest()), 'node')}, {seconds:g} s, {share:.0%} of the requests{traces.where}"
        typer.echo(f"picture: {write_page(out, diagrams_page(shown, title))}")
    return EXIT_OK


def _listen(feed: MetricsFeed, endpoints: Sequence[str]) -> None:
    """Hear what these nodes publish; raises RequestTimeout if none does."""
    for endpoint in endpoints:
        host, port = parse_endpoint(endpoint)
        feed.connect(f"tcp://{host}:{port - CLIENT_PORT}")
    if not feed.wait_until(lambda: len(feed.newest()) == len(endpoints), HEARD_S) and not feed.newest():
        raise RequestTimeout(f"no node publishes at {', '.join(endpoints)}: do they run, is this base port + 2?")


def _tell(traces: Traces, pictures: int) -> None:
    orders, elections = counted(len(traces.orders()), "order"), counted(len(traces.elections()), "election")
    dropped = counted(traces.since().dropped, "record")
    typer.echo(f"{orders}{traces.where} traced, {elections}, {dropped} dropped")
    for name in sorted(traces.other_clocks):
        typer.echo(f"{name} runs on another machine: its times can't be compared, and it is left out")
    if not pictures:
        typer.echo("nothing to draw: send orders meanwhile, as zmqlab client does, or kill the leader")
