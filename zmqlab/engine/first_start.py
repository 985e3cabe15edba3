"""The first start of a node that may found a cluster: what it is, and whether there is a cluster already.

A node without a journal does not know whether it is new or has lost its disk. If it took up the identity of a member
that has lost its disk, it would vote again in terms in which that member has voted, and acknowledgements of that member
would count although their entries are gone: a majority could then be without an order that was acknowledged. Therefore
*an identity is drawn at random at the first start, and is lost with the journal*. It is stored before any other node is
told of it. A node that comes back without its journal is another node, and can be no more than a new member.

- :class:`Assembly`: one of several founders (``--peers``). All founders must be there once, at the first start, to tell
  each other their identities. They are the first configuration, the same at each of them.
  With shards it is :class:`~zmqlab.engine.group_founding.AssemblyOfShards`.
- :class:`~zmqlab.engine.group_founding.JoiningCluster`: a node that joins a cluster with shards.
- :class:`Founding`: a seed (``--join`` with ``--bootstrap-ms``). It founds a cluster of one, which the others join.

All ask all nodes that they were told of (:class:`~zmqlab.wire.control.StatusQuery`), again and again. A node that has
not decided answers nothing but this question; it counts for no majority.

Those that it was told of may have moved or left by then, while others know it: two founders have founded with it, and
are at other addresses since; or it was taken into a cluster with shards, and the one node that it asks was ended before
it said so. Those others say where they are (HELLO, ROSTER), several times a second, and it asks them, too. Such a frame
counts only if it names this node's identity, which a node of another cluster does not know.

Why a seed, and not ``--bootstrap-expect N``, where N equal nodes agree to begin? With more than N started at once, two
disjoint sets of N can each see themselves as complete, and there are two clusters. Founders are named one by one, and
of seeds there is one that decides.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from zmqlab.endpoints import is_address
from zmqlab.engine.effects import Asking, Effects
from zmqlab.engine.permissions import objection
from zmqlab.engine.status import early_status
from zmqlab.keys import Sender
from zmqlab.raft import Configuration
from zmqlab.replica import Origin
from zmqlab.replica.driver import Route
from zmqlab.replica.replica import request_key
from zmqlab.settings import NodeSettings
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.peer import decode_bundle, decode_hello, decode_roster

ASKS = 6
"""Rounds of an assembly's questions in an election time-out: one every 50 ms with the node's own settings."""
FRESH_ROUNDS = 2
"""An answer may come after the next round has begun: a busy machine takes a tenth of a second for one."""
REMIND_TIMEOUTS = 15
"""In election time-outs, between two lines of the log that say which founders are missing, or that no node answers."""
ROUND_TIMEOUTS = 1.25
"""Between two rounds of a seed's questions."""
FOUNDER, SEED, NEWCOMER = "founder", "seed", "newcomer"
"""Roles in the status of a node that has not decided yet."""
Founders = tuple[tuple[int, str], ...]
"""Identity and base endpoint of each."""
NO_MEMBERS = Configuration(())
"""What a node that joins knows."""
CALLERS_MAX = 16
"""Nodes that were not named, and are asked because they have called this one: as many as a group may have, and one."""


class FirstStart(ABC):
    """What the engine drives until it is decided what this node is.

    It asks all nodes that were named on the command line for their status, in rounds. Names are looked up anew for each
    round, since hosts are starting.
    """

    role: str
    """In the status of this node, as long as it has not decided."""

    def __init__(
        self,
        settings: NodeSettings,
        effects: Asking,
        rng: random.Random,
        own_id: int,
        named: Sequence[str],
        round_ticks: int,
    ) -> None:
        """``named``: base endpoints of the nodes to ask; ``round_ticks``: between two rounds."""
        self.own_id = own_id
        self.origin: Origin | None = None
        """None while it is not decided."""
        self._settings = settings
        self._effects = effects
        self._named = named
        self._nonce = rng.getrandbits(63)
        """Of the first round of questions; that of each later one is one more."""
        self._rounds = 0
        """How often all were asked."""
        self._round_ticks = round_ticks
        self._ticks = 0
        self._asked: dict[str, str] = {}
        """Address that was asked -> the node at it, as it was named."""
        self.callers: dict[str, None] = {}
        """Addresses of nodes that were not named, and that are asked because they have called this one; the latest
        last."""

    def tick(self) -> None:
        """One tick of time: ask all of them again when it is time."""
        if self._ticks % self._round_ticks == 0:
            question = control.encode(frames.QUERY, control.StatusQuery(self._nonce + self._rounds))
            self._rounds += 1
            for name in self._named:
                for address in self._effects.resolve((name,)):
                    if address != self._settings.endpoint:
                        self.callers.pop(address, None)
                        self._asked[address] = name
                        self._effects.ask(address, question)
            for address in self.callers:
                self._asked[address] = address
                self._effects.ask(address, question)
        self._ticks += 1

    def hear(self, frame: bytes) -> None:
        """A frame of a peer: one that knows this node's identity may tell where it is. Raises FrameError."""
        for address in _callers_in(frame, self.own_id):
            self._call_back(address)

    def _call_back(self, address: str) -> None:
        """Ask the node at ``address``, too, from the next round on."""
        if address not in (*self._asked, self._settings.endpoint):
            if len(self.callers) >= CALLERS_MAX:
                self._forget(next(iter(self.callers)))
            self.callers[address] = None

    def _forget(self, caller: str) -> None:
        """Ask it no more, and do not listen to what it still says."""
        del self.callers[caller]
        if self._asked.pop(caller, ""):
            self._effects.hang_up(caller)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        if self.origin is None and isinstance(answer, control.StatusAnswer) and self.has_asked(address, answer.nonce):
            self._meet(address, answer.status, answer.nonce - self._nonce)

    def met(self) -> Founders:
        """What the status of this node tells of the founders of a new cluster: here nothing."""
        return ()

    def has_asked(self, address: str, nonce: int) -> bool:
        """Whether this node has asked that address, in one of its rounds."""
        return address in self._asked and self._nonce <= nonce < self._nonce + self._rounds

    @abstractmethod
    def _meet(self, address: str, status: NodeStatus, asked_in: int) -> None:
        """The node at ``address`` has told its status, to a question of the round ``asked_in``, counted from 0."""

    def _decide(self, configuration: Configuration) -> None:
        """This node is one of these members from now on; without members, a node that joins."""
        self.origin = Origin(self.own_id, configuration)
        for address in sorted(self._asked):
            self._effects.hang_up(address)


def first_start(
    settings: NodeSettings, effects: Asking, rng: random.Random, own_id: int, make_assembly: MakeAssembly
) -> FirstStart | Origin:
    """What a node without a journal has to find out; or what it is, if there is nothing to find out.

    ``make_assembly``: makes what a founder drives until it has met the others.
    """
    if settings.peers:
        return make_assembly(settings, effects, rng, own_id)
    if settings.join and settings.bootstrap_ms:
        return Founding(settings, effects, rng, own_id)
    return Origin(own_id, NO_MEMBERS if settings.join else _alone(own_id, settings))


def _alone(own_id: int, settings: NodeSettings) -> Configuration:
    return Configuration((own_id,), addresses=((own_id, settings.endpoint),))


MakeAssembly = Callable[[NodeSettings, Asking, random.Random, int], FirstStart]


class Assembly(FirstStart):
    """The founders of a cluster meet. All of them must be there at once, one time.

    *At once*: each of the others says that it has not decided either, in answer to one of the last two rounds of
    questions. An older word is worth nothing. Its founder may have founded with the others since, and have ended; one
    of those may have lost its disk, and be another node now. With that one and the old word a second cluster would be
    founded, which has none of the orders of the first.

    *Alike*: with the word goes whom its founder has met last, and where. A founder begins when all others have met the
    same identities at the same addresses as itself. So no two of them begin with different members: one that decides
    had told all others whom it would decide for, and meets no founder again that has another identity since. (The
    addresses matter with shards, which are placed by them.) What remains: a founder that goes to another address and
    back, while another one, paused, keeps a word from in between.

    A founder that alone has lost its disk meets others that have a cluster, and joins it as a new member. While none of
    those others runs it waits, and neither votes nor counts. A founder that was slow, or died as the others founded,
    finds its identity among their *committed* members, and takes them over. They may have changed since the founding:
    its log will tell. A majority of them has the entry that made them the members, so a founder with a shorter log is
    not elected by them. A change that is not committed may be taken back, and then nothing in the log would correct a
    founder that had begun with it.

    The others may be elsewhere by then: a founder that decided alone, as its last answers to the others were lost, may
    have been started again at another address. It asks the others, where it knows them to be, to be taken in there. So
    a founder asks whichever node asks that of it, as it asks those whose frames name it (:attr:`callers`). The word of
    any of them counts only if it names this founder's own identity.
    """

    role = FOUNDER

    def __init__(self, settings: NodeSettings, effects: Asking, rng: random.Random, own_id: int) -> None:
        super().__init__(settings, effects, rng, own_id, settings.peers, max(1, settings.election_ticks // ASKS))
        self._remind_ticks = REMIND_TIMEOUTS * settings.election_ticks
        self._met: dict[str, tuple[int, int, str, Founders]] = {}
        """Other founders that had not decided either, as they were named -> the last round in which they said so, their
        identities and addresses, and whom they had met."""
        self._strangers: set[str] = set()
        """Places of founders at which nodes of other clusters answer."""
        effects.note(f"a first start: waiting for the other founders, {', '.join(settings.peers)}")

    def tick(self) -> None:
        """Ask, and say now and then which founders are missing."""
        super().tick()
        if self._ticks % self._remind_ticks == 0:
            missing = ", ".join(founder for founder in self._settings.peers if founder not in self._there())
            self._effects.note(
                f"still waiting for founders: {missing or 'none is missing now'}. At the first start all founders must"
                " run at the same time. A node that lost its disk waits for a node that has its own",
                is_warning=True,
            )

    def _there(self) -> dict[str, tuple[int, str, Founders]]:
        """The other founders that are there at once, as they were named -> their identities and addresses, and whom
        they had met."""
        oldest = self._rounds - FRESH_ROUNDS
        return {
            name: (node_id, at, met) for name, (asked_in, node_id, at, met) in self._met.items() if asked_in >= oldest
        }

    def met(self) -> Founders:
        """Whom this founder has met last, itself among them."""
        return ((self.own_id, self._settings.endpoint), *((node_id, at) for _, node_id, at, _ in self._met.values()))

    def hear_of(self, address: str, sender: Sender) -> None:
        """The node at ``address`` asks to be taken in: it may have founded, and have gone there since."""
        if is_address(address) and not objection(control.AddMemberQuery, sender):
            self._call_back(address)

    def _meet(self, address: str, status: NodeStatus, asked_in: int) -> None:
        name = self._asked[address]
        if status.node_id == self.own_id:
            return
        if address in self.callers and not (status.members and self.own_id in self._founders_in(status).members):
            return
        if status.cluster != self._settings.cluster:
            self._note_stranger(name, f"a node of the cluster {status.cluster!r}, not of {self._settings.cluster!r}")
        elif (status.shards, status.replication_factor) != (self._settings.shards, self._settings.replication_factor):
            told = f"{status.shards} shards with {status.replication_factor or 'all'} copies"
            self._note_stranger(name, f"a node of {told}: all founders need the same --shards, --replication-factor")
        elif status.members:
            self._meet_status(name, status)
        elif status.role == FOUNDER:
            at = status.address if is_address(status.address) else address
            word = asked_in, status.node_id, at, tuple(status.founders)
            if word[:3] >= self._met.get(name, (-1, 0, "", ()))[:3]:
                self._met[name] = word
            there = self._there().values()
            founders = {self.own_id: self._settings.endpoint, **{node_id: where for node_id, where, _ in there}}
            is_complete = len(founders) == len(self._settings.peers) + 1  # two names of one host are one founder
            if is_complete and all(dict(met) == founders for *_, met in there):
                self._decide(Configuration(tuple(founders), addresses=tuple(founders.items())))

    def _meet_status(self, founder: str, status: NodeStatus) -> None:
        """There may be a cluster already: then this node belongs to it, or it must join it."""
        founders = self._founders_in(status)
        if self.own_id in founders.members:
            self._decide(founders)
        elif founders.members:
            self._come_back(founder, founders, status)

    def _founders_in(self, status: NodeStatus) -> Configuration:
        """Whom a node tells that belongs to a cluster: this node begins with them if it is one of them."""
        return Configuration.decode(status.committed_members) if status.committed_members else NO_MEMBERS

    def _come_back(self, founder: str, founders: Configuration, status: NodeStatus) -> None:
        """There is a cluster, and this node is none of its members: join it."""
        self._effects.note(
            f"{founder} belongs to a cluster that does not know this node: its journal was lost, or it never had"
            " one. It joins as a new member, in the place of the member that had its address",
            is_warning=True,
        )
        self._decide(NO_MEMBERS)

    def _note_stranger(self, founder: str, what: str) -> None:
        if founder not in self._strangers:
            self._strangers.add(founder)
            self._effects.note(f"{founder} is {what}", is_warning=True)


class Founding(FirstStart):
    """The first start of a seed: a node with ``--join`` *and* ``--bootstrap-ms``, and an empty data folder.

    For so long it asks all nodes that it may join whether one of them belongs to a cluster, by its own log. If one
    does, this node joins like any other. If none does, it founds a cluster of one, which the others join.

    Why ask first? A seed that has lost its disk can be told from one that starts for the first time only by what the
    others say. What remains: a seed that has lost its disk *and* reaches no member of its cluster for all that time
    founds a second one. The two never mix, since identities are drawn at random: what the old cluster sends to its lost
    member is not for this one. Nothing that was acknowledged is lost, and the stray cluster can be ended.
    """

    role = SEED

    def __init__(self, settings: NodeSettings, effects: Asking, rng: random.Random, own_id: int) -> None:
        round_ticks = round(ROUND_TIMEOUTS * settings.election_ticks)
        super().__init__(settings, effects, rng, own_id, settings.join, round_ticks)
        self._ends_at = max(1, settings.bootstrap_ms // settings.tick_ms)
        effects.note(f"a first start: is there a cluster at {', '.join(settings.join)}?")

    def tick(self) -> None:
        """Ask; decide when the time is over."""
        if self._ticks < self._ends_at:
            super().tick()
        else:
            self._effects.note("no node there belongs to a cluster: this node founds one")
            self._decide(_alone(self.own_id, self._settings))

    def _meet(self, address: str, status: NodeStatus, asked_in: int) -> None:
        if status.members:
            self._effects.note(f"{address} belongs to a cluster: this node joins it")
            self._decide(NO_MEMBERS)


def _callers_in(frame: bytes, own_id: int) -> Iterator[str]:
    """Where nodes are that introduce themselves to ``own_id``, or have it in their roster. Raises FrameError."""
    frame_type, _ = frames.parse_header(frame)
    if frame_type == frames.BUNDLE:
        for part in decode_bundle(frame):
            yield from _callers_in(part, own_id)
    elif frame_type == frames.HELLO:
        hello = decode_hello(frame)
        if hello.to == own_id:
            yield hello.address
    elif frame_type == frames.ROSTER:
        news = decode_roster(frame)
        if own_id in news.roster.ids:
            yield news.address


def answer_early(
    start: FirstStart, settings: NodeSettings, effects: Effects, route: Route, frame: bytes, sender: Sender
) -> None:
    """A frame of a client that came before it is decided what this node is. Raises FrameError."""
    frame_type, number = frames.parse_header(frame)
    if frame_type == frames.QUERY:
        query = control.decode_query(frame)
        answer: control.Answer
        if isinstance(query, control.StatusQuery):
            status = early_status(settings, start.role, start.own_id, effects.vitals())
            status.founders = list(start.met())
            answer = control.StatusAnswer(query.nonce, status)
        else:
            if isinstance(start, Assembly) and isinstance(query, control.AddMemberQuery):
                start.hear_of(query.address, sender)
            code, said = control.ErrorCode.NOT_LEADER, "this node has not found its cluster yet"
            answer = control.ErrorAnswer(query.nonce, code, said)
        effects.reply(route, control.encode(frames.ANSWER, answer, number))
    else:
        body = client_wire.encode_response(*request_key(frame), 0, client_wire.ResponseStatus.BUSY)
        effects.reply(route, client_wire.encode_responses([body], number))
