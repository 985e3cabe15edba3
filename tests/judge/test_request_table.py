"""One number for each of millions of requests: as a dictionary would have it, in a tenth of its room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zmqlab.judge.replay import MAX_GAP, RequestTable

NUMBERS = st.one_of(st.integers(0, 50), st.integers(MAX_GAP - 2, MAX_GAP + 60), st.integers(0, 2**64 - 1))


@given(st.lists(st.tuples(st.integers(1, 3), NUMBERS, st.sampled_from([0, 1, 2**32 - 1, 2**64 - 2]))))
def test_a_table_is_a_dictionary(assignments: list[tuple[int, int, int]]) -> None:
    table, twin = RequestTable(), dict[tuple[int, int], int]()
    for client_id, number, value in assignments:
        table[client_id, number] = twin[client_id, number] = value
    assert len(table) == len(twin)
    for key in [*twin, *((client_id, number + 1) for client_id, number in twin), (9, 9)]:
        assert table.get(key) == twin.get(key)
        assert (key in table) is (key in twin)
    for client_id in (1, 2, 3, 9):
        assert table.of(client_id) == sum(each == client_id for each, _ in twin)


def test_a_number_that_was_far_away_is_found_when_the_others_have_come_near() -> None:
    table = RequestTable()
    table[1, MAX_GAP + 10] = 7
    for number in range(1, MAX_GAP + 100):
        table[1, number] = number
    assert table.get((1, MAX_GAP + 10)) == MAX_GAP + 10
    assert table.of(1) == len(table) == MAX_GAP + 99
