"""Lamport diagrams of real frames: the life of one order, and an election, from what the processes told.

``Diagram.of_request(cluster)`` draws the slowest traced order, ``Diagram.of_election(cluster)`` the last election. A
diagram shows itself in a notebook, prints as a list, and is written to a page of its own with :meth:`Diagram.save`.

What it is made of: a :class:`~zmqlab.lab.traced_parts.Part`, which holds the messages with both of their ends and the
steps of the nodes, and what the lab did meanwhile (a node was killed, a link was cut). Times count from the first thing
that is shown. The story at the right is derived from the same records.

It shows what is known. A message whose arrival was not seen ends in a cross only if its receiver was heard the whole
time, or had been killed; otherwise in a question mark. A line is thick for the node that led the order's log, or from
when on a node leads that is elected here; who led before an election is not known from these records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from zmqlab.lab.events import LabEvent
from zmqlab.lab.message_matching import Fate, Message, Process, Step
from zmqlab.lab.sampled_traces import Traces
from zmqlab.lab.traced_parts import Part
from zmqlab.runs.lamport_drawing import STYLE, US_PER_MS, Arrow, Drawing, Life, Mark, Scale, svg
from zmqlab.runs.page_shell import in_notebook, page, write_page
from zmqlab.runs.run_charts import WIDTHS_PX
from zmqlab.tables import clock, text_table

HEIGHT_PX = 560
"""What all moments together should take, if they were spread evenly."""
STEP_PX, PAUSE_PX = 15.0, 80.0
BEFORE_NS = 1_000_000_000
"""What the lab did so long before an election is shown with it: a leader is missed within 0.2 s of its end."""
SOLE_CLIENT = ""
NO_BREAK = "\N{NO-BREAK SPACE}"
NS_PER_US = 1_000
_WORDS = {"follower": "follows", "pre_candidate": "misses its leader", "candidate": "campaigns", "leader": "leads"}
_ENDS = (LabEvent.KILLED, LabEvent.DIED, LabEvent.TERMINATED)
_DONE_TO_NODES = (*_ENDS, LabEvent.PAUSED, LabEvent.RESUMED, LabEvent.STARTED, LabEvent.RESTARTED)
_KEYS = {
    "order": (("the order", "c1"), ("log", "c0"), ("acknowledgements", "c6")),
    "election": (("votes", "c2"), ("log", "c0"), ("acknowledgements", "c6")),
}


class Happening(Protocol):
    """Something that the lab knows of: an event, or a row of a kept run."""

    @property
    def time_ns(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...


class Traced(Protocol):
    """A cluster, as far as a diagram needs one."""

    @property
    def traces(self) -> Traces: ...
    @property
    def events(self) -> Sequence[Happening]: ...


class Diagram:
    """One order, or one election; see the module."""

    def __init__(self, part: Part, events: Sequence[Happening] = ()) -> None:
        """``events``: what the lab knows; those that belong here are shown."""
        self.part = part
        self._is_order = bool(part.key[0])
        self._events = [each for each in events if self._belongs(each)]
        first_ns = min([0, *(each.time_ns - part.start_wall_ns for each in self._events)])
        self._start_ns = part.start_ns + first_ns

    @classmethod
    def of_request(cls, source: Traced | Traces, client: int = 0, number: int = 0) -> Diagram:
        """The life of a request; without its numbers of the slowest one that is known.

        Args:
            source: a cluster that was traced (``cluster.trace()``), or its traces.
            client: the session that sent it.
            number: the number of the request in that session.

        Raises:
            ClusterError: nothing is known of it.
        """
        traces, events = _taken_apart(source)
        return cls(traces.request(client, number), events)

    @classmethod
    def of_election(cls, source: Traced | Traces, term: int = 0) -> Diagram:
        """The election of the leader of ``term``; without one, of the last leader.

        Raises:
            ClusterError: nothing is known of it.
        """
        traces, events = _taken_apart(source)
        return cls(traces.election(term), events)

    @property
    def title(self) -> str:
        """What it shows, in a few words."""
        return self.part.title

    def figure(self) -> str:
        """The picture with its heading, as a part of a page that has the style of reports."""
        keys = "".join(f'<i class="{style}">{name}</i>' for name, style in _KEYS[self._kind])
        drawing = self._drawing()
        pictures = "".join(f'<div class="w{width} scroll">{svg(drawing, width)}</div>' for width in WIDTHS_PX)
        return (
            f"<style>{STYLE}</style><figure><figcaption><b>{escape(self.title)}</b>{keys}</figcaption>"
            f'<p class="faint">{self._said()}</p>{pictures}</figure>'
        )

    def save(self, out: str | Path) -> Path:
        """Write a page of its own, which opens offline. Raises SettingsError."""
        return write_page(out, diagrams_page([self]))

    def _repr_html_(self) -> str:
        return in_notebook(self.figure())

    def __repr__(self) -> str:
        rows = [(f"{at_us:,.0f}", said) for at_us, said in sorted(self._lines())]
        return f"{self.title}\n" + text_table(("us", "what"), rows)

    # -- what is shown -----------------------------------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return "order" if self._is_order else "election"

    def _said(self) -> str:
        marks = "A filled square is a write to the journal, a diamond a commit, a ring an entry that is applied."
        when = f"At {clock(self.part.start_wall_ns)}, from traces of real frames. Time runs down and is not to scale."
        order = self.part.order
        if order is not None and not order.by_client:
            marks += " Its client was not traced: the times are those of the node that took it."
        return f"{when} {marks}"

    def _belongs(self, event: Happening) -> bool:
        """Whether something that the lab did is a part of an election's story."""
        if self._is_order or not event.node or event.kind not in _DONE_TO_NODES:
            return False
        since_ns = event.time_ns - self.part.start_wall_ns
        last_ns = max((each.time_ns for each in self.part.steps), default=self.part.start_ns)
        return -BEFORE_NS <= since_ns <= last_ns - self.part.start_ns

    def _us(self, time_ns: int) -> float:
        return (time_ns - self._start_ns) / NS_PER_US

    def _sent_us(self, message: Message) -> float:
        """When it was sent; if that was not seen, when it arrived."""
        seen_ns = message.received_ns if message.sent_ns is None else message.sent_ns
        return self._us(seen_ns or 0)

    def _event_us(self, event: Happening) -> float:
        return self._us(self.part.start_ns + event.time_ns - self.part.start_wall_ns)

    def _columns(self) -> dict[Process, int]:
        """Process -> its number: clients first, then nodes by their names."""
        seen: set[Process] = {step.node for step in self.part.steps}
        for message in self.part.messages:
            seen |= {_place(message.sender), _place(message.to)}
        concerned = {each.node for each in self._events}
        seen |= {process for process, name in self.part.names if name in concerned and isinstance(process, int)}
        ordered = sorted(seen, key=lambda each: (isinstance(each, int), self._name_of(each)))
        return {process: number for number, process in enumerate(ordered)}

    def _name_of(self, process: Process) -> str:
        return self.part.name_of(process) if isinstance(process, int) else "client"

    def _drawing(self) -> Drawing:
        column_of = self._columns()
        between = [each for each in self.part.messages if _place(each.sender) != _place(each.to)]
        arrows = [self._arrow(each, column_of) for each in between]
        marks = [mark for step in self.part.steps for mark in self._marks(step, column_of)]
        by_name = {name: process for process, name in self.part.names}
        for event in self._events:
            if by_name.get(event.node) in column_of:
                process = column_of[by_name[event.node]]
                style = "wrong" if event.kind in (*_ENDS, LabEvent.PAUSED) else "c0"
                marks.append(Mark(process, self._event_us(event), "event", event.kind.replace("_", " "), style))
        story = sorted(self._story())
        moments = [mark.at_us for mark in marks] + [at_us for at_us, _ in story] + [each.sent_us for each in arrows]
        moments += [each.arrives_us for each in arrows if each.arrives_us is not None]
        start_us, end_us = min(moments, default=0.0), max(moments, default=1.0)
        px_a_ms = HEIGHT_PX / max((end_us - start_us) / US_PER_MS, 0.001)
        lives = [
            Life(number, self._name_of(process), self._states(process, start_us, end_us))
            for process, number in column_of.items()
        ]
        scale = Scale(STEP_PX, PAUSE_PX, px_a_ms)
        return Drawing(start_us, end_us, lives, scale, arrows, marks, story)

    def _states(self, process: Process, start_us: float, end_us: float) -> list[tuple[float, str]]:
        """Who leads, by these records, and who is down, by what the lab did."""
        name, steps = self._name_of(process), self.part.steps
        leads = [(self._us(each.time_ns), "leads") for each in steps if (each.node, each.kind) == (process, "leader")]
        if self._is_order and any(
            each.kind == "append_entries" and each.sender == process for each in self.part.messages
        ):
            leads.append((start_us, "leads"))
        mine = [each for each in self._events if each.node == name]
        lives = [(self._event_us(each), "down" if each.kind in _ENDS else "") for each in mine]
        return [(start_us, ""), *(each for each in sorted([*leads, *lives]) if each[0] <= end_us)]

    def _is_down(self, process: Process, at_us: float) -> bool:
        name, state = self._name_of(process), False
        for event in self._events:
            if event.node == name and self._event_us(event) <= at_us:
                state = event.kind in _ENDS
        return state

    def _arrow(self, each: Message, column_of: dict[Process, int]) -> Arrow:
        sent_us = self._sent_us(each)
        arrives_us = self._us(each.received_ns) if each.received_ns is not None else None
        is_lost = each.fate is Fate.MISSING or self._is_down(each.to, sent_us)
        places = column_of[_place(each.sender)], column_of[_place(each.to)]
        refusal = "not now" if each.kind == "responses" else "no"
        word = "" if each.record.accepted else refusal
        return Arrow(*places, each.kind, sent_us, arrives_us, self._of_message(each, is_lost), is_lost, word)

    def _of_message(self, each: Message, is_lost: bool) -> str:
        """A message in words."""
        said = f"{each.kind.replace('_', ' ')} from {self._name_of(each.sender)} to {self._name_of(each.to)}"
        record = each.record
        if record.term:
            said += f", term {record.term}"
        if record.first_index:
            said += f", entries {record.first_index:,} to {record.last_index:,}"
        if each.sent_ns is None:
            return f"{said}: its arrival was seen, its sending was not"
        said += f", sent at {self._us(each.sent_ns):,.0f} us"
        if each.received_ns is not None:
            return f"{said}, {(each.received_ns - each.sent_ns) / NS_PER_US:,.0f} us under way"
        return f"{said}, has not arrived" if is_lost else f"{said}; whether it arrived is not known"

    def _marks(self, step: Step, column_of: dict[Process, int]) -> Iterator[Mark]:
        at_us, record, column = self._us(step.time_ns), step.record, column_of[step.node]
        entries = f"entries {record.first_index:,} to {record.last_index:,}"
        if record.first_index == record.last_index:
            entries = f"entry {record.last_index:,}"
        if step.kind == "stored" and not record.first_index:
            voted = f", vote for {self._name_of(record.peer)}" if record.peer else ""
            yield Mark(column, at_us, "stored", f"stores term {record.term}{voted}")
        elif step.kind in ("stored", "committed", "applied"):
            verb = {"stored": "stores", "committed": "may apply", "applied": "has applied"}[step.kind]
            yield Mark(column, at_us, step.kind, f"{verb} {entries}")
        elif step.kind == "leader":
            yield Mark(column, at_us, "leads", f"leads term {record.term}", "c2")

    def _lines(self) -> Iterator[tuple[float, str]]:
        """All that is known, for a terminal."""
        for each in self.part.messages:
            yield self._sent_us(each), self._of_message(each, each.fate is Fate.MISSING)
        for step in self.part.steps:
            said = next((mark.said for mark in self._marks(step, {step.node: 0})), _WORDS.get(step.kind, step.kind))
            yield self._us(step.time_ns), f"{self._name_of(step.node)} {said}"
        for event in self._events:
            yield self._event_us(event), event.text or f"{event.node} {event.kind}"

    # -- the story ---------------------------------------------------------------------------------------------

    def _story(self) -> Iterator[tuple[float, str]]:
        yield from self._story_of_order() if self._is_order else self._story_of_election()

    def _story_of_order(self) -> Iterator[tuple[float, str]]:
        messages, order = self.part.messages, self.part.order
        for each in messages:
            to, sender = self._name_of(each.to), self._name_of(each.sender)
            if each.kind == "request" and each.sent_ns is not None:
                again = order is not None and each.sent_ns > order.sent_ns
                yield self._us(each.sent_ns), f"The client sends it {'again, ' if again else ''}to {to}."
            elif each.kind == "request" and each.received_ns is not None:
                yield self._us(each.received_ns), f"{to} takes it."
            elif each.kind == "forward" and each.sent_ns is not None:
                yield self._us(each.sent_ns), f"{sender} passes it on to the leader, {to}."
            elif each.kind == "responses" and each.sent_ns is not None:
                done = "answers" if each.record.accepted else "says: not now"
                yield self._us(each.sent_ns), f"{sender} {done}."
        for step in self.part.steps:
            name, at_us = self._name_of(step.node), self._us(step.time_ns)
            if step.kind == "stored" and step.record.first_index:
                yield at_us, f"{name} has it in its journal."
            elif step.kind == "committed":
                yield at_us, f"{name} knows that enough nodes have it."
        if order is not None and order.by_client:
            end_us = self._us(order.sent_ns + order.took_ns)
            yield end_us, f"The client has its answer: {order.took_ns / 1e6:,.2f}{NO_BREAK}ms."

    def _story_of_election(self) -> Iterator[tuple[float, str]]:
        for event in self._events:
            yield self._event_us(event), event.text or f"{event.node} {event.kind}"
        leads_us = None
        for step in self.part.steps:
            name, at_us, term = self._name_of(step.node), self._us(step.time_ns), step.record.term
            if step.kind == "pre_candidate":
                yield at_us, f"{name} misses its leader, and asks whether it would be elected."
            elif step.kind == "candidate":
                yield at_us, f"{name} campaigns in term {term}."
            elif step.kind == "leader":
                leads_us = at_us
                yield at_us, f"{name} leads term {term}: a majority has voted for it."
            elif step.kind == "committed" and leads_us is not None and step.record.term == self.part.key[1]:
                yield at_us, f"{name} knows that enough nodes have the first entry of the term."
        for each in self.part.messages:
            if each.kind in ("request_vote_response", "pre_vote_response") and each.sent_ns is not None:
                what = "vote" if each.kind == "request_vote_response" else "pre-vote"
                gives = f"gives {self._name_of(each.to)} its {what}" if each.record.accepted else f"refuses its {what}"
                yield self._us(each.sent_ns), f"{self._name_of(each.sender)} {gives}."


def _place(process: Process) -> Process:
    """The column of a process: there is one for the client, by whatever name."""
    return process if isinstance(process, int) else SOLE_CLIENT


def _taken_apart(source: Traced | Traces) -> tuple[Traces, Sequence[Happening]]:
    return (source, ()) if isinstance(source, Traces) else (source.traces, source.events)


def diagrams_page(diagrams: Sequence[Diagram], title: str = "") -> str:
    """A page with these diagrams, one below the other, which opens offline."""
    title = title or diagrams[0].title
    head = f'<div class="head"><h1>{escape(title)}</h1></div>' if len(diagrams) > 1 else ""
    return page(title, head + "".join(each.figure() for each in diagrams))
