"""What a load client tells while it runs and when it has ended: msgpack structs. No numpy.

Metrics go out about ten times a second on a PUB socket: a header of type LOAD_METRICS and one :class:`LoadMetrics`. A
load process has a DEALER to its parent's ROUTER. Over it :class:`LoadStarted` goes to the parent; :class:`Stop`,
:class:`SetRate` and :class:`~zmqlab.wire.traces.TraceQuery` go the other way. Their type is LOAD_CONTROL. While it is
traced, a TRACE frame follows each snapshot.

That a run has ended is told by no message, which another process might forge: the parent sees its child end, and reads
what it wrote (:mod:`zmqlab.load.run_record`).

Latencies travel as histograms (:mod:`zmqlab.histogram`), never as percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec

from zmqlab.errors import FrameError
from zmqlab.wire.control import encode
from zmqlab.wire.frames import HEADER_BYTES, parse_header
from zmqlab.wire.traces import TraceQuery

LOAD_METRICS = 0x30
LOAD_CONTROL = 0x31
FINE_NS = 10_000_000
"""A gap of 270 ms is 27 of these. At 2,000 orders/s twenty orders fall into one."""


class LoadCounters(msgspec.Struct, kw_only=True):
    """What happened to orders and requests; from the start of the run, or in one interval.

    Every order that is offered ends up acknowledged, failed or unsent: ``offered = sent + unsent`` and, when the run
    has ended, ``sent = acknowledged + failed``.
    """

    offered: int = 0
    """Orders whose intended time has come, sent or not: never less than ``sent``."""
    sent: int = 0
    """Orders that were handed to a socket, by the first copy of their request."""
    acknowledged: int = 0
    """Orders whose report has come, rejections included."""
    rejected: int = 0
    """Acknowledged orders that changed nothing, such as the cancel of an order that was filled. The cluster did what it
    is for: they did not fail."""
    filled: int = 0
    """Orders that were filled on arrival, at least in part."""
    fills: int = 0
    failed: int = 0
    """Orders that were sent and got no report in the end: those refused, and those that had no answer when the run
    ended. While it goes on, only those refused."""
    refused: int = 0
    """Orders of requests that were answered with an error instead of reports: stale, malformed, forbidden."""
    late: int = 0
    """Orders sent more than 5 ms after their intended time although the cluster took requests."""
    held_back: int = 0
    """Orders that were sent that late, or have waited that long and are not sent yet, because the window was full or no
    node took requests."""
    requests: int = 0
    """Requests acknowledged."""
    retries: int = 0
    failovers: int = 0
    replayed: int = 0
    """Requests whose first answer was given again."""
    duplicates: int = 0
    """Answers that came twice and were ignored."""
    busy: int = 0

    def since(self, earlier: LoadCounters) -> LoadCounters:
        """What was added after ``earlier``."""
        names = self.__struct_fields__
        return LoadCounters(**{name: getattr(self, name) - getattr(earlier, name) for name in names})

    def plus(self, later: LoadCounters) -> LoadCounters:
        """Both together."""
        names = self.__struct_fields__
        return LoadCounters(**{name: getattr(self, name) + getattr(later, name) for name in names})

    def copy(self) -> LoadCounters:
        """A snapshot."""
        return self.since(LoadCounters())


class GroupShare(msgspec.Struct, kw_only=True):
    """What one Raft group did of a run, where there are several."""

    group: int
    requests: int = 0
    """Acknowledged, since the start."""
    acknowledged: int = 0
    """Orders, since the start."""
    outstanding: int = 0
    """Requests submitted and not answered."""
    silence_ms: float = 0.0
    """How long ago the group's last acknowledgement came, if one is owed; otherwise 0."""
    gap_ms: float = 0.0
    """As of :class:`LoadMetrics`, of the interval."""
    longest_gap_ms: float = 0.0
    """The longest time in which the group owed answers and none came, since the start."""
    longest_gap_at_s: float = 0.0
    """When that began, counted from the start."""


class LoadMetrics(msgspec.Struct, kw_only=True):
    """A snapshot of a running load client."""

    name: str
    pid: int
    time_ns: int
    """Wall clock."""
    elapsed_s: float
    """Since the first intended time."""
    interval_s: float
    state: str
    """``running``, ``draining`` or ``ended``."""
    rate: float | None
    """Orders a second that are being offered; None is "max"."""
    total: LoadCounters
    interval: LoadCounters
    response_time: dict[str, int]
    """Histogram of the interval: from the intended send to the answer, in nanoseconds."""
    response_time_max_ns: int
    service_time: dict[str, int]
    """Histogram of the interval: from the actual send to the answer."""
    service_time_max_ns: int
    outstanding: int
    """Requests submitted and not answered; a few of them may still wait for a node to take them."""
    resting: int
    """Orders of this client that rest, as far as it knows."""
    endpoints: list[str] = []
    """Where nodes are or were, in the order in which this client learned of them. It grows when nodes come; a node that
    goes keeps its place."""
    connected: list[bool]
    """By node, in the order of ``endpoints``; False for a node that was left."""
    orders_by_node: list[int]
    """Orders acknowledged by each node since the start, in the order of ``endpoints``."""
    rejected_by_reason: dict[str, int]
    """Since the start."""
    silence_ms: float
    """How long ago the last acknowledgement came, if one is owed; otherwise 0."""
    gap_ms: float = 0.0
    """The longest time in which answers were owed and none came, of the gaps that ended or went on in the interval."""
    longest_gap_ms: float
    """The same since the start."""
    cpu_percent: float
    groups: list[GroupShare] = []
    """Of each Raft group that has a symbol of this client; empty where there is one group."""
    fine_from_ns: int = 0
    """Wall clock of the first of :attr:`fine`."""
    fine: list[int] = []
    """Orders acknowledged in each :data:`FINE_NS` from then on, of those that were counted in the interval. The last of
    them may get more by the next snapshot: figures of one time are added."""


class Second(msgspec.Struct, kw_only=True):
    """One second of the run, by the time of sending and of acknowledgement."""

    start_s: float
    length_s: float
    counters: LoadCounters
    response_time: dict[str, int]
    response_time_max_ns: int
    service_time: dict[str, int]
    service_time_max_ns: int


class OpenOutcome(msgspec.Struct, array_like=True):
    """A request that was handed to a socket and never answered: it is unknown whether it was applied."""

    client_id: int
    request_number: int
    orders: int
    invoked_ns: int
    group: int = 0
    """The Raft group that it was sent to."""


class ReadOutcome(msgspec.Struct, array_like=True):
    """A book that was read. The times are on the clock of the ledger."""

    symbol: str
    levels: int
    """How many levels of each side were asked for."""
    log_index: int
    invoked_ns: int
    completed_ns: int
    crc: int
    """:func:`crc_of_book`."""


class LoadResult(msgspec.Struct, kw_only=True):
    """Everything about a run that has ended; :class:`zmqlab.load.load_report.LoadReport` shows it to people."""

    name: str
    settings: dict[str, Any]
    client_ids: list[int]
    """The sessions, one for each of ``settings.clients``; with several groups one for each of them in each group. The
    ids of two groups may be equal."""
    client_groups: list[int] = []
    """By session: the Raft group that it belongs to; empty where there is one group."""
    groups: list[GroupShare] = []
    """Of each Raft group; empty where there is one group."""
    started_ns: int
    """Wall clock of the first intended time."""
    started_monotonic_ns: int
    """The same moment on the clock of the ledger."""
    sending_s: float
    """From the start to the end of the schedule."""
    elapsed_s: float
    """From the start to the last acknowledgement or the end of the schedule, whichever is later."""
    closed_loop: bool
    """Rate "max": response time is service time."""
    total: LoadCounters
    rejected_by_reason: dict[str, int] = {}
    orders_by_node: dict[str, int] = {}
    """By endpoint, of all nodes that this client ever knew."""
    response_time: dict[str, int]
    response_time_max_ns: int
    service_time: dict[str, int]
    service_time_max_ns: int
    seconds: list[Second] = []
    ledger: bytes = b""
    """Acknowledged requests: :data:`zmqlab.load.run_record.RECORD`."""
    unremembered: int = 0
    """Acknowledged requests for which the ledger had no room."""
    open_requests: list[OpenOutcome] = []
    requests_sent: list[int] = []
    """By session, with ack "none": how many requests were sent, for whose answers it did not wait."""
    book_reads: list[ReadOutcome] = []
    """Books that were read with a linearizable query."""
    longest_gap_ms: float = 0.0
    longest_gap_at_s: float = 0.0
    """When the longest gap began, counted from the start."""
    cpu_s: float = 0.0
    steered: int = 0
    """How often it was told to stop or to change its rate, by messages and by signals."""
    problem: str = ""
    """Why the run ended before its time, or why evidence is missing, if so."""
    history_problem: str = ""
    """Why the history file is not whole, if it is not."""


class LoadStarted(msgspec.Struct, tag_field="op", tag="started"):
    """The sessions are open, the first order is about to be sent."""

    name: str
    pid: int
    client_ids: list[int]


class Stop(msgspec.Struct, tag_field="op", tag="stop"):
    """Send nothing new, wait for the answers that are owed, end."""


class SetRate(msgspec.Struct, tag_field="op", tag="set_rate"):
    """Orders a second from now on; 0 pauses."""

    rate: float


ToParent = LoadStarted
ToLoad = Stop | SetRate | TraceQuery

_metrics_decoder = msgspec.msgpack.Decoder(LoadMetrics)
_parent_decoder: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)
_load_decoder: msgspec.msgpack.Decoder[ToLoad] = msgspec.msgpack.Decoder(ToLoad)


def crc_of_book(bids: Sequence[tuple[int, int, int]], asks: Sequence[tuple[int, int, int]]) -> int:
    """CRC-32 of both sides of a book, best price first. A result with whole books would not fit its frame."""
    return crc32(msgspec.msgpack.encode((bids, asks)))


def encode_metrics(metrics: LoadMetrics) -> bytes:
    """A whole LOAD_METRICS frame."""
    return encode(LOAD_METRICS, metrics)


def encode_control(message: ToParent | ToLoad) -> bytes:
    """A whole LOAD_CONTROL frame."""
    return encode(LOAD_CONTROL, message)


def decode_metrics(frame: bytes) -> LoadMetrics:
    """Raises FrameError if it is no such frame."""
    try:
        return _metrics_decoder.decode(_body(frame, LOAD_METRICS))
    except msgspec.DecodeError as error:
        raise FrameError(f"load metrics do not decode: {error}") from None


def decode_to_parent(frame: bytes) -> ToParent:
    """Raises FrameError if it is no such frame."""
    try:
        return _parent_decoder.decode(_body(frame, LOAD_CONTROL))
    except msgspec.DecodeError as error:
        raise FrameError(f"a load client's message does not decode: {error}") from None


def decode_to_load(frame: bytes) -> ToLoad:
    """Raises FrameError if it is no such frame."""
    try:
        return _load_decoder.decode(_body(frame, LOAD_CONTROL))
    except msgspec.DecodeError as error:
        raise FrameError(f"a message to a load client does not decode: {error}") from None


def _body(frame: bytes, expected_type: int) -> memoryview:
    frame_type, _ = parse_header(frame)
    if frame_type != expected_type:
        raise FrameError(f"a frame of type {frame_type:#04x} came where {expected_type:#04x} was expected")
    return memoryview(frame)[HEADER_BYTES:]
