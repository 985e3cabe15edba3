"""The live figures of a cluster: what the nodes and the load process publish, collected by one thread.

One background thread reads a SUB socket that is connected to every node's PUB socket, and one that is
bound, to which a load process connects its own. Readers call :meth:`MetricsFeed.newest`,
:meth:`MetricsFeed.history` and the like from any thread, or register a callback, which runs in the feed's
thread and should be short. No file is ever polled.

The feed also holds the promise "two nodes that applied the same index have the same state hash" to account
all the time: nodes publish their hash chain at checkpoints, and the feed compares those of equal index.

Everything that it keeps is bounded: rings of snapshots per node, of events, of checkpoints.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

import zmq

from zmqlab.errors import FrameError
from zmqlab.load.metrics import LOAD_METRICS
from zmqlab.wire import control
from zmqlab.wire.frames import EVENT, METRICS, parse_header, topic

HISTORY_SNAPSHOTS = 1_200
"""Per node: two minutes at ten snapshots a second."""
HISTORY_EVENTS = 2_000
CHECKPOINTS = 2_000
POLL_MS = 50
"""How often the thread looks at the nodes' processes when nothing is published."""
FRAMES_A_TURN = 1_000

_log = logging.getLogger(__name__)


class Mismatch(NamedTuple):
    """Two nodes with different hash chains at the same log index: a broken promise."""

    log_index: int
    hashes: dict[str, str]
    """Node name -> chain hash, in hex."""


class MetricsFeed:
    """Collects what a cluster publishes. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: deque[tuple[str, str]] = deque()
        self._connected: set[str] = set()
        self._newest: dict[str, control.NodeStatus] = {}
        self._history: dict[str, deque[control.NodeStatus]] = {}
        self._events: deque[control.Event] = deque(maxlen=HISTORY_EVENTS)
        self._leaders: OrderedDict[int, set[str]] = OrderedDict()
        self._checkpoints: OrderedDict[int, dict[str, str]] = OrderedDict()
        self._mismatches: deque[Mismatch] = deque(maxlen=HISTORY_EVENTS)
        self._status_callbacks: list[Callable[[control.NodeStatus], None]] = []
        self._event_callbacks: list[Callable[[control.Event], None]] = []
        self._frame_callbacks: list[Callable[[int, bytes], None]] = []
        self._turn_callbacks: list[Callable[[], None]] = []
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._subscriber = self._subscribe_socket()
        self._load_subscriber = self._subscribe_socket()
        self._load_subscriber.bind("tcp://127.0.0.1:*")
        self.load_endpoint: str = self._load_subscriber.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where a load process connects its PUB socket."""
        self._thread = threading.Thread(target=self._run, name="zmqlab-feed", daemon=True)
        self._thread.start()

    def __enter__(self) -> MetricsFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsFeed of {', '.join(sorted(self._newest)) or 'no node yet'}>"

    def connect(self, endpoint: str) -> None:
        """Listen to the PUB socket of a node, if that is not done yet; ``endpoint`` is its base port's."""
        self._commands.append(("connect", endpoint))

    def disconnect(self, endpoint: str) -> None:
        """Stop listening to that node."""
        self._commands.append(("disconnect", endpoint))

    def close(self) -> None:
        """Stop the thread and close the sockets. What was collected can still be read."""
        self._closing = True
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def newest(self) -> dict[str, control.NodeStatus]:
        """The newest snapshot of each node that ever published one."""
        with self._lock:
            return dict(self._newest)

    def history(self, name: str) -> list[control.NodeStatus]:
        """The last two minutes of one node's snapshots, oldest first."""
        with self._lock:
            return list(self._history.get(name, ()))

    def events(self) -> list[control.Event]:
        """What happened, oldest first."""
        with self._lock:
            return list(self._events)

    def checkpoints(self) -> dict[int, dict[str, str]]:
        """Log index -> node name -> chain hash, as published."""
        with self._lock:
            return {index: dict(hashes) for index, hashes in self._checkpoints.items()}

    def leaders(self) -> dict[int, frozenset[str]]:
        """Term -> who said that it leads in it; more than one name is a broken promise."""
        with self._lock:
            return {term: frozenset(names) for term, names in self._leaders.items()}

    def mismatches(self) -> list[Mismatch]:
        """Every checkpoint at which nodes disagreed; empty unless a promise is broken."""
        with self._lock:
            return list(self._mismatches)

    def forget(self, name: str) -> None:
        """Drop the newest snapshot of a node that no longer runs."""
        with self._lock:
            self._newest.pop(name, None)

    def record(self, event: control.Event) -> None:
        """Add an event that no node published: a death, a restart, a pause."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
        _call_each(self._event_callbacks, event)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``condition()`` holds, looking at each publication; False after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            with self._changed:
                self._changed.wait(min(remaining, POLL_MS / 1000))
        return True

    def on_status(self, callback: Callable[[control.NodeStatus], None]) -> Callable[[], None]:
        """Call ``callback`` with each snapshot; returns a function that ends this."""
        return _register(self._status_callbacks, callback)

    def on_event(self, callback: Callable[[control.Event], None]) -> Callable[[], None]:
        """Call ``callback`` with each event; returns a function that ends this."""
        return _register(self._event_callbacks, callback)

    def on_load_frame(self, callback: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``callback`` with each whole frame that came from a load process."""

        def with_type(_type: int, frame: bytes) -> None:
            callback(frame)

        return _register(self._frame_callbacks, with_type)

    def on_turn(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` about twenty times a second."""
        return _register(self._turn_callbacks, callback)

    def _subscribe_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.SUB)
        socket.linger = 0
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        for frame_type in (METRICS, EVENT, LOAD_METRICS):
            socket.subscribe(topic(frame_type))
        return socket

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._subscriber, zmq.POLLIN)
        poller.register(self._load_subscriber, zmq.POLLIN)
        turn_due_s = time.monotonic()
        try:
            while not self._closing:
                self._do_commands()
                ready = dict(poller.poll(POLL_MS))
                if self._subscriber in ready:
                    self._drain(self._subscriber, self._take_node_frame)
                if self._load_subscriber in ready:
                    self._drain(self._load_subscriber, self._take_load_frame)
                if time.monotonic() >= turn_due_s:
                    _call_each(self._turn_callbacks)
                    turn_due_s = time.monotonic() + POLL_MS / 1000
        finally:
            self._subscriber.close(0)
            self._load_subscriber.close(0)
            self._context.term()

    def _do_commands(self) -> None:
        while self._commands:
            command, endpoint = self._commands.popleft()
            if (command == "connect") == (endpoint in self._connected):
                continue  # two connections to one socket would bring everything twice
            with contextlib.suppress(zmq.ZMQError):
                if command == "connect":
                    self._subscriber.connect(endpoint)
                else:
                    self._subscriber.disconnect(endpoint)
            self._connected ^= {endpoint}

    def _drain(self, socket: zmq.Socket[bytes], take: Callable[[int, bytes], None]) -> None:
        for _ in range(FRAMES_A_TURN):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) != 1:
                continue
            with contextlib.suppress(FrameError):
                take(parse_header(frames[0])[0], frames[0])

    def _take_node_frame(self, frame_type: int, frame: bytes) -> None:
        if frame_type == METRICS:
            self._take_status(control.decode_status(frame))
        elif frame_type == EVENT:
            event = control.decode_event(frame)
            if event.kind == "elected":
                self._note_leader(event.term, event.node)
            self.record(event)

    def _take_load_frame(self, frame_type: int, frame: bytes) -> None:
        _call_each(self._frame_callbacks, frame_type, frame)

    def _take_status(self, status: control.NodeStatus) -> None:
        if status.role == "leader":
            self._note_leader(status.term, status.name)
        with self._changed:
            self._newest[status.name] = status
            history = self._history.setdefault(status.name, deque(maxlen=HISTORY_SNAPSHOTS))
            history.append(status)
            mismatch = self._note_checkpoint(status)
            self._changed.notify_all()
        if mismatch is not None:
            text = ", ".join(f"{name} {value[:12]}" for name, value in sorted(mismatch.hashes.items()))
            text = f"state differs at index {mismatch.log_index}: {text}"
            self.record(control.Event(time_ns=time.time_ns(), node=status.name, kind="hash_mismatch", text=text))
        _call_each(self._status_callbacks, status)

    def _note_leader(self, term: int, name: str) -> None:
        with self._lock:
            self._leaders.setdefault(term, set()).add(name)
            while len(self._leaders) > CHECKPOINTS:
                self._leaders.popitem(last=False)

    def _note_checkpoint(self, status: control.NodeStatus) -> Mismatch | None:
        """Keep a checkpoint; the mismatch if it contradicts another node's for the first time."""
        if not status.hash_index or not status.chain_hash:
            return None
        hashes = self._checkpoints.setdefault(status.hash_index, {})
        if hashes.get(status.name) == status.chain_hash:
            return None
        hashes[status.name] = status.chain_hash
        while len(self._checkpoints) > CHECKPOINTS:
            self._checkpoints.popitem(last=False)
        if len(set(hashes.values())) == 1:
            return None
        mismatch = Mismatch(status.hash_index, dict(hashes))
        self._mismatches.append(mismatch)
        return mismatch


def _register(callbacks: list[Callable[..., None]], callback: Callable[..., None]) -> Callable[[], None]:
    callbacks.append(callback)

    def unregister() -> None:
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)

    return unregister


def _call_each(callbacks: list[Callable[..., None]], *arguments: object) -> None:
    """Call every callback; one that fails is logged and stops neither the others nor the feed."""
    for callback in tuple(callbacks):
        try:
            callback(*arguments)
        except Exception:
            _log.exception("a callback of the metrics feed failed")
