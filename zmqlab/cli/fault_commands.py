"""``run``, ``sim`` and ``torture``: commands that break a cluster under a seed, and check every promise.

``run`` runs one scenario, from a file: its cluster, its load, its faults, and what it expects. ``sim`` runs a whole
cluster in one process: one run with its story, or many runs on all cores. ``torture`` runs real processes under load,
and breaks them with one fault after the other.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from zmqlab.cli.load_commands import (
    FACTOR_OPTION,
    FRESH_OPTION,
    HISTORY_OPTION,
    KEEP_OPTION,
    REPLICATION_OPTION,
    RUN_DIR_OPTION,
    SHARDS_OPTION,
    nodes_text,
)
from zmqlab.cli.output import (
    FAIL_IF_OPTION,
    JSON_OPTION,
    KEYED_OPTION,
    PLAIN_OPTION,
    print_json,
    print_report,
    progress_stream,
    show_blocks,
)
from zmqlab.errors import EXIT_FAILED, EXIT_OK, SettingsError
from zmqlab.settings import DEFAULT_REPLICATION, parse_duration, parse_rate
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.cli.terminal import LiveRun
    from zmqlab.scenarios.nemesis import Strike
    from zmqlab.scenarios.scenario_file import Scenario
    from zmqlab.scenarios.torture import TortureSettings, TortureState
    from zmqlab.scenarios.torture_report import TortureResult
    from zmqlab.sim.plan import SimSettings

FOCUSES = "figure-8, members, ahead, snapshots, crashes, reads, moves, forwards, sessions, seeds, market or outage."
JOBS_MAX = 1_024
"""More processes than the largest machine has cores."""
TRACE_OPTION = typer.Option(None, "--trace", help="Write all events of the run there, as JSON.", metavar="FILE")
PICTURE_OPTION = typer.Option(None, "--picture", help="Draw who sent what to whom, as a page.", metavar="FILE")
NONE: frozenset[Any] = frozenset()
"""Events of the cluster that are told beside the story of a scenario, which tells them itself."""


def sim(
    seed: int = typer.Option(1, "--seed", min=0, help="The run to replay, with its story."),
    runs: int | None = typer.Option(None, "--runs", min=1, help="Try so many seeds instead, on all cores."),
    first_seed: int | None = typer.Option(None, "--first-seed", min=0, help="Where --runs begins.", show_default="1"),
    nodes: int | None = typer.Option(
        None, "--nodes", min=1, max=9, help="How many nodes; by default each seed decides."
    ),
    faults_ms: int | None = typer.Option(
        None, "--faults-ms", min=1, help="How long faults strike; by default the seed decides."
    ),
    focus: str = typer.Option("", "--focus", help="Aim at one kind of bug: " + FOCUSES),
    shards: bool = typer.Option(False, "--shards", help="Every run has several groups."),
    replication: str = REPLICATION_OPTION,
    jobs: int | None = typer.Option(
        None, "--jobs", min=1, max=JOBS_MAX, help="Processes for --runs; by default one for each core."
    ),
    trace: Path | None = TRACE_OPTION,
    picture: Path | None = PICTURE_OPTION,
    window: str | None = typer.Option(
        None,
        "--window",
        help="What --picture shows, in virtual milliseconds.",
        metavar="FROM-TO",
        show_default="the end of a run that failed, or the first election",
    ),
) -> int:
    """Simulate a cluster and its clients in virtual time, with faults, and check every promise.

    The nodes' code is the real one; a seed is always the same run. Without --runs one seed is replayed and told. The
    exit status is 1 if a promise was broken, and then the seed that breaks it is printed.
    """
    if window is not None and picture is None:
        raise SettingsError("--window is what --picture FILE shows: name a file, too")
    if runs is None and (first_seed is not None or jobs is not None):
        raise SettingsError("--first-seed and --jobs are of many runs: say how many with --runs, or name one --seed")
    if runs is not None and (trace is not None or picture is not None):
        raise SettingsError("--trace and --picture are of one run: leave --runs away, and name its --seed")
    from zmqlab.sim.__main__ import replay
    from zmqlab.sim.plan import SimSettings

    settings = SimSettings(
        nodes=nodes or 0, faults_ms=faults_ms or 0, focus=focus, shards=shards, replication=replication
    )
    if runs is not None:
        return _try_many(1 if first_seed is None else first_seed, runs, settings, jobs or 0)
    return replay(seed, settings, trace, None if picture is None else _drawer(picture, window))


def _drawer(picture: Path, window: str | None) -> Callable[[dict[str, Any]], None]:
    """Writes the diagram of a run to ``picture``. Raises SettingsError if nothing can be written there."""
    from zmqlab.runs.lamport import diagram_page
    from zmqlab.runs.page_shell import expect_page, write_page

    ends = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)-(\d{1,9}(?:\.\d+)?)", window or "")
    chosen = (float(ends[1]), float(ends[2])) if ends else None
    if window is not None and (chosen is None or chosen[0] >= chosen[1]):
        raise SettingsError(
            f"--window is {window!r}: write two times in milliseconds, the earlier first, as in 120-180"
        )
    expect_page(picture)
    return lambda trace: print(f"picture: {write_page(picture, diagram_page(trace, chosen))}")


def run(
    scenario: str = typer.Argument("", help="A file, or the name of a scenario that comes with zmqlab."),
    list_all: bool = typer.Option(False, "--list", help="List the scenarios that come with zmqlab, and end."),
    seed: int | None = typer.Option(None, "--seed", min=0, help="Another seed.", show_default="the scenario's own"),
    run_dir: Path | None = RUN_DIR_OPTION,
    keep: Path | None = KEEP_OPTION,
    plain: bool = PLAIN_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Run a scenario: start its cluster, load it, break it as the file says, and compare with what it expects.

    Each step is a line with its time. The exit status is 0 if all was as expected, 1 if not, and 9 if it can't be
    known.
    """
    if not (scenario or list_all):
        raise SettingsError("name a scenario, as in zmqlab run kill-the-leader; zmqlab run --list shows them")
    from zmqlab.scenarios.scenario_file import Scenario, shipped

    if list_all:
        return _list([Scenario.read(name) for name in shipped()], as_json)
    told = Scenario.read(scenario)
    return _play(told, told.seed if seed is None else seed, run_dir, keep, plain, as_json)


def _play(told: Scenario, seed: int, run_dir: Path | None, keep: Path | None, plain: bool, as_json: bool) -> int:
    """Run it, show it, and say what became of it."""
    from zmqlab.cli.final_report import Said, of_scenario
    from zmqlab.cli.terminal import LiveRun, is_drawn_on
    from zmqlab.scenarios.scenario_run import Line

    stream = progress_stream(as_json)
    on_screen = is_drawn_on(stream, plain)
    teaches = [Said(f"{told.name}: {told.teaches}"), Said()]
    if not on_screen:
        show_blocks(teaches, stream)
    about = [told.name, f"seed {seed}"]
    live = LiveRun("zmqlab run", about, stream, plain=plain, duration_s=told.ends_s, advice=told.teaches, sorts=NONE)

    def tell(line: Line) -> None:
        if live.phase and line.at_s >= 0:
            live.begin()
        live.tell(line.text, at_s=line.at_s)

    with live:
        result = told.run(
            tell, seed=seed, run_dir=run_dir, keep=keep, on_start=lambda cluster: live.watch(cluster.feed, cluster)
        )
    if on_screen:
        show_blocks(teaches, stream)
    if as_json:
        print_json(result.as_dict())
    else:
        print_report(of_scenario(result, with_story=on_screen))
    return result.exit_status


def _list(scenarios: Sequence[Scenario], as_json: bool) -> int:
    if as_json:
        print_json([{"scenario": each.name, "teaches": each.teaches, "seconds": each.ends_s} for each in scenarios])
    else:
        for each in scenarios:
            typer.echo(f"{each.name} ({each.ends_s:g} s)\n    {each.teaches}")
    return EXIT_OK


def torture(
    duration: str = typer.Option("5m", "--duration", help="How long faults strike, as in 60s or 5m."),
    rate: str = typer.Option("10000", "--rate", help="Orders a second, as in 5000 or 20k."),
    nodes: int = typer.Option(3, "--nodes", help="How many nodes, 3 to 9."),
    shards: int = SHARDS_OPTION,
    replication_factor: int = FACTOR_OPTION,
    seed: int = typer.Option(1, "--seed", help="Decides the faults, their order and the orders."),
    clients: int = typer.Option(10, "--clients", help="How many sessions the orders are spread over."),
    symbols: int = typer.Option(16, "--symbols", help="How many symbols are traded, for each of the shards."),
    faults: str = typer.Option(
        "", "--faults", help="Only these kinds, separated by commas, as in kill,pause.", show_default="all"
    ),
    durability: str = typer.Option("os", "--durability", help="os, or fsync."),
    replication: str = REPLICATION_OPTION,
    keys: bool = KEYED_OPTION,
    history: Path | None = HISTORY_OPTION,
    run_dir: Path | None = RUN_DIR_OPTION,
    keep: Path | None = KEEP_OPTION,
    fresh: bool = FRESH_OPTION,
    fail_if: list[str] = FAIL_IF_OPTION,
    per_group: bool = typer.Option(False, "--per-group", help="With --shards: also the longest gaps of each group."),
    plain: bool = PLAIN_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Break a cluster under load: kills, pauses, partitions, bad links, wiped disks, nodes that come and go.

    The faults and their order follow from the seed. At the end everything is mended, and the verdict says whether
    anything was lost, applied twice or reordered; a table tells how long no client was served under each kind of fault.
    The exit status is 1 if a promise was broken, or the cluster did not recover in time, and 10 if a threshold was
    crossed.
    """
    orders_per_s = parse_rate(rate)
    if orders_per_s is None:
        raise SettingsError("--rate max has no schedule: write orders a second")
    duration_s = parse_duration(duration)
    from zmqlab.scenarios.nemesis import parse_kinds
    from zmqlab.scenarios.torture import TortureSettings

    settings = TortureSettings(
        duration_s=duration_s,
        rate=orders_per_s,
        nodes=nodes,
        shards=shards,
        replication_factor=replication_factor,
        seed=seed,
        clients=clients,
        symbols=symbols,
        kinds=parse_kinds(faults),
        history=history,
        durability=durability,  # type: ignore[arg-type]  # checked by Cluster
        replication=replication,
        keys=keys,
        run_dir=run_dir,
        keep=keep,
        fresh=fresh,
        fail_if=tuple(fail_if),
    )
    result = _tortured(settings, progress_stream(as_json), plain)
    if as_json:
        print_json(result.as_dict())
    else:
        from zmqlab.cli.final_report import of_torture

        print_report(of_torture(result, per_group))
    return result.exit_status


def _tortured(settings: TortureSettings, stream: TextIO, plain: bool) -> TortureResult:
    """Carry a run out, and show it."""
    from zmqlab.cli.terminal import LiveRun
    from zmqlab.lab.events import Sort
    from zmqlab.scenarios.torture import Torture

    live = LiveRun(
        "zmqlab torture",
        _about(settings),
        stream,
        plain=plain,
        duration_s=settings.duration_s,
        advice="Ctrl-C ends the faults early; then all is mended and judged",
        sorts=frozenset((Sort.ELECTION,)),
    )
    run = Torture(
        settings,
        on_strike=lambda strike, gaps_ms: live.tell(strike_line(strike, gaps_ms), "bad" if strike.problem else ""),
        on_start=lambda cluster: live.watch(cluster.feed, cluster),
        on_phase=lambda phase: _follow(live, phase),
    )
    live.doing = lambda: run.state.doing or run.state.phase
    live.counters = lambda: _counters(run.state)
    live.so_far = lambda: run.state.so_far
    with live:
        run.start()
        live.wait(lambda: run.running, run.stop, "mending and judging")
        return run.result()


def _about(settings: TortureSettings) -> list[str]:
    about = [nodes_text(settings.nodes, settings.shards), f"{settings.rate:,.0f} orders/s", f"seed {settings.seed}"]
    return [*about, settings.replication] if settings.replication != DEFAULT_REPLICATION else about


def _follow(live: LiveRun, phase: str) -> None:
    if phase == "breaking":
        live.begin()
    elif phase == "judging":
        live.phase = phase


def _counters(state: TortureState) -> list[str]:
    return [f"{counted(state.faults, 'fault')} over", f"last gap {state.gap_ms:,.0f} ms"]


def _try_many(first_seed: int, runs: int, settings: SimSettings, jobs: int) -> int:
    """A bar in a terminal, lines elsewhere; each failing seed at once in both."""
    from zmqlab.machine_facts import cores
    from zmqlab.sim.__main__ import summary, try_many
    from zmqlab.sim.many import Totals, run_many

    if not sys.stderr.isatty():
        return try_many(first_seed, runs, settings, jobs)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    totals, started = Totals(), time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f} runs/s"), TimeRemainingColumn())
    try:
        on_terminal = sys.stdout.isatty()  # only then may the bar take what is printed, to keep out of its way
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=on_terminal) as bar:
            task = bar.add_task(f"{jobs or cores()} processes", total=runs, rate=0.0)
            for result in run_many(first_seed, runs, settings, jobs):
                totals.add(result)
                bar.update(task, advance=1, rate=totals.runs / (time.monotonic() - started))
                if result.failure:
                    print(f"seed {result.seed} failed: {result.failure}", flush=True)
    finally:
        print(summary(totals, time.monotonic() - started))
        print(totals.line())
    return EXIT_FAILED if totals.failed_seeds else EXIT_OK


def strike_line(strike: Strike, gaps_ms: Mapping[int, float]) -> str:
    """One fault that is over; ``gaps_ms``: the longest gap of each Raft group."""
    worst = max(gaps_ms, key=gaps_ms.__getitem__, default=0)
    gap = f"{gaps_ms.get(worst, 0.0):,.0f} ms{f' in group {worst}' if len(gaps_ms) > 1 else ''}"
    deal = strike.deal
    held_s = (strike.lifted_ns - strike.began_ns) / 1e9
    end = strike.problem or f"recovered in {(strike.recovered_ns - strike.lifted_ns) / 1e9:.1f} s"
    return f"{deal.number}. {deal.name}: {strike.what}, held {held_s:.1f} s, longest gap {gap}, {end}"
