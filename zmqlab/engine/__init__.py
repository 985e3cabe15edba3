"""A whole node without I/O: everything that a node decides, in one place that a simulator can run.

An :class:`Engine` is told what arrived (frames, answers, signals) and what time it is, and calls its effects: send,
publish, reply, connect, subscribe, ask, store. The node's process (:mod:`zmqlab.node`) wraps it in sockets and files,
the simulator (:mod:`zmqlab.sim`) in virtual ones. Both run exactly this code.

Rules: no socket, no file, no thread, no clock of its own (one is handed in), no global chance. A frame that does not
make sense raises FrameError inside, is counted, and changes nothing.

In reading order:

* :mod:`~zmqlab.engine.effects`: what an engine asks of the process around it.
* :mod:`~zmqlab.engine.engine`: the front: what comes in, the turn, time, the groups.
* :mod:`~zmqlab.engine.first_start`: what a node without a journal is, and whether there is a cluster already.
* :mod:`~zmqlab.engine.group_founding`: which groups a node of a cluster with shards holds.
* :mod:`~zmqlab.engine.design`: what a group is made of, and what it is told of its node.
* :mod:`~zmqlab.engine.group`: one group's share of a node: where frames go, answers of a turn, trades, events.
* :mod:`~zmqlab.engine.leader_balance`: who should lead a group, and how leadership goes there.
* :mod:`~zmqlab.engine.permissions`: which role each frame and query needs, whose a session is, and which symbols a
  group takes.
* :mod:`~zmqlab.engine.peers`: which nodes are members, where they are, whose frames count; the connections to them.
* :mod:`~zmqlab.engine.lifecycle`: how a node joins, moves, and finds out that it was removed.
* :mod:`~zmqlab.engine.placing`: which nodes a cluster with shards has, and which groups each is to hold.
* :mod:`~zmqlab.engine.following`: how the members of a group follow that.
* :mod:`~zmqlab.engine.hosting`: which groups a node holds, opened and closed as the roster has it.
* :mod:`~zmqlab.engine.departure`: how a node leaves its groups and its cluster, and how it ends.
* :mod:`~zmqlab.engine.answers`: queries of people and tools, and their answers.
* :mod:`~zmqlab.engine.link_faults`: links that are cut, late or lossy on demand.
* :mod:`~zmqlab.engine.status`: counters, and the snapshot that a node publishes.
* :mod:`~zmqlab.engine.tracing`: what a group tells of its messages and steps while it is traced.
"""

from zmqlab.engine.design import Design
from zmqlab.engine.effects import Effects, Vitals
from zmqlab.engine.engine import Engine
from zmqlab.engine.group import Group

__all__ = ["Design", "Effects", "Engine", "Group", "Vitals"]
