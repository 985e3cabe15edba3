"""The live figures of a cluster: what the nodes and the load process publish, collected by one thread.

One background thread reads two SUB sockets. One is connected to every node's PUB socket; the other is bound, and a load
process connects its PUB socket to it. Any thread may read what was collected (:meth:`MetricsFeed.newest`,
:meth:`MetricsFeed.events`, ...) or register a callback. Each callback has a thread of its own
(:mod:`zmqlab.lab.listeners`). The lab's own callbacks, which only store what they are given, are called ``at_once``, in
the thread that brings the news.

What it keeps:

- the newest snapshot of each node in each group that it holds, who led in which term, and the nodes' hash chains at
  checkpoints (:mod:`~zmqlab.lab.published`). A chain that differs from another node's becomes an event;
- when each node was last heard, by the clock of this process: a node's own clock may be wrong;
- the events that nodes published, and those that the lab adds (:meth:`MetricsFeed.note`);
- traces, while they are wanted (:mod:`zmqlab.lab.sampled_traces`).

Events bear the wall clock of this machine. Those of nodes on another machine are placed by the offset of its clock, as
the host has measured it, and say within which bounds that is known.

All of it is bounded. Trades are not kept, and their topic is subscribed to only while a callback wants them.

:func:`zmqlab.client.roster.leader_of` is the one rule for which node leads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial

import zmq

from zmqlab import net
from zmqlab.client.roster import leader_of
from zmqlab.errors import FrameError
from zmqlab.keys import Keyring, Role
from zmqlab.lab.events import LabEvent, naming_its_group
from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset
from zmqlab.lab.listeners import WAITING_MAX, WAITING_TURNS_MAX, Listener, call_each, unregister_from
from zmqlab.lab.published import Mismatch, Published
from zmqlab.lab.sampled_traces import Traces
from zmqlab.load.load_messages import LOAD_METRICS
from zmqlab.wire import control
from zmqlab.wire.control import EventKind
from zmqlab.wire.frames import EVENT, MAX_ANSWER_BYTES, METRICS, TRACE, TRADE, parse_header, topic
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import TraceQuery, decode_trace

HISTORY_EVENTS = 2_000
"""Events that are kept: hours of faults by hand."""
NS_PER_MS = 1e6
POLL_MS = 50
"""How often the thread looks at the nodes' processes when nothing is published."""
GATHER_S = 0.05
"""So long the thread leaves what comes in: frames of several nodes and load clients then cost one turn. Each of them
publishes ten times a second. An election takes four times as long."""
FRAMES_A_TURN = 1_000
"""After so many frames of one socket the thread looks at the other one."""
LOAD_DOORS = {"load": Role.TRADER}
"""The door of a socket to which a load process connects."""
BOUNDS = net.SocketBounds(frame_bytes=MAX_ANSWER_BYTES, reconnect_ms=20, reconnect_max_ms=20)
"""A node that comes back is heard within 20 ms of its bind, or its first election would be missed."""


class MetricsFeed:
    """Collects what a cluster publishes. Close it, or use it as a context manager.

    ``shards``: how many Raft groups there are, as far as is known before a node has said so.
    """

    def __init__(self, shards: int = 1) -> None:
        self.clock: Callable[[str], ClockOffset] = lambda _: SAME_CLOCK
        """Tells by a node's name how far the clock of its machine is ahead."""
        self._lock = threading.Lock()
        self._commands: deque[tuple[str, str]] = deque()
        """(``connect`` or ``disconnect``, endpoint) that the thread has still to carry out."""
        self._connected: set[str] = set()
        """Endpoints; only the thread touches it."""
        self._published = Published(shards)
        self._events: deque[control.Event] = deque(maxlen=HISTORY_EVENTS)
        self._event_callbacks: list[Callable[[control.Event], None]] = []
        self._trade_callbacks: list[Callable[[control.TradeEvent], None]] = []
        self._load_callbacks: list[Callable[[bytes], None]] = []
        self._turn_callbacks: list[Callable[[], None]] = []
        self._heard_on_demand: set[int] = set()
        """Topics that are subscribed to only while they are wanted; only the thread touches it."""
        self.traces = Traces()
        """What processes tell while they are traced (:mod:`zmqlab.lab.trace_leases`)."""
        self.trace_leases: object = None
        """Belongs to :mod:`zmqlab.lab.trace_leases`; None: nothing has been traced yet."""
        self._load_tellers: list[Callable[[TraceQuery], None]] = []
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._handed_in: deque[bytes] = deque(maxlen=FRAMES_A_TURN)
        self._context = net.new_context()
        self._subscriber = self._subscribe_to(METRICS, EVENT)
        self.load_keys = Keyring.new()
        """For the sockets to which load processes connect: no other process can speak as one."""
        self._door = net.KeyChecker(self._context, self.load_keys, LOAD_DOORS)
        self._load_subscriber = self._subscribe_to(LOAD_METRICS, TRACE)
        net.lock(self._load_subscriber, self.load_keys.credentials(Role.MEMBER), *LOAD_DOORS)
        self.load_endpoint = net.bind_to_free_port(self._load_subscriber)
        """Where a load process connects its PUB socket."""
        self._thread = threading.Thread(target=self._run, name="zmqlab-feed", daemon=True)
        self._thread.start()

    def __enter__(self) -> MetricsFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsFeed of {', '.join(sorted(self.newest())) or 'no node yet'}>"

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

    @property
    def closed(self) -> bool:
        """Whether nothing is collected any more."""
        return self._closing

    # -- what was collected ----------------------------------------------------------------------------------

    def newest(self, group: int | None = None) -> dict[str, NodeStatus]:
        """The newest snapshot of each node that has published one and was not forgotten: that of the Raft ``group``,
        where the node holds it; None: over all groups that it holds (:func:`~zmqlab.lab.published.over_groups`)."""
        with self._lock:
            return self._published.newest(group)

    @property
    def shards(self) -> int:
        """How many Raft groups share the symbols, as nodes last said."""
        return self._published.shards

    def silent_s(self) -> dict[str, float]:
        """For how many seconds each node of :meth:`newest` has published nothing."""
        now_s = time.monotonic()
        with self._lock:
            return {name: now_s - heard_s for name, heard_s in self._published.heard_s.items()}

    def leader_among(self, names: Collection[str], group: int = 0) -> str:
        """The node that leads a group, of those named, as they last published; empty if none does."""
        return leader_of({name: status for name, status in self.newest(group).items() if name in names}) or ""

    def leading_most(self, names: Sequence[str]) -> str:
        """The node that leads the most groups, of those named, as they last published; of equals the one that is named
        first. Empty if none leads any. With one group it is :meth:`leader_among`."""
        leaders = [self.leader_among(names, group) for group in range(self.shards)]
        return max(filter(leaders.count, names), key=leaders.count, default="")

    def endpoints_of(self, group: int) -> dict[str, str]:
        """Node -> where clients reach it, of the nodes that hold the group, as they last published."""
        with self._lock:
            return self._published.endpoints_of(group)

    def events(self) -> list[control.Event]:
        """What happened, in the order in which it was heard of."""
        with self._lock:
            return list(self._events)

    def checkpoints(self, group: int = 0) -> dict[int, dict[str, str]]:
        """Log index -> node name -> chain hash, as published."""
        with self._lock:
            return self._published.checkpoints(group)

    def leaders(self, group: int = 0) -> dict[int, frozenset[str]]:
        """Term -> the nodes that said that they led in it; more than one is a broken promise."""
        with self._lock:
            return self._published.leaders(group)

    def mismatches(self) -> list[Mismatch]:
        """Every checkpoint at which nodes disagreed, of any group; empty unless a promise is broken."""
        with self._lock:
            return list(self._published.mismatches)

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
            self._published.forget(name)

    def note(self, kind: str, node: str = "", text: str = "", time_ns: int = 0) -> None:
        """Record something that no node published, at ``time_ns`` of the wall clock; 0 is now."""
        self.record(control.Event(time_ns=time_ns or time.time_ns(), node=node, kind=kind, text=text))

    def record(self, event: control.Event) -> None:
        """Keep an event, and call the callbacks with it."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
        call_each(self._event_callbacks, event)

    # -- callbacks -------------------------------------------------------------------------------------------

    def on_event(self, callback: Callable[[control.Event], None], *, at_once: bool = False) -> Callable[[], None]:
        """Call ``callback`` with each event; returns a function that ends this.

        Args:
            callback: called in a thread of its own, in the order of the events. It keeps alive what it refers to.
            at_once: for the lab itself: called in the thread that brings the event, which waits for it.
        """
        return self._register(self._event_callbacks, callback, at_once)

    def on_trade(self, callback: Callable[[control.TradeEvent], None], *, at_once: bool = False) -> Callable[[], None]:
        """Call ``callback`` with each trade that the leader publishes; otherwise like :meth:`on_event`.

        A leader publishes a bounded number of trades: enough for eyes, not for accounts. While no callback is
        registered, none travel at all.
        """
        return self._register(self._trade_callbacks, callback, at_once)

    def on_load_frame(self, callback: Callable[[bytes], None], *, at_once: bool = False) -> Callable[[], None]:
        """Call ``callback`` with each whole frame that came from a load process; otherwise like :meth:`on_event`."""
        return self._register(self._load_callbacks, callback, at_once)

    def on_trace_wish(self, tell: Callable[[TraceQuery], None]) -> Callable[[], None]:
        """Call ``tell`` when load clients are to be traced; returns a function that ends this."""
        return self._register(self._load_tellers, tell, at_once=True)

    def hand_in(self, frame: bytes) -> None:
        """A frame of a load that did not come to this feed's socket: its callbacks get it as if it had."""
        self._handed_in.append(frame)

    def tell_load(self, query: TraceQuery) -> None:
        """Have the load clients of this process traced."""
        call_each(self._load_tellers, query)

    def on_turn(self, callback: Callable[[], None], *, at_once: bool = False) -> Callable[[], None]:
        """Call ``callback`` ten to twenty times a second, a slow one less often; otherwise like :meth:`on_event`."""
        return self._register(self._turn_callbacks, callback, at_once, WAITING_TURNS_MAX)

    def _register(
        self,
        callbacks: list[Callable[..., None]],
        callback: Callable[..., None],
        at_once: bool,
        waiting_max: int = WAITING_MAX,
    ) -> Callable[[], None]:
        if at_once:
            callbacks.append(callback)
            return partial(unregister_from, callbacks, callback)
        listener = Listener(callback, waiting_max, lambda: self._closing)
        callbacks.append(listener)

        def unregister() -> None:
            listener.stop()
            unregister_from(callbacks, listener)

        return unregister

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
        poller.register(self._door.socket, zmq.POLLIN)
        turn_due_s = time.monotonic()
        try:
            while not self._closing:
                self._do_commands()
                self._hear_on_demand(TRADE, bool(self._trade_callbacks))
                self._hear_on_demand(TRACE, self.trace_leases is not None)
                ready = dict(poller.poll(POLL_MS))
                if ready:
                    time.sleep(GATHER_S)
                if self._door.socket in ready:
                    self._door.admit()
                if self._subscriber in ready:
                    self._drain(self._subscriber, self._take_node_frame)
                if self._load_subscriber in ready:
                    self._drain(self._load_subscriber, self._take_load_frame)
                while self._handed_in:
                    self._take_load_frame(LOAD_METRICS, self._handed_in.popleft())
                if time.monotonic() >= turn_due_s:
                    call_each(self._turn_callbacks)
                    turn_due_s = time.monotonic() + POLL_MS / 1000
        finally:
            self._subscriber.close(0)
            self._load_subscriber.close(0)
            self._door.socket.close(0)
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

    def _hear_on_demand(self, frame_type: int, is_wanted: bool) -> None:
        if is_wanted != (frame_type in self._heard_on_demand):
            self._subscriber.setsockopt(zmq.SUBSCRIBE if is_wanted else zmq.UNSUBSCRIBE, topic(frame_type))
            self._heard_on_demand ^= {frame_type}

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
            event = self._placed(control.decode_event(frame))
            if event.kind == EventKind.ELECTED:
                with self._lock:
                    self._published.note_leader(event.group, event.term, event.node)
            self.record(naming_its_group(event) if self.shards > 1 else event)
        elif frame_type == TRADE:
            call_each(self._trade_callbacks, control.decode_trade(frame))
        elif frame_type == TRACE:
            self._take_trace(frame)

    def _take_trace(self, frame: bytes) -> None:
        self.traces.take(decode_trace(frame), parse_header(frame)[1])

    def _placed(self, event: control.Event) -> control.Event:
        """The event at its time on the clock of this machine; its text says how sure that is, if it is not exact."""
        clock = self.clock(event.node)
        if clock.uncertainty_ns:
            sure = f"±{clock.uncertainty_ns / NS_PER_MS:.1f} ms"
            event.time_ns -= clock.offset_ns
            event.text = f"{event.text} ({sure})" if event.text else sure
        return event

    def _take_load_frame(self, frame_type: int, frame: bytes) -> None:
        if frame_type == TRACE:
            self._take_trace(frame)
            return
        call_each(self._load_callbacks, frame)

    def _take_status(self, status: NodeStatus) -> None:
        self.traces.knows(status)
        with self._changed:
            mismatch = self._published.take(status, time.monotonic())
            self._changed.notify_all()
        if mismatch is not None:
            event = control.Event(
                time_ns=time.time_ns(),
                node=status.name,
                kind=LabEvent.HASH_MISMATCH,
                text=str(mismatch),
                group=status.group,
            )
            self.record(naming_its_group(event) if self.shards > 1 else event)
