"""Commands about nodes: run one, ask some, have more or fewer, find and end what runs on this machine.

``node``, ``keys``, ``status``, ``book``, ``scale``, ``remove``, ``ps``, ``reap``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zmqlab.cli.output import JSON_OPTION, print_json, table_width
from zmqlab.endpoints import parse_endpoints
from zmqlab.errors import EXIT_FAILED, EXIT_OK, SettingsError
from zmqlab.settings import parse_duration

if TYPE_CHECKING:
    from zmqlab.wire.node_status import NodeStatus

NODES_HELP = (
    "Where the nodes listen for clients (base port + 2), separated by commas: tcp://localhost:5002,tcp://localhost:5102."
    " A name stands for all its addresses."
)
NODES_OPTION = typer.Option(
    None, "--nodes", help=NODES_HELP, metavar="ENDPOINTS", show_default="the one cluster that runs on this machine"
)
KEYS_OPTION = typer.Option(
    None,
    "--keys",
    envvar="ZMQLAB_KEYS",
    help="The folder with the key to show to nodes that ask for one.",
    metavar="DIR",
)
RUN_DIR_OPTION = typer.Option(
    None, "--run-dir", help="Where logs/NAME.log and data/NAME/ are made.", show_default="here"
)
CONFIG_OPTION = typer.Option(
    None, "--config", help="A TOML file with settings; flags and ZMQLAB_... variables come before it."
)
BOOTSTRAP = "With --join, for one node: found a cluster if for so long none of them belonged to one."
LEADER = "Campaign at once on a first start. Give it to one node; afterwards any may win."
PEERS = "Base endpoints of the other nodes, separated by commas; without it: a cluster of one."
JOIN = "Instead of --peers: base endpoints of members of a running cluster that takes this node in."
DURABILITY = "os: survives the death of every process; fsync: a power cut; memory: nothing."
KEYS = "A folder of keys, as `zmqlab keys` makes it: all is encrypted, and only keys that it allows are let in."
REPLICATION = "raft, leader-ack, primary-backup, broadcast, or module:Class of your own; only raft keeps all promises."
INSECURE = "Allow listening beyond this machine without keys: no encryption, and all are let in."


def node_list(text: str | None, keys: Path | None) -> tuple[str, ...]:
    """The endpoints of ``--nodes``, of each name all its addresses; at least one. They will see the key in ``keys``.

    Without ``--nodes`` the one cluster is meant that runs on this machine. Without ``keys``, this user's own nodes on
    this machine see the key in the folder that their command lines name.

    Raises:
        SettingsError: they are none, there is no such key, or it can't be known which nodes are meant.
    """
    endpoints = _named(text) if text is not None else ()
    from zmqlab.keys import use
    from zmqlab.names import known_endpoints

    use(keys)
    if keys is None:
        from zmqlab.lab import processes

        processes.show_own_keys(processes.find())
    return known_endpoints(endpoints or _nodes_here())


def _named(text: str) -> tuple[str, ...]:
    endpoints = parse_endpoints(text)
    if not endpoints:
        raise SettingsError("--nodes names no node: write tcp://HOST:PORT, several of them separated by commas")
    if len(set(endpoints)) < len(endpoints):
        raise SettingsError("--nodes names a node twice")
    return endpoints


def _nodes_here() -> tuple[str, ...]:
    """All members of the one cluster that runs on this machine, also those that are dead."""
    from zmqlab.client.ask import member_endpoints
    from zmqlab.lab.processes import clusters_here

    found = clusters_here()
    if len(found) == 1:
        return member_endpoints(found[0].endpoints)
    if not found:
        raise SettingsError(
            "no node of yours runs on this machine: start some (zmqlab quick, zmqlab node), or say where they are with "
            "--nodes tcp://HOST:PORT,..."
        )
    choices = "; ".join(f"--nodes {','.join(each.endpoints)} ({each})" for each in found)
    raise SettingsError(f"{len(found)} clusters run on this machine; say which one is meant: {choices}")


def _setting(flag: str, meaning: str, default: str = "") -> Any:
    """A setting of a node; ``default`` is what the help shows, since the file and the environment come in between."""
    return typer.Option(None, flag, help=meaning, show_default=default or True)


KEY_SETTING = _setting("--keys", KEYS, "none")
KEY_FOLDER = typer.Argument(..., metavar="FOLDER", help="The folder of keys; it is made if there is none.")
NEW_FOLDER_OPTION = typer.Option(
    None, "--to", help="A new folder for its owner, with that key alone.", show_default="FOLDER/NAME"
)


def _tuning(flag: str, meaning: str) -> Any:
    return typer.Option(None, flag, help=meaning, rich_help_panel="Tuning")


def node(
    name: str | None = _setting("--node", "The node's name, as in node0: names its log and its journal."),
    port: int | None = _setting("--port", "Base port: this one and the next two are used."),
    peers: str | None = _setting("--peers", PEERS),
    join: str | None = _setting("--join", JOIN),
    bootstrap_ms: int | None = _setting("--bootstrap-ms", BOOTSTRAP, "never"),
    leave: bool | None = _setting("--leave", "On SIGTERM leave the group; a start with --join comes back."),
    leader: bool | None = _setting("--leader", LEADER),
    run_dir: Path | None = RUN_DIR_OPTION,
    config: Path | None = CONFIG_OPTION,
    bind: str | None = _setting("--bind", "The address to listen on.", "127.0.0.1"),
    advertise: str | None = _setting("--advertise", "The host by which peers know this node, if not --bind."),
    keys: Path | None = KEY_SETTING,
    insecure: bool | None = _setting("--insecure", INSECURE),
    durability: str | None = _setting("--durability", DURABILITY, "os"),
    replication: str | None = _setting("--replication", REPLICATION, "raft"),
    metrics_port: int | None = _setting(
        "--metrics-port", "Serve /metrics, /healthz and /readyz on this port.", "not served"
    ),
    log_level: str | None = _setting("--log-level", "debug, info, warning or error.", "info"),
    log_format: str | None = _setting("--log-format", "text or json.", "text"),
    log_to: str | None = _setting("--log-to", "file: logs/NAME.log; stderr: standard error.", "file"),
    cluster: str | None = typer.Option(None, "--cluster", help="A label for zmqlab ps.", hidden=True),
    owner: int | None = typer.Option(None, "--owner", hidden=True),
    watch_stdin: bool | None = typer.Option(None, "--watch-stdin", hidden=True),
    allow_faults: bool | None = _setting(
        "--allow-faults", "Let clients damage this node's links, disk and clock: for labs."
    ),
    reads: str | None = _setting("--reads", "local: answer reads at once, perhaps stale; for labs.", "linearizable"),
    tick_ms: int | None = _tuning("--tick-ms", "Length of a Raft tick."),
    election_ticks: int | None = _tuning("--election-ticks", "Shortest election time-out."),
    heartbeat_ticks: int | None = _tuning("--heartbeat-ticks", "Ticks between heartbeats."),
    snapshot_log_bytes: int | None = _tuning("--snapshot-log-bytes", "Applied log between two snapshots."),
    journal_retain_bytes: int | None = _tuning("--journal-retain-bytes", "Applied log kept on disk behind snapshots."),
    drain_ms: int | None = _tuning("--drain-ms", "After SIGTERM: how long to answer, hand over and leave, at most."),
    shards: int | None = _tuning("--shards", "Raft groups that share the symbols; the same at all nodes."),
    replication_factor: int | None = _tuning(
        "--replication-factor", "Nodes that hold each group; 0: all; as --shards."
    ),
) -> int:
    """Run one node in the foreground, until Ctrl-C or SIGTERM.

    Every setting can also stand in a file (--config) or in the environment (ZMQLAB_PORT for --port, and so on).

    Exit status: 2 wrong arguments, 3 a port is in use, 4 the journal is another node's, 5 no room, 6 journal damaged,
    7 it can't listen there, 8 the log can't be written.
    """
    flags = {key: value for key, value in locals().items() if key != "config"}
    for key in ("peers", "join"):
        flags[key] = None if flags[key] is None else parse_endpoints(flags[key])
    from zmqlab.node.options import node_settings

    settings = node_settings(flags, os.environ, config)
    from zmqlab.node.process import run_node

    return run_node(settings)


def keys(
    folder: Path = KEY_FOLDER,
    add: str = typer.Option("", "--add", help="Let one more key in, under this name.", metavar="NAME"),
    role: str = typer.Option("trader", "--role", help="Of that key: watcher, trader, operator or member."),
    to: Path | None = NEW_FOLDER_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Make a folder of keys, show who is let in, or let one more key in.

    Give the whole folder to nodes (zmqlab node --keys) and to those who may do everything; to others a folder that
    --add makes, with one key. Nodes read the list again when it changes: a line that is deleted is a key shut out.
    A key that is there already is left as it is.
    """
    from zmqlab.keys import ALLOWED, Keyring, Role
    from zmqlab.tables import text_table

    if role.upper() not in Role.__members__:
        raise SettingsError(f"role {role!r}: choose watcher, trader, operator or member")
    if not (folder / ALLOWED).exists():
        Keyring.new().save(folder)
    own = to or folder / add
    if add and not _has_key(own, folder, add):
        Keyring.read(folder).add(Role[role.upper()], add, own)
    known = [(each.role.name.lower(), each.name, public) for public, each in Keyring.read(folder).allowed.items()]
    if as_json:
        print_json([dict(zip(("role", "name", "public_key"), line, strict=True)) for line in known])
    else:
        typer.echo(text_table(("role", "name", "public key"), known))
    return EXIT_OK


def _has_key(own: Path, folder: Path, name: str) -> bool:
    """Whether the folder ``own`` has the key ``name`` of ``folder`` already, as when a script runs again."""
    from zmqlab.keys import ALLOWED, SECRET_SUFFIX, Keyring

    if not ((own / ALLOWED).exists() and (own / (name + SECRET_SUFFIX)).exists()):
        return False
    return Keyring.read(folder).sender(Keyring.read(own).credentials().public) is not None


def status(
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    timeout: str = typer.Option("1s", "--timeout", help="How long to wait for answers."),
    as_json: bool = JSON_OPTION,
) -> int:
    """Ask nodes for role, term, commit and applied index, lag and hash; with shards, who holds and leads which."""
    endpoints, timeout_s = node_list(nodes, keys), parse_duration(timeout)
    from zmqlab.client.ask import status_table

    table = status_table(endpoints, timeout_s)
    if as_json:
        print_json([each.as_dict() for each in table])
    else:
        typer.echo(table.text(table_width()))
        typer.echo(f"state: {_agreement([each.status for each in table if each.status], endpoints)}")
        if table.exchange:
            typer.echo(f"exchange: {table.exchange}")
        if not any(each.status or each.why for each in table):
            typer.echo("no node answers: do they run, and is each port their base port + 2?")
    return EXIT_OK if all(each.status for each in table) else EXIT_FAILED


def _agreement(statuses: Sequence[NodeStatus], endpoints: Sequence[str]) -> str:
    """Whether these nodes have the same state, in a sentence."""
    if len(statuses) < 2:
        return "not compared: fewer than two nodes answered"
    from zmqlab.client.ask import statuses_of_group
    from zmqlab.lab.consistency import exactly_from, said_of_groups, strip_of_statuses

    shards = max(status.shards for status in statuses)
    if shards == 1:
        return exactly_from(strip_of_statuses(statuses), endpoints).said
    told = {group: [*statuses_of_group(endpoints, group).values()] for group in range(shards)}
    strips = {group: strip_of_statuses(each) for group, each in told.items()}
    return said_of_groups({group: exactly_from(strip, endpoints, group) for group, strip in strips.items()})


def scale(
    count: int = typer.Argument(..., help="How many nodes there shall be, 1 to 15."),
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    run_dir: Path | None = RUN_DIR_OPTION,
    timeout: str = typer.Option("30s", "--timeout", help="How long each change may take."),
    as_json: bool = JSON_OPTION,
) -> int:
    """Add nodes to a cluster that was started by hand on this machine, or remove some, one at a time, while it works.

    New nodes run in the background; `zmqlab ps` lists them and scaling down ends them.
    """
    endpoints, timeout_s = node_list(nodes, keys), parse_duration(timeout)
    from zmqlab.lab.scaling_by_hand import ScalingByHand

    def tell(line: str) -> None:
        typer.echo(line, err=as_json)

    members = ScalingByHand(endpoints, (run_dir or Path()).absolute(), tell, timeout_s, keys).scale(count)
    members.sort(key=lambda each: (each.name, each.port))
    if as_json:
        print_json([{"name": each.name, "endpoint": each.client_endpoint} for each in members])
    else:
        typer.echo("clients reach all members with --nodes " + ",".join(each.client_endpoint for each in members))
    return EXIT_OK


def remove(
    member: str = typer.Argument(..., help="Its name, as `zmqlab status` shows it, or its base endpoint, HOST:PORT."),
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    timeout: str = typer.Option("10s", "--timeout", help="How long it may take."),
) -> int:
    """Take MEMBER out of its group, or all its groups, so that the others need it no longer for a majority.

    For one that will not come back, or before its process is ended; a leader hands over first. Its process goes on, and
    a later start with --join brings it back.
    """
    endpoints, timeout_s = node_list(nodes, keys), parse_duration(timeout)
    from zmqlab.lab.scaling import let_go, member_called, reach_cluster

    deadline = time.monotonic() + timeout_s
    reached = reach_cluster(endpoints, deadline)
    found = member_called(member, reached)
    to_ask = endpoints if reached.shards == 1 else [each.client_endpoint for each in reached.members.values()]
    let_go(reached, found, lambda: to_ask, deadline)
    typer.echo(f"{found.name or member} at {found.host}:{found.port} is out of {reached.all_groups}")
    return EXIT_OK


def book(
    symbol: str = typer.Argument(..., help="As in AAPL: up to 8 of A-Z 0-9 . _ -"),
    nodes: str | None = NODES_OPTION,
    keys: Path | None = KEYS_OPTION,
    levels: int = typer.Option(10, "--levels", min=1, max=1_000, help="Prices a side."),
    stale: bool = typer.Option(
        False, "--stale", help="Take the first node's own view, which may lag, instead of a linearizable one."
    ),
    timeout: str = typer.Option("3s", "--timeout", help="How long to wait for an answer."),
    as_json: bool = JSON_OPTION,
) -> int:
    """Show the order book of SYMBOL: price, quantity and number of orders of the best levels."""
    endpoints, timeout_s = node_list(nodes, keys), parse_duration(timeout)
    from zmqlab.client.ask import ask_any, new_nonce, statuses
    from zmqlab.market.types import Depth, symbol_code
    from zmqlab.placement import group_of
    from zmqlab.wire.control import BookAnswer, BookQuery

    try:
        symbol_code(symbol)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    shards = max((each.shards for each in statuses(endpoints, timeout_s, enough=bool).values()), default=1)
    if shards > 1:  # the nodes that were named may not hold the symbol's group
        from zmqlab.lab.placed_members import with_all_nodes

        endpoints = with_all_nodes(endpoints)
    answer = ask_any(
        endpoints,
        lambda: BookQuery(nonce=new_nonce(), symbol=symbol, levels=levels, linearizable=not stale),
        BookAnswer,
        timeout_s,
        group=group_of(symbol, shards),
    )
    if as_json:
        print_json(_book_json(answer))
    else:
        typer.echo(f"{Depth(symbol, answer.bids, answer.asks)!r}\nat log index {answer.log_index}")
    return EXIT_OK


def _book_json(answer: Any) -> dict[str, Any]:
    def side(levels: list[tuple[int, int, int]]) -> list[dict[str, int]]:
        return [{"price": price, "quantity": quantity, "orders": orders} for price, quantity, orders in levels]

    return {
        "symbol": answer.symbol,
        "log_index": answer.log_index,
        "bids": side(answer.bids),
        "asks": side(answer.asks),
    }


def ps(as_json: bool = JSON_OPTION) -> int:
    """List the nodes and load clients that run on this machine: which cluster, which ports, whose."""
    from zmqlab.lab import processes

    table = processes.ps()
    if as_json:
        print_json([each.as_dict() for each in table])
    else:
        typer.echo(table.text(table_width()))
    return EXIT_OK


def reap(
    everything: bool = typer.Option(
        False, "--all", help="Also end what is in use or was started by hand: every node and load client of yours."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="With --all: don't ask."),
    as_json: bool = JSON_OPTION,
) -> int:
    """End nodes and load clients whose launcher is gone, and remove their temporary folders: what a crash left behind.

    Processes that are in use and nodes that you started by hand are left alone, unless you say --all. Folders that are
    in use, that were to be kept, or that you named are always left alone.
    """
    from zmqlab.lab import processes, run_folders

    found = processes.find()
    chosen = list(found) if everything else [each for each in found if each.orphan]
    if everything and chosen and not yes:
        _confirm(len(chosen))
    ended = processes.reap(chosen)
    abandoned = run_folders.abandoned()
    removed = [path for path in abandoned if run_folders.remove(path)]
    if as_json:
        folders = [{"kind": "folder", "name": path.name, "path": str(path)} for path in removed]
        print_json([*(each.as_dict() for each in ended), *folders])
    else:
        for path in removed:
            typer.echo(f"removed {path}")
        for each in ended:
            typer.echo(f"ended {each.kind} {each.name} (pid {each.pid})")
        left = len(found) - len(ended)
        kept = f"; {left} left alone, which `zmqlab ps` lists" if left else ""
        typer.echo(f"{len(ended)} ended{kept}")
    return EXIT_OK if len(ended) == len(chosen) and len(removed) == len(abandoned) else EXIT_FAILED


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise SettingsError(f"--all would end {count} processes, and there is no terminal to ask at: add --yes")
    typer.confirm(f"End {count} processes, also those in use?", abort=True, err=True)
