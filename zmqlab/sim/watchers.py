"""How the checkers see into a node: an onlooker at each step, who changes nothing that the node does.

:class:`Watcher` is told what a process stores and loads, and when its turn ends. :class:`WatchedGroup`, production's
group, shows each message as it is heard and as it leaves, each read as it begins and is answered, and each turn.
:class:`ObservedMachine`, production's state machine, shows each entry as it is applied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from zmqlab.engine import Design, Effects, Group
from zmqlab.engine.answers import Reply
from zmqlab.market.canonical import SLICE_ROWS
from zmqlab.raft import AppendEntries, AppendEntriesResponse, HardState, Message, Raft, Snapshot, quorum_value
from zmqlab.raft.messages import CONFIGURATION, Entry
from zmqlab.raft.state import LEADER
from zmqlab.replica import Applied, Journal, Origin, RaftByQuorum, StateMachine
from zmqlab.replica.driver import Route
from zmqlab.replica.execution import new_exchange
from zmqlab.replica.machine import Restoring
from zmqlab.replica.replica import Replica
from zmqlab.settings import NodeSettings
from zmqlab.sim.causes import UNKNOWN, Causes
from zmqlab.sim.checkers import Violation
from zmqlab.sim.node_rules import Duties, late_snapshot
from zmqlab.wire.control import Answer, LogQuery, Query
from zmqlab.wire.node_status import NodeStatus

if TYPE_CHECKING:
    from zmqlab.sim.network import Sockets
    from zmqlab.sim.node_process import Process
    from zmqlab.sim.seats import Seat


class Watcher:
    """Of one process, over all its lives."""

    def __init__(self, process: Process) -> None:
        self.installs = 0
        """Snapshots that came from a leader."""
        self._process = process
        self._causes = process.world.causes
        self._commit_when_elected = 0
        self._is_late = False
        """Whether a snapshot was due when the last turn ended: in the turn in which one ends, no other is begun."""
        self._log_asked = 0
        """The end of a leader's log when the process was last asked for it, before any node had applied that."""
        self._stood_in = 0
        """The last term in which the process was a candidate."""
        self._seen_leading = 0
        """The last term that the process was seen to lead."""
        self._snapshot: Snapshot | None = None
        """The one that the process had when its last turn ended."""
        self._snapshot_log_bytes = process.world.plan.replica.snapshot_log_bytes

    def loaded(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """What was safe is there; what is there is told, since a crash may have come before it could be."""
        self._process.world.elections.stored(self._process.node_id, hard_state or HardState(0, 0, 0))
        self._process.world.logs.saw(snapshot.term if snapshot else 0, entries)
        if self._process.world.causes is not None:
            self._process.world.causes.loaded(self._process.node_id, hard_state, entries, snapshot)

    def took_turn(self, is_over: bool = True) -> None:
        """What the checkers want to see when a turn is over.

        ``is_over``: the node has said that there is no more to do before something comes in, or its next tick.
        """
        process = self._process
        replica, duties = process.replica, process.duties
        if replica is None or duties is None:
            return
        if is_over and replica.replication.is_ready():
            raise Violation(
                f"promptness: node {process.node_id} waits, and has something to store, to apply or to send"
            )
        raft: RaftByQuorum = replica.replication  # type: ignore[assignment]
        causes = self._causes
        duties.took_turn()
        if self._is_late or replica._snapshotting.applied_bytes >= self._snapshot_log_bytes:
            self._look_at_snapshots(replica)
        if raft.role is LEADER:
            self._look_at_leader(raft)
            if causes is not None:
                causes.led(raft)
        if causes is not None:
            causes.took_turn(raft)
            snapshot = raft.snapshot
            if snapshot is not self._snapshot:
                self._snapshot = snapshot
                if snapshot is not None:
                    causes.keeps(process.node_id, snapshot)

    def _look_at_snapshots(self, replica: Replica) -> None:
        late = late_snapshot(replica)
        if late and self._is_late:
            raise Violation(f"upkeep: {late}")
        self._is_late = bool(late)

    def _look_at_leader(self, raft: RaftByQuorum) -> None:
        world = self._process.world
        if raft.term != self._seen_leading:
            self._seen_leading = raft.term
            if world.elections.check_leader(raft):
                world.tell(f"node {self._process.node_id} leads term {raft.term}")
                world.note_of_group("leads", node=self._process.node_id, term=raft.term)
                self._commit_when_elected = raft.commit_index
                world.on_leader(self._process)
        last, applied = raft.log.last_index, world.ledger.last_index
        if last > applied and last != self._log_asked:
            self._log_asked = last
            for group in self._process.own_groups():
                if group.replica is self._process.replica:
                    cast(WatchedGroup, group).ask_for_log(applied + 1)
        if world.plan.unlucky_repair and raft.progress:
            self._look_at_repair(raft)

    def _look_at_repair(self, raft: RaftByQuorum) -> None:
        """Whether this leader is where figure 3.7 (c) of the thesis has it: entries of older terms are on a majority,
        and its own no-op is not."""
        matches = [
            raft.log.last_index if voter == raft.node_id else raft.progress[voter].match_index
            for voter in raft.configuration.voters
        ]
        if self._commit_when_elected < quorum_value(matches) < raft.term_start_index:
            self._process.world.on_repair(self._process)

    def stored(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        """Something is stored and safe."""
        world = self._process.world
        if world.trace is not None:
            self._note_stored(hard_state, entries, snapshot)
        self.installs += snapshot is not None
        if hard_state is not None:
            world.elections.stored(self._process.node_id, hard_state)
            if hard_state.voted_for == self._process.node_id and hard_state.term > self._stood_in:
                self._stood_in = hard_state.term
                world.on_candidate(self._process)
        if world.causes is not None:
            world.causes.stored(self._process.raft, hard_state, entries, snapshot)
        if entries:
            prev_term = self._process.raft.log.term_at(entries[0].index - 1)
            assert prev_term is not None, "entries are stored without a gap"
            world.logs.saw(prev_term, entries)
            changes = [entry for entry in entries if entry.kind == CONFIGURATION]
            if changes and self._process.leads:
                world.on_change(self._process)
                if world.placed is not None:
                    roster = cast("Seat", self._process).roster
                    world.placed.lets_go(world, roster, self._process.raft, changes[-1])

    def _note_stored(self, hard_state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        self._process.world.note_of_group(
            "stored",
            node=self._process.node_id,
            term=hard_state.term if hard_state else None,
            voted_for=hard_state.voted_for if hard_state else None,
            first_index=entries[0].index if entries else None,
            last_index=entries[-1].index if entries else None,
            snapshot_index=snapshot.index if snapshot else None,
        )


class WatchedGroup(Group):
    """See the module."""

    def __init__(self, number: int, settings: NodeSettings, effects: Effects, *parts: Any) -> None:
        self._process = cast("Sockets", effects).process.seat(number)
        super().__init__(number, settings, effects, *parts)
        self.duties = Duties(self._process, self.replica, self.peers, self.joining)
        self._process.opened(self.replica, self.duties)
        self._watch(self._process.world.causes)

    def _make_replica(self, journal: Journal, origin: Origin, rng: random.Random, design: Design) -> Replica:
        design = replace(design, make_machine=lambda: ObservedMachine(self._process))
        return super()._make_replica(journal, origin, rng, design)

    def _look_round(self) -> bool:
        if not Group._look_round(self):  # for each turn: half of what super() costs
            return False
        commit, last = self.replica.replication.commit_index, self.replica.replication.last_index
        self._process.hand_overs += 1
        if commit < last:
            raise Violation(
                f"balance: node {self._process.node_id} hands group {self.number} over with entries {commit + 1} to "
                f"{last} that are not committed"
            )
        return True

    def _watch(self, causes: Causes | None) -> None:
        """Look at what the replica hears, and at the reads that it serves."""
        replica, duties, raft = self.replica, self.duties, cast(Raft, self.replica.replication)
        take, step, read = replica.take_request, replica.step, replica.read
        handle = self._answers.handle

        def watched_step(message: Message) -> None:
            duties.heard(message)
            if causes is not None:
                causes.heard(raft, message)
            step(message)

        def watched_read(finish: Callable[[bool], None]) -> None:
            floor = causes.read_begins(raft) if causes is not None else UNKNOWN
            number = duties.query_begins()

            def finish_watched(readable: bool) -> None:
                duties.query_ends(number)
                if readable and causes is not None:
                    causes.read_served(replica, floor)
                finish(readable)

            read(finish_watched)

        def watched_take(route: Route, frame: bytes, now_ns: int) -> bytes | None:
            body = take(route, frame, now_ns)
            if body is None:
                duties.took_request()
            else:
                duties.answered_at_once(frame, body)
            return body

        def watched_handle(query: Query, reply: Reply) -> None:
            def reply_watched(answer: Answer) -> None:
                duties.replied()
                duties.answers(query, answer)
                reply(answer)

            duties.asked()
            handle(query, reply_watched)

        self._answers.handle = watched_handle  # type: ignore[method-assign]
        replica.take_request = watched_take  # type: ignore[method-assign]
        replica.step = watched_step  # type: ignore[method-assign]
        replica.read = watched_read  # type: ignore[method-assign]

    def ask_for_log(self, from_index: int) -> None:
        """What the node would tell of its log now. Its duties hear the answer, and no other."""
        self._answers.handle(LogQuery(0, from_index, 1), lambda _: None)

    def status(self) -> NodeStatus:
        status = super().status()
        self.duties.tells_status(status)
        return status

    def on_peer_gone(self, address: str) -> None:
        raft, causes = cast(Raft, self.replica.replication), self._process.world.causes
        leader_id = raft.leader_id
        super().on_peer_gone(address)
        if leader_id != raft.leader_id:
            self._process.world.tell(f"node {raft.node_id} sees the end of its leader {leader_id}")
            if causes is not None:
                causes.forgot(raft, leader_id)

    def begin_to_close(self) -> None:
        super().begin_to_close()
        self.duties.signalled()

    def close(self, now_ns: int) -> None:
        super().close(now_ns)
        cast("Seat", self._process).closes()

    def send(self, messages: Iterable[Message]) -> None:
        """Each message leaves, and is looked at; also one that has left in part when the process ends."""
        network = self._process.world.network
        for message in messages:
            sent_before = network.sent
            try:
                Group.send(self, (message,))
            except BaseException:
                if network.sent > sent_before:
                    self._show(message)
                raise
            self._show(message)

    def _show(self, message: Message) -> None:
        world, raft = self._process.world, self._process.raft
        world.elections.sent(message)
        if world.causes is not None:
            world.causes.sent(raft, message)
        if isinstance(message, AppendEntries):
            world.logs.saw(message.prev_term, message.entries)
        elif isinstance(message, AppendEntriesResponse):
            world.logs.answered(message, raft.applied_index)


class ObservedMachine(StateMachine):
    """Production's state machine, watched by the ledger."""

    def __init__(self, process: Process) -> None:
        plan = process.world.plan
        super().__init__(plan.limits, new_exchange(plan.market.limits))
        self._process = process

    def apply(self, entry: Entry) -> Applied | None:
        applied = super().apply(entry)
        process, world = self._process, self._process.world
        if world.told is not None:
            world.told.applies(process.node_id, entry)
        world.ledger.applied(process.node_id, process.term, entry, applied, self.chain)
        if entry.kind == CONFIGURATION:
            before = world.configurations.history[-1]
            world.configurations.applied(entry)
            if world.placed is not None and world.configurations.history[-1] != before:
                world.placed.changed(world, before[1], world.configurations.history[-1][1])
                world.members[:] = world.configurations.history[-1][1].members
        if world.causes is not None:
            world.causes.applied(process.raft, entry)
        if world.trace is not None:
            fields = {"term": entry.term, "kind": entry.kind.name.lower(), "chain": self.chain.hex()}
            world.note_of_group("applied", node=process.node_id, index=entry.index, **fields)
        return applied

    def adopt(self, restoring: Restoring) -> Iterator[None]:
        before = self.applied_index
        steps = super().adopt(restoring)
        if self.applied_index < before and self._process.world.told is None:
            raise Violation(f"node {self._process.node_id} falls back from {before} to {self.applied_index}")
        self._process.world.ledger.same_chain(self._process.node_id, self.applied_index, self.chain)
        self._show("has restored")
        return steps

    def freeze(self, rows: int = SLICE_ROWS) -> Iterator[bytes]:
        self._show("freezes")
        return super().freeze(rows)

    def _show(self, since: str) -> None:
        """What the state is now, in one go."""
        causes = self._process.world.causes
        if causes is not None:
            causes.has(self._process.node_id, self.applied_index, b"".join(super().freeze()), since)
