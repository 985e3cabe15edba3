"""A whole node without I/O: frames, time and signals in, effects out.

A node's process, or the simulator, runs an engine by doing this over and over:

1. :meth:`Engine.begin_turn`;
2. hand in what has arrived: :meth:`Engine.on_peer_frame`, :meth:`Engine.on_peer_gone`, :meth:`Engine.on_client_frame`,
   :meth:`Engine.on_answer`, :meth:`Engine.on_signal`;
3. :meth:`Engine.turn`, which lets due ticks pass, carries out all that follows, and answers;
4. wait until something arrives or :attr:`Engine.wake_ns` has come. Do not wait if ``turn`` said that there is more. End
   when :attr:`Engine.is_over`.

Nothing that decides is left outside. The effects are calls of :class:`~zmqlab.engine.effects.Effects` and of the
journal, in the order in which they must happen; a crash may fall between any two of them.

*Batching is never a timer.* A turn takes what has arrived, works, and looks again.

*Time.* A tick is due every ``tick_ms`` of the clock that is handed in. After a long pause time does not run backwards,
but it does not rush either: at most ``MAX_TICKS_PER_TURN`` ticks pass between two looks at what the peers have sent.

*A first start.* A founder, a seed, or a node that joins shards has no group until it is decided what it is
(:mod:`zmqlab.engine.first_start`). Until then it answers questions for its status, and refuses requests. From peers it
learns only where they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from zmqlab.engine.answers import refusal_of
from zmqlab.engine.design import Company, Design, Faults
from zmqlab.engine.effects import Effects
from zmqlab.engine.first_start import FirstStart, answer_early
from zmqlab.engine.group import Group
from zmqlab.engine.group_founding import ONLY_GROUP, Beginning, beginning_of, open_journals, what_begins
from zmqlab.engine.hosting import Hosting, hosting_of
from zmqlab.engine.link_faults import ClientFaults, Held, LinkFaults
from zmqlab.engine.peers import Connections
from zmqlab.engine.status import log_line
from zmqlab.errors import Forbidden, FrameError
from zmqlab.keys import ANYONE, Sender
from zmqlab.replica import Journal, Origin
from zmqlab.replica.driver import Route
from zmqlab.replica.replica import must_store
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import NodeFaults
from zmqlab.wire.node_status import GroupBrief
from zmqlab.wire.peer import decode_bundle

MAX_PER_TURN = 256
"""Messages taken from one source before the others get their turn: about 5 ms of work at most."""
MAX_TICKS_PER_TURN = 3
SNAPSHOT_INTERVAL_NS = 100_000_000
"""Between two snapshots that are published."""
LOG_EVERY = 10
"""Snapshots between two ``metrics`` lines of the log: one a second."""
BAD_FRAMES_LOGGED = 5
"""Between two ``metrics`` lines: a flood of bad frames is counted, not written down."""


class Engine:
    """See the module. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        settings: NodeSettings,
        journal: Journal,
        effects: Effects,
        *,
        clock: Callable[[], int],
        rng: random.Random,
        draw_id: Callable[[], int],
        design: Design | None = None,
        group_class: type[Group] = Group,
        snapshot_interval_ns: int = SNAPSHOT_INTERVAL_NS,
    ) -> None:
        """Begin from what the journal has.

        Args:
            clock: a monotonic clock, in nanoseconds.
            rng: the only source of chance: election time-outs, nonces, losses on faulty links.
            draw_id: draws an identity from 64 bits, so that no two nodes, and no two lives of a node, share one.
            design: what groups are made of.
            group_class: a subclass that watches its group.

        Raises:
            JournalCorrupt, JournalFull: the journal can't be read, or not be begun.
        """
        self.groups: dict[int, Group] = {}
        """By number; empty until it is decided what this node is, and when it has left a cluster with shards."""
        self.held = Held()
        """Frames that a faulty link has made late."""
        self._awake: dict[int, Group] = {}
        """Those that have something to do in the next turn, or may have; the others take no part in it."""
        self._turns = 0
        self._turn_ns_max = 0
        """Of the turns since the last ``metrics`` line of the log."""
        self._told: list[GroupBrief] | None = None
        """What the statuses that are being published say of all groups."""
        self.links = LinkFaults(rng, self._address_of, self.held, self._hand_to_group)
        self.clients = ClientFaults(rng, self.held, partial(self.on_client_frame, is_late=True), effects.reply)
        self.is_over = False
        """Whether the node has ended."""
        self._settings = settings
        self._journal = journal
        self._effects = effects
        self._connections = Connections(effects, are_shared=settings.shards > 1)
        self._clock = clock
        self._rng = rng
        self._design = design or Design()
        self._group_class = group_class
        self._snapshot_interval_ns = snapshot_interval_ns
        self._now_ns = clock()
        self._tick_ns = settings.tick_ms * 1_000_000
        self._next_tick_ns = self._now_ns + self._tick_ns
        self._next_snapshot_ns = self._now_ns
        self._snapshots_made = 0
        self._bad_logged = 0
        self._is_closing = False
        self.hosting: Hosting | None = None
        """With shards: which groups this node holds, and is to hold."""
        self._first_start: FirstStart | None = None
        """Of a node that does not know yet what it is."""
        if not journal.is_new:
            self._open_groups(None)
            return
        start = what_begins(settings, effects, rng, journal.draw(draw_id()), journal.life)
        if isinstance(start, Origin):
            self._open_groups(beginning_of(start, start, settings))
        else:
            self._first_start = start

    def _open_groups(self, new: Beginning | None) -> None:
        """``new``: what this node is, if it is so from now on."""
        opened, hosted = open_journals(self._journal, self._settings, new)
        if hosted is not None:
            parts = self._settings, self._journal, self._effects, self._connections, self._rng
            self.hosting = hosting_of(*parts, self.groups, hosted, new, self._open)
        places = self.hosting.placing.roster.places if self.hosting and new else ()
        for number, (journal, origin) in opened.items():
            self._open(number, journal, origin, len(opened), () if origin.is_founder else places)
        self._wake_all()
        if len(opened) < self._settings.shards:
            self._effects.hear_groups(tuple(opened))

    def _open(self, number: int, journal: Journal, origin: Origin, size: int, seeds: tuple[str, ...] = ()) -> None:
        """``size``: how many groups share the bounds of this node; ``seeds``: nodes that may know the group."""
        company = self.hosting.company(size, self._briefs, seeds) if self.hosting is not None else Company(size)
        self.groups[number] = self._group_class(
            number,
            self._settings,
            self._effects,
            self._connections,
            journal,
            Faults(self.links, self.clients, self._suffer),
            self._rng,
            origin,
            self._design,
            self._clock,
            company,
        )

    def _briefs(self) -> list[GroupBrief]:
        """Of all groups here the essentials."""
        return self._told or [group.brief() for _, group in sorted(self.groups.items())]

    @property
    def wake_ns(self) -> int:
        """When the next turn is due, even if nothing arrives; by the engine's clock."""
        return min(self._next_tick_ns, self.held.next_due_ns or self._next_tick_ns)

    # What comes in.

    def begin_turn(self) -> None:
        """A turn begins now; to be called before anything is handed in."""
        self._now_ns = self._clock()

    def on_peer_frame(self, frame: bytes) -> None:
        """A frame that a peer published, or sent to this node alone."""
        try:
            if self._first_start is not None:
                self._first_start.hear(frame)
            elif not self.links.active or self.links.admit(frame, self._now_ns):
                self._hand_to_group(frame)
        except FrameError as error:
            self._count_bad("a peer", error)

    def _hand_to_group(self, frame: bytes) -> None:
        frame_type, number = frames.parse_header(frame)
        if frame_type == frames.BUNDLE and self.hosting is not None:
            for part in decode_bundle(frame):
                self._hand_out(part)
        elif frame_type == frames.ROSTER and self.hosting is not None:
            self.hosting.placing.hear(frame)
        else:
            group = self._group(number)
            if group.on_peer_frame(frame_type, frame):
                self._awake[number] = group

    def _hand_out(self, part: bytes) -> None:
        """A frame of several that came as one. If it makes no sense, the others still count."""
        try:
            self._hand_to_group(part)
        except FrameError as error:
            self._count_bad("a peer", error)

    def on_peer_gone(self, address: str) -> None:
        """The connection to ``address``, over which broadcasts were heard, has closed.

        It is told after the frames that came from there, which would be taken for a sign of life. It may come late, be
        wrong, or be missing; only time is lost then.
        """
        for group in self.groups.values():
            group.on_peer_gone(address)
        self._wake_all()

    def on_client_frame(self, route: Route, frame: bytes, sender: Sender = ANYONE, is_late: bool = False) -> None:
        """A frame that a client sent; ``route`` is what its connection is called here, ``sender`` whose key it has.

        ``is_late``: a fault has held it back, and it is due.
        """
        try:
            if self._first_start is not None:
                answer_early(self._first_start, self._settings, self._effects, route, frame, sender)
                return
            frame_type, number = frames.parse_header(frame)
            if is_late or not self.clients.active or self.clients.admit(frame, route, sender, self._now_ns):
                group = self.groups.get(number)
                if group is not None:
                    if self.hosting is not None:
                        self._awake[number] = group
                    if group.on_client_frame(frame_type, route, frame, self._now_ns, sender):
                        self._awake[number] = group
                elif self.hosting is not None and number < self._settings.shards:
                    self.hosting.answer_elsewhere(frame_type, number, route, frame, self._now_ns, sender)
                else:
                    raise FrameError(f"there is no group {number} here")
        except Forbidden as error:
            self._count_bad("a client", error)
        except FrameError as error:
            self._count_bad("a client", error)
            answer = refusal_of(frame, error)
            if answer is not None:
                self._effects.reply(route, answer)

    def on_answer(self, address: str, frame: bytes) -> None:
        """A frame that came back from the node at ``address``, which :meth:`Effects.ask` asked."""
        try:
            frame_type, number = frames.parse_header(frame)
            if frame_type != frames.ANSWER:
                raise FrameError(f"frame type {frame_type:#04x} is no answer")
            answer = control.decode_answer(frame)
            if self._first_start is not None:
                self._first_start.take(address, answer)
                return
            counts = self.hosting is None or self.hosting.take(address, answer)
            if counts and number in self.groups:
                self._group(number).on_answer(address, answer)
        except FrameError as error:
            self._effects.note(f"bad answer from {address}: {error}", is_warning=True)

    def on_signal(self) -> None:
        """End in order (:class:`~zmqlab.engine.departure.Closing`); the second call ends at once."""
        if self._is_closing or not self.groups:
            self.is_over = True
        self._is_closing = True
        if self.hosting is not None:
            self.hosting.begin_to_close()
        for group in self.groups.values():
            group.begin_to_close()
        self._wake_all()

    def _group(self, number: int) -> Group:
        """The group of this number, which a frame came for. Raises FrameError.

        With shards each frame gives its group a turn: when a leader is handed over may depend on it. The only group of
        a node gets one if its replica may have something to do.
        """
        group = self.groups.get(number)
        if group is None:
            raise FrameError(f"there is no group {number} here")
        if self.hosting is not None:
            self._awake[number] = group
        return group

    def _wake_all(self) -> None:
        self._awake = dict(self.groups)

    def _address_of(self, node_id: int) -> str:
        """The base endpoint of a member of any group; empty for any other node."""
        return next(filter(None, (group.peers.address_of(node_id) for group in self.groups.values())), "")

    def _count_bad(self, source: str, error: FrameError) -> None:
        for group in self.groups.values():
            group.counters.bad_frames += 1
        self._bad_logged += 1
        if self._bad_logged <= BAD_FRAMES_LOGGED:
            self._effects.note(f"bad frame from {source}: {str(error)[:200]}", is_warning=True)

    # The turn.

    def turn(self) -> bool:
        """Carry out all that follows from what came in; returns whether there is more to do at once."""
        if self.held.frames:
            self._take_delayed()
        if self._next_tick_ns <= self._now_ns:
            self._let_time_pass()
        if (start := self._first_start) is not None and start.origin is not None:
            self._first_start = None
            self._open_groups(beginning_of(start, start.origin, self._settings))
        if self._settings.shards == 1:
            awake = tuple(self.groups.values())
            more = bool(self._awake) and self.groups[ONLY_GROUP].turn()
            if not more:
                self._awake.clear()
        else:
            awake, self._awake = tuple(self._awake.values()), {}
            more = self._turn_of_groups(awake)
        self._flush(awake)
        if self._is_closing:
            departs = self.hosting is not None and self.hosting.departs
            if not departs and all(group.closing.is_over for group in self.groups.values()):
                self.is_over = True
        if self.groups and self._now_ns >= self._next_snapshot_ns:
            self._publish_statuses()
        return more

    def _turn_of_groups(self, awake: Sequence[Group]) -> bool:
        """One turn of the groups that have something to do. Their parts go together: what they store at one time is one
        transaction.

        For each group the order of its effects is that of :meth:`zmqlab.replica.Replica.turn`. Between two groups no
        order matters, because nothing spans them. A group that nothing has come in for, and that had no more to do
        after its last turn, would find nothing to do: it stays as it is until then. Each tick wakes all.
        """
        flush = self._connections.flush
        for group in awake:
            group.replica.begin_turn()
        groups = awake
        while groups:
            due = [(each, ready) for each in groups if (ready := each.replica.take_ready()) is not None]
            flush()
            to_store = [(each, ready) for each, ready in due if must_store(ready)]
            if to_store:
                with self._journal.together():
                    for group, ready in to_store:
                        group.replica.store(ready)
            for group, ready in due:
                group.replica.send_stored(ready)
            flush()
            groups = []
            for group, ready in due:
                if group.replica.follow_up(ready):
                    self._awake[group.number] = group
                else:
                    groups.append(group)
        for group in awake:
            if group.end_turn():
                self._awake[group.number] = group
        flush()
        return bool(self._awake)

    def _take_delayed(self) -> None:
        """Frames that a faulty link has held back, and whose time has come."""
        for frame, take in islice(self.held.due(self._now_ns), MAX_PER_TURN):
            try:
                take(frame)
            except FrameError as error:
                self._count_bad("a peer", error)

    def _suffer(self, faults: NodeFaults) -> None:
        """What this node itself is to suffer from now on. Raises SettingsError: it can't; nothing has changed then."""
        faults.check()
        self._effects.damage_disk(faults.write_ms, faults.disk_full)
        self._tick_ns = round(self._settings.tick_ms * 1_000_000 / faults.clock_rate)
        self.clients.replace(faults)

    def _let_time_pass(self) -> None:
        ticks = 0
        while self._next_tick_ns <= self._now_ns and ticks < MAX_TICKS_PER_TURN:
            self._tick()
            self._next_tick_ns += self._tick_ns
            ticks += 1
        if self._next_tick_ns <= self._now_ns:
            self._next_tick_ns = self._now_ns + self._tick_ns

    def _tick(self) -> None:
        if self._first_start is not None:
            if self._first_start.origin is None:  # else it asks for more, or founds a cluster after all
                self._first_start.tick()
            return
        for group in self.groups.values():
            group.tick()
        if self.hosting is not None:
            self.hosting.tick(self._now_ns)
        self._wake_all()

    def _flush(self, awake: Sequence[Group]) -> None:
        clock = self._clock
        now_ns = clock()
        self._turns += 1
        if now_ns - self._now_ns > self._turn_ns_max:
            self._turn_ns_max = now_ns - self._now_ns
        turns, turn_ns_max = self._turns, self._turn_ns_max
        for group in awake:
            group.flush(now_ns)
            counters = group.counters
            counters.turns, counters.turn_ns_max = turns, turn_ns_max

    def _publish_statuses(self) -> None:
        self._journal.check()
        self._next_snapshot_ns = self._now_ns + self._snapshot_interval_ns
        self._snapshots_made += 1
        is_logged = self._snapshots_made % LOG_EVERY == 0
        self._told = self._briefs() if self._settings.shards > 1 else None
        for group in self.groups.values():
            group.counters.turns, group.counters.turn_ns_max = self._turns, self._turn_ns_max
            status = group.publish_status()
            if is_logged:
                self._effects.note(log_line(status))
        self._told = None
        if is_logged:
            self._turn_ns_max = 0
            if self._bad_logged > BAD_FRAMES_LOGGED:
                more = self._bad_logged - BAD_FRAMES_LOGGED
                self._effects.note(f"{more} more bad frames in this second", is_warning=True)
            self._bad_logged = 0
