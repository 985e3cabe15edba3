"""Raft consensus without any input or output: a core that is told what happened and says what is to be done.

Rules
----- The core knows no clock, socket, thread, file or global random generator. Time comes as ``tick()``,
chance as a ``random.Random`` that is handed in, messages as values through ``step()``. Whoever drives it (a
node's process, or a simulation of a whole cluster under one seed) runs exactly this code, and gets exactly
the same answers from the same calls. It imports the standard library and the project's errors, nothing else.

What goes wrong falls into two kinds. A *call that is not legal now* (a proposal to a follower) returns a
falsy value and leaves the state untouched. A *broken invariant* is an assertion: the node must stop, because
going on could spread a wrong state. Every field says its invariant where it is defined, in
:mod:`~zmqlab.raft.state` and :mod:`~zmqlab.raft.progress`; :mod:`~zmqlab.raft.invariants` checks them.

Theory of operation
------------------- The group keeps a *log*, the same on all nodes as far as it is committed; each node
applies it, in order, to its state machine. Time is divided into *terms*, each with at most one *leader*,
which alone appends. An entry is committed once a majority has stored it in the leader's own term. Any two
majorities share a node, and a node votes only for a candidate whose log is not behind its own; so every later
leader has every committed entry.

A driver calls these, at any time::

    step(message)   tick()   propose(datas)   read_index(context)   campaign()   transfer_leadership(target)

and then, as long as ``is_ready()``, takes one :class:`Ready` after the other and does what it says, in this
order::

    1. send   ready.send_now                            nothing in it depends on this node's disk
    2. store  ready.hard_state, .snapshot, .entries     one transaction
    3. send   ready.send_stored                         votes and answers: promises about what was just stored
    4. apply  ready.snapshot, .committed; serve .reads
    5. raft.advance(ready)

The order is the heart of it. A vote that is sent before it is stored can be given twice, and an entry
acknowledged before it is stored can be lost after it was committed. A leader's own entries may be sent before
they are stored (thesis, section 10.2.1), because the leader counts its own copy only in step 5. The exception
is a term that is itself not stored yet: then everything waits for step 2.

Nothing is a message until ``ready()``: all that was proposed in a turn leaves in one AppendEntries, all reads
of a turn share one round of answers. A batch is what has come in since the last turn; there is no timer for
it.

How entries travel
------------------ The thesis' leader speaks with each follower; this one speaks to all at once. New entries
go out as *one* AppendEntries ``to=BROADCAST``, for all followers *in step*: those in REPLICATE whose
``next_index`` is where the broadcast starts. Their ``next_index`` moves on without waiting for answers
(pipelining, section 10.2.2). Everybody else is served unicast: a probe that looks for where the logs agree,
the entries that are missing, a snapshot in chunks.

Every follower may hear a broadcast, also one that it is not in step with, and unicasts overtake broadcasts.
So lost, repeated and reordered messages are the ordinary case. The follower truncates only at an entry that
really conflicts, commits only what the message at hand verified, and answers with what that message verified.
The leader tells news from noise by the *round*, a number that rises with each message it sends and comes back
in the answer: a rejection of an earlier round than the last repair is stale. One lost broadcast therefore
costs one repair, however many broadcasts were under way behind it.

Where to read on
---------------- ==========================================  ============================================
====================== module                                      what it is
thesis ==========================================  ============================================
====================== :mod:`~zmqlab.raft.messages`                all messages, entries, what is stored
figure 3.1 :mod:`~zmqlab.raft.configuration`           members and quorums                           4.1
:mod:`~zmqlab.raft.log`                     the log in memory                             3.5
:mod:`~zmqlab.raft.progress`                what a leader knows of a follower             figure 3.1, 10.2.2
:mod:`~zmqlab.raft.state`                   every field, with its invariant               figure 3.1
:mod:`~zmqlab.raft.roles`                   terms; follower, candidate, leader            3.3, 4.2.3
:mod:`~zmqlab.raft.election`                pre-vote, votes, becoming leader              3.4, 3.6.1, 9.6
:mod:`~zmqlab.raft.follower`                accepting and rejecting entries               3.5, 3.6
:mod:`~zmqlab.raft.replication`             sending entries, the commit rule              3.5, 3.6.2, 10.2
:mod:`~zmqlab.raft.acknowledgements`        what answers teach the leader; CheckQuorum    3.5, 6.2
:mod:`~zmqlab.raft.reads`                   linearizable reads by ReadIndex               6.4
:mod:`~zmqlab.raft.transfer`                leadership transfer                           3.10
:mod:`~zmqlab.raft.snapshots`               compaction, snapshots in chunks               5
:mod:`~zmqlab.raft.membership`              one server at a time, learners                4.1, 4.2
:mod:`~zmqlab.raft.core`                    the front: calls in, Ready out                figure 3.1
==========================================  ============================================
======================

Where it departs from the thesis
--------------------------------
* A leader steps down when no quorum has answered for an election timeout (section 6.2 suggests it; here it is
  always on), and a follower refuses its vote while it hears a leader (4.2.3, also always on). A message of an
  older term is therefore answered with the newer term, else a node that got ahead could neither join nor win.
* ``commit_index`` is stored along with other writes. It need not be, but it saves a restarted node the wait.
* A rejection's hint skips a whole divergent term at a time (end of section 3.5), as etcd's does.

What is left out, on purpose
----------------------------
* Joint consensus (4.3): one server at a time is enough, and simpler.
* Reads by a leader's lease (6.4.1): they trust clocks.
* Client sessions (6.3): they belong to the state machine, and so to :mod:`zmqlab.replica`.
* Bounding what is proposed but uncommitted: the driver sees ``log_bytes``, ``last_index`` and
  ``commit_index``, and knows better whom to make wait.
* Byzantine nodes. Also a node that *lost* what it had stored: it would have forgotten its votes and
  acknowledgements, so it must come back under a new id. Under its old one it is not repaired by a leader that
  it acknowledged more to.
"""

from zmqlab.raft.configuration import Configuration, quorum_size, quorum_value
from zmqlab.raft.core import Raft
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
from zmqlab.raft.ready import Ready
from zmqlab.raft.settings import RaftSettings
from zmqlab.raft.state import Role

__all__ = [
    "BROADCAST",
    "NOBODY",
    "AppendEntries",
    "AppendEntriesResponse",
    "Configuration",
    "Entry",
    "EntryKind",
    "HardState",
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
