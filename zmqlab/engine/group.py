"""One group's share of a node: its replica, its peers, its members' coming and going, its answers to people.

A node hosts a dictionary of groups (:mod:`zmqlab.engine.engine`). A group decides alone: it gets the frames whose
header names it, and all that it does is an effect (:mod:`zmqlab.engine.effects`) or a call of its journal.

Frames are checked here: that a message is for this node and from a member (:mod:`zmqlab.engine.peers`), that a request
is whole, that its sender may send it (:mod:`zmqlab.engine.permissions`). A frame that fails raises FrameError, and
nothing has changed.

The group is its replica's :class:`~zmqlab.replica.driver.Driver`. Answers are kept until the turn's end, so that a
client gets all its answers of a turn in one message: messages and wake-ups cost, bytes do not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from zmqlab.endpoints import is_address
from zmqlab.engine import permissions
from zmqlab.engine.answers import Answers
from zmqlab.engine.departure import Closing, Leaving, drain_ticks
from zmqlab.engine.design import Company, Design, Faults
from zmqlab.engine.effects import Effects
from zmqlab.engine.following import Following
from zmqlab.engine.leader_balance import Balance
from zmqlab.engine.lifecycle import Joining, Standing
from zmqlab.engine.peers import Connections, Peers
from zmqlab.engine.permissions import NOT_REFUSED, Refusal, objection
from zmqlab.engine.status import REMOVED, Counters, brief_of, status_of, trades_of
from zmqlab.engine.tracing import Tracing
from zmqlab.errors import Forbidden, FrameError
from zmqlab.keys import ANYONE, Sender
from zmqlab.raft import RaftSettings, Role
from zmqlab.raft.messages import BROADCAST, Entry, Message
from zmqlab.raft.state import FOLLOWER, LEADER, PRE_CANDIDATE
from zmqlab.replica import (
    Applied,
    Journal,
    Origin,
    Replica,
    ReplicaSettings,
    Start,
)
from zmqlab.replica.driver import Route
from zmqlab.replica.replica import request_key
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.control import EventKind
from zmqlab.wire.node_status import GroupBrief, NodeStatus
from zmqlab.wire.peer import decode_forward, decode_hello, decode_message, encode_forward, encode_message
from zmqlab.wire.traces import TraceQuery

EAGER_TICKS = 300
"""For so long the node with ``--leader`` goes on asking for votes on its first start: its peers may start later."""
EAGER_INTERVAL_TICKS = 3
TRADES_PER_SNAPSHOT = 64
"""Trades published between two snapshots; the tape on the wire is for eyes, the book's own tape is exact."""


class Group:
    """See the module. Owned by one engine."""

    def __init__(
        self,
        number: int,
        settings: NodeSettings,
        effects: Effects,
        connections: Connections,
        journal: Journal,
        faults: Faults,
        rng: random.Random,
        origin: Origin,
        design: Design,
        clock: Callable[[], int],
        company: Company,
    ) -> None:
        """``origin``: what this node has been since its first start. ``clock``: as of the engine."""
        self.number = number
        self._company = company
        self.tracing: Tracing | None = None
        """Told of all that is sent, received and done while a lease goes on; None: there is none."""
        self._clock = clock
        self.counters = Counters()
        self._settings = settings
        self._effects = effects
        self._answer_bytes = design.answer_bytes - frames.HEADER_BYTES
        self._trades_left = TRADES_PER_SNAPSHOT
        self._last_seen: tuple[int, int, Role] | None = None
        self._outbox: dict[Route, list[bytes]] = {}
        self._nonce = 0
        """A random number, so that an answer to an earlier life of this node fits no question of this one."""
        self.replica = self._make_replica(journal, origin, rng, design)
        self.peers = Peers(number, settings, effects, connections, self.replica.replication)
        named = (peer for peer in settings.peers if not (origin.is_founder and is_address(peer)))
        # a founder's peers may have moved if they were given by name
        seeds = company.seeds or settings.join or tuple(named)
        replication, placing = self.replica.replication, company.placing
        self.following = Following(number, placing, replication) if placing is not None else None
        """How the members follow the roster; None: the cluster has no shards."""
        asking = connections.questions_of(number)
        places = (lambda: placing.roster.places) if placing is not None else tuple
        self.joining = Joining(
            settings, asking, rng, replication, lambda: self.peers.elsewhere, seeds, journal.life, number, places
        )
        self.standing = Standing(asking, replication, settings.endpoint, self._nonce, seeds, number, places)
        is_last = placing.is_last if placing is not None else None
        leaving = Leaving(asking, rng, replication, journal.life, number, is_last) if settings.leave else None
        patience = design.balance_timeouts
        self.balance = Balance(self.replica, lambda: self.preferred_member, self.peers.is_closing, patience)
        self.closing = Closing(self.replica, drain_ticks(settings), leaving)
        if settings.reads != "linearizable":
            effects.note("reads are local: a client may get a stale book where it asks for the newest", is_warning=True)
        self._bad_clients = faults.clients
        obey = (faults.links.replace, faults.suffer) if settings.allow_faults else None
        is_linearizable = settings.reads == "linearizable"
        self._answers = Answers(
            self.replica, self.peers, self.status, self.trace, obey, is_linearizable, self.following
        )

    def _make_replica(self, journal: Journal, origin: Origin, rng: random.Random, design: Design) -> Replica:
        settings = self._settings
        stored = journal.load()
        machine = design.make_machine()
        if stored.snapshot is not None:
            machine.restore(stored.snapshot.data)
        raft_settings = design.raft or RaftSettings(
            election_ticks=settings.election_ticks,
            heartbeat_ticks=settings.heartbeat_ticks,
            store_first=settings.durability != "fsync",
            beats_in_step=settings.shards > 1,
        )
        replication = design.make_replication(Start(origin.node_id, origin.configuration, stored, raft_settings, rng))
        placing = self._company.placing
        preferred = placing.places_in(self.number)[0] if placing is not None else ""
        is_first = preferred == settings.endpoint if preferred else settings.leader
        is_eager = is_first and origin.is_founder and stored.hard_state is None
        self._eager_ticks = EAGER_TICKS if is_eager else 0
        if replication.configuration.voters == (replication.node_id,) or self._eager_ticks:
            replication.campaign()
        log_bytes = _staggered(settings.snapshot_log_bytes, replication.node_id)
        self._of_node = None if design.replica else replace(ReplicaSettings(), snapshot_log_bytes=log_bytes)
        self._effects.note(
            f"start{self._where()} id={replication.node_id:#x} term={replication.term} entries={len(stored.entries)}"
            f" snapshot={machine.applied_index}"
        )
        self._nonce = rng.getrandbits(62) + 1
        limits = self._of_node.shared_by(self._company.size) if self._of_node else design.replica or ReplicaSettings()
        return Replica(replication, machine, journal, self, limits, first_context=self._nonce)

    # Frames in.

    def on_peer_frame(self, frame_type: int, frame: bytes) -> bool:
        """A frame of another node; returns whether the replica may have something to do now. Raises FrameError."""
        if frame_type == frames.FORWARD:
            sender, requests = decode_forward(frame)
            self.peers.expect_member(sender)
            if self.tracing is not None:
                self.tracing.forwarded(sender, requests)
            self.replica.take_forwarded(requests, sender)
        elif frame_type == frames.HELLO:
            self.peers.take_hello(decode_hello(frame))
        else:
            message = decode_message(frame_type, frame)
            self.peers.expect_message(message)
            if self.tracing is not None:
                self.tracing.heard(message, len(frame))
            self.replica.step(message)
        return frame_type != frames.HELLO

    def on_peer_gone(self, address: str) -> None:
        """The connection to ``address`` has closed. If the leader is there, its process has probably ended."""
        replication = self.replica.replication
        is_leader_there = self.peers.is_only_at(replication.leader_id, address)
        if is_leader_there and not self.closing.begun and replication.lose_leader():
            self._effects.note(f"the connection to the leader at {address} has closed")

    def on_client_frame(self, frame_type: int, route: Route, frame: bytes, now_ns: int, sender: Sender) -> bool:
        """A frame of a client; returns whether the replica may have something to do now: not for a question for the
        group's status. Raises FrameError, or Forbidden once that is answered."""
        if frame_type == frames.REQUEST or frame_type == frames.OPEN_SESSION:
            self._take_request(frame_type, route, frame, now_ns, sender)
        elif frame_type == frames.QUERY:
            query = control.decode_query(frame)
            permissions.expect_own_question(query, self.number, self._settings.shards)
            if why := objection(type(query), sender):
                self._reply(route, control.ErrorAnswer(query.nonce, control.ErrorCode.FORBIDDEN, why))
                raise Forbidden(why)
            self._answers.handle(query, lambda answer: self._reply(route, answer))
            return type(query) is not control.StatusQuery
        else:
            raise FrameError(f"frame type {frame_type:#04x} is not for this socket")
        return True

    def on_answer(self, address: str, answer: control.Answer) -> None:
        """An answer to a question that this group asked the node at ``address``. It concerns no replica."""
        self.joining.take(address, answer)
        self.standing.take(address, answer)
        self.closing.take(address, answer)

    def _take_request(self, frame_type: int, route: Route, frame: bytes, now_ns: int, sender: Sender) -> None:
        refused = NOT_REFUSED if sender is ANYONE else self._refuse(frame_type, frame, sender)
        if self.closing.begun:
            body: bytes | None = client_wire.encode_response(*request_key(frame), 0, ResponseStatus.CLOSING)
        elif refused.status is not None:
            body = client_wire.encode_response(*request_key(frame), 0, refused.status)
        else:
            command_count = 0
            if frame_type == frames.OPEN_SESSION:
                frame = permissions.owned(frame, sender)
            if frame_type == frames.REQUEST:
                _, number, _, command_count = client_wire.parse_request(frame)
                if not number:
                    raise FrameError("a request has the number 0: the requests of a session count from 1")
                permissions.expect_own_commands(frame, self.number, self._settings.shards)
            if self.tracing is not None:
                self.tracing.took(frame_type, frame)
            body = self.replica.take_request(route, frame, now_ns)
            self.counters.orders_taken += command_count
        if body is not None:
            self._outbox.setdefault(route, []).append(body)
        if refused.why:
            raise Forbidden(refused.why)

    def _refuse(self, frame_type: int, frame: bytes, sender: Sender) -> Refusal:
        """What becomes of a request because of whose it is. Raises FrameError."""
        machine = self.replica.machine
        return permissions.refusal(frame_type, request_key(frame)[0], machine.sessions, machine.applied_index, sender)

    def _reply(self, route: Route, answer: control.Answer) -> None:
        self._effects.reply(route, control.encode(frames.ANSWER, answer, self.number))

    # Time, and the turn.

    def tick(self) -> None:
        """One tick; a node that is to lead at first campaigns again and again until the others are there."""
        self.replica.tick()
        self.peers.tick()
        if not self.closing.begun:  # a node that leaves must not ask to come back
            is_away = self.following is not None and self.following.is_away()
            if is_away:
                self.joining.close()
            else:
                self.joining.tick()
            if is_away or not self.joining.is_wanted():
                self.standing.tick()
        self.closing.tick()
        if self.following is not None:
            self.following.tick()
            if not self.closing.begun:
                self.balance.tick()
        if self._eager_ticks:
            replication = self.replica.replication
            self._eager_ticks = 0 if replication.leader_id else self._eager_ticks - 1
            is_waiting = replication.role in (FOLLOWER, PRE_CANDIDATE)
            if self._eager_ticks % EAGER_INTERVAL_TICKS == 1 and is_waiting:
                replication.campaign()

    @property
    def preferred_member(self) -> int:
        """The member that should lead; 0: none more than the others."""
        return self.following.preferred_member if self.following is not None else 0

    @property
    def is_out(self) -> bool:
        """Whether the roster does not want this replica, and it is known to be no member of the group any more."""
        return self.following is not None and self.following.is_out(self.standing)

    def share(self, size: int) -> None:
        """So many groups share the bounds of this node from now on."""
        if self._of_node is not None:
            self.replica.rebound(self._of_node.shared_by(size))

    def close(self, now_ns: int) -> None:
        """Other nodes hold the group from now on: send its clients there."""
        for key, waiting in self.replica.pending.items():
            body = client_wire.encode_response(*key, 0, ResponseStatus.ELSEWHERE)
            self._outbox.setdefault(waiting.route, []).append(body)
        self.replica.fail_reads()
        self.flush(now_ns)
        self.joining.close()
        self.standing.close()
        self.closing.close()
        self.peers.leave()

    def begin_to_close(self) -> None:
        """Take no more requests; hand over what can be handed over."""
        if not self.closing.begun:
            self.closing.begin()
            self.joining.close()
            self.standing.close()
            self.balance.rest()
            self.peers.close()
            role = self.replica.replication.role.name.lower()
            self._tell(self._settings.name, EventKind.CLOSING, f"{self._settings.name} closes, as {role}")

    def turn(self) -> bool:
        """Carry out what follows from all that came in; returns whether there is more to do at once."""
        more = self.replica.turn()
        return self._look_round() or more

    def end_turn(self) -> bool:
        """The same for the end of a turn whose parts the engine carries out (:meth:`Engine.turn`)."""
        more = self.replica.end_turn()
        return self._look_round() or more

    def _look_round(self) -> bool:
        """Follow what has changed in this turn; returns whether leadership is being handed over from now on."""
        self._note_changes()
        is_handing_over = self.following is not None and self.balance.turn()
        for node_id in self.peers.follow():
            self._note_promotion(node_id)
        return is_handing_over

    def flush(self, now_ns: int) -> None:
        """Give the turn's answers, each client's in as few messages as it can receive."""
        if self._outbox:
            for route, bodies in self._outbox.items():
                if self.tracing is not None:
                    self.tracing.answers(bodies)
                for batch in frames.slices(bodies, self._answer_bytes):
                    frame = client_wire.encode_responses(batch, self.number)
                    if not self._bad_clients.active or self._bad_clients.lets_out(frame, route, now_ns):
                        self._effects.reply(route, frame)
            self._outbox = {}
        if self.replica.answered:
            self.counters.record_service(self.replica.answered, now_ns)
            self.replica.answered = []

    # Effects: the replica's driver.

    def send(self, messages: Iterable[Message]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        for message in messages:
            frame = encode_message(message, self.number)
            if self.tracing is not None:
                self.tracing.sends(message, len(frame))
            if message.to == BROADCAST:
                self.peers.broadcast(message, frame)
            else:
                self.peers.send(message.to, frame)

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        """See :class:`zmqlab.replica.Driver`."""
        node_id = self.replica.replication.node_id
        if self.tracing is not None:
            self.tracing.forwards(leader_id, requests)
        self.peers.send(leader_id, encode_forward(node_id, requests, self.number))

    def answer(self, answers: list[tuple[Route, bytes]]) -> None:
        """See :class:`zmqlab.replica.Driver`: kept until :meth:`flush`."""
        for route, body in answers:
            self._outbox.setdefault(route, []).append(body)

    def applied(self, entry: Entry, applied: Applied) -> None:
        """See :class:`zmqlab.replica.Driver`: the leader publishes as many trades as eyes can follow."""
        if self.tracing is not None:
            self.tracing.applied(entry, applied.key)
        if not applied.fills or self._trades_left <= 0 or self.replica.replication.role is not LEADER:
            return
        for trade in islice(trades_of(entry, applied), self._trades_left):
            self._effects.publish(control.encode(frames.TRADE, trade, self.number))
            self._trades_left -= 1

    # What is told about it.

    def status(self) -> NodeStatus:
        """A snapshot of everything."""
        vitals = self._effects.vitals()
        status = status_of(self._settings, self.number, self.replica, self.peers, self.counters, vitals)
        if self.standing.was_removed:
            status.role = REMOVED
        if self._company.briefs is not None:
            status.groups = self._company.briefs()
            status.founders = list(self._company.founders)
        if self._company.placing is not None:
            status.roster = self._company.placing.roster.encode()
        return status

    def brief(self) -> GroupBrief:
        """The essentials, for the statuses of all groups of this node."""
        return brief_of(self.number, self.replica.replication, self.peers, self.following, self.standing.was_removed)

    def _where(self) -> str:
        """Which group a line of the log is of."""
        return f" group={self.number}" if self._company.briefs is not None else ""

    def publish_status(self) -> NodeStatus:
        """Publish a snapshot, and begin a new interval."""
        self.counters.close_interval()
        self._trades_left = TRADES_PER_SNAPSHOT
        status = self.status()
        status.founders, status.roster = [], b""
        self._effects.publish(control.encode(frames.METRICS, status, self.number))
        self._effects.observe(status, self.replica, self.closing.begun)
        if self.tracing is not None:
            self._publish_trace(self.tracing, status.time_ns)
        return status

    def trace(self, query: TraceQuery) -> None:
        """Trace this group for as long as ``query`` says. Raises SettingsError if it makes no sense."""
        replication = self.replica.replication
        tracing = self.tracing or Tracing(self.number, self._settings.name, replication, self._clock)
        tracing.want(query)
        self.tracing = self.replica.steps = tracing

    def _publish_trace(self, tracing: Tracing, time_ns: int) -> None:
        """Also when the last lease has just ended: what was seen until then is told."""
        if not tracing.is_on():
            self.tracing = self.replica.steps = None
        self._effects.publish(tracing.frame(time_ns))

    def _note_changes(self) -> None:
        """Tell of a new role, term or leader, in the log and on the event topic.

        Each turn, for a candidacy lasts a few milliseconds, and people measure elections by these events.
        """
        replication = self.replica.replication
        seen = (replication.term, replication.leader_id, replication.role)
        if seen == self._last_seen:
            return
        before, self._last_seen = self._last_seen, seen
        if self.tracing is not None:
            self.tracing.note_role()
        kind = EventKind.ELECTED if replication.role is LEADER else EventKind.ROLE
        if before is not None and before[2] is LEADER and replication.role is not LEADER:
            kind = EventKind.STEPPED_DOWN
        name, role = self._settings.name, replication.role.name.lower()
        self._tell(name, kind, f"{name} is {role} in term {replication.term}{self._where()}")

    def _note_promotion(self, node_id: int) -> None:
        if self.replica.replication.role is LEADER:
            name = self.peers.name_of(node_id) or self.peers.address_of(node_id)
            self._tell(name, EventKind.PROMOTED, f"{name} has caught up and votes")

    def _tell(self, node: str, kind: EventKind, text: str) -> None:
        """Something happened: to the log and to the event topic."""
        self._effects.note(text)
        term, time_ns = self.replica.replication.term, self._effects.vitals().time_ns
        event = control.Event(time_ns=time_ns, node=node, kind=kind, term=term, text=text, group=self.number)
        self._effects.publish(control.encode(frames.EVENT, event, self.number))


def _staggered(snapshot_log_bytes: int, node_id: int) -> int:
    """Up to a third more, by the node's identity, so that not all nodes pause for a snapshot at once."""
    return snapshot_log_bytes + snapshot_log_bytes * (node_id // 2 % 1_000) // 3_000
