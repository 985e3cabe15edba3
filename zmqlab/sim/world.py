"""What all processes, clients and the operator of a run share: time, network, checkers, and which nodes there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmqlab.sim.causes import Causes
from zmqlab.sim.checkers import Configurations, Elections, Histories, Ledger, Logs
from zmqlab.sim.network import Closings, Network
from zmqlab.sim.placement_rules import PlacementRules
from zmqlab.sim.plan import Plan
from zmqlab.sim.trace import Trace
from zmqlab.sim.weak_rules import ToldOrders

if TYPE_CHECKING:
    from zmqlab.sim.node_process import Process


@dataclass(slots=True, kw_only=True)
class World:
    """See the module. Callbacks keep the parts from knowing each other."""

    plan: Plan
    at: Callable[..., None]
    """Do something so many microseconds later."""
    now_us: Callable[[], int]
    network: Network
    tell: Callable[[str], None]
    on_leader: Callable[[Process], None]
    """A process has become leader; the faults want to know."""
    on_repair: Callable[[Process], None]
    """What a leader handed on of older terms is on a majority, and nothing of its own is."""
    on_change: Callable[[Process], None]
    """A leader has stored a change of the members."""
    on_candidate: Callable[[Process], None]
    """A process has stored its vote for itself; no other node has been asked yet."""
    on_lost: Callable[[Process], None]
    """A process has lost its journal; the operator wants to know."""
    elections: Elections
    logs: Logs
    ledger: Ledger
    configurations: Configurations
    causes: Causes | None
    """None for a replication that is no Raft by quorum: its rules are others, and only damage can be looked for."""
    told: ToldOrders | None
    """What clients were told, then; None for Raft by quorum."""
    trace: Trace | None
    """None unless one is wanted."""
    histories: Histories | None = None
    """What the clients of one group saw, in a run with shards; else None: the simulation has it."""
    placed: PlacementRules | None = None
    """Of a run with shards: what holds while nodes come and go."""
    group: int = 0
    """Whose world it is, in a run with shards."""
    closings: Closings = field(init=False)
    processes: dict[int, Process] = field(default_factory=dict)
    """All that there ever were, by node id."""
    listening: dict[str, Process] = field(default_factory=dict)
    """Base endpoint -> the process that was started there last, running or not."""
    members: list[int] = field(default_factory=list)
    """Which nodes shall be members, as the operator has it."""

    def note(self, event: str, **fields: Any) -> None:
        """An event for the trace."""
        if self.trace is not None:
            self.trace.add(self.now_us(), event, **fields)

    def note_of_group(self, event: str, **fields: Any) -> None:
        """The same; in a run with shards, with the number of this group."""
        self.note(event, **fields, **({"group": self.group} if self.plan.shards > 1 else {}))

    def reachable(self) -> list[Process]:
        """The processes that a message can be sent to, running or not: all that have not gone for ever."""
        return [process for process in self.processes.values() if not process.is_gone]

    def running(self) -> Iterable[Process]:
        """The processes that work just now."""
        return (process for process in self.processes.values() if process.replica and not process.paused)
