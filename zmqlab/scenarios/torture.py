"""Torture: a real cluster under load, everything broken in turn, and the verdict on what clients were told.

A run starts a cluster, a load client and a :class:`~zmqlab.judge.log_collector.LogCollector`. The nemesis
(:mod:`~zmqlab.scenarios.nemesis`) carries out the faults that the seed deals, one after the other, until the
time is up. Then all is mended, the load ends, and the verdict (:mod:`zmqlab.judge.verdict`) judges.
:mod:`~zmqlab.scenarios.torture_report` says how long no client was served under each kind of fault.

A run fails if the verdict fails, if the cluster does not recover from a fault within its bound, or if a client saw an
error. Its folder with logs and journals is kept then. A load process that died breaks no promise of the cluster: faults
end with it, and the verdict on what it has left says *not judged*, unless that shows a broken promise.

The faults run in a thread, so that the process that started them can show what happens: :attr:`Torture.state`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zmqlab.errors import SettingsError
from zmqlab.judge.live_count import SoFar
from zmqlab.judge.log_collector import Collectors
from zmqlab.judge.thresholds import parse_thresholds
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.evidence_of_run import collectors_of
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.node_plan import check_shards
from zmqlab.load.load_settings import MAX_SYMBOLS, LoadSettings
from zmqlab.load.run_record import kept_for_good, read_ledger
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.runs.kept_run import Run
from zmqlab.scenarios import nemesis
from zmqlab.scenarios.nemesis import Deal, Nemesis, Progress, Strike
from zmqlab.scenarios.torture_report import CALM, ByGroup, TortureResult, calm_gap_ms, outcomes
from zmqlab.settings import DEFAULT_REPLICATION, MAX_RATE, Durability, require_number, require_whole
from zmqlab.wording import counted, refused

WARM_UP_S = 1.0
"""Calm load before the first fault: a client has its sessions and its first answers by then."""
COOL_DOWN_S = 1.0
"""Calm load after the last fault, before the verdict."""
BATCH_INTERVAL_MS = 5.0
"""Orders that fall due within so long share a request, for each client: a log of a size that can be judged."""
LEDGER_MAX = 4_000_000
"""Requests remembered; some 300 bytes each when they are judged."""
PLACEHOLDER = "tcp://127.0.0.1:1"
"""Stands for the nodes while settings are checked, before there is a cluster."""
BOOK_READS = 10.0
"""Linearizable queries a second. A node answers one in well under a millisecond, beside thousands of orders."""
REPLAY_S = 120.0
"""How long the verdict may compare answers with the naive book's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TortureSettings:
    """What a run does.

    Raises:
        SettingsError: a value is out of range, or the values don't fit each other.
    """

    duration_s: float = 300.0
    """How long faults strike."""
    rate: float = 10_000.0
    """Orders a second."""
    nodes: int = 3
    shards: int = 1
    """How many Raft groups share the symbols."""
    replication_factor: int = 0
    """How many nodes hold each group; 0: all."""
    seed: int = 1
    """Of the faults and of the orders."""
    clients: int = 10
    symbols: int = 16
    """For each of the shards."""
    kinds: tuple[str, ...] = field(default_factory=nemesis.kinds)
    """The kinds of fault that are drawn from."""
    history: Path | None = None
    """Where the operations' history goes (docs/history-format.md)."""
    durability: Durability = "os"
    replication: str = DEFAULT_REPLICATION
    """How the nodes copy the log (:mod:`zmqlab.replica.replications`); a weak one must fail."""
    keys: bool = False
    """All traffic is encrypted, and strangers are kept out."""
    run_dir: Path | None = None
    keep: Path | None = None
    """Where the run is kept (:mod:`zmqlab.runs`)."""
    fail_if: tuple[str, ...] = ()
    """Thresholds (:mod:`zmqlab.judge.thresholds`)."""
    fresh: bool = False
    """Begin anew in ``run_dir``."""

    def __post_init__(self) -> None:
        require_whole("seed", self.seed, 0, 2**63)
        parse_thresholds(self.fail_if)
        REPLICATIONS.expect(self.replication)
        check_shards(self.nodes, self.shards, self.replication_factor)
        self.deals()
        if self.durability == "memory":
            raise SettingsError("durability memory survives nothing: there is nothing to prove")
        require_number("duration_s", self.duration_s, 1e-3, 7 * 86_400)
        require_number("rate", self.rate, 1, MAX_RATE)
        LoadSettings(nodes=(PLACEHOLDER,), **self.load)  # says what is wrong with them before anything is started

    def deals(self) -> Iterator[Deal]:
        """The faults, without end."""
        return nemesis.deals(self.seed, self.nodes, self.kinds, self.replication)

    @property
    def load(self) -> dict[str, Any]:
        """The load client's share of these settings."""
        return {
            "rate": self.rate,
            "seed": self.seed,
            "symbols": min(self.symbols * self.shards, MAX_SYMBOLS),
            "clients": self.clients,
            "history": None if self.history is None else str(self.history),
            "batch_interval_ms": BATCH_INTERVAL_MS,
            "ledger_limit": LEDGER_MAX,
            "book_reads": BOOK_READS,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class TortureState:
    """A run at one moment, for displays."""

    phase: str
    """``starting``, ``breaking``, ``mending``, ``judging`` or ``ended``."""
    elapsed_s: float
    doing: str
    """The fault under way, or ``calm``."""
    faults: int
    """How many are over."""
    gap_ms: float
    """The longest gap in the fault under way, or in the last one; of the Raft group for which it is longest."""
    so_far: SoFar | None
    """What was lost so far; None: that is not counted yet."""


class Torture:
    """One run; see the module.

    Args:
        settings: what to do.
        on_strike: called with each fault when it is over, and with the longest gap of each Raft group in ms as it was
            seen live.
        on_start: called with the cluster when its nodes take orders, before the load begins.
        on_phase: called with each phase when it begins (:attr:`TortureState.phase`).

    All of them are called in the torture's thread.
    """

    def __init__(
        self,
        settings: TortureSettings,
        on_strike: Callable[[Strike, Mapping[int, float]], None] | None = None,
        on_start: Callable[[Cluster], None] = lambda _: None,
        on_phase: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.strikes: list[Strike] = []
        self.progress = Progress()
        self._gaps_seen_ms: list[Mapping[int, float]] = []
        """Of each strike, by Raft group, as the load published them."""
        self._on_strike, self._on_start, self._on_phase = on_strike, on_start, on_phase
        self._phase, self._doing = "starting", ""
        self._began = 0.0
        self._load_client: LoadClient | None = None
        """None before there is one."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zmqlab-torture", daemon=True)
        self._result: TortureResult | None = None
        self._error: BaseException | None = None
        self.cluster = Cluster(
            settings.nodes,
            shards=settings.shards,
            replication_factor=settings.replication_factor,
            durability=settings.durability,
            replication=settings.replication,
            keys=settings.keys,
            run_dir=settings.run_dir,
            fresh=settings.fresh,
        )

    def start(self) -> Torture:
        """Begin; returns at once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """No more faults: mend, judge, end."""
        self._stop.set()

    @property
    def running(self) -> bool:
        """Whether the result is still to come."""
        return self._thread.is_alive()

    @property
    def state(self) -> TortureState:
        """What is going on."""
        elapsed_s = time.monotonic() - self._began if self._began else 0.0
        so_far = self._load_client.so_far if self._load_client is not None else None
        return TortureState(self._phase, elapsed_s, self._doing, len(self.strikes), self.progress.gap_ms, so_far)

    def result(self) -> TortureResult:
        """Wait for the end.

        Raises:
            ZmqlabError: there was no torture: the cluster or the load did not start.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._torture()
        except BaseException as error:  # result() raises it
            self._error = error
        finally:
            self._enter("ended")

    def _torture(self) -> TortureResult:
        settings = self.settings
        with self.cluster as cluster, collectors_of(cluster) as collector:
            cluster.feed.on_load_frame(self.progress.take, at_once=True)
            self._on_start(cluster)
            with self._load(collector) as load:
                self._load_client = load
                load.start()
                start_ns = time.monotonic_ns()
                self._began = time.monotonic()
                problems = self._break(load)
                self._enter("judging")
                load.stop()
                result = load.wait()
                kept = "" if settings.keep is None else str(Run.keep(load, settings.keep, "torture").folder)
            problems += _errors_at_the_client(result)
            acknowledged_ns, forgotten_ns = _acknowledged(result)
            struck = outcomes(self.strikes, acknowledged_ns, self._gaps_seen_ms, forgotten_ns)
            problems += [
                f"fault {each.strike.deal.number}, {each.strike.deal.name}: {each.problem}"
                for each in struck
                if each.problem
            ]
            cluster.keep = cluster.keep or bool(problems) or not result.verdict.ok
            where = str(cluster.run_dir) if cluster.keep else ""
            calm = {group: calm_gap_ms(self.strikes, times, forgotten_ns) for group, times in acknowledged_ns.items()}
            return TortureResult(settings.as_dict(), result, struck, calm, start_ns, problems, where, kept)

    def _load(self, collector: Collectors) -> LoadClient:
        settings = self.settings
        return LoadClient(
            self.cluster,
            duration=None,
            collector=collector,
            max_replayed_commands=round(2 * settings.rate * settings.duration_s) + 1_000_000,
            max_replay_s=REPLAY_S,
            fail_if=settings.fail_if,
            **settings.load,
        )

    def _break(self, load: LoadClient) -> list[str]:
        """Strike until the time is up, then mend all; what went wrong with either."""
        striker = Nemesis(
            self.cluster, self.progress, self._tell, lambda: self._is_over(load), has_client=lambda: load.running
        )
        self._enter("breaking", CALM)
        self._wait(WARM_UP_S, load)
        for deal in self.settings.deals():
            self._doing = CALM
            self._wait(deal.rest_s, load)
            if self._is_over(load):
                break
            self.progress.reset_gap()
            strike = striker.strike(deal)
            self.strikes.append(strike)
            self._gaps_seen_ms.append(dict(self.progress.gaps_ms))
            if self._on_strike is not None:
                self._on_strike(strike, self._gaps_seen_ms[-1])
            if not strike.recovered_ns:
                break  # a cluster that does not recover proves nothing more
        self._enter("mending")
        trouble = striker.try_to_mend() or striker.await_recovery()
        self._wait(COOL_DOWN_S, load)
        return [f"at the end: {trouble}"] if trouble else []

    def _is_over(self, load: LoadClient) -> bool:
        timed_out = time.monotonic() - self._began >= self.settings.duration_s
        return timed_out or self._stop.is_set() or not load.running

    def _wait(self, seconds: float, load: LoadClient) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and load.running:
            time.sleep(0.02)

    def _tell(self, doing: str) -> None:
        self._doing = doing

    def _enter(self, phase: str, doing: str = "") -> None:
        self._phase, self._doing = phase, doing
        self._on_phase(phase)


def _acknowledged(result: LoadResult) -> tuple[ByGroup, tuple[int, int] | None]:
    """When requests were acknowledged, by Raft group; and between which of these times others are not remembered."""
    outcome = result.report.result
    ledger = read_ledger(outcome.ledger)
    ledger = ledger[np.argsort(ledger["completed_ns"], kind="stable")]
    times = ledger["completed_ns"]
    first = kept_for_good(LEDGER_MAX)
    forgotten = (int(times[first - 1]), int(times[first])) if outcome.unremembered and len(times) > first else None
    return {int(group): times[ledger["group"] == group] for group in np.unique(ledger["group"])}, forgotten


def _errors_at_the_client(result: LoadResult) -> list[str]:
    """What clients saw. The requests that a load process has left open when it died are no error."""
    outcome = result.report.result
    problems = []
    if result.total.refused:
        problems.append(refused(result.total.refused))
    if outcome.open_requests and not outcome.problem:
        problems.append(f"{counted(len(outcome.open_requests), 'request was', 'requests were')} never answered")
    return problems
