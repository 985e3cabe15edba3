"""What a leader knows of one follower, and in which way it sends to it.

``next_index`` and ``match_index`` are those of figure 3.1 of the thesis.

::

               accepted                   next entry compacted
    PROBE  ---------------->  REPLICATE  ---------------------->  SNAPSHOT
           <----------------             <----------------------
               rejected                  installed, or not needed any more

PROBE leads to SNAPSHOT as well, if the entry to probe with is compacted.

In PROBE the leader looks for the place where the logs agree, with one message at a time. In REPLICATE it has found the
place and pipelines: ``next_index`` moves on with each message, without waiting for an answer. A follower in REPLICATE
whose ``next_index`` is where the next broadcast starts is *in step*: broadcasts are all that it needs. A follower
further behind gets unicasts, at most ``max_inflight`` of them unanswered, until it is in step too. In SNAPSHOT a
follower gets chunks, one at a time.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from zmqlab.raft.messages import Snapshot


class ProgressState(Enum):
    """How a leader sends to a follower."""

    PROBE = auto()
    REPLICATE = auto()
    SNAPSHOT = auto()


PROBE, REPLICATE, SNAPSHOT = ProgressState


class Progress:
    """One follower, as its leader sees it."""

    __slots__ = (
        "acked_round",
        "awaiting",
        "heard_at",
        "inflight",
        "match_index",
        "next_index",
        "node_id",
        "sent_at",
        "snapshot",
        "snapshot_offset",
        "state",
        "told_commit",
        "unicast_round",
    )

    def __init__(self, node_id: int, next_index: int, ticks: int) -> None:
        self.node_id = node_id
        self.match_index = 0
        """The follower is known to hold the leader's log up to here. ``0 <= match_index < next_index``. Never falls."""
        self.next_index = next_index
        """The next entry to send. ``next_index <= last_index + 1``."""
        self.state = PROBE
        self.heard_at = ticks
        """The leader's tick at which the follower last answered in this term."""
        self.acked_round = 0
        """The highest round that the follower has answered."""
        self.told_commit = 0
        """The commit index in the last notice to this follower alone. ``<= match_index``."""
        self.awaiting = False
        """In PROBE and SNAPSHOT: a message is under way, and the next one waits until it is answered or given up."""
        self.sent_at = ticks
        """The leader's tick at which the last such message was sent."""
        self.unicast_round = 0
        """The round of the last unicast with a probe, entries or a chunk. A rejection of an earlier round is stale."""
        self.inflight: deque[int] = deque()
        """In REPLICATE: the last index of each unanswered unicast, rising. Otherwise empty."""
        self.snapshot: Snapshot | None = None
        """In SNAPSHOT: the snapshot being sent, kept even if a newer one is taken meanwhile. Otherwise None."""
        self.snapshot_offset = 0
        """In SNAPSHOT: how many bytes of it the follower has."""

    def acknowledge(self, index: int) -> bool:
        """The follower holds the log up to ``index``. Returns whether that is news."""
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        if index <= self.match_index:
            return False
        self.match_index = index
        self.next_index = max(self.next_index, index + 1)
        return True

    def start_probe(self, next_index: int) -> None:
        """Look for the place where the logs agree, beginning before ``next_index``."""
        self._leave(PROBE)
        self.next_index = max(self.match_index + 1, next_index)

    def start_replicate(self) -> None:
        """The logs agree up to ``match_index``: send the entries after it without waiting."""
        self._leave(REPLICATE)
        self.next_index = self.match_index + 1

    def start_snapshot(self, snapshot: Snapshot) -> None:
        """The follower needs entries that are compacted: send ``snapshot`` instead."""
        self._leave(SNAPSHOT)
        self.snapshot = snapshot

    def sent(self, ticks: int, round_: int) -> None:
        """A message is under way that must be answered before the next one is sent."""
        self.awaiting = True
        self.sent_at = ticks
        self.unicast_round = round_

    def rejects(self, rejected_index: int, round_: int) -> bool:
        """Whether a rejection is news: neither stale, nor of a broadcast that this follower was not meant to follow."""
        if self.state is SNAPSHOT or round_ < self.unicast_round or rejected_index <= self.match_index:
            return False
        if self.state is PROBE:
            return rejected_index == self.next_index - 1
        return rejected_index < self.next_index

    def _leave(self, state: ProgressState) -> None:
        self.state = state
        self.awaiting = False
        self.inflight.clear()
        self.snapshot = None
        self.snapshot_offset = 0
