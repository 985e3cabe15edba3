"""One run: a whole cluster and its clients under one seed, in virtual time, in two phases.

In the first phase faults strike at random, and nothing forbidden may happen. Then everything is healed, every client
asks one thing more, and within a bound of virtual time all must be answered, one node must lead, and all nodes must
have the same state: a cluster that stands still would be safe as well. (The two phases are TigerBeetle's.)

Theory of operation: a heap of events, each with its time and a running number, so that the order is the same in every
process and at every replay; chance comes from generators that are seeded by the seed and a name. Nothing here reads a
clock or depends on the order of a set.
"""

from __future__ import annotations

import gc
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import permutations
from typing import Any

from zmqlab.endpoints import parse_endpoint
from zmqlab.raft import Configuration, Role
from zmqlab.replica import MakeReplication, RaftByQuorum
from zmqlab.settings import NodeSettings
from zmqlab.sim import operator
from zmqlab.sim.adversary import Faults, Outage
from zmqlab.sim.causes import Causes
from zmqlab.sim.checkers import Configurations, Histories, Ledger, Violation
from zmqlab.sim.clients import Client, MakeClient
from zmqlab.sim.focuses import plan_of
from zmqlab.sim.network import Closings, Network
from zmqlab.sim.node_process import Process
from zmqlab.sim.placed_operator import PlacedOperator
from zmqlab.sim.plan import MS, TICK_US, SimSettings
from zmqlab.sim.rest_checks import check_crowds, check_states, what_is_missing, what_is_owed
from zmqlab.sim.seats import worlds_of
from zmqlab.sim.trace import Trace, document
from zmqlab.sim.weak_rules import rules_of
from zmqlab.sim.world import World

FIRST_CLIENT = 101
"""Addresses of clients; those of nodes are 1, 2, 3, ..."""
CHECK_US = 20 * MS
"""How often it is looked whether a healed cluster has come to rest."""
PROBE_US = 300 * MS
"""Two of the longest election time-outs."""
JOIN_US = 3_000 * MS
"""For each change of the members that is wanted when all is healed: nodes are taken in one after the other, and each
gets the whole state first, in chunks of 150 bytes where the plan says so."""
SEED_MS = 100
"""How long a seed asks at the beginning, when there is no cluster that it could miss."""
EVENTS_MAX = 500_000
"""A run has some thousand; so many mean that messages go in circles."""


def address_of(number: int) -> str:
    """The base endpoint of place ``number``; no node is ever at place 100."""
    return f"tcp://10.0.0.{number}:5000"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    seed: int
    ok: bool
    failure: str = ""
    """Which promise was broken, with both sides of the contradiction; empty if ``ok``."""
    story: list[str] = field(default_factory=list)
    """Who led, what broke, what was decided; one line an event, with its time."""
    figures: dict[str, int] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    """Only if it was asked for: see :mod:`zmqlab.sim.trace`."""


def run(
    seed: int,
    settings: SimSettings | None = None,
    trace: bool = False,
    make_replication: MakeReplication | None = None,
    make_client: MakeClient = Client,
) -> Outcome:
    """Simulate the run that ``seed`` stands for; with ``trace``, note everything that happens.

    ``make_replication``: how the nodes copy their log; None: as ``settings`` name it."""
    settings = settings or SimSettings()
    collects = gc.isenabled()
    gc.disable()  # a run makes no garbage in cycles until it ends; then all its objects are young, and are garbage
    try:
        return _run(seed, settings, trace, make_replication or settings.make_replication, make_client)
    finally:
        if collects:
            gc.collect(0)
            gc.enable()


def _run(
    seed: int, settings: SimSettings, trace: bool, make_replication: MakeReplication, make_client: MakeClient
) -> Outcome:
    events, failure = Trace() if trace else None, ""
    simulation = Simulation(seed, settings, events, make_replication, make_client)
    try:
        simulation.play()
    except Violation as violation:
        failure = str(violation)
    except Exception as error:  # an assertion of the code under test, or its fault of any other kind
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = place.filename.rpartition("/")[2]
        failure = f"{type(error).__name__} in {file}, line {place.lineno}, {place.name}: {error}"
    if failure:
        simulation.tell(f"FAILED: {failure}")
    figures = simulation.figures()
    outcome = Outcome(seed=seed, ok=not failure, failure=failure, story=simulation.story, figures=figures)
    if events is not None:
        outcome.trace = document(events, settings, simulation.plan, seed=seed, failure=failure, figures=figures)
    return outcome


class Simulation:
    """See the module."""

    def __init__(
        self,
        seed: int,
        settings: SimSettings,
        trace: Trace | None = None,
        make_replication: MakeReplication = RaftByQuorum,
        make_client: MakeClient = Client,
    ) -> None:
        self.story: list[str] = []
        self.now_us = 0
        self.outages = 0
        self._settings = settings
        self._trace = trace
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self.plan = plan_of(random.Random(f"{seed} plan"), settings, make_replication, make_client is Client)
        self.network = Network(self.plan, random.Random(f"{seed} network"), self.at, self._clock, trace)
        self.ledger = Ledger(self.plan.limits, self.plan.market.limits)
        rules = rules_of(make_replication, self.ledger)
        self.elections, self.histories = rules.elections, rules.histories
        ids = tuple(range(1, self.plan.node_count + 1))
        founding = ids[:1] if self.plan.begins_with_seed else ids
        founders = Configuration(founding, addresses=tuple((node_id, address_of(node_id)) for node_id in founding))
        configurations = Configurations(founders)
        world = World(
            plan=self.plan,
            at=self.at,
            now_us=self._clock,
            network=self.network,
            tell=self.tell,
            on_leader=lambda process: self.faults.strike_leader(process),
            on_repair=lambda process: self.faults.strike_repair(process),
            on_change=lambda process: self.faults.strike_change(process),
            on_candidate=lambda process: self.faults.strike_candidate(process),
            on_lost=lambda process: self.operator.lost(process),
            elections=self.elections,
            logs=rules.logs,
            ledger=self.ledger,
            configurations=configurations,
            causes=Causes(self.elections, self.ledger, configurations) if rules.told is None else None,
            told=rules.told,
            trace=trace,
        )
        world.closings = Closings(world, random.Random(f"{seed} closings"))
        self._world = world
        self._seed = seed
        for node_id in ids:
            self._new_process(self._first_settings(node_id, ids))
        world.members = list(ids)
        self._worlds: dict[int, World] = {}
        """By group, of a run with shards."""
        if self.plan.shards > 1:
            self._worlds = worlds_of(world, founders, lambda node_id: world.processes[node_id].settings)
        make_operator = partial(PlacedOperator, self._worlds) if self._worlds else operator.Operator
        self.operator: operator.Operator = make_operator(self._join, world, random.Random(f"{seed} operator"))
        self.clients = {
            address: self._new_client(address, make_client, random.Random(f"{seed} client {address}"))
            for address in range(FIRST_CLIENT, FIRST_CLIENT + max(settings.clients, 2 * len(self._worlds)))
        }
        self.network.receivers[operator.ADDRESS] = self.operator.deliver
        self.network.receivers.update({address: client.deliver for address, client in self.clients.items()})
        self.faults = Faults(self.operator, world, random.Random(f"{seed} faults"))

    def _new_client(self, address: int, make_client: MakeClient, rng: random.Random) -> Client:
        """A client; with shards it is one of one group."""
        worlds = list(self._worlds.values()) or [self._world]
        world = worlds[address % len(worlds)]
        return make_client(address, world, world.histories or self.histories, rng)

    def _first_settings(self, node_id: int, ids: Sequence[int]) -> NodeSettings:
        """What a node of the beginning is started with: a founder, the seed, or a node that joins the seed."""
        others = tuple(address_of(other) for other in ids if other != node_id)
        if not self.plan.begins_with_seed:
            return self._settings_of(node_id, address_of(node_id), peers=others, leader=node_id == 1)
        if node_id == 1:
            join = others or (address_of(100),)
            return self._settings_of(node_id, address_of(node_id), join=join, bootstrap_ms=SEED_MS)
        return self._settings_of(node_id, address_of(node_id), join=others)

    def _settings_of(self, node_id: int, address: str, **fields: Any) -> NodeSettings:
        host, port = parse_endpoint(address)
        return NodeSettings(
            name=f"node{node_id}",
            port=port,
            bind=host,
            insecure=True,  # nothing really listens
            tick_ms=TICK_US // MS,
            election_ticks=self.plan.raft.election_ticks,
            heartbeat_ticks=self.plan.raft.heartbeat_ticks,
            drain_ms=self.plan.drain_ms,
            leave=self.plan.leaves and bool(fields.get("join")),
            allow_faults=True,
            replication=self._settings.replication,
            shards=self.plan.shards,
            replication_factor=self.plan.replication_factor,
            **fields,
        )

    def _new_process(self, settings: NodeSettings) -> Process:
        node_id = len(self._world.processes) + 1
        process = Process(node_id, settings, self._world, random.Random(f"{self._seed} node {node_id}"))
        self._world.processes[node_id] = process
        self.network.receivers[node_id] = process.deliver
        return process

    def _join(self, address: str, **fields: Any) -> Process:
        """A node without a journal starts, and is to be a member. ``fields`` are settings that it is started with.

        A seed that lost its disk asks for as long as it takes: with a bound it may found a second cluster if it reaches
        no member for all that time, which is documented and not a bug.
        """
        node_id = len(self._world.processes) + 1
        if "peers" not in fields:
            members = [self._world.processes[member].address for member in self._world.members]
            join = tuple(dict.fromkeys(member for member in members if member != address))
            fields["join"] = join if join and self.plan.nodes_ask else (address_of(100),)
        if not self.plan.nodes_ask:
            fields.pop("bootstrap_ms", None)
        process = self._new_process(self._settings_of(node_id, address, **fields))
        process.take_seats(self._worlds, is_founder=False)
        process.start()
        return process

    # Time.

    def at(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do ``action`` so much later."""
        self._scheduled += 1
        heappush(self._heap, (self.now_us + delay_us, self._scheduled, action, arguments))

    def tell(self, line: str) -> None:
        """A line of the story."""
        self.story.append(f"{self.now_us / MS:10.1f} ms  {line}")
        if self._trace is not None:
            self._trace.add(self.now_us, "story", text=line)

    def _clock(self) -> int:
        return self.now_us

    def _advance(self, until_us: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            self.now_us, number, action, arguments = heappop(heap)
            action(*arguments)
            if number > EVENTS_MAX:
                raise Violation(f"progress: {EVENTS_MAX} events, and no end")
        self.now_us = until_us

    # The two phases.

    def play(self) -> None:
        """Both phases. Raises Violation, or whatever the code under test raises."""
        plan = self.plan
        faults = ", ".join(sorted(set(plan.faults)))
        operations = ", ".join(plan.operations) or "none"
        self.tell(f"{plan.node_count} nodes, durability {plan.durability}, faults: {faults}; operations: {operations}")
        for process in list(self._world.processes.values()):
            process.start()
        if plan.begins_with_seed:
            for node_id in self.operator.members[1:]:
                self.operator.expect(node_id)
        for client in self.clients.values():
            client.begin()
        self.faults.begin()
        self._world.closings.begin()
        self.operator.begin()
        self._advance(plan.faults_ms * MS)
        if plan.outage:
            self._serve_without_a_minority()
        self.tell("everything is healed")
        self.faults.heal()
        self.operator.finish()
        if not self._worlds:
            self.operator.compare_hashes()
        for client in self.clients.values():
            client.finish()
        self._come_to_rest()
        if plan.probes:
            self._probe()

    def _serve_without_a_minority(self) -> None:
        """Liveness before everything is healed; see :class:`zmqlab.sim.adversary.Outage`."""
        outage = Outage(self.operator, self.faults, self._world, random.Random(f"{self._seed} outage"))
        if not outage.begin():
            return
        self.outages += 1
        self.operator.finish()
        for client in self.clients.values():
            client.finish()
        end_us = self.now_us + self._settings.heal_ms_max * MS
        while waiting := self._waiting_clients():
            if self.now_us >= end_us:
                raise Violation(f"progress: clients {waiting} wait for {self._settings.heal_ms_max} ms, {outage}")
            self.operator.look_after(but=outage.away)
            self._advance(self.now_us + CHECK_US)
        outage.end()

    def _waiting_clients(self) -> list[int]:
        return [address for address, client in self.clients.items() if not client.is_done]

    def _come_to_rest(self) -> None:
        healed_us = self.now_us
        end_us = healed_us + self._settings.heal_ms_max * MS + self.operator.wishes * JOIN_US
        while self._what_is_missing():
            if self.now_us >= end_us:
                raise Violation(f"progress: {(end_us - healed_us) // MS} ms after healing {self._what_is_missing()}")
            self.operator.look_after()
            self._advance(self.now_us + CHECK_US)
        self._check_states()
        if not self._worlds:
            self.operator.compare_hashes()
        self._advance(self.now_us + CHECK_US)
        members = self.operator.members
        self.tell(f"at rest: nodes {sorted(members)} are at {self._last_index()} and agree")

    def _last_index(self) -> int:
        """Committed entries of all groups."""
        return sum(world.ledger.last_index for world, _ in self._groups())

    def _members(self) -> list[Process]:
        return [self._world.processes[node_id] for node_id in self.operator.members]

    def _groups(self) -> Iterator[tuple[World, list[Process]]]:
        """Each group's world, and its members as its checkers see them."""
        if not self._worlds:
            yield self._world, self._members()
        for number, world in self._worlds.items():
            yield world, [self._world.processes[node_id].seat(number) for node_id in world.members]

    def _what_is_missing(self) -> str:
        if waiting := self._waiting_clients():
            return f"clients {waiting} still wait for answers"
        self.operator.reconcile()
        if missing := self.operator.missing():
            return missing
        for world, members in self._groups():
            if missing := what_is_missing(members, world):
                return missing
        for world, members in self._groups():
            if missing := what_is_owed(members, world):
                return missing
        strays = {address: strays for address, client in self.clients.items() if (strays := client.strays())}
        return f"clients keep nodes that are no members, or lack members: {strays}" if strays else ""

    def _check_states(self) -> None:
        """All members have the same books, sessions, log and members."""
        check_crowds(self._members(), list(self.clients.values()), self._world, self._scheduled)
        for world, members in self._groups():
            check_states(members, self.operator.members if world is self._world else world.members, world)

    def _probe(self) -> None:
        """Nothing is wrong now, and a node that was cut off, or removed, disturbs no other (thesis, 4.2.3 and 9.6)."""
        leader = next(process for process in self._members() if process.raft.role is Role.LEADER)
        others = [process.node_id for process in self._world.reachable() if process is not leader]
        alone = random.Random(f"{self._seed} probe").choice([*others, leader.node_id])
        cuts = alone != leader.node_id and (
            alone not in self.operator.members or len(self.operator.members) > 2
        )  # of two, each is the quorum
        term = leader.term
        self._close_connections(leader)
        self.tell(f"node {alone} is cut off and comes back" if cuts else "all is quiet")
        if cuts:
            others = [node_id for node_id in self._world.processes if node_id != alone]
            self.network.cut |= {(alone, other) for other in others} | {(other, alone) for other in others}
        self._let_be(PROBE_US)
        self.network.join()
        self._let_be(PROBE_US)
        if leader.term != term or leader.raft.role is not Role.LEADER:
            raise Violation(f"disruption: node {leader.node_id} led term {term} undisturbed, and does not any more")
        self.tell(f"node {leader.node_id} still leads term {term}")

    def _let_be(self, time_us: int) -> None:
        """Let time pass, in which no late question of the operator leaves a node deaf."""
        end_us = self.now_us + time_us
        while self.now_us < end_us:
            self.operator.look_after()
            self._advance(self.now_us + CHECK_US)

    def _close_connections(self, leader: Process) -> None:
        """Fewer than a quorum lose their connection to a leader that works, and all lose those to other nodes."""
        followers = [process for process in self._members() if process is not leader]
        rng, closings = random.Random(f"{self._seed} probe closings"), self._world.closings
        for peer in rng.sample(followers, min(len(followers), (len(followers) + 1) // 2)):
            closings.tell(peer, leader, rng.randint(0, 3 * MS))
        for process, peer in permutations(followers, 2):
            closings.tell(peer, process, rng.randint(0, 3 * MS))

    def _histories(self) -> list[Histories]:
        return [world.histories or self.histories for world, _ in self._groups()]

    def figures(self) -> dict[str, int]:
        """What happened how often."""
        processes, clients = self._world.processes.values(), self.clients.values()
        return {
            "events": self._scheduled - len(self._heap),
            "virtual_ms": self.now_us // MS,
            "elections": sum(len(world.elections.leaders) for world, _ in self._groups()),
            "crashes": sum(process.crashes for process in processes),
            "snapshots": sum(process.snapshots_total for process in processes),
            "installs": sum(seat.watcher.installs for process in processes for seat in process.all_seats()),
            "ended": sum(process.ended for process in processes),
            "moved": self.operator.moved,
            "overflowed": sum(process.overflowed for process in processes),
            "added": self.operator.added,
            "removed": self.operator.removed,
            "outages": self.outages,
            "power_cuts": self.faults.power_cuts,
            "corrupted": self.faults.corrupted,
            "logs_read": self.operator.logs_read,
            "refused": sum(process.refused for process in processes),
            "entries": self._last_index(),
            "requests": sum(client.requests for client in clients),
            "reads": sum(histories.reads for histories in self._histories()),
            "answered": sum(histories.answered for histories in self._histories()),
            "unknown": sum(client.unknown for client in clients),
            "messages": self.network.sent,
            "lost": self.network.lost,
            "closings": self._world.closings.seen,
            "balanced": sum(seat.hand_overs for process in processes for seat in process.seats.values()),
        }
