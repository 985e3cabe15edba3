"""Waiting for what happens in other threads, processes and pages."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
"""No test says how fast a machine is: the limit only ends a test that fails."""


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> bool:
    """Whether the condition comes to hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def seconds_until(condition: Callable[[], object], timeout_s: float) -> float:
    """How long it takes until the condition holds; fails if it does not in time."""
    start = time.monotonic()
    assert wait_for(condition, timeout_s), "it did not happen in time"
    return time.monotonic() - start
