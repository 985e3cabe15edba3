"""One fault in slow motion: what happened from one second before it to three after, or until the backlog was done.

A :class:`Film` is read off the events and the load clients' snapshots, as :mod:`~zmqlab.lab.incidents` reads what a
fault cost. It has the orders acknowledged in every 10 ms, and the moments that divide an outage:

- *noticed*: another node began to campaign;
- *elected*: a node led again;
- *first answer*: the longest gap in the answers ended; *answers again*, if it had begun after the election;
- *backlog done*: no more orders waited than before the fault.

Events have the time of the node that tells them, and the answers that of the load client, to 10 ms. The backlog is
known ten times a second, and is interpolated between.

A gap is told only if it is one: answers come one by one, so at low rates there are always some milliseconds without. A
short one that begins long after the fault is not the fault's, but a hiccup of the machine.

Rules: pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from zmqlab.lab.incidents import NS_PER_MS, Incident
from zmqlab.load.load_messages import FINE_NS, LoadMetrics

BEFORE_MS, AFTER_MS = 1_000.0, 3_000.0
"""What is shown of an ordinary fault; a longer outage is shown to its end."""
REST_MS = 400.0
"""Behind the moment at which the backlog is done."""
LONGEST_MS = 50_000.0
"""Snapshots are kept for a minute, and those of the second before the fault are needed, too."""
BINS_MAX = 500
"""More columns than a strip has pixels to show."""
GAP_MS = 60.0
"""A shorter pause is no gap, on a machine that does other things too."""
GAP_ORDERS = 12.0
"""Nor is one in which fewer orders were due: at random arrivals such a pause comes once in e**12."""
LATE_MS = 500.0
"""What a fault stops stops sooner. A gap that begins later counts if it also lasts longer."""
SPARE = 1.25
"""A backlog of so much times the largest one before the fault is an ordinary one."""
BACKLOG_MS = 20.0
"""So is one of the orders of so many milliseconds."""
BIN_MS = FINE_NS / NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One fault. Times are milliseconds after it; None: not known (yet), or it did not happen."""

    from_ms: float
    """Where the first of :attr:`bins` begins: before the fault."""
    bin_ms: float
    """How long each of them is."""
    bins: tuple[int, ...]
    """Orders acknowledged in each; those that are not known yet are missing at the end. Empty: no load ran."""
    until_ms: float
    """The end of the time that is shown."""
    offered: float = 0.0
    """Orders a second that were offered before the fault."""
    noticed_ms: float | None = None
    elected_ms: float | None = None
    least_ms: float = GAP_MS
    """A shorter time without answers is no gap at this rate."""
    silent_ms: float | None = None
    """When the longest gap began."""
    answered_ms: float | None = None
    """When it ended. None with :attr:`silent_ms` known: it goes on."""
    done_ms: float | None = None
    """When no more orders waited than before."""
    complete: bool = False
    """Whether nothing more will be added."""

    @property
    def burst(self) -> float:
        """Orders a second in the fullest bin."""
        return 1_000 * max(self.bins, default=0) / self.bin_ms


def film_of(incident: Incident, snapshots: Sequence[LoadMetrics], now_ns: int) -> Film:
    """The film of a fault as far as it is known.

    Args:
        incident: what the fault cost, as far as that is known.
        snapshots: of the load clients, oldest first.
        now_ns: the wall clock.
    """
    start_ns = incident.time_ns - round(BEFORE_MS * NS_PER_MS)
    near = [each for each in snapshots if each.time_ns >= start_ns]
    known_ms = max((_ms(each.time_ns - incident.time_ns) for each in near), default=-BEFORE_MS)
    fine = _fine(near, start_ns, known_ms)
    offered = _offered(near, incident.time_ns)
    least_ms = max(GAP_MS, 1_000 * GAP_ORDERS / offered) if offered else GAP_MS
    silent_ms, answered_ms = _gap(fine, least_ms) if offered else (None, None)
    done_ms = _done(near, incident.time_ns, answered_ms, offered) if answered_ms is not None else None
    goes_on = silent_ms is not None and done_ms is None
    until_ms = min(max(AFTER_MS, (known_ms if goes_on else done_ms or 0.0) + REST_MS), LONGEST_MS)
    is_over = bool(near) and all(each.state == "ended" for each in {each.pid: each for each in near}.values())
    bins, bin_ms = _coarser(fine[: ceil((until_ms + BEFORE_MS) / BIN_MS)], until_ms)
    return Film(
        from_ms=-BEFORE_MS,
        bin_ms=bin_ms,
        bins=tuple(bins),
        until_ms=until_ms,
        offered=offered,
        noticed_ms=incident.detected_ms,
        elected_ms=incident.elected_ms,
        least_ms=least_ms,
        silent_ms=silent_ms,
        answered_ms=answered_ms,
        done_ms=done_ms,
        complete=_ms(now_ns - incident.time_ns) > AFTER_MS and (not goes_on or is_over or until_ms >= LONGEST_MS),
    )


def _ms(length_ns: float) -> float:
    return length_ns / NS_PER_MS


def _fine(snapshots: Iterable[LoadMetrics], start_ns: int, known_ms: float) -> list[int]:
    """Orders acknowledged in every 10 ms from ``start_ns`` to the newest snapshot; none if no load ran."""
    bins = [0] * max(0, int((known_ms + BEFORE_MS) / BIN_MS))
    for each in snapshots:
        first = (each.fine_from_ns - start_ns) // FINE_NS
        for place, orders in enumerate(each.fine, first):
            if 0 <= place < len(bins):
                bins[place] += orders
    return bins


def _offered(snapshots: Iterable[LoadMetrics], fault_ns: int) -> float:
    """Orders a second that were offered before the fault."""
    before = [each for each in snapshots if each.time_ns <= fault_ns]
    over_s = {each.pid: 0.0 for each in before}
    for each in before:
        over_s[each.pid] += each.interval_s
    longest_s = max(over_s.values(), default=0.0)
    return sum(each.interval.offered for each in before) / longest_s if longest_s else 0.0


def _gap(fine: Sequence[int], least_ms: float) -> tuple[float | None, float | None]:
    """When the longest time without answers began and ended that ends after the fault and may be of its making; None:
    there was no gap, or it goes on."""
    longest, began = 0, 0
    empty_from: int | None = None
    for place, orders in enumerate([*fine, 1]):
        if not orders:
            empty_from = place if empty_from is None else empty_from
        elif empty_from is not None:
            length, is_late = place - empty_from, empty_from * BIN_MS - BEFORE_MS > LATE_MS
            if place * BIN_MS > BEFORE_MS and length > longest and (not is_late or length * BIN_MS > LATE_MS):
                longest, began = length, empty_from
            empty_from = None
    if longest * BIN_MS < least_ms:
        return None, None
    ended = began + longest
    return began * BIN_MS - BEFORE_MS, None if ended >= len(fine) else ended * BIN_MS - BEFORE_MS


def _done(snapshots: Sequence[LoadMetrics], fault_ns: int, answered_ms: float, offered: float) -> float | None:
    """When no more orders waited than before the fault; None: they still do."""
    waiting = _backlogs(snapshots, fault_ns)
    ordinary = SPARE * max([offered * BACKLOG_MS / 1_000, *(orders for at_ms, orders in waiting if at_ms <= 0)])
    before = (answered_ms, 0.0)
    for at_ms, orders in waiting:
        if at_ms >= answered_ms and orders <= ordinary:
            return _crossing(before, (at_ms, orders), ordinary, answered_ms)
        before = (at_ms, orders)
    return None


def _backlogs(snapshots: Iterable[LoadMetrics], fault_ns: int) -> list[tuple[float, float]]:
    """(milliseconds after the fault, orders that were due and not acknowledged), all load clients together."""
    newest: dict[int, int] = {}
    found: list[tuple[float, float]] = []
    for each in snapshots:
        newest[each.pid] = each.total.offered - each.total.acknowledged - each.total.failed
        found.append((_ms(each.time_ns - fault_ns), sum(newest.values())))
    return found


def _crossing(before: tuple[float, float], after: tuple[float, float], limit: float, earliest_ms: float) -> float:
    """Where a straight line between two backlogs falls to ``limit``."""
    (from_ms, high), (to_ms, low) = before, after
    if high <= limit or high <= low:
        return max(min(from_ms, to_ms), earliest_ms)
    return max(to_ms - (to_ms - from_ms) * (limit - low) / (high - low), earliest_ms)


def _coarser(fine: Sequence[int], until_ms: float) -> tuple[list[int], float]:
    """The same with at most ``BINS_MAX`` bins for the whole time that is shown."""
    width = max(1, ceil((until_ms + BEFORE_MS) / BIN_MS / BINS_MAX))
    return [sum(fine[at : at + width]) for at in range(0, len(fine), width)], width * BIN_MS
