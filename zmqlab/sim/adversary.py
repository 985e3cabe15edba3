"""What goes wrong, and when: the plan's faults, one after the other at random times, until the time is up.

Each fault is a method named after it. It strikes a running node, tells the story, and arranges its own end where it
has one; :meth:`Faults.heal` ends everything, or all but an :class:`Outage`. No rule of the protocol is known here: too
many nodes may be down, and then nothing moves until some come back.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Any

from zmqlab.raft import AppendEntries
from zmqlab.raft.messages import BROADCAST
from zmqlab.sim.checkers import Violation
from zmqlab.sim.node_process import Process
from zmqlab.sim.operator import Operator
from zmqlab.sim.plan import MS
from zmqlab.sim.world import World
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wire.peer import encode_message

STRANGER = 99
"""A node of another cluster; to the network, and in its messages."""
TRANSFERS = 0.3
"""Share of outages that begin with a transfer of leadership to a node of the minority (thesis, 3.10)."""
KINDS = ("dead", "cut off", "deaf", "mute", "paused")
"""Deaf: it hears no node. Mute: no node hears it. Clients reach all but a dead one."""


class Faults:
    """The nemesis of one run."""

    def __init__(self, operator: Operator, world: World, rng: random.Random) -> None:
        self.power_cuts = 0
        self.corrupted = 0
        self._operator = operator
        self._processes = world.processes
        self._world = world
        self._rng = rng
        self._healed = False

    def begin(self) -> None:
        """Strike from now on."""
        self._world.at(self._gap_us(), self._strike)

    def heal(self, but: Collection[Process] = ()) -> None:
        """Stop, and make everything whole: links, disks, and all processes but some that stay as they are."""
        self._healed = True
        self._world.network.heal()
        self._world.closings.heal()
        for process in list(self._processes.values()):
            process.disk.full = process.by_power_cut = False
            process.crash_in = 0
            if process.engine is not None:
                process.engine.links.replace([])
            if process in but:
                continue
            if process.paused:
                process.resume()
            if process.is_closing:
                process.crash("before it has ended in order")
            if process.engine is None and not process.is_gone:
                process.start()

    def _strike(self) -> None:
        if self._healed:
            return
        getattr(self, "_" + self._rng.choice(self._world.plan.faults))()
        self._world.at(self._gap_us(), self._strike)

    def _gap_us(self) -> int:
        return int(self._rng.expovariate(1.0) * self._world.plan.fault_gap_us) + 1

    def _victim(self) -> Process | None:
        """A running node; one time in three the one that leads."""
        running = list(self._world.running())
        leading = self._leading()
        if leading and self._rng.random() < 0.33:
            return self._rng.choice(leading)
        return self._rng.choice(running) if running else None

    def _leading(self) -> list[Process]:
        return [process for process in self._world.running() if process.leads]

    def _may_crash(self, process: Process) -> bool:
        """In memory, a crash costs the journal; a learner that dies later may have been promoted by then."""
        if self._world.plan.durability != "memory":
            return True
        return self._operator.may_lose(process) and self._operator.is_voter(process.node_id)

    def _nodes(self) -> list[int]:
        return [process.node_id for process in self._world.reachable()]

    def _after(self, low_ms: int, high_ms: int) -> int:
        return self._rng.randint(low_ms * MS, high_ms * MS)

    def strike_leader(self, process: Process) -> None:
        """Bad luck of leaders that were just elected: their first entries reach few nodes or none."""
        if self._healed or self._rng.random() >= self._world.plan.unlucky_leader:
            return
        if self._rng.random() >= self._world.plan.strikes_at_once:
            self._world.at(self._after(1, self._world.plan.strike_ms_max), self._strike_if_leading, process)
        else:
            self._strike_if_leading(process)

    def _strike_if_leading(self, process: Process) -> None:
        """It dies in one of its next effects, or most of the others lose it; a few may still hear it."""
        if self._healed or not process.leads:
            return
        if self._rng.random() < self._world.plan.strikes_kill:
            if self._rng.random() < 0.3:  # or one of those that hear it first
                process = self._rng.choice(list(self._world.running()) or [process])
            if self._may_crash(process):
                process.crash_in = self._rng.randint(1, 10)
                self._world.at(self._after(20, 60), self._see_to_restarts)
            return
        others = self._others(process)
        if others:
            cut_off = self._rng.sample(others, self._rng.randint((len(others) + 1) // 2, len(others)))
            self._cut([process.node_id], cut_off, both=self._rng.random() < 0.7)
            self._world.tell(f"node {process.node_id} loses {sorted(cut_off)}")

    def strike_repair(self, process: Process) -> None:
        """What was handed on of older terms could be called committed now, wrongly (thesis, figure 3.7)."""
        if not self._healed and self._rng.random() < self._world.plan.unlucky_repair:
            self._cut([process.node_id], self._others(process), both=True)
            self._world.tell(f"node {process.node_id} is cut off with older entries on a majority")

    def strike_change(self, process: Process) -> None:
        """A leader that has just stored a change of the members: no node, or few, will hear of it from this one."""
        others = self._others(process)
        if others and not self._healed and self._rng.random() < self._world.plan.unlucky_change:
            cut_off = self._rng.sample(others, self._rng.randint((len(others) + 1) // 2, len(others)))
            self._cut([process.node_id], cut_off, both=True)
            self._world.tell(f"node {process.node_id} loses {sorted(cut_off)} as it changes the members")

    def strike_candidate(self, process: Process) -> None:
        """A candidate that no node hears; should the old leader live, the candidate is ahead of it in term."""
        if not self._healed and self._rng.random() < self._world.plan.unlucky_candidate:
            self._cut([process.node_id], self._others(process), both=True)
            self._world.tell(f"node {process.node_id} is cut off as it stands for election in term {process.term}")

    def _others(self, process: Process) -> list[int]:
        return [node for node in self._nodes() if node != process.node_id]

    # Processes.

    def _crash(self) -> None:
        process = self._victim()
        if process is not None and self._may_crash(process):
            process.crash("between two turns")
        self._see_to_restarts()

    def _crash_in_effect(self) -> None:
        process = self._victim()
        if process is not None and self._may_crash(process):
            process.crash_in = self._rng.randint(1, 12)
            process.by_power_cut = "power_cut" in self._world.plan.faults and self._rng.random() < 0.5
        self._see_to_restarts()

    def _power_cut(self) -> None:
        """Some or all nodes at once, wherever each is just then."""
        for process in list(self._world.running()):
            if self._rng.random() < 0.7:
                self.power_cuts += 1
                process.by_power_cut = True
                process.crash_in = self._rng.randint(1, 4)
                self._world.at(self._rng.randint(0, 5 * MS), self._cut_power, process)
        self._world.at(5 * MS, self._see_to_restarts)

    def _cut_power(self, process: Process) -> None:
        """Where no effect came meanwhile."""
        if process.replica and process.by_power_cut:
            process.crash("as its power is cut")

    def _corrupt(self) -> None:
        """A bit flips, and the node must see it: when it starts again, or when the operator reads its log."""
        process = self._victim()
        if process is None or process.disk.full or process.has_unread or not self._operator.may_lose(process):
            return
        process.crash("between two turns")
        record = process.disk.flip_a_bit(self._rng)
        self._world.tell(f"the disk of node {process.node_id} flips a bit of {record or 'nothing'}")
        if not record:
            self._see_to_restarts()
            return
        self.corrupted += 1
        process.start()
        for seat in process.all_seats():
            if seat.replica:
                seat.read_whole_log()
        if process.replica:
            raise Violation(f"journal: node {process.node_id} does not see that {record} was changed")

    def _see_to_restarts(self) -> None:
        """A process that is down will be back, sooner or later; a death in an effect is noticed at the next fault."""
        for process in self._processes.values():
            if process.engine is None and not process.is_gone:
                self._world.at(self._after(5, self._world.plan.restart_ms_max), self._restart, process)

    def _restart(self, process: Process) -> None:
        if process.engine is None and not process.is_gone and not self._healed:
            process.start()
            if process.replica:
                self._world.tell(f"node {process.node_id} is back, its log ends at {process.raft.last_index}")

    def _terminate(self) -> None:
        """SIGTERM: a node ends in order, or within its bound; now and then a second one ends it at once."""
        process = self._victim()
        if (
            process is not None
            and not process.is_closing
            and (not process.settings.leave or self._operator.may_leave())
        ):
            self._world.tell(f"node {process.node_id} is told to end")
            process.terminate()
            if self._rng.random() < 0.2:
                self._world.at(self._after(1, 100), self._terminate_again, process)
            self._world.at(self._after(50, 600), self._see_to_restarts)

    def _terminate_again(self, process: Process) -> None:
        if process.is_closing and not self._healed:
            process.terminate()

    def _faulty_links(self) -> None:
        """A node is told to hear some of its peers badly, and later well again; either message may be lost."""
        process = self._victim()
        if process is None:
            return
        faults = []
        for other in self._world.reachable():
            if other is not process and self._rng.random() < 0.6:
                cut, late = self._rng.random() < 0.4, self._rng.choice((0.0, 5.0, 60.0))
                loss = self._rng.choice((0.0, 0.3))
                faults.append(LinkFault(sender=other.address, cut=cut, delay_ms=late, loss=loss, **self._roughness()))
        self._operator.tell_links(process.node_id, faults)
        self._world.tell(f"node {process.node_id} hears {len(faults)} of its peers badly")
        self._world.at(self._after(50, 600), self._operator.tell_links, process.node_id, [])

    def _roughness(self) -> dict[str, Any]:
        """A link may also be narrow (a full queue takes 0.2 s), and its frames come twice and out of turn."""
        if not self._world.plan.rough_links:
            return {}
        return {
            "bytes_per_s": self._rng.choice((0.0, 300_000.0)),
            "duplication": self._rng.choice((0.0, 0.3)),
            "reordering": self._rng.choice((0.0, 0.3)),
            "reordering_ms": 60.0,
        }

    def _pause(self) -> None:
        process = self._victim()
        if process is not None:
            process.paused = True
            self._world.tell(f"node {process.node_id} is paused")
            self._world.at(self._after(20, 900), self._resume, process)

    def _resume(self, process: Process) -> None:
        if process.paused and not self._healed:
            self._world.tell(f"node {process.node_id} goes on")
            process.resume()

    def _freeze(self) -> None:
        """A leader sleeps, and when it wakes up the others' messages of that time are lost, the clients' are not."""
        for process in self._leading():
            process.paused = True
            self._cut([process.node_id], self._others(process), both=True)
            self._world.tell(f"node {process.node_id} is frozen")
            self._world.at(self._after(100, 500), self._resume, process)

    def _disk_full(self) -> None:
        process = self._victim()
        if process is not None:
            process.disk.full = True
            self._world.tell(f"the disk of node {process.node_id} is full")
            self._world.at(self._after(20, 300), self._make_room, process)
        self._see_to_restarts()

    def _make_room(self, process: Process) -> None:
        process.disk.full = False
        self._see_to_restarts()

    # The network.

    def _partition(self) -> None:
        """Two sides, which hear nothing of each other."""
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        self._rng.shuffle(nodes)
        size = self._rng.randint(1, len(nodes) - 1)
        self._cut(nodes[:size], nodes[size:], both=True)
        self._world.tell(f"nodes {sorted(nodes[:size])} are cut off from {sorted(nodes[size:])}")

    def _one_way(self) -> None:
        """One node is not heard by some others, or doesn't hear them."""
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        self._rng.shuffle(nodes)
        size = self._rng.randint(2, len(nodes))
        sides = [nodes[:1], nodes[1:size]]
        self._rng.shuffle(sides)
        self._cut(sides[0], sides[1], both=False)
        self._world.tell(f"nothing gets from {sorted(sides[0])} to {sorted(sides[1])}")

    def _isolate(self) -> None:
        """One node loses all others, most likely the leader; clients still reach it."""
        process = self._victim()
        if process is not None:
            self._cut([process.node_id], self._others(process), both=True)
            self._world.tell(f"node {process.node_id} is isolated")

    def _cut(self, here: list[int], there: list[int], both: bool) -> None:
        links = {(a, b) for a in here for b in there}
        if both:
            links |= {(b, a) for a, b in links}
        self._world.network.cut |= links
        self._world.at(self._after(50, 600), self._join, links)

    def _join(self, links: set[tuple[int, int]]) -> None:
        if not self._healed:
            self._world.network.cut -= links

    def _slow_link(self) -> None:
        if len(self._nodes()) < 2:
            return
        here, there = self._rng.sample(self._nodes(), 2)
        self._world.network.slow[here, there] = self._after(5, 150)
        self._world.tell(f"the link from {here} to {there} is slow")
        self._world.at(self._after(50, 600), self._world.network.slow.pop, (here, there), None)

    def _stranger(self) -> None:
        """Where a node subscribes, a process of another cluster listens by now, and says that it leads."""
        process = self._victim()
        if process is not None:
            term = process.term + self._rng.randint(0, 2)
            append = AppendEntries(STRANGER, BROADCAST, term, 0, 0, 0, 1, ())
            self._world.network.send(STRANGER, process.node_id, encode_message(append))

    # The cluster's own operations.

    def _transfer(self) -> None:
        for process in self._leading():
            target = self._rng.choice(self._nodes())
            if process.transfer_leadership(target):
                self._world.tell(f"node {process.node_id} hands leadership to node {target}")

    def _transfer_unheard(self) -> None:
        """The old leader can speak but hears nothing: it does not learn that its term is over."""
        for process in self._leading():
            self._cut(self._others(process), [process.node_id], both=False)
            self._world.tell(f"node {process.node_id} hears no other node")
        self._transfer()


class Outage:
    """A minority stays away, and the others must serve: liveness before everything is healed.

    Healing hides a cluster that stands still as soon as one node is dead, deaf or slow to answer: the missing node
    comes back, and what waited for it goes on. So before the healed phase some runs have one more. A minority of the
    voters is taken away for good, all other faults end, and every client asks one thing more, which must be answered
    within a bound of virtual time although the minority stays away. Then the healed phase follows as in every run.

    A deaf node is the hardest: its messages still reach the others, and a deaf leader keeps them from electing another
    one until it steps down (thesis, 6.2).

    The promise is that a *connected majority* serves. So a node may be taken away only if each configuration that may
    be in effect, on any node, keeps a majority of its voters (:meth:`~zmqlab.sim.operator.Operator.may_miss`). While
    the minority is away, the operator asks for nothing.
    """

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
                process.transfer_leadership(self.away[0].node_id)

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
