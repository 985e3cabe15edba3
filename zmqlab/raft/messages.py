"""What nodes say to each other and what they store: plain values, without behaviour.

Names and fields are those of the thesis' figure 3.1 and the sections that extend it. Ids of nodes are
positive integers, 0 is nobody. Every message says who sent it, whom it is for, and in which term it was sent.

Three fields are this implementation's own. ``round`` numbers the messages of a leader, rising with each one
that it sends to followers; a response carries the round that it answers. So one counter tells which answers
were given after a read began (section 6.4) and which rejections are older than the repair that they would ask
for. ``index`` in a response that accepts is the last index that *this* message verified, and never just the
end of the follower's log. ``hint_term`` and ``index`` in one that rejects let the leader skip a whole
divergent term at a time (section 3.5).

Left out: bytes. The layout of a frame belongs to the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from zmqlab.raft.configuration import Configuration

NOBODY = 0
"""The id that no node has."""
BROADCAST = 0
"""As ``to``: a message for every follower that can hear it."""


class EntryKind(IntEnum):
    """What an entry is for."""

    NO_OP = 0
    """Opens a leader's term, so that something of its own term can commit (section 3.6.2)."""
    DATA = 1
    """The state machine's."""
    CONFIGURATION = 2
    """An encoded :class:`~zmqlab.raft.configuration.Configuration` (chapter 4)."""


class Entry(NamedTuple):
    """One place in the log. A tuple, because a busy leader makes many."""

    index: int  # type: ignore[assignment]  # tuple has a method of this name, which nobody needs here
    term: int
    kind: EntryKind
    data: bytes


@dataclass(frozen=True, slots=True)
class AppendEntries:
    """Entries that follow ``(prev_index, prev_term)``; without entries, a heartbeat (section 3.5)."""

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    round: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendEntriesResponse:
    """Accepts or rejects one AppendEntries, or tells a sender of an older term that its term is over."""

    sender: int
    to: int
    term: int
    round: int
    success: bool
    index: int
    """Accepted: the last index that the message verified. Rejected: where the leader should probe next."""
    hint_term: int
    """Rejected: the follower's term at ``index``."""
    rejected_index: int
    """Rejected: the ``prev_index`` that did not match; accepted: 0."""


@dataclass(frozen=True, slots=True)
class RequestVote:
    """Asks for a vote (section 3.4), or, as a pre-vote, whether one would be given (section 9.6)."""

    sender: int
    to: int
    term: int
    """The term to lead; of a pre-vote, the term that the sender would enter."""
    last_index: int
    last_term: int
    pre_vote: bool
    forced: bool
    """The old leader wants this election, so that having heard of it is no reason to refuse (section
    4.2.3)."""


@dataclass(frozen=True, slots=True)
class RequestVoteResponse:
    """A vote. A granted pre-vote carries the term asked for, any other response the voter's own."""

    sender: int
    to: int
    term: int
    granted: bool
    pre_vote: bool


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """One chunk of a snapshot for a follower whose next entry is compacted away (section 5.3)."""

    sender: int
    to: int
    term: int
    round: int
    snapshot_index: int
    snapshot_term: int
    offset: int
    done: bool
    data: bytes
    configuration: bytes
    """The encoded configuration at ``snapshot_index``; each chunk has it."""


@dataclass(frozen=True, slots=True)
class InstallSnapshotResponse:
    """Where the follower wants the snapshot to go on, or that it needs no more of it."""

    sender: int
    to: int
    term: int
    round: int
    snapshot_index: int
    offset: int
    done: bool


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks a follower that has everything to campaign at once (section 3.10)."""

    sender: int
    to: int
    term: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A follower asks up to where it must have applied before it answers a read (section 6.4)."""

    sender: int
    to: int
    term: int
    context: int
    """The asker's name for the read; it comes back in the response."""


@dataclass(frozen=True, slots=True)
class ReadIndexResponse:
    """Up to where."""

    sender: int
    to: int
    term: int
    context: int
    index: int


Message = (
    AppendEntries
    | AppendEntriesResponse
    | RequestVote
    | RequestVoteResponse
    | InstallSnapshot
    | InstallSnapshotResponse
    | TimeoutNow
    | ReadIndex
    | ReadIndexResponse
)


@dataclass(frozen=True, slots=True)
class HardState:
    """What must survive a crash besides log and snapshot. ``commit_index`` may lag: it only saves a restart's
    wait."""

    term: int
    voted_for: int
    commit_index: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine, and what Raft must know of the log, as of ``index``."""

    index: int
    term: int
    configuration: Configuration
    data: bytes
