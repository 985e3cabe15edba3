"""What a group is made of, and what it is told of its node: values that the engine hands to each of its groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from zmqlab.engine.leader_balance import PATIENCE
from zmqlab.engine.link_faults import ClientFaults, LinkFaults
from zmqlab.engine.placing import Placing
from zmqlab.raft import RaftSettings
from zmqlab.replica import MakeReplication, RaftByQuorum, ReplicaSettings, StateMachine
from zmqlab.wire import frames
from zmqlab.wire.fault_queries import NodeFaults
from zmqlab.wire.node_status import GroupBrief


@dataclass(frozen=True, slots=True)
class Design:
    """What a group is made of, where production and simulator differ. The defaults are production's."""

    make_replication: MakeReplication = RaftByQuorum
    make_machine: Callable[[], StateMachine] = StateMachine
    raft: RaftSettings | None = None
    """None: from the node's settings."""
    replica: ReplicaSettings | None = None
    """None: from the node's settings."""
    answer_bytes: int = frames.MAX_ANSWER_BYTES
    """What a client accepts in one frame."""
    balance_timeouts: int = PATIENCE
    """Election time-outs for which a group's preferred leader must be well before it gets the group."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What a node can be made to suffer, for labs."""

    links: LinkFaults
    clients: ClientFaults
    suffer: Callable[[NodeFaults], None]
    """Sets what the node itself suffers. Raises SettingsError: it can't; nothing has changed then."""


class Company(NamedTuple):
    """What a group knows of the other groups of its node."""

    size: int = 1
    """How many groups the node held when this one was opened, itself included: its share of the node's bounds."""
    briefs: Callable[[], list[GroupBrief]] | None = None
    """Gives the essentials of all of them; None: the cluster has no shards."""
    founders: tuple[tuple[int, str], ...] = ()
    """Identity and address of each founder of a cluster with shards."""
    placing: Placing | None = None
    """Which nodes are to hold this group, and which of them should lead it; None: the cluster has no shards."""
    seeds: tuple[str, ...] = ()
    """Base endpoints of nodes that may know the group, where this node has got it later than at its first start."""
