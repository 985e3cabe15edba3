"""The production state machine of a simulated node, watched by the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.replica import Applied, StateMachine
from zmqlab.sim.checkers import Violation

if TYPE_CHECKING:
    from zmqlab.sim.process import Process


class ObservedMachine(StateMachine):
    """See the module."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.around.plan.limits)
        self._process = process

    def apply(self, entry: Entry) -> Applied | None:
        applied = super().apply(entry)
        process = self._process
        process.around.ledger.applied(process.node_id, process.term, entry, applied, self.chain)
        if entry.kind == EntryKind.CONFIGURATION:
            process.around.configurations.applied(entry)
        process.around.causes.applied(process.running.raft, entry)
        if process.around.trace is not None:
            fields = {"term": entry.term, "kind": entry.kind.name.lower(), "chain": self.chain.hex()}
            process.around.note("applied", node=process.node_id, index=entry.index, **fields)
        return applied

    def restore(self, data: bytes) -> None:
        before = self.applied_index
        super().restore(data)
        if self.applied_index < before:
            raise Violation(f"node {self._process.node_id} falls back from {before} to {self.applied_index}")
        self._process.around.ledger.same_chain(self._process.node_id, self.applied_index, self.chain)
