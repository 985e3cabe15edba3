"""A request on its way, one that was answered, and what is counted beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from zmqlab.wire.client import Response

if TYPE_CHECKING:
    from zmqlab.load.connection import Connection


class Completion(NamedTuple):
    """One request that was answered."""

    request_number: int
    token: Any
    """What the caller gave to :meth:`Requester.submit`."""
    response: Response
    node: int
    """Index of the node whose answer was taken."""
    attempts: int
    first_sent_ns: int
    """When it was first handed to a socket, on the monotonic clock."""
    completed_ns: int


@dataclass(slots=True)
class OpenRequest:
    """A request that was submitted and not answered."""

    number: int
    commands: bytes
    frame: bytes
    """As sent last; sent again as it is, but for WINDOW_FULL."""
    token: Any
    node: Connection | None = None
    """Where it is outstanding; None while it waits to be sent."""
    attempts: int = 0
    first_sent_ns: int = 0
    sent_ns: int = 0
    """When it was sent last; not before ``first_sent_ns``."""


@dataclass(slots=True)
class RequesterCounters:
    """What happened so far, beside the answers themselves."""

    retries: int = 0
    """Requests sent again, for whatever reason."""
    timeouts: int = 0
    overtaken: int = 0
    failovers: int = 0
    """Lost connections and suspicions that made requests move to another node."""
    busy: int = 0
    window_full: int = 0
    duplicates: int = 0
    """Answers to requests that were answered before, or are not ours."""
    bad_frames: int = 0
