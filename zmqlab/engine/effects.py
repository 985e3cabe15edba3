"""What an engine asks of the process around it, as one interface.

:class:`zmqlab.engine.engine.Engine` decides; an :class:`Effects` carries out. The node (:mod:`zmqlab.node.loop`)
implements it with sockets, the simulator (:mod:`zmqlab.sim.node_process`) with virtual ones, and may crash in any
call. What must be stored is the one effect that is not here: it goes through :class:`zmqlab.replica.Journal`.

All effects but storing may fail silently: a frame may be lost, late or twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zmqlab.replica import Replica
from zmqlab.replica.driver import Route
from zmqlab.wire.node_status import NodeStatus


class Vitals(NamedTuple):
    """What only the process knows of itself, for its status."""

    pid: int
    time_ns: int
    """Wall clock."""
    uptime_ms: int
    cpu_percent: float
    rss_bytes: int
    dropped: int
    """Messages that a full or missing connection did not take."""
    bad_messages: int
    """Messages of the wrong number of frames, or too large, and handshakes with a key that is not let in; none of them
    reached the engine."""
    connections_ended: int = 0
    """Connections that were too many, or that brought in what became no message; they were ended."""


class Asking(Protocol):
    """Questions to other nodes, as a client asks them; answers come in through ``Engine.on_answer``."""

    def resolve(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        """The same base endpoints with addresses in place of names, all addresses of each name. Does not block."""
        ...

    def ask(self, address: str, frame: bytes) -> None:
        """A QUERY to the node at ``address``, through a connection that is kept until :meth:`hang_up`."""
        ...

    def hang_up(self, address: str) -> None:
        """End the connection that :meth:`ask` made to ``address``, if there is one."""
        ...

    def note(self, text: str, is_warning: bool = False) -> None:
        """A line for the log."""
        ...


class Effects(Asking, Protocol):
    """See the module."""

    # To nodes and clients.

    def publish(self, frame: bytes) -> None:
        """To every subscriber: members and watchers."""
        ...

    def send(self, address: str, frame: bytes) -> None:
        """To the node at an address that :meth:`connect` named."""
        ...

    def reply(self, route: Route, frame: bytes) -> None:
        """To one client."""
        ...

    # Connections to nodes. Addresses are base endpoints, ``tcp://host:port``.

    def connect(self, address: str) -> None:
        """Be able to send to the node at ``address``. Called once for an address until it is disconnected."""
        ...

    def disconnect(self, address: str) -> None: ...

    def subscribe(self, address: str) -> None:
        """Hear what the node at ``address`` publishes for its group. Called once for an address until unsubscribed."""
        ...

    def unsubscribe(self, address: str) -> None: ...

    def hear_groups(self, numbers: Sequence[int]) -> None:
        """Of all nodes that are subscribed to, hear what they publish for these groups alone. Called by a node of a
        cluster with shards, again whenever it holds other groups."""
        ...

    # The disk, for labs.

    def damage_disk(self, write_ms: float, is_full: bool) -> None:
        """From now on each write of the journal takes at least so long, or the next one fails for want of room; 0 and
        False: the disk is well. Raises SettingsError if there is no disk; nothing has changed then."""
        ...

    # What the process knows.

    def vitals(self) -> Vitals: ...

    def observe(self, status: NodeStatus, replica: Replica, is_closing: bool) -> None:
        """Shown each snapshot that is published; must be quick."""
        ...
