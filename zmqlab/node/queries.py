"""What people and tools ask a node: status, books, trades, hashes, the log, a hand-over of leadership.

A query about the books is linearizable by default: it waits for a read index (:meth:`Replica.read`) before it looks.
Everything else is this node's own view, which may lag. Each function answers exactly once, through ``reply``.
"""

from __future__ import annotations

from collections.abc import Callable

from zmqlab.market.types import symbol_code
from zmqlab.replica import Replica
from zmqlab.wire import frames
from zmqlab.wire.control import (
    Answer,
    BookAnswer,
    BookQuery,
    ErrorAnswer,
    HashAnswer,
    HashQuery,
    LogAnswer,
    LogQuery,
    NodeStatus,
    OkAnswer,
    Query,
    StatusAnswer,
    StatusQuery,
    TradesAnswer,
    TradesQuery,
    TransferQuery,
)

MAX_LEVELS = 1_000
MAX_LOG_BYTES = frames.MAX_ANSWER_BYTES // 2

Reply = Callable[[Answer], None]


class Queries:
    """Answers queries from one replica."""

    def __init__(self, replica: Replica, status: Callable[[], NodeStatus]) -> None:
        self._replica = replica
        self._status = status

    def handle(self, query: Query, reply: Reply) -> None:
        """Answer ``query`` now or, if it must wait for a read index, later."""
        match query:
            case StatusQuery():
                reply(StatusAnswer(query.nonce, self._status()))
            case BookQuery() | TradesQuery():
                self._handle_market(query, reply)
            case LogQuery():
                reply(self._log(query))
            case HashQuery():
                machine = self._replica.machine
                chain, state = machine.chain.hex(), machine.state_hash().hex()
                reply(HashAnswer(query.nonce, machine.applied_index, chain, state))
            case TransferQuery():
                self._transfer(query, reply)

    def _handle_market(self, query: BookQuery | TradesQuery, reply: Reply) -> None:
        try:
            symbol_code(query.symbol)
        except ValueError as error:
            reply(ErrorAnswer(query.nonce, "bad_query", str(error)))
            return
        look = self._book if isinstance(query, BookQuery) else self._trades

        def finish(readable: bool) -> None:
            if readable:
                reply(look(query))  # type: ignore[arg-type]
            else:
                reply(ErrorAnswer(query.nonce, "no_leader", "no leader confirmed the read: ask again, or elsewhere"))

        if query.linearizable:
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

    def _log(self, query: LogQuery) -> LogAnswer:
        """Only what is applied here: every entry of it is committed and stored."""
        replica = self._replica
        most = max(1, min(query.max_bytes, MAX_LOG_BYTES))
        entries = replica.journal.read(query.from_index, replica.machine.applied_index, most)
        return LogAnswer(
            query.nonce,
            replica.journal.first_index,
            replica.raft.commit_index,
            [(entry.index, entry.term, int(entry.kind), entry.data) for entry in entries],
        )

    def _transfer(self, query: TransferQuery, reply: Reply) -> None:
        raft = self._replica.raft
        target = query.target or self._best_follower()
        if not target or not raft.transfer_leadership(target):
            reply(ErrorAnswer(query.nonce, "no_leader", "this node does not lead, or knows no such voter"))
        else:
            reply(OkAnswer(query.nonce, "leadership is being handed over"))

    def _best_follower(self) -> int:
        """The voter that has most of the log."""
        raft = self._replica.raft
        others = [node_id for node_id in raft.configuration.voters if node_id != raft.node_id]
        return max(others, key=lambda node_id: raft.progress[node_id].match_index, default=0) if raft.progress else 0
