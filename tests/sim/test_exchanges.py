"""A seed tells the same story whichever exchange its nodes match orders with."""

from __future__ import annotations

import pytest

from tests.market.exchanges import needs_compiled
from zmqlab.replica import execution
from zmqlab.sim import SimSettings, run

SETTINGS = [None, None, None, SimSettings(focus="snapshots"), SimSettings(focus="sessions")]


@needs_compiled
@pytest.mark.parametrize("seed", range(1, 6))
def test_the_story_is_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for exchange in ("python", "compiled"):
        monkeypatch.setenv(execution.VARIABLE, exchange)
        outcome = run(seed, SETTINGS[seed - 1])
        assert outcome.failure == ""
        told.append((outcome.story, outcome.figures))
    assert told[0] == told[1]
