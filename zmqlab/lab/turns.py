"""Who is at work on which node: check and act are one step.

A verb first looks (does the node run? is it paused?) and then acts. Between the two no other thread may change the
node: two restarts at once would start two processes, and know of one. So each verb *takes* its node, and verbs of other
threads wait in :meth:`Turns.take`. Then they find the node as the first verb left it.

Rules:

- A verb may be made of others: a thread that has a node may take it again.
- The group of all members has a turn of its own, under the name :data:`MEMBERS`: one node comes or goes at a time. A
  verb that needs both takes the members first, and so no two threads wait for each other.
- Waiting has a bound. The error names the verb that is under way.
- :meth:`Turns.close` refuses all verbs from then on, also those that wait: their cluster has been stopped.

Left out on purpose: the links. Their table (:mod:`zmqlab.lab.fault_table`) has a lock of its own, and changing a link
twice does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zmqlab.errors import ClusterError

MEMBERS = "the members"
"""The turn of all that changes which nodes there are."""
TIMEOUT_S = 30.0
"""As long as one change of the members may take; a restart gives up after half of it."""
STOPPED = "this cluster has been stopped: make another Cluster"


@dataclass(slots=True)
class _Turn:
    """One thread has a node for itself."""

    thread: int
    verb: str
    depth: int = 1
    """How often the thread has taken it; at least 1."""


class Turns:
    """The turns of one cluster.

    Args:
        timeout_s: how long a verb waits for another one on the same node.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._turns: dict[str, _Turn] = {}
        """By the name of the node, or :data:`MEMBERS`."""
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def take(self, name: str, verb: str) -> Iterator[None]:
        """Have ``name`` for this thread alone while ``verb`` is done.

        Raises:
            ClusterError: the cluster has been stopped, or another verb has not ended in time.
        """
        self._begin(name, verb)
        try:
            yield
        finally:
            self._end(name)

    def require_open(self) -> None:
        """Raise ClusterError if the cluster has been stopped."""
        if self._closed:
            raise ClusterError(STOPPED)

    def close(self) -> None:
        """Refuse all verbs from now on, and wake those that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self, name: str, verb: str) -> None:
        thread = threading.get_ident()
        with self._changed:
            turn = self._turns.get(name)
            if turn is not None and turn.thread == thread:
                turn.depth += 1
                return
            self._changed.wait_for(lambda: self._closed or name not in self._turns, self._timeout_s)
            self.require_open()
            if name in self._turns:
                raise ClusterError(
                    f"{verb} {name}: {self._turns[name].verb} is under way there, and has not ended within"
                    f" {self._timeout_s:g} s; try again when it has"
                )
            self._turns[name] = _Turn(thread, verb)

    def _end(self, name: str) -> None:
        with self._changed:
            turn = self._turns[name]
            turn.depth -= 1
            if not turn.depth:
                del self._turns[name]
                self._changed.notify_all()
