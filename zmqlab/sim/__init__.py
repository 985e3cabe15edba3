"""A whole cluster in one process, under one seed and in virtual time, with everything that can go wrong.

``run(seed)`` plays a cluster of 1 to 9 nodes, its clients and its operator through random faults, then heals it and
requires progress. A node is production's engine, journal and state machine; a client is production's session. Simulated
are only what surrounds them: clocks, wires and disks. The same seed gives the same run, in every process and on every
machine.

Rules: no clock but the virtual one, no chance but the seed's, no order of a set. A checker knows no fault.

In reading order:

* :mod:`~zmqlab.sim.simulation`: time, the phases, the outcome.
* :mod:`~zmqlab.sim.rest_checks`: what must be so when all is at rest.
* :mod:`~zmqlab.sim.plan`: what a person wishes, and what a seed draws.
* :mod:`~zmqlab.sim.focuses`: plans aimed at one kind of bug.
* :mod:`~zmqlab.sim.world`: what all parts of a run share.
* :mod:`~zmqlab.sim.node_process`: one node's process, around its engine.
* :mod:`~zmqlab.sim.seats`: a node's part in one of several groups.
* :mod:`~zmqlab.sim.network`: links between nodes and clients, and a node's sockets.
* :mod:`~zmqlab.sim.disk`: a disk that may lose what is not flushed, and flip bits.
* :mod:`~zmqlab.sim.clients`: sessions that draw orders, ask again, and check each answer.
* :mod:`~zmqlab.sim.leaving_rule`: which nodes a client's session may leave.
* :mod:`~zmqlab.sim.orders`: what they order, and how much the market holds.
* :mod:`~zmqlab.sim.operator`: adds, removes, replaces and moves nodes.
* :mod:`~zmqlab.sim.placed_operator`: the same where there are several groups.
* :mod:`~zmqlab.sim.adversary`: what breaks, and the minority that stays away.
* :mod:`~zmqlab.sim.checkers`: the damage that must never be seen.
* :mod:`~zmqlab.sim.weak_rules`: what is left to check of a replication that is no Raft by quorum.
* :mod:`~zmqlab.sim.causes`: the steps that would lead to damage.
* :mod:`~zmqlab.sim.raft_rules`: such steps in Raft: votes, storage, creation, commitment.
* :mod:`~zmqlab.sim.hearing_rules`: such steps that a node has not heard enough for.
* :mod:`~zmqlab.sim.node_rules`: what a node owes to its clients and peers.
* :mod:`~zmqlab.sim.first_start_rules`: what a node owes that does not know yet what it is.
* :mod:`~zmqlab.sim.placement_rules`: what holds while the nodes of a cluster with shards come and go.
* :mod:`~zmqlab.sim.watchers`: how the checkers see into a node.
* :mod:`~zmqlab.sim.mutations`: bugs to plant, each of which must be found.
* :mod:`~zmqlab.sim.node_mutations`: more of them, in what a node decides outside of consensus.
* :mod:`~zmqlab.sim.shard_mutations`: more of them, between the groups of a node.
* :mod:`~zmqlab.sim.many`: many seeds on all cores.
* :mod:`~zmqlab.sim.trace`: one run as JSON for tools.
"""

from zmqlab.sim.plan import SimSettings
from zmqlab.sim.simulation import Outcome, run

__all__ = ["Outcome", "SimSettings", "run"]
