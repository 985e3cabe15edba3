"""How the checkers see into a node: production's group and state machine, with an onlooker at each step.

:class:`WatchedGroup` shows each message as it is heard and as it leaves, and each read as it begins and is answered.
:class:`ObservedMachine` shows each entry as it is applied. Neither changes what the node does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from zmqlab.engine import Group
from zmqlab.raft import AppendEntries, AppendEntriesResponse, Message, Raft
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Applied, StateMachine
from zmqlab.sim.checkers import Violation

if TYPE_CHECKING:
    from zmqlab.sim.causes import Causes
    from zmqlab.sim.process import Process
    from zmqlab.sim.sockets import Sockets


class WatchedGroup(Group):
    """See the module."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._process = cast("Sockets", self._effects).process
        self._process.check_started(self.replica)
        if self._process.world.causes is not None:
            self._watch(self._process.world.causes)

    def _watch(self, causes: Causes) -> None:
        """Look at what the replica hears, and at the reads that it serves."""
        replica, step, read = self.replica, self.replica.step, self.replica.read

        def watched_step(message: Message) -> None:
            causes.heard(cast(Raft, replica.replication), message)
            step(message)

        def watched_read(finish: Callable[[bool], None]) -> None:
            floor = causes.read_begins()

            def finish_watched(readable: bool) -> None:
                if readable:
                    causes.read_served(replica, floor)
                finish(readable)

            read(finish_watched)

        replica.step = watched_step  # type: ignore[method-assign]
        replica.read = watched_read  # type: ignore[method-assign]

    def send(self, messages: Iterable[Message]) -> None:
        """Each message leaves, and is looked at."""
        world, replication = self._process.world, self.replica.replication
        for message in messages:
            super().send((message,))
            world.elections.sent(message)
            if world.causes is not None:
                world.causes.sent(cast(Raft, replication), message)
            if isinstance(message, AppendEntries):
                world.logs.saw(message.prev_term, message.entries)
            elif isinstance(message, AppendEntriesResponse):
                world.logs.answered(message, replication.applied_index)


class ObservedMachine(StateMachine):
    """Production's state machine, watched by the ledger."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.world.plan.limits)
        self._process = process

    def apply(self, entry: Entry) -> Applied | None:
        applied = super().apply(entry)
        process, world = self._process, self._process.world
        world.ledger.applied(process.node_id, process.term, entry, applied, self.chain)
        if entry.kind == EntryKind.CONFIGURATION:
            world.configurations.applied(entry)
        if world.causes is not None:
            world.causes.applied(process.raft, entry)
        if world.trace is not None:
            fields = {"term": entry.term, "kind": entry.kind.name.lower(), "chain": self.chain.hex()}
            world.note("applied", node=process.node_id, index=entry.index, **fields)
        return applied

    def restore(self, data: bytes) -> None:
        before = self.applied_index
        super().restore(data)
        if self.applied_index < before:
            raise Violation(f"node {self._process.node_id} falls back from {before} to {self.applied_index}")
        self._process.world.ledger.same_chain(self._process.node_id, self.applied_index, self.chain)
