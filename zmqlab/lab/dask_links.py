"""The way to one worker of a Dask cluster: calls to it, what it has of nodes and generators, and its clock.

A :class:`WorkerLink` makes calls (:func:`~zmqlab.lab.worker_nodes.call_keeper`), each of which has a time limit. While
the worker has nodes, a thread always has a call open. It hears of their ends by it, and renews their lease. A
:class:`DaskNode` is what is known of a node here, and asks nothing: the feed looks at it ten to twenty times a second.

Rules:

- **What is not known is not said.** A node has ended when its worker says so, when the scheduler says that the worker
  is gone, or when its worker's lease must have run out. As long as Dask is silent and the lease runs, the node counts
  as running, and `cluster.status()`, which asks the node itself, calls it silent.
- **Clocks.** Each call gives a sample of the offset of the worker's wall clock (:mod:`~zmqlab.lab.clock_samples`).

Left out on purpose: which worker gets which node (:mod:`zmqlab.lab.dask_host`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zmqlab.errors import ClusterError
from zmqlab.lab.clock_samples import ClockSamples
from zmqlab.lab.hosts import ClockOffset
from zmqlab.lab.load_parts import FRAMES_MAX
from zmqlab.lab.worker_nodes import HEAR_S, TICK_S, Ended, LoadNews, News, Reply, Sealed, call_keeper
from zmqlab.load.load_messages import LoadResult, ToLoad
from zmqlab.load.load_process import error_of
from zmqlab.load.run_record import RunFailed, read_run
from zmqlab.settings import reason_of

CALL_S = 15.0
"""How long a worker may take to carry out a call. Most take milliseconds; a start waits for a slow disk."""
RETRY_S = 0.2
"""Between two calls while a worker does not answer."""
OVERDUE_S = 5.0
"""Behind the end of the lease: by then the nodes have ended. A tick, one second for SIGTERM, three for SIGKILL."""


class Worker(NamedTuple):
    """A worker as its scheduler knows it."""

    address: str
    """Such as ``tcp://10.0.0.5:40123``. A new process has a new one."""
    name: str
    host: str
    resources: Mapping[str, float]


class DaskNode:
    """One node in a worker, as this process knows it."""

    def __init__(self, pid: int, link: WorkerLink) -> None:
        self.pid = pid
        self.closed = False
        """Nothing more is wanted of it, but to hear of its end."""
        self._link = link
        self._status: int | None = None
        self._error = ""
        self._ended = threading.Event()
        self.ended_ns = 0
        """When it ended, on the wall clock here, if that was before it was sure; 0: just now."""

    def poll(self) -> int | None:
        """See :class:`~zmqlab.lab.hosts.NodeProcess`. What is known here; no call."""
        return self._status

    def wait(self, timeout_s: float) -> int | None:
        """See :class:`~zmqlab.lab.hosts.NodeProcess`."""
        self._ended.wait(timeout_s)
        return self._status

    def signal(self, number: int) -> None:
        """See :class:`~zmqlab.lab.hosts.NodeProcess`. Raises ClusterError if the worker does not answer."""
        if self._status is None:
            self._link.call("signal", self.pid, int(number))

    def error_text(self) -> str:
        """See :class:`~zmqlab.lab.hosts.NodeProcess`."""
        return self._error

    def close(self) -> None:
        """See :class:`~zmqlab.lab.hosts.NodeProcess`."""
        self.closed = True
        if self._status is None:  # else the worker may be gone; what is held for the node goes with the cluster
            with contextlib.suppress(ClusterError):
                self._link.call("close", self.pid)

    def ended(self, status: int, error: str, time_ns: int = 0) -> None:
        """It has ended, as its worker says, or as follows from the end of that, at ``time_ns``."""
        if self._status is None:
            self.ended_ns = time_ns
            self._error = error
            self._status = status
            self._ended.set()


class DaskPart:
    """One load generator in a worker, as this process knows it (:class:`~zmqlab.lab.load_parts.LoadPart`)."""

    def __init__(self, name: str, link: WorkerLink, folder: Path) -> None:
        self.name = name
        self.machine = str(link)
        self.has: dict[str, int] = {}
        """File of the record -> how much of it is here."""
        self.begun = False
        self.ended = False
        self._how = ""
        self._link = link
        self.folder = folder
        self._frames: deque[bytes] = deque(maxlen=FRAMES_MAX)

    def take(self, news: LoadNews) -> None:
        """The worker has told something, or its end follows from that of the worker."""
        if self.ended:
            return
        how = news.ended
        try:
            self._write(news)
        except OSError as error:  # a disk that is full here; the thread has other things to hear of
            how = f"was given up: its record can't be written here: {reason_of(error)}"
        self._frames.extend(news.frames)
        self._how = how
        self.begun = self.begun or news.begun
        self.ended = bool(how)

    def _write(self, news: LoadNews) -> None:
        for file, piece in news.pieces.items():
            with (self.folder / file).open("ab") as target:
                target.write(piece)
            self.has[file] = self.has.get(file, 0) + len(piece)
        for file in news.gone:
            (self.folder / file).unlink(missing_ok=True)
            self.has.pop(file, None)

    def clock(self) -> ClockOffset:
        """See :class:`~zmqlab.lab.load_parts.LoadPart`."""
        return self._link.clock.offset()

    def frames(self) -> Sequence[bytes]:
        """See :class:`~zmqlab.lab.load_parts.LoadPart`."""
        return [self._frames.popleft() for _ in range(len(self._frames))]

    def steer(self, message: ToLoad) -> None:
        """See :class:`~zmqlab.lab.load_parts.LoadPart`."""
        self._link.call("steer_load", self.name, message)

    def outcome(self) -> LoadResult:
        """See :class:`~zmqlab.lab.load_parts.LoadPart`."""
        record = read_run(self.folder, f"the load process on {self.machine} {self._how}")
        if isinstance(record, RunFailed):
            raise error_of(record)
        if record is None:
            raise ClusterError(f"the load generator on {self.machine} {self._how}")
        return record

    def close(self) -> None:
        """See :class:`~zmqlab.lab.load_parts.LoadPart`."""
        with contextlib.suppress(ClusterError):
            self._link.call("close_load", self.name)
        self.begun = self.ended = True


@dataclass
class WorkerClock(ClockSamples):
    """What is known of the clock of a worker's machine."""

    def take(self, sent_ns: int, reply: Reply, got_ns: int) -> None:
        """The four times of a call: sent and got on the clock here, received and answered on the clock there."""
        self.sample(sent_ns, reply.received_ns, reply.sent_ns, got_ns)


class WorkerLink:
    """The way to one worker: calls, and a thread that hears of its nodes while there are any."""

    def __init__(self, client: Any, worker: Worker, owner: str, lease_s: float) -> None:
        self.clock = WorkerClock()
        self.gone = False
        """The scheduler does not know the worker any more. To call it all the same takes Dask long."""
        self._client = client
        self.worker = worker
        self._owner = owner
        self._lease_s = lease_s
        self._nodes: dict[int, DaskNode] = {}
        """By process id: those that run, and those that have ended and are not closed. Replaced by the thread alone."""
        self._heard_s = time.monotonic()
        self._loads: dict[str, DaskPart] = {}
        """Those that have not ended, by name."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, verb: str, *arguments: Any, timeout_s: float = CALL_S) -> Any:
        """Have the worker do something, and return what it gives back.

        Raises:
            ClusterError: it does not answer, or could not do it.
        """

        async def ask() -> Any:
            return await self._client.run(
                call_keeper, self._owner, self._lease_s, verb, Sealed(*arguments), workers=[self.worker.address]
            )

        if self.gone:
            raise ClusterError(f"{self} is gone")
        sent_ns = time.time_ns()
        try:
            reply: Reply = self._client.sync(ask, callback_timeout=timeout_s)[self.worker.address]
        except ModuleNotFoundError as error:
            raise ClusterError(f"{self} lacks {error.name}: install zmqlab[dask] where it runs, as here") from None
        except Exception as error:  # of many kinds: closed communications, time-outs, a client that was closed
            raise ClusterError(f"{self} does not answer: {error!r}") from None
        self.clock.take(sent_ns, reply, time.time_ns())
        self._heard_s = time.monotonic()
        if reply.error is not None:
            raise reply.error
        return reply.value

    def __str__(self) -> str:
        return f"the Dask worker {self.worker.name} ({self.worker.address})"

    def follow(self, node: DaskNode) -> None:
        """Hear of this node until it has ended and was closed."""
        with self._lock:
            self._nodes[node.pid] = node
            self._listen_in_a_thread()

    def follow_load(self, load: DaskPart) -> None:
        """Hear of this load generator until it has ended."""
        with self._lock:
            self._loads[load.name] = load
            self._listen_in_a_thread()

    def _listen_in_a_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="zmqlab-dask", daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        """The thread. Its calls renew the lease."""
        broken_ns = 0  # when the worker began not to answer: the end of one that is gone, before an election
        while self._is_wanted():
            nodes, loads = dict(self._nodes), dict(self._loads)
            known = [pid for pid, node in nodes.items() if node.poll() is not None]
            has = {name: load.has for name, load in loads.items()}
            try:
                news: News = self.call("hear", list(nodes), known, has, timeout_s=HEAR_S + CALL_S)
                broken_ns = 0
            except ClusterError:
                broken_ns = broken_ns or time.time_ns()
                time.sleep(RETRY_S)  # so that the scheduler has noticed; to call a worker that is gone takes Dask long
                why = self._why_lost()
                if not why:
                    continue
                news = News(
                    [Ended(pid, -signal.SIGKILL, why) for pid in nodes],
                    {name: LoadNews(True, (), {}, (), f"was lost: {why}") for name in loads},
                )
            for ended in news.ended:
                nodes[ended.pid].ended(ended.status, ended.error, broken_ns if self.gone else 0)
            for name, told in news.loads.items():
                loads[name].take(told)

    def _is_wanted(self) -> bool:
        """Whether there is something to hear of; else the thread ends."""
        with self._lock:
            self._nodes = {pid: node for pid, node in self._nodes.items() if node.poll() is None or not node.closed}
            self._loads = {name: load for name, load in self._loads.items() if not load.ended}
            if not self._nodes and not self._loads:
                self._thread = None
            return self._thread is not None

    def _why_lost(self) -> str:
        """Why the nodes of a worker that does not answer have ended, if that is sure."""
        if time.monotonic() - self._heard_s > self._lease_s + TICK_S + OVERDUE_S:
            return f"{self} was not reached for {self._lease_s:g} s, and then ends its nodes"
        try:
            known = self._client.sync(self._known_workers, callback_timeout=CALL_S)
        except Exception:  # the scheduler is silent, too: it may come back while the lease runs
            return ""
        self.gone = self.worker.address not in known
        return f"{self} is gone, and its nodes with it" if self.gone else ""

    async def _known_workers(self) -> Collection[str]:
        known: Collection[str] = await self._client.nthreads()
        return known
