"""The low-rate messages: queries and their answers, metrics, events and trades, as msgpack through msgspec.

Each is the header of :mod:`zmqlab.wire.frames` and one msgpack map. A query and its answer carry the same ``nonce``;
``op`` names their kind. msgspec refuses fields of wrong types, and ignores unknown ones: a newer node can add some.

Left out: requests and responses of orders (:mod:`zmqlab.wire.client`) and Raft (:mod:`zmqlab.wire.peer`), for speed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from zmqlab.errors import FrameError
from zmqlab.settings import client_endpoint, is_address
from zmqlab.wire.frames import HEADER_BYTES, header
from zmqlab.wire.traces import TraceQuery

T = TypeVar("T")


class NodeStatus(msgspec.Struct, kw_only=True):
    """The state of one node in figures, published about ten times a second and given to a status query.

    Counters run from the start of the process. Times are nanoseconds of the wall clock, or what the name says."""

    name: str
    """Of the node."""
    node_id: int
    """The node's identity: 64 bits that it drew at its first start."""
    group: int = 0
    """The Raft group that the figures are of."""
    pid: int
    """Of the node's process."""
    port: int
    """The base port."""
    address: str = ""
    """The base endpoint at which other nodes reach it, by its own word."""
    cluster: str = ""
    """The name that its launcher gave it; mostly empty."""
    time_ns: int
    """Wall clock of the node."""
    uptime_ms: int
    """Since the process began."""
    role: str
    """``leader``, ``follower``, ``candidate``, ``pre_candidate``, ``learner``, or ``removed`` from its group. At
    the first start, until it is decided what the node is: ``founder`` or ``seed``."""
    term: int
    """Of Raft; at most one node leads in a term."""
    leader_id: int
    """0: this node knows no leader."""
    leader_name: str = ""
    """Empty: it knows no leader, or not its name."""
    first_index: int
    """The oldest entry that the journal still keeps."""
    last_index: int
    """The newest entry that is stored here, committed or not."""
    commit_index: int
    """Up to here a majority has stored the log, as far as this node knows."""
    applied_index: int
    """Up to here this node has executed the log."""
    lag: int
    """How many entries this node knows to exist and has not applied."""
    hash_index: int = 0
    """The log index of a checkpoint: a multiple of the checkpoint interval, so that nodes can be compared."""
    chain_hash: str = ""
    """The hash chain over all entries and answers up to ``hash_index``, in hex. Equal on nodes that agree."""
    orders_taken: int = 0
    """Commands in the requests that clients sent to this node."""
    orders_applied: int = 0
    """Commands executed, in the cluster's whole life."""
    rejected_total: int = 0
    """Of those, the rejected ones."""
    fills_total: int = 0
    """In the cluster's whole life."""
    bad_frames_total: int = 0
    """Frames that made no sense or were forbidden, and refused handshakes, of clients and of peers."""
    dropped_total: int = 0
    """Messages of this node that a full queue did not take, or whose receiver had gone."""
    connections_ended_total: int = 0
    """Connections that this node ended: too many at one port, or bytes that became no message."""
    elections_total: int = 0
    """How often this node became leader."""
    open_orders: int = 0
    """Orders that rest in the books."""
    exchange: str = ""
    """What matches orders on this node: ``compiled`` or ``python``. Both give the same answers."""
    replication: str = ""
    """How this node copies the log: what ``--replication`` said."""
    sessions: int = 0
    """Sessions that are remembered."""
    pending_requests: int = 0
    """Requests that this node took and has not answered."""
    log_bytes: int = 0
    """Entries in memory."""
    journal_bytes: int = 0
    """Entries on disk."""
    snapshots_total: int = 0
    """Snapshots that this node took."""
    cpu_percent: float = 0.0
    """Of one core, since the last message or somewhat longer."""
    rss_bytes: int = 0
    """Resident memory of the process."""
    turns_total: int = 0
    """Turns of the node's loop."""
    turn_ms_max: float = 0.0
    """The longest turn since the node last wrote its figures to its log, once a second."""
    service_time: dict[str, int] = {}
    """From a request's receipt here to its answer, in the interval: bucket -> count (:mod:`zmqlab.histogram`)."""
    members: list[Member] = []
    """The members of the cluster, as this node knows them; itself among them."""


class Member(msgspec.Struct, kw_only=True):
    """One member of the cluster, as the node that reports it knows it."""

    node_id: int
    """The member's identity, of 64 bits."""
    name: str
    """Empty: this node has not heard it yet."""
    host: str
    """Of its base endpoint: an address; IPv6 in brackets. A status with a name of a host here does not decode."""
    port: int
    """Its base port; clients go to the port + 2."""
    match_index: int = 0
    """On the leader: the index up to which this member is known to have stored the log. Elsewhere 0."""
    state: str = ""
    """On the leader: ``probe``, ``replicate`` or ``snapshot``. Elsewhere empty."""
    voter: bool = True
    """False for a learner: it receives the log and does not vote yet."""

    @property
    def endpoint(self) -> str:
        """Its base endpoint, as in the configuration."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def client_endpoint(self) -> str:
        """The endpoint at which clients reach it."""
        return client_endpoint(self.host, self.port)


class EventKind(StrEnum):
    """What a node says has happened. The values are what travels."""

    ELECTED = "elected"
    """The node leads from now on, in the event's term."""
    ROLE = "role"
    """The node has another role, term or leader than before, and does not lead."""
    STEPPED_DOWN = "stepped_down"
    """The node led until now."""
    PROMOTED = "promoted"
    """The leader says that a new member has caught up and votes."""
    CLOSING = "closing"
    """The node was told to end: it answers what is pending and hands leadership over."""


class Event(msgspec.Struct, kw_only=True):
    """One event for people who watch: an election, a death, a leader that steps down."""

    time_ns: int
    """On the wall clock of the process that tells."""
    node: str
    """The node that it happened to; empty for something that concerns all of them."""
    kind: str
    """An :class:`EventKind` of a node, or one of :mod:`zmqlab.lab.events`. Plain, so that a newer node's decodes."""
    term: int = 0
    """The term of Raft in which it happened; 0: none."""
    text: str = ""
    """For people."""


class TradeEvent(msgspec.Struct, kw_only=True):
    """One fill, as the leader publishes it."""

    symbol: str
    """Of the book."""
    price: int
    """In ticks: the maker's price."""
    quantity: int
    """How much was traded."""
    log_index: int
    """The place in the log of the taker's request."""
    maker_order_id: int
    """The order that was resting."""
    taker_order_id: int
    """The order that came in."""


class ErrorCode(StrEnum):
    """Why a query was not carried out. The values are what travels."""

    BAD_QUERY = "bad_query"
    """The query does not decode, or a value in it makes no sense: correct it."""
    NO_LEADER = "no_leader"
    """No leader confirmed a read within 3 s, or a node that does not lead was to hand over: ask again, or elsewhere."""
    NOT_LEADER = "not_leader"
    """Only the leader does this: ask it at the address in `leader`; if that is empty, ask another node."""
    BUSY = "busy"
    """The change is under way: ask again until the answer is `ok`."""
    REFUSED = "refused"
    """The leader does not do it; the message says why. To ask again at once does not help."""
    NOT_ALLOWED = "not_allowed"
    """The node was started without `--allow-faults`."""
    FORBIDDEN = "forbidden"
    """The role of the key may not ask that."""
    DAMAGED = "damaged"
    """The journal of this node has lost what was asked for: ask another node."""


class StatusQuery(msgspec.Struct, tag_field="op", tag="status"):
    """Ask a node for its :class:`NodeStatus`."""

    nonce: int


class BookQuery(msgspec.Struct, tag_field="op", tag="book"):
    """Ask for the best levels of a book. ``linearizable``: as of now, not as of what this node has applied."""

    nonce: int
    symbol: str
    levels: int = 10
    linearizable: bool = True


class TradesQuery(msgspec.Struct, tag_field="op", tag="trades"):
    """Ask for the last trades of a symbol. ``linearizable``: as in :class:`BookQuery`."""

    nonce: int
    symbol: str
    linearizable: bool = True


class LogQuery(msgspec.Struct, tag_field="op", tag="log"):
    """Ask for committed entries from ``from_index`` on, at most ``max_bytes`` of data."""

    nonce: int
    from_index: int
    max_bytes: int = 524_288


class HashQuery(msgspec.Struct, tag_field="op", tag="hash"):
    """Ask for both hashes of the state."""

    nonce: int


class TransferQuery(msgspec.Struct, tag_field="op", tag="transfer"):
    """Ask the leader to hand leadership to the node ``target``; 0: the leader chooses."""

    nonce: int
    target: int = 0


class AddMemberQuery(msgspec.Struct, tag_field="op", tag="add_member"):
    """Ask the leader to take in ``node_id`` at base endpoint ``address``. OK once it votes; until then ask again."""

    nonce: int
    node_id: int
    address: str
    name: str = ""
    life: int = 0
    """With its own question of a node: how often it has been started, this time included. 0: another process asks.
    Refused if that node has asked in a later life, or has asked to leave in this one."""


class RemoveMemberQuery(msgspec.Struct, tag_field="op", tag="remove_member"):
    """Ask the leader to remove ``node_id``. OK once the group is without it; until then ask again."""

    nonce: int
    node_id: int
    life: int = 0
    """As of :class:`AddMemberQuery`. Refused if that node has asked in a later life."""


class LinkFault(msgspec.Struct, kw_only=True, frozen=True):
    """A fault of one direction of a link: from one peer to the node that gets the query."""

    sender: str = ""
    """The peer's base endpoint. A table that has the peer as its key leaves it empty; a node refuses an empty one."""
    cut: bool = False
    delay_ms: float = 0.0
    loss: float = 0.0
    """The share of frames that are lost, from 0 to 1."""

    def __str__(self) -> str:
        if self.cut:
            return "cut"
        parts = [f"{self.delay_ms:g} ms late"] if self.delay_ms else []
        parts += [f"{self.loss:.0%} lost"] if self.loss else []
        return ", ".join(parts) or "whole"


class LinkFaultsQuery(msgspec.Struct, tag_field="op", tag="link_faults"):
    """Set the link faults of a node. Links that are not listed become whole. For nodes with ``--allow-faults``."""

    nonce: int
    links: list[LinkFault] = []


Query = (
    StatusQuery
    | BookQuery
    | TradesQuery
    | LogQuery
    | HashQuery
    | TransferQuery
    | AddMemberQuery
    | RemoveMemberQuery
    | LinkFaultsQuery
    | TraceQuery
)


class StatusAnswer(msgspec.Struct, tag_field="op", tag="status"):
    """The node's status."""

    nonce: int
    status: NodeStatus


class BookAnswer(msgspec.Struct, tag_field="op", tag="book"):
    """Best prices first. A level is (price in ticks, quantity, number of orders)."""

    nonce: int
    symbol: str
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]
    log_index: int


class TradesAnswer(msgspec.Struct, tag_field="op", tag="trades"):
    """Oldest first; a trade is (price, quantity, maker_order_id, taker_order_id)."""

    nonce: int
    symbol: str
    trades: list[tuple[int, int, int, int]]
    log_index: int


class LogAnswer(msgspec.Struct, tag_field="op", tag="log"):
    """Entries are (index, term, kind, data). ``first_index`` is the oldest one that the journal still keeps."""

    nonce: int
    first_index: int
    commit_index: int
    entries: list[tuple[int, int, int, bytes]]


class HashAnswer(msgspec.Struct, tag_field="op", tag="hash"):
    """Both hashes, in hex, of the state after ``index``."""

    nonce: int
    index: int
    chain_hash: str
    state_hash: str


class OkAnswer(msgspec.Struct, tag_field="op", tag="ok"):
    """Done; ``text`` says what."""

    nonce: int
    text: str = ""


class ErrorAnswer(msgspec.Struct, tag_field="op", tag="error"):
    """The query was not carried out; ``message`` says why, for people."""

    nonce: int
    """0 if the query has none that can be read."""
    code: str
    """An :class:`ErrorCode`. A plain string, so that a code of a newer node still decodes."""
    message: str
    leader: str = ""
    """With ``not_leader``: the base endpoint of the leader, if it is known."""


Answer = StatusAnswer | BookAnswer | TradesAnswer | LogAnswer | HashAnswer | OkAnswer | ErrorAnswer


_encode = msgspec.msgpack.Encoder().encode
_nonce_decoder = msgspec.msgpack.Decoder(msgspec.defstruct("_Nonce", [("nonce", int, 0)]))
_query_decoder: msgspec.msgpack.Decoder[Query] = msgspec.msgpack.Decoder(Query)
_answer_decoder = msgspec.msgpack.Decoder(Answer)
_status_decoder = msgspec.msgpack.Decoder(NodeStatus)
_event_decoder = msgspec.msgpack.Decoder(Event)
_trade_decoder = msgspec.msgpack.Decoder(TradeEvent)


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes | memoryview) -> T:
    """One struct from ``body``.

    Raises:
        FrameError: the body is no such struct.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"a control message does not decode: {error}") from None


def encode(frame_type: int, struct: msgspec.Struct, group: int = 0) -> bytes:
    """A whole frame: the header, and ``struct`` as msgpack."""
    return header(frame_type, group) + _encode(struct)


def decode_query(frame: bytes) -> Query:
    """The query of a whole QUERY frame whose header was parsed. Raises FrameError."""
    return _decode(_query_decoder, memoryview(frame)[HEADER_BYTES:])


def nonce_of(frame: bytes) -> int:
    """The nonce of a QUERY frame that does not decode otherwise; 0 if that can't be read either."""
    try:
        return int(_decode(_nonce_decoder, memoryview(frame)[HEADER_BYTES:]).nonce)  # type: ignore[attr-defined]
    except FrameError:
        return 0


def decode_answer(frame: bytes) -> Answer:
    """The answer of a whole ANSWER frame. Raises FrameError."""
    answer: Answer = _decode(_answer_decoder, memoryview(frame)[HEADER_BYTES:])
    if isinstance(answer, StatusAnswer):
        _expect_addresses(answer.status)
    return answer


def decode_status(frame: bytes) -> NodeStatus:
    """The snapshot of a whole METRICS frame. Raises FrameError."""
    return _expect_addresses(_decode(_status_decoder, memoryview(frame)[HEADER_BYTES:]))


def _expect_addresses(status: NodeStatus) -> NodeStatus:
    """A client connects to the members that a status names, so they must have addresses. Raises FrameError."""
    for member in status.members:
        if not is_address(member.endpoint):
            raise FrameError(f"a status places a member at {member.endpoint[:100]!r}, which is no address")
    return status


def decode_event(frame: bytes) -> Event:
    """The event of a whole EVENT frame. Raises FrameError."""
    return _decode(_event_decoder, memoryview(frame)[HEADER_BYTES:])


def decode_trade(frame: bytes) -> TradeEvent:
    """The trade of a whole TRADE frame. Raises FrameError."""
    return _decode(_trade_decoder, memoryview(frame)[HEADER_BYTES:])
