"""One of several load generators, as the process that adds them up knows it: the interface, and one on this machine.

A part tells its snapshots, begins and ends, is steered, and leaves a record. :class:`LocalPart` is a load process of
this process (:mod:`zmqlab.lab.load_run`) with a feed of its own, so that its snapshots reach its owner alone. A
Dask worker has such parts too; :class:`~zmqlab.lab.dask_links.DaskPart` is what is known of one of those here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset
from zmqlab.lab.load_run import LoadRun
from zmqlab.lab.register import Ending
from zmqlab.load.load_messages import LoadResult, ToLoad
from zmqlab.load.load_settings import LoadSettings

FRAMES_MAX = 100
"""Snapshots that wait for their reader: ten seconds of them. Then the oldest go."""


class LoadPart(Protocol):
    """One of several load generators."""

    @property
    def machine(self) -> str:
        """Where it runs, for messages."""

    @property
    def begun(self) -> bool:
        """Whether its sessions are open, or it has ended."""

    @property
    def ended(self) -> bool:
        """Whether it has ended, and its record is here."""

    @property
    def folder(self) -> Path:
        """Where its record is, or comes in while it is written."""

    def clock(self) -> ClockOffset:
        """How far the wall clock of its machine is ahead."""

    def frames(self) -> Sequence[bytes]:
        """The snapshots that have come since the last call."""

    def steer(self, message: ToLoad) -> None:
        """Tell it something. Raises ClusterError if its machine does not answer."""

    def outcome(self) -> LoadResult:
        """What it has recorded, once it has ended. Raises ClusterError, or what it failed with."""

    def close(self) -> None:
        """End it at once, and free what is held for it."""


class LocalPart:
    """A load generator as a child of this process."""

    machine = "this machine"

    def __init__(self, settings: LoadSettings, where: Path | None = None) -> None:
        """Start it, with its record in the folder ``where``, or in a temporary one.

        Raises:
            ClusterError: there is no room for its record.
        """
        self._frames: deque[bytes] = deque(maxlen=FRAMES_MAX)
        self._end = Ending()
        feed = self._feed = MetricsFeed()
        self._end.also(feed.close)
        self._end.also(feed.on_load_frame(self._frames.append, at_once=True))
        try:
            self.run = LoadRun(settings, feed, self._end, None, where)
        except BaseException:
            self._end()
            raise

    def traced_by(self, feed: MetricsFeed) -> None:
        """Have it traced with what that feed hears, on the clock of this machine; to be called before it begins."""
        self._feed.traces = feed.traces
        self._end.also(feed.on_trace_wish(self.run.tell_to_trace))

    @property
    def begun(self) -> bool:
        """See :class:`LoadPart`."""
        return self.run.begun

    @property
    def ended(self) -> bool:
        """See :class:`LoadPart`."""
        return self.run.ended.is_set()

    @property
    def folder(self) -> Path:
        """See :class:`LoadPart`."""
        return self.run.evidence.folder

    def clock(self) -> ClockOffset:
        """See :class:`LoadPart`."""
        return SAME_CLOCK

    def frames(self) -> Sequence[bytes]:
        """See :class:`LoadPart`."""
        return [self._frames.popleft() for _ in range(len(self._frames))]

    def steer(self, message: ToLoad) -> None:
        """See :class:`LoadPart`."""
        self.run.steer(message)

    def outcome(self) -> LoadResult:
        """See :class:`LoadPart`."""
        return self.run.outcome()

    def close(self) -> None:
        """See :class:`LoadPart`."""
        self._end()
