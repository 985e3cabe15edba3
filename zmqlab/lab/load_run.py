"""The process of one load client: its start, the messages to it, the folder of its record, its end.

Two ways lead back from it: its figures come in through a :class:`~zmqlab.lab.feed.MetricsFeed`; its result is in a
folder, to which it writes as it goes (:mod:`zmqlab.load.run_record`). A thread of this object reads that when the
process has ended, however it ended. The process ends when the pipe at its standard input ends, so it can't outlive this
one.

The socket for messages lets in the load process alone: it gets the key on its standard input.

Left out on purpose: what is judged, and what is shown (:mod:`zmqlab.lab.load_client`, to which nothing here refers: it
may be forgotten, and then the run ends).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from zmqlab import net
from zmqlab.errors import ClusterError, FrameError, ZmqlabError
from zmqlab.keys import Credentials, Role, towards
from zmqlab.lab.feed import LOAD_DOORS, MetricsFeed
from zmqlab.lab.hosts import keep_to_this_process, module_environment
from zmqlab.lab.register import Ending
from zmqlab.lab.run_folders import RunFolder
from zmqlab.load import load_messages as load_wire
from zmqlab.load.load_process import PARENT_FRAME_BYTES, command_line, error_of, how_it_ended, passes_of
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.run_record import RunFailed, read_run
from zmqlab.settings import reason_of
from zmqlab.wire.traces import TraceQuery

if TYPE_CHECKING:
    from zmqlab.judge.live_count import SoFar
    from zmqlab.judge.log_collector import Collectors
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.so_far import Counting

POLL_MS = 100
"""How soon an order to the load process leaves, and how soon its end is seen."""
BOUNDS = net.SocketBounds(frame_bytes=PARENT_FRAME_BYTES)


class Evidence:
    """What a run leaves for its verdict. It does not refer to the load client, which may be forgotten."""

    def __init__(self, cluster: Cluster | None, where: Path | None = None) -> None:
        """Make the folder of the record, in that of the cluster, else in ``where``, else in one of its own.

        Raises:
            ClusterError: there is no room for it.
            SettingsError: a temporary folder can't be made.
        """
        self._own: RunFolder | None = None
        """Locked, so that `zmqlab reap` finds what a crash left."""
        if cluster is not None:
            where = cluster.run_dir
        elif where is None:
            self._own = RunFolder(None)
            self._own.open()
            where = self._own.path
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="load-", dir=where))
        except OSError as error:
            raise ClusterError(
                f"no folder to record the run in: {reason_of(error)}. Make room, or set TMPDIR"
            ) from None
        self.collector: Collectors | None = None
        """Reads the log along with the run, unless the caller gave a collector."""
        self.counting: Counting | None = None
        """Counts what is lost so far, while a collector reads the log along."""
        self.is_wanted = False
        """Whether the verdict did not pass. Then the record stays, in the cluster's folder."""

    @property
    def so_far(self) -> SoFar | None:
        """What is lost so far; None: it is not counted, or not yet."""
        return self.counting.newest if self.counting is not None else None

    def was_judged(self) -> None:
        """The record is not needed any more, unless the run did not pass, and nothing more is collected. What was
        collected can still be read, for a run that is kept."""
        if self.counting is not None:
            self.counting.stop()
        if self.collector is not None:
            self.collector.stop()
        if self._own is None and not self.is_wanted:
            shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """What was collected and recorded is not needed any more, but for the record of a run that did not pass."""
        self.was_judged()
        if self.collector is not None:
            self.collector.close()
            self.collector = None
        if self._own is not None:
            self._own.leave()


class LoadRun:
    """A load process from its start on."""

    def __init__(
        self,
        settings: LoadSettings,
        feed: MetricsFeed,
        end: Ending,
        cluster: Cluster | None,
        where: Path | None = None,
    ) -> None:
        """Start the process; ``end`` gets the steps that undo it. :meth:`await_start` must follow.

        Without a cluster the record is made in the folder ``where``, or in a temporary one.

        Raises:
            ClusterError: there is no room for the record.
        """
        self.ended = threading.Event()
        """The process has ended, and its record was read."""
        self.how_it_ended = ""
        """Once it has: "was killed by SIGKILL", for example."""
        self._end = end
        self._started = threading.Event()
        self._outcome: load_wire.LoadResult | None = None
        self._failure: ZmqlabError | None = None
        self._orders: deque[load_wire.ToLoad] = deque()
        """Messages that the thread has still to send to the load process."""
        self._steered = 0
        """Messages that there were in all."""
        self._identity = b""
        """Of the load process at the ROUTER; empty until it has said that it has begun."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end
        end.also(self._stderr.close)
        self.evidence = Evidence(cluster, where)
        end.also(self.evidence.forget)
        ring = feed.load_keys
        self._listen(ring.credentials(Role.MEMBER), feed)
        command = command_line(settings, feed.load_endpoint, net.bind_to_free_port(self._router), self.evidence.folder)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=module_environment(),
            start_new_session=True,
        )
        end.also(partial(_kill, self.process))
        assert self.process.stdin is not None
        keep_to_this_process(self.process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it has ended already; the thread says so
            os.write(self.process.stdin.fileno(), passes_of(ring.credentials(Role.TRADER), towards(settings.nodes[0])))
        thread = threading.Thread(target=self._serve, name="zmqlab-load", daemon=True)
        thread.start()
        end.also(partial(_kill_and_join, self.process, thread))
        end.also(feed.on_trace_wish(self.tell_to_trace))

    def _listen(self, credentials: Credentials, feed: MetricsFeed) -> None:
        """Open the sockets. One thread after the other uses them: this one, then that of the run."""
        self._context = net.new_context()
        self._end.also(self._context.term)
        self._door = net.KeyChecker(self._context, feed.load_keys, LOAD_DOORS)
        self._end.also(partial(self._door.socket.close, 0))
        self._router = net.open_socket(self._context, zmq.ROUTER, BOUNDS)
        self._end.also(partial(self._router.close, 0))
        net.lock(self._router, credentials, *LOAD_DOORS)

    def await_start(self, timeout_s: float) -> None:
        """Wait until the first order is about to be sent.

        Raises:
            RequestError: no session could be opened.
            ClusterError: the process does not come up.
        """
        if not self._started.wait(timeout_s) and not self.ended.is_set():
            raise ClusterError(f"the load client did not begin within {timeout_s:g} s")
        if self._failure is not None:
            raise self._failure

    @property
    def pid(self) -> int:
        """What its snapshots bear."""
        return self.process.pid

    @property
    def begun(self) -> bool:
        """Whether its sessions are open, or it has ended."""
        return self._started.is_set()

    def steer(self, message: load_wire.ToLoad) -> None:
        """Tell the process something."""
        self._steered += 1
        self._orders.append(message)

    def tell_to_trace(self, query: TraceQuery) -> None:
        """Have the process tell of its requests. That steers nothing, and so it is not counted."""
        if not self.ended.is_set():
            self._orders.append(query)

    @property
    def ledgers(self) -> dict[Path, bool]:
        """Where each process of the load writes its ledger, and whether its clock is that of this process."""
        return {self.evidence.folder: True}

    def outcome(self) -> load_wire.LoadResult:
        """What the run has recorded, once it has ended. Raises ClusterError, or what the process failed with."""
        if self._failure is not None:
            raise self._failure
        if self._outcome is None:  # a team that is being closed has ended before its parts
            raise ClusterError("the load client was closed")
        return self._outcome

    def _serve(self) -> None:
        """The thread, until the process has ended."""
        while self._pass_messages():
            self._door.wait(self._router, POLL_MS)
        self._free()

    def _pass_messages(self) -> bool:
        """Pass messages between the load process and this object; returns whether the process may say more."""
        ended = self.process.poll()  # before the last look at the socket: what it said is there by then
        while self._router.poll(0):
            sender, *frames = self._router.recv_multipart()
            self._identity = self._identity or (sender if self._is_start(frames) else b"")
        while self._identity and self._orders:
            self._router.send_multipart([self._identity, load_wire.encode_control(self._orders.popleft())])
        if ended is not None:
            self._take_record(ended)
            self.ended.set()
            self._started.set()
        return ended is None

    def _free(self) -> None:
        """Nothing more is said. A client that is kept for its result keeps neither sockets nor files open."""
        _kill(self.process)
        self._stderr.close()
        self._router.close(0)
        self._door.socket.close(0)
        self._context.term()

    def _is_start(self, frames: Sequence[bytes]) -> bool:
        """Whether the load process says here that it has begun."""
        with contextlib.suppress(FrameError):
            if len(frames) == 1 and load_wire.decode_to_parent(frames[0]).pid == self.process.pid:
                self._started.set()
                return True
        return False

    def _take_record(self, status: int) -> None:
        """The process has ended: read what it has left."""
        was_closed = self._end.begun
        self.how_it_ended = end = "was closed" if was_closed else how_it_ended(status, self._said)
        record = None if was_closed else read_run(self.evidence.folder, f"the load process {end}")
        if isinstance(record, RunFailed):
            self._failure = error_of(record)
        elif record is None:
            self._failure = ClusterError(f"the load client {end}")
        else:
            self._outcome = record
            if record.steered > self._steered and not record.problem:
                record.problem = "another process told the load to stop, or changed its rate"

    def _said(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _kill_and_join(process: subprocess.Popen[bytes], thread: threading.Thread) -> None:
    """End the process, and with it the thread that listens to it."""
    _kill(process)
    if thread is not threading.current_thread():
        thread.join(5)
