"""All that one node's Raft core holds: the settings, and one class of plain fields, each with its invariant.

The other modules of the package are the behaviour: one concept each, as functions over a :class:`RaftState`. This
module decides nothing. :mod:`~zmqlab.raft.invariants` checks what must hold between the fields, and
:class:`~zmqlab.raft.core.Raft` is the front that a driver talks to.

Time is counted in ticks; the driver decides how long a tick is. The thesis (section 3.9) wants the time of a broadcast
an order of magnitude below the election time-out. Here that is ``heartbeat_ticks`` against ``election_ticks``: several
heartbeats may be lost before a node campaigns.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import Enum, auto
from io import BytesIO
from typing import NamedTuple

from zmqlab.errors import SettingsError
from zmqlab.raft.configuration import Configuration, ConfigurationHistory, quorum_value
from zmqlab.raft.log import Log
from zmqlab.raft.messages import CONFIGURATION, NOBODY, Entry, EntryKind, HardState, Message, RequestVote, Snapshot
from zmqlab.raft.progress import Progress


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """The settings of one core. All members of a group should have the same ones.

    Raises:
        SettingsError: a number is no integer of at least 1, or a heartbeat takes as long as an election time-out.
    """

    election_ticks: int = 15
    """The minimum election time-out: each time-out is drawn from ``[election_ticks, 2 * election_ticks)``. For as long
    a node refuses its vote after it heard a leader, and a leader that hears no quorum for as long steps down."""
    heartbeat_ticks: int = 4
    """Ticks between the heartbeats of a leader that has nothing else to send."""
    max_append_bytes: int = 1_048_576
    """About how many bytes of entries one AppendEntries carries. A single larger entry travels alone."""
    max_inflight: int = 8
    """How many unicast AppendEntries may be under way to one follower that is catching up."""
    max_apply_bytes: int = 262_144
    """About how many bytes of committed entries one Ready hands out, so that a restart replays its log in portions:
    6,000 orders are some 80 ms of work, well below an election time-out."""
    snapshot_chunk_bytes: int = 131_072
    """How many bytes of a snapshot one InstallSnapshot carries. A follower restores them at once: 4 ms of work."""
    store_first: bool = True
    """Whether a leader may store its entries before it sends them, and so spare its followers a notice of the commit.
    Right where a write takes microseconds. Where it takes milliseconds, all nodes should rather write at the same
    time."""
    beats_in_step: bool = False
    """Whether a leader counts the ticks to its first heartbeat from the node's start, and not from its election. So
    those of several groups of a node, which start together, are due in the same tick."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type != "bool" and (not isinstance(value, int) or value < 1):
                raise SettingsError(f"{field.name} is {value!r}, but must be an integer of at least 1")
        if self.heartbeat_ticks >= self.election_ticks:
            raise SettingsError(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be below election_ticks {self.election_ticks}"
            )


class Role(Enum):
    """What a node is at the moment. A learner is a follower that is not among the voters."""

    FOLLOWER = auto()
    PRE_CANDIDATE = auto()
    CANDIDATE = auto()
    LEADER = auto()


FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER = Role
"""The roles by plain names, for what runs in each turn: ``Role.LEADER`` takes 0.2 µs in Python 3.11, ``LEADER`` none.
The same holds for the kinds of entries and the states of followers."""


class ReadBatch(NamedTuple):
    """Reads that one round of a leader's messages will confirm."""

    round: int
    """An answer to this round or to a later one was given after the reads began."""
    read_index: int
    """No node had committed more than this when the round was sent."""
    reads: list[tuple[int, int]]
    """``(asking node, context)``."""


class IncomingSnapshot:
    """The chunks of a snapshot that have arrived so far, joined as they come."""

    __slots__ = ("data", "source")

    def __init__(self, source: tuple[int, int, int, int]) -> None:
        self.source = source
        """``(sender, term, snapshot index, snapshot term)``: chunks of different sources are never joined."""
        self.data = BytesIO()

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self.data.tell()


class RaftState:
    """The fields of one Raft core. Only the functions of this package change them."""

    node_id: int
    """Positive. A node that lost its journal must not use its id again: it has forgotten its votes."""
    settings: RaftSettings
    rng: random.Random

    # Stored state, and the log and snapshots in memory.

    term: int
    """Never falls."""
    voted_for: int
    """The candidate that got this node's vote in ``term``. It changes at most once in a term, from NOBODY."""
    stored_vote: tuple[int, int]
    """Term and vote as last handed out to be stored."""
    snapshot: Snapshot | None
    """The latest snapshot, kept for followers that need it. ``log.base_index <= snapshot.index <= applied_index``, once
    the driver has taken over a received one."""
    log: Log
    configurations: ConfigurationHistory
    """Mirrors the CONFIGURATION entries of the log."""
    commit_index: int
    """Known to be committed. Never falls; ``applied_index <= commit_index <= log.last_index``."""
    stored_commit: int
    """The commit index as last handed out to be stored; ``<= commit_index``."""
    applied_index: int
    """Applied by the driver, as it says in ``advance``. Never falls."""
    countable_index: int
    """Of a follower: the leader of ``term`` has stored its log up to here, and this node's log is the same up to here;
    0: the leader has not said so. ``<= log.last_index``."""
    incoming: IncomingSnapshot | None
    """Of a follower: a snapshot that has arrived in part."""
    restored: Snapshot | None
    """A received snapshot that the driver has not taken over yet; then ``snapshot`` is the same one."""

    # Role and election.

    role: Role
    leader_id: int
    """The leader of ``term`` as far as this node knows; this node itself if and only if ``role`` is LEADER."""
    announced_role: tuple[Role, int, int]
    """Role, term and leader as the last Ready reported them."""
    votes: dict[int, bool]
    """Of candidates and pre-candidates: the answer of each voter. A voter's first answer counts."""
    ticks: int
    """The only time that this core knows."""
    election_elapsed: int
    """Ticks since this node heard a leader, gave a vote or began a campaign. Below ``election_timeout`` for a voter
    that does not lead."""
    election_timeout: int
    """``election_ticks <= election_timeout < 2 * election_ticks``, drawn anew for each wait. It is shorter, but at
    least 1, while ``early_tries`` says so."""
    early_tries: int
    """Of a voter that saw its leader's process end: pre-votes that it may still hold without waiting for a time-out. 0
    once it follows, votes for, or is, another leader."""
    early_due: int
    """Before this tick the end of a leader's process is not believed again."""
    unanswered: dict[int, tuple[int, RequestVote]]
    """Of a follower that hears its leader: voter -> tick and request of the last pre-vote of it that was ignored. Empty
    for all other roles."""
    accepted_at: int
    """Of a follower: the tick at which it last took entries, a heartbeat or a part of a snapshot of a leader, and did
    not refuse it; 0 if it never did. A node that was removed can hear a leader, but its log does not fit."""

    # What a leader knows of its followers.

    progress: dict[int, Progress]
    """Of a leader: every other member. Empty for all other roles."""
    due: set[int]
    """Followers that may get a unicast; each Ready looks through them once."""
    heartbeat_elapsed: int
    """Of a leader: ticks since the last heartbeat."""
    round: int
    """The number of the last message to followers that is to be answered. Never falls."""
    broadcast_index: int
    """Of a leader: followers in step were sent the log up to here. ``<= log.last_index``."""
    broadcast_commit: int
    """Of a leader: the commit index in the last broadcast. ``<= commit_index``."""
    claimed_index: int
    """Of a leader: it has told its followers that it has stored its log up to here, and so they may have committed
    that. Never falls in a term. ``<= log.last_index``; ahead of ``log.stored_index`` only between a Ready and
    ``advance``."""
    broadcast_due: bool
    """Of a leader: a broadcast must go out, even without entries."""
    waiting: dict[int, int]
    """Of a leader: follower -> it waits until it knows that the log is committed up to here. Empty for all
    other roles."""
    term_start_index: int
    """Of a leader: the index of its no-op. Once that is committed, ``commit_index`` is not stale (section 6.4)."""
    transfer_target: int
    """Of a leader: the voter that shall lead instead. No proposals are taken meanwhile."""
    transfer_elapsed: int
    """Ticks since the transfer began."""

    # Reads.

    requested_reads: list[tuple[int, int]]
    """Of a leader: reads without a round yet; ``(asking node, context)``."""
    read_batches: deque[ReadBatch]
    """Of a leader: reads that wait for a quorum to answer their round. Rounds rise."""
    forwarded_reads: dict[int, int]
    """Of a follower: context -> tick of each read that it asked its leader about, oldest first."""
    done_reads: list[tuple[int, int]]
    """``(context, index)``, for the next Ready."""
    failed_reads: list[int]
    """Contexts, for the next Ready."""

    # Messages for the next Ready.

    send_now: list[Message]
    """They promise nothing that is not stored yet."""
    send_stored: list[Message]
    """They must not leave before this turn's writes are stored."""

    __slots__ = tuple(__annotations__)  # makes the simulator 5 % faster, and a misspelt field an error

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
        self.node_id, self.settings, self.rng = node_id, settings, rng
        self._restore(configuration, hard_state or HardState(0, NOBODY, 0), snapshot, entries, applied_index)
        self._begin_as_follower()
        self._reset_leadership()
        self.requested_reads, self.read_batches, self.forwarded_reads = [], deque(), {}
        self.done_reads, self.failed_reads = [], []
        self.send_now, self.send_stored = [], []

    def _restore(
        self,
        configuration: Configuration,
        hard_state: HardState,
        snapshot: Snapshot | None,
        entries: Sequence[Entry],
        applied_index: int | None,
    ) -> None:
        """Take over what was stored."""
        start = snapshot.index if snapshot else 0
        self.term, self.voted_for = hard_state.term, hard_state.voted_for
        self.stored_vote = (self.term, self.voted_for)
        self.snapshot, self.restored, self.incoming = snapshot, None, None
        self.countable_index = 0
        self.log = _restored_log(snapshot, entries)
        self.configurations = ConfigurationHistory(start, snapshot.configuration if snapshot else configuration)
        self.follow_configurations(self.log.slice(max(start, self.log.base_index) + 1, self.log.last_index, 1 << 62))
        self.commit_index = max(start, hard_state.commit_index)
        self.stored_commit = hard_state.commit_index
        self.applied_index = start if applied_index is None else applied_index

    def _begin_as_follower(self) -> None:
        """The role of every node that starts."""
        self.role, self.leader_id = FOLLOWER, NOBODY
        self.announced_role = (self.role, self.term, self.leader_id)
        self.votes = {}
        self.ticks = self.election_elapsed = self.election_timeout = self.accepted_at = 0
        self.early_tries = self.early_due = 0
        self.unanswered = {}

    def _reset_leadership(self) -> None:
        """The fields of a leader, as they are while this node does not lead."""
        self.progress, self.due = {}, set()
        self.heartbeat_elapsed = self.round = 0
        self.broadcast_index = self.broadcast_commit = self.claimed_index = self.term_start_index = 0
        self.broadcast_due = False
        self.waiting = {}
        self.transfer_target, self.transfer_elapsed = NOBODY, 0

    @property
    def configuration(self) -> Configuration:
        """The configuration in effect: the latest in the log."""
        return self.configurations.current

    @property
    def is_voter(self) -> bool:
        """Whether this node may vote for itself."""
        return self.node_id in self.configuration.voters

    @property
    def is_learner(self) -> bool:
        """Whether this node does not vote: it is a learner or no member at all."""
        return not self.is_voter

    @property
    def may_lead(self) -> bool:
        """Whether this node may campaign: it votes, or its removal is not committed and may still be taken back.

        Of two servers, the one that appended its own removal and crashed may be the only one that can be elected
        (section 4.2.2)."""
        index = self.configurations.current_index
        return self.is_voter or (index > self.commit_index and self.node_id in self.configurations.at(index - 1).voters)

    @property
    def has_committed_in_term(self) -> bool:
        """Of a leader: whether an entry of its own term is committed."""
        return self.commit_index >= self.term_start_index

    def stored_by_enough(self) -> int:
        """Of a leader: the last index that enough nodes have stored, which is a quorum of the voters (section 3.6).

        The leader's own copy counts only as far as it is stored. A replication that wants more overrides this, and
        its followers do not count by themselves (``store_first`` is off).
        """
        progress, own = self.progress, self.node_id
        stored = [
            self.log.stored_index if voter == own else progress[voter].match_index
            for voter in self.configuration.voters
        ]
        return quorum_value(stored)

    @property
    def first_index(self) -> int:
        """The index of the oldest entry kept, if one is kept."""
        return self.log.base_index + 1

    @property
    def last_index(self) -> int:
        """The index of the last entry, stored or not."""
        return self.log.last_index

    @property
    def log_bytes(self) -> int:
        """About how many bytes of memory the kept entries take."""
        return self.log.size_bytes

    def enter_term(self, term: int, voted_for: int) -> None:
        """Enter a later term. What the leader of the former one said of its disk does not count in this one."""
        assert term > self.term
        self.term, self.voted_for = term, voted_for
        self.countable_index = 0

    def draw_election_timeout(self) -> None:
        """Start a new wait of random length (section 3.4)."""
        ticks = self.settings.election_ticks
        self.election_elapsed = 0
        self.election_timeout = self.rng.randrange(ticks, 2 * ticks)

    def append_own(self, datas: Iterable[bytes], kind: EntryKind) -> int:
        """Of a leader: add entries of its term to its log. Returns the index of the first."""
        first_index = self.log.last_index + 1
        self.log.append([Entry(index, self.term, kind, data) for index, data in enumerate(datas, first_index)])
        return first_index

    def follow_configurations(self, entries: Iterable[Entry]) -> None:
        """``entries`` are in the log. The last configuration among them takes effect."""
        for entry in entries:
            if entry.kind == CONFIGURATION:
                self.configurations.append(entry.index, Configuration.decode(entry.data))

    def next_round(self) -> int:
        """The number of one more message to followers."""
        self.round += 1
        return self.round


def _restored_log(snapshot: Snapshot | None, entries: Sequence[Entry]) -> Log:
    """The log of a node that starts again.

    Entries from before the snapshot may be kept for slow followers. The first of them becomes the base, because the
    term of the entry before it is not known."""
    base = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    if not entries or entries[-1].index < base[0]:
        return Log(*base)
    first = entries[0]
    assert first.index <= base[0] + 1, f"entries from {first.index} leave a gap after the snapshot at {base[0]}"
    if first.index == base[0] + 1 or first.index == 1:
        return Log(first.index - 1, base[1] if first.index > 1 else 0, entries)
    return Log(first.index, first.term, entries[1:])
