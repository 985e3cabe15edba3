"""Scenarios: what happens to a cluster of real processes under load, in which order, and what that cost.

*Torture* breaks everything in turn, from a seed, and checks every promise at the end. A *scenario file* says what
happens when, and what is expected: ``Scenario.read("kill-the-leader").run()``, or ``zmqlab run kill-the-leader``.
Those that come with the package are in ``shipped``.

This package decides when faults strike and whether the cluster has recovered. It does not know how a fault is made or
undone: it reads :data:`zmqlab.lab.fault_kinds.FAULTS`. It judges nothing itself: it calls :mod:`zmqlab.judge`.

Scenario files, in reading order:

* :mod:`~zmqlab.scenarios.scenario_file`: reads one and checks all of it; begin here.
* :mod:`~zmqlab.scenarios.written`: values with their places, so that an error says where it is.
* :mod:`~zmqlab.scenarios.predictions`: what a class is asked before a scenario is played.
* :mod:`~zmqlab.scenarios.scenario_steps`: the run as its steps see it, and what a step does.
* :mod:`~zmqlab.scenarios.scenario_conditions`: what a step waits for.
* :mod:`~zmqlab.scenarios.expectations`: what must be so at the end.
* :mod:`~zmqlab.scenarios.scenario_run`: one run: cluster, loads, steps, verdict, result.

Torture, in reading order:

* :mod:`~zmqlab.scenarios.nemesis`: deals faults from the seed, strikes, undoes, and waits until the cluster has
  recovered.
* :mod:`~zmqlab.scenarios.recovery`: whether it has, and what is wrong if not.
* :mod:`~zmqlab.scenarios.torture`: a whole run: cluster, load, log collector, faults, verdict.
* :mod:`~zmqlab.scenarios.torture_report`: how long no client was served under each kind of fault.

Import what you need from the modules; nothing is imported here.
"""
