"""Torture: everything breaks in turn, on a cluster of real processes, under load, from a seed.

- :mod:`.schedule` says which faults, in which order and of what size: pure, from the seed.
- :mod:`.nemesis` makes them, mends them, and waits until the cluster has recovered.
- :mod:`.run` is a whole run: cluster, load, log collector, faults, verdict.
- :mod:`.report` tells how long nobody was served under each kind of fault.

Import what you need from the modules; nothing is imported here.
"""
