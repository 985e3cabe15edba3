"""What the chapters in ``notebooks/`` need beside the lab itself: figures for quick runs, an end, and a look inside.

A chapter runs in about a minute. Continuous integration runs it with smaller figures, so that all chapters together
take a few minutes. What a chapter claims and checks stays the same. The smaller figures stand in the metadata of the
cells, where no reader meets them (``tests/notebooks/quick_copies.py``). What is not in a cell, such as a grader, reads
``ZMQLAB_QUICK=1``.

:func:`anatomy` shows the fields of a frame, :func:`log_of` the log as a node holds it. Both show what the wire layer
has decoded, and decide nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from zmqlab.client import ask
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import EntryKind
from zmqlab.tables import html_table, text_table
from zmqlab.wire import control
from zmqlab.wire.client import Field, fields_of, parse_request
from zmqlab.wire.frames import REQUEST, parse_header
from zmqlab.wording import counted

if TYPE_CHECKING:
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.load_client import LoadClient

T = TypeVar("T")

QUICK_VARIABLE = "ZMQLAB_QUICK"
FIELD_HEAD = ("offset", "part", "field", "bytes", "value")
LOG_HEAD = ("index", "term", "what", "bytes")


def is_quick() -> bool:
    """Whether ``ZMQLAB_QUICK`` is set, and not to 0."""
    return os.environ.get(QUICK_VARIABLE, "") not in ("", "0")


def pick(full: T, *, quick: T) -> T:
    """``full`` for a person; ``quick`` for a run that only checks that the chapter works."""
    return quick if is_quick() else full


def finish(cluster: Cluster, load: LoadClient | None = None) -> None:
    """End a chapter: load and nodes stop, the charts stay as they are.

    Raises:
        Exception: a thread behind the charts died of it. Without this it would pass unseen.
    """
    from zmqlab.widgets.sampler import problem_of  # a chapter without widgets needs none of them

    problem = problem_of(cluster)
    if load is not None:
        load.close()
    cluster.stop()
    if problem is not None:
        raise problem


class FieldTable(list[Field]):
    """The fields of one frame, shown as a table."""

    def _rows(self) -> list[tuple[object, ...]]:
        return [(each.offset, each.part, each.name, each.data.hex(" "), each.value) for each in self]

    def __repr__(self) -> str:
        return text_table(FIELD_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return html_table(FIELD_HEAD, self._rows())


def anatomy(frame: bytes) -> FieldTable:
    """A client's frame or a node's answer, field by field. Raises FrameError."""
    return FieldTable(fields_of(frame))


class LogLine(NamedTuple):
    """One committed entry of the log."""

    log_index: int
    term: int
    what: str
    data: bytes
    """As it travelled; for a request this is the client's whole frame."""


class LogTable(list[LogLine]):
    """Entries, oldest first, shown as a table."""

    def _rows(self) -> list[tuple[object, ...]]:
        return [(line.log_index, line.term, line.what, len(line.data)) for line in self]

    def __repr__(self) -> str:
        return text_table(LOG_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return html_table(LOG_HEAD, self._rows())


def log_of(endpoint: str, from_index: int = 1, timeout_s: float = 5.0) -> LogTable:
    """Committed entries of the node that listens for clients at ``endpoint``; at most half a megabyte of them.

    Raises:
        RequestTimeout: the node did not answer.
    """
    query = control.LogQuery(ask.new_nonce(), from_index)
    answer = ask.ask_one(endpoint, query, control.LogAnswer, timeout_s)
    return LogTable(LogLine(index, term, _described(kind, data), data) for index, term, kind, data in answer.entries)


def _described(kind: int, data: bytes) -> str:
    if kind == EntryKind.NO_OP:
        return "no-op: a leader begins its term"
    if kind == EntryKind.CONFIGURATION:
        members = Configuration.decode(data)
        return f"configuration: {counted(len(members.voters), 'voter')}, {counted(len(members.learners), 'learner')}"
    if parse_header(data)[0] != REQUEST:
        return "a session is opened"
    request = parse_request(data)
    commands = counted(request.command_count, "command")
    return f"request {request.request_number} of session {request.client_id}: {commands}"
