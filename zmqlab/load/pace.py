"""When the next requests may leave: how many orders share a request follows the load.

A request costs all processes together up to a millisecond of CPU, however few orders are in it. While nothing is under
way, an order leaves as soon as it is due. Otherwise the next request leaves as long after the last one as answers take,
and until then due orders gather. So about one request is under way, and a second one would only queue behind it. Where
the machine has no room, answers take longer, and there are fewer and larger requests; where it has, there are more and
smaller ones. The pause is at least 0.2 ms and at most 2 ms: the loop stays open, and a cluster that stands still is
sent 500 requests a second. A fixed pause can be set (``batch_interval_ms``). None of this moves an order's intended
time: what it waits to be sent is part of its response time.

*Several groups.* Where the nodes share the symbols out to Raft groups, a request has orders of one group, and there are
as many requests as groups. They leave together, because a node handles what it has received in one turn. The pause may
then be twice as long, so that requests are larger; no longer, because an order that is sent 5 ms late counts as late.
It follows the median of the groups' answers, which a few groups that elect a leader do not move.

Rules: no clock; times are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from zmqlab.client.session import Completion

NS_PER_MS = 1_000_000
PAUSE_MIN_NS = 200_000
"""Between two requests, so that the generator, which needs 0.1 to 0.2 ms of CPU for one, does not fill a core."""
PAUSE_MAX_NS = 2_000_000
"""The pause while answers take longer: the loop is open, and does not wait for them."""
PAUSE_MAX_OF_GROUPS_NS = 4_000_000
"""The same where requests of several groups leave together: below :data:`zmqlab.load.measurement.LATE_NS`."""


class Pace:
    """See the module."""

    def __init__(self, interval_ms: float | None = None, groups: int = 1) -> None:
        """
        Args:
            interval_ms: the pause between two requests, if it is fixed.
            groups: how many requests leave together.
        """
        self._sent_ns = 0
        """When the last request was sent."""
        self._fixed_ns = None if interval_ms is None else round(interval_ms * NS_PER_MS)
        self._pause_max_ns = PAUSE_MAX_NS if groups == 1 else PAUSE_MAX_OF_GROUPS_NS
        self._answers_ns: dict[int, int] = {}
        """By group: how long answers take, smoothed as TCP does (RFC 6298, SRTT)."""
        self._answer_ns = 0
        """The median of them; 0 before the first."""

    def sent(self, now_ns: int) -> None:
        """A request is sent, or one to each group."""
        self._sent_ns = now_ns

    def answered(self, completions: Sequence[Completion]) -> None:
        """Requests were answered."""
        answers = self._answers_ns
        for each in completions:
            took_ns = each.completed_ns - each.first_sent_ns
            known_ns = answers.get(each.token.group, 0)
            answers[each.token.group] = known_ns + ((took_ns - known_ns) >> 3 if known_ns else took_ns)
        if answers:
            self._answer_ns = sorted(answers.values())[len(answers) // 2]

    def next_ns(self, under_way: int) -> int:
        """No request is to be sent before, unless the due orders fill one. ``under_way``: requests not answered yet."""
        if self._fixed_ns is not None:
            return self._sent_ns + self._fixed_ns
        pause_ns = PAUSE_MIN_NS
        if under_way:
            pause_ns = min(max(pause_ns, self._answer_ns or PAUSE_MAX_NS), self._pause_max_ns)
        return self._sent_ns + pause_ns
