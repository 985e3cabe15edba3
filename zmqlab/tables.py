"""Tables that read well as plain text in a terminal and as HTML in a notebook; those of statuses and events among them.

No decision is made here. The objects hold what they were given, and show it.
"""

from __future__ import annotations

import html
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from zmqlab.wire import control
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wording import agreeing, counted, numbered

STATUS_HEAD = ("node", "state", "role", "term", "leader", "commit", "applied", "lag", "hash at", "chain hash")
HOLDS_HEAD = ("node", "state", "holds", "leads", "knows no leader of", "pid", "memory")
"""Of nodes with several Raft groups: figures of one group would mean little."""
GROUP_HEAD = ("group", "leader", "term", "members")
GAPS_HEAD = ("group", "leader", "term", "orders", "longest gap, ms", "at, s")
EVENT_HEAD = ("time", "node", "what", "term", "")
NARROWEST = 8
"""No column of text gives way below it while another column can: the longest word of a role or a state."""


def text_table(head: Sequence[str], rows: Iterable[Sequence[object]], width: int | None = None) -> str:
    """Columns padded to their widest cell; numbers to the right.

    Args:
        head: what stands above each column.
        rows: the cells, as many in each row as in ``head``.
        width: the table shall be no wider, as in a terminal. Headings are broken between words first, then columns move
            closer together, then the widest columns of text are broken between words. A word is broken only if the
            table would be too wide otherwise.
    """
    cells = [tuple(str(cell) for cell in row) for row in rows]
    numeric = [bool(cells) and all(_is_number(row[column]) for row in cells) for column in range(len(head))]
    widths = [max(len(line[column]) for line in (tuple(head), *cells)) for column in range(len(head))]
    gap = "  "
    if width is not None and _width_of(widths, gap) > width:
        widths = [
            max(map(len, (*title.split(), *(row[column] for row in cells))), default=1)
            for column, title in enumerate(head)
        ]
        gap = "  " if _width_of(widths, gap) <= width else " "
        widths = _shrunk(widths, numeric, width - _width_of([0] * len(head), gap))
    lines = (line for row in (tuple(head), *cells) for line in _lines_of(row, widths, numeric, gap))
    return "\n".join(lines)


def _width_of(widths: Sequence[int], gap: str) -> int:
    return sum(widths) + len(gap) * (len(widths) - 1)


def _shrunk(widths: Sequence[int], numeric: Sequence[bool], room: int) -> list[int]:
    """The widest column gives way until all fit into ``room``: one of text, as long as one is wide enough."""
    shrunk = list(widths)
    while sum(shrunk) > room and max(shrunk) > 1:
        texts = [column for column, wide in enumerate(shrunk) if not numeric[column] and wide > NARROWEST]
        widest = max(texts or range(len(shrunk)), key=shrunk.__getitem__)
        shrunk[widest] -= 1
    return shrunk


def _lines_of(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool], gap: str) -> list[str]:
    """One row; more than one line if a cell is wider than its column."""
    cells = [
        [cell] if len(cell) <= wide else textwrap.wrap(cell, wide, break_on_hyphens=False)
        for cell, wide in zip(row, widths, strict=True)
    ]
    lines = []
    for number in range(max(map(len, cells))):
        parts = (cell[number] if number < len(cell) else "" for cell in cells)
        padded = (
            part.rjust(wide) if right else part.ljust(wide)
            for part, wide, right in zip(parts, widths, numeric, strict=True)
        )
        lines.append(gap.join(padded).rstrip())
    return lines


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, aligned: bool = True) -> str:
    """The table as HTML, every cell escaped.

    Args:
        head: what stands above each column; nothing: there is no head.
        rows: the cells, as many in each row.
        aligned: text to the left. JupyterLab has every cell at the right, where a sentence reads badly. False: the
            style of the page decides.
    """
    cells = [tuple(str(cell) for cell in row) for row in rows]
    columns = len(head) or max(map(len, cells), default=0)
    texts = [aligned and not (cells and all(_is_number(row[column]) for row in cells)) for column in range(columns)]
    head_html = "".join(_html_cell("th", cell, left) for cell, left in zip(head, texts, strict=False))
    rows_html = "".join(
        f"<tr>{''.join(_html_cell('td', cell, left) for cell, left in zip(row, texts, strict=True))}</tr>"
        for row in cells
    )
    return f"<table><thead><tr>{head_html}</tr></thead><tbody>{rows_html}</tbody></table>"


def _html_cell(tag: str, text: str, left: bool) -> str:
    style = ' style="text-align:left"' if left else ""
    return f"<{tag}{style}>{html.escape(text)}</{tag}>"


def clock(time_ns: int) -> str:
    """The local time of day with milliseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest_ns // 1_000_000:03d}"


def date_and_time(time_ns: int) -> str:
    """The local date and time of day, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns / 1e9))


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit() or cell in ("", "-")


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as its cluster sees it."""

    name: str
    endpoint: str
    """Where clients reach it."""
    state: str
    """``running``, ``paused``, ``stopped``, ``refused`` if it does not let this process in, or ``silent``: it did not
    answer in time, and the reason is not known."""
    status: NodeStatus | None = None
    """What the node says of itself; None unless it runs and answered."""
    why: str = ""
    """Why it is ``refused``, and what to do."""

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

    def row_of_groups(self) -> tuple[object, ...]:
        """Cells of a table where nodes hold several Raft groups."""
        if self.status is None:
            return (self.name, self.state, *("-",) * (len(HOLDS_HEAD) - 2))
        briefs = self.status.groups
        holds = ", ".join(str(each.number) for each in briefs)
        leads = ", ".join(str(each.number) for each in briefs if each.role == "leader")
        without = ", ".join(str(each.number) for each in briefs if not each.leader_id)
        memory = f"{self.status.rss_bytes >> 20} MiB"
        return (self.name, self.state, holds or "-", leads or "-", without or "-", self.status.pid, memory)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the identity, the state, and all that the node said."""
        said = msgspec.to_builtins(self.status) if self.status is not None else None
        return {"name": self.name, "endpoint": self.endpoint, "state": self.state, "why": self.why, "status": said}


@dataclass(frozen=True, slots=True)
class StatusTable(Sequence[NodeState]):
    """All nodes at one moment; a sequence of :class:`NodeState` that shows itself as a table."""

    nodes: tuple[NodeState, ...] = field(default_factory=tuple)

    @classmethod
    def of_answers(
        cls,
        endpoints: Iterable[str],
        answers: Mapping[str, NodeStatus],
        refusals: Mapping[str, str] = MappingProxyType({}),
    ) -> StatusTable:
        """A row for each endpoint. A node that gave no answer has the name by which another member knows it, or else
        its endpoint; it is ``refused`` if ``refusals`` says why, or else ``silent``."""
        known = [member for status in answers.values() for member in status.members if member.name]
        names = {member.client_endpoint: member.name for member in known}

        def state_of(endpoint: str) -> NodeState:
            if endpoint in answers:
                return NodeState(answers[endpoint].name, endpoint, "running", answers[endpoint])
            why = refusals.get(endpoint, "")
            return NodeState(names.get(endpoint, endpoint), endpoint, "refused" if why else "silent", why=why)

        return cls(tuple(map(state_of, endpoints)))

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, key: Any) -> Any:
        return next(node for node in self.nodes if node.name == key) if isinstance(key, str) else self.nodes[key]

    def __iter__(self) -> Iterator[NodeState]:
        return iter(self.nodes)

    @property
    def replication(self) -> str:
        """How the nodes copy their log, by the word of those that answered; empty if none did."""
        return ", ".join(sorted({node.status.replication for node in self.nodes if node.status is not None} - {""}))

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

    @property
    def shards(self) -> int:
        """How many Raft groups share the symbols, by the word of those that answered."""
        return max((node.status.shards for node in self.nodes if node.status is not None), default=1)

    def leads(self) -> dict[str, int]:
        """Node -> how many groups it leads, by its own word; of those that answered."""
        told = {node.name: node.status for node in self.nodes if node.status is not None}
        return {name: sum(each.role == "leader" for each in status.groups) for name, status in told.items()}

    def group_rows(self) -> list[tuple[object, ...]]:
        """A row for each of several groups: its number, leader, term and members, by the word of the latest term."""
        told = [node.status for node in self.nodes if node.status is not None]
        names = {status.address: status.name for status in told}
        rows: list[tuple[object, ...]] = []
        for number in range(self.shards):
            briefs = [brief for status in told for brief in status.groups if brief.number == number]
            newest = max(briefs, key=lambda each: (each.term, bool(each.leader_endpoint)), default=None)
            if newest is None:
                rows.append((number, "not known", "-", "held by nodes that were not asked, or did not answer"))
                continue
            members = ", ".join(sorted(names.get(each, each) for each in newest.members))
            leader = names.get(newest.leader_endpoint, newest.leader_endpoint) or "-"
            rows.append((number, leader, newest.term, members))
        return rows

    def _tables(self) -> list[tuple[Sequence[str], list[tuple[object, ...]]]]:
        """Head and rows of each table: the nodes, and with several groups the groups."""
        if self.shards == 1:
            return [(STATUS_HEAD, self._rows())]
        return [(HOLDS_HEAD, [node.row_of_groups() for node in self.nodes]), (GROUP_HEAD, self.group_rows())]

    def _rows(self) -> list[tuple[object, ...]]:
        names = {node.status.node_id: node.name for node in self.nodes if node.status}
        return [node.row(names) for node in self.nodes]

    def _reasons(self) -> list[str]:
        """Why nodes are ``refused``, why none leads, and for which nodes groups wait; a sentence each."""
        return [*(node.why for node in self.nodes if node.why), *self._why_not_led(), *self.waits()]

    def _why_not_led(self) -> list[str]:
        """Of one Raft group: a sentence if a majority of its voters is not there to elect a leader; otherwise none, and
        if not all of them were asked."""
        told = [node.status for node in self.nodes if node.status is not None]
        voters = max((sum(member.voter for member in status.members) for status in told), default=0)
        needed = voters // 2 + 1
        were_asked = voters and len(self.nodes) >= voters
        if self.shards > 1 or not were_asked or len(told) >= needed or any(status.leader_id for status in told):
            return []
        missing = needed - len(told)
        answer = f"{counted(len(told), 'node')} {agreeing(len(told), 'answers', 'answer')}"
        more = "another one" if missing == 1 else f"{missing} others"
        return [f"no node leads: {answer}, and a majority of {voters} is {needed}. Start {more}"]

    def waits(self) -> list[str]:
        """For each silent node that groups wait for (:attr:`~zmqlab.wire.node_status.GroupBrief.awaited`) a sentence
        that says what to do."""
        briefs = [brief for node in self.nodes if node.status is not None for brief in node.status.groups]
        waiting: dict[str, set[int]] = {}
        for place, number in ((place, brief.number) for brief in briefs for place in brief.awaited):
            waiting.setdefault(place.removeprefix("tcp://"), set()).add(number)
        return [
            f"no node answers at {place}, which is to hold {numbered('group', sorted(numbers))}: the old members stay"
            f" until then. Start it again, or take it out of the cluster with zmqlab remove {place}"
            for place, numbers in sorted(waiting.items())
        ]

    def text(self, width: int | None = None) -> str:
        """The table, no wider than ``width``; then a sentence for each thing that keeps nodes from working."""
        tables = "\n\n".join(text_table(head, rows, width) for head, rows in self._tables())
        return "\n".join([tables, *self._reasons()])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        reasons = "".join(f"<p>{html.escape(reason)}</p>" for reason in self._reasons())
        return "".join(html_table(head, rows) for head, rows in self._tables()) + reasons


class EventTable(list[control.Event]):
    """Events, oldest first, that show themselves as a table."""

    def __repr__(self) -> str:
        return text_table(EVENT_HEAD, map(_event_row, self)) if self else "no events yet"

    def _repr_html_(self) -> str:
        return html_table(EVENT_HEAD, map(_event_row, self))


def _event_row(event: control.Event) -> tuple[object, ...]:
    return (clock(event.time_ns), event.node, event.kind, event.term or "", event.text)
