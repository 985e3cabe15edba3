"""``sweep``: loads a cluster with a rising rate until it keeps up no longer, and shows the knee."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zmqlab.cli.load_commands import (
    ACK_OPTION,
    FACTOR_OPTION,
    KEEP_OPTION,
    NODE_CHOICE_OPTION,
    REPLICATION_OPTION,
    SHARDS_OPTION,
    cluster_of,
    nodes_text,
    sent_to,
)
from zmqlab.cli.output import JSON_OPTION, PLAIN_OPTION, print_json, print_report, progress_stream
from zmqlab.errors import EXIT_FAILED, EXIT_OK, SettingsError
from zmqlab.settings import parse_duration, parse_rate

if TYPE_CHECKING:
    from zmqlab.cli.terminal import LiveRun
    from zmqlab.lab.sweep import Sweep, SweepStep

LOWEST, GROWTH, STEPS_MAX = 1_000.0, 1.5, 20
"""Without --rates: from a rate that any machine carries to two millions, beyond what any does."""


def sweep(
    nodes: int = typer.Option(3, "--nodes", help="How many nodes, 1 to 15."),
    shards: int = SHARDS_OPTION,
    replication_factor: int = FACTOR_OPTION,
    rates: str = typer.Option(
        "", "--rates", help="Orders a second, as in 1k,5k,20k.", show_default="from 1k on, each half again as much"
    ),
    step: str = typer.Option("2s", "--step", help="How long each rate is measured."),
    seed: int = typer.Option(1, "--seed", help="Makes the order flow and its schedule repeatable."),
    durability: str = typer.Option("os", "--durability", help="os, fsync, or memory."),
    replication: str = REPLICATION_OPTION,
    ack: str = ACK_OPTION,
    node_choice: str | None = NODE_CHOICE_OPTION,
    keep: Path | None = KEEP_OPTION,
    plain: bool = PLAIN_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Load a cluster with a rising rate, and find the knee: the most with which it keeps up.

    It ends behind the first rate that is too much. Ctrl-C ends it early, with the rates that were measured. With
    --keep, zmqlab report draws the curve, and zmqlab compare puts two sweeps side by side. The exit status is 1 if the
    cluster kept up with no rate. There is no verdict: a sweep asks how fast, not whether.
    """
    wanted, step_s = _rates(rates), parse_duration(step)
    from zmqlab.cli.terminal import LiveRun
    from zmqlab.runs.kept_sweep import KeptSweep

    cluster = cluster_of(nodes, shards, replication_factor, durability, replication, ack)
    about = [nodes_text(nodes, shards), f"{wanted[0]:,.0f} orders/s and more", f"{step_s:g} s each"]
    advice = "Ctrl-C ends it early, with what was measured"
    live = LiveRun("zmqlab sweep", about, progress_stream(as_json), plain=plain, advice=advice)
    with live, cluster:
        live.watch(cluster.feed, cluster)
        found = _swept(cluster, wanted, live, step_s=step_s, seed=seed, **sent_to(node_choice))
        kept = ""
        if keep is not None and found:
            kept = str(KeptSweep.keep(found, keep, cluster, step_s=step_s, ack=ack).folder)
    if as_json:
        print_json({"knee": found.knee or None, "steps": [each.as_dict() for each in found], "kept": kept or None})
    else:
        from zmqlab.cli.final_report import of_sweep

        print_report(of_sweep(found, kept))
    return EXIT_OK if found.knee else EXIT_FAILED


def _swept(cluster: Any, wanted: Sequence[float], live: LiveRun, **how: Any) -> Sweep:
    """What was measured, to the end or until Ctrl-C."""
    from zmqlab.lab.sweep import Sweep, sweep

    found = Sweep()

    def tell(step: SweepStep) -> None:
        found.append(step)
        live.tell(_said_of(step), "" if step.keeps_up else "warn")

    live.doing = lambda: f"{wanted[min(len(found), len(wanted) - 1)]:,.0f} orders/s"
    live.begin()
    try:
        sweep(cluster, wanted, on_step=tell, **how)
    except KeyboardInterrupt:
        print("interrupted: ending the sweep", file=sys.stderr)
    return found


def _said_of(step: SweepStep) -> str:
    limit = "" if step.keeps_up else ": too much for the generator" if step.generator_limited else ": too much"
    times = step.response_time
    answered = f"p50 {times.p50_ms:,.1f} ms, p99 {times.p99_ms:,.1f} ms" if times.measured else "nothing answered"
    return f"{step.offered:,.0f}/s offered: {step.acknowledged:,.0f} acknowledged, {answered}{limit}"


def _rates(text: str) -> list[float]:
    """Raises SettingsError."""
    if not text:
        return [LOWEST * GROWTH**number for number in range(STEPS_MAX)]
    rates = [parse_rate(part.strip()) for part in text.split(",")]
    if None in rates:
        raise SettingsError("--rates says max: name numbers, as in 1k,5k,20k")
    return sorted(rate for rate in rates if rate is not None)
