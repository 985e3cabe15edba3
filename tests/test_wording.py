"""Counts, lists and verbs agree."""

from __future__ import annotations

import pytest

from zmqlab.wording import agreeing, counted, joined, numbered, refused


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 orders"), (1, "1 order"), (2, "2 orders"), (2_345_678, "2,345,678 orders")]
)
def test_a_count_agrees_with_its_noun(count, said):
    assert counted(count, "order") == said


def test_a_plural_of_its_own():
    assert [counted(count, "log entry") for count in (1, 2)] == ["1 log entry", "2 log entries"]
    assert [counted(count, "node runs", "nodes run") for count in (1, 2)] == ["1 node runs", "2 nodes run"]


def test_numbers_agree_with_their_noun():
    assert [numbered("group", numbers) for numbers in ([3], [1, 2])] == ["group 3", "groups 1, 2"]


def test_refused_orders():
    assert [refused(1), refused(2_345)] == [
        "1 order refused as stale, malformed or forbidden",
        "2,345 orders refused as stale, malformed or forbidden",
    ]


def test_a_verb_agrees_with_its_subject():
    assert [agreeing(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_a_list(names, said):
    assert joined(names) == said
    assert joined(names, "or") == said.replace("and", "or")
