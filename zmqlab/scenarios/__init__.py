"""Scenarios: what happens to a cluster of real processes under load, in which order, and what that cost.

So far there is one, *torture*: everything breaks in turn, from a seed, and every promise is checked at the end.

This package decides when faults strike and whether the cluster has recovered. It does not know how a fault is made or
undone: it reads :data:`zmqlab.lab.fault_kinds.FAULTS`. It judges nothing itself: it calls :mod:`zmqlab.judge`.

Modules, in reading order:

* :mod:`~zmqlab.scenarios.nemesis`: deals faults from the seed, strikes, undoes, and waits until the cluster has
  recovered.
* :mod:`~zmqlab.scenarios.torture`: a whole run: cluster, load, log collector, faults, verdict.
* :mod:`~zmqlab.scenarios.torture_report`: how long no client was served under each kind of fault.

Import what you need from the modules; nothing is imported here.
"""
