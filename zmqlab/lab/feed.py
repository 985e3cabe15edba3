"""The live figures of a cluster: what the nodes and the load process publish, collected by one thread.

One background thread reads two SUB sockets. One is connected to every node's PUB socket; the other is bound, and a load
process connects its PUB socket to it. Any thread may read what was collected (:meth:`MetricsFeed.newest`,
:meth:`MetricsFeed.events`, ...) or register a callback. A callback runs in the feed's thread and should be short.

What it keeps:

- the newest snapshot of each node;
- the events that nodes published, and those that the lab adds (:meth:`MetricsFeed.note`);
- the nodes that led in each term: more than one is a broken promise;
- the nodes' hash chains at checkpoints. The promise "nodes that applied the same index have the same state" is checked
  all the time: chains of equal index are compared, and one that differs becomes an event.

All of it is bounded. Trades are not kept, and their topic is subscribed to only while a callback wants them.

:func:`zmqlab.client.roster.leader_of` is the one rule for which node leads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import NamedTuple

import zmq

from zmqlab import net
from zmqlab.client.roster import leader_of
from zmqlab.errors import FrameError
from zmqlab.lab.events import LabEvent
from zmqlab.load.load_messages import LOAD_METRICS
from zmqlab.wire import control
from zmqlab.wire.control import EventKind, NodeStatus
from zmqlab.wire.frames import EVENT, MAX_ANSWER_BYTES, METRICS, TRADE, parse_header, topic

HISTORY_EVENTS = 2_000
"""Events that are kept, and mismatches: hours of faults by hand."""
CHECKPOINTS = 2_000
"""Checkpoints and terms that are kept. At 256 log entries a checkpoint, half a million entries."""
POLL_MS = 50
"""How often the thread looks at the nodes' processes when nothing is published."""
FRAMES_A_TURN = 1_000
"""After so many frames of one socket the thread looks at the other one."""
BOUNDS = net.SocketBounds(frame_bytes=MAX_ANSWER_BYTES, reconnect_ms=20, reconnect_max_ms=20)
"""A node that comes back is heard within 20 ms of its bind, or its first election would be missed."""

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
        """(``connect`` or ``disconnect``, endpoint) that the thread has still to carry out."""
        self._connected: set[str] = set()
        """Endpoints; only the thread touches it."""
        self._newest: dict[str, NodeStatus] = {}
        self._events: deque[control.Event] = deque(maxlen=HISTORY_EVENTS)
        self._leaders: OrderedDict[int, set[str]] = OrderedDict()
        self._checkpoints: OrderedDict[int, dict[str, str]] = OrderedDict()
        self._mismatches: deque[Mismatch] = deque(maxlen=HISTORY_EVENTS)
        self._event_callbacks: list[Callable[[control.Event], None]] = []
        self._trade_callbacks: list[Callable[[control.TradeEvent], None]] = []
        self._load_callbacks: list[Callable[[bytes], None]] = []
        self._turn_callbacks: list[Callable[[], None]] = []
        self._hears_trades = False
        """Whether the trade topic is subscribed to; only the thread touches it."""
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._context = net.new_context()
        self._subscriber = self._subscribe_to(METRICS, EVENT)
        self._load_subscriber = self._subscribe_to(LOAD_METRICS)
        self.load_endpoint = net.bind_to_free_port(self._load_subscriber)
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
        """Listen to the node with this base endpoint, if that is not done yet.

        Raises:
            SettingsError: it names a host, whose address is to be looked up first.
        """
        net.expect_numbers(endpoint)
        self._commands.append(("connect", endpoint))

    def disconnect(self, endpoint: str) -> None:
        """Stop listening to that node."""
        self._commands.append(("disconnect", endpoint))

    def close(self) -> None:
        """Stop the thread and close the sockets. What was collected can still be read."""
        self._closing = True
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    # -- what was collected ----------------------------------------------------------------------------------

    def newest(self) -> dict[str, NodeStatus]:
        """The newest snapshot of each node that has published one and was not forgotten."""
        with self._lock:
            return dict(self._newest)

    def leader_among(self, names: Collection[str]) -> str:
        """The node that leads, of those named, as they last published; empty if none does."""
        return leader_of({name: status for name, status in self.newest().items() if name in names}) or ""

    def events(self) -> list[control.Event]:
        """What happened, in the order in which it was heard of."""
        with self._lock:
            return list(self._events)

    def checkpoints(self) -> dict[int, dict[str, str]]:
        """Log index -> node name -> chain hash, as published."""
        with self._lock:
            return {index: dict(hashes) for index, hashes in self._checkpoints.items()}

    def leaders(self) -> dict[int, frozenset[str]]:
        """Term -> the nodes that said that they led in it; more than one is a broken promise."""
        with self._lock:
            return {term: frozenset(names) for term, names in self._leaders.items()}

    def mismatches(self) -> list[Mismatch]:
        """Every checkpoint at which nodes disagreed; empty unless a promise is broken."""
        with self._lock:
            return list(self._mismatches)

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

    # -- what the lab adds -----------------------------------------------------------------------------------

    def forget(self, name: str) -> None:
        """Drop the newest snapshot of a node that no longer runs."""
        with self._lock:
            self._newest.pop(name, None)

    def note(self, kind: str, node: str = "", text: str = "", time_ns: int = 0) -> None:
        """Record something that no node published, at ``time_ns`` of the wall clock; 0 is now."""
        self.record(control.Event(time_ns=time_ns or time.time_ns(), node=node, kind=kind, text=text))

    def record(self, event: control.Event) -> None:
        """Keep an event, and call the callbacks with it."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
        _call_each(self._event_callbacks, event)

    # -- callbacks -------------------------------------------------------------------------------------------

    def on_event(self, callback: Callable[[control.Event], None]) -> Callable[[], None]:
        """Call ``callback`` with each event; returns a function that ends this."""
        return _register(self._event_callbacks, callback)

    def on_trade(self, callback: Callable[[control.TradeEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with each trade that the leader publishes; returns a function that ends this.

        A leader publishes a bounded number of trades: enough for eyes, not for accounts. While no callback is
        registered, none travel at all.
        """
        return _register(self._trade_callbacks, callback)

    def on_load_frame(self, callback: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``callback`` with each whole frame that came from a load process; returns a function that ends this."""
        return _register(self._load_callbacks, callback)

    def on_turn(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` about twenty times a second; returns a function that ends this."""
        return _register(self._turn_callbacks, callback)

    # -- the thread ------------------------------------------------------------------------------------------

    def _subscribe_to(self, *frame_types: int) -> net.Socket:
        socket = net.open_socket(self._context, zmq.SUB, BOUNDS)
        for frame_type in frame_types:
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
                self._hear_trades_if_wanted()
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
                    net.attach(self._subscriber, endpoint)
                else:
                    net.detach(self._subscriber, endpoint)
            self._connected ^= {endpoint}

    def _hear_trades_if_wanted(self) -> None:
        wanted = bool(self._trade_callbacks)
        if wanted != self._hears_trades:
            self._subscriber.setsockopt(zmq.SUBSCRIBE if wanted else zmq.UNSUBSCRIBE, topic(TRADE))
            self._hears_trades = wanted

    def _drain(self, socket: net.Socket, take: Callable[[int, bytes], None]) -> None:
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
            if event.kind == EventKind.ELECTED:
                self._note_leader(event.term, event.node)
            self.record(event)
        elif frame_type == TRADE:
            _call_each(self._trade_callbacks, control.decode_trade(frame))

    def _take_load_frame(self, _type: int, frame: bytes) -> None:
        _call_each(self._load_callbacks, frame)

    def _take_status(self, status: NodeStatus) -> None:
        if status.role == "leader":
            self._note_leader(status.term, status.name)
        with self._changed:
            self._newest[status.name] = status
            mismatch = self._note_checkpoint(status)
            self._changed.notify_all()
        if mismatch is not None:
            hashes = ", ".join(f"{name} {value[:12]}" for name, value in sorted(mismatch.hashes.items()))
            text = f"state differs at index {mismatch.log_index}: {hashes}"
            self.note(LabEvent.HASH_MISMATCH, status.name, text)

    def _note_leader(self, term: int, name: str) -> None:
        with self._lock:
            self._leaders.setdefault(term, set()).add(name)
            while len(self._leaders) > CHECKPOINTS:
                self._leaders.popitem(last=False)

    def _note_checkpoint(self, status: NodeStatus) -> Mismatch | None:
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
