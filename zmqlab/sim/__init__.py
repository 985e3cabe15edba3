"""A whole cluster in one process, under one seed and in virtual time, with everything that can go wrong.

``run(seed)`` plays a cluster of 1 to 9 nodes, its clients and its operator through random faults, then heals it and
requires progress. The replica, the journal, the state machine, Raft and the encoding of every frame are the production
ones; simulated are only what surrounds them. The same seed gives the same run, in every process and on every machine.

* :mod:`~zmqlab.sim.simulation`: time, the two phases, the outcome.
* :mod:`~zmqlab.sim.plan`: what a person wishes, and what a seed draws.
* :mod:`~zmqlab.sim.network`, :mod:`~zmqlab.sim.disk`, :mod:`~zmqlab.sim.process`: what a node has around it.
* :mod:`~zmqlab.sim.clients`: who asks. :mod:`~zmqlab.sim.operator`: who adds, removes and replaces nodes.
  :mod:`~zmqlab.sim.faults`: what breaks. :mod:`~zmqlab.sim.outage`: a minority that stays away.
* :mod:`~zmqlab.sim.checkers`, :mod:`~zmqlab.sim.histories`, :mod:`~zmqlab.sim.rules`: no damage is done.
* :mod:`~zmqlab.sim.causes`, :mod:`~zmqlab.sim.raft_rules`: no step breaks a rule of Raft.
* :mod:`~zmqlab.sim.mutations`: bugs to plant, each of which must be found.
* :mod:`~zmqlab.sim.many`: all cores. :mod:`~zmqlab.sim.trace`: one run for tools.
"""

from zmqlab.sim.plan import SimSettings
from zmqlab.sim.simulation import Outcome, run

__all__ = ["Outcome", "SimSettings", "run"]
