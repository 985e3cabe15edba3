"""Raft consensus without any input or output: a core that is told what happened and says what to do next.

What consensus is for
---------------------
Every node holds the same order books. They stay the same if every node executes the same commands in the same order,
because the exchange is deterministic. Consensus gives that order: one log, of which all nodes agree on every entry that
counts, even while messages get lost, processes die and links break. The group serves as long as a majority of the
voters is alive and connected. It never answers wrongly, however few are alive.

"Thesis" below is Diego Ongaro, *Consensus: Bridging Theory and Practice* (Stanford, 2014). Names and section numbers in
this package are from there.

Rules
-----
* The core knows no clock, socket, thread, file or global random generator. Time comes as ``tick()``, chance as a
  ``random.Random`` that the driver hands in, messages as values through ``step()``. A node's process and a simulation
  of a whole cluster under one seed run exactly this code, and the same calls give the same answers.
* It imports the standard library and the project's errors, and nothing else.
* A *call that is not legal now* (a proposal to a follower) returns a falsy value and leaves the state untouched.
* A *broken invariant* is an ``AssertionError``. The node must stop, because going on could spread a wrong state. Each
  field states its invariant where it is defined, in :mod:`~zmqlab.raft.state` and :mod:`~zmqlab.raft.progress`;
  :mod:`~zmqlab.raft.invariants` checks them.

How a driver runs it
--------------------
The driver is the code around the core: it owns the sockets, the disk and the state machine. It calls these at any
time::

    step(message)   tick()   propose(datas)   read_index(context)   campaign()   transfer_leadership(target)

Then, as long as ``is_ready()``, it takes one :class:`Ready` after the other and carries it out in this order::

    1. send   ready.send_now                            nothing in it depends on this node's disk
    2. store  ready.hard_state, .snapshot, .entries     in one transaction
    3. send   ready.send_stored                         votes and answers: promises about what was just stored
    4. apply  ready.snapshot, .committed; serve .reads
    5. raft.advance(ready)

The order is the heart of it. A vote that is sent before it is stored can be given twice: once before a crash and once
after it. An entry that is acknowledged before it is stored can be lost after it was committed.

A leader's own entries go out in step 3 if its message says that it has stored them, so that followers may count its
copy. Otherwise they go out in step 1 (section 10.2.1): then only the leader counts its copy, in step 5. While the term
itself is not stored yet, all messages wait for step 2.

Nothing becomes a message before ``ready()``. So all proposals of a turn leave in one AppendEntries, and all reads of a
turn share one round of answers. A batch is what came in since the last turn; no timer delays it.

Terms and logs
--------------
Time is divided into *terms*, numbered 1, 2, 3, ... Each term has at most one *leader*, and only the leader appends to
the log. Every message carries its sender's term. A node that hears of a higher term enters it as a follower (section
3.3).

An entry is known by its index and its term. If two logs hold an entry with the same index and term, they are identical
up to there (*log matching*, section 3.5). An AppendEntries names the entry before its first one; a follower accepts it
only if its own log holds that entry, and otherwise says where the two logs may agree. A follower drops entries only
where they conflict with the leader's.

Commit rule
-----------
An entry is committed once a majority of the voters has stored it *and* it is of the leader's own term; older entries
commit along with it (section 3.6.2, figure 3.7). Counting copies of older entries is not enough: a later leader could
still overwrite them. Therefore a new leader opens its term with an empty entry, the no-op. Nodes apply committed
entries in the order of the log.

The leader counts the answers of its followers. A follower counts two copies: its own, and that of a leader which says
that it has stored its log. In a group of up to three voters that is a majority, and the follower commits in the turn in
which it stores. It waits for no notice of its leader.

Elections
---------
A voter that has heard no leader for a random time-out asks the others for their votes (section 3.4). A node votes once
a term, and only for a candidate whose log is at least as up to date as its own (section 3.6.1). Any two majorities
share a node, so a new leader always has every committed entry.

Two rules protect a working leader. In the *pre-vote* a node first asks whether it would be elected, without entering a
new term (section 9.6). And a node refuses its vote while it hears a leader (section 4.2.3). A third rule protects
clients: with *check-quorum* a leader that has not heard a majority for an election time-out steps down (section 6.2).

How entries travel
------------------
The leader of the thesis speaks with each follower; this one speaks to all at once. New entries go out as *one*
AppendEntries ``to=BROADCAST`` for all followers *in step*: those in REPLICATE whose ``next_index`` is where the
broadcast starts. Their ``next_index`` moves on without waiting for answers (pipelining, section 10.2.2). Other
followers are served by unicast: a probe that looks for the place where the logs agree, the entries that are missing, or
a snapshot in chunks.

A broadcast also reaches followers that are not in step, and unicasts overtake broadcasts. So lost, repeated and
reordered messages are the ordinary case. A follower truncates only at an entry that really conflicts. It commits only
what the message at hand verified, and it answers with what that message verified. The leader tells news from noise by
the *round*: a number that rises with each message that is to be answered, and comes back. A rejection of an earlier
round than the last repair is stale. One lost broadcast therefore costs one repair, however many broadcasts followed it.

Membership
----------
The members are an entry in the log. A new configuration is in effect as soon as it is appended, and a truncation takes
it back (section 4.1). A change adds, removes or promotes one server, so that every majority of the old group shares a
voter with every majority of the new one. The next change waits until the last one is committed. A new server first
receives the log as a *learner* and does not vote (section 4.2.1). A leader that removes itself leads until that is
committed (4.2.2).

Reads
-----
A read needs no log entry (ReadIndex, section 6.4). The leader notes an index that no commit of any node is ahead of,
and lets a majority confirm that it still leads; the read may be answered as soon as that index is applied. A follower
asks its leader for the index. The leader must have committed an entry of its own term first, because before that its
commit index may be stale.

Leadership transfer
-------------------
The leader stops taking proposals, brings the target up to date and tells it to campaign at once (section 3.10). A node
that shuts down hands leadership over this way, and the group is spared an election time-out.

Snapshots
---------
The driver takes a snapshot of its state machine and lets the core drop the log before it (chapter 5). A follower whose
next entry is gone receives the snapshot in chunks, and then the log after it.

Where it departs from the thesis
--------------------------------
* Check-quorum and the refusal of votes while a leader is heard are always on. A message of an older term is therefore
  answered with the newer term. Without that answer a node that got ahead in term could neither rejoin nor win.
* A leader may tell followers what it has stored, and a follower that has stored the same counts both copies. The thesis
  lets only the leader count. A read index is therefore not the leader's commit index but what it has told
  (:mod:`~zmqlab.raft.append_entries`, :mod:`~zmqlab.raft.reads`).
* ``commit_index`` is stored along with other writes. That is not needed for safety; it saves a restarted node a wait.
* The hint in a rejection skips a whole divergent term at a time (end of section 3.5), as in etcd.

What is left out on purpose
---------------------------
* Joint consensus (section 4.3): one server at a time is enough, and simpler.
* Reads by a leader's lease (section 6.4.1): they trust clocks.
* Client sessions (section 6.3): they belong to the state machine, and so to :mod:`zmqlab.replica`.
* A bound on entries that are proposed and not committed: the driver sees ``log_bytes``, ``last_index`` and
  ``commit_index``, and decides which requests have to wait.
* Byzantine nodes.
* A node that *lost* what it had stored. It has forgotten its votes and acknowledgements, so it must come back under a
  new id. Under its old id the leader would not send it again what it once acknowledged.

Modules, in reading order
-------------------------
* :mod:`~zmqlab.raft.messages`: all messages, log entries, and the values that are stored (figure 3.1)
* :mod:`~zmqlab.raft.configuration`: members, voters and quorums, and how they change (chapter 4)
* :mod:`~zmqlab.raft.log`: the log in memory (section 3.5)
* :mod:`~zmqlab.raft.progress`: what a leader knows of one follower (figure 3.1, section 10.2.2)
* :mod:`~zmqlab.raft.state`: the settings, and every field of a core with its invariant (figure 3.1)
* :mod:`~zmqlab.raft.reads`: linearizable reads by ReadIndex (section 6.4)
* :mod:`~zmqlab.raft.election`: terms and roles, pre-vote and votes, check-quorum, leadership transfer (sections 3.3,
  3.4, 3.6.1, 3.10, 4.2.3, 6.2, 9.6)
* :mod:`~zmqlab.raft.snapshots`: compaction, and snapshots in chunks (chapter 5)
* :mod:`~zmqlab.raft.append_entries`: sending, accepting and rejecting entries, learning from answers, commit rule (3.5,
  3.6.2, 10.2)
* :mod:`~zmqlab.raft.invariants`: what must hold between the fields after every call
* :mod:`~zmqlab.raft.core`: the front of it all: a driver's calls in, :class:`Ready` out
"""

from zmqlab.raft.configuration import Configuration, quorum_size, quorum_value
from zmqlab.raft.core import Raft, Ready
from zmqlab.raft.messages import (
    BROADCAST,
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    Snapshot,
    TimeoutNow,
)
from zmqlab.raft.progress import Progress, ProgressState
from zmqlab.raft.state import IncomingSnapshot, RaftSettings, Role

__all__ = [
    "BROADCAST",
    "NOBODY",
    "AppendEntries",
    "AppendEntriesResponse",
    "Configuration",
    "Entry",
    "EntryKind",
    "HardState",
    "IncomingSnapshot",
    "InstallSnapshot",
    "InstallSnapshotResponse",
    "Message",
    "Progress",
    "ProgressState",
    "Raft",
    "RaftSettings",
    "ReadIndex",
    "ReadIndexResponse",
    "Ready",
    "RequestVote",
    "RequestVoteResponse",
    "Role",
    "Snapshot",
    "TimeoutNow",
    "quorum_size",
    "quorum_value",
]
