"""Tracing that is asked for: nodes and load clients are told, and told again, for as long as it is wanted.

A process traces for a lease of a few seconds (:mod:`zmqlab.wire.traces`), so that nothing stays on when this process
dies. :func:`trace` returns when the nodes have begun to tell, and has a thread ask again until the wanted time is over.
It asks each node that publishes statuses, also one that has come back as another process, and each load client that
this process has started.

The thread refers to the feed, and not to the cluster, which may be forgotten meanwhile. It ends with the last wish.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zmqlab.client import ask
from zmqlab.errors import RequestRefused, SettingsError
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.sampled_traces import Traces
from zmqlab.settings import require_whole
from zmqlab.wire.control import Answer, ErrorAnswer
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.traces import RECORDS_PER_S, TraceQuery, check, threshold_of

LEASE_S = 3.0
"""What a process is asked for: so long it goes on if this process dies."""
RENEW_S = 1.0
"""Until a process is asked again: two questions may be lost."""
LOOK_S = 0.2
"""How soon a node is asked that has just come back."""
SILENT_S = 2.0
"""A node that has published nothing for so long is not asked: it would not answer."""
ANSWER_S = 0.5
TOLD_S = 5.0
"""How long a caller waits for the first frame of nodes that have just said yes: they publish ten a second, and fewer on
a machine that others want as well. What they publish before this process' subscription has reached them is lost."""
HOUR_S = 3_600.0
_begin = threading.Lock()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants to be traced."""

    share: float
    records_per_s: int
    heartbeats: bool
    group: int = 0
    """Of the cluster's Raft groups."""

    def query(self, seconds: float = LEASE_S) -> TraceQuery:
        """For one process, and one lease."""
        return TraceQuery(ask.new_nonce(), self.share, seconds, self.records_per_s, self.heartbeats, self.group)


class TraceLeases:
    """What is wanted of one feed's processes, and the thread that asks for it."""

    def __init__(self, feed: MetricsFeed) -> None:
        self._feed = feed
        self._lock = threading.Lock()
        self._wishes: dict[Wish, float] = {}
        """Until when each is wanted; monotonic clock, seconds."""
        self._asked: dict[tuple[Wish, str, int], float] = {}
        """(wish, node, its process) -> when it said yes last."""
        self._lines = ask.Lines()
        self._told_s: dict[Wish, float] = {}
        """When the load clients were told last."""
        self._thread: threading.Thread | None = None

    def want(self, wish: Wish, seconds: float) -> None:
        """Trace for the next ``seconds``; returns when the nodes that were asked have begun to tell, or after
        :data:`TOLD_S`. Raises RequestRefused."""
        began_s = time.monotonic()
        with self._lock:
            if seconds and wish.group != self._feed.traces.group:
                self._wishes.clear()  # the processes' leases end by themselves
                self._feed.traces.turn_to(wish.group)
            self._wishes[wish] = time.monotonic() + seconds
            if not seconds:
                self._end(wish)
                return
            self._follow_wishes()
            before = self._traced(wish.group)
            refusals = self._ask(wish)
            begin_now = self._traced(wish.group) - before
            if refusals and not any(asked == wish for asked, _, _ in self._asked):
                self._hang_up()
                name, why = next(iter(refusals.items()))
                raise RequestRefused(f"{name} is not traced: {why}")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="zmqlab-traces", daemon=True)
                self._thread.start()
        node_ids = [each.node_id for each in self._heard(wish.group).values() if (each.name, each.pid) in begin_now]
        self._feed.wait_until(lambda: self._feed.traces.has_heard(node_ids, began_s), TOLD_S)

    def _traced(self, group: int) -> set[tuple[str, int]]:
        """The nodes that have said yes to any wish for the group, by name and process."""
        return {(name, pid) for wish, name, pid in self._asked if wish.group == group}

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                self._follow_wishes()
                if not self._wishes or self._feed.closed:
                    self._thread = None
                    self._hang_up()
                    return
                for wish in self._wishes:
                    self._ask(wish)

    def _follow_wishes(self) -> None:
        now_s = time.monotonic()
        self._wishes = {wish: until_s for wish, until_s in self._wishes.items() if until_s > now_s}
        self._asked = {asked: at_s for asked, at_s in self._asked.items() if at_s > now_s - LEASE_S}
        self._feed.traces.threshold = threshold_of(max((wish.share for wish in self._wishes), default=0.0))

    def _ask(self, wish: Wish) -> dict[str, str]:
        """Ask the nodes whose lease is to be renewed, and tell the load clients; why nodes refuse."""
        now_s = time.monotonic()
        if now_s - self._told_s.get(wish, 0.0) >= RENEW_S:
            self._told_s[wish] = now_s
            self._feed.tell_load(wish.query())
        heard = self._heard(wish.group).values()
        self._lines.keep([status.client_endpoint for status in heard])
        due = {
            status.client_endpoint: status
            for status in heard
            if now_s - self._asked.get((wish, status.name, status.pid), 0.0) >= RENEW_S
        }
        refusals = {}
        for endpoint, answer in self._answers(list(due), wish, wish.query()).items():
            status = due[endpoint]
            if isinstance(answer, ErrorAnswer):
                refusals[status.name] = answer.message
            else:
                self._asked[wish, status.name, status.pid] = now_s
        return refusals

    def _answers(self, endpoints: Sequence[str], wish: Wish, query: TraceQuery) -> dict[str, Answer]:
        if not endpoints:
            return {}
        return ask.ask_all(endpoints, lambda _: query, ANSWER_S, group=wish.group, lines=self._lines)

    def _end(self, wish: Wish) -> None:
        self._follow_wishes()
        self._feed.tell_load(wish.query(0.0))
        endpoints = [status.client_endpoint for status in self._heard(wish.group).values()]
        self._answers(endpoints, wish, wish.query(0.0))
        self._asked = {asked: at_s for asked, at_s in self._asked.items() if asked[0] != wish}
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the connections, unless the thread goes on asking."""
        if self._thread is None:
            self._lines.close()

    def _heard(self, group: int) -> Mapping[str, NodeStatus]:
        """The nodes that hold the group, and publish."""
        silent_s = self._feed.silent_s()
        return {name: each for name, each in self._feed.newest(group).items() if silent_s.get(name, 0.0) < SILENT_S}


def trace(
    feed: MetricsFeed,
    share: float = 0.01,
    seconds: float = 30.0,
    *,
    heartbeats: bool = False,
    records_per_s: int = RECORDS_PER_S,
    group: int | None = None,
) -> Traces:
    """Have all that ``feed`` hears traced for the next ``seconds``; returns when the nodes have begun to tell.

    So what is sent afterwards is seen. A node that does not answer, or tells nothing for 5 s, is not waited for.

    Calling it again with the same arguments sets the end anew; ``seconds=0`` ends it.

    Args:
        feed: of the cluster, or of nodes that this process has not started.
        share: of the requests, from 0 to 1. Elections are traced in any case.
        seconds: at most an hour.
        heartbeats: whether AppendEntries without entries are traced, too.
        records_per_s: the most that each process may publish.
        group: which Raft group, where there are several: one is traced at a time. None: the one that is traced now, at
            first 0.

    Raises:
        SettingsError: a value is out of its range.
        RequestRefused: no node does it, for example because the key of this process is none of an operator.
    """
    if group is not None:
        require_whole("group", group, 0, max(feed.shards, 1) - 1)
    wish = Wish(float(share), records_per_s, heartbeats, feed.traces.group if group is None else group)
    check(wish.query())
    if not 0 <= seconds <= HOUR_S:
        raise SettingsError(f"traces for {seconds:g} s: give 0 to {HOUR_S:g} s")
    with _begin:
        leases = feed.trace_leases
        if not isinstance(leases, TraceLeases):
            leases = feed.trace_leases = TraceLeases(feed)
    leases.want(wish, seconds)
    return feed.traces
