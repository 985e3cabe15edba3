"""Counts once a second what a run that goes on has lost so far, and what was applied twice.

A thread reads the ledgers of the load's processes as they grow, and hands them to a
:class:`~zmqlab.judge.live_count.LiveCount` beside what the run's :class:`~zmqlab.judge.log_collector.LogCollector`
hears of the nodes' log. The nodes are asked for nothing more than the collector asks anyhow, but where two of them have
told different logs.

Where there are several Raft groups, each is counted by itself, and the counts are added up.

Rules: it refers to no :class:`~zmqlab.lab.load_client.LoadClient`, which may be forgotten while its run is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from zmqlab.client import ask
from zmqlab.errors import ZmqlabError
from zmqlab.judge.live_count import LiveCount, SoFar, over_groups
from zmqlab.judge.log_collector import COLLECT_TIMEOUT_S, PIECE_BYTES, Collectors, GroupCollectors
from zmqlab.judge.replay import LogEntry
from zmqlab.lab.feed import MetricsFeed
from zmqlab.load.run_record import LedgerTails
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.wire import control

LOOK_S = 1.0
"""Between two looks."""

_log = logging.getLogger(__name__)


class Counting:
    """The thread, from :meth:`start` to :meth:`stop`.

    Args:
        ledgers: where each process of the load writes its ledger, or where that comes in -> whether its clock is the
            one of this process.
        collectors: read the log along, or the logs of several groups.
        feed: hears what nodes publish.
        replication: by which the nodes agree; empty: not known.
    """

    def __init__(
        self,
        ledgers: Mapping[Path, bool],
        collectors: Collectors,
        feed: MetricsFeed,
        replication: str = "",
    ) -> None:
        kind = REPLICATIONS.known(replication)
        self.newest: SoFar | None = None
        """As of the last look; None before the first."""
        self._tail = LedgerTails(ledgers)
        self._feed = feed
        self._collectors = collectors.of_group if isinstance(collectors, GroupCollectors) else {0: collectors}
        one_log = kind is None or "nodes agree" not in kind.not_promised
        self._counts = {group: LiveCount(one_log) for group in self._collectors}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zmqlab-so-far", daemon=True)

    def start(self) -> Counting:
        """Begin."""
        for group, collector in self._collectors.items():
            collector.listener = self._counts[group].told
        self._thread.start()
        return self

    def stop(self) -> None:
        """End; what was counted last stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        for collector in self._collectors.values():
            collector.listener = None

    def look(self) -> SoFar:
        """Read what is new, and count. The thread calls this, and so do tests."""
        now_ns = time.monotonic_ns()
        rows, found = self._tail.read(now_ns), []
        for group, count in self._counts.items():
            count.acknowledged(rows[rows["group"] == group] if len(self._counts) > 1 else rows)
            self._settle_doubt(group, count)
            found.append(count.look(self._feed.newest(group).values(), now_ns))
        self.newest = over_groups(found)
        return self.newest

    def _run(self) -> None:
        try:
            while not self._stop.wait(LOOK_S):
                self.look()
        except Exception:  # the run goes on, and is judged at its end
            _log.exception("what a run has lost so far is not counted any more")
            self.newest = None

    def _settle_doubt(self, group: int, count: LiveCount) -> None:
        """Two nodes have told different logs: read one of them again from further before."""
        doubt, count.doubt = count.doubt, None
        if doubt is None:
            return
        endpoint, from_index = doubt
        query = control.LogQuery(ask.new_nonce(), from_index, PIECE_BYTES)
        try:
            answer = ask.ask_one(endpoint, query, control.LogAnswer, COLLECT_TIMEOUT_S, group)
        except ZmqlabError:
            return  # the collector hears of the difference again, from this node or from another one
        count.told([LogEntry(*entry) for entry in answer.entries], endpoint)
