"""One group's share of a node, without I/O: sessions, the state machine, and the replica that drives a replication.

This package ties two pure packages together. ``raft`` knows entries and no orders, ``market`` knows orders and no log.
Here a committed entry becomes a batch of commands, applied exactly once, with an answer for the client that sent it.

Rules: no socket, no file, no clock, no thread. Time comes in as ticks; storage and sending are calls to a
:class:`Journal` and a :class:`Driver`, which the node implements with LMDB and ZeroMQ and the simulator with a seed. So
a simulated crash can fall between any two effects of the code that production runs.

Modules, in reading order:

* :mod:`~zmqlab.replica.sessions`: each client's answered requests (Raft thesis, section 6.3), bounded.
* :mod:`~zmqlab.replica.execution`: which exchange executes requests, the compiled one or the one in Python.
* :mod:`~zmqlab.replica.machine`: the replicated state machine: sessions, exchange, hash chain.
* :mod:`~zmqlab.replica.journal`: what must survive, as an interface, and a journal in memory.
* :mod:`~zmqlab.replica.replication`: the seam: how a group copies its log, and when an answer may be given.
* :mod:`~zmqlab.replica.raft_by_quorum`: its implementation by Raft, the messages that it refuses, and the policy of
  membership: which nodes are taken in, promoted and let go.
* :mod:`~zmqlab.replica.leader_answers`: Raft, answered before the quorum.
* :mod:`~zmqlab.replica.primary_backup`: a primary and its backups: no votes, failover by a time-out.
* :mod:`~zmqlab.replica.broadcast`: no agreement at all.
* :mod:`~zmqlab.replica.replications`: all of these by name, with what each promises; a person's own among them.
* :mod:`~zmqlab.replica.snapshotting`: when a snapshot is taken; how it is made, received and hashed, a slice a turn.
* :mod:`~zmqlab.replica.waiting_reads`: queries that wait until the state may be read linearizably.
* :mod:`~zmqlab.replica.driver`: what a replica asks of its node, and its bounds.
* :mod:`~zmqlab.replica.replica`: the Ready contract turned into effects; the requests that wait for an answer.
* :mod:`~zmqlab.replica.sealed_records`: the records of a journal: bytes with a checksum, and back.
* :mod:`~zmqlab.replica.record_journal`: the journal on disk without the disk itself: records, checksums, forgetting.
"""

from zmqlab.replica.driver import Driver, ReplicaSettings
from zmqlab.replica.journal import Hosted, Journal, MemoryJournal, Origin, StoredState
from zmqlab.replica.machine import Applied, StateMachine
from zmqlab.replica.raft_by_quorum import Members, RaftByQuorum
from zmqlab.replica.replica import Replica
from zmqlab.replica.replication import Change, MakeReplication, Replication, Start
from zmqlab.replica.sessions import Session, SessionTable

__all__ = [
    "Applied",
    "Change",
    "Driver",
    "Hosted",
    "Journal",
    "MakeReplication",
    "Members",
    "MemoryJournal",
    "Origin",
    "RaftByQuorum",
    "Replica",
    "ReplicaSettings",
    "Replication",
    "Session",
    "SessionTable",
    "Start",
    "StateMachine",
    "StoredState",
]
