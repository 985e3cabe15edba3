"""The operator of the cluster: adds, removes, replaces and moves nodes, and reads their logs.

The operator wants one thing after the other (:class:`Goal`) and asks for it until it is done, over the network, at
whichever node seems to lead: what it asks may be lost, come late or come twice. A node that joins asks for itself
(:class:`zmqlab.engine.lifecycle.Joining`), or the operator asks for it, as the plan has it. A replacement is a removal
and an addition at the same address. A node that was removed is switched off, or goes on for ever without knowing.

A node that joined may be started again at another address, or two may exchange theirs: their own asking and HELLO must
sort that out.

What is not allowed, as the promise holds only "while a majority of journals survive": :meth:`Operator.may_lose` says
whether one more journal may be lost, whichever of the configurations that any node knows of comes into effect.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from zmqlab.errors import FrameError
from zmqlab.raft import quorum_size
from zmqlab.raft.messages import Entry, EntryKind
from zmqlab.sim.checkers import Violation
from zmqlab.sim.node_process import Process
from zmqlab.sim.plan import MS
from zmqlab.sim.world import World
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFault, LinkFaultsQuery

ADDRESS = 100
"""To the network."""
NODES_MAX = 9
ASK_US = 60 * MS
HOLD_US = 450 * MS
"""After a journal was lost no node is removed for so long: until then a leader may count the dead node among those in
reach (an election time-out, at most 150 ms here, after a late copy of its last word), and the removal would take the
quorum away."""
RETRACT_US = 800 * MS
"""A question may be under way for so long."""
LOG_BYTES = 4_000
FOR_EVER_MS = 600_000
SEED_AGAIN_MS = 300
"""How long some seeds ask that have lost their disk. One that reaches no member for so long founds a second cluster,
which is documented; it is wiped once more."""


@dataclass(slots=True)
class Goal:
    """A node that shall vote, or shall be gone."""

    node_id: int
    is_addition: bool


class Operator:
    """See the module."""

    def __init__(self, join: Callable[..., Process], world: World, rng: random.Random) -> None:
        """``join`` starts a new node at an address, with the settings that are named."""
        self.members = world.members
        """Who shall be members when all goals are reached."""
        self.added = 0
        self.removed = 0
        self.moved = 0
        self.logs_read = 0
        self.is_waiting = False
        """Asks for nothing, though it may have goals."""
        self._join = join
        self._world = world
        self._rng = rng
        self._goals: deque[Goal] = deque()
        self._nonces: dict[int, Goal] = {}
        self._hashes: dict[int, tuple[int, str]] = {}
        """Index -> the node that told the hash of its state there first, and the hash."""
        self._next_nonce = ADDRESS << 32
        self._leader = 0
        self._hold_until_us = 0
        self._removal_at_us = -RETRACT_US
        self._places = len(self.members)
        self._moving: set[int] = set()  # nodes that will be started at another address
        self._is_ending = False

    def missing(self) -> str:
        """What is not yet as it shall be; empty if all is."""
        return "the operator still waits for a change of the members" if self._goals else ""

    @property
    def wishes(self) -> int:
        """How many changes of the members it waits for."""
        return len(self._goals)

    def begin(self) -> None:
        """Act from now on."""
        self._world.at(ASK_US, self._ask)
        self._world.at(self._gap_us(), self._act)

    def finish(self) -> None:
        """Want nothing new any more."""
        self._is_ending = True

    # Wanting.

    def _gap_us(self) -> int:
        return int(self._rng.expovariate(1.0) * self._world.plan.operations_gap_us) + 1

    def _act(self) -> None:
        if self._is_ending:
            return
        if self._world.plan.operations and len(self._goals) < self._world.plan.goals_max:
            getattr(self, "_" + self._rng.choice(self._world.plan.operations))()
        self._world.at(self._gap_us(), self._act)

    def _add(self) -> None:
        if len(self.members) < NODES_MAX:
            self._places += 1
            self._want_new(f"tcp://10.0.0.{self._places}:5000")

    def _remove(self) -> None:
        """Anyone, the leader too; also one that has not been taken in yet."""
        if len(self.members) > self._world.plan.members_min:
            node_id = self._rng.choice(self.members)
            self._removal_at_us = self._world.now_us()
            self._want_gone(node_id)

    def _replace(self) -> None:
        """A disk is wiped, and its node comes back as another member."""
        process = self._world.processes[self._rng.choice(self.members)]
        if self.may_lose(process):
            process.lose("its disk is wiped")

    def _wipe_seed(self) -> None:
        """The node that founded the cluster, or came in its place, is replaced: by one that may found. Often the others
        lose their leader just then."""
        for process in list(self._world.running()):
            if process.settings.bootstrap_ms and process.node_id in self.members and self.may_lose(process):
                process.lose("its disk is wiped")
                for other in [each for each in self._world.running() if each.leads and self._rng.random() < 0.7]:
                    other.crash("at the same time")

    def _read_log(self) -> None:
        """The oldest entries that a node still has, among them those that it has no use for itself."""
        reachable = self._world.reachable()
        if reachable:
            self.read_log(self._rng.choice(reachable).node_id)

    def expect(self, node_id: int) -> None:
        """A node of the beginning that joins the seed."""
        self._goals.append(Goal(node_id, is_addition=True))

    def _move(self) -> None:
        """A node that joined is started again at another address. If it is the only one, clients have no node left that
        could tell them where it is, and it stays where it is."""
        process = self._pick_movable()
        if process is not None and len(self.members) > 1 and self._is_settled():
            self._places += 1
            process.crash("to be moved")
            self._moving.add(process.node_id)
            self._world.at(self._gap_us() // 4, self._start_at, process, f"tcp://10.0.0.{self._places}:5000")

    def _exchange(self) -> None:
        """Two nodes that joined are started again, each at the other's address."""
        one, other = self._pick_movable(), self._pick_movable()
        if one is not None and other is not None and one is not other and self._is_settled():
            addresses = one.address, other.address
            self._moving |= {one.node_id, other.node_id}
            one.crash("to be moved")
            other.crash("to be moved")
            self._world.at(self._gap_us() // 4, self._start_at, one, addresses[1])
            self._world.at(self._gap_us() // 4, self._start_at, other, addresses[0])

    def _pick_movable(self) -> Process | None:
        movable = [
            process
            for process in self._world.running()
            if self._world.plan.nodes_ask
            and process.settings.join
            and process.node_id in self.members
            and process.node_id not in self._moving  # it was restarted where it was, meanwhile
            and not process.is_closing
        ]
        return self._rng.choice(movable) if movable else None

    def _start_at(self, process: Process, address: str) -> None:
        self._moving.discard(process.node_id)
        if process.is_gone:
            return
        if process.engine is not None:
            process.crash("to be moved")
        process.move(address)
        self.moved += 1
        self._world.tell(f"node {process.node_id} starts at {address}")
        process.start()

    def _is_settled(self) -> bool:
        """Whether all members are where the log says, no node is about to leave, and none is under way elsewhere."""
        world = self._world
        leader = next((each for each in world.running() if each.leads), None)
        if leader is None or any(process.is_closing for process in world.processes.values()):
            return False
        configuration = leader.raft.configuration
        is_committed = leader.raft.commit_index >= leader.raft.configuration_index
        real = {member: world.processes[member].address for member in configuration.members}
        up = all(world.processes[member].replica is not None for member in self.members)
        return is_committed and up and real == dict(configuration.addresses) and set(self.members) == set(real)

    def _want_new(self, address: str, **fields: Any) -> None:
        """``fields``: settings of the new node; by default it is to join the members."""
        process = self._join(address, **fields)
        self.members.append(process.node_id)
        self._goals.append(Goal(process.node_id, is_addition=True))
        self._world.tell(f"node {process.node_id} starts and wants to join")

    def _want_gone(self, node_id: int) -> None:
        self.members.remove(node_id)
        self._goals = deque(goal for goal in self._goals if goal.node_id != node_id)
        self._goals.append(Goal(node_id, is_addition=False))
        self._world.tell(f"node {node_id} is to be removed")

    def lost(self, process: Process) -> None:
        """A process has lost its journal: it is replaced, before anything else."""
        self._hold_until_us = self._world.now_us() + HOLD_US
        if process.node_id in self.members:
            self._want_gone(process.node_id)
            if process.settings.bootstrap_ms:
                bootstrap_ms = FOR_EVER_MS if process.node_id % 2 else SEED_AGAIN_MS
                self._want_new(process.address, bootstrap_ms=bootstrap_ms)
            elif process.settings.peers and self._world.plan.nodes_ask and self._rng.random() < 0.7:
                self._want_new(process.address, peers=process.settings.peers)  # by the command of its first start
            else:
                self._want_new(process.address)
            self._goals.rotate(2)

    def may_lose(self, process: Process) -> bool:
        """Whether the cluster can do without this one's journal too."""
        if process.is_gone or process.crash_in or not process.replica:
            return False
        if self._is_unsettled:
            return False
        return self._leaves_majorities([process], int(self._was_removing or self._has_removals()))

    def may_miss(self, processes: Collection[Process]) -> bool:
        """Whether the others can serve while these stay away, for as long as they do."""
        is_removing = any(
            not self._world.processes[goal.node_id].is_gone for goal in self._goals if not goal.is_addition
        )
        return (
            not self._is_unsettled
            and not is_removing
            and not self._was_removing
            and self._leaves_majorities(processes, spare=0)
        )

    @property
    def _is_unsettled(self) -> bool:
        """Whether a member is about to move or to leave, and may be removed meanwhile; or the founders have not met."""
        return any(
            each.has_moved or (each.is_closing and each.settings.leave) or (each.settings.peers and not each.has_met)
            for each in self._world.reachable()
        )

    @property
    def _was_removing(self) -> bool:
        """Whether a question of the past may still remove a member that is alive."""
        return self._world.now_us() - self._removal_at_us < RETRACT_US

    def _leaves_majorities(self, lost: Collection[Process], spare: int) -> bool:
        """Whether each configuration that a node knows keeps a majority, even if ``spare`` more voters are removed."""
        lost_ids = {process.node_id for process in lost}
        for other in self._world.reachable():
            for configuration in other.configurations():
                kept = [self._keeps(member) and member not in lost_ids for member in configuration.members]
                voters = len(configuration.voters)
                lost_learners = kept[voters:].count(False)  # one may be promoted just now, by what it said before
                if voters and kept[:voters].count(True) - spare < quorum_size(voters - spare + lost_learners):
                    return False
        return True

    def _has_removals(self) -> bool:
        return any(not goal.is_addition for goal in self._goals)

    def _keeps(self, node_id: int) -> bool:
        """Whether a node will not lose its journal: in memory it does, as soon as the process ends."""
        process = self._world.processes[node_id]
        is_doomed = self._world.plan.durability == "memory" and process.crash_in > 0
        return not process.is_gone and not is_doomed

    # Asking.

    def _ask(self) -> None:
        if self._world.plan.market.is_busy and not self._is_ending:
            self._next_nonce += 1
            self._send(self.members[self._next_nonce % len(self.members)], control.HashQuery(self._next_nonce))
        if self._goals and not self.is_waiting and not self._is_on_hold:
            if not self._is_ending and self._rng.random() < self._world.plan.changes_its_mind:
                self._goals.rotate(-1)
            goal = self._goals[0]
            if not goal.is_addition or not self._asks_itself(goal.node_id):
                self._ask_for(goal)
            elif self.is_voter(goal.node_id):
                self._reached(goal)
            elif not self._is_ending or self._rng.random() < 0.5:
                self._goals.rotate(-1)
        patience = min(self._world.plan.patience, 0.5) if self._is_ending else self._world.plan.patience
        self._world.at(int(ASK_US * patience), self._ask)

    def _asks_itself(self, node_id: int) -> bool:
        """Whether a new node will be taken in without the operator's help: it was told of one that is a member now.

        Two nodes that were told of each other alone, and of a seed that is gone, wait for each other for ever.
        """
        listening = self._world.listening
        settings = self._world.processes[node_id].settings
        named = [listening[each].node_id for each in settings.join or settings.peers if each in listening]
        return self._world.plan.nodes_ask and any(other in self.members and self.is_voter(other) for other in named)

    def is_voter(self, node_id: int) -> bool:
        """Whether a leader's committed configuration says so."""
        leaders = [process.raft for process in self._world.running() if process.leads]
        return any(
            node_id in raft.configuration.voters and raft.commit_index >= raft.configuration_index for raft in leaders
        )

    def _ask_for(self, goal: Goal) -> None:
        reachable = self._world.reachable()
        targets = [process.node_id for process in reachable]
        if self._leader not in targets or self._rng.random() < 0.3:
            self._leader = self._rng.choice(targets)
        for target in targets if self._world.plan.asks_everybody else (self._leader,):
            self._next_nonce += 1
            self._nonces[self._next_nonce] = goal
            query: control.Query = control.RemoveMemberQuery(self._next_nonce, goal.node_id)
            if goal.is_addition:
                address = self._world.processes[goal.node_id].address
                query = control.AddMemberQuery(self._next_nonce, goal.node_id, address)
            self._send(target, query)

    def _send(self, node_id: int, query: control.Query) -> None:
        self._world.network.send(ADDRESS, node_id, control.encode(frames.QUERY, query))

    def may_leave(self) -> bool:
        """Whether a node may leave the group now. If so it is about to, as if it had been removed."""
        if self._is_on_hold:
            return False
        self._removal_at_us = self._world.now_us()
        return True

    @property
    def _is_on_hold(self) -> bool:
        return self._world.now_us() < self._hold_until_us

    def tell_links(self, node_id: int, faults: list[LinkFault]) -> None:
        """Ask a node to hear its peers as badly as this from now on."""
        self._next_nonce += 1
        self._send(node_id, LinkFaultsQuery(self._next_nonce, faults))

    def read_log(self, node_id: int) -> None:
        """Ask a node for the oldest entries of its log."""
        self._next_nonce += 1
        self._send(node_id, control.LogQuery(self._next_nonce, 1, LOG_BYTES))

    def compare_hashes(self) -> None:
        """Ask all members for the hashes of their states; those of one index must agree, whenever they are told."""
        for node_id in self.members:
            self._next_nonce += 1
            self._send(node_id, control.HashQuery(self._next_nonce))

    def deliver(self, sender: int, frame: bytes) -> None:
        """An answer from a node."""
        if frames.parse_header(frame)[0] != frames.ANSWER:
            raise FrameError("nodes answer the operator")
        answer = control.decode_answer(frame)
        if isinstance(answer, control.LogAnswer):
            self._compare(sender, answer)
            return
        if isinstance(answer, control.HashAnswer):
            self._compare_hash(sender, answer)
            return
        goal = self._nonces.pop(answer.nonce, None)
        if goal is None:
            return
        if isinstance(answer, control.OkAnswer):
            self._leader = sender
            self._reached(goal)
        elif isinstance(answer, control.ErrorAnswer):
            self._leader = 0 if answer.code == control.ErrorCode.NOT_LEADER else sender
            if answer.code == control.ErrorCode.REFUSED and self._goals and goal is self._goals[0]:
                self._goals.rotate(-1)  # another change must come first

    def _reached(self, goal: Goal) -> None:
        if goal not in self._goals:
            return
        self._goals.remove(goal)
        if goal.is_addition:
            self.added += 1
            self._world.tell(f"node {goal.node_id} is a voter")
            return
        self.removed += 1
        self._world.tell(f"node {goal.node_id} is no member any more")
        process = self._world.processes[goal.node_id]
        if not process.is_gone and (process.settings.join or self._rng.random() < 0.5):
            process.retire()  # one that joined would ask to come back when it is started again

    def _compare(self, node_id: int, answer: control.LogAnswer) -> None:
        """What a node reads from its journal is what was committed."""
        self.logs_read += 1
        ledger = self._world.ledger
        for index, term, kind, data in answer.entries:
            if ledger.entries[index - 1] != Entry(index, term, EntryKind(kind), data):
                raise Violation(f"journal: node {node_id} serves an entry {index} that was never committed there")

    def _compare_hash(self, node_id: int, answer: control.HashAnswer) -> None:
        """What a node says of its state is true of the index that it names."""
        self._world.ledger.same_chain(node_id, answer.index, bytes.fromhex(answer.chain_hash))
        known, hashed = self._hashes.setdefault(answer.index, (node_id, answer.state_hash))
        if hashed != answer.state_hash:
            raise Violation(f"hashes: nodes {known} and {node_id} tell different state hashes at {answer.index}")

    def look_after(self, but: Collection[Process] = ()) -> None:
        """When faults are over: start what is down, since its port was taken, and make links whole that a late question
        has made faulty. A founder that lost its disk and can find none of the others any more is told of the members.
        """
        for process in self._world.reachable():
            if process in but:
                continue
            if process.engine is None:
                process.start()
            elif self._waits_in_vain(process):
                process.join(self._world.processes[member].address for member in self.members)
            else:
                process.engine.links.replace([])

    def _waits_in_vain(self, process: Process) -> bool:
        is_founder_again = bool(process.settings.peers) and process.node_id > self._world.plan.node_count
        return is_founder_again and process.replica is None and not self._asks_itself(process.node_id)

    def reconcile(self) -> None:
        """At the end: an old question may have come late and changed the members once more."""
        leader = next((each for each in self._world.running() if each.leads), None)
        if self._goals or leader is None:
            return
        configuration = leader.raft.configuration
        for node_id in configuration.members:
            if node_id not in self.members:
                self._goals.append(Goal(node_id, is_addition=False))
        for node_id in self.members:
            if node_id not in configuration.voters:
                self._goals.append(Goal(node_id, is_addition=True))
