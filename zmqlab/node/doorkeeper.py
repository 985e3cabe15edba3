"""Ends the connections that cost a node too much: too many of them, and those that send what never becomes a message.

libzmq bounds frames and queues, and nothing else. It accepts connections until the process has no file descriptor left,
and then it tries again without a pause. It collects the parts of a message until the last one has come, for as long as
they come. And it keeps every subscription. No call ends one connection of a socket. But a socket's monitor tells the
descriptor of each connection, and the system ends a TCP connection whose descriptor is known. libzmq then sees it as
one that the other side has ended.

Rules:

- Each door (a socket that listens) has a share of the descriptors: :func:`shares`. What opens files and sockets itself
  has the rest.
- If a door is full, the connection goes that has never spoken, the oldest first; then the one that has been silent for
  longest. What has spoken within ``SPOKE_S`` stays, and the newcomer goes. zmqlab's own clients speak at once and then
  every second. So idle strangers don't keep them out, and a client that was ended by mistake comes back by itself.
- A subscriber never speaks. So at their door the newcomer goes, or strangers would push out the followers that hear the
  leader there.
- What comes in over a connection must become messages. After ``unfinished_bytes`` without one the connection goes. A
  subscriber sends no messages at all: its subscriptions are all that it may send.
- A heartbeat is no message. ``HEARTBEAT_BYTES_S`` are allowed for them.
- A client that speaks ZMTP 1 or 2 (before libzmq 4.0) can't be told by its messages, and so it never spoke.
- The bytes that a connection has received are known on Linux only (``TCP_INFO``). Elsewhere connections are counted,
  and nothing more.

Theory of operation. A thread reads the monitors at once and looks at all connections every ``LOOK_S``. The loop of the
node may stand still meanwhile, inside of libzmq, which adds the subscriptions in the loop's thread. The loop only notes
which descriptors its messages came from (:attr:`Door.heard`) and how often it has looked (:attr:`Door.drains`): where
the loop does not read, it is not the sender's fault that no message arrives. The loop notes a sender once between two
looks, by what its socket calls that sender. A connection that has taken over the name of another, as a client may
without keys, is noted from the next look on. Between a look at a descriptor and the call that ends its connection the
number may have gone to another connection. So it is checked that it belongs to the door's port. In the worst case an
honest client of the same door has to connect again.

Left out on purpose: who is who. A stranger with many addresses gets in again and again, up to the bounds. With keys he
hears and sends nothing, but his connection counts from when it is accepted until libzmq gives up its handshake. So
strangers can fill the door of the subscribers then, too. A firewall is the defence against that.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import zmq

from zmqlab import net

LOOK_S = 0.05
"""1 GiB/s, the most that one connection was seen to bring in, is 50 MiB in that time."""
LOOKING_SHARE = 20
"""Between two looks, at least so many times as long as a look takes: with 1,000 connections it takes 5 ms."""
SPOKE_S = 10.0
"""Ten times the longest silence of a client that waits for work."""
HEARTBEAT_BYTES_S = 256
"""A PING or a PONG of ZMTP comes every two seconds. With keys a subscriber sends 41 bytes a second for them, as was
measured, and 9 without; this is six times as much."""
PATIENCE_DRAINS = 2
"""After so many looks of the loop every message that was there at the first of them has been read."""
TALK_S = 1.0
"""Between two lines of the log."""

OWN_DESCRIPTORS = 128
"""For the journal, the log, the sockets towards 14 other members and 16 guests, and 16 scrapes. A node that is alone
has 29 open, and each other member adds 3."""
CONNECTIONS_MAX = 8_192
"""Of all doors together: a connection takes 24 KiB of memory."""
CONNECTIONS_MIN = 8
"""Of one door, however few descriptors there are."""

_EVENT = struct.Struct("=HI")
_INFO_BYTES = 136
_RECEIVED = slice(128, 136)
"""Where ``tcpi_bytes_received`` stands in Linux' ``struct tcp_info``, since 4.1."""

log = logging.getLogger("zmqlab.node")


def shares(descriptors: int) -> tuple[int, int, int]:
    """How many connections each door takes where the process may have so many descriptors: subscribers, peers, clients.

    Half of them are clients.
    """
    room = min(descriptors - min(OWN_DESCRIPTORS, descriptors // 2), CONNECTIONS_MAX)
    quarter = max(room // 4, CONNECTIONS_MIN)
    return quarter, quarter, max(room // 2, CONNECTIONS_MIN)


@dataclass(slots=True)
class Guest:
    """One connection of a door."""

    since_s: float
    """When it was accepted, and from then on, when it last spoke."""
    has_spoken: bool = False
    received: int = 0
    """Bytes that came in up to ``since_s``, and what was forgiven after it."""
    looked_s: float = 0.0
    suspected_at: int | None = None
    """:attr:`Door.drains` when more had come in without a message than may; None: that is not so."""

    def forgiven(self, received: int, now_s: float) -> int:
        """:attr:`received`, when the heartbeats since the last look are forgiven."""
        heartbeats = int(HEARTBEAT_BYTES_S * (now_s - self.looked_s)) if self.looked_s else 0
        self.received, self.looked_s = min(received, self.received + heartbeats), now_s
        return self.received


@dataclass(eq=False)
class Door:
    """One socket that listens, and the connections that it has accepted."""

    name: str
    """For the log: ``client``, ``peer``, ``subscriber``."""
    port: int
    monitor: net.Socket
    connections_max: int
    unfinished_bytes: int
    """Longer than the longest message."""
    has_messages: bool = True
    """Whether the loop reads messages from this socket."""
    heard: dict[bytes, int] = field(default_factory=dict)
    """Who sent messages since the last look, by what the socket calls it, and its descriptor; the loop adds to it. To
    ask for the descriptor costs 1.3 us, and so the loop does it once for each sender and look."""
    drains: int = 0
    """How often the loop has begun to read; the loop counts it."""
    ended: int = 0
    """Connections that were ended."""
    _guests: dict[int, Guest] = field(default_factory=dict)
    """By descriptor."""

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._guests)

    def follow(self, now_s: float) -> None:
        """Take in what the monitor has to tell; end what is too many."""
        with contextlib.suppress(zmq.Again):
            while True:
                event, descriptor = _EVENT.unpack(self.monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event == zmq.EVENT_ACCEPTED:
                    self._guests[descriptor] = Guest(now_s)
                else:
                    self._guests.pop(descriptor, None)
        excess = len(self._guests) - self.connections_max
        if excess > 0:
            self._take_heard(now_s)
            newest_first = list(self._guests)[::-1]  # many may have come since the last look, and have the same claim
            for descriptor in sorted(newest_first, key=lambda each: self._claim(each, now_s))[:excess]:
                del self._guests[descriptor]
                self.end(descriptor)

    def _claim(self, descriptor: int, now_s: float) -> tuple[bool, bool, float]:
        """How much right to stay a connection has."""
        guest = self._guests[descriptor]
        if not self.has_messages:
            return True, True, -guest.since_s
        return guest.has_spoken and now_s - guest.since_s < SPOKE_S, guest.has_spoken, guest.since_s

    def look(self, now_s: float) -> None:
        """End connections that bring in what is no message."""
        self._take_heard(now_s)
        for descriptor, guest in list(self._guests.items()):
            received = _received(descriptor, self.port)
            if received is None:
                del self._guests[descriptor]  # libzmq closed it without a word
            elif received - guest.forgiven(received, now_s) > self.unfinished_bytes:
                if guest.suspected_at is None:
                    guest.suspected_at = self.drains
                if not self.has_messages or self.drains - guest.suspected_at >= PATIENCE_DRAINS:
                    del self._guests[descriptor]
                    self.end(descriptor)

    def _take_heard(self, now_s: float) -> None:
        for _, descriptor in [self.heard.popitem() for _ in range(len(self.heard))]:
            if (guest := self._guests.get(descriptor)) is not None:
                guest.since_s, guest.has_spoken, guest.suspected_at = now_s, True, None
                guest.received = _received(descriptor, self.port) or 0

    def end(self, descriptor: int) -> None:
        """End a connection. May be called from any thread: the monitor tells that it has gone. A negative descriptor is
        that of no connection."""
        if descriptor < 0:
            return
        self.ended += 1
        with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
            if connection.getsockname()[1] == self.port:
                connection.shutdown(socket.SHUT_RDWR)


class Doorkeeper:
    """Watches doors in a thread of its own until :meth:`close`."""

    def __init__(self, doors: tuple[Door, ...]) -> None:
        self._doors = doors
        self._closing = False
        self._told = {door.name: 0 for door in doors}
        self._thread = threading.Thread(target=self._run, name="zmqlab-doorkeeper", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> int:
        """Connections that were ended, at all doors."""
        return sum(door.ended for door in self._doors)

    def close(self) -> None:
        """Stop watching. Must come before the sockets of the doors are closed."""
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        poller = zmq.Poller()
        for door in self._doors:
            poller.register(door.monitor, zmq.POLLIN)
        look_at_s = talk_at_s = 0.0
        while not self._closing:
            poller.poll(round(LOOK_S * 1_000))
            now_s = time.monotonic()
            for door in self._doors:
                door.follow(now_s)
            if now_s >= look_at_s:
                for door in self._doors:
                    door.look(now_s)
                took_s = time.monotonic() - now_s
                look_at_s = now_s + max(LOOK_S, LOOKING_SHARE * took_s)
            if now_s >= talk_at_s:
                talk_at_s = now_s + TALK_S
                self._tell()
        for door in self._doors:
            door.monitor.close(0)

    def _tell(self) -> None:
        for door in self._doors:
            ended, self._told[door.name] = door.ended - self._told[door.name], door.ended
            if ended:
                log.warning(
                    "%d %s connections were ended: more than %d at once, or bytes that became no message",
                    ended,
                    door.name,
                    door.connections_max,
                )


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A descriptor of libzmq as a Python socket, which must not close it."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _received(descriptor: int, port: int) -> int | None:
    """The bytes that have come in over a connection; None if it has gone. Always 0 where the system does not tell."""
    try:
        with _borrowed(descriptor) as connection:
            if connection.getsockname()[1] != port:
                return None
            if sys.platform != "linux":
                return 0
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    return int.from_bytes(info[_RECEIVED], sys.byteorder)
