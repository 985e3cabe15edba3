"""A small run, and three nodes that tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.judge.run_history import FakeNode, History, small_run


@pytest.fixture
def run() -> History:
    return small_run()


@pytest.fixture
def nodes(run: History) -> Iterator[list[FakeNode]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeNode(f"node{number}", run)) for number in range(3)]
