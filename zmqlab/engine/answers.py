"""What people and tools ask a node, and its answers: status, books, trades, hashes, the log, leader and members.

A query about the books is linearizable by default: it waits for a read index (:meth:`Replica.read`) before it looks. A
node with ``--reads local``, for labs, never waits, whatever it is asked: so its answers may be stale.
Every other answer is this node's own view, which may lag. The hash of a large state takes some turns. Each query is
answered exactly once, through ``reply``. A frame of a client that makes no sense is answered too, if it says who waits
for the answer (:func:`refusal_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zmqlab.endpoints import parse_address
from zmqlab.engine.following import Following
from zmqlab.engine.peers import Peers
from zmqlab.errors import FrameError, JournalCorrupt, JournalLost, SettingsError
from zmqlab.market.types import symbol_code
from zmqlab.placement import Gone
from zmqlab.raft import Role
from zmqlab.replica import Change, Replica
from zmqlab.replica.sealed_records import NEW_MEMBER
from zmqlab.replica.snapshotting import HashedState
from zmqlab.settings import is_node_name
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.control import (
    AddMemberQuery,
    Answer,
    BookAnswer,
    BookQuery,
    ErrorAnswer,
    ErrorCode,
    HashAnswer,
    HashQuery,
    LogAnswer,
    LogQuery,
    OkAnswer,
    Query,
    RemoveMemberQuery,
    StatusAnswer,
    StatusQuery,
    TradesAnswer,
    TradesQuery,
    TransferQuery,
)
from zmqlab.wire.fault_queries import LinkFault, LinkFaultsQuery, NodeFaults, NodeFaultsQuery
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import TraceQuery

MAX_LEVELS = 1_000
LIVES_MAX = 1 << 63
"""A node counts its starts in fewer. What a roster says of a life must be readable for every node."""
MAX_WISHES = 64
"""Nodes whose newest wish is known: several times as many as a group has."""
MAX_LOG_BYTES = 524_288
"""Of one answer. A client that asks and never reads fills its queue: 256 of them, 128 MiB."""

MAX_REFUSAL_CHARACTERS = 200
"""Of what is wrong with a frame: the text may quote from it."""

Reply = Callable[[Answer], None]
Obey = tuple[Callable[[Iterable[LinkFault]], None], Callable[[NodeFaults], None]]
"""Set the faults of all links, and those of the node. Each raises SettingsError, and has changed nothing then."""


def refusal_of(frame: bytes, error: FrameError) -> bytes | None:
    """The frame that tells a client what is wrong with its own; None if no client would understand it.

    A query without a nonce that can be read gets an answer of nonce 0. A frame of another version or type gets none.
    """
    try:
        frame_type, group = frames.parse_header(frame)
    except FrameError:
        return None
    if frame_type == frames.QUERY:
        said = str(error)[:MAX_REFUSAL_CHARACTERS]
        return control.encode(frames.ANSWER, ErrorAnswer(control.nonce_of(frame), ErrorCode.BAD_QUERY, said), group)
    key = client_wire.key_in(frame)
    if key is None:
        return None
    return client_wire.encode_responses([client_wire.encode_response(*key, 0, ResponseStatus.MALFORMED)], group)


class Answers:
    """Answers queries from one replica."""

    def __init__(
        self,
        replica: Replica,
        peers: Peers,
        status: Callable[[], NodeStatus],
        trace: Callable[[TraceQuery], None],
        obey: Obey | None,
        may_be_linearizable: bool = True,
        following: Following | None = None,
    ) -> None:
        """Answer for this replica.

        Args:
            status: this node's snapshot of itself.
            trace: has the group traced.
            obey: what sets faults. None: a query that asks for faults is refused.
            may_be_linearizable: False: queries for books and trades never wait for a read index, whatever they ask.
            following: which changes of the members the roster allows; None: all.
        """
        self._replica = replica
        self._peers = peers
        self._status = status
        self._trace = trace
        self._obey = obey
        self._may_be_linearizable = may_be_linearizable
        self._following = following
        self._wishes: dict[int, tuple[int, bool]] = {}
        """Node -> what it has asked for itself, the newest that was heard: its life by then, and whether it leaves. In
        one life it asks to be taken in, and then to be let go. The node that was heard last stands last."""
        self._ended: dict[int, int] = {}
        """Node -> the life by then in which a person had it removed. It may not know that yet."""
        self._left: tuple[Gone, ...] = ()
        """The nodes that were let go by the roster, when a node asked last to be taken in."""

    def handle(self, query: Query, reply: Reply) -> None:
        """Answer ``query`` now or, if it must wait for a read index, later."""
        match query:
            case StatusQuery():
                reply(StatusAnswer(query.nonce, self._status()))
            case BookQuery() | TradesQuery():
                self._handle_market(query, reply)
            case LogQuery():
                reply(self._log_or_error(query))
            case HashQuery():
                self._hash(query, reply)
            case TransferQuery():
                self._transfer(query, reply)
            case AddMemberQuery():
                reply(self._add(query))
            case RemoveMemberQuery():
                reply(self._remove(query))
            case LinkFaultsQuery() | NodeFaultsQuery():
                reply(self._suffer(query))
            case TraceQuery():
                reply(self._traced(query))

    def _handle_market(self, query: BookQuery | TradesQuery, reply: Reply) -> None:
        try:
            symbol_code(query.symbol)
        except ValueError as error:
            reply(ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, str(error)))
            return
        look = self._book if isinstance(query, BookQuery) else self._trades

        def finish(readable: bool) -> None:
            if readable:
                reply(look(query))  # type: ignore[arg-type]
            else:
                said = "no leader confirmed the read: ask again, or elsewhere"
                reply(ErrorAnswer(query.nonce, ErrorCode.NO_LEADER, said))

        if query.linearizable and self._may_be_linearizable:
            self._replica.read(finish)
        else:
            finish(True)

    def _book(self, query: BookQuery) -> BookAnswer:
        machine = self._replica.machine
        depth = machine.exchange.depth(query.symbol, max(1, min(query.levels, MAX_LEVELS)))
        bids = [(level[0], level[1], level[2]) for level in depth.bids]
        asks = [(level[0], level[1], level[2]) for level in depth.asks]
        return BookAnswer(query.nonce, query.symbol, bids, asks, machine.applied_index)

    def _trades(self, query: TradesQuery) -> TradesAnswer:
        machine = self._replica.machine
        trades = [
            (trade.price, trade.quantity, trade.maker_order_id, trade.taker_order_id)
            for trade in machine.exchange.trades(query.symbol)
        ]
        return TradesAnswer(query.nonce, query.symbol, trades, machine.applied_index)

    def _log_or_error(self, query: LogQuery) -> Answer:
        """A damaged old entry is told, and the node goes on: Raft needs it no more. It needs those that are loaded at a
        start. So the advice for a node that can't go on is left out."""
        try:
            return self._log(query)
        except JournalLost:
            raise
        except JournalCorrupt as error:
            return ErrorAnswer(query.nonce, ErrorCode.DAMAGED, str(error).removesuffix(f". {NEW_MEMBER}"))

    def _log(self, query: LogQuery) -> LogAnswer:
        """Only what is applied here: every entry of it is committed and stored."""
        replica = self._replica
        most = max(1, min(query.max_bytes, MAX_LOG_BYTES))
        entries = replica.journal.read(query.from_index, replica.machine.applied_index, most)
        return LogAnswer(
            query.nonce,
            replica.journal.first_index,
            replica.replication.commit_index,
            [(entry.index, entry.term, int(entry.kind), entry.data) for entry in entries],
        )

    def _hash(self, query: HashQuery, reply: Reply) -> None:
        def finish(state: HashedState) -> None:
            reply(HashAnswer(query.nonce, state.log_index, state.chain.hex(), state.state_hash.hex()))

        if not self._replica.hash_state(finish):
            reply(ErrorAnswer(query.nonce, ErrorCode.BUSY, "too many ask for the state hash at once: ask again"))

    def _transfer(self, query: TransferQuery, reply: Reply) -> None:
        if self._replica.replication.hand_over(query.target):
            reply(OkAnswer(query.nonce, "leadership is being handed over"))
        else:
            said = "this node does not lead, knows no such voter, or hands over to another one already"
            reply(ErrorAnswer(query.nonce, ErrorCode.NO_LEADER, said))

    def _add(self, query: AddMemberQuery) -> Answer:
        if not 0 < query.node_id < 1 << 64:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, f"{query.node_id} is no node id")
        if not 0 <= query.life < LIVES_MAX:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, f"{query.life} is no number of starts")
        try:
            address = _as_endpoint(query.address)
        except SettingsError as error:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, str(error))
        if query.name and not is_node_name(query.name):
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, f"{query.name[:40]!r} is no name of a node")
        self._end_lives()
        is_late = self._is_late(query, leaves=False)
        if is_late or self._is_over(query):
            said = "that node has been started again since, or was let go: start it again to have it back"
            replication = self._replica.replication
            is_out = replication.role is Role.LEADER and query.node_id not in replication.configuration.members
            is_told = not is_late and is_out and self._following is None  # with shards the roster tells it
            return ErrorAnswer(query.nonce, ErrorCode.LET_GO if is_told else ErrorCode.REFUSED, said)
        if query.name:
            self._peers.note_name(query.node_id, query.name)
        self._peers.note_address(query.node_id, address)
        change, elsewhere = None, self._peers.elsewhere
        if self._following is not None:
            change = self._following.admit(query.node_id, address)
            elsewhere |= self._following.elsewhere(address)
        if change is None:
            change = self._replica.replication.add_member(query.node_id, address, elsewhere)
        return self._outcome(query.nonce, change)

    def _remove(self, query: RemoveMemberQuery) -> Answer:
        """A node that left, and was started again at once, may still have a question of its last life under way."""
        if not 0 <= query.life < LIVES_MAX:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, f"{query.life} is no number of starts")
        if self._is_late(query, leaves=True):
            said = "that node has been started again since, and has asked to stay"
            return ErrorAnswer(query.nonce, ErrorCode.REFUSED, said)
        try:
            address = _as_endpoint(query.address) if query.address else ""
        except SettingsError as error:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, str(error))
        change = None
        if self._following is not None:
            change = self._following.release(query.node_id, address, query.life)
        if change is None:
            change = self._replica.replication.remove_member(query.node_id)
        if not query.life and self._following is None and change in (Change.DONE, Change.UNDER_WAY):
            self._end_life(query.node_id)
        return self._outcome(query.nonce, change)

    def _end_lives(self) -> None:
        """Each node learns from the roster whom a person had removed, whether it leads or not. It may lead when that
        one asks."""
        left = self._following.left if self._following is not None else ()
        for each in left:
            if not each.life and each not in self._left:
                self._end_life(each.node_id)
        self._left = left

    def _end_life(self, node_id: int) -> None:
        """A node was let go that may not know it, and asks on to be taken in. It asked before that."""
        if node_id in self._wishes:
            self._ended[node_id], _ = self._wishes[node_id]

    def _is_over(self, query: AddMemberQuery) -> bool:
        """Whether a node asks in a life in which it was let go, and has not been taken in again since."""
        ended = self._ended.get(query.node_id, 0)
        if self._following is not None:
            ended = max(ended, self._following.last_life_of(query.node_id))
        if not 0 < query.life <= ended:
            return False
        return self._following is None or not self._following.has(query.node_id)

    def _is_late(self, query: AddMemberQuery | RemoveMemberQuery, leaves: bool) -> bool:
        """Whether a node's question for itself comes after one that it asked later.

        Each node notes what it hears, whether it leads or not: it may lead when a late question comes. Lives rise, so
        that a node which has not heard of the newest one refuses nothing that is asked in it.
        """
        if not query.life:
            return False
        wish = query.life, leaves
        newest = max(wish, self._wishes.pop(query.node_id, wish))
        self._wishes[query.node_id] = newest
        if len(self._wishes) > MAX_WISHES:
            oldest = next(iter(self._wishes))
            del self._wishes[oldest]
            self._ended.pop(oldest, None)
        return wish < newest

    def _suffer(self, query: LinkFaultsQuery | NodeFaultsQuery) -> Answer:
        if self._obey is None:
            said = "faults are for nodes that were started with --allow-faults"
            return ErrorAnswer(query.nonce, ErrorCode.NOT_ALLOWED, said)
        set_links, set_own = self._obey
        try:
            if isinstance(query, LinkFaultsQuery):
                set_links(query.links)
                return OkAnswer(query.nonce, f"{len(query.links)} links are faulty")
            set_own(query.faults)
            return OkAnswer(query.nonce, f"this node is {query.faults}")
        except SettingsError as error:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, str(error))

    def _traced(self, query: TraceQuery) -> Answer:
        try:
            self._trace(query)
        except SettingsError as error:
            return ErrorAnswer(query.nonce, ErrorCode.BAD_QUERY, str(error))
        return OkAnswer(query.nonce, f"traced for {query.seconds:g} s")

    def _outcome(self, nonce: int, change: Change) -> Answer:
        """What became of a change of the members, and what to do next."""
        if change is Change.DONE:
            return OkAnswer(nonce, change.value)
        if change is Change.UNDER_WAY:
            return ErrorAnswer(nonce, ErrorCode.BUSY, "the change is under way: ask again")
        if change is Change.NOT_LEADER:
            leader = self._peers.address_of(self._replica.replication.leader_id)
            return ErrorAnswer(nonce, ErrorCode.NOT_LEADER, "only the leader changes the members", leader)
        return ErrorAnswer(nonce, ErrorCode.REFUSED, change.value)


def _as_endpoint(address: str) -> str:
    """A base endpoint in its one spelling. Raises SettingsError: it names no address."""
    return "tcp://{}:{}".format(*parse_address(address))
