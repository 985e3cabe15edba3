"""A minority stays away, and the others must serve: liveness before everything is healed.

Healing hides a cluster that stands still as soon as one node is dead, deaf or slow to answer: the missing node comes
back, and what waited for it goes on. So before the healed phase some runs have one more. A minority of the voters is
taken away for good, all other faults end, and every client asks one thing more, which must be answered within a bound
of virtual time although the minority stays away. Then the healed phase follows as in every run.

A node is away in one of five ways (:data:`KINDS`). A deaf node is the hardest: its messages still reach the others, and
a deaf leader keeps them from electing another one until it steps down (thesis, 6.2).

The promise is that a *connected majority* serves. So a node may be taken away only if each configuration that may be in
effect, on any node, keeps a majority of its voters (:meth:`~zmqlab.sim.operator.Operator.may_miss`). While the minority
is away, the operator asks for nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from zmqlab.sim.faults import Faults
from zmqlab.sim.operator import Operator
from zmqlab.sim.process import Process
from zmqlab.sim.world import World

TRANSFERS = 0.3
"""Share of outages that begin with a transfer of leadership to a node of the minority (thesis, 3.10)."""
KINDS = ("dead", "cut off", "deaf", "mute", "paused")
"""Deaf: it hears no node. Mute: no node hears it. Clients reach all but a dead one."""


class Outage:
    """The minority of one run, and how it is away."""

    def __init__(self, operator: Operator, faults: Faults, world: World, rng: random.Random) -> None:
        self._operator = operator
        self._faults = faults
        self._world = world
        self._rng = rng
        kinds = [kind for kind in KINDS if kind != "dead" or world.plan.durability != "memory"]
        self.kind = rng.choice(kinds)
        """One of KINDS. In memory a dead node is not away but lost, and the operator replaces it."""
        self.away: list[Process] = []

    def begin(self) -> bool:
        """Take a minority away and heal everything else. Returns whether there is one that can be missed."""
        for process in self._in_doubt():
            if self._operator.may_miss([*self.away, process]):
                self.away.append(process)
                if self._rng.random() < 0.5:
                    break
        if not self.away or not self._has_enough_to_ask():
            return False
        self._operator.is_waiting = True
        if self._rng.random() < TRANSFERS:
            self._hand_over()
        self._faults.heal(self.away if self.kind in ("dead", "paused") else ())
        for process in self.away:
            self._take_away(process)
        self._world.tell(f"all is healed but for a minority: {self}")
        return True

    def __str__(self) -> str:
        return f"nodes {sorted(process.node_id for process in self.away)} stay {self.kind}"

    def _hand_over(self) -> None:
        """A leader begins to hand leadership to a node of the minority, and must go on when nothing comes of it."""
        for process in self._world.running():
            if process.leads and process not in self.away:
                process.raft.transfer_leadership(self.away[0].node_id)

    def end(self) -> None:
        """The operator goes on; the ordinary healing does the rest."""
        self._operator.is_waiting = False

    def _in_doubt(self) -> list[Process]:
        """All nodes by chance; every other time the one that leads comes first."""
        processes = self._world.reachable()
        self._rng.shuffle(processes)
        if self._rng.random() < 0.5:
            processes.sort(key=lambda process: not process.leads)
        return processes

    def _has_enough_to_ask(self) -> bool:
        """A client that asks a node at random shall find one that serves at least every other time."""
        away = {process.node_id for process in self.away}
        members = self._world.members
        serving = [member for member in members if member not in away and self._serves(member)]
        return 2 * len(serving) >= len(members)

    def _serves(self, node_id: int) -> bool:
        """Whether a node is a voter by its own account, and can come back."""
        process = self._world.processes[node_id]
        return not process.is_gone and all(node_id in each.voters for each in process.configurations())

    def _take_away(self, process: Process) -> None:
        if self.kind == "dead":
            if process.engine is not None:
                process.crash("and stays dead")
        elif self.kind == "paused":
            process.paused = True
        else:
            self._cut(process)

    def _cut(self, process: Process) -> None:
        others: Iterable[int] = [each for each in self._world.processes if each != process.node_id]
        if self.kind != "deaf":
            self._world.network.cut |= {(process.node_id, other) for other in others}
        if self.kind != "mute":
            self._world.network.cut |= {(other, process.node_id) for other in others}
