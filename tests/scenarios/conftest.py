"""The virtual time of scenarios."""

from __future__ import annotations

import pytest

from tests.scenarios.virtual_run import Moments
from zmqlab.scenarios import scenario_run


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Moments:
    """The time of runs; it passes when they sleep."""
    moments = Moments()
    monkeypatch.setattr(scenario_run, "time", moments)
    return moments
