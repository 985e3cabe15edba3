"""Tables that read well as plain text in a terminal and as HTML in a notebook; those of statuses and events among them.

No decision is made here. The objects hold what they were given, and show it.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from zmqlab.wire import control

STATUS_HEAD = ("node", "state", "role", "term", "leader", "commit", "applied", "lag", "hash at", "chain hash")
EVENT_HEAD = ("time", "node", "what", "term", "")


def text_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns padded to their widest cell; numbers to the right."""
    cells = [tuple(str(cell) for cell in row) for row in rows]
    widths = [max(len(line[column]) for line in (tuple(head), *cells)) for column in range(len(head))]
    numeric = [bool(cells) and all(_is_number(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), *(line(row) for row in cells)])


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The table as HTML, every cell escaped."""
    head_html = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    rows_html = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head_html}</tr></thead><tbody>{rows_html}</tbody></table>"


def clock(time_ns: int) -> str:
    """The local time of day with milliseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest_ns // 1_000_000:03d}"


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit() or cell in ("", "-")


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as its cluster sees it."""

    name: str
    endpoint: str
    """Where clients reach it."""
    state: str
    """``running``, ``paused``, ``stopped``, or ``silent``: it did not answer in time, and the reason is not known."""
    status: control.NodeStatus | None = None
    """What the node says of itself; None unless it runs and answered."""

    def row(self, names: Mapping[int, str]) -> tuple[object, ...]:
        """Cells of a table; ``names`` tells nodes' names by their ids."""
        status = self.status
        if status is None:
            return (self.name, self.state, *("-",) * (len(STATUS_HEAD) - 2))
        unknown = f"id {status.leader_id:x}" if status.leader_id else "-"
        leader = status.leader_name or names.get(status.leader_id, unknown)
        hash_text = status.chain_hash[:12] or "-"
        indexes = (status.commit_index, status.applied_index, status.lag, status.hash_index)
        return (self.name, self.state, status.role, status.term, leader, *indexes, hash_text)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the identity, the state, and all that the node said."""
        said = msgspec.to_builtins(self.status) if self.status is not None else None
        return {"name": self.name, "endpoint": self.endpoint, "state": self.state, "status": said}


@dataclass(frozen=True, slots=True)
class StatusTable(Sequence[NodeState]):
    """All nodes at one moment; a sequence of :class:`NodeState` that shows itself as a table."""

    nodes: tuple[NodeState, ...] = field(default_factory=tuple)

    @classmethod
    def of_answers(cls, endpoints: Iterable[str], answers: Mapping[str, control.NodeStatus]) -> StatusTable:
        """A row for each endpoint. A node that gave no answer is ``silent``, and its endpoint stands for its name."""
        return cls(
            tuple(
                NodeState(answers[each].name, each, "running", answers[each])
                if each in answers
                else NodeState(each, each, "silent")
                for each in endpoints
            )
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, key: Any) -> Any:
        return next(node for node in self.nodes if node.name == key) if isinstance(key, str) else self.nodes[key]

    def __iter__(self) -> Iterator[NodeState]:
        return iter(self.nodes)

    @property
    def exchange(self) -> str:
        """What matches orders, ``compiled`` or ``python``; where nodes differ, with their names. Empty: not known."""
        by_kind: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.status is not None and node.status.exchange:
                by_kind.setdefault(node.status.exchange, []).append(node.name)
        if len(by_kind) < 2:
            return "".join(by_kind)
        return "; ".join(f"{kind} on {', '.join(names)}" for kind, names in sorted(by_kind.items()))

    def _rows(self) -> list[tuple[object, ...]]:
        names = {node.status.node_id: node.name for node in self.nodes if node.status}
        return [node.row(names) for node in self.nodes]

    def __repr__(self) -> str:
        return text_table(STATUS_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return html_table(STATUS_HEAD, self._rows())


class EventTable(list[control.Event]):
    """Events, oldest first, that show themselves as a table."""

    def __repr__(self) -> str:
        return text_table(EVENT_HEAD, map(_event_row, self)) if self else "no events yet"

    def _repr_html_(self) -> str:
        return html_table(EVENT_HEAD, map(_event_row, self))


def _event_row(event: control.Event) -> tuple[object, ...]:
    return (clock(event.time_ns), event.node, event.kind, event.term or "", event.text)
