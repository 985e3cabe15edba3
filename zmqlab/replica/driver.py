"""What a replica asks of its node, who may watch it, and its bounds.

:class:`Driver` is the effects of a replica, but for storing, which is :class:`~zmqlab.replica.journal.Journal`'s. A
group implements it (:mod:`zmqlab.engine.group`). Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from zmqlab.raft import Ready
from zmqlab.raft.messages import Entry, Message
from zmqlab.replica.machine import Applied

Route = bytes
"""How the node finds a client again: what its ROUTER calls it."""
Key = tuple[int, int]
"""``(client_id, request_number)`` of a request, ``(0, nonce)`` of a session that is being opened."""


class Driver(Protocol):
    """The effects of a replica. The node sends and stores for real; the simulator may crash in any of these calls."""

    def send(self, messages: Iterable[Message]) -> None:
        """To peers; any may be lost. A message to BROADCAST goes to all of them."""
        ...

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        """Requests of clients to the leader, in one frame; may be lost."""
        ...

    def answer(self, answers: list[tuple[Route, bytes]]) -> None:
        """Response bodies to the clients of this node; may be lost."""
        ...

    def applied(self, entry: Entry, applied: Applied) -> None:
        """An entry with an answer was applied: for trades and counters."""
        ...


class Steps(Protocol):
    """Is told of the steps of a replica while it is traced (:attr:`Replica.steps`); it may change nothing."""

    def stored(self, ready: Ready) -> None:
        """What ``ready`` has to store is in the journal."""
        ...

    def committed(self, entries: list[Entry]) -> None:
        """These entries are about to be applied."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Bounds of one replica."""

    max_pending_bytes: int = 67_108_864
    """Of the pending requests: without a leader none is answered, and 8,192 of the largest would be 335 MB."""
    max_pending: int = 8_192
    """Requests that wait here for their answers; beyond it a client is told BUSY."""
    max_behind: int = 512
    """Entries that are committed and not applied here. Of a follower with more a client is told BUSY as well: it could
    not answer before it has caught up, which another node can. A quarter of a second at 2,000 requests a second."""
    max_reads: int = 1_024
    """Queries that wait for a read index, or for the entries up to it."""
    read_ticks: int = 300
    """A query that could not be answered for so long fails: no leader."""
    snapshot_log_bytes: int = 16_777_216
    """A snapshot is made when so much log was applied since the last one."""
    snapshot_slice_bytes: int = 65_536
    """Of a snapshot, or of a state that is hashed, so much is encoded a turn: 0.6 ms of work."""
    keep_bytes: int = 4_194_304
    """How much of the log stays in memory behind a snapshot, for followers that are only a little behind."""
    max_unproposed: int = 16_384
    """Forwarded requests that wait while leadership is being handed over."""
    resend_ticks: int = 100
    """The shortest pause before a request goes to the leader again: its frame may have been lost on the way."""
    forward_bytes: int = 1_048_576
    """Of the requests in one FORWARD frame: a quarter of what a peer accepts."""

    def shared_by(self, groups: int) -> ReplicaSettings:
        """The share of one of so many groups of a node: what takes memory is bounded for all of them together."""
        return replace(
            self,
            snapshot_log_bytes=self.snapshot_log_bytes // groups,
            keep_bytes=self.keep_bytes // groups,
            max_pending_bytes=self.max_pending_bytes // groups,
        )
