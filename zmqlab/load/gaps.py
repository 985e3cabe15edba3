"""Times in which answers were owed and none came: of a whole run, and of each Raft group.

A *gap* begins with the last acknowledgement, or with the first request after a time in which none was owed. It ends
with the next acknowledgement. Where there are several groups, each has gaps of its own: while one group elects a leader
the others answer, and the run as a whole has no gap.

Rules: no clock; ``now_ns`` is handed in and does not fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zmqlab.load.load_messages import GroupShare

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Gaps:
    """The gaps of one run, or of one group in it."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self.longest_at_ns = 0
        """When it began."""
        self._interval_ns = 0
        self._from_ns = 0
        """The last acknowledgement, or since when answers are owed."""

    def owes_from(self, now_ns: int) -> None:
        """The cluster owed nothing, and does from now on."""
        self._from_ns = now_ns

    def acknowledged(self, now_ns: int) -> None:
        """An acknowledgement has come."""
        self._note(now_ns - self._from_ns)
        self._from_ns = now_ns

    def silence_ns(self, now_ns: int, owed: bool) -> int:
        """How long acknowledgements have been owed and none has come; part of the longest gap from now on."""
        if not owed:
            return 0
        silence_ns = now_ns - self._from_ns
        self._note(silence_ns)
        return silence_ns

    def take_interval_ns(self) -> int:
        """The longest gap that ended, or went on, since the last call."""
        gap_ns, self._interval_ns = self._interval_ns, 0
        return gap_ns

    def _note(self, gap_ns: int) -> None:
        if gap_ns > self._interval_ns:
            self._interval_ns = gap_ns
        if gap_ns > self.longest_ns:
            self.longest_ns = gap_ns
            self.longest_at_ns = self._from_ns


class GroupTally:
    """What was acknowledged in each group, and its gaps."""

    def __init__(self, groups: Iterable[int]) -> None:
        """``groups``: their numbers; none where there is one group, and then nothing is counted here."""
        self._shares = {group: GroupShare(group=group) for group in groups}
        self._gaps = {group: Gaps() for group in self._shares}

    def owes_from(self, group: int, now_ns: int) -> None:
        """The group owed nothing, and does from now on."""
        if group in self._gaps:
            self._gaps[group].owes_from(now_ns)

    def acknowledged(self, group: int, orders: int, now_ns: int) -> None:
        """One request of the group was acknowledged."""
        if group in self._gaps:
            share = self._shares[group]
            share.requests += 1
            share.acknowledged += orders
            self._gaps[group].acknowledged(now_ns)

    def shares(self, now_ns: int, started_ns: int, pending: Callable[[int], int]) -> list[GroupShare]:
        """The groups as they are now, and an interval ends; ``pending``: of a group, how many requests wait."""
        return [self._share_of(share, now_ns, started_ns, pending(group)) for group, share in self._shares.items()]

    def _share_of(self, share: GroupShare, now_ns: int, started_ns: int, outstanding: int) -> GroupShare:
        gaps = self._gaps[share.group]
        silence_ns = gaps.silence_ns(now_ns, outstanding > 0)
        return GroupShare(
            group=share.group,
            requests=share.requests,
            acknowledged=share.acknowledged,
            outstanding=outstanding,
            silence_ms=silence_ns / NS_PER_MS,
            gap_ms=gaps.take_interval_ns() / NS_PER_MS,
            longest_gap_ms=gaps.longest_ns / NS_PER_MS,
            longest_gap_at_s=max(gaps.longest_at_ns - started_ns, 0) / NS_PER_S,
        )
