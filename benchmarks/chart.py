"""A chart of what ``compare.py --json FILE`` measured: bars of p50, p99 and saturation for each target.

    python benchmarks/compare.py --rate 5000,30000 --json FILE
    python benchmarks/chart.py FILE docs/images/compare.svg

It is an SVG without a script or a font of its own, which follows the light or dark theme of the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tables import short

WIDTH, LABEL, VALUE = 760, 150, 90
"""Pixels: of all, of the names on the left, of the figures behind the bars."""
BAR, GAP, HEADING = 16, 8, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .head { font-weight: 600 } .value { fill: #57606a }
rect { fill: #3574b5 } rect.other { fill: #a8b3bf }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .value { fill: #9198a1 } rect { fill: #6ea8dc }
rect.other { fill: #6e7681 } }
"""
Bars = list[tuple[str, float, bool]]
"""(name, figure, whether it is of the other checkout)."""


def panels(measured: dict[str, Any]) -> Iterator[tuple[str, Bars]]:
    """Heading and bars of each panel."""
    for at, rate in enumerate(measured["rates"]):
        for figure in ("p50", "p99"):
            yield f"{figure} at {rate:,.0f} orders/s, ms", bars(measured, at, f"{figure}_ms")
    yield "saturation, orders/s", bars(measured, None, "throughput")


def bars(measured: dict[str, Any], at: int | None, figure: str) -> Bars:
    """The medians over the rounds."""
    found = []
    for candidate in measured["candidates"]:
        loads = [each["flooded"] if at is None else each["paced"][at] for each in candidate["rounds"]]
        value = statistics.median(load[figure] for load in loads)
        found.append((candidate["name"], value, candidate["tree"] == "other"))
    return found


def panel(heading: str, shown: Bars, top: int) -> list[str]:
    """The elements of one panel that begins at ``top``."""
    scale = (WIDTH - LABEL - VALUE) / (max(value for _, value, _ in shown) or 1)
    parts = [f'<text class="head" x="0" y="{top + 18}">{escape(heading)}</text>']
    for number, (name, value, other) in enumerate(shown):
        y = top + HEADING + number * (BAR + GAP)
        kind = ' class="other"' if other else ""
        length = max(value * scale, 1)
        parts.append(f'<text x="0" y="{y + 13}">{escape(name)}</text>')
        parts.append(f'<rect{kind} x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<text class="value" x="{LABEL + length + 8:.1f}" y="{y + 13}">{short(value)}</text>')
    return parts


def svg(shown: Sequence[tuple[str, Bars]]) -> str:
    """All panels, one below the other."""
    top, parts = 0, []
    for heading, each in shown:
        parts += panel(heading, each, top)
        top += HEADING + len(each) * (BAR + GAP) + GAP
    said = escape(
        "; ".join(f"{heading}: " + ", ".join(f"{n} {short(v)}" for n, v, _ in each) for heading, each in shown)
    )
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<title>{said}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.write_text(svg(list(panels(json.loads(arguments.file.read_text())))))


if __name__ == "__main__":
    main()
