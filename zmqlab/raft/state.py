"""All that one node's Raft core holds: one class of plain fields, each with its invariant.

The modules beside this one are its behaviour, one concept each, as functions over a :class:`RaftState`:
:mod:`~zmqlab.raft.roles` (who leads, in which term), :mod:`~zmqlab.raft.election`,
:mod:`~zmqlab.raft.follower`, :mod:`~zmqlab.raft.replication`, :mod:`~zmqlab.raft.reads`,
:mod:`~zmqlab.raft.snapshots`, :mod:`~zmqlab.raft.transfer`, :mod:`~zmqlab.raft.membership`;
:mod:`~zmqlab.raft.invariants` says what must hold between the fields. :class:`~zmqlab.raft.core.Raft` is the
front that a driver talks to."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from zmqlab.raft.configuration import Configuration, ConfigurationHistory
from zmqlab.raft.log import Log
from zmqlab.raft.messages import NOBODY, Entry, EntryKind, HardState, Message, Snapshot
from zmqlab.raft.progress import Progress
from zmqlab.raft.settings import RaftSettings


class Role(Enum):
    """What a node is just now. A learner is a follower that is not among the voters."""

    FOLLOWER = auto()
    PRE_CANDIDATE = auto()
    CANDIDATE = auto()
    LEADER = auto()


class ReadBatch(NamedTuple):
    """Reads that one round of a leader's messages will confirm."""

    round: int
    """An answer to this round or a later one was given after the reads began."""
    commit_index: int
    """When the round was sent."""
    reads: list[tuple[int, int]]
    """``(asking node, context)``."""


class IncomingSnapshot:
    """The chunks of a snapshot that have come so far."""

    __slots__ = ("chunks", "offset", "source")

    def __init__(self, source: tuple[int, int, int, int]) -> None:
        self.source = source
        """``(sender, term, snapshot index, snapshot term)``: chunks of different sources are never joined."""
        self.chunks: list[bytes] = []
        self.offset = 0
        """The sum of the chunks' lengths."""


class RaftState:
    """The fields of one Raft core. Only the functions of this package change them."""

    def __init__(
        self,
        node_id: int,
        configuration: Configuration,
        settings: RaftSettings,
        rng: random.Random,
        hard_state: HardState | None = None,
        snapshot: Snapshot | None = None,
        entries: Sequence[Entry] = (),
        applied_index: int | None = None,
    ) -> None:
        hard_state = hard_state or HardState(0, NOBODY, 0)
        start = snapshot.index if snapshot else 0
        self.node_id = node_id
        """Positive, and never reused for a node that lost its journal: it would have forgotten its votes."""
        self.settings = settings
        self.rng = rng

        self.term = hard_state.term
        """Never falls."""
        self.voted_for = hard_state.voted_for
        """Whom this node voted for in ``term``; within a term it changes at most once, from nobody."""
        self.stored_vote = (self.term, self.voted_for)
        """Term and vote as last handed out to be stored."""
        self.snapshot = snapshot
        """The latest one, kept to be sent to followers. ``log.base_index <= snapshot.index <= applied_index``
        once the driver has taken a received one over."""
        self.log = _restored_log(snapshot, entries)
        self.configurations = ConfigurationHistory(start, snapshot.configuration if snapshot else configuration)
        """Mirrors the CONFIGURATION entries of the log."""
        self.commit_index = max(start, hard_state.commit_index)
        """Known to be committed. Never falls; ``applied_index <= commit_index <= log.last_index``."""
        self.stored_commit = hard_state.commit_index
        """The commit index as last handed out to be stored; ``<= commit_index``."""
        self.applied_index = start if applied_index is None else applied_index
        """Applied by the driver, who says so in ``advance``. Never falls."""
        self.incoming: IncomingSnapshot | None = None
        """Only while a follower: a snapshot of which not all has come."""
        self.restored: Snapshot | None = None
        """A received snapshot that the driver has yet to take over; then it is ``snapshot`` too."""

        self.role = Role.FOLLOWER
        self.leader_id = NOBODY
        """Who leads in ``term``, as far as is known; itself if and only if ``role`` is LEADER."""
        self.announced_role = (self.role, self.term, self.leader_id)
        """Role, term and leader as last reported by a Ready."""
        self.votes: dict[int, bool] = {}
        """Of candidates and pre-candidates: who answered what; the first answer of a node counts."""
        self.ticks = 0
        """All time that this core knows."""
        self.election_elapsed = 0
        """Ticks since a leader was heard, a vote was given, or a campaign began; of a voter that does not
        lead, below ``election_timeout``."""
        self.election_timeout = 0
        """``election_ticks <= election_timeout < 2 * election_ticks``, drawn anew for each wait."""

        self.progress: dict[int, Progress] = {}
        """Of a leader: every other member; else empty."""
        self.due: set[int] = set()
        """Followers to whom something unicast may be sent; looked through once a Ready."""
        self.heartbeat_elapsed = 0
        """Of a leader: ticks since the last heartbeat."""
        self.round = 0
        """The last number given to a message to followers. Never falls."""
        self.broadcast_index = 0
        """Of a leader: what was said to followers in step reaches to here. ``<= log.last_index``."""
        self.broadcast_commit = 0
        """Of a leader: the commit index that the last broadcast carried. ``<= commit_index``."""
        self.broadcast_due = False
        """Of a leader: a broadcast must go out, even without entries."""
        self.term_start_index = 0
        """Of a leader: its no-op. Once that is committed, ``commit_index`` is not stale (section 6.4)."""
        self.transfer_target = NOBODY
        """Of a leader: who shall lead instead; no proposals are taken meanwhile."""
        self.transfer_elapsed = 0
        """Ticks since that began."""

        self.requested_reads: list[tuple[int, int]] = []
        """Of a leader: reads that no round has been started for; ``(asking node, context)``."""
        self.read_batches: deque[ReadBatch] = deque()
        """Of a leader: reads that wait for a quorum to answer their round, rounds rising."""
        self.forwarded_reads: dict[int, int] = {}
        """Of a follower: reads that it asked its leader about, and the tick when it did, oldest first."""
        self.done_reads: list[tuple[int, int]] = []
        """``(context, index)``, for the next Ready."""
        self.failed_reads: list[int] = []
        """Contexts, for the next Ready."""

        self.send_now: list[Message] = []
        """Promise nothing that is not stored yet."""
        self.send_stored: list[Message] = []
        """Must not leave before this turn's writes are stored."""
        for entry in self.log.slice(max(start, self.log.base_index) + 1, self.log.last_index, 1 << 62):
            if entry.kind == EntryKind.CONFIGURATION:
                self.configurations.append(entry.index, Configuration.decode(entry.data))

    @property
    def configuration(self) -> Configuration:
        """The one in effect: the latest in the log."""
        return self.configurations.current

    @property
    def is_voter(self) -> bool:
        """Whether this node may vote for itself."""
        return self.node_id in self.configuration.voters

    @property
    def is_learner(self) -> bool:
        """Whether this node only listens: it is a learner or no member at all."""
        return not self.is_voter

    @property
    def may_lead(self) -> bool:
        """Whether this node may campaign: as a voter, or as one that may yet turn out not to be removed.

        Of two servers, the one that appended its own removal and crashed may be the only one that can be
        elected (section 4.2.2)."""
        index = self.configurations.current_index
        return self.is_voter or (index > self.commit_index and self.node_id in self.configurations.at(index - 1).voters)

    @property
    def has_committed_in_term(self) -> bool:
        """Of a leader: whether an entry of its own term is committed."""
        return self.commit_index >= self.term_start_index

    @property
    def first_index(self) -> int:
        """The oldest entry kept, if any is."""
        return self.log.base_index + 1

    @property
    def last_index(self) -> int:
        """The end of the log, stored or not."""
        return self.log.last_index

    @property
    def log_bytes(self) -> int:
        """About how much memory the entries kept take."""
        return self.log.size_bytes

    def draw_election_timeout(self) -> None:
        """Start a new wait, as long as chance will have it (section 3.4)."""
        ticks = self.settings.election_ticks
        self.election_elapsed = 0
        self.election_timeout = self.rng.randrange(ticks, 2 * ticks)

    def next_round(self) -> int:
        """A number for one more message to followers."""
        self.round += 1
        return self.round


def _restored_log(snapshot: Snapshot | None, entries: Sequence[Entry]) -> Log:
    """The log of a node that starts again.

    Entries from before the snapshot may be kept for slow followers. The first of them becomes the base: of
    what comes before it not even the term is known."""
    base = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    if not entries or entries[-1].index < base[0]:
        return Log(*base)
    first = entries[0]
    assert first.index <= base[0] + 1, f"entries from {first.index} leave a gap after the snapshot at {base[0]}"
    if first.index == base[0] + 1 or first.index == 1:
        return Log(first.index - 1, base[1] if first.index > 1 else 0, entries)
    return Log(first.index, first.term, entries[1:])
