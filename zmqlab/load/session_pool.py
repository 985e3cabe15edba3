"""Several clients in one load process: as many sessions, driven as one.

What they have in common is the schedule, the order flow and the clock. An order of one client may be canceled or filled
by another client's order. The sessions share a process, because the figures of one run belong into one histogram, one
ledger and one history on one clock, and because the verdict has to wait until *all* clients are done: nodes do not come
to rest while one of them still sends. The generator is far from being the limit: a session costs a few sockets, not a
core. Where the nodes share the symbols out to several Raft groups, a client has a session with each of them.

Each connection of a session to a node takes two file descriptors. More clients than there are descriptors for are
refused before anything is sent. When nodes come later on, a session goes without those for which none is left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from zmqlab import net
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.retries import OpenRequest, SessionCounters
from zmqlab.client.roster import Numbering
from zmqlab.client.session import Completion, SessionSettings, Watch
from zmqlab.errors import SessionExpired, SettingsError
from zmqlab.load.history import SessionOpened

NS_PER_MS = 1_000_000
DESCRIPTORS_A_CONNECTION = 2
"""One for the signals of the socket, one for TCP."""
OWN_DESCRIPTORS = 48
"""Of a load process: contexts, the sockets to its parent, book reads, the history, what Python has open."""


def expect_descriptors(clients: int, nodes: int, groups: int = 1) -> None:
    """Raise the soft limit on descriptors; raises SettingsError where so many clients of so many nodes, with a session
    for each of so many Raft groups, have not enough of them then."""
    limit = net.raise_descriptor_limit()
    each = DESCRIPTORS_A_CONNECTION * nodes * groups
    needed = clients * each + OWN_DESCRIPTORS
    if needed > limit:
        most = max(0, (limit - OWN_DESCRIPTORS) // each)
        raise SettingsError(
            f"{clients} clients of {nodes} nodes need {needed} file descriptors, and this process may have {limit}:"
            f" {most} clients fit, or raise the limit (ulimit -n)"
        )


class SessionPool:
    """Several sessions: :meth:`open`, then :meth:`submit` and :meth:`poll`, then :meth:`close`.

    To the cluster they are as many clients: each has its own connections, numbers, window and retries. Requests of a
    group go to its sessions in turn, so that each has an even share of the rate. A session without room (its window is
    full, or it waits for a node) is passed over. One thread owns all of them.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        settings: SessionSettings,
        *,
        clients: int = 1,
        groups: Sequence[int] = (0,),
        seed: int = 1,
        context: net.Context | None = None,
    ) -> None:
        """Start to connect; :meth:`open` must follow.

        Args:
            endpoints: where nodes listen for clients.
            settings: how each of the sessions behaves.
            clients: how many sessions with each group.
            groups: the numbers of the Raft groups.
            seed: decides which nodes requests go to.
            context: shared if given, else owned.
        """
        self._owns_context = context is None
        self._context = net.new_context() if context is None else context
        self._numbering = Numbering()
        self._all = [
            ConnectedSession(
                endpoints,
                replace(settings, group=group),
                rng=random.Random(seed + number),
                context=self._context,
                numbering=self._numbering,
            )
            for group in groups
            for number in range(clients)
        ]
        owners = [group for group in groups for _ in range(clients)]
        self._groups = dict(zip(self._all, owners, strict=True))
        self._of_group = {group: [each for each in self._all if self._groups[each] == group] for group in groups}
        self._turns = dict.fromkeys(groups, 0)
        """By group: its session that is next to send."""
        self.expired: list[tuple[int, int]] = []
        """(group, client id) of the sessions that the cluster has forgotten."""
        self._expired: SessionExpired | None = None
        """The error of one of them; raised when the last answers have been handed out."""
        self._owners: list[ConnectedSession]
        """Of the waiter's sockets, in their order."""
        self._waiter = self._new_waiter()
        self._changes = 0
        """Of the sessions' sockets, when the waiter was made."""

    def open(self, timeout_ms: float, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Open all sessions, one after the other.

        Args:
            timeout_ms: how long that may take for all of them together.
            should_stop: looked at every few milliseconds; True ends the attempt.

        Raises:
            NoLeader: nodes answer, but none of them can take anything for now.
            RequestTimeout: no node answered in time, or ``should_stop`` said so.
        """
        deadline_ns = time.monotonic_ns() + round(timeout_ms * NS_PER_MS)
        for each in self._all:
            each.open(max((deadline_ns - time.monotonic_ns()) / NS_PER_MS, 1), should_stop)

    @property
    def client_ids(self) -> list[int]:
        """The sessions' ids; 0 for a session that is not open."""
        return [each.client_id for each in self._all]

    @property
    def client_groups(self) -> list[int]:
        """The sessions' groups; empty if there is one."""
        return [self._groups[each] for each in self._all] if len(self._of_group) > 1 else []

    @property
    def requests_sent(self) -> list[int]:
        """By session: how many of its requests were handed to a connection, if it waits for no answer."""
        return [each.session.next_number - 1 - each.pending for each in self._all]

    @property
    def opened(self) -> list[SessionOpened]:
        """By session: when it was asked for, and when it was there."""
        times = ((each, *each.session.opened_ns) for each in self._all)
        return [
            SessionOpened(
                client=each.client_id, invoked_ns=invoked_ns, completed_ns=completed_ns, group=self._groups[each]
            )
            for each, invoked_ns, completed_ns in times
        ]

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

    def pending_of(self, group: int) -> int:
        """Requests of one group that were submitted and not answered."""
        return sum(each.pending for each in self._of_group[group])

    def room_of(self, group: int) -> int:
        """How many requests of one group may be submitted now."""
        return sum(max(each.room, 0) for each in self._of_group[group])

    @property
    def counters(self) -> SessionCounters:
        """Of all sessions together."""
        names = [field.name for field in fields(SessionCounters)]
        return SessionCounters(**{name: sum(getattr(each.counters, name) for each in self._all) for name in names})

    def watched_by(self, watch: Watch | None) -> None:
        """From now on ``watch`` is told of the requests and responses of all sessions of its group; None: it ends."""
        for each in self._all:
            each.session.watched_by(watch if watch is not None and watch.group == self._groups[each] else None)

    def open_requests(self) -> Iterator[tuple[int, OpenRequest]]:
        """(client id, request) of all requests without an answer."""
        for each in self._all:
            for request in each.session.open_requests():
                yield each.client_id, request

    def submit(self, commands: bytes, token: object = None, group: int = 0) -> OpenRequest:
        """Send the next request of a group, by its next session that has room; :meth:`room_of` must be above 0.

        If no node can take the request now, it has no ``attempts`` yet: it waits in its session.
        """
        sessions, turn = self._of_group[group], self._turns[group]
        count = len(sessions)
        for step in range(count):
            each = sessions[(turn + step) % count]
            if each.room > 0:
                self._turns[group] = (turn + step + 1) % count
                return each.submit(commands, token)
        raise AssertionError("look at room before submitting")

    def poll(self, timeout_ms: float = 0) -> list[Completion]:
        """What was answered to any session; waits up to ``timeout_ms`` for it. May return early and without anything.

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

    def __enter__(self) -> SessionPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _poll_all(self, timeout_ms: float) -> list[Completion]:
        """Poll those that want it, and those whose sockets signal: most have nothing to do most of the time."""
        done = [completion for each in self._all if each.wants_a_look for completion in self._poll_one(each, 0)]
        if self._expired is None:
            self._follow_sockets()
            may_wait = timeout_ms > 0 and not done
            patience_ms = min(each.patience_ms(timeout_ms) for each in self._all) if may_wait else 0
            for session in {self._owners[place] for place in self._waiter.wait(patience_ms)}:
                done += self._poll_one(session, 0)
        return done

    def _poll_one(self, session: ConnectedSession, timeout_ms: float) -> list[Completion]:
        try:
            return session.poll(timeout_ms)
        except SessionExpired as error:
            self._expired = error
            key = self._groups[session], session.client_id
            if key not in self.expired:
                self.expired.append(key)
            return []

    def _follow_sockets(self) -> None:
        changes = sum(each.changes for each in self._all)
        if changes != self._changes:
            self._waiter, self._changes = self._new_waiter(), changes

    def _new_waiter(self) -> net.Waiter:
        self._owners = [each for each in self._all for _ in each.sockets]
        return net.Waiter([socket for each in self._all for socket in each.sockets])
