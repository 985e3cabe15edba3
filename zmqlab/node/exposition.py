"""An HTTP endpoint for Prometheus and for probes, in threads of its own, and the histograms that it shows.

``/metrics`` in Prometheus' text format, ``/healthz`` and ``/readyz`` with 200 or, with a reason, 503. What is shown is
handed over by the caller: a function that gives finished figures. So the threads here never touch what a loop is
working on, take no lock that it takes, and a reader that is slow, or that asks too often, waits for itself.

They share the interpreter with the loop, though, and what they take is missing there: at 0.8 ms a scrape, as the
straight way takes, ten a second are 0.8 % of a node's core. So connections stay open, the plain text format is
served even to those who would rather have OpenMetrics, and what does not change from scrape to scrape is written once
(:class:`Writer`). ``benchmarks/scraping.py`` measures what is left.

Histograms: the lab's have some 300 narrow buckets (:mod:`zmqlab.histogram`), far too many series for Prometheus. They
are added up into :data:`BOUNDS_S`, a few to each power of ten. A narrow bucket across a bound counts to the wider
side, so that a value is never shown as smaller than it was; as larger, by 0.8 % at most.

Left out on purpose: TLS and passwords. The endpoint listens where the node itself does, and by default that is this
machine only.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from itertools import accumulate, chain
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Literal, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from zmqlab.errors import PortInUse
from zmqlab.histogram import BUCKET_COUNT, bucket_high, bucket_low
from zmqlab.settings import reason_of

# fmt: off
BOUNDS_S = (
    0.00002, 0.00005, 0.0001, 0.00015, 0.0002, 0.00025, 0.0003, 0.0004, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003,
    0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
)
# fmt: on
"""Upper bounds in seconds: finest from 0.1 to 0.5 ms, where the median is, and still 10, 15, 20 ms, where p99 is."""
MAX_CONNECTIONS = 16
"""A Prometheus or two, a browser, some probes. For one more another one is closed, so that strangers can't make threads
at will: one that has asked for nothing yet, else the one that has been idle longest."""
MAKE_ROOM_S = 0.5
"""A connection that is closed is given free within a millisecond, unless the node's loop holds the interpreter."""
ACCEPT_AGAIN_S = 0.1
"""After an attempt to take a connection for which there was no file descriptor."""
IDLE_S = 75.0
"""A connection on which nothing was asked for so long is closed: longer than the longest usual scrape interval."""
MAX_LINE_BYTES, MAX_HEAD_LINES = 8_192, 100
"""Of a request's head; Prometheus sends 200 bytes in six lines."""
CLOSE_WITHIN_S = 0.1
"""How long the accepting thread sleeps before it looks whether it is to end."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]
_LABELS = [*(f"{bound:.5f}".rstrip("0").rstrip(".") for bound in BOUNDS_S), "+Inf"]
_COARSE = [bisect_left(_BOUNDS_NS, bucket_high(index)) for index in range(BUCKET_COUNT)]
"""Bucket of the lab's scheme -> bucket of Prometheus'; the last one is +Inf."""
_MIDDLE_NS = [(bucket_low(index) + bucket_high(index)) // 2 for index in range(BUCKET_COUNT)]

log = logging.getLogger("zmqlab.node")


class Distribution(NamedTuple):
    """What was counted up to a moment; a finished copy."""

    counts: tuple[int, ...] = (0,) * len(_LABELS)
    """By bucket, not cumulative."""
    sum_ns: int = 0
    """The sum of all values, to 0.4 %: each counts as the middle of its narrow bucket."""


class Total:
    """Adds up the histograms of intervals. Owned by one thread; :meth:`view` is for all."""

    def __init__(self) -> None:
        self._counts = [0] * len(_LABELS)
        self._sum_ns = 0

    def add(self, sparse: Mapping[str, int]) -> None:
        """A histogram as :meth:`zmqlab.histogram.Histogram.to_sparse` gives it away."""
        counts = self._counts
        for text, count in sparse.items():
            index = int(text)
            counts[_COARSE[index]] += count
            self._sum_ns += _MIDDLE_NS[index] * count

    def view(self) -> Distribution:
        """What was counted up to now."""
        return Distribution(tuple(self._counts), self._sum_ns)


class Figure(NamedTuple):
    """One metric with all its samples: what a prometheus-client family holds, at a tenth of its cost."""

    kind: Literal["gauge", "counter", "histogram"]
    name: str
    help_text: str
    values: Sequence[float]
    """One a sample, numbers that :func:`str` writes as numbers. Of a histogram: its buckets, each with those before it;
    the count; the sum."""
    labels: tuple[str, ...] = ()
    keys: Sequence[tuple[str, ...]] = ((),)
    """The values of ``labels``, one tuple a sample; a histogram has none."""


def histogram(name: str, help_text: str, distribution: Distribution) -> Figure:
    """A histogram in seconds."""
    buckets = list(accumulate(distribution.counts))
    return Figure("histogram", name, help_text, [*buckets, buckets[-1], distribution.sum_ns / 1e9])


def family_of(figure: Figure) -> Metric:
    """The same for prometheus-client, which knows how it is written."""
    if figure.kind == "histogram":
        buckets = list(zip(_LABELS, figure.values, strict=False))
        return HistogramMetricFamily(figure.name, figure.help_text, buckets=buckets, sum_value=figure.values[-1])
    kind = GaugeMetricFamily if figure.kind == "gauge" else CounterMetricFamily
    family = kind(figure.name, figure.help_text, labels=figure.labels)
    for key, value in zip(figure.keys, figure.values, strict=True):
        family.add_metric(key, value)
    return family


class _Families(Collector):
    """What one scrape shows."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(figures: Iterable[Figure]) -> bytes:
    """Prometheus' text format, by prometheus-client."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([family_of(figure) for figure in figures]))
    return generate_latest(registry)


class Writer:
    """Writes figures as :func:`render` does, four times as fast, while only their values change.

    prometheus-client writes them once, and that text with its numbers taken out is the pattern for the next times. A
    member that comes or goes makes another pattern.
    """

    def __init__(self) -> None:
        self._pattern: tuple[object, str] = ((), "")
        """The names and keys that it is for, and the text; exchanged as one, since several threads write."""

    def write(self, figures: Iterable[Figure]) -> bytes:
        """Prometheus' text format."""
        figures = list(figures)
        shape = [(figure.name, figure.keys) for figure in figures]
        known, pattern = self._pattern
        if shape != known:
            pattern = "".join(map(_without_number, render(figures).decode().removesuffix("\n").split("\n")))
            self._pattern = (shape, pattern)
        return (pattern % tuple(chain.from_iterable(figure.values for figure in figures))).encode()


def _without_number(line: str) -> str:
    text = line.replace("%", "%%")
    return f"{text}\n" if line.startswith("#") else f"{text.rpartition(' ')[0]} %s\n"


class Page(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Pages(NamedTuple):
    """What the endpoint shows; each function is called in the threads of the endpoint."""

    metrics: Callable[[], bytes]
    """Empty: nothing to show yet."""
    why_not_alive: Callable[[], str]
    """Empty: alive."""
    why_not_ready: Callable[[], str]
    """Empty: ready."""

    def page(self, path: str) -> Page:
        """What is at ``path``."""
        match path:
            case "/metrics":
                text = self.metrics()
                return Page(200, text, CONTENT_TYPE) if text else Page(503, b"starting: there are no figures yet\n")
            case "/healthz":
                return _probe(self.why_not_alive())
            case "/readyz":
                return _probe(self.why_not_ready())
            case _:
                return Page(404, b"there are /metrics, /healthz and /readyz\n")


def _probe(why_not: str) -> Page:
    return Page(503 if why_not else 200, f"{why_not or 'ok'}\n".encode())


class Endpoint:
    """Serves :class:`Pages` from the constructor on, until :meth:`close`."""

    def __init__(self, host: str, port: int, pages: Pages, owner: str) -> None:
        """Listen on ``host`` as a node's ``--bind`` names it; ``owner`` is who says so when that fails.

        Raises:
            PortInUse: another process listens there, or this machine has no such address.
        """
        try:
            self._server = _Server(host, port, pages)
        except OSError as error:
            raise PortInUse(
                f"{owner} can't show its metrics on {host}:{port}: {reason_of(error)}."
                " Choose another --metrics-port, or end the process that has it"
            ) from None
        self.port: int = self._server.server_address[1]
        serve, every = self._server.serve_forever, (CLOSE_WITHIN_S,)
        self._thread = threading.Thread(target=serve, args=every, name="zmqlab-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join()


class _Idle(NamedTuple):
    """A connection; the smallest one is the first to be closed."""

    has_asked: bool
    since_s: float
    """On the monotonic clock."""


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.pages = pages
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: dict[socket.socket, _Idle] = {}
        """The connections; changed by single operations, by several threads."""
        host = "" if host == "*" else host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no descriptor is free: the client still waits, and the server would try again at once
            time.sleep(ACCEPT_AGAIN_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self._close_idlest()
            if not self._free.acquire(timeout=MAKE_ROOM_S):
                self.shutdown_request(request)
                return
        self._idle[request] = _Idle(has_asked=False, since_s=time.monotonic())
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._idle.pop(request, None)
            self._free.release()

    def has_answered(self, request: socket.socket) -> None:
        """A connection that is idle again."""
        if request in self._idle:
            self._idle[request] = _Idle(has_asked=True, since_s=time.monotonic())

    def _close_idlest(self) -> None:
        """Half-open connections would otherwise keep probes out until they time out, and a probe that gets no answer
        has a node restarted that is well."""
        with contextlib.suppress(OSError, ValueError):
            idle = list(self._idle.items())
            min(idle, key=lambda each: each[1])[0].shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), OSError):
            log.debug("a reader of the metrics went away", exc_info=True)
        else:
            log.exception("the metrics can't be shown")

    def end_connections(self) -> None:
        for connection in list(self._idle):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(StreamRequestHandler):
    """GET and HEAD, and of the head only what matters for them: the standard library's handler makes an e-mail of each
    request, which takes longer than half the figures."""

    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        """Answer one request; returns whether another may come on this connection."""
        words = self.rfile.readline(MAX_LINE_BYTES).split()
        if not words:
            return False
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return self._answer(Page(400, b"this is not HTTP\n"), with_body=True, stay=False)
        stay = words[2] != b"HTTP/1.0"
        for _ in range(MAX_HEAD_LINES):
            line = self.rfile.readline(MAX_LINE_BYTES).lower()
            if not line.strip():
                break
            if line.startswith(b"connection:") and b"close" in line:
                stay = False
        else:
            return self._answer(Page(431, b"too many header fields\n"), with_body=True, stay=False)
        if words[0] not in (b"GET", b"HEAD"):
            return self._answer(Page(405, b"only GET and HEAD\n"), with_body=True, stay=False)
        page = self.server.pages.page(words[1].partition(b"?")[0].decode("latin-1"))
        return self._answer(page, with_body=words[0] == b"GET", stay=stay)

    def _answer(self, page: Page, with_body: bool, stay: bool) -> bool:
        head = (
            f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {page.content_type}\r\n"
            f"Content-Length: {len(page.body)}\r\n"
            f"Connection: {'keep-alive' if stay else 'close'}\r\n\r\n"
        )
        self.wfile.write(head.encode() + (page.body if with_body else b""))
        self.server.has_answered(self.connection)
        return stay
