"""The way to one worker of a Dask cluster: calls to it, its nodes as they are known here, and its clock.

A :class:`WorkerLink` makes calls (:func:`~zmqlab.lab.worker_nodes.zmqlab_call`), each of which has a time limit. While
the worker has nodes, a thread has always a call open that hears of their ends, and by that renews their lease. A
:class:`DaskNode` is what is known of a node here, and asks nothing: the feed looks at it twenty times a second.

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
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zmqlab.errors import ClusterError
from zmqlab.lab.clock_samples import ClockSamples
from zmqlab.lab.worker_nodes import HEAR_S, TICK_S, Ended, Reply, Sealed, zmqlab_call

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
        with contextlib.suppress(ClusterError):
            self._link.call("close", self.pid)

    def ended(self, status: int, error: str) -> None:
        """It has ended, as its worker says, or as follows from the end of that."""
        if self._status is None:
            self._error = error
            self._status = status
            self._ended.set()


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
        self._client = client
        self._worker = worker
        self._owner = owner
        self._lease_s = lease_s
        self._nodes: dict[int, DaskNode] = {}
        """By process id: those that run, and those that have ended and are not closed."""
        self._heard_s = time.monotonic()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, verb: str, *arguments: Any, timeout_s: float = CALL_S) -> Any:
        """Have the worker do something, and return what it gives back.

        Raises:
            ClusterError: it does not answer, or could not do it.
        """

        async def ask() -> Any:
            return await self._client.run(
                zmqlab_call, self._owner, self._lease_s, verb, Sealed(*arguments), workers=[self._worker.address]
            )

        sent_ns = time.time_ns()
        try:
            reply: Reply = self._client.sync(ask, callback_timeout=timeout_s)[self._worker.address]
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
        return f"the Dask worker {self._worker.name} ({self._worker.address})"

    def follow(self, node: DaskNode) -> None:
        """Hear of this node until it has ended and was closed."""
        with self._lock:
            self._nodes[node.pid] = node
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="zmqlab-dask", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        """The thread. Its calls renew the lease."""
        while following := self._following():
            known = [pid for pid, node in following.items() if node.poll() is not None]
            try:
                for ended in self.call("hear", list(following), known, timeout_s=HEAR_S + CALL_S):
                    self._tell(ended)
            except ClusterError:
                if why := self._why_lost():
                    for pid in following:
                        self._tell(Ended(pid, -signal.SIGKILL, why))
                time.sleep(RETRY_S)

    def _following(self) -> dict[int, DaskNode]:
        with self._lock:
            self._nodes = {pid: node for pid, node in self._nodes.items() if node.poll() is None or not node.closed}
            if not self._nodes:
                self._thread = None
            return dict(self._nodes)

    def _tell(self, ended: Ended) -> None:
        self._nodes[ended.pid].ended(ended.status, ended.error)

    def _why_lost(self) -> str:
        """Why the nodes of a worker that does not answer have ended, if that is sure."""
        if time.monotonic() - self._heard_s > self._lease_s + TICK_S + OVERDUE_S:
            return f"{self} was not reached for {self._lease_s:g} s, and then ends its nodes"
        try:
            known = self._client.sync(self._known_workers, callback_timeout=CALL_S)
        except Exception:  # the scheduler is silent, too: it may come back while the lease runs
            return ""
        return "" if self._worker.address in known else f"{self} is gone, and its nodes with it"

    async def _known_workers(self) -> Collection[str]:
        known: Collection[str] = await self._client.nthreads()
        return known
