"""What figures show at one moment, apart from how it gets to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zmqlab.widgets.ring import Column


@dataclass(slots=True)
class Stream:
    """A source that grows by rows: how many there ever were, and how to read the newest."""

    total: int
    names: tuple[str, ...]
    newest: Callable[[int | None], Mapping[str, Column]]
    """The last so many rows, or with None all; by column."""


@dataclass(slots=True)
class Frame:
    """What the figures show at one moment."""

    now_ms: float
    streams: dict[str, Stream] = field(default_factory=dict)
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    properties: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(name of a model, property) -> value."""
