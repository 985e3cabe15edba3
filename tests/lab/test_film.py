"""A fault in slow motion: its moments are found where they are, and not claimed before they are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.widgets.fake_cluster import MS, snapshot
from zmqlab.lab.film import BINS_MAX, Film, film_of
from zmqlab.lab.incidents import Incident
from zmqlab.load.load_messages import FINE_NS, LoadCounters, LoadMetrics

FAULT = 1_700_000_000_000_000_000
KILL = Incident(time_ns=FAULT, title="node0 killed", led=True, detected_ms=210.0, elected_ms=214.0, new_leader="node2")


def played(answers: Callable[[int], int], until_ms: int, rate: int = 2_000) -> list[LoadMetrics]:
    """Snapshots from two seconds before the fault on; ``answers(ms)`` orders come in the 10 ms that begin there."""
    made, acknowledged = [], 0
    for at in range(-2_000, until_ms, 100):
        fine = [answers(at + step) for step in range(0, 100, 10)]
        acknowledged += sum(fine)
        offered = (at + 2_100) * rate // 1_000
        made.append(
            snapshot(
                time_ns=FAULT + (at + 100) * MS,
                offered=rate // 10,
                acknowledged=sum(fine),
                total=LoadCounters(offered=offered, acknowledged=acknowledged),
                fine_from_ns=FAULT + at * MS,
                fine=fine,
            )
        )
    return made


def outage(ms: int) -> int:
    """Twenty orders in 10 ms; a gap from 10 to 280 ms; then four times as many, until all is caught up at 370 ms."""
    return 0 if 10 <= ms < 280 else 80 if 280 <= ms < 370 else 20


def film(snapshots: list[LoadMetrics], now_ms: int, incident: Incident = KILL) -> Film:
    return film_of(incident, snapshots, FAULT + now_ms * MS)


def test_the_moments_of_an_outage() -> None:
    seen = film(played(outage, 3_200), 3_200)
    assert (seen.noticed_ms, seen.elected_ms) == (210, 214)
    assert (seen.silent_ms, seen.answered_ms) == (10, 280)
    assert seen.done_ms == pytest.approx(370, abs=40)
    assert seen.offered == pytest.approx(2_000)
    assert (seen.bin_ms, len(seen.bins)) == (10, 400)
    assert seen.bins[101:128] == (0,) * 27, "a gap of 270 ms is a gap"
    assert seen.burst == 8_000
    assert seen.complete


def test_it_is_complete_half_a_second_after_recovery() -> None:
    seen = film(played(outage, 800), 820)
    assert seen.done_ms == pytest.approx(370, abs=40)
    assert not seen.complete, "it has three seconds to run"


def test_a_gap_that_goes_on_has_no_end() -> None:
    def dark(ms: int) -> int:
        return 0 if ms >= 10 else 20

    seen = film(played(dark, 5_000), 5_100)
    assert (seen.silent_ms, seen.answered_ms, seen.done_ms) == (10, None, None)
    assert seen.until_ms == 5_400
    assert not seen.complete


def test_the_end_of_the_load_ends_the_film() -> None:
    def dark(ms: int) -> int:
        return 0 if ms >= 10 else 20

    snapshots = played(dark, 5_000)
    snapshots[-1].state = "ended"
    seen = film(snapshots, 5_100)
    assert (seen.answered_ms, seen.complete) == (None, True)


def test_a_long_outage_is_shown_to_its_end_in_coarser_bins() -> None:
    def long(ms: int) -> int:
        return 0 if 0 <= ms < 20_000 else 400 if 20_000 <= ms < 21_060 else 20

    seen = film(played(long, 24_000), 24_000)
    assert seen.answered_ms == 20_000
    assert seen.done_ms is not None
    assert 20_950 < seen.done_ms < 21_200
    assert seen.until_ms == pytest.approx(seen.done_ms + 400)
    assert len(seen.bins) <= BINS_MAX
    assert seen.complete


def test_no_gap_is_made_of_a_quiet_load() -> None:
    def quiet(ms: int) -> int:
        return 1 if ms % 150 == 0 else 0

    seen = film(played(quiet, 3_200, rate=7), 3_200)
    assert (seen.silent_ms, seen.answered_ms, seen.done_ms) == (None, None, None)
    assert seen.complete


def test_a_short_gap_long_after_the_fault_is_not_of_its_making() -> None:
    """Five nodes on two busy cores: the strip said "first answer +2,410 ms" of a follower's death that cost nothing."""
    late = film(played(lambda ms: 0 if 2_340 <= ms < 2_410 else 20, 3_200), 3_200)
    assert (late.silent_ms, late.answered_ms) == (None, None)
    long = film(played(lambda ms: 0 if 1_000 <= ms < 1_600 else 20, 3_200), 3_200)
    assert (long.silent_ms, long.answered_ms) == (1_000, 1_600), "such a long one is told in any case"
    both = film(played(lambda ms: 0 if 20 <= ms < 90 or 2_000 <= ms < 2_100 else 20, 3_200), 3_200)
    assert (both.silent_ms, both.answered_ms) == (20, 90)


def test_without_a_load_there_are_no_bins() -> None:
    seen = film([], 4_000)
    assert (seen.bins, seen.offered, seen.silent_ms) == ((), 0, None)
    assert (seen.elected_ms, seen.complete) == (214, True)


def test_figures_of_one_time_are_added() -> None:
    one = snapshot(time_ns=FAULT + 100 * MS, fine_from_ns=FAULT + 50 * MS, fine=[3, 4])
    two = snapshot(time_ns=FAULT + 200 * MS, fine_from_ns=FAULT + 60 * MS, fine=[5])
    assert film([one, two], 300).bins[105:107] == (3, 9)
    assert FINE_NS == 10 * MS
