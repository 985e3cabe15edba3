"""Carries out faults on a real cluster, through what :class:`~zmqlab.lab.cluster.Cluster` offers to everyone.

Each kind is a context manager: it strikes on entering and undoes on leaving, whatever happens between. Who is meant is
decided at the moment it strikes. After each fault the cluster must recover within a bound: every node runs, all know
one leader, nobody is far behind, and a client is answered. Only then comes the next one, so that what is seen belongs
to one fault, and a majority is always left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import permutations

from zmqlab.errors import ClusterError, ZmqlabError
from zmqlab.lab.cluster import Cluster
from zmqlab.load.metrics import LoadMetrics, decode_metrics
from zmqlab.scenarios.fault_schedule import Fault

RECOVERY_S = 20.0
"""A wiped node gets a snapshot of some megabytes and replays seconds of log, on two cores that serve a load."""
NEAR = 200
"""Entries behind the leader that do not count as far: a tenth of a second of ten clients at full rate. With more, the
next fault may leave a majority of which one must catch up before anybody is served."""
LEADER_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault as it happened. Times are of the monotonic clock, as in the client's ledger."""

    fault: Fault
    what: str
    """Who was meant."""
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
        self.gap_ms = 0.0
        """The longest gap since :meth:`reset_gap`."""

    def take(self, frame: bytes) -> None:
        """A frame of a load client."""
        self.newest = decode_metrics(frame)
        self.gap_ms = max(self.gap_ms, self.newest.gap_ms)

    def reset_gap(self) -> None:
        """Begin anew."""
        self.gap_ms = 0.0

    @property
    def acknowledged(self) -> int:
        """Orders, since the start."""
        return self.newest.total.acknowledged if self.newest else 0


class Nemesis:
    """Strikes one cluster, one fault at a time."""

    def __init__(
        self,
        cluster: Cluster,
        progress: Progress,
        tell: Callable[[str], None],
        is_over: Callable[[], bool],
        recovery_s: float = RECOVERY_S,
    ) -> None:
        """``tell`` hears what is being done; when ``is_over`` says so, a fault is lifted early."""
        self._cluster = cluster
        self._progress = progress
        self._tell = tell
        self._is_over = is_over
        self._recovery_s = recovery_s

    def strike(self, fault: Fault) -> Strike:
        """Carry a fault out, undo it, wait for the recovery. What goes wrong is in the result."""
        began_ns = time.monotonic_ns()
        strike = Strike(fault, "", began_ns, began_ns, 0)
        try:
            with self._struck(fault, random.Random(fault.pick)) as what:
                strike = replace(strike, what=what)
                self._tell(f"{fault.name}: {what}")
                self._hold(fault.hold_s)
        except ZmqlabError as error:
            told = [f"{type(error).__name__}: {error}", self.try_to_mend()]
            strike = replace(strike, problem="; ".join(filter(None, told)))
        strike = replace(strike, lifted_ns=time.monotonic_ns())
        self._tell(f"{fault.name}: recovering")
        trouble = self.await_recovery()
        if trouble:
            return replace(strike, problem="; ".join(filter(None, (strike.problem, trouble))))
        return replace(strike, recovered_ns=time.monotonic_ns())

    def try_to_mend(self) -> str:
        """Undo whatever is broken: all links, pauses and deaths; what can't be undone."""
        cluster = self._cluster
        try:
            for name in cluster.paused:
                cluster.resume(name)
            self._restart([name for name in cluster.nodes if name not in cluster.running])
            cluster.heal()
        except ZmqlabError as error:
            return f"can't be mended: {error}"
        return ""

    def await_recovery(self) -> str:
        """Wait until all is well; what is not, if it takes too long."""
        deadline = time.monotonic() + self._recovery_s
        before = self._progress.acknowledged
        while True:
            trouble = self._trouble(before)
            if not trouble:
                return ""
            if time.monotonic() > deadline:
                return f"not recovered within {self._recovery_s:g} s: {trouble}"
            time.sleep(POLL_S)

    def _trouble(self, acknowledged_before: int) -> str:
        cluster = self._cluster
        missing = [name for name in cluster.nodes if name not in cluster.running]
        if missing:
            return f"{', '.join(missing)} does not run"
        said = {node.name: node.status for node in cluster.status()}
        silent = [name for name, status in said.items() if status is None]
        if silent:
            return f"{', '.join(silent)} does not answer"
        statuses = [status for status in said.values() if status is not None]
        leaders = {(status.term, status.leader_id) for status in statuses}
        if len(leaders) > 1 or not statuses[0].leader_id:
            return f"the nodes don't know one leader: {sorted(leaders)}"
        end = max(status.commit_index for status in statuses)
        behind = [
            f"{name} by {end - status.applied_index:,}"
            for name, status in said.items()
            if status and end - status.applied_index > NEAR
        ]
        if behind:
            return f"far behind: {', '.join(behind)}"
        if self._progress.acknowledged <= acknowledged_before:
            return "the client is not answered"
        return ""

    def _hold(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._is_over():
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    # -- who ---------------------------------------------------------------------------------------------

    def _leader(self) -> str:
        return self._cluster.wait_for_leader(LEADER_S)

    def _followers(self, rng: random.Random) -> list[str]:
        """All but the leader, in random order."""
        leader = self._leader()
        names = [name for name in self._cluster.nodes if name != leader]
        rng.shuffle(names)
        return names

    def _victims(self, variant: str, rng: random.Random) -> list[str]:
        if variant == "leader":
            return [self._leader()]
        if variant == "follower":
            return self._followers(rng)[:1]
        names = list(self._cluster.nodes)
        rng.shuffle(names)
        return names if variant == "all" else names[: self._minority]

    @property
    def _minority(self) -> int:
        """How many can be missed."""
        return (len(self._cluster.nodes) - 1) // 2

    # -- what --------------------------------------------------------------------------------------------

    @contextmanager
    def _struck(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        method = getattr(self, "_" + fault.kind.replace("-", "_"))
        with method(fault, rng) as what:
            yield what

    @contextmanager
    def _kill(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        if fault.variant == "again and again":
            with self._kill_again(fault, rng) as what:
                yield what
            return
        victims = self._victims(fault.variant, rng)
        for name in victims:
            self._cluster.kill(name)
        yield ", ".join(victims)
        self._restart(victims)

    @contextmanager
    def _kill_again(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        """Whoever leads, as soon as somebody does."""
        victims: list[str] = []
        for _ in range(round(fault.amount)):
            leader = self._leader()
            self._cluster.kill(leader)
            victims.append(leader)
            self._hold(fault.hold_s)
            self._restart([leader])
        yield ", ".join(victims)

    @contextmanager
    def _kill_all(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        victims = self._victims("all", rng)
        for name in victims:
            self._cluster.kill(name)
        yield ", ".join(victims)
        self._restart(victims)

    @contextmanager
    def _pause(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        victims = self._victims(fault.variant, rng)
        with ExitStack() as undo:
            for name in victims:
                self._cluster.pause(name)
                undo.callback(self._cluster.resume, name)
            yield ", ".join(victims)

    @contextmanager
    def _terminate(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        if fault.variant != "rolling":
            victims = self._victims(fault.variant, rng)
            for name in victims:
                self._cluster.terminate(name)
            yield ", ".join(victims)
            self._restart(victims)
            return
        names = self._victims("all", rng)
        for name in names:
            self._cluster.restart(name)
            self._hold(fault.hold_s)
            trouble = self.await_recovery()
            if trouble:
                raise ClusterError(f"after the restart of {name}: {trouble}")
        yield ", ".join(names)

    @contextmanager
    def _partition(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        with ExitStack() as undo:
            undo.callback(self._cluster.heal)
            yield self._cut(fault.variant, rng)

    def _cut(self, variant: str, rng: random.Random) -> str:
        cluster, leader = self._cluster, self._leader()
        followers = self._followers(rng)
        if variant in ("leader cut off", "minority cut off"):
            away = [leader, *followers[: self._minority - 1]] if variant[0] == "l" else followers[: self._minority]
            rest = [name for name in cluster.nodes if name not in away]
            cluster.partition(away, rest)
            return f"{', '.join(away)} | {', '.join(rest)}"
        if variant in ("leader not heard", "leader deaf"):
            for name in followers:
                cluster.cut(*((leader, name) if variant == "leader not heard" else (name, leader)))
            return leader
        ring = list(cluster.nodes)
        rng.shuffle(ring)
        if variant == "bridge":
            half = self._minority
            cluster.partition(ring[:half], ring[len(ring) - half :])
            middle = ", ".join(ring[half : len(ring) - half]) or "nobody"
            return f"{', '.join(ring[:half])} | {', '.join(ring[len(ring) - half :])}, both hear {middle}"
        reach = (len(ring) // 2 + 1) // 2  # neighbours on either side that make a majority with oneself
        for one, other in permutations(range(len(ring)), 2):
            apart = abs(one - other)
            if min(apart, len(ring) - apart) > reach:
                cluster.cut(ring[one], ring[other])
        return " - ".join(ring)

    @contextmanager
    def _delay(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        with self._bad_links(self._pairs(fault.variant, rng), delay_ms=fault.amount):
            yield f"{fault.amount:.0f} ms"

    @contextmanager
    def _loss(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        with self._bad_links(self._pairs(fault.variant, rng), loss=fault.amount):
            yield f"{fault.amount:.0%}"

    def _pairs(self, variant: str, rng: random.Random) -> list[tuple[str, str]]:
        """The directed links that are meant."""
        pairs = list(permutations(self._cluster.nodes, 2))
        if variant == "all":
            return pairs
        if variant == "one link":
            pair = rng.choice(pairs)
            return [pair, pair[::-1]]
        victim = self._leader() if variant == "leader" else rng.choice(self._cluster.nodes)
        return [pair for pair in pairs if victim in pair]

    @contextmanager
    def _bad_links(self, pairs: Iterable[tuple[str, str]], delay_ms: float = 0.0, loss: float = 0.0) -> Iterator[None]:
        with ExitStack() as undo:
            undo.callback(self._cluster.heal)
            for source, target in pairs:
                self._cluster.link(source, target, delay_ms=delay_ms, loss=loss)
            yield

    @contextmanager
    def _wipe(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        (victim,) = self._victims(fault.variant, rng)
        self._tell(f"{fault.name}: {victim}")
        self._cluster.wipe(victim)
        yield victim

    @contextmanager
    def _scale(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        before = len(self._cluster.nodes)
        step = round(fault.amount)
        count = before + step if fault.variant == "up" else before - step
        self._tell(f"{fault.name}: {before} -> {count} nodes")
        self._cluster.scale(count)
        yield f"{before} -> {count} -> {before}"
        self._cluster.scale(before)

    @contextmanager
    def _mixed(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        """Two at once, of which a majority survives both."""
        mix = {
            "loss, leader killed": self._kill_under_loss,
            "delay, follower wiped": self._wipe_under_delay,
            "scale up, leader killed": self._kill_while_growing,
        }
        with mix[fault.variant](fault, rng) as what:
            yield what

    @contextmanager
    def _kill_under_loss(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        with self._bad_links(self._pairs("all", rng), loss=fault.amount):
            leader = self._leader()
            self._cluster.kill(leader)
            yield f"{fault.amount:.0%}, {leader}"
            self._restart([leader])

    @contextmanager
    def _wipe_under_delay(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        with self._bad_links(self._pairs("all", rng), delay_ms=fault.amount):
            (victim,) = self._victims("follower", rng)
            self._cluster.wipe(victim)
            yield f"{fault.amount:.0f} ms, {victim}"

    @contextmanager
    def _kill_while_growing(self, fault: Fault, rng: random.Random) -> Iterator[str]:
        """The leader dies while it takes a new member in, at a moment that ``amount`` decides."""
        before = len(self._cluster.nodes)
        with ThreadPoolExecutor(1) as pool:
            growing = pool.submit(self._cluster.scale, before + 1)
            time.sleep(fault.amount)
            leader = self._leader()
            self._cluster.kill(leader)
            self._hold(fault.hold_s)
            self._restart([leader])
            growing.result()
        yield f"{before} -> {before + 1} -> {before}, {leader} after {fault.amount:.2f} s"
        self._cluster.scale(before)

    def _restart(self, names: Sequence[str]) -> None:
        """All at once, as after a power cut."""
        if not names:
            return
        with ThreadPoolExecutor(len(names)) as pool:
            for outcome in [pool.submit(self._cluster.restart, name) for name in names]:
                outcome.result()
