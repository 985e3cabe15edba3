"""What chapters use: quick figures on demand, and an end at which nothing passes unseen."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from zmqlab.lesson import QUICK_VARIABLE, finish, pick


@pytest.mark.parametrize(("value", "picked"), [(None, "full"), ("", "full"), ("0", "full"), ("1", "quick")])
def test_quick_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch, value: str | None, picked: str) -> None:
    monkeypatch.delenv(QUICK_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(QUICK_VARIABLE, value)
    assert pick("full", quick="quick") == picked


@pytest.mark.parametrize("error", [None, ZeroDivisionError("in a chart")])
def test_a_chapters_end_stops_all_and_tells_what_died(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    pytest.importorskip("bokeh")
    from zmqlab.widgets import sampler

    ended: list[str] = []
    cluster, load = Mock(), Mock()
    cluster.stop.side_effect = lambda: ended.append("cluster")
    load.close.side_effect = lambda: ended.append("load")
    monkeypatch.setattr(sampler, "_samplers", {cluster: SimpleNamespace(error=error, failure=None)})
    if error is None:
        finish(cluster, load)
    else:
        with pytest.raises(ZeroDivisionError, match="in a chart"):
            finish(cluster, load)
    assert ended == ["load", "cluster"]
