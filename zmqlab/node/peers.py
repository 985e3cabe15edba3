"""Who the other members are, where they are, and who may say what: follows the configuration as Raft has it.

The members' addresses stand in the configuration (:class:`zmqlab.raft.Configuration`), so that every node learns of a
change from the log itself. Two things can't come from the log:

- *A leader that this node does not know yet.* A node that was away may have a log from before its leader was taken in.
  It can't answer such a leader, and the leader can't repair a log without answers. So each node says HELLO to every
  member now and then, with its address, and a node connects to whoever introduces himself (to a few at a time).
- *Names*, which are for people: HELLO carries them too.

Nor can *an election*, when members come back at other addresses than their logs say: to commit where they are takes a
leader, and to elect one takes to reach them. So while no leader is known, and where the log has no address, a member is
believed that says where it is, by HELLO or by asking to be moved (:meth:`Peers.note_moved`); the log has the last word.

Who is heard. A broadcast counts only if a member sent it: a SUB socket connects to addresses, and what listens there
might be a stranger by now. What is sent to this node alone carries its id of 64 bits, which only its cluster knows, and
is handed to Raft whoever sent it: Raft's own rules (terms, pre-votes) make messages of former members harmless.

What no node that keeps the rules can say is refused before it gets there, since Raft takes such a contradiction for a
broken invariant, and the node would stop: a second leader of a term, an answer to what was not asked, a log that
disagrees with what is committed, a term that no number of elections explains.
"""

from __future__ import annotations

from collections.abc import Iterable

from zmqlab.errors import FrameError
from zmqlab.node.transport import Transport
from zmqlab.raft import Configuration, Raft, Role
from zmqlab.raft.messages import (
    BROADCAST,
    NOBODY,
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    TimeoutNow,
)
from zmqlab.settings import NodeSettings, parse_endpoint
from zmqlab.wire.control import Member
from zmqlab.wire.peer import Hello, encode_hello

HELLO_TICKS = 25
"""Between two HELLOs: a quarter of a second with ticks of 10 ms."""
FIRST_HELLO_TICK = 5
"""When connections have had the time to be made."""
MAX_STRANGERS = 16
MAX_NAME = 32
MAX_TERMS_AHEAD = 1 << 32
"""An election a millisecond needs 49 days for so many; and a forged term can't use up the 64 bits that there are."""


class Peers:
    """The other members of one node's group."""

    def __init__(self, settings: NodeSettings, transport: Transport, raft: Raft) -> None:
        self._settings = settings
        self._transport = transport
        self._raft = raft
        self._names = {raft.node_id: settings.name}
        self._followed: Configuration | None = None
        self._members: frozenset[int] = frozenset()
        self._moved: dict[int, str] = {}
        """Where members say that they are, other than the configuration says."""
        self._introduced_at = -1
        """The tick at which a connection was last made on somebody's word."""
        self.follow()

    def follow(self) -> tuple[int, ...]:
        """Connect to new members and leave those that are gone; to be called once a turn.

        Returns those that were promoted since the last call.
        """
        configuration = self._raft.configuration
        if configuration is self._followed:
            return ()
        before, self._followed = self._followed, configuration
        self._members = frozenset(configuration.members)
        known = dict(configuration.addresses)
        self._moved = {
            member: at for member, at in self._moved.items() if member in self._members and known.get(member) != at
        }
        self._connect()
        return tuple(voter for voter in configuration.voters if before and voter in before.learners)

    def _connect(self) -> None:
        addresses = dict(self._raft.configuration.addresses) | self._moved
        self._transport.follow({member: at for member, at in addresses.items() if member != self._raft.node_id})

    def note_moved(self, node_id: int, address: str) -> None:
        """A node says where it is. Believed of a member if no leader is there to commit it; see the module."""
        known = dict(self._raft.configuration.addresses).get(node_id, "")
        is_news = node_id in self._members and node_id != self._raft.node_id and self.address_of(node_id) != address
        is_due = self._raft.ticks != self._introduced_at
        if is_news and is_due and (not known or not self._raft.leader_id):
            self._introduced_at = self._raft.ticks
            self._moved.pop(node_id, None)
            if known != address:
                self._moved[node_id] = address
            self._connect()

    @property
    def elsewhere(self) -> frozenset[int]:
        """Members that are known not to be where the configuration says, this node among them."""
        own_id = self._raft.node_id
        own = dict(self._raft.configuration.addresses).get(own_id, self._settings.endpoint)
        return frozenset(self._moved) | ({own_id} if own != self._settings.endpoint else set())

    def tick(self) -> None:
        """Say HELLO when it is time."""
        if self._raft.ticks % HELLO_TICKS == FIRST_HELLO_TICK:
            own_id = self._raft.node_id
            for member in self._members - {own_id}:
                hello = Hello(own_id, member, self._settings.endpoint, self._settings.name)
                self._transport.send_to(member, encode_hello(hello))

    def take_hello(self, hello: Hello) -> None:
        """Somebody introduces himself. Raises FrameError if it is not meant for this node."""
        if hello.to != self._raft.node_id or hello.sender in (0, hello.to):
            raise FrameError(f"a hello to {hello.to:#x} came here")
        if hello.sender in self._members:
            self.note_name(hello.sender, hello.name)
            self.note_moved(hello.sender, hello.address)
        elif self._raft.ticks != self._introduced_at and self._transport.introduce(hello.sender, hello.address):
            self._introduced_at = self._raft.ticks  # one a tick: libzmq gives sockets back with a delay

    def expect_message(self, message: Message) -> None:
        """Raise FrameError unless ``message`` may be handed to Raft; see the module."""
        if message.to == BROADCAST:
            self.expect_member(message.sender)
        elif message.to != self._raft.node_id:
            raise FrameError(f"a message to {message.to:#x} came here")
        _expect_plausible(self._raft, message)

    def expect_member(self, sender: int) -> None:
        """Raise FrameError unless ``sender`` is another member."""
        if sender not in self._members or sender == self._raft.node_id:
            raise FrameError(f"{sender:#x} is no other member of this cluster: do all nodes have the same --peers?")

    def note_name(self, node_id: int, name: str) -> None:
        """A node has said what it is called; the names of a few that are no members yet are kept."""
        strangers = [known for known in self._names if known not in self._members and known != self._raft.node_id]
        if len(strangers) >= MAX_STRANGERS:
            del self._names[strangers[0]]
        self._names[node_id] = name[:MAX_NAME]

    def name_of(self, node_id: int) -> str:
        """The name of a member that has introduced itself; else empty."""
        return self._names.get(node_id, "") if node_id in self._members else ""

    def address_of(self, node_id: int) -> str:
        """The base endpoint of a member; empty if it is none."""
        return self._moved.get(node_id) or dict(self._raft.configuration.addresses).get(node_id, "")

    def table(self) -> list[Member]:
        """All members with what a leader knows of each, in the order of their addresses."""
        return list(self._rows())

    def _rows(self) -> Iterable[Member]:
        raft = self._raft
        progress = raft.progress if raft.role is Role.LEADER else {}
        for node_id, address in sorted(raft.configuration.addresses, key=lambda pair: parse_endpoint(pair[1])):
            host, port = parse_endpoint(address)
            known = progress.get(node_id)
            yield Member(
                node_id=node_id,
                name=self.name_of(node_id),
                host=host,
                port=port,
                match_index=known.match_index if known else 0,
                state=known.state.name.lower() if known else "",
                voter=node_id in raft.configuration.voters,
            )


def _expect_plausible(raft: Raft, message: Message) -> None:
    """Raise FrameError if no node that keeps Raft's rules can have sent ``message``, by all that is known here."""
    sender, term = message.sender, message.term
    if sender in (NOBODY, raft.node_id):
        raise FrameError(f"a message from {sender:#x} came here")
    if term > raft.term + MAX_TERMS_AHEAD:
        raise FrameError(f"term {term} is too far from {raft.term}")
    if isinstance(message, AppendEntries | InstallSnapshot | TimeoutNow):
        if term == raft.term and raft.leader_id not in (NOBODY, sender):
            raise FrameError(f"{sender:#x} says that it leads in term {term}, but {raft.leader_id:#x} does")
        if isinstance(message, AppendEntries):
            _expect_same_past(raft, message)
    elif isinstance(message, AppendEntriesResponse | InstallSnapshotResponse) and term == raft.term:
        _expect_asked(raft, message)


def _expect_same_past(raft: Raft, message: AppendEntries) -> None:
    """What is committed here stands in the log of every later leader (thesis, 3.6.3)."""
    covered = raft.commit_index - message.prev_index
    if message.term < raft.term or not 0 < covered <= len(message.entries):
        return
    entry = message.entries[covered - 1]
    if not raft.log.matches(entry.index, entry.term):
        raise FrameError(f"{message.sender:#x} has another entry {entry.index} than the one that is committed")


def _expect_asked(raft: Raft, message: AppendEntriesResponse | InstallSnapshotResponse) -> None:
    """An answer is to something that this leader has said, and tells of nothing that it does not have."""
    progress = raft.progress.get(message.sender)
    if progress is None:
        return
    if message.round > raft.round:
        raise FrameError(f"round {message.round} is answered before it was begun")
    if isinstance(message, AppendEntriesResponse):
        is_beyond = message.success and message.index > raft.last_index
    else:
        snapshot = progress.snapshot
        is_beyond = snapshot is not None and message.offset > len(snapshot.data)
    if is_beyond:
        raise FrameError(f"{message.sender:#x} says that it has more than this leader")
