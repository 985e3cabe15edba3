"""Tables in Markdown, as ``docs/performance.md`` has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], text: int = 1) -> str:
    """A table whose first ``text`` columns are text and whose others are figures."""
    aligned = ["---"] * text + ["---:"] * (len(head) - text)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, aligned, *rows))


def short(value: float) -> str:
    """A figure with about three digits: 1,234,000, 123, 12.3, 1.23, 0.123."""
    if value >= 10_000:
        return f"{round(value, -3):,.0f}"
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"
