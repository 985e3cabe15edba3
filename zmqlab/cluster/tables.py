"""Events as a table that reads well as plain text in a terminal and as HTML in a notebook."""

from __future__ import annotations

import time

from zmqlab.client.tables import html_table, text_table
from zmqlab.wire import control

EVENT_HEAD = ("time", "node", "what", "term", "")


def clock(time_ns: int) -> str:
    """The local time of day with milliseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest_ns // 1_000_000:03d}"


class EventTable(list[control.Event]):
    """Events, oldest first, that show themselves as a table."""

    def __repr__(self) -> str:
        return text_table(EVENT_HEAD, map(_event_row, self)) if self else "no events yet"

    def _repr_html_(self) -> str:
        return html_table(EVENT_HEAD, map(_event_row, self))


def _event_row(event: control.Event) -> tuple[object, ...]:
    return (clock(event.time_ns), event.node, event.kind, event.term or "", event.text)
