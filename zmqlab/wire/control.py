"""The low-rate messages: queries and their answers, metrics, events and trades, as msgpack through msgspec.

Each is the header of :mod:`zmqlab.wire.frames` and one msgpack map. A query and its answer carry the same ``nonce``;
``op`` names their kind. msgspec refuses fields of wrong types, and ignores unknown ones: a newer node can add some.

Left out: requests and responses of orders (:mod:`zmqlab.wire.client`) and Raft (:mod:`zmqlab.wire.peer`), for speed;
and what is many or stands apart: the fields of a status (:mod:`zmqlab.wire.node_status`), the queries for faults
(:mod:`zmqlab.wire.fault_queries`) and traces (:mod:`zmqlab.wire.traces`). All queries are decoded here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from zmqlab.endpoints import is_address
from zmqlab.errors import FrameError
from zmqlab.placement import Roster
from zmqlab.raft import Configuration
from zmqlab.wire.fault_queries import LinkFaultsQuery, NodeFaultsQuery
from zmqlab.wire.frames import HEADER_BYTES, header
from zmqlab.wire.node_status import GroupBrief, NodeStatus
from zmqlab.wire.traces import TraceQuery

T = TypeVar("T")


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
    group: int = 0
    """The Raft group in which it happened."""


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
    LET_GO = "let_go"
    """The node that asks to be taken in was let go since it was started. Its next start may have it back."""
    NOT_ALLOWED = "not_allowed"
    """The node was started without `--allow-faults`."""
    FORBIDDEN = "forbidden"
    """The role of the key may not ask that."""
    NO_GROUP = "no_group"
    """This node does not hold that Raft group: ask another node, which a status may name."""
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
    Refused if that node has asked in a later life, or has asked to leave in this one, or was removed in it."""


class RemoveMemberQuery(msgspec.Struct, tag_field="op", tag="remove_member"):
    """Ask the leader to remove ``node_id``. OK once the group is without it; until then ask again."""

    nonce: int
    node_id: int
    life: int = 0
    """As of :class:`AddMemberQuery`. Refused if that node has asked in a later life."""
    address: str = ""
    """Asked of group 0 of a cluster with shards: the node at this base endpoint leaves the cluster. OK once all groups
    are to do without it. ``node_id`` is its identity, by which it is known if it has just moved; 0: the node is meant
    whose place is at ``address``."""


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
    | NodeFaultsQuery
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
    """The nonce of a QUERY or ANSWER frame, and nothing else of it; 0 if that can't be read."""
    try:
        return int(_decode(_nonce_decoder, memoryview(frame)[HEADER_BYTES:]).nonce)  # type: ignore[attr-defined]
    except FrameError:
        return 0


def decode_answer(frame: bytes) -> Answer:
    """The answer of a whole ANSWER frame. Raises FrameError."""
    answer: Answer = _decode(_answer_decoder, memoryview(frame)[HEADER_BYTES:])
    if isinstance(answer, StatusAnswer):
        _expect_members(answer.status)
    return answer


def decode_status(frame: bytes) -> NodeStatus:
    """The snapshot of a whole METRICS frame. Raises FrameError."""
    return _expect_members(_decode(_status_decoder, memoryview(frame)[HEADER_BYTES:]))


def _expect_members(status: NodeStatus) -> NodeStatus:
    """A client connects to the members that a status names, so they must have addresses; a founder takes over the
    committed ones, so they must decode. Raises FrameError."""
    places = [member.endpoint for member in status.members]
    if status.groups or status.founders:
        places += [place for brief in status.groups for place in _places_in(brief) if place]
        places += [place for _, place in status.founders]
    for place in places:
        if not is_address(place):
            raise FrameError(f"a status places a member at {place[:100]!r}, which is no address")
    try:
        if status.committed_members:
            Configuration.decode(status.committed_members)
        if status.roster:
            Roster.decode(status.roster)
    except ValueError as error:
        raise FrameError(f"a status tells no members: {error}") from error
    return status


def _places_in(brief: GroupBrief) -> tuple[str, ...]:
    return (*brief.members, brief.leader_endpoint, brief.preferred_endpoint)


def decode_event(frame: bytes) -> Event:
    """The event of a whole EVENT frame. Raises FrameError."""
    return _decode(_event_decoder, memoryview(frame)[HEADER_BYTES:])


def decode_trade(frame: bytes) -> TradeEvent:
    """The trade of a whole TRADE frame. Raises FrameError."""
    return _decode(_trade_decoder, memoryview(frame)[HEADER_BYTES:])
