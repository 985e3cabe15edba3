"""The open loop: it sends what is due, whatever has been answered, and measures from when it was due.

One thread, one loop. A turn sends the orders that have fallen due, as one request to one node. Then it waits on the
sockets until the next order is due, and takes what was answered. It never spins.

How many orders share a request follows the load: :mod:`~zmqlab.load.pace`.

While the window is full or no node takes requests, orders wait in the schedule. They are sent as soon as that is
possible, and their response time runs on. The report tells three kinds of orders apart:

- ``sent``: handed to a socket. A request that waits inside its session for a node is not sent yet.
- ``held_back``: more than 5 ms late because of the cluster, whether they were sent in the end or not.
- ``late``: sent more than 5 ms late for no such reason. If that is more than one order in a hundred, the report says
  that the generator was the limit, and not the cluster.

Where the nodes share the symbols out to several Raft groups, a request has orders of one group.
:mod:`~zmqlab.load.group_orders` deals the due orders out. A group that can't take any holds up no other.

At rate "max" there is no schedule: a fixed number of requests is kept outstanding. That finds saturation and nothing
else, because its response times are service times.

The thread that calls :meth:`Generator.run` owns everything. Other threads may call :meth:`~Generator.stop`,
:meth:`~Generator.set_rate` and :meth:`~Generator.abort`; the loop looks at their wishes at least every 20 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zmqlab.client.retries import OpenRequest
from zmqlab.client.session import Watch
from zmqlab.errors import RequestError, SessionExpired, SettingsError
from zmqlab.load.book_reader import BookReader
from zmqlab.load.group_orders import Dealer, GroupOrders
from zmqlab.load.history import HistoryWriter
from zmqlab.load.load_messages import LoadMetrics, LoadResult, OpenOutcome, ReadOutcome, crc_of_book
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.measurement import LATE_NS, Publisher, Sent, Tally
from zmqlab.load.order_flow import Ints, Rows, symbol_names
from zmqlab.load.pace import Pace
from zmqlab.load.run_record import RunRecord
from zmqlab.load.schedule import NEVER_NS, Schedule
from zmqlab.load.session_pool import SessionPool, expect_descriptors
from zmqlab.names import known_endpoints, numeric
from zmqlab.settings import MAX_RATE
from zmqlab.wire.client import MAX_COMMANDS_PER_REQUEST

NS_PER_MS = 1_000_000
HOUSEKEEPING_MS = 20
"""How soon a wish of another thread (stop, another rate) is noticed."""
FOLD_ORDERS = 1_024
"""Answered orders that are counted at the latest then, so that the order flow learns which of them rest."""
CONNECT_PATIENCE_MS = 250
"""Before the first order: how long to wait for the connections to all nodes, so that the load is spread at once."""
OPEN_TIMEOUT_MS = 15_000


def _nothing() -> None:
    return None


class Generator:
    """Drives a cluster with orders; see the module."""

    def __init__(
        self,
        settings: LoadSettings,
        *,
        on_metrics: Callable[[LoadMetrics], None] | None = None,
        on_started: Callable[[list[int]], None] | None = None,
        on_turn: Callable[[], None] = _nothing,
        folder: Path | None = None,
    ) -> None:
        """Nothing is connected before :meth:`run`.

        Args:
            settings: what to send, where and for how long.
            on_metrics: called about ten times a second, in the loop's thread; it must not block.
            on_started: called with the client ids before the first order is sent.
            on_turn: called every 20 ms, for example to look at a control socket.
            folder: where the run is recorded while it goes on (:mod:`~zmqlab.load.run_record`). None: in memory.
        """
        self.settings = settings
        self._on_metrics = on_metrics
        self._on_started = on_started
        self._on_turn = on_turn
        self._steered = 0
        """Calls of :meth:`set_rate`, and whether there was one of :meth:`stop`."""
        self._stopped = False
        self._stop_asked = False
        self._abort_asked = False
        self._rate_asked: float | None = None
        """The latest :meth:`set_rate` that the loop has not followed yet."""
        self._dealer = Dealer(settings)
        self.record = RunRecord(settings.ledger_limit, folder)
        groups = self._dealer.numbers
        self._tally = Tally(self.record.ledger, groups if settings.shards > 1 else ())
        self._waits = settings.ack != "none"
        self._pace = Pace(settings.batch_interval_ms, len(groups))
        self._next_housekeeping_ns = 0
        self._held_back_until_ns = 0
        """The last moment at which orders were due and no session had room for a request."""
        self._unsent: list[OpenRequest] = []
        """Requests that were submitted and, when they were last looked at, handed to no socket."""
        self._problem = ""
        self._history: HistoryWriter | None = None
        self._reader: BookReader | None = None
        self._room_for_reads = settings.ledger_limit
        """As many are remembered as requests."""
        self._sessions: SessionPool
        self._schedule: Schedule
        self._publisher: Publisher

    # For other threads.

    def stop(self) -> None:
        """Send nothing new, wait for the answers that are owed, end. More than once is as good as once."""
        self._steered += not self._stopped
        self._stopped = self._stop_asked = True

    def abort(self) -> None:
        """End at once; the outcome of what is owed stays unknown."""
        self._abort_asked = True

    def set_rate(self, rate: float) -> None:
        """Offer ``rate`` orders a second from now on; 0 pauses.

        Raises:
            SettingsError: ``rate`` is not a rate, or this run has no schedule.
        """
        if self.settings.rate is None:
            raise SettingsError('at rate "max" there is no rate to set: start with a number')
        if not 0 <= rate <= MAX_RATE:
            raise SettingsError(f"rate is {rate!r}: it must be from 0 to {MAX_RATE:,} orders a second")
        self._steered += 1
        self._rate_asked = rate

    def watched_by(self, watch: Watch | None) -> None:
        """For the thread of the run: have ``watch`` told of all requests and responses."""
        self._sessions.watched_by(watch)

    # The run.

    def run(self) -> LoadResult:
        """Open the sessions, send to the end of the schedule, wait for the answers that are owed; returns the result.

        Raises:
            SettingsError: there are not enough file descriptors for so many clients.
            NoLeader: no session, because the nodes have no leader; nothing was sent.
            RequestTimeout: no session, because no node answered; nothing was sent.
        """
        settings = self.settings
        nodes = numeric(known_endpoints(settings.nodes))
        groups = self._dealer.numbers
        expect_descriptors(settings.clients, len(nodes), len(groups))
        pool = SessionPool(nodes, settings.session, clients=settings.clients, groups=groups, seed=settings.seed)
        with pool as self._sessions:
            if settings.history is not None:
                self._history = HistoryWriter(settings.history, settings, pool.endpoints)
            self._open()
            self._await_connections()
            self._begin()
            if self._on_started is not None:
                self._on_started(self._sessions.client_ids)
            try:
                while not self._is_over(time.monotonic_ns()):
                    self._turn()
            except SessionExpired as error:
                self._problem = str(error)
            finally:
                if self._reader is not None:
                    self._reader.close()
            return self._end()

    def _open(self) -> None:
        sessions = self._sessions
        try:
            sessions.open(OPEN_TIMEOUT_MS, lambda: self._abort_asked or self._stop_asked)
        except RequestError as error:
            if self._history is not None:
                self._history.close((), (), str(error))
            raise
        if self._history is not None:
            self._history.opened(sessions.opened)

    def _await_connections(self) -> None:
        deadline_ns = time.monotonic_ns() + CONNECT_PATIENCE_MS * NS_PER_MS
        while not self._sessions.all_connected and time.monotonic_ns() < deadline_ns:
            self._sessions.poll(5)

    def _begin(self) -> None:
        settings = self.settings
        started_ns = time.monotonic_ns()
        self._schedule = Schedule(
            0.0 if settings.rate is None else settings.rate,
            arrivals=settings.arrivals,
            seed=settings.seed,
            start_ns=started_ns,
            duration_s=settings.duration_s,
            stages=settings.stages,
        )
        self._publisher = Publisher(settings, self._tally, self._sessions, self.record, started_ns)
        if settings.book_reads:
            names = symbol_names(settings.symbols)
            self._reader = BookReader(settings.book_reads, names, settings.seed, settings.shards)

    def _is_over(self, now_ns: int) -> bool:
        if self._abort_asked:
            return True
        end_ns = self._schedule.end_ns
        if now_ns < end_ns:
            return False
        if self._schedule.next_due_ns == NEVER_NS and not self._sessions.pending and not self._dealer.due:
            return True
        return now_ns > end_ns + round(self.settings.drain_ms * NS_PER_MS)

    def _turn(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_housekeeping_ns:
            self._housekeep(now_ns)
        if self.settings.rate is None:
            self._keep_outstanding(now_ns)
        else:
            self._send_due(now_ns)
        done = self._sessions.poll(self._patience_ms())
        if done:
            if self._history is not None:
                self._history.completed(done)
            self._pace.answered(done)
            self._tally.acknowledged(done)
            if self._tally.unfolded_orders >= FOLD_ORDERS:
                self._fold()

    def _fold(self) -> None:
        """Count what was answered, and learn which orders rest."""
        for answered in self._tally.fold():
            self._dealer.of(answered.group).observe(answered.rows, answered.reports, answered.fills)

    def _send_due(self, now_ns: int) -> None:
        """A request to each group with what is due, at most 1,024 orders; the rest has its turn right after.

        All are drawn before the first is sent, so that they leave within a moment: what reaches a node together is one
        turn there.
        """
        ready = self._ready(now_ns)
        if not ready:
            return
        if ready < self._enough and now_ns < self._pace.next_ns(self._sessions.pending):
            return
        if self._sessions.room <= 0:
            self._held_back_until_ns = now_ns
            return
        self._pace.sent(now_ns)
        self._dealer.deal(self._schedule, now_ns)
        drawn: list[tuple[GroupOrders, Rows, Ints]] = []
        for orders in self._dealer:
            if not orders.due:
                continue
            if self._sessions.room_of(orders.group) <= 0:
                orders.held_back_until_ns = now_ns
                continue
            intended_ns = orders.take()
            drawn.append((orders, orders.rows(len(intended_ns)), intended_ns))
        if len(drawn) > 1:
            now_ns = time.monotonic_ns()
        for each in drawn:
            self._submit(*each, now_ns)

    def _ready(self, now_ns: int) -> int:
        """Orders that are due, without those of groups that have no room."""
        ready = self._schedule.due_count(now_ns)
        for orders in self._dealer:
            if orders.due and self._sessions.room_of(orders.group) > 0:
                ready += orders.due
        return ready

    @property
    def _enough(self) -> int:
        """So many due orders wait for no pause: they fill a request of each group."""
        return MAX_COMMANDS_PER_REQUEST * len(self._dealer)

    def _keep_outstanding(self, now_ns: int) -> None:
        """The closed loop of rate "max": an order's intended time is when it is sent."""
        sessions, size = self._sessions, self.settings.closed_batch
        most = self.settings.closed_requests * self.settings.clients
        for orders in self._dealer:
            while sessions.pending_of(orders.group) < most and sessions.room_of(orders.group) > 0:
                if now_ns >= self._schedule.end_ns:
                    return
                rows = orders.rows(size)
                now_ns = time.monotonic_ns()
                self._submit(orders, rows, np.full(size, now_ns), now_ns)

    def _submit(self, orders: GroupOrders, rows: Rows, intended_ns: Ints, now_ns: int) -> None:
        if not self._sessions.pending:
            self._tally.gaps.owes_from(now_ns)
        if not self._sessions.pending_of(orders.group):
            self._tally.groups.owes_from(orders.group, now_ns)
        commands = rows.tobytes()
        request = self._sessions.submit(commands, Sent(commands, intended_ns, orders.group), orders.group)
        if request.attempts:
            held_back_until_ns = max(self._held_back_until_ns, orders.held_back_until_ns)
            self._count_sent(intended_ns, now_ns, held_back_until_ns)
        else:
            self._unsent.append(request)

    def _count_sent(self, intended_ns: Ints, sent_ns: int, held_back_until_ns: int) -> None:
        """Orders were handed to a socket. Where no answer is waited for, nothing more will be known of them."""
        self._tally.sent(intended_ns, sent_ns, held_back_until_ns)
        if not self._waits:
            self._tally.unwaited(intended_ns, sent_ns)

    def _patience_ms(self) -> float:
        """How long to wait for answers: until the next order may be sent, or something else is to be done."""
        now_ns = time.monotonic_ns()
        until_ns = self._next_housekeeping_ns
        if self._sessions.room > 0:
            ready = self._ready(now_ns)
            due_ns = now_ns if ready else self._schedule.next_due_ns
            if ready < self._enough:
                due_ns = max(due_ns, self._pace.next_ns(self._sessions.pending))
            until_ns = min(until_ns, due_ns)
        return max(until_ns - now_ns, 0) / NS_PER_MS

    def _housekeep(self, now_ns: int) -> None:
        self._next_housekeeping_ns = now_ns + HOUSEKEEPING_MS * NS_PER_MS
        self._fold()
        self.record.ledger.flush()
        self._on_turn()
        rate, self._rate_asked = self._rate_asked, None
        if rate is not None:
            self._schedule.set_rate(rate, now_ns)
        if self._stop_asked:
            self._stop_asked = False
            self._schedule.stop(now_ns)
        self._follow_counters(now_ns)
        if self._reader is not None:
            self._read_books(self._reader, now_ns)
        if self._publisher.is_due(now_ns):
            self._publish(now_ns, "running" if now_ns < self._schedule.end_ns else "draining")

    def _read_books(self, reader: BookReader, now_ns: int) -> None:
        """Take what was read, and read on until the end of the schedule."""
        asked: list[str] = []
        if now_ns < self._schedule.end_ns and reader.is_due(now_ns):
            nodes = zip(self._sessions.endpoints, self._sessions.connected, strict=False)
            asked = [endpoint for endpoint, connected in nodes if connected]
        reads = reader.turn(now_ns, asked)
        remembered = [
            ReadOutcome(
                each.symbol,
                each.levels,
                each.log_index,
                each.invoked_ns,
                each.completed_ns,
                crc_of_book(each.bids, each.asks),
            )
            for each in reads[: self._room_for_reads]
        ]
        self._room_for_reads -= len(remembered)
        self.record.read(remembered)
        if self._history is not None:
            self._history.read(reads)

    def _follow_unsent(self, now_ns: int) -> None:
        """Count requests that were handed to a socket since the last look, and what still waits."""
        unsent, self._unsent = self._unsent, []
        for request in unsent:
            if request.attempts:
                self._count_sent(request.token.intended_ns, request.first_sent_ns, request.first_sent_ns)
            else:
                self._unsent.append(request)
        late_ns = now_ns - LATE_NS
        orders = sum(request.token.orders for request in self._unsent)
        held_back = sum(int(np.count_nonzero(request.token.intended_ns < late_ns)) for request in self._unsent)
        if self.settings.rate is not None:
            orders += self._schedule.due_count(now_ns) + self._dealer.due
            held_back += self._schedule.due_before(min(late_ns, self._held_back_until_ns))
            held_back += sum(each.due_before(min(late_ns, each.held_back_until_ns)) for each in self._dealer)
        self._tally.waiting(orders, held_back)

    def _follow_counters(self, now_ns: int) -> None:
        """Bring in what the sessions count."""
        self._follow_unsent(now_ns)
        counters, theirs = self._tally.counters, self._sessions.counters
        counters.retries = theirs.retries
        counters.failovers = theirs.failovers
        counters.duplicates = theirs.duplicates if self._waits else 0  # answers come, and are not waited for
        counters.busy = theirs.busy

    def _publish(self, now_ns: int, state: str) -> None:
        rate = None if self.settings.rate is None else self._schedule.rate_at(now_ns)
        metrics = self._publisher.snapshot(now_ns, state, rate, self._dealer.resting)
        if self._on_metrics is not None:
            self._on_metrics(metrics)

    def _end(self) -> LoadResult:
        now_ns = time.monotonic_ns()
        self._fold()
        self._follow_counters(now_ns)
        unanswered = self._open_outcomes()
        self._tally.ended(sum(each.orders for each in unanswered))
        self._publish(now_ns, "ended")
        result = self._publisher.result(min(self._schedule.end_ns, now_ns), unanswered, self._problem)
        result.steered = self._steered
        result.requests_sent = [] if self._waits else self._sessions.requests_sent
        if self._history is not None:
            self._history.close(self._sessions.open_requests(), self._sessions.expired, self._problem)
            result.history_problem = self._history.problem
        return self.record.end(result)

    def _open_outcomes(self) -> list[OpenOutcome]:
        return [
            OpenOutcome(client_id, request.number, request.token.orders, request.first_sent_ns, request.token.group)
            for client_id, request in self._sessions.open_requests()
            if request.attempts
        ]


def run_load(settings: LoadSettings, on_metrics: Callable[[LoadMetrics], None] | None = None) -> LoadResult:
    """Run a load in this thread, to its end."""
    return Generator(settings, on_metrics=on_metrics).run()
