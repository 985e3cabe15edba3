"""The settings of a node and the bounds of its sessions, and how people write durations and rates.

Settings are frozen, and each value is checked when it is set. A wrong value raises
:class:`~zmqlab.errors.SettingsError` with one line that names the setting, the value and a right one. The command line
prints that line and exits with status 2. Units stand last in a name (``tick_ms``, ``snapshot_log_bytes``).

Nothing here opens a socket; a name to listen at is looked up. Left out: the settings of a Raft core
(:class:`zmqlab.raft.RaftSettings`), of the load client and of the simulator, which stand in their own packages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from zmqlab.endpoints import CLIENT_PORT, PORTS_PER_NODE, client_endpoint, is_loopback, parse_endpoint, spelled
from zmqlab.errors import SettingsError

Durability = Literal["os", "fsync", "memory"]
"""``os``: the journal survives the death of every process. ``fsync``: also a power cut. ``memory``: nothing."""

Reads = Literal["linearizable", "local"]
"""``linearizable``: a book is read as of now. ``local``: as of what a node has applied, which may be stale."""

Ack = Literal["quorum", "leader", "none"]
"""When a client counts an order as done. ``quorum``: a majority has stored it. ``leader``: the leader has. ``none``: as
soon as it is sent; the client waits for nothing."""

DEFAULT_REPLICATION = "raft"
"""Raft, with answers after a majority has stored the entry."""

LogLevel = Literal["debug", "info", "warning", "error"]

LogFormat = Literal["text", "json"]
"""``json``: one object for each line, for collectors of logs."""

LogTo = Literal["file", "stderr"]
"""``stderr``: for containers and supervisors, which collect standard error."""

MAX_SHARDS, MAX_COPIES = 64, 15
"""More shards than one machine's cores keep busy, each with three tables in a journal; as many copies as members."""

MAX_RATE = 10_000_000
"""Orders a second. The generator makes a tenth of it on a fast core."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_REPLICATION = re.compile(r"[a-z][a-z0-9-]{0,31}|[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,63}")


def parse_duration(text: str | float) -> float:
    """Seconds from ``"30s"``, ``"5m"``, ``"500ms"``, ``"1.5h"`` or a plain number of seconds.

    Raises:
        SettingsError: it is no duration, or not above zero.
    """
    match = _DURATION.fullmatch(str(text).strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise SettingsError(f"{text!r} is not a duration above zero: write 30s, 5m, 500ms or a number of seconds")
    return seconds


def parse_rate(text: str | float) -> float | None:
    """Orders per second from ``"5000"``, ``"5_000"``, ``"20k"`` or a number; None for ``"max"``.

    Raises:
        SettingsError: it is no rate, not above zero, or above :data:`MAX_RATE`.
    """
    plain = str(text).strip().lower().replace("_", "")
    if plain == "max":
        return None
    scale = 1000.0 if plain.endswith("k") else 1.0
    try:
        rate = float(plain.removesuffix("k")) * scale
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE:
        raise SettingsError(f"{text!r} is not a rate: write orders a second such as 5000 or 20k, or max")
    return rate


def is_node_name(text: str) -> bool:
    """Whether ``text`` may be the name of a node: up to 32 letters, digits, ``.`` ``_`` ``-``."""
    return _NAME.fullmatch(text) is not None


def is_replication_name(text: str) -> bool:
    """Whether ``text`` may name a replication: a registered one, or a class as ``module:Class``."""
    return _REPLICATION.fullmatch(text) is not None


def require_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise SettingsError unless ``value`` is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}: it must be a whole number from {low} to {high}")


def require_number(name: str, value: object, low: float, high: float) -> None:
    """Raise SettingsError unless ``value`` is a number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}: it must be a number from {low:g} to {high:g}")


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise SettingsError unless ``value`` is one of the words of ``choices``, a ``Literal``."""
    words = get_args(choices)
    if value not in words:
        raise SettingsError(f"{name} is {value!r}: choose {', '.join(words[:-1])} or {words[-1]}")


def require_path(name: str, value: object) -> Path:
    """``value``, which a caller gave as the path of a file or folder. Raises SettingsError unless it can be one."""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise SettingsError(f"{name} is {value!r}: it must be the path of a file or folder, as text or as a pathlib.Path")


def require_writable(name: str, path: Path) -> None:
    """Raise SettingsError unless a file can be written at ``path``, before hours of work end in that."""
    try:
        with path.open("a"):
            return
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{name} {str(path)!r} can't be written: {reason_of(error)}; name another file") from None


def reason_of(error: OSError | UnicodeError) -> str:
    """What the system said, without its numbers and without the path, which may not be printable."""
    return error.strerror or str(error) if isinstance(error, OSError) else "this system has no such name"


def require(condition: bool, message: str) -> None:
    """Raise SettingsError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise SettingsError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The settings of one node process.

    Raises:
        SettingsError: a value is wrong, or two of them contradict each other.
    """

    name: str
    """The name of the node, its log and its journal: up to 32 letters, digits, ``.`` ``_`` ``-``."""
    port: int
    """The base port: the first of three consecutive ports."""
    peers: tuple[str, ...] = ()
    """Base endpoints of the other founding members; empty for a cluster of one. They count at the first start only, at
    which all founders must run at once; afterwards the journal knows the members. Names of hosts are looked up again
    later on, for a member that has moved."""
    join: tuple[str, ...] = ()
    """Base endpoints of members of a running cluster that this node wants to join, instead of ``peers``. A host's name
    stands for all its addresses."""
    bootstrap_ms: int = 0
    """With ``join``, for one node of a new cluster, the seed: at its first start it founds a cluster, if for this time
    no node in ``join`` belonged to one. 0: it never does."""
    leader: bool = False
    """Campaign at once at the first start, instead of waiting for an election time-out."""
    run_dir: Path = field(default_factory=Path)
    """The folder in which ``logs/NAME.log`` and ``data/NAME/`` are made."""
    bind: str = "127.0.0.1"
    """The address to listen on, IPv4 or IPv6. A name stands for its first address."""
    advertise: str = ""
    """The host by which peers know this node; empty: the bind address. A name is looked up once, at the start, and the
    others are told the address. Started again at another address, the node tells them that one."""
    keys: Path | None = None
    """The folder of keys (`zmqlab keys`): all traffic is encrypted, and only keys that the folder allows are let in."""
    insecure: bool = False
    """Needed to listen beyond loopback without keys: traffic is neither encrypted nor authenticated."""
    durability: Durability = "os"
    """``os`` survives the death of every process, ``fsync`` a power cut, ``memory`` nothing."""
    replication: str = DEFAULT_REPLICATION
    """How the nodes copy the log and when they answer: `raft`, `leader-ack`, `primary-backup`, `broadcast`, or a class
    of your own as `module:Class`. All nodes of a cluster need the same. Only `raft` keeps every promise."""
    cluster: str = ""
    """The name of the cluster, as its launcher gave it. ``zmqlab ps`` shows it; founders of two names do not meet."""
    owner: int = 0
    """The process id of the launcher; 0 for a node that a person started."""
    watch_stdin: bool = False
    """End when standard input ends, because then the launcher is gone."""
    allow_faults: bool = False
    """Let clients damage the links to this node, its disk and its clock (``LinkFaultsQuery``, ``NodeFaultsQuery``). For
    labs."""
    reads: Reads = "linearizable"
    """``linearizable``: a book that a client asks for as of now is that. ``local``: the node answers at once from what
    it has applied, which may be stale. To show what ReadIndex is for; only with ``allow_faults``."""
    metrics_port: int = 0
    """The port of ``/metrics``, ``/healthz`` and ``/readyz`` on the bind address; 0: they are not served."""
    log_level: LogLevel = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    log_format: LogFormat = "text"
    """``text``, or ``json``: one object for each line, for collectors of logs."""
    log_to: LogTo = "file"
    """``file``: ``logs/NAME.log``. ``stderr``: standard error, for containers and supervisors."""
    tick_ms: int = 10
    """The length of a Raft tick, the unit of all time-outs in ticks."""
    election_ticks: int = 20
    """The minimum election time-out: 20 ticks are 200 ms, within the range of the Raft paper (section 9.3). With 150
    ms, a busy machine of two cores had a needless election within five minutes; the median gap after a kill was 170
    ms."""
    heartbeat_ticks: int = 4
    """Ticks between a leader's heartbeats."""
    snapshot_log_bytes: int = 16_777_216
    """A snapshot is taken after this many bytes of applied log: about 400,000 orders."""
    journal_retain_bytes: int = 536_870_912
    """How many bytes of applied log the journal keeps behind snapshots, on disk only, for the verdict and for followers
    that are far behind."""
    drain_ms: int = 2_000
    """After SIGTERM: the longest time for pending answers, for handing leadership over and for leaving."""
    leave: bool = False
    """On SIGTERM leave the group (with ``shards``, all groups), so that fewer votes make a majority. A later start with
    ``join`` comes back. For clusters that are scaled up and down, as with docker compose's ``--scale``."""
    shards: int = 1
    """How many Raft groups share the symbols. All nodes need the same, and it stays so for good."""
    replication_factor: int = 0
    """With `shards`: how many nodes hold each group; 0: all. All nodes need the same."""

    def __post_init__(self) -> None:
        require(is_node_name(self.name), f"node name {self.name!r}: use up to 32 letters, digits, . _ -")
        require_whole("port", self.port, 1, 65_535 - PORTS_PER_NODE + 1)
        for peer in (*self.peers, *self.join):
            parse_endpoint(peer)
        require(
            not (self.peers and self.join),
            "--peers names the founders of a new cluster, --join names members of a running one: choose one of them",
        )
        require(len(set(self.peers)) == len(self.peers), "--peers names an endpoint twice: name each peer once")
        itself = f"{self.endpoint} is this node itself: leave it out of the"
        require(self.endpoint not in self.peers, f"{itself} peers")
        require(self.endpoint not in self.join, f"{itself} nodes to join")
        require_choice("durability", self.durability, Durability)
        require(
            isinstance(self.replication, str) and is_replication_name(self.replication),
            f"replication {self.replication!r}: write raft, or module:Class for one of your own",
        )
        require_choice("reads", self.reads, Reads)
        require(
            self.reads == "linearizable" or self.allow_faults,
            "--reads local gives stale answers to clients that ask for linearizable ones: it is for labs, with"
            " --allow-faults",
        )
        require_choice("log_level", self.log_level, LogLevel)
        require_choice("log_format", self.log_format, LogFormat)
        require_choice("log_to", self.log_to, LogTo)
        require(
            bool(self.join) or not (self.bootstrap_ms or self.leave),
            "bootstrap_ms and leave are for nodes that join a cluster: name its members with --join",
        )
        require_whole("bootstrap_ms", self.bootstrap_ms, 0, 600_000)
        require(
            is_loopback(self.bind) or self.insecure or self.keys is not None,
            f"listening on {self.bind} lets others in: give --keys DIR (`zmqlab keys DIR` makes them), or"
            " Cluster(keys=True) in Python; bind to 127.0.0.1; or say --insecure",
        )
        require(
            not (self.insecure and self.keys is not None),
            "--keys lets in who has a key, --insecure lets in all: choose one of them",
        )
        require(
            self.host not in ("0.0.0.0", "*", "::", "[::]"),
            f"peers cannot reach {self.host}: give the host by which they know this node with --advertise",
        )
        require_whole("metrics_port", self.metrics_port, 0, 65_535)
        require(
            not self.port <= self.metrics_port < self.port + PORTS_PER_NODE,
            f"metrics_port is {self.metrics_port}: port {self.port} and the next two are taken by the node itself",
        )
        require_whole("tick_ms", self.tick_ms, 1, 1_000)
        require_whole("heartbeat_ticks", self.heartbeat_ticks, 1, 1_000)
        require_whole("election_ticks", self.election_ticks, 2 * self.heartbeat_ticks, 10_000)
        require_whole("drain_ms", self.drain_ms, 0, 600_000)
        require_whole("snapshot_log_bytes", self.snapshot_log_bytes, 4_096, 1 << 34)
        require_whole("journal_retain_bytes", self.journal_retain_bytes, 0, 1 << 38)
        require_whole("shards", self.shards, 1, MAX_SHARDS)
        most = MAX_COPIES if self.join else len(self.peers) + 1
        require_whole("replication_factor", self.replication_factor, 0, most * (self.shards > 1))
        require(self.shards == 1 or not self.bootstrap_ms, "a seed founds no shards: name all founders with --peers")
        held = self.shards * (self.replication_factor or len(self.peers) + 1)
        require(held > len(self.peers), f"{held} copies for {len(self.peers) + 1} founders: some would hold no shard")

    @property
    def host(self) -> str:
        """The host by which peers know this node."""
        return spelled(self.advertise or self.bind)

    @property
    def endpoint(self) -> str:
        """The base endpoint that identifies this node among its peers."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def client_endpoint(self) -> str:
        """The endpoint at which clients reach this node."""
        return client_endpoint(self.host, self.port)


def journals_in(run_dir: Path) -> Path:
    """Where the nodes of a run keep their journals, each in a folder of its name."""
    return run_dir / "data"


ALIKE = (
    *("tick_ms", "election_ticks", "heartbeat_ticks", "snapshot_log_bytes", "journal_retain_bytes", "drain_ms"),
    "reads",
)
"""What all nodes of a cluster may be told alike, and a launcher does not say by itself."""


def require_alike(settings: Mapping[str, Any]) -> None:
    """Raise SettingsError unless all nodes may be told these settings."""
    others = [name for name in settings if name not in ALIKE]
    require(not others, f"settings of all nodes hold no {', '.join(map(repr, others))}: choose {', '.join(ALIKE)}")
    NodeSettings(name="node0", port=CLIENT_PORT, allow_faults=True, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds on what the state machine remembers for exactly-once. They are part of its definition: all nodes need the
    same.

    Raises:
        SettingsError: a value is out of range.
    """

    max_sessions: int = 1_024
    window_requests: int = 1_024
    """How far a request number may be ahead of the first unanswered one."""
    session_bytes: int = 4_194_304
    """Bytes of stored answers of one session. Beyond that its requests are refused, until the client acknowledges
    answers."""
    total_bytes: int = 33_554_432
    """Bytes of stored answers of all sessions. Beyond that the least recently used session is evicted."""
    answer_fills: int = 40_000
    """Fills that one answer carries: 960 KB, a quarter of what a client must be ready to receive. The totals in its
    reports are always those of the whole execution."""

    def __post_init__(self) -> None:
        require_whole("max_sessions", self.max_sessions, 1, 1_000_000)
        require_whole("window_requests", self.window_requests, 1, 1_000_000)
        require_whole("session_bytes", self.session_bytes, 1_024, 1 << 32)
        require_whole("total_bytes", self.total_bytes, self.session_bytes, 1 << 36)
        require_whole("answer_fills", self.answer_fills, 1, 100_000)
