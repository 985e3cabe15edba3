"""Looking into a running cluster: the fields of a frame, and the log as the nodes hold it.

For notebooks and for curiosity; nothing depends on it. Tables show what the wire layer has decoded.
"""

from __future__ import annotations

from typing import NamedTuple

from zmqlab.cluster import queries
from zmqlab.raft.configuration import Configuration
from zmqlab.raft.messages import EntryKind
from zmqlab.tables import html_table, text_table
from zmqlab.wire import control
from zmqlab.wire.client import parse_request
from zmqlab.wire.fields import Field, fields_of
from zmqlab.wire.frames import REQUEST, parse_header

FIELD_HEAD = ("offset", "part", "field", "bytes", "value")
LOG_HEAD = ("index", "term", "what", "bytes")


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


def log_of(endpoint: str, from_index: int = 1, timeout_s: float = 2.0) -> LogTable:
    """Committed entries of the node that listens for clients at ``endpoint``; at most half a megabyte of them.

    Raises:
        RequestTimeout: the node did not answer.
    """
    query = control.LogQuery(queries.new_nonce(), from_index)
    answer = queries.ask(endpoint, query, control.LogAnswer, timeout_s)
    return LogTable(LogLine(index, term, _described(kind, data), data) for index, term, kind, data in answer.entries)


def _described(kind: int, data: bytes) -> str:
    if kind == EntryKind.NO_OP:
        return "no-op: a leader begins its term"
    if kind == EntryKind.CONFIGURATION:
        members = Configuration.decode(data)
        return f"configuration: {len(members.voters)} voters, {len(members.learners)} learners"
    if parse_header(data)[0] != REQUEST:
        return "a session is opened"
    request = parse_request(data)
    commands = f"{request.command_count} command{'s' if request.command_count > 1 else ''}"
    return f"request {request.request_number} of session {request.client_id}: {commands}"
