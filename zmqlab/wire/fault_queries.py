"""What a node is asked to suffer, for labs: bad links, bad connections to its clients, a bad disk, a wrong clock.

There are two queries. :class:`LinkFaultsQuery` is about the links from peers to this node, :class:`NodeFaultsQuery`
about the node itself. Each sets all of its part anew: what it does not name is whole again. So sending it twice does no
harm, and a node that comes back is told again. A node obeys only if it was started with ``--allow-faults``.

Both are low-rate messages like those of :mod:`~zmqlab.wire.control`, which decodes them; they stand apart since they
are for labs only. Sizes are checked by the node that obeys them, with the ``check`` that each fault has.
"""

from __future__ import annotations

import msgspec

from zmqlab.settings import require, require_number

MAX_DELAY_MS = 60_000.0
MAX_WRITE_MS = 10_000.0
"""Of a slow disk: beyond an election time-out (0.2 s) each write costs a leader its office already."""
MAX_BYTES_PER_S = 1e12
CLOCK_RATES = (0.1, 10.0)
"""From and to. At a tenth and at ten times the ticks a heartbeat and an election time-out have changed places."""


class LinkFault(msgspec.Struct, kw_only=True, frozen=True):
    """A fault of one direction of a link: from one peer to the node that gets the query."""

    sender: str = ""
    """The peer's base endpoint. A table that has the peer as its key leaves it empty; a node refuses an empty one."""
    cut: bool = False
    delay_ms: float = 0.0
    loss: float = 0.0
    """The share of frames that are lost, from 0 to 1."""
    bytes_per_s: float = 0.0
    """How much the link carries. What comes faster waits in a queue; what finds the queue full is lost. 0: no bound."""
    duplication: float = 0.0
    """The share of frames that come twice, from 0 to 1."""
    reordering: float = 0.0
    """The share of frames that come out of turn, from 0 to 1: later than they should, by up to ``reordering_ms``."""
    reordering_ms: float = 0.0

    def __str__(self) -> str:
        if self.cut:
            return "cut"
        parts = [f"{self.delay_ms:g} ms late"] if self.delay_ms else []
        parts += [f"{self.loss:.0%} lost"] if self.loss else []
        parts += [f"{self.bytes_per_s / 1_000:g} kB/s"] if self.bytes_per_s else []
        parts += [f"{self.duplication:.0%} twice"] if self.duplication else []
        if self.reordering and self.reordering_ms:
            parts.append(f"{self.reordering:.0%} out of turn by up to {self.reordering_ms:g} ms")
        return ", ".join(parts) or "whole"

    @property
    def is_whole(self) -> bool:
        """Whether it changes nothing."""
        is_shuffled = self.reordering and self.reordering_ms
        return not (self.cut or self.delay_ms or self.loss or self.bytes_per_s or self.duplication or is_shuffled)

    def check(self) -> None:
        """Raise SettingsError unless a link can be so bad."""
        require_number("delay_ms", self.delay_ms, 0, MAX_DELAY_MS)
        require_number("loss", self.loss, 0, 1)
        require_number("bytes_per_s", self.bytes_per_s, 0, MAX_BYTES_PER_S)
        require(not 0 < self.bytes_per_s < 1, f"bytes_per_s is {self.bytes_per_s!r}: 0 means no bound, and 1 is least")
        require_number("duplication", self.duplication, 0, 1)
        require_number("reordering", self.reordering, 0, 1)
        require_number("reordering_ms", self.reordering_ms, 0, MAX_DELAY_MS)


class LinkFaultsQuery(msgspec.Struct, tag_field="op", tag="link_faults"):
    """Set the link faults of a node. Links that are not listed become whole. For nodes with ``--allow-faults``."""

    nonce: int
    links: list[LinkFault] = []


class NodeFaults(msgspec.Struct, kw_only=True, frozen=True):
    """What one node suffers by itself. The defaults are a node that is well."""

    write_ms: float = 0.0
    """Each write of the journal takes at least so long, and the node does nothing else meanwhile."""
    disk_full: bool = False
    """The next write of the journal fails, and the node ends as on a disk without room."""
    clock_rate: float = 1.0
    """So many of the node's ticks pass where one should."""
    request_loss: float = 0.0
    """The share of its clients' requests that do not reach the node, from 0 to 1."""
    request_delay_ms: float = 0.0
    """The others reach it so much later."""
    answer_loss: float = 0.0
    """The share of its answers to requests that do not reach the clients, from 0 to 1."""
    answer_delay_ms: float = 0.0
    """The others leave the node so much later."""

    def __str__(self) -> str:
        parts = [f"each write takes {self.write_ms:g} ms"] if self.write_ms else []
        parts += ["disk full"] if self.disk_full else []
        parts += [f"clock at {self.clock_rate:g} times"] if self.clock_rate != 1 else []
        parts += [f"{self.request_loss:.0%} of requests lost"] if self.request_loss else []
        parts += [f"requests {self.request_delay_ms:g} ms late"] if self.request_delay_ms else []
        parts += [f"{self.answer_loss:.0%} of answers lost"] if self.answer_loss else []
        parts += [f"answers {self.answer_delay_ms:g} ms late"] if self.answer_delay_ms else []
        return ", ".join(parts) or "well"

    @property
    def harms_clients(self) -> bool:
        """Whether frames of clients are lost or late."""
        return bool(self.request_loss or self.request_delay_ms or self.answer_loss or self.answer_delay_ms)

    def check(self) -> None:
        """Raise SettingsError unless a node can suffer that."""
        require_number("write_ms", self.write_ms, 0, MAX_WRITE_MS)
        require_number("clock_rate", self.clock_rate, *CLOCK_RATES)
        for what in ("request", "answer"):
            require_number(f"{what}_loss", getattr(self, f"{what}_loss"), 0, 1)
            require_number(f"{what}_delay_ms", getattr(self, f"{what}_delay_ms"), 0, MAX_DELAY_MS)


class NodeFaultsQuery(msgspec.Struct, tag_field="op", tag="node_faults"):
    """Set what a node suffers by itself, all of it. For nodes with ``--allow-faults``."""

    nonce: int
    faults: NodeFaults = NodeFaults()
