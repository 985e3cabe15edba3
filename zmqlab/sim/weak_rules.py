"""What is checked of a replication that is no Raft by quorum: the damage that a client sees, and no rule of Raft.

Another replication may have no votes, no quorum, and no one log. It is no bug of it that two nodes lead, or that a log
has another entry than one of the same index and term elsewhere. So :class:`AnyElections` and :class:`AnyLogs` only note
who leads, and steps inside of the protocol are not looked at.

What every replication is held to is what clients were told. :class:`ToldOrders` remembers each answer with its log
index. A node that applies something else at that index has lost the order, and the run ends with the client, the
request and the index. All other damage is seen as always (:mod:`zmqlab.sim.checkers`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from zmqlab.raft import AppendEntriesResponse, HardState, Message, Raft
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import MakeReplication, RaftByQuorum
from zmqlab.replica.replica import request_key
from zmqlab.sim.checkers import Elections, Histories, Ledger, Logs, Operation, Violation
from zmqlab.wire.client import Response


class AnyElections(Elections):
    """Who leads, by whatever right."""

    def check_leader(self, raft: Raft) -> bool:
        """Whether this leader was not the last one of its term."""
        if self.leaders.get(raft.term) == raft.node_id:
            return False
        self.leaders[raft.term] = raft.node_id
        return True

    def sent(self, message: Message) -> None:
        """Any message may be sent."""

    def stored(self, node_id: int, hard_state: HardState) -> None:
        """Any term and vote may be stored."""


class AnyLogs(Logs):
    """Logs that need not match."""

    def saw(self, prev_term: int, entries: Iterable[Entry]) -> None:
        """Any entries may follow."""

    def answered(self, response: AppendEntriesResponse, applied_index: int) -> None:
        """Any answer may be given."""


class ToldOrders(Histories):
    """What clients were told, by log index."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._told: dict[int, tuple[int, int, int]] = {}
        """Log index -> client, session and number of the request that was answered from there."""

    def answer(self, operation: Operation, response: Response) -> None:
        """A response with a log index has come."""
        index = response.log_index
        key = response.client_id, response.request_number
        if index <= self._ledger.last_index and not _is_of(self._ledger.entries[index - 1], key):
            raise Violation(f"{_lost(operation.client, *key, index)}, where the log has another entry")
        super().answer(operation, response)
        self._told[index] = (operation.client, *key)

    def applies(self, node_id: int, entry: Entry) -> None:
        """A node is about to apply an entry. Raises Violation if a client was told of another one there."""
        told = self._told.get(entry.index)
        if told is not None and not _is_of(entry, told[1:]):
            raise Violation(f"{_lost(*told, entry.index)}, and node {node_id} applies another entry there")


class Rules(NamedTuple):
    """What a run checks of its elections, logs and answers."""

    elections: Elections
    logs: Logs
    histories: Histories
    told: ToldOrders | None
    """The histories again, if what clients were told must be looked at entry by entry; None for Raft by quorum."""


def rules_of(make_replication: MakeReplication, ledger: Ledger) -> Rules:
    """All rules of Raft for Raft by quorum; for any other replication those of this module."""
    if make_replication is RaftByQuorum:
        return Rules(Elections(ledger), Logs(), Histories(ledger), None)
    told = ToldOrders(ledger)
    return Rules(AnyElections(ledger), AnyLogs(), told, told)


def _is_of(entry: Entry, key: tuple[int, int]) -> bool:
    """Whether an entry is the request, or the registration, with this key."""
    if entry.kind != EntryKind.DATA:
        return False
    client_id, number = request_key(entry.data)
    return number == key[1] and client_id in (0, key[0])


def _lost(client: int, client_id: int, number: int, index: int) -> str:
    what = "its session" if client_id == index else f"request {number} of session {client_id}"
    return f"lost order: client {client} was told that {what} stands at {index}"
