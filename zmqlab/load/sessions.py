"""Several clients in one load process: as many sessions, driven as one.

Each session has its own :class:`~zmqlab.load.requester.Requester`: its own connections, numbers, window and retries, so
that to the cluster they are as many clients. What is common is the schedule, the order flow and the clock. Requests go
to the sessions in turn, so that each has an even share of the rate, and an order of one client may be cancelled or
filled by another's. A session without room (its window is full, or it waits for a node) is passed over.

Why not as many processes: the figures of one run belong into one histogram, ledger and history on one clock, and the
verdict has to wait until *all* clients are done: nodes don't come to rest while another one still sends. A generator is
far from being the limit: a session costs a few sockets, not a core.

One thread owns all of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import fields

import zmq

from zmqlab.errors import SessionExpired
from zmqlab.load.connection import Configure
from zmqlab.load.requester import Requester
from zmqlab.load.requests import Completion, OpenRequest, RequesterCounters
from zmqlab.load.roster import Numbering
from zmqlab.load.settings import LoadSettings
from zmqlab.load.waiting import Waiter

NS_PER_MS = 1_000_000


class Sessions:
    """``settings.clients`` sessions: :meth:`open`, then :meth:`submit` and :meth:`poll`, then :meth:`close`."""

    def __init__(
        self,
        settings: LoadSettings,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        configure: Configure | None = None,
    ) -> None:
        """Start to connect; ``context`` and ``configure`` as a requester has them."""
        self._owns_context = context is None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context() if context is None else context
        self._numbering = Numbering()
        self._all = [
            Requester(
                settings.nodes,
                timeout_ms=settings.timeout_ms,
                suspicion_ms=settings.suspicion_ms,
                window=settings.window,
                node_choice=settings.node_choice,
                rng=random.Random(settings.seed + number),
                context=self._context,
                configure=configure,
                numbering=self._numbering,
            )
            for number in range(settings.clients)
        ]
        self._turn = 0
        """The session that is next to send."""
        self.expired: list[int] = []
        """Client ids that the cluster has forgotten."""
        self._expired: SessionExpired | None = None
        """Of one of them; raised when the last answers have been handed out."""
        self._waiter = self._new_waiter()
        self._changes = 0
        """Of the requesters' sockets, when the waiter was made."""

    def open(self, timeout_ms: float, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Open all sessions, one after the other.

        Raises:
            NoLeader, RequestTimeout: as :meth:`Requester.open`; all must open within ``timeout_ms``.
        """
        deadline_ns = time.monotonic_ns() + round(timeout_ms * NS_PER_MS)
        for each in self._all:
            each.open(max((deadline_ns - time.monotonic_ns()) / NS_PER_MS, 1), should_stop)

    @property
    def client_ids(self) -> list[int]:
        """The sessions' ids; 0 for one that is not open."""
        return [each.client_id for each in self._all]

    @property
    def opened_ns(self) -> list[tuple[int, int]]:
        """By session: when it was asked for, and when it was there."""
        return [each.opened_ns for each in self._all]

    @property
    def endpoints(self) -> list[str]:
        """By node index, of all nodes that were ever known; the same list, growing."""
        return self._numbering.endpoints

    @property
    def connected(self) -> list[bool]:
        """By node index: whether any session is connected to it."""
        by_session = [each.connected for each in self._all]
        return [any(flags) for flags in zip(*by_session, strict=True)]

    @property
    def all_connected(self) -> bool:
        """Whether each session is connected to every node that it knows."""
        return all(each.all_connected for each in self._all)

    @property
    def pending(self) -> int:
        """Requests submitted and not answered."""
        return sum(each.pending for each in self._all)

    @property
    def room(self) -> int:
        """How many requests may be submitted now."""
        return sum(max(each.room, 0) for each in self._all)

    @property
    def counters(self) -> RequesterCounters:
        """Of all sessions together."""
        names = [field.name for field in fields(RequesterCounters)]
        return RequesterCounters(**{name: sum(getattr(each.counters, name) for each in self._all) for name in names})

    def open_requests(self) -> Iterator[tuple[int, OpenRequest]]:
        """(client id, request) of all requests whose outcome is not known."""
        for each in self._all:
            for request in each.open_requests():
                yield each.client_id, request

    def submit(self, commands: bytes, token: object = None) -> None:
        """The next request of the next session that has room; :attr:`room` must be above 0."""
        count = len(self._all)
        for step in range(count):
            each = self._all[(self._turn + step) % count]
            if each.room > 0:
                each.submit(commands, token)
                self._turn = (self._turn + step + 1) % count
                return
        raise AssertionError("look at room before submitting")

    def poll(self, timeout_ms: float = 0) -> list[Completion]:
        """What was answered to any of them; waits up to ``timeout_ms`` for it. May return early and empty-handed.

        Raises:
            SessionExpired: the cluster has forgotten one of the sessions.
        """
        if len(self._all) == 1:
            done = self._poll_one(self._all[0], timeout_ms)
        else:
            done = self._poll_all(timeout_ms)
        if self._expired is not None and not done:
            raise self._expired
        return done

    def close(self) -> None:
        """Close all sockets; open requests are forgotten."""
        for each in self._all:
            each.close()
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _poll_all(self, timeout_ms: float) -> list[Completion]:
        done = [completion for each in self._all for completion in self._poll_one(each, 0)]
        if not done and timeout_ms > 0 and self._expired is None:
            self._follow_sockets()
            if self._waiter.wait(min(each.patience_ms(timeout_ms) for each in self._all)):
                done = [completion for each in self._all for completion in self._poll_one(each, 0)]
        return done

    def _poll_one(self, requester: Requester, timeout_ms: float) -> list[Completion]:
        try:
            return requester.poll(timeout_ms)
        except SessionExpired as error:
            self._expired = error
            if requester.client_id not in self.expired:
                self.expired.append(requester.client_id)
            return []

    def _follow_sockets(self) -> None:
        changes = sum(each.changes for each in self._all)
        if changes != self._changes:
            self._waiter, self._changes = self._new_waiter(), changes

    def _new_waiter(self) -> Waiter:
        return Waiter([socket for each in self._all for socket in each.sockets])
