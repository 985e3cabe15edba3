"""The ring keeps the newest rows and gives out what a reader has not seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.widgets.rings import Ring


@given(st.integers(1, 7), st.lists(st.integers(0, 5), max_size=12))
def test_like_a_list(capacity: int, batches: list[int]) -> None:
    ring, rows, seen = Ring(("a", "b"), capacity), list[float](), 0
    for batch in batches:
        for _ in range(batch):
            rows.append(float(len(rows)))
            ring.append({"a": rows[-1]})
        total, fresh = ring.since(seen, ["a"])
        assert fresh["a"].tolist() == rows[max(seen, len(rows) - capacity) :]
        assert total == len(rows)
        assert ring.newest(["a"])["a"].tolist() == rows[-capacity:]
        assert ring.newest(["a"], 2)["a"].tolist() == rows[-min(2, capacity) :]
        seen = total


def test_what_a_row_does_not_mention_is_unknown() -> None:
    ring = Ring(("a", "b"), 1)
    ring.append({"a": 1.0, "b": 2.0})
    for _ in range(3):
        ring.append({"a": 1.0})
    assert np.isnan(ring.newest(["b"])["b"]).all()


def test_a_reader_holds_a_copy() -> None:
    ring = Ring(("a",), 2)
    ring.append({"a": 1.0})
    before = ring.newest(["a"])["a"]
    for value in range(5):
        ring.append({"a": float(value)})
    assert before.tolist() == [1.0]
