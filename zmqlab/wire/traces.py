"""Traces: what a node or a client saw of some requests, and of every election, at its edge and when.

A trace is asked for (:class:`TraceQuery`) and ends by itself: the asker gets a lease of some seconds and asks again. So
nothing stays on when the asker dies. While it is on, a process publishes a TRACE frame about ten times a second, also
an empty one, which says that nothing was to be seen::

    TRACE   header, one msgpack map: Trace; its records are msgpack arrays: TraceRecord

*Which requests.* A share of them, chosen by a hash of client and number (:func:`is_sampled`). Client, the node that
took the request, leader and followers choose the same ones without a word between them. An AppendEntries is traced if
it brings an entry of such a request, or one that is not a request: a leader's first entry, or new members. An answer to
it is traced too. Votes, hand-overs of the leadership, chunks of snapshots and changes of the role are always traced.

*When.* Times are those of the process' monotonic clock. On one machine all processes share that clock (Linux counts it
from the machine's start), so that the times of two processes can be subtracted. Between machines they can not. A
message is seen when the loop takes it in hand: what it waits in queues counts as its way.

*How many.* :class:`TraceBuffer` holds the bound of records a second, as a bucket of tokens. What does not fit is
counted. A frame says that count, and frames are numbered, so that a reader knows what it has not heard.

Left out on purpose: HELLO, ReadIndex, queries, and the contents of orders. A trace says who told whom, not what.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from zmqlab.errors import FrameError, SettingsError
from zmqlab.wire import frames
from zmqlab.wire.frames import HEADER_BYTES, header

SECONDS_MAX = 60.0
"""The longest lease: an asker that dies leaves the trace on for so long."""
RECORDS_PER_S = 2_000
"""The bound that is asked for by default. A record costs a node some 2 us: half a percent of a core."""
RECORDS_PER_S_MAX = 20_000
BURST_S = 0.5
"""So much of a second's records may come at once: an election, or a queue that has been waiting."""
RECORDS_MAX = int(RECORDS_PER_S_MAX * BURST_S)
"""Of one frame."""
LEASES_MAX = 8
"""Different leases at one process; the one that ends first makes room."""
NAME_MAX = 100
"""Characters of the name of a process."""
NS_PER_S = 1_000_000_000

_SHARE_BITS = 32
_MASK = (1 << 64) - 1
_CLIENT_FACTOR = 0xC2B2AE3D27D4EB4F
_NUMBER_FACTOR = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio (Knuth, volume 3, 6.4): numbers in a row are spread evenly. The other factor is an
odd number of no meaning."""


class TraceKind(IntEnum):
    """What was seen: a message, by the type of its frame, or a step of the node itself."""

    REQUEST = frames.REQUEST
    """A client's request."""
    RESPONSES = frames.RESPONSES
    """An answer to it."""
    OPEN_SESSION = frames.OPEN_SESSION
    """A client asks for a session."""
    APPEND_ENTRIES = frames.APPEND_ENTRIES
    """Entries of the log from the leader; without entries it is a heartbeat."""
    APPEND_ENTRIES_RESPONSE = frames.APPEND_ENTRIES_RESPONSE
    """The answer to them."""
    REQUEST_VOTE = frames.REQUEST_VOTE
    """A candidate asks for a vote."""
    REQUEST_VOTE_RESPONSE = frames.REQUEST_VOTE_RESPONSE
    """A vote, or its refusal."""
    INSTALL_SNAPSHOT = frames.INSTALL_SNAPSHOT
    """A chunk of a snapshot."""
    INSTALL_SNAPSHOT_RESPONSE = frames.INSTALL_SNAPSHOT_RESPONSE
    """The answer to it."""
    TIMEOUT_NOW = frames.TIMEOUT_NOW
    """A leader asks a follower to campaign at once."""
    FORWARD = frames.FORWARD
    """A request on its way from the node that took it to the leader."""
    PRE_VOTE = 0x80 | frames.REQUEST_VOTE
    """A node asks whether it would be elected."""
    PRE_VOTE_RESPONSE = 0x80 | frames.REQUEST_VOTE_RESPONSE
    """The answer to that."""
    STORED = 0xA0
    """The node has written to its journal: entries, or term and vote if the record has no indexes."""
    COMMITTED = 0xA1
    """The node may apply these entries, by the rules of its replication."""
    APPLIED = 0xA2
    """The node has executed the request."""
    FOLLOWER = 0xB0
    """The node follows from now on, or has heard of another term or leader."""
    PRE_CANDIDATE = 0xB1
    """The node has missed its leader."""
    CANDIDATE = 0xB2
    """The node campaigns."""
    LEADER = 0xB3
    """The node leads."""

    @property
    def word(self) -> str:
        """The name as it stands in pictures and files: ``append_entries``."""
        return self.name.lower()


STEPS = frozenset(kind for kind in TraceKind if kind >= TraceKind.STORED)
"""What a node does by itself; all other kinds are messages."""
ROLES = frozenset(kind for kind in TraceKind if kind >= TraceKind.FOLLOWER)


class Direction(IntEnum):
    """Which way a message went past the process that saw it."""

    STEP = 0
    """No message: the node did something."""
    OUT = 1
    """The process sent it."""
    IN = 2
    """The process received it."""


class TraceRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One thing that a process saw. In a frame it is an array of these fields, in this order. It holds numbers alone,
    and so the garbage collector need not look at the thousands that are kept."""

    time_ns: int
    """Monotonic clock of the machine."""
    kind: TraceKind
    """A code of the table above."""
    direction: Direction
    """0: a step of the node, 1: a message that it sent, 2: one that it received."""
    peer: int = 0
    """The other node. 0: all followers (a broadcast), a client, or a node whose id the client does not know."""
    term: int = 0
    """Of the message, or of the node at a step."""
    first_index: int = 0
    """The first entry that the message brings or the step concerns; 0: none."""
    last_index: int = 0
    """The last one. Of an answer to a client: where its request stands in the log. Of an AppendEntries without a round,
    which is a notice: up to where its receiver may take the log for committed."""
    client: int = 0
    """The session of the request; of several requests in a message: of the first one that is traced. 0: none."""
    number: int = 0
    """The number of that request."""
    round: int = 0
    """Of an AppendEntries, a chunk of a snapshot, and the answers to them: what tells one from the next. 0: a notice of
    a commit, which is not answered."""
    accepted: bool = True
    """Of an answer: whether it says yes. Of an answer to a client: whether its request was applied."""
    size: int = 0
    """Bytes of the frame; 0: not known."""


class Trace(msgspec.Struct, kw_only=True):
    """What one process saw since its last frame."""

    name: str
    """Of the node, or of the load client."""
    node_id: int = 0
    """The node's identity; 0: a client."""
    clock_ns: int
    """Monotonic clock, when the frame was made."""
    time_ns: int
    """Wall clock at the same moment."""
    since_ns: int
    """Monotonic clock, when the trace began here. It goes on without a gap until ``clock_ns``."""
    sequence: int
    """Counts 1, 2, 3, ... from then on."""
    dropped: int = 0
    """Records since then for which the bound had no room."""
    share: float = 0.0
    """Of the requests that are traced, from 0 to 1."""
    records: list[TraceRecord] = []
    """In the order in which they were made."""


class TraceQuery(msgspec.Struct, tag_field="op", tag="trace"):
    """Ask a process to publish traces for the next ``seconds``; 0 ends that. Leases of several askers stand side by
    side: the largest share counts."""

    nonce: int
    share: float = 0.01
    """Of the requests, from 0 to 1. Elections are traced in any case."""
    seconds: float = 5.0
    """At most 60."""
    records_per_s: int = RECORDS_PER_S
    """The most that the process may publish."""
    heartbeats: bool = False
    """Whether AppendEntries without entries are traced, too."""
    group: int = 0
    """A load client traces its sessions of this Raft group. A node goes by the group of the frame."""


_decoder = msgspec.msgpack.Decoder(Trace)
_encode = msgspec.msgpack.Encoder().encode


def encode_trace(trace: Trace, group: int = 0) -> bytes:
    """A whole TRACE frame."""
    return header(frames.TRACE, group) + _encode(trace)


def decode_trace(frame: bytes) -> Trace:
    """The contents of a whole TRACE frame whose header was parsed.

    Raises:
        FrameError: it does not decode, or holds more than a process that keeps the bounds sends.
    """
    try:
        trace = _decoder.decode(memoryview(frame)[HEADER_BYTES:])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"a trace does not decode: {error}") from None
    if len(trace.records) > RECORDS_MAX or len(trace.name) > NAME_MAX:
        raise FrameError(f"a trace holds {len(trace.records)} records under a name of {len(trace.name)} characters")
    numbers = (trace.node_id, trace.clock_ns, trace.since_ns, trace.sequence, trace.dropped)
    if min(numbers) < 0 or not 0 <= trace.share <= 1:
        raise FrameError(f"a trace has a number below 0, or the share {trace.share}")
    return trace


def check(query: TraceQuery) -> None:
    """Raise SettingsError if a value of ``query`` is out of its range."""
    if not 0 <= query.share <= 1:
        raise SettingsError(f"the share is {query.share:g}: give one from 0 to 1, as in 0.01 for one request in 100")
    if not 0 <= query.seconds <= SECONDS_MAX:
        raise SettingsError(f"a trace of {query.seconds:g} s: give 0 to {SECONDS_MAX:g} s, and ask again in time")
    if not 1 <= query.records_per_s <= RECORDS_PER_S_MAX:
        raise SettingsError(f"{query.records_per_s} records a second: give 1 to {RECORDS_PER_S_MAX:,}")


def threshold_of(share: float) -> int:
    """What :func:`is_sampled` takes for a share of the requests."""
    return round(share * (1 << _SHARE_BITS))


def is_sampled(client: int, number: int, threshold: int) -> bool:
    """Whether the request ``number`` of ``client`` is one of the share that is traced."""
    mixed = (client * _CLIENT_FACTOR + number) * _NUMBER_FACTOR & _MASK
    return mixed >> (64 - _SHARE_BITS) < threshold


class TraceBuffer:
    """The leases of one process, and its records between two frames. Times are of its monotonic clock."""

    def __init__(self, now_ns: int) -> None:
        """Nothing is traced before the first :meth:`want`."""
        self.threshold = 0
        """For :func:`is_sampled`."""
        self.heartbeats = False
        self._share = 0.0
        self._leases: dict[tuple[float, int, bool], int] = {}
        """(share, records a second, heartbeats) -> when the lease ends."""
        self._records: list[TraceRecord] = []
        self._since_ns = self._filled_ns = now_ns
        self._sequence = 0
        self._dropped = 0
        self._per_s = 0
        self._tokens = 0.0
        """Records for which there is room; at most ``BURST_S`` of ``_per_s``."""

    def want(self, query: TraceQuery, now_ns: int) -> None:
        """A lease begins, goes on, or with 0 s ends. Raises SettingsError if the query makes no sense."""
        check(query)
        lease = (query.share, query.records_per_s, query.heartbeats)
        if query.seconds:
            self._leases[lease] = now_ns + round(query.seconds * NS_PER_S)
        else:
            self._leases.pop(lease, None)
        if len(self._leases) > LEASES_MAX:
            del self._leases[min(self._leases, key=lambda each: self._leases[each])]
        self._follow_leases()

    def is_on(self, now_ns: int) -> bool:
        """Whether a lease goes on; to be asked before each frame."""
        if any(until_ns <= now_ns for until_ns in self._leases.values()):
            self._leases = {lease: until_ns for lease, until_ns in self._leases.items() if until_ns > now_ns}
            self._follow_leases()
        return bool(self._leases)

    def add(self, record: TraceRecord) -> None:
        """Keep a record for the next frame, or count it."""
        if self._tokens < 1:
            self._dropped += 1
        else:
            self._tokens -= 1
            self._records.append(record)

    def take(self, name: str, node_id: int, clock_ns: int, time_ns: int) -> Trace:
        """What the next frame says; to be called about ten times a second."""
        self._sequence += 1
        records, self._records = self._records, []
        more = (clock_ns - self._filled_ns) * self._per_s / NS_PER_S
        self._filled_ns = clock_ns
        self._tokens = min(self._tokens + more, self._per_s * BURST_S)
        return Trace(
            name=name[:NAME_MAX],
            node_id=node_id,
            clock_ns=clock_ns,
            time_ns=time_ns,
            since_ns=self._since_ns,
            sequence=self._sequence,
            dropped=self._dropped,
            share=self._share,
            records=records,
        )

    def _follow_leases(self) -> None:
        leases = self._leases
        self._share = max((share for share, _, _ in leases), default=0.0)
        self.threshold = threshold_of(self._share)
        self.heartbeats = any(heartbeats for _, _, heartbeats in leases)
        per_s = max((records for _, records, _ in leases), default=0)
        self._tokens = min(self._tokens + max(0, per_s - self._per_s) * BURST_S, per_s * BURST_S)
        self._per_s = per_s
