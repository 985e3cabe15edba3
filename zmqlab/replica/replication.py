"""The seam between a replica and the way in which its group copies the log.

A :class:`~zmqlab.replica.replica.Replica` owns the state machine, the journal and the requests that wait for an
answer. It does not know how the nodes agree. It drives a :class:`Replication`: it hands in what has arrived (requests,
messages, ticks, reads), takes one :class:`~zmqlab.raft.Ready` after the other, carries out its effects in the order
that the Ready prescribes, and gives an answer to a client as soon as the entry of the request is applied here *and*
:attr:`Replication.answerable_index` has reached it.

So a replication decides four things: who takes requests, what is sent and stored and in which order, what may be
applied, and when an answer may be given. :class:`~zmqlab.replica.raft_by_quorum.RaftByQuorum` is the default: Raft,
with an answer after a majority has stored the entry. Others promise less and are faster, or are there to be seen
failing; :mod:`zmqlab.replica.replications` knows them all by name, and takes a person's own.

Rules: a replication does no I/O and knows no clock, as :mod:`zmqlab.raft`. It trusts nothing that it has not checked:
:meth:`Replication.expect` refuses a message that no node can have sent that keeps the protocol.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from zmqlab.raft import Configuration, IncomingSnapshot, Message, Progress, RaftSettings, Ready, Role, Snapshot
from zmqlab.raft.messages import NOBODY
from zmqlab.replica.journal import StoredState

MAX_MEMBERS = 15
"""The largest group: its leader sends every entry to each member."""


class Change(Enum):
    """How far a change of the members is. The values are what a person is told."""

    DONE = "done"
    """It is committed."""
    UNDER_WAY = "under way"
    """Ask again: it waits for an entry, for a learner to catch up, or for another change."""
    NOT_LEADER = "not leader"
    """Ask the leader."""
    ADDRESS_TAKEN = "another member has this address: remove that one first"
    LAST_VOTER = "this is the last voter"
    FULL = f"the group has {MAX_MEMBERS} members, and more are not taken: remove one first"
    NO_QUORUM = "too few of the others are in reach: it would leave no majority"
    PLACED = (
        "this group is to have a replica there: let the whole node go, by cluster.remove(name) or zmqlab remove, or by"
        " SIGTERM to a node with --leave"
    )
    TOO_FEW_COPIES = "the groups have too few copies for one more node to hold one: found a cluster with more shards"
    FIXED = "this group keeps its founders: its replication has no way to agree on others"


class Start(NamedTuple):
    """What a replication begins with when its node starts."""

    node_id: int
    founders: Configuration
    """The members at the first start of the group. A later configuration in ``stored`` takes its place."""
    stored: StoredState
    settings: RaftSettings
    rng: random.Random


class Replication(Protocol):
    """How one group copies its log; see the module. One replica owns it and calls it from one thread."""

    # What is known. All of it may be read at any time.

    @property
    def node_id(self) -> int: ...
    @property
    def role(self) -> Role: ...
    @property
    def term(self) -> int:
        """Never falls. A change of the leader raises it."""

    @property
    def leader_id(self) -> int:
        """The node that takes requests now, as far as is known; NOBODY if none is known."""

    @property
    def ticks(self) -> int:
        """Ticks since this node started."""

    @property
    def accepted_at(self) -> int:
        """The tick at which a leader's word last fitted this node's log; 0 if none did. A node that leads hears
        none."""

    @property
    def election_ticks(self) -> int:
        """After so many ticks of silence a leader counts as gone."""

    @property
    def election_timer(self) -> tuple[int, int]:
        """(ticks until this node tries to lead if it hears no leader meanwhile, ticks that this wait is long in all);
        (0, 0) if it waits for none, as a leader and a learner do. For displays."""

    @property
    def configuration(self) -> Configuration:
        """The members in effect. The same object as long as nothing has changed."""

    @property
    def configuration_index(self) -> int:
        """The index of the entry that brought :attr:`configuration`; 0 for the founders'."""

    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def log_bytes(self) -> int: ...
    @property
    def answerable_index(self) -> int:
        """Up to here an applied entry may be answered. Never falls."""

    @property
    def followers(self) -> Mapping[int, Progress]:
        """Of a leader: what it knows of every other member. Elsewhere empty."""

    @property
    def incoming(self) -> IncomingSnapshot | None:
        """The chunks of a snapshot that has arrived in part."""

    def members_at(self, index: int) -> Configuration:
        """The members by the log up to ``index``."""
        ...

    # What comes in.

    def propose(self, datas: Sequence[bytes]) -> int:
        """Append one entry for each of ``datas``. Returns the index of the first, or 0 if this node may not now."""
        ...

    def await_commit(self, node_id: int) -> None:
        """Of a leader: ``node_id`` has passed on requests that are in the log by now, and is to know at once when they
        may be applied."""
        ...

    def expect(self, message: Message) -> None:
        """Raise FrameError if no node that keeps the protocol can have sent ``message``, by all that is known here."""
        ...

    def step(self, message: Message) -> None:
        """Handle one message."""
        ...

    def tick(self) -> None:
        """Let one tick of time pass."""
        ...

    def read_index(self, context: int) -> None:
        """Ask up to which index to apply before a read; a Ready brings ``context`` back."""
        ...

    # What is to be done: the Ready contract of :mod:`zmqlab.raft`.

    def is_ready(self) -> bool: ...
    def ready(self) -> Ready: ...
    def advance(self, ready: Ready) -> None: ...

    # Snapshots.

    def make_snapshot(self, data: bytes) -> Snapshot:
        """A snapshot at :attr:`applied_index`, of which the state machine's part is ``data``."""
        ...

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """Drop the log up to the snapshot's end, but for ``keep_entries``."""
        ...

    def forget_incoming(self) -> None:
        """What has arrived of a snapshot is of no use: ask for all of it again."""
        ...

    # Leadership and members. A call that returns a Change states the wanted end and says how far it is; its caller
    # repeats it until it is DONE.

    def campaign(self) -> None:
        """Try to lead now."""
        ...

    def lose_leader(self) -> bool:
        """The leader's process has ended, as far as connections tell. Returns whether this node acts on it, instead of
        waiting until the leader has been silent for long enough."""
        ...

    def add_member(self, node_id: int, address: str, elsewhere: Collection[int] = ()) -> Change: ...
    def remove_member(self, node_id: int) -> Change: ...
    def set_roster(self, roster: bytes) -> Change:
        """Have the group agree on this roster (:attr:`zmqlab.raft.Configuration.roster`)."""
        ...

    def hand_over(self, target: int = NOBODY) -> bool:
        """Begin to hand leadership to ``target``, or to the best follower. False: not possible now."""
        ...


MakeReplication = Callable[[Start], Replication]
"""Makes the replication of a node that starts."""
