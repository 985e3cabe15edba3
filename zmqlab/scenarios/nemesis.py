"""The nemesis: deals faults from a seed, strikes a real cluster with them, and waits until the cluster has recovered.

*The deals* are an endless list of faults that follows from a seed alone: no clock, no process, and of the cluster only
how many nodes it has. What can be drawn is read from the registry of faults
(:data:`~zmqlab.lab.fault_kinds.FAULTS`), to which this module adds ``mixed``: two faults at once. A fault names its
victims by what they are when it strikes (the leader, a follower), since which nodes those are differs from run to run.
Where there is a choice, the fault's own random number ``pick`` makes it. So two runs with one seed see the same faults
in the same order with the same sizes, and differ only in real time.

Faults are dealt like cards: all draws in random order, then all of them again in another order. So even a short run has
seen most of them, and the figures for two kinds come from about as many cases. Every fault leaves a majority that runs
and is connected, except those that are marked ``is_total``.

*A strike.* A draw of the registry aims at the moment of the strike and becomes a :class:`~zmqlab.lab.faults.Fault`. It
strikes, is held, and is undone, whatever happens in between. Some draws are procedures of several faults with
recoveries in between; those stand here, in :data:`PROCEDURES`.

*The recovery.* After each fault the cluster must recover within a bound: every node runs, all know one leader, no node
is far behind, and a client is answered. Only then comes the next fault, so that what is seen belongs to one fault, and
a majority is always left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from zmqlab.errors import ClusterError, SettingsError, ZmqlabError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import MIN_NODES, Aim, Draw, FaultKind
from zmqlab.lab.faults import BadLinks, Fault, Kill, Wipe
from zmqlab.load.load_messages import LoadMetrics, decode_metrics
from zmqlab.scenarios.recovery import Told, has_leader, told_by
from zmqlab.settings import DEFAULT_REPLICATION
from zmqlab.wire.fault_queries import LinkFault
from zmqlab.wording import numbered

MAX_NODES = 9
"""The rest of the 15 that a cluster may have is room to scale up."""
REST_S = (0.5, 1.5)
"""Between a recovery and the next fault: long enough to see the cluster calm."""
RECOVERY_S = 20.0
"""A wiped node gets a snapshot of some megabytes and replays seconds of log, on two cores that serve a load. In so long
the cluster recovers, or the node that is furthest behind comes half its way."""
POLL_S = 0.05
WAITING_MS = 400.0
"""A group of which an answer is owed for longer has not recovered: twice an election."""

FAULTS.register(
    FaultKind(
        name="mixed",
        draws=(
            Draw("loss, leader killed", (0.5, 2.0), amount=(0.02, 0.15)),
            Draw("delay, follower wiped", (0.5, 2.0), amount=(2, 20), asks_leader=True),
            Draw("scale up, leader killed", (0.5, 2.0), amount=(0.0, 0.6), asks_leader=True),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Deal:
    """One draw that was dealt, with its sizes."""

    number: int
    """From 1 on."""
    kind: str
    variant: str
    hold_s: float
    """How long it lasts."""
    rest_s: float
    """How long the cluster rests before it strikes."""
    amount: float
    """Milliseconds, a share, a number of nodes or times, or seconds until the second of two faults: the draw knows."""
    pick: int
    """Seeds the choice among several victims."""

    @property
    def name(self) -> str:
        """For people and tables."""
        return f"{self.kind} {self.variant}"

    @property
    def draw(self) -> Draw:
        """What the registry says of it."""
        return FAULTS.draws[self.kind, self.variant]


def kinds() -> tuple[str, ...]:
    """The names of all kinds of fault that can be drawn."""
    return tuple(kind.name for kind in FAULTS if kind.draws)


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas; an empty one means all. Raises SettingsError."""
    known = kinds()
    named = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or known
    unknown = [name for name in named if name not in known]
    if unknown:
        raise SettingsError(f"no fault is called {unknown[0]!r}: choose from {', '.join(known)}")
    return named


def deals(seed: int, nodes: int, wanted: Iterable[str] = (), replication: str = DEFAULT_REPLICATION) -> Iterator[Deal]:
    """The faults of a run, without end.

    Args:
        seed: decides everything.
        nodes: how many the cluster has.
        wanted: only these kinds; none named means all.
        replication: by which the nodes copy the log. Where no node leads, no fault is dealt that asks a leader.

    Raises:
        SettingsError: there is no such kind, or a cluster of so many nodes can't be tortured.
    """
    named = set(parse_kinds(",".join(wanted)))
    if not MIN_NODES <= nodes <= MAX_NODES:
        raise SettingsError(f"nodes is {nodes}: it must be from {MIN_NODES} to {MAX_NODES}, or one death is too many")
    possible = {names: draw for names, draw in FAULTS.draws.items() if names[0] in named and draw.nodes <= nodes}
    if not has_leader(replication):
        possible = {names: draw for names, draw in possible.items() if not draw.asks_leader}
    if not possible:
        raise SettingsError(f"replication {replication} has no leader that could do that: choose other faults")
    deck = [(kind, draw) for (kind, _), draw in possible.items()]
    return _deal(random.Random(f"torture {seed}"), deck)


def _deal(rng: random.Random, deck: list[tuple[str, Draw]]) -> Iterator[Deal]:
    number = 0
    while True:
        rng.shuffle(deck)
        for kind, draw in deck:
            number += 1
            hold_s, rest_s = round(rng.uniform(*draw.hold_s), 2), round(rng.uniform(*REST_S), 2)
            amount = round(rng.uniform(*draw.amount), 2)
            yield Deal(number, kind, draw.name, hold_s, rest_s, amount, rng.randrange(1 << 32))


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault as it happened. Times are of the monotonic clock, as in the client's ledger."""

    deal: Deal
    what: str
    """What was hit: names of nodes, links, sizes."""
    began_ns: int
    lifted_ns: int
    """When all was undone."""
    recovered_ns: int
    """When the cluster was whole again; 0: not within the bound."""
    problem: str = ""


class Progress:
    """What a load client's snapshots say of being served; fed by the metrics feed's thread."""

    def __init__(self) -> None:
        self.newest: LoadMetrics | None = None
        self.gaps_ms: dict[int, float] = {}
        """By Raft group: the longest gap since :meth:`reset_gap`."""

    def take(self, frame: bytes) -> None:
        """A frame of a load client."""
        metrics = self.newest = decode_metrics(frame)
        told = {share.group: share.gap_ms for share in metrics.groups} or {0: metrics.gap_ms}
        self.gaps_ms = {group: max(self.gaps_ms.get(group, 0.0), gap_ms) for group, gap_ms in told.items()}

    def reset_gap(self) -> None:
        """Begin anew."""
        self.gaps_ms = {}

    @property
    def gap_ms(self) -> float:
        """The longest gap of any group since :meth:`reset_gap`."""
        return max(self.gaps_ms.values(), default=0.0)

    @property
    def acknowledged(self) -> int:
        """Orders, since the start."""
        return self.newest.total.acknowledged if self.newest else 0

    @property
    def waiting_groups(self) -> list[int]:
        """The Raft groups of which answers are owed for long."""
        shares = self.newest.groups if self.newest else []
        return [share.group for share in shares if share.silence_ms > WAITING_MS]


class Nemesis:
    """Strikes one cluster, one fault at a time.

    Args:
        cluster: what is broken.
        progress: says whether a client is served.
        tell: called with what is being done.
        is_over: whether the run is over; then a fault is lifted early.
        has_client: whether there is a client still. Without one, being answered is no part of a recovery.
        recovery_s: how long the cluster may take to recover.
    """

    def __init__(
        self,
        cluster: Cluster,
        progress: Progress,
        tell: Callable[[str], None],
        is_over: Callable[[], bool],
        recovery_s: float = RECOVERY_S,
        has_client: Callable[[], bool] = lambda: True,
    ) -> None:
        self._cluster = cluster
        self._progress = progress
        self._tell = tell
        self._is_over = is_over
        self._recovery_s = recovery_s
        self._has_client = has_client

    def strike(self, deal: Deal) -> Strike:
        """Carry a fault out, undo it, wait for the recovery. The result says what went wrong."""
        began_ns = time.monotonic_ns()
        strike = Strike(deal, "", began_ns, began_ns, 0)
        try:
            with self._struck(deal) as what:
                strike = replace(strike, what=what)
                self._tell(f"{deal.name}: {what}")
                self.hold(deal.hold_s)
        except ZmqlabError as error:
            told = [f"{type(error).__name__}: {error}", self.try_to_mend()]
            strike = replace(strike, problem="; ".join(filter(None, told)))
        strike = replace(strike, lifted_ns=time.monotonic_ns())
        self._tell(f"{deal.name}: recovering")
        trouble = self.await_recovery()
        if trouble:
            return replace(strike, problem="; ".join(filter(None, (strike.problem, trouble))))
        return replace(strike, recovered_ns=time.monotonic_ns())

    def try_to_mend(self) -> str:
        """End all pauses, mend and restart nodes, heal all links. Returns what can't be undone; empty if nothing."""
        cluster = self._cluster
        try:
            for name in cluster.node_faults:
                cluster.mend(name)
            for name in cluster.paused:
                cluster.resume(name)
            stopped = [name for name in cluster.nodes if name not in cluster.running]
            with ThreadPoolExecutor(max(1, len(stopped))) as pool:
                for outcome in [pool.submit(cluster.restart, name) for name in stopped]:
                    outcome.result()
            cluster.heal()
        except ZmqlabError as error:
            return f"can't be mended: {error}"
        return ""

    def await_recovery(self) -> str:
        """Wait until the cluster has recovered. Returns what is wrong if that takes too long; empty if it did not.

        It is too long if the bound has passed, and the last node has not come half its way meanwhile. So a node that
        replays a long log on a busy machine has time, and the whole wait is bounded by the logarithm of that log.
        """
        began, before, furthest = time.monotonic(), self._progress.acknowledged, 0
        deadline = began + self._recovery_s
        while True:
            told = told_by(self._cluster)
            trouble = self._trouble(told, before)
            if not trouble:
                return ""
            behind = max(told.behind.values(), default=0)
            if time.monotonic() > deadline:
                if not 0 < behind <= furthest / 2:
                    return f"not recovered within {time.monotonic() - began:.1f} s: {trouble}"
                deadline, furthest = time.monotonic() + self._recovery_s, 0
            furthest = max(furthest, behind)
            time.sleep(POLL_S)

    def hold(self, seconds: float) -> None:
        """Let time pass, less if the run is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._is_over():
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def trouble(self, acknowledged_before: int) -> str:
        """What is wrong with the cluster now; empty if it has recovered, and more orders are acknowledged than that."""
        return self._trouble(told_by(self._cluster), acknowledged_before)

    def _trouble(self, told: Told, acknowledged_before: int) -> str:
        missing = [name for name in self._cluster.nodes if name not in self._cluster.running]
        if missing:
            return f"{', '.join(missing)} does not run"
        if told.trouble or not self._has_client():
            return told.trouble
        if self._progress.acknowledged <= acknowledged_before:
            return "the client is not answered"
        waiting = self._progress.waiting_groups
        return f"the client is not answered by {numbered('group', waiting)}" if waiting else ""

    @contextmanager
    def _struck(self, deal: Deal) -> Iterator[str]:
        """The fault is there in the block, and undone behind it; the value says what was hit."""
        aim = Aim(self._cluster, random.Random(deal.pick), deal.amount)
        choose = deal.draw.aim
        if choose is None:
            with PROCEDURES[deal.kind, deal.variant](self, aim, deal) as what:
                yield what
            return
        fault = choose(aim)
        self._tell(f"{deal.name}: {fault.victims}")
        with self.breaking(fault):
            yield fault.victims

    @contextmanager
    def breaking(self, fault: Fault) -> Iterator[None]:
        """Strike before the block, undo behind it, in any case."""
        try:
            fault.strike(self._cluster)
            yield
        finally:
            fault.undo(self._cluster)


@contextmanager
def _kill_again_and_again(nemesis: Nemesis, aim: Aim, deal: Deal) -> Iterator[str]:
    """Kill the leader as soon as there is one, and again when there is another one."""
    victims: list[str] = []
    for _ in range(round(aim.amount)):
        victims.append(aim.leader())
        with nemesis.breaking(Kill(victims[-1])):
            nemesis.hold(deal.hold_s)
    yield ", ".join(victims)


@contextmanager
def _restart_one_by_one(nemesis: Nemesis, aim: Aim, deal: Deal) -> Iterator[str]:
    names = aim.everyone()
    for name in names:
        aim.cluster.restart(name)
        nemesis.hold(deal.hold_s)
        trouble = nemesis.await_recovery()
        if trouble:
            raise ClusterError(f"after the restart of {name}: {trouble}")
    yield ", ".join(names)


@contextmanager
def _kill_under_loss(nemesis: Nemesis, aim: Aim, deal: Deal) -> Iterator[str]:
    with nemesis.breaking(BadLinks(aim.links(), LinkFault(loss=aim.amount))):
        leader = aim.leader()
        with nemesis.breaking(Kill(leader)):
            yield f"{aim.amount:.0%}, {leader}"


@contextmanager
def _wipe_under_delay(nemesis: Nemesis, aim: Aim, deal: Deal) -> Iterator[str]:
    with nemesis.breaking(BadLinks(aim.links(), LinkFault(delay_ms=aim.amount))):
        victim = aim.followers()[0]
        with nemesis.breaking(Wipe(victim)):
            yield f"{aim.amount:.0f} ms, {victim}"


@contextmanager
def _kill_while_growing(nemesis: Nemesis, aim: Aim, deal: Deal) -> Iterator[str]:
    """The leader dies while it takes a new member in, at a moment that ``amount`` decides."""
    before = len(aim.cluster.nodes)
    with ThreadPoolExecutor(1) as pool:
        growing = pool.submit(aim.cluster.scale, before + 1)
        time.sleep(aim.amount)
        leader = aim.leader()
        with nemesis.breaking(Kill(leader)):
            nemesis.hold(deal.hold_s)
        growing.result()
    yield f"{before} -> {before + 1} -> {before}, {leader} after {aim.amount:.2f} s"
    aim.cluster.scale(before)


Procedure = Callable[[Nemesis, Aim, Deal], AbstractContextManager[str]]

PROCEDURES: Mapping[tuple[str, str], Procedure] = {
    ("kill", "again and again"): _kill_again_and_again,
    ("terminate", "rolling"): _restart_one_by_one,
    ("mixed", "loss, leader killed"): _kill_under_loss,
    ("mixed", "delay, follower wiped"): _wipe_under_delay,
    ("mixed", "scale up, leader killed"): _kill_while_growing,
}
"""(kind, draw) -> how it goes, for each draw that has no aim of its own."""
