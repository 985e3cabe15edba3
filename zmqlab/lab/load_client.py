"""A load client seen from the process that started it: started, steered, watched, waited for, judged.

The orders are made and measured in a process of their own (:mod:`zmqlab.load.load_process`), so that neither a busy
notebook nor this interpreter's lock is part of what is measured (:mod:`zmqlab.lab.load_run`). Its figures come in
through a :class:`~zmqlab.lab.feed.MetricsFeed`. The process ends with this one, when nothing refers to the load client
any more, and when a start is interrupted. So neither the run nor the feed holds it (:mod:`zmqlab.lab.register`).

:meth:`LoadClient.wait` ends with the verdict (:mod:`zmqlab.judge.verdict`): the nodes that are alive then must account
for all that was acknowledged. Nodes keep a bounded part of their log, and so the log of a long run is collected while
it goes on. A load process that dies is judged by what it has written: then the verdict is not *passed*.

Left out on purpose: what is offered, and how it is measured (:mod:`zmqlab.load`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqlab.client import ask
from zmqlab.client.retries import NodeChoice
from zmqlab.endpoints import CLIENT_PORT, parse_endpoint
from zmqlab.errors import ClusterError, FrameError, SettingsError
from zmqlab.judge.live_count import SoFar
from zmqlab.judge.log_collector import Collectors
from zmqlab.judge.run_evidence import RunEvidence
from zmqlab.judge.thresholds import parse_thresholds
from zmqlab.judge.verdict import MAX_REPLAY_S, MAX_REPLAYED_COMMANDS, LoadResult, pass_verdict
from zmqlab.keys import of_client, trust_clients_ports
from zmqlab.lab import register
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.evidence_of_run import collectors_of, collectors_of_endpoints, evidence_of
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.incidents import Incident, IncidentsOfRun
from zmqlab.lab.listeners import weakly
from zmqlab.lab.load_run import LoadRun
from zmqlab.lab.load_team import MAX_GENERATORS, LoadTeam
from zmqlab.lab.so_far import Counting
from zmqlab.lab.traced_parts import Part
from zmqlab.load import load_messages as load_wire
from zmqlab.load.load_report import LoadFigures
from zmqlab.load.load_settings import MAX_SYMBOLS, LoadSettings, parse_stages
from zmqlab.names import known_endpoints, numeric
from zmqlab.settings import parse_duration, parse_rate, require_whole
from zmqlab.tables import StatusTable
from zmqlab.wire import control

if TYPE_CHECKING:
    from zmqlab.lab.scraping import LoadExporter

START_TIMEOUT_S = 40.0  # longer than a session may take to open (10 s), on top of starting an interpreter
REACH_TIMEOUT_S = 3.0  # far nodes answer within a round trip or two
OVERTIME_S = 60.0  # beyond its schedule and its drain a load process is stuck
FIGURES_OVER = 10  # snapshots that the live figures are made of: one second
COLLECT_ABOVE_S = 15.0  # a longer run has its log collected; in a shorter one nodes keep all, up to 512 MiB
RATE, DURATION_S = 5_000, 10.0
BY_DEFAULT = "by default"  # the duration of a run whose caller names none
PLACEHOLDER = ("tcp://127.0.0.1:1",)  # while its cluster has not been started


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """All that is known of a run when it has been judged; what :mod:`zmqlab.runs` keeps of it."""

    result: LoadResult
    evidence: RunEvidence
    limits: dict[str, Any]
    """How far the verdict went: arguments of :func:`~zmqlab.judge.verdict.pass_verdict`."""
    events: Sequence[control.Event]
    """All that were known at the end, also of the time before the run."""
    incidents: Sequence[Incident]
    """What each fault of this run cost."""
    cluster: dict[str, Any]
    """The settings of the cluster, as far as this process has made it."""
    traced: Sequence[Part] = ()
    """The slowest traced requests, and the elections; empty unless they were traced."""


class LoadClient:
    """Drives a cluster with orders from a process of its own.

    Args:
        target: a Cluster, or the client endpoints of nodes that run already.
        rate: orders a second, as a number or as in "20k"; "max" finds saturation.
        duration: seconds, or as in "10s"; None: until :meth:`stop`. By default 10 s, or until the last stage.
        stages: how the rate changes, as in ``"0s:1000, 5s:1000, 5s:8000"``
            (:func:`~zmqlab.load.load_settings.parse_stages`); they stand in place of ``rate``.
        collector: reads the log along with the run, so that the verdict has all of it, whatever the nodes forget. None:
            a run of more than 15 s has a collector of its own.
        allow_compacted: pass the verdict even if the log's beginning is gone everywhere.
        max_replayed_commands: how many commands' answers are compared with those of a naive book, at most.
        max_replay_s: for how long they are compared, at most.
        fail_if: thresholds on the figures, as in ``["p99>10ms", "unserved>0.1%"]`` (:mod:`zmqlab.judge.thresholds`);
            the result says which were crossed.
        metrics_port: where metrics are shown to Prometheus. None: nowhere, or with a Cluster that shows its own
            metrics at a free port, which its targets name.
        metrics_host: the address for that.
        keys: the folder of keys for nodes that ask for one; a Cluster of this process needs none.
        generators: how many processes make the load, each an equal share of it, spread over the machines of the
            cluster's host (:mod:`zmqlab.lab.load_team`). 0: one, on this machine.
        settings: anything else that :class:`~zmqlab.load.load_settings.LoadSettings` takes, as ``seed=7`` or
            ``node_choice="random"``, which is "leader" by default where there are shards.

    Raises:
        SettingsError: an argument is none of these; the message names it.
    """

    def __init__(
        self,
        target: Cluster | Sequence[str],
        rate: float | str = RATE,
        duration: float | str | None = BY_DEFAULT,
        *,
        stages: str | Sequence[Any] = (),
        collector: Collectors | None = None,
        allow_compacted: bool = False,
        max_replayed_commands: int = MAX_REPLAYED_COMMANDS,
        max_replay_s: float = MAX_REPLAY_S,
        fail_if: Iterable[str] = (),
        metrics_port: int | None = None,
        metrics_host: str = "127.0.0.1",
        keys: str | os.PathLike[str] | None = None,
        generators: int = 0,
        **settings: Any,
    ) -> None:
        self._cluster = target if isinstance(target, Cluster) else None
        nodes = PLACEHOLDER if isinstance(target, Cluster) else _endpoints(target)
        ack = target.ack if isinstance(target, Cluster) else "quorum"
        try:
            self.settings = LoadSettings(nodes=nodes, **_offered(rate, duration, stages), **{"ack": ack} | settings)
        except TypeError as error:
            raise SettingsError(f"a load client has no such setting: {error}") from None
        self._symbols_a_group = 0 if "symbols" in settings else self.settings.symbols
        """Where the caller names no number of symbols."""
        self._node_choice: NodeChoice | None = settings.get("node_choice")
        """As the caller wants it; None: as is good for the number of shards."""
        if self._cluster is not None:
            self._follow_shards(self._cluster.shards, nodes)
        self.thresholds = parse_thresholds(fail_if)
        require_whole("generators", generators, 0, MAX_GENERATORS)
        self.generators = generators
        self._key = of_client(keys)
        self._collector = collector
        self._limits: dict[str, Any] = {
            "max_replayed_commands": max_replayed_commands,
            "max_replay_s": max_replay_s,
            "allow_compacted": allow_compacted,
        }
        if metrics_port is not None:
            require_whole("metrics_port", metrics_port, 0, 65_535)
        if not isinstance(metrics_host, str) or not metrics_host:
            raise SettingsError(f"metrics_host is {metrics_host!r}: give an address of this machine, as in '127.0.0.1'")
        self._metrics_at = (metrics_host, metrics_port)
        self._exporter: LoadExporter | None = None
        self._own_feed: MetricsFeed | None = None
        self._recent: deque[load_wire.LoadMetrics] = deque(maxlen=FIGURES_OVER)
        self._end = register.Ending()
        self._starting = threading.Lock()
        self._run: LoadRun | LoadTeam | None = None
        self._incidents = IncidentsOfRun()
        self._judged: JudgedRun | None = None
        self._judging = threading.Lock()
        """Several threads may wait, and the evidence can be taken once: it goes when the run has been judged."""
        self._deadline = math.inf

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> LoadClient:
        """Start the process; returns when its session is open and the first order is about to be sent.

        Raises:
            RequestError: no session could be opened, or no node answers.
            ClusterError: it was started before, its cluster has been stopped, or the process does not come up.
        """
        with self._starting:
            if self._run is not None:
                raise ClusterError("this load client has been started already: make another LoadClient")
            register.replace_earlier()
            self._end.owner = os.getpid()
            register.enter(self, self._end)
            try:
                self._begin()
            except BaseException:
                self._end()
                raise
        return self

    def _begin(self) -> None:
        """Do what :meth:`start` promises; each step says how it is undone."""
        if self._cluster is not None:
            self._follow_shards(self._cluster.shards, self._cluster.endpoints)
            self._end.also(self._cluster.at_stop(self._end))
        else:
            self.settings = replace(self.settings, nodes=numeric(known_endpoints(self.settings.nodes)))
            trust_clients_ports(self.settings.nodes, self._key)
            self._follow_shards(self._shards_by_an_answer(), self.settings.nodes)
        self.feed.traces.begin_run()
        self._exporter = self._show_metrics()
        if self._exporter is not None:
            self._end.also(self._exporter.close)
        self._end.also(self.feed.on_load_frame(weakly(self._take_metrics), at_once=True))
        run: LoadRun | LoadTeam
        if self.generators:
            run = LoadTeam(self.settings, self.generators, self.feed, self._end, self._cluster)
        else:
            run = LoadRun(self.settings, self.feed, self._end, self._cluster)
        self._run = run
        run.await_start(START_TIMEOUT_S)
        self._deadline = time.monotonic() + self.settings.duration_s + self.settings.drain_ms / 1000 + OVERTIME_S
        if self._collector is None and self.settings.duration_s > COLLECT_ABOVE_S:
            run.evidence.collector = self._collect().start()
        if collector := self._collector or run.evidence.collector:
            replication = self._cluster.fleet.plan.replication if self._cluster is not None else ""
            run.evidence.counting = Counting(run.ledgers, collector, self.feed, replication).start()

    def stop(self) -> None:
        """End the run early: nothing new is sent, but answers that are owed are waited for. See :meth:`wait`."""
        if self._run is not None:
            self._run.steer(load_wire.Stop())

    def set_rate(self, rate: float | str) -> None:
        """Offer so many orders a second from now on; 0 pauses.

        Raises:
            SettingsError: not a rate, or the run is or would be at rate "max".
            ClusterError: it does not run.
        """
        value = 0.0 if rate == 0 else parse_rate(rate)
        if value is None or self.settings.rate is None:
            raise SettingsError('the rate can\'t change from or to "max" during a run: start another LoadClient')
        if self._run is None or not self.running:
            raise ClusterError("the load client is not running: its rate can't be changed")
        self._run.steer(load_wire.SetRate(value))

    def wait(self, timeout_s: float | None = None) -> LoadResult:
        """Wait for the end of the run, judge it, and return its result.

        A load process that died gives a result, too: its verdict is *not judged*, or *failed*.

        Raises:
            ClusterError: it was not started, it was closed, or it has not ended within ``timeout_s``.
        """
        if self._run is None:
            raise ClusterError("the load client has not been started: load.start()")
        deadline = min(self._deadline, math.inf if timeout_s is None else time.monotonic() + timeout_s)
        while not self._run.ended.wait(0.1):
            if time.monotonic() > deadline:
                raise ClusterError("the load client has not ended in time: load.stop() ends it, load.close() kills it")
        with self._judging:
            if self._judged is None:
                self._judged = self._judge(self._run)
        return self._judged.result

    async def result(self) -> LoadResult:
        """:meth:`wait` for a coroutine, which must not block."""
        return await asyncio.to_thread(self.wait)

    def close(self) -> None:
        """End the process at once and free everything. A result that was waited for stays.

        In a forked child it does nothing: the load belongs to the process that started it.
        """
        self._end()

    def __enter__(self) -> LoadClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- views ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the run has begun and not ended."""
        return self._run is not None and not self._run.ended.is_set()

    @property
    def feed(self) -> MetricsFeed:
        """Where the live figures come in: the cluster's feed, or one of this client's own."""
        if self._cluster is not None:
            return self._cluster.feed
        if self._own_feed is None:
            self._own_feed = MetricsFeed()
            self._end.also(self._own_feed.close)
            self._watch(self.settings.nodes)
        return self._own_feed

    @property
    def metrics(self) -> LoadFigures | None:
        """How it goes, over the last second; None before the first snapshot."""
        recent = list(self._recent)
        return LoadFigures.of(recent) if recent else None

    @property
    def judged(self) -> JudgedRun:
        """The run with all its evidence, once it has been waited for. Raises ClusterError before."""
        if self._judged is None:
            raise ClusterError("the run has not been judged yet: load.wait() ends with its verdict")
        return self._judged

    @property
    def so_far(self) -> SoFar | None:
        """What is lost so far, as of a second ago. None: not counted (yet), as in a run of less than 15 s."""
        return self._run.evidence.so_far if self._run is not None else None

    @property
    def newest(self) -> load_wire.LoadMetrics | None:
        """The newest snapshot as it came, histograms and all."""
        return self._recent[-1] if self._recent else None

    def __repr__(self) -> str:
        rate = "max" if self.settings.rate is None else f"{self.settings.rate:,.0f} orders/s"
        state = "running" if self.running else ("ended" if self._run else "not started")
        figures = self.metrics
        said = f", {figures.rate:,.0f} orders/s acknowledged, {figures.latencies}" if figures and self.running else ""
        return f"<LoadClient {self.settings.name}: {rate}, {state}{said}>"

    # -- inside --------------------------------------------------------------------------------------------------

    def _follow_shards(self, shards: int, nodes: Sequence[str]) -> None:
        """As many symbols for each Raft group as one group has by default: else many groups would have hardly any."""
        now, choice = self.settings, self._node_choice or ("leader" if shards > 1 else "random")
        symbols = min(self._symbols_a_group * shards, MAX_SYMBOLS) or now.symbols
        self.settings = replace(now, nodes=tuple(nodes), shards=shards, symbols=symbols, node_choice=choice)

    def _collect(self) -> Collectors:
        """What reads the log along with this run, and does not keep this object alive."""
        if self._cluster is not None:
            return collectors_of(self._cluster)
        held, at_first = weakref.ref(self), self.settings.nodes

        def endpoints() -> Sequence[str]:
            there = held()
            return there.newest.endpoints if there is not None and there.newest is not None else at_first

        return collectors_of_endpoints(self.feed, endpoints, self.settings.shards)

    def _shards_by_an_answer(self) -> int:
        """How many groups the nodes have. Raises at once for a wrong address: opening a session is tried for long,
        since a cluster may be electing."""
        answers = ask.ask_all(
            self.settings.nodes, lambda _: control.StatusQuery(ask.new_nonce()), REACH_TIMEOUT_S, enough=bool
        )
        if not answers:
            nodes = self.settings.nodes
            raise ask.silence_of(nodes, f"no node answers at {', '.join(nodes)}: do they run, is this base port + 2?")
        told = (answer.status.shards for answer in answers.values() if isinstance(answer, control.StatusAnswer))
        return next(told, 1)

    def _show_metrics(self) -> LoadExporter | None:
        host, port = self._metrics_at
        targets = self._cluster.targets if self._cluster else None
        if port is None and targets is None:
            return None
        from zmqlab.lab.scraping import LoadExporter  # not before it is needed: it brings an HTTP server along

        return LoadExporter(self.settings, host, port or 0, targets)

    def _watch(self, endpoints: Iterable[str]) -> None:
        """Listen to what these nodes publish, unless a cluster does. Nodes come, and move, while the load runs."""
        endpoints = tuple(endpoints)
        trust_clients_ports(endpoints, self._key)
        if self._own_feed is None:
            return
        for endpoint in endpoints:
            host, port = parse_endpoint(endpoint)
            if port > CLIENT_PORT:
                self._own_feed.connect(f"tcp://{host}:{port - CLIENT_PORT}")

    def _take_metrics(self, frame: bytes) -> None:
        """Runs in the feed's thread, which must outlive whatever comes in."""
        with contextlib.suppress(FrameError, SettingsError):
            snapshot = load_wire.decode_metrics(frame)
            if self._run is not None and snapshot.pid == self._run.pid:
                self._watch(snapshot.endpoints)
                self._recent.append(snapshot)
                self._incidents.take(snapshot, self.feed.events)
                if self._exporter is not None:
                    self._exporter.take(snapshot)

    def _judge(self, run: LoadRun | LoadTeam) -> JudgedRun:
        outcome = run.outcome()
        table = self._status()
        ours = ("silent",) if self._cluster is not None and not self._cluster.fleet.outside else ()
        alive = [node.endpoint for node in table if node.state in ("running", *ours)]
        collectors = self._collector or run.evidence.collector
        taken = evidence_of(alive, outcome, self.feed, table.replication, collectors)
        verdict = pass_verdict(taken, **self._limits)
        if self._cluster is not None and not verdict.ok:
            self._cluster.keep = True  # the logs and journals are the evidence
        run.evidence.is_wanted = not verdict.ok
        if self._cluster is not None:
            run.evidence.was_judged()
        elections = sum(len(self.feed.leaders(group)) for group in range(self.settings.shards))
        result = LoadResult(outcome, verdict, self._status(), elections, self.thresholds)
        events, ended_ns = self.feed.events(), outcome.started_ns + round(outcome.elapsed_s * 1e9)
        incidents = self._incidents.judged(events, verdict, outcome.started_ns, ended_ns)
        traced = self.feed.traces.parts_of_run(outcome.started_ns, ended_ns)
        return JudgedRun(result, taken, self._limits, events, incidents, settings_of(self._cluster), traced)

    def _status(self) -> StatusTable:
        if self._cluster is not None:
            return self._cluster.status()
        members = ask.member_endpoints(self.settings.nodes)  # nodes may have come and gone since the start
        trust_clients_ports(members, self._key)
        return ask.status_table(members)


def _offered(rate: float | str, duration: float | str | None, stages: str | Sequence[Any]) -> dict[str, Any]:
    """Rate, stages and duration of the settings."""
    points, per_second = parse_stages(stages) if stages else (), parse_rate(rate)
    if points and per_second != RATE:
        raise SettingsError(f"rate is {rate!r}, and there are stages, which say it: leave the rate away")
    if duration == BY_DEFAULT:
        duration_s = points[-1].at_s if points and points[-1].at_s else DURATION_S
    else:
        duration_s = math.inf if duration is None else parse_duration(duration)
    return {"rate": points[0].rate if points else per_second, "stages": points, "duration_s": duration_s}


def settings_of(cluster: Cluster | None) -> dict[str, Any]:
    """The settings of a cluster, without folders and its name; of nodes that others have started what they say."""
    if cluster is None:
        return {}
    plan = cluster.fleet.plan
    names = [each.name for each in fields(plan) if each.name == "replication" or not cluster.fleet.outside]
    said = {name: getattr(plan, name) for name in names if name != "cluster"}
    return {"nodes": len(cluster.nodes)} | {name: value for name, value in said.items() if not isinstance(value, Path)}


def _endpoints(target: Sequence[str]) -> tuple[str, ...]:
    if isinstance(target, str):
        raise SettingsError(f"target is {target!r}: give a Cluster, or a list of endpoints")
    try:
        return tuple("tcp://{}:{}".format(*parse_endpoint(endpoint)) for endpoint in target)
    except (TypeError, AttributeError):
        raise SettingsError(f"target is {target!r}: give a Cluster, or a list of endpoints") from None
