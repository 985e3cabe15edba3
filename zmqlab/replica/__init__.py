"""One Raft group's share of a node, sans I/O: sessions, the state machine, and the replica that drives Raft.

This layer ties the two pure ones together. ``raft`` knows entries and no orders, ``market`` knows orders and no log;
here a committed entry becomes a batch of commands, applied exactly once, with an answer for the client that sent it.
Rules: no socket, no file, no clock, no thread. Time comes in as ticks, storage and sending are calls to a
:class:`Driver` that the node (:mod:`zmqlab.node`) implements with LMDB and ZeroMQ and the simulator with a seed. So a
simulated crash can fall between any two effects of the code that production runs.

* :mod:`~zmqlab.replica.sessions`: each client's answered requests (Raft thesis, section 6.3), bounded.
* :mod:`~zmqlab.replica.machine`: the replicated state machine: sessions, exchange, hash chain.
* :mod:`~zmqlab.replica.replica`: Raft's ``Ready`` turned into effects; who waits for which answer.
* :mod:`~zmqlab.replica.members`: who is taken in, promoted and let go.
* :mod:`~zmqlab.replica.journal`: what must survive, as an interface, and a journal in memory.
* :mod:`~zmqlab.replica.record_journal`, :mod:`~zmqlab.replica.sealing`: the journal on disk, but for the disk.
"""

from zmqlab.replica.journal import Journal, MemoryJournal, Origin, StoredState
from zmqlab.replica.machine import Applied, StateMachine
from zmqlab.replica.members import Change, Members
from zmqlab.replica.replica import Driver, Replica, ReplicaSettings
from zmqlab.replica.sessions import Session, SessionTable

__all__ = [
    "Applied",
    "Change",
    "Driver",
    "Journal",
    "Members",
    "MemoryJournal",
    "Origin",
    "Replica",
    "ReplicaSettings",
    "Session",
    "SessionTable",
    "StateMachine",
    "StoredState",
]
