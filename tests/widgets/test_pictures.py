"""Pictures: what they draw, what they say without widgets, and that their script is whole."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColumnDataSource, UIElement

from zmqlab.histogram import Histogram
from zmqlab.lab.sweep import Sweep, SweepStep
from zmqlab.load.load_report import LatencySummary
from zmqlab.widgets.pictures import Picture, percentile_curves, sweep_curves


def sources(layout: UIElement) -> list[dict[str, Any]]:
    return [dict(model.data) for model in layout.references() if isinstance(model, ColumnDataSource)]


def test_a_curve_says_each_percentile_and_ends_with_its_values() -> None:
    histogram = Histogram()
    histogram.record_many(range(1_000_000, 101_000_000, 1_000_000))  # 1 ms to 100 ms
    picture = percentile_curves({"hundred": histogram})
    (data,) = sources(picture.layout_model)
    assert round(data["x"][-1], 9) == 2, "100 values have no third nine"
    by_percent = dict(zip((round(percent, 6) for percent in data["percent"]), data["ms"], strict=True))
    assert abs(by_percent[90.0] - 90) < 1
    assert data["ms"] == sorted(data["ms"])
    assert "hundred" in picture._repr_html_()


def test_a_sweep_is_drawn_and_told() -> None:
    times = LatencySummary(1, 2, 3, 4, 5)
    steps = Sweep([SweepStep(rate, rate, rate * 0.9, times, times, 0.0) for rate in (100.0, 1_000.0)])
    picture = sweep_curves(steps)
    assert any(list(data.get("acknowledged", [])) == [90.0, 900.0] for data in sources(picture.layout_model))
    bundle = picture._repr_mimebundle_()
    html = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "1,000" in html["text/html"]
    assert repr(picture) == "Picture()"


def test_the_script_has_what_it_borrows() -> None:
    script = str(Picture._esm)
    for name in ("function loadBokeh(", "const isDark =", "async function render(", "export default"):
        assert script.count(name) == 1, name
