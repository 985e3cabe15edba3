"""Pictures: what they draw, what they say without widgets, and that their script is whole."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import anywidget
from bokeh.models import ColumnDataSource, UIElement

from zmqlab import widgets
from zmqlab.histogram import Histogram
from zmqlab.lab.sweep import Sweep, SweepStep
from zmqlab.load.load_report import LatencySummary
from zmqlab.widgets.live_figure import HERE
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


def scripts_of(kind: type[anywidget.AnyWidget]) -> Iterator[tuple[str, str]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("zmqlab.") and isinstance(each._esm, str):  # not so of an instance's own class
            yield each.__name__, each._esm
        yield from scripts_of(each)


def test_each_script_has_the_constants_and_functions_that_it_takes_from_other_files() -> None:
    """A picture in a notebook was drawn, and then its script ended with "LANE is not defined"."""
    for module in pkgutil.iter_modules(widgets.__path__, "zmqlab.widgets."):
        importlib.import_module(module.name)
    top = re.compile(r"^(?:async )?(?:const|let|function) (\w+)", re.MULTILINE)
    shared = {name for path in HERE.glob("*.js") for name in top.findall(path.read_text())} - {"render"}
    scripts = dict(scripts_of(anywidget.AnyWidget))
    assert {"Picture", "LiveFigure", "Stage", "ClusterPicture"} <= scripts.keys()
    for widget, script in scripts.items():
        code = re.sub("//.*", "", script)
        own = set(re.findall(r"\b(?:const|let|function) (\w+)", code)) | set(re.findall(r"[{,]\s*(\w+)\s*[,}=]", code))
        used = set(re.findall(r"(?<![.\w])([A-Z][A-Z_]+|\w+(?=\())", code))
        assert used & shared <= own, widget


def test_the_script_has_what_it_borrows() -> None:
    script = str(Picture._esm)
    for name in ("function loadBokeh(", "const isDark =", "async function render(", "export default"):
        assert script.count(name) == 1, name
