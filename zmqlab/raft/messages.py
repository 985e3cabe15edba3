"""The messages between nodes, the entries of the log, and the values that are stored: plain data without behaviour.

Names and fields are those of figure 3.1 of the thesis and of the sections that extend it. The id of a node is a
positive integer; 0 is no node. Every message names its sender, its receiver and the term in which it was sent.

Four fields are this implementation's own:

* ``round`` numbers the messages of a leader to its followers and rises with each. A response carries the round of the
  message that it answers. So one counter tells which answers were given after a read began (section 6.4), and which
  rejections are older than the repair that they would ask for.
* ``index`` in a response that accepts is the last index that *this* message verified, which may be less than the end of
  the follower's log.
* ``stored_index`` in an AppendEntries is what a leader answers for itself, as a follower does with ``index``. With it a
  follower can count the leader's copy (:mod:`~zmqlab.raft.append_entries`).
* ``hint_term`` and ``index`` in a response that rejects let the leader skip a whole divergent term at a time (section
  3.5).

Messages and entries are tuples, because a node makes many.

Left out: bytes. :mod:`zmqlab.wire` knows the layout of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from zmqlab.raft.configuration import Configuration

NOBODY = 0
"""The id that no node has."""
BROADCAST = 0
"""As ``to``: a message for every follower that receives it."""


class EntryKind(IntEnum):
    """What the data of an entry is."""

    NO_OP = 0
    """Opens a leader's term, so that something of its own term can commit (section 3.6.2)."""
    DATA = 1
    """A command for the state machine."""
    CONFIGURATION = 2
    """An encoded :class:`~zmqlab.raft.configuration.Configuration` (chapter 4)."""


NO_OP, DATA, CONFIGURATION = EntryKind


class Entry(NamedTuple):
    """One place in the log."""

    index: int  # type: ignore[assignment]  # tuple has a method of this name, which is not needed here
    term: int
    kind: EntryKind
    data: bytes


class AppendEntries(NamedTuple):
    """Entries that follow ``(prev_index, prev_term)``. Without entries it is a heartbeat (section 3.5)."""

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    round: int
    entries: tuple[Entry, ...]
    stored_index: int = 0
    """The leader says that it has stored its log up to here, in this term; 0: it says nothing of its disk."""


class AppendEntriesResponse(NamedTuple):
    """Accepts or rejects one AppendEntries, or tells a leader of an older term that its term is over."""

    sender: int
    to: int
    term: int
    round: int
    success: bool
    index: int  # type: ignore[assignment]
    """Accepted: the last index that the message verified. Rejected: where the leader should probe next."""
    hint_term: int
    """Rejected: the follower's term at ``index``."""
    rejected_index: int
    """Rejected: the ``prev_index`` that did not match; accepted: 0."""


class RequestVote(NamedTuple):
    """Asks for a vote (section 3.4). As a pre-vote it asks whether a vote would be given (section 9.6)."""

    sender: int
    to: int
    term: int
    """The term to lead. In a pre-vote: the term that the sender would enter."""
    last_index: int
    last_term: int
    pre_vote: bool
    forced: bool
    """The old leader wants this election, so a voter that hears the leader need not refuse (section 4.2.3)."""


class RequestVoteResponse(NamedTuple):
    """A vote. A granted pre-vote carries the term that was asked for; any other response carries the voter's term."""

    sender: int
    to: int
    term: int
    granted: bool
    pre_vote: bool


class InstallSnapshot(NamedTuple):
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
    """The encoded configuration at ``snapshot_index``. Each chunk carries it."""


class InstallSnapshotResponse(NamedTuple):
    """Names the offset of the next chunk that the follower wants, or says that it needs no more (``done``)."""

    sender: int
    to: int
    term: int
    round: int
    snapshot_index: int
    offset: int
    done: bool


class TimeoutNow(NamedTuple):
    """The leader asks a follower that holds the whole log to campaign at once (section 3.10)."""

    sender: int
    to: int
    term: int


class ReadIndex(NamedTuple):
    """A follower asks which index it must have applied before it answers a read (section 6.4)."""

    sender: int
    to: int
    term: int
    context: int
    """The follower's number for the read. It comes back in the response."""


class ReadIndexResponse(NamedTuple):
    """The index that the follower must have applied."""

    sender: int
    to: int
    term: int
    context: int
    index: int  # type: ignore[assignment]


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
    """What must survive a crash besides log and snapshot. ``commit_index`` may lag: it only saves a restart a wait."""

    term: int
    voted_for: int
    commit_index: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine at ``index``, and what Raft must know of the log at that point."""

    index: int
    term: int
    configuration: Configuration
    data: bytes
