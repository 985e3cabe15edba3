"""Waiting for what happens in other threads, processes and pages."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_until(condition: Callable[[], object], timeout_s: float = 5.0) -> float:
    """How long it takes until the condition holds; fails if it does not in time."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - start
