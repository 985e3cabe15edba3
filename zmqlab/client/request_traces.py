"""The client's side of a trace: when sampled requests were sent, and when their answers came.

A :class:`RequestTraces` is told by the sessions of one process (:class:`~zmqlab.client.session.Watch`), and keeps what
belongs to the share that is traced (:mod:`zmqlab.wire.traces`). Each copy of a request is a record of its own, and so
is each answer, also one that comes twice: a retry is a part of the story. The owner publishes :meth:`frame`.

Not traced: the opening of a session, and questions.
"""

from __future__ import annotations

from zmqlab.client.retries import OpenRequest
from zmqlab.client.roster import Contact
from zmqlab.wire.client import Response, ResponseStatus
from zmqlab.wire.traces import (
    Direction,
    Trace,
    TraceBuffer,
    TraceKind,
    TraceQuery,
    TraceRecord,
    is_sampled,
)

_OK = int(ResponseStatus.OK)


class RequestTraces:
    """See the module. The thread of the sessions tells it; another one may take what there is."""

    def __init__(self, name: str, now_ns: int) -> None:
        """``name``: of the client. Nothing is kept before the first :meth:`want`."""
        self.group = 0
        """The Raft group whose sessions shall tell."""
        self._name = name
        self._buffer = TraceBuffer(now_ns)

    def want(self, query: TraceQuery, now_ns: int) -> None:
        """A lease begins or goes on. Raises SettingsError if the query makes no sense.

        What was kept of another group goes, with its leases.
        """
        if query.seconds and query.group != self.group:
            self.group, self._buffer = query.group, TraceBuffer(now_ns)
        self._buffer.want(query, now_ns)

    def is_on(self, now_ns: int) -> bool:
        """Whether a lease goes on."""
        return self._buffer.is_on(now_ns)

    def take(self, now_ns: int, time_ns: int) -> Trace:
        """What is to be published now; ``time_ns`` is the wall clock."""
        return self._buffer.take(self._name, 0, now_ns, time_ns)

    def sent(self, client_id: int, request: OpenRequest, node: Contact, now_ns: int) -> None:
        """See :class:`~zmqlab.client.session.Watch`."""
        if is_sampled(client_id, request.number, self._buffer.threshold):
            self._buffer.add(request_record(client_id, request, node, now_ns))

    def heard(self, response: Response, node: Contact, now_ns: int) -> None:
        """See :class:`~zmqlab.client.session.Watch`."""
        if is_sampled(response.client_id, response.request_number, self._buffer.threshold):
            self._buffer.add(response_record(response, node, now_ns))


def request_record(client_id: int, request: OpenRequest, node: Contact, now_ns: int) -> TraceRecord:
    """A copy of a request leaves for ``node``."""
    return TraceRecord(
        now_ns,
        TraceKind.REQUEST,
        Direction.OUT,
        node.node_id,
        client=client_id,
        number=request.number,
        size=len(request.frame),
    )


def response_record(response: Response, node: Contact, now_ns: int) -> TraceRecord:
    """An answer has come from ``node``."""
    return TraceRecord(
        now_ns,
        TraceKind.RESPONSES,
        Direction.IN,
        node.node_id,
        last_index=response.log_index,
        client=response.client_id,
        number=response.request_number,
        accepted=response.status == _OK,
    )
