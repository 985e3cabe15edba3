"""A load client seen from the process that started it: started, steered, watched, waited for, judged.

The orders are made and measured in a process of their own (:mod:`zmqlab.load.load_process`), so that neither a busy
notebook nor this interpreter's lock is part of what is measured. Two ways lead back from it: its figures come in
through a :class:`~zmqlab.lab.feed.MetricsFeed`, its result through a ROUTER that a thread of this object reads. The
process ends when the pipe at its standard input ends, so it can't outlive this one.

:meth:`LoadClient.wait` ends with the verdict (:mod:`zmqlab.judge.verdict`): the nodes that are alive then must account
for all that was acknowledged.

Left out on purpose: what is offered, and how it is measured (:mod:`zmqlab.load`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq

from zmqlab import errors, net
from zmqlab.client import ask
from zmqlab.errors import ClusterError, FrameError, RequestTimeout, SettingsError, ZmqlabError
from zmqlab.histogram import Histogram
from zmqlab.judge.evidence import LogCollector, acknowledgements_of, book_reads_of, totals_of
from zmqlab.judge.verdict import MAX_REPLAY_S, MAX_REPLAYED_COMMANDS, LoadResult, Verdict, judge
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.hosts import keep_to_this_process, module_environment
from zmqlab.load import load_messages as load_wire
from zmqlab.load.load_process import command_line
from zmqlab.load.load_settings import LoadSettings
from zmqlab.names import known_endpoints, numeric
from zmqlab.settings import CLIENT_PORT, parse_duration, parse_endpoint, parse_rate, require_whole
from zmqlab.tables import StatusTable
from zmqlab.wire import control

if TYPE_CHECKING:
    from zmqlab.lab.scraping import LoadExporter

START_TIMEOUT_S = 20.0
"""Longer than a session may take to open (10 s) on top of starting an interpreter."""
REACH_TIMEOUT_S = 3.0
"""Nodes on this machine answer within milliseconds; far ones within a round trip or two."""
OVERTIME_S = 60.0
"""Beyond its schedule and its drain a load process is stuck."""
POLL_MS = 50
"""How soon an order to the load process leaves, and how soon its end is seen."""
FIGURES_OVER = 10
"""Snapshots that the live figures are made of: one second."""
BOUNDS = net.SocketBounds(frame_bytes=load_wire.MAX_RESULT_BYTES)
"""A result holds 52 bytes for each acknowledged request."""
PLACEHOLDER = ("tcp://127.0.0.1:1",)
"""The nodes of a load client whose cluster has not been started yet."""


class LoadFigures(NamedTuple):
    """How a run goes, over about the last second."""

    state: str
    """``running``, ``draining`` or ``ended``."""
    elapsed_s: float
    rate: float
    """Orders acknowledged a second."""
    p50_ms: float
    """Response time."""
    p99_ms: float
    offered: int
    """Orders since the start, like the next."""
    acknowledged: int
    outstanding: int
    """Requests that wait for their answer."""


class LoadClient:
    """Drives a cluster with orders from a process of its own.

    Args:
        target: a Cluster, or the client endpoints of nodes that run already.
        rate: orders a second, as a number or as in "20k"; "max" finds saturation.
        duration: seconds, or as in "10s"; None: until :meth:`stop`.
        collector: reads the log along with the run, so that the verdict has all of it, whatever the nodes forget.
        allow_compacted: pass the verdict even if the log's beginning is gone everywhere.
        max_replayed_commands: how many commands' answers are compared with those of a naive book, at most.
        max_replay_s: for how long they are compared, at most.
        metrics_port: where metrics are shown to Prometheus. None: nowhere, or with a Cluster that shows its own
            metrics at a free port, which its targets name.
        metrics_host: the address for that.
        settings: anything else that :class:`~zmqlab.load.load_settings.LoadSettings` takes, as ``seed=7``,
            ``node_choice="leader"``, ``symbols=4``.

    Raises:
        SettingsError: an argument is none of these; the message names it.
    """

    def __init__(
        self,
        target: Cluster | Sequence[str],
        rate: float | str = 5_000,
        duration: float | str | None = "10s",
        *,
        collector: LogCollector | None = None,
        allow_compacted: bool = False,
        max_replayed_commands: int = MAX_REPLAYED_COMMANDS,
        max_replay_s: float = MAX_REPLAY_S,
        metrics_port: int | None = None,
        metrics_host: str = "127.0.0.1",
        **settings: Any,
    ) -> None:
        self._cluster = target if isinstance(target, Cluster) else None
        nodes = PLACEHOLDER if isinstance(target, Cluster) else _endpoints(target)
        try:
            self.settings = LoadSettings(
                nodes=nodes,
                rate=parse_rate(rate),
                duration_s=math.inf if duration is None else parse_duration(duration),
                **{"node_choice": "random"} | settings,
            )
        except TypeError as error:
            raise SettingsError(f"a load client has no such setting: {error}") from None
        self._collector = collector
        self._allow_compacted = allow_compacted
        self._max_replayed_commands = max_replayed_commands
        self._max_replay_s = max_replay_s
        if metrics_port is not None:
            require_whole("metrics_port", metrics_port, 0, 65_535)
        if not isinstance(metrics_host, str) or not metrics_host:
            raise SettingsError(f"metrics_host is {metrics_host!r}: give an address of this machine, as in '127.0.0.1'")
        self._metrics_at = (metrics_host, metrics_port)
        self._exporter: LoadExporter | None = None
        self._own_feed: MetricsFeed | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._recent: deque[load_wire.LoadMetrics] = deque(maxlen=FIGURES_OVER)
        self._orders: deque[load_wire.ToLoad] = deque()
        """Messages that the thread has still to send to the load process."""
        self._started = threading.Event()
        self._ended = threading.Event()
        self._outcome: load_wire.LoadResult | None = None
        self._failure: ZmqlabError | None = None
        self._result: LoadResult | None = None
        self._deadline = math.inf

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> LoadClient:
        """Start the process; returns when its session is open and the first order is about to be sent.

        Raises:
            RequestError: no session could be opened, or no node answers.
            ClusterError: it was started before, or the process does not come up.
        """
        if self._process is not None:
            raise ClusterError("this load client has been started already: make another LoadClient")
        if self._cluster is not None:
            self.settings = replace(self.settings, nodes=self._cluster.endpoints)
            self._cluster.at_stop(self.close)
        else:
            self.settings = replace(self.settings, nodes=numeric(known_endpoints(self.settings.nodes)))
            self._require_an_answer()
        self._exporter = self._show_metrics()
        self._unsubscribe = self.feed.on_load_frame(self._take_metrics)
        self._context = net.new_context()
        router = net.open_socket(self._context, zmq.ROUTER, BOUNDS)
        command = command_line(self.settings, self.feed.load_endpoint, net.bind_to_free_port(router))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=module_environment(),
            start_new_session=True,
        )
        keep_to_this_process(self._process.stdin)
        self._thread = threading.Thread(target=self._listen, args=(router,), name="zmqlab-load", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S) and not self._ended.is_set():
            self.close()
            raise ClusterError(f"the load client did not begin within {START_TIMEOUT_S:g} s")
        if self._failure is not None:
            self.close()
            raise self._failure
        self._deadline = time.monotonic() + self.settings.duration_s + self.settings.drain_ms / 1000 + OVERTIME_S
        return self

    def stop(self) -> None:
        """End the run early: nothing new is sent, but answers that are owed are waited for. See :meth:`wait`."""
        self._orders.append(load_wire.Stop())

    def set_rate(self, rate: float | str) -> None:
        """Offer so many orders a second from now on; 0 pauses.

        Raises:
            SettingsError: not a rate, or the run is or would be at rate "max".
            ClusterError: it does not run.
        """
        value = 0.0 if rate == 0 else parse_rate(rate)
        if value is None or self.settings.rate is None:
            raise SettingsError('the rate can\'t change from or to "max" during a run: start another LoadClient')
        if not self.running:
            raise ClusterError("the load client is not running: its rate can't be changed")
        self._orders.append(load_wire.SetRate(value))

    def wait(self, timeout_s: float | None = None) -> LoadResult:
        """Wait for the end of the run, judge it, and return its result.

        Raises:
            ClusterError: it was not started, it died, or it has not ended within ``timeout_s``.
        """
        if self._process is None:
            raise ClusterError("the load client has not been started: load.start()")
        deadline = min(self._deadline, math.inf if timeout_s is None else time.monotonic() + timeout_s)
        while not self._ended.wait(0.1):
            if time.monotonic() > deadline:
                raise ClusterError("the load client has not ended in time: load.stop() ends it, load.close() kills it")
        if self._failure is not None:
            raise self._failure
        if self._result is None:
            self._result = self._judge()
        return self._result

    async def result(self) -> LoadResult:
        """:meth:`wait` for a coroutine, which must not block."""
        return await asyncio.to_thread(self.wait)

    def close(self) -> None:
        """End the process at once and free everything. A result that was waited for stays.

        In a forked child it does nothing: the load belongs to the process that started it.
        """
        if self._process is None or os.getpid() != self._owner:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._thread.join(5)
        self._context.term()
        self._stderr.close()
        self._unsubscribe()
        if self._exporter is not None:
            self._exporter.close()
        if self._own_feed is not None:
            self._own_feed.close()

    def __enter__(self) -> LoadClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- views ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the run has begun and not ended."""
        return self._process is not None and not self._ended.is_set()

    @property
    def feed(self) -> MetricsFeed:
        """Where the live figures come in: the cluster's feed, or one of this client's own."""
        if self._cluster is not None:
            return self._cluster.feed
        if self._own_feed is None:
            self._own_feed = MetricsFeed()
            self._watch(self.settings.nodes)
        return self._own_feed

    @property
    def metrics(self) -> LoadFigures | None:
        """How it goes, over the last second; None before the first snapshot."""
        recent = list(self._recent)
        if not recent:
            return None
        merged = Histogram()
        for each in recent:
            merged.merge(Histogram.from_sparse(each.response_time, each.response_time_max_ns))
        p50_ns, p99_ns = merged.percentiles((50, 99))
        newest = recent[-1]
        over_s = sum(each.interval_s for each in recent) or 1.0
        acknowledged = sum(each.interval.acknowledged for each in recent)
        total = newest.total
        return LoadFigures(
            state=newest.state,
            elapsed_s=newest.elapsed_s,
            rate=acknowledged / over_s,
            p50_ms=p50_ns / 1e6,
            p99_ms=p99_ns / 1e6,
            offered=total.offered,
            acknowledged=total.acknowledged,
            outstanding=newest.outstanding,
        )

    @property
    def newest(self) -> load_wire.LoadMetrics | None:
        """The newest snapshot as it came, histograms and all."""
        return self._recent[-1] if self._recent else None

    def __repr__(self) -> str:
        rate = "max" if self.settings.rate is None else f"{self.settings.rate:,.0f} orders/s"
        state = "running" if self.running else ("ended" if self._process else "not started")
        figures = self.metrics
        said = (
            f", {figures.rate:,.0f} orders/s acknowledged, p50 {figures.p50_ms:.2f} ms, p99 {figures.p99_ms:.2f} ms"
            if figures and self.running
            else ""
        )
        return f"<LoadClient {self.settings.name}: {rate}, {state}{said}>"

    # -- inside --------------------------------------------------------------------------------------------------

    def _require_an_answer(self) -> None:
        """Raise at once for a wrong address. Opening a session is tried for long, since a cluster may be electing."""
        answers = ask.ask_all(
            self.settings.nodes, lambda _: control.StatusQuery(ask.new_nonce()), REACH_TIMEOUT_S, enough=bool
        )
        if not answers:
            raise RequestTimeout(
                f"no node answers at {', '.join(self.settings.nodes)}: do they run, and is this base port + 2?"
            )

    def _show_metrics(self) -> LoadExporter | None:
        host, port = self._metrics_at
        targets = self._cluster.targets if self._cluster else None
        if port is None and targets is None:
            return None
        from zmqlab.lab.scraping import LoadExporter  # not before it is needed: it brings an HTTP server along

        return LoadExporter(self.settings, host, port or 0, targets)

    def _watch(self, endpoints: Iterable[str]) -> None:
        """Listen to what these nodes publish, unless a cluster does. Nodes come, and move, while the load runs."""
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
            if self._process is not None and snapshot.pid == self._process.pid:
                self._recent.append(snapshot)
                self._watch(snapshot.endpoints)
                if self._exporter is not None:
                    self._exporter.take(snapshot)

    def _listen(self, router: net.Socket) -> None:
        """The thread: passes messages between the load process and this object until the process has ended."""
        assert self._process is not None
        identity = b""
        try:
            while not self._ended.is_set():
                ended = self._process.poll()  # before the last look at the socket: what it said is there by then
                while router.poll(POLL_MS if ended is None else 0):
                    identity, *frames = router.recv_multipart()
                    self._take_message(frames)
                while identity and self._orders:
                    router.send_multipart([identity, load_wire.encode_control(self._orders.popleft())])
                if ended is not None and not self._ended.is_set():
                    self._failure = ClusterError(f"the load client ended with status {ended}: {self._said()}")
                    self._ended.set()
        finally:
            router.close(0)
            self._started.set()

    def _take_message(self, frames: list[bytes]) -> None:
        with contextlib.suppress(FrameError):
            for frame in frames:
                message = load_wire.decode_to_parent(frame)
                if isinstance(message, load_wire.LoadEnded):
                    self._outcome = message.result
                elif isinstance(message, load_wire.LoadFailed):
                    self._failure = _error_of(message)
                if isinstance(message, load_wire.LoadStarted):
                    self._started.set()
                else:
                    self._ended.set()

    def _said(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def _judge(self) -> LoadResult:
        assert self._outcome is not None
        table = self._status()
        alive = [node.endpoint for node in table if node.state in ("running", "silent" if self._cluster else "running")]
        verdict = self._verdict(alive, self._outcome)
        if self._cluster is not None and not verdict.ok:
            self._cluster.keep = True  # the logs and journals are the evidence
        return LoadResult(self._outcome, verdict, self._status(), len(self.feed.leaders()))

    def _status(self) -> StatusTable:
        if self._cluster is not None:
            return self._cluster.status()
        members = ask.member_endpoints(self.settings.nodes)  # nodes may have come and gone since the start
        return StatusTable.of_answers(members, ask.statuses(members))

    def _verdict(self, alive: Sequence[str], outcome: load_wire.LoadResult) -> Verdict:
        return judge(
            alive,
            acknowledgements_of(outcome),
            unremembered=outcome.unremembered,
            mismatches=len(self.feed.mismatches()),
            leaders=self.feed.leaders(),
            max_replayed_commands=self._max_replayed_commands,
            max_replay_s=self._max_replay_s,
            allow_compacted=self._allow_compacted,
            collector=self._collector,
            reads=book_reads_of(outcome),
            totals=totals_of(outcome),
        )


def _endpoints(target: Sequence[str]) -> tuple[str, ...]:
    if isinstance(target, str):
        raise SettingsError(f"target is {target!r}: give a Cluster, or a list of endpoints")
    try:
        return tuple("tcp://{}:{}".format(*parse_endpoint(endpoint)) for endpoint in target)
    except (TypeError, AttributeError):
        raise SettingsError(f"target is {target!r}: give a Cluster, or a list of endpoints") from None


def _error_of(failed: load_wire.LoadFailed) -> ZmqlabError:
    kind = getattr(errors, failed.kind, None)
    known = isinstance(kind, type) and issubclass(kind, ZmqlabError)
    return kind(failed.message) if known and kind is not None else ClusterError(f"{failed.kind}: {failed.message}")
