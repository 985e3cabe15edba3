"""Commands that load a cluster and judge it: ``quick`` starts one for that, ``client`` takes one that runs already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zmqlab.cli.node_commands import KEYS_OPTION, NODES_OPTION, REPLICATION, node_list
from zmqlab.cli.output import (
    FAIL_IF_OPTION,
    JSON_OPTION,
    KEYED_OPTION,
    PLAIN_OPTION,
    print_json,
    print_report,
    progress_stream,
)
from zmqlab.endpoints import is_loopback
from zmqlab.errors import EXIT_FAILED, EXIT_NOT_JUDGED, EXIT_OK, EXIT_THRESHOLD, SettingsError
from zmqlab.settings import DEFAULT_REPLICATION, parse_duration, parse_rate, require_writable
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.cli.terminal import LiveRun
    from zmqlab.judge.verdict import LoadResult
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.load_client import LoadClient
    from zmqlab.load.load_settings import LoadSettings
    from zmqlab.runs.kept_run import Run

RUN_DIR_OPTION = typer.Option(
    None, "--run-dir", help="Where logs and journals go, and stay.", show_default="a temporary folder"
)
FRESH_OPTION = typer.Option(False, "--fresh", help="Begin anew in --run-dir: delete the cluster that has run there.")
RATE_OPTION = typer.Option("5000", "--rate", help="Orders a second, as in 5000 or 20k; max finds saturation.")
STAGES_OPTION = typer.Option(
    "",
    "--stages",
    help="How the rate changes, in place of --rate: 0s:1000,5s:1000,5s:8000 holds, then jumps; two points are joined "
    "by a straight line.",
    metavar="POINTS",
    show_default=False,
)
DURATION_OPTION = typer.Option(
    "", "--duration", help="How long to send, as in 10s or 2m.", show_default="10s, or until the last stage"
)


def _expect_room(folder: Path | None) -> Path | None:
    """The folder in which runs are to be kept. Raises SettingsError before anything runs for nothing."""
    if folder is not None:
        from zmqlab.runs.kept_run import expect_room

        expect_room(folder)
    return folder


def _expect_history(file: Path | None) -> Path | None:
    """The same for the file of all operations."""
    if file is not None:
        require_writable("--history", file)
    return file


KEEP_OPTION = typer.Option(
    None,
    "--keep",
    callback=_expect_room,
    help="Keep the run: figures, events, histograms and evidence go to a new folder in DIR. zmqlab report shows it.",
    metavar="DIR",
)
TRACE_OPTION = typer.Option(
    0.0,
    "--trace",
    help="With --keep: trace this share of the requests, as in 0.01, and all elections; the report draws them.",
    metavar="SHARE",
    show_default="nothing",
)
NODE_CHOICE_OPTION = typer.Option(
    None,
    "--node-choice",
    help="Which node an order goes to: random, round-robin or leader.",
    show_default="random; with shards: leader",
)
SHARDS_OPTION = typer.Option(
    1, "--shards", help="How many Raft groups share the symbols, 1 to 64; each node leads some of them."
)
FACTOR_OPTION = typer.Option(
    0, "--replication-factor", help="With --shards: how many nodes hold each group.", show_default="all"
)
REPLICATION_OPTION = typer.Option(DEFAULT_REPLICATION, "--replication", help=REPLICATION)
ACK_OPTION = typer.Option(
    "quorum", "--ack", help="An order is done when a majority has it (quorum), the leader (leader), once sent (none)."
)
GENERATORS_OPTION = typer.Option(
    1, "--generators", min=1, help="How many processes make the load, each an equal share of it."
)
HISTORY_OPTION = typer.Option(
    None,
    "--history",
    callback=_expect_history,
    help="Write all operations there, one JSON line each.",
    metavar="FILE",
)
TRACED_S = 3_600.0
"""Until the process ends, or for an hour."""


def quick(
    nodes: int = typer.Option(3, "--nodes", help="How many nodes, 1 to 15; 3 survive one death, 5 survive two."),
    shards: int = SHARDS_OPTION,
    replication_factor: int = FACTOR_OPTION,
    rate: str = RATE_OPTION,
    stages: str = STAGES_OPTION,
    duration: str = DURATION_OPTION,
    seed: int = typer.Option(1, "--seed", help="Makes the order flow and its schedule repeatable."),
    durability: str = typer.Option(
        "os", "--durability", help="os: survives the death of every process; fsync: a power cut; memory: nothing."
    ),
    replication: str = REPLICATION_OPTION,
    ack: str = ACK_OPTION,
    node_choice: str | None = NODE_CHOICE_OPTION,
    generators: int = GENERATORS_OPTION,
    keys: bool = KEYED_OPTION,
    run_dir: Path | None = RUN_DIR_OPTION,
    keep: Path | None = KEEP_OPTION,
    repeat: int = typer.Option(
        1,
        "--repeat",
        min=1,
        max=1_000,
        help="Run so often, each time on a new cluster; kept in one folder, and one list with --json.",
    ),
    fresh: bool = FRESH_OPTION,
    traced: float = TRACE_OPTION,
    fail_if: list[str] = FAIL_IF_OPTION,
    plain: bool = PLAIN_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Start a cluster on free ports, load it, show it live, and check every promise at the end.

    With a --run-dir in which a cluster has run, that cluster goes on, at its ports and with its orders; so it does from
    one repetition to the next.

    The exit status is 0 only if the verdict passes and no threshold was crossed.
    """
    offered = _offered(rate, stages, duration)
    _expect_share(traced, keep)
    from zmqlab.lab.load_client import LoadClient

    kept: Run | None = None
    statuses: list[int] = []
    documents: list[dict[str, Any]] = []
    try:
        for number in range(repeat):
            more = {"keys": keys, "run_dir": run_dir, "fresh": fresh and not number}
            cluster = cluster_of(nodes, shards, replication_factor, durability, replication, ack, **more)
            how = _generators(generators) | sent_to(node_choice)
            load = LoadClient(cluster, **offered, **how, seed=seed, fail_if=fail_if)
            about = [nodes_text(nodes, shards), offered_text(load.settings, generators), f"seed {seed}"]
            about += [f"run {number + 1} of {repeat}"] if repeat > 1 else []
            with shown("quick", about, load, plain, as_json) as live, cluster:
                live.watch(cluster.feed, cluster)
                if traced:
                    cluster.trace(traced, TRACED_S)
                result = watched_to_its_end(load, live)
                kept = keep_run(load, keep, "quick", kept)
                where = str(cluster.run_dir) if cluster.keep else ""
            statuses.append(result.exit_status)
            if as_json:
                documents.append(_document(result, where, kept))
            else:
                report(result, False, where, kept)
    finally:
        if documents:  # also those before one that failed
            print_json(documents if repeat > 1 else documents[0])
    return next((status for status in (EXIT_FAILED, EXIT_THRESHOLD, EXIT_NOT_JUDGED) if status in statuses), EXIT_OK)


def client(
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    rate: str = RATE_OPTION,
    stages: str = STAGES_OPTION,
    duration: str = DURATION_OPTION,
    seed: int = typer.Option(1, "--seed", help="Makes the order flow and its schedule repeatable."),
    node_choice: str | None = NODE_CHOICE_OPTION,
    arrivals: str = typer.Option("poisson", "--arrivals", help="The schedule: poisson or constant."),
    symbols: int | None = typer.Option(
        None, "--symbols", help="How many symbols are traded.", show_default="16 for each of the nodes' shards"
    ),
    ack: str = typer.Option("quorum", "--ack", help="none: wait for no answer; otherwise for what the nodes give."),
    clients: int = typer.Option(1, "--clients", help="How many clients share the rate, each with its own session."),
    generators: int = GENERATORS_OPTION,
    history: Path | None = HISTORY_OPTION,
    keep: Path | None = KEEP_OPTION,
    traced: float = TRACE_OPTION,
    allow_compacted: bool = typer.Option(
        False, "--allow-compacted", help="Pass even if the log's beginning is gone, so that not all can be checked."
    ),
    metrics_port: int | None = typer.Option(
        None, "--metrics-port", min=1, max=65_535, help="Show /metrics to Prometheus on this port while it runs."
    ),
    bind: str = typer.Option("127.0.0.1", "--bind", help="The address for --metrics-port."),
    insecure: bool = typer.Option(False, "--insecure", help="Allow --bind to let others in, unencrypted."),
    fail_if: list[str] = FAIL_IF_OPTION,
    plain: bool = PLAIN_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Load running nodes with orders, show it live, and check every promise at the end.

    All nodes in the list that run at the end must agree. The exit status is 0 only if the verdict passes and no
    threshold was crossed.
    """
    endpoints = node_list(nodes, keys)
    offered = _offered(rate, stages, duration)
    _expect_share(traced, keep)
    if not (is_loopback(bind) or insecure):
        raise SettingsError(f"metrics on {bind} let others in, unencrypted: bind to 127.0.0.1, or say --insecure")
    from zmqlab.lab.load_client import LoadClient

    load = LoadClient(
        endpoints,
        keys=keys,
        **offered,
        seed=seed,
        arrivals=arrivals,
        ack=ack,
        clients=clients,
        history=history,
        allow_compacted=allow_compacted,
        metrics_port=metrics_port,
        metrics_host=bind,
        fail_if=fail_if,
        **_symbols(symbols),
        **sent_to(node_choice),
        **_generators(generators),
    )
    about = [nodes_text(len(endpoints)), offered_text(load.settings, generators), f"seed {seed}"]
    with shown("client", about, load, plain, as_json) as live, load:
        live.watch(load.feed)
        result = watched_to_its_end(load, live, traced)
        kept = keep_run(load, keep, "client", None)
    return report(result, as_json, "", kept)


def shown(command: str, about: Sequence[str], load: LoadClient, plain: bool, as_json: bool) -> LiveRun:
    """What shows a load while it runs."""
    from zmqlab.cli.terminal import LiveRun

    return LiveRun(
        f"zmqlab {command}",
        about,
        progress_stream(as_json),
        plain=plain,
        duration_s=load.settings.duration_s,
        advice="Ctrl-C ends the load early, and then all is judged",
    )


def watched_to_its_end(load: LoadClient, live: LiveRun, traced: float = 0.0) -> LoadResult:
    """Start the load, wait for its end, judge it. ``traced``: the share of the requests to trace."""
    load.start()
    if traced:
        from zmqlab.lab.trace_leases import trace

        trace(load.feed, traced, TRACED_S)
    live.so_far = lambda: load.so_far
    live.begin()
    live.wait(lambda: load.running, load.stop, "ending the load")
    live.phase = "judging"
    return load.wait()


def cluster_of(
    nodes: int, shards: int, replication_factor: int, durability: str, replication: str, ack: str, **more: Any
) -> Cluster:
    """The cluster that the options of a command ask for; ``more``: what else is to be said of it.

    Raises:
        SettingsError: an option is none of those that there are.
    """
    from zmqlab.lab.cluster import Cluster

    return Cluster(
        nodes,
        shards=shards,
        replication_factor=replication_factor,
        durability=durability,  # type: ignore[arg-type]  # checked by Cluster
        replication=replication,
        ack=ack,  # type: ignore[arg-type]  # checked by Cluster
        **more,
    )


def nodes_text(count: int, shards: int = 1) -> str:
    """How many nodes, for people."""
    said = counted(count, "node")
    return said if shards == 1 else f"{said}, {shards} shards"


def offered_text(settings: LoadSettings, generators: int = 1) -> str:
    """The rate, and how many processes make it, for people."""
    return settings.rate_text if generators == 1 else f"{settings.rate_text} from {generators} generators"


def _generators(count: int) -> dict[str, Any]:
    """What a load client is told of them: one needs nothing that adds up."""
    return {"generators": count} if count > 1 else {}


def _offered(rate: str, stages: str, duration: str) -> dict[str, Any]:
    """What a load client is told of these; wrong ones are noticed before anything heavy is imported."""
    parse_rate(rate)
    said: dict[str, Any] = {"rate": rate, "stages": stages}
    if duration:
        parse_duration(duration)
        said["duration"] = duration
    return said


def _symbols(count: int | None) -> dict[str, Any]:
    """What a load client is told of the number of symbols; nothing: as many as its nodes' shards are good for."""
    return {} if count is None else {"symbols": count}


def sent_to(choice: str | None) -> dict[str, Any]:
    """What a load client is told of the nodes that orders go to; nothing: it follows the nodes' shards."""
    return {} if choice is None else {"node_choice": choice}


def _expect_share(traced: float, keep: Path | None) -> None:
    """Raise SettingsError if nothing would become of a trace."""
    if not 0 <= traced <= 1:
        raise SettingsError(f"--trace is {traced:g}: give a share from 0 to 1, as in 0.01 for one request in 100")
    if traced and keep is None:
        raise SettingsError("--trace needs --keep DIR: the report of the kept run draws what was traced")


def keep_run(load: LoadClient, folder: Path | None, what: str, earlier: Run | None) -> Run | None:
    """Keep a run that was waited for, if a folder was named: as one more repetition of ``earlier``, or as a new one."""
    if folder is None:
        return None
    from zmqlab.runs.kept_run import Run

    if earlier is None:
        return Run.keep(load, folder, what)
    earlier.add(load)
    return earlier


def _document(result: LoadResult, run_dir: str, kept: Run | None) -> dict[str, Any]:
    """A result for JSON."""
    return result.as_dict() | {"run_dir": run_dir or None, "kept": str(kept.folder) if kept else None}


def report(result: LoadResult, as_json: bool, run_dir: str, kept: Run | None = None) -> int:
    """Print a result; the exit status that it means."""
    if as_json:
        print_json(_document(result, run_dir, kept))
    else:
        from zmqlab.cli.final_report import of_load

        print_report(of_load(result, run_dir, str(kept.folder) if kept is not None else ""))
    return result.exit_status
