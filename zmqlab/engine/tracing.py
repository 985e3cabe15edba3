"""What a group tells of itself while it is traced: its messages at the edge, and its steps.

A :class:`Tracing` exists only while a lease goes on (:mod:`zmqlab.wire.traces`). Otherwise the group's attribute
``tracing``, and the replica's ``steps``, are None, and a message costs one look at them.

Rules. Tracing decides nothing: it is told, it reads, and it publishes. It draws no number, changes no object of the
group, and sees a frame only after the frame was checked. So a node that is traced does what it would have done.

*What belongs to a traced request.* Frames of clients and FORWARD name their requests. Of an AppendEntries the entries
are looked at; its rounds and the indexes of such entries are remembered, so that answers, commits and later copies of a
message are known again. Both memories are bounded: an answer that comes after thousands of others is not traced.

*Cost.* With a share of one request in a hundred it is mostly a hash for each entry, twice on each node.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from zmqlab.raft import Ready, Role
from zmqlab.raft.append_entries import NO_ROUND
from zmqlab.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.replica import Replication
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.frames import OPEN_SESSION, REQUEST, topic
from zmqlab.wire.traces import (
    Direction,
    TraceBuffer,
    TraceKind,
    TraceQuery,
    TraceRecord,
    encode_trace,
    is_sampled,
)

MEMORY = 4_096
"""Rounds, and indexes, that are remembered: of so many messages the answers may be outstanding."""
UNKNOWN = -1
"""The vote of a node that has stored none since its trace began."""
NO_REQUEST = (0, 0)
_REQUEST, _NONCE = struct.Struct("<8xQQ"), struct.Struct("<8xQ")
"""Client and number of a REQUEST, the nonce of an OPEN_SESSION, behind their headers."""
_IS_REQUEST, _OPENS_SESSION = topic(REQUEST), topic(OPEN_SESSION)
_DATA = int(EntryKind.DATA)
_ANSWER = struct.Struct("<QQQB")
"""The beginning of a response body: client, number, log index, status."""
_ROLES = {
    Role.FOLLOWER: TraceKind.FOLLOWER,
    Role.PRE_CANDIDATE: TraceKind.PRE_CANDIDATE,
    Role.CANDIDATE: TraceKind.CANDIDATE,
    Role.LEADER: TraceKind.LEADER,
}
_OUT, _IN, _STEP = Direction.OUT, Direction.IN, Direction.STEP
Key = tuple[int, int]
K = TypeVar("K")
V = TypeVar("V")


class Tracing:
    """See the module. Owned by one group, for as long as a lease goes on."""

    def __init__(self, group: int, name: str, replication: Replication, clock: Callable[[], int]) -> None:
        """``replication``: of the group; it is only read. ``clock``: the engine's; traces to compare have one."""
        self._group = group
        self._name = name
        self._replication = replication
        self._clock = clock
        self._role = self._role_now()
        """As told last."""
        self._buffer = TraceBuffer(clock())
        self._rounds: dict[tuple[int, int], None] = {}
        """(term, round) of the messages that are traced, the newest last."""
        self._indexes: dict[int, Key] = {}
        """Log index -> the request that stands there, (0, 0) for an entry that is none; of the entries that are
        traced."""
        self._vote = (replication.term, UNKNOWN)
        """Term and vote, as stored last."""

    def want(self, query: TraceQuery) -> None:
        """A lease begins or goes on. Raises SettingsError if the query makes no sense."""
        self._buffer.want(query, self._clock())

    def is_on(self) -> bool:
        """Whether a lease goes on."""
        return self._buffer.is_on(self._clock())

    def frame(self, time_ns: int) -> bytes:
        """The next TRACE frame; ``time_ns`` is the wall clock."""
        node_id = self._replication.node_id
        return encode_trace(self._buffer.take(self._name, node_id, self._clock(), time_ns), self._group)

    # Requests of clients.

    def took(self, frame_type: int, frame: bytes) -> None:
        """A client's request has come in."""
        kind = TraceKind.OPEN_SESSION if frame_type == OPEN_SESSION else TraceKind.REQUEST
        self._request(kind, _IN, 0, frame)

    def forwards(self, leader_id: int, requests: Iterable[bytes]) -> None:
        """These requests leave for the leader."""
        for frame in requests:
            self._request(TraceKind.FORWARD, _OUT, leader_id, frame)

    def forwarded(self, sender: int, requests: Iterable[bytes]) -> None:
        """These requests have come from the node that took them."""
        for frame in requests:
            self._request(TraceKind.FORWARD, _IN, sender, frame)

    def _request(self, kind: TraceKind, direction: Direction, peer: int, frame: bytes) -> None:
        key = self._sampled(frame)
        if key is not None:
            self._add(kind, direction, peer, client=key[0], number=key[1], size=len(frame))

    def answers(self, bodies: Iterable[bytes]) -> None:
        """These response bodies leave for a client."""
        for body in bodies:
            client, number, index, status = _ANSWER.unpack_from(body)
            if is_sampled(client, number, self._buffer.threshold):
                fields = {"last_index": index, "client": client, "number": number, "size": len(body)}
                self._add(TraceKind.RESPONSES, _OUT, 0, accepted=status == ResponseStatus.OK, **fields)

    # Messages between nodes.

    def heard(self, message: Message, size: int) -> None:
        """A message of a peer has come in, and was checked."""
        self._message(_IN, message.sender, message, size)

    def sends(self, message: Message, size: int) -> None:
        """A message leaves. A new role comes first: it is why the message leaves."""
        self.note_role()
        self._message(_OUT, message.to, message, size)

    def _message(self, direction: Direction, peer: int, message: Message, size: int) -> None:
        term = message.term
        match message:
            case AppendEntries():
                self._append(direction, peer, message, size)
            case AppendEntriesResponse():
                if (term, message.round) in self._rounds:
                    fields = {"last_index": message.index, "round": message.round, "accepted": message.success}
                    self._add(TraceKind.APPEND_ENTRIES_RESPONSE, direction, peer, term, size=size, **fields)
            case RequestVote():
                kind = TraceKind.PRE_VOTE if message.pre_vote else TraceKind.REQUEST_VOTE
                self._add(kind, direction, peer, term, last_index=message.last_index, size=size)
            case RequestVoteResponse():
                kind = TraceKind.PRE_VOTE_RESPONSE if message.pre_vote else TraceKind.REQUEST_VOTE_RESPONSE
                self._add(kind, direction, peer, term, accepted=message.granted, size=size)
            case TimeoutNow():
                self._add(TraceKind.TIMEOUT_NOW, direction, peer, term, size=size)
            case InstallSnapshot():
                fields = {"last_index": message.snapshot_index, "round": message.round}
                self._add(TraceKind.INSTALL_SNAPSHOT, direction, peer, term, size=size, **fields)
            case InstallSnapshotResponse():
                fields = {"last_index": message.snapshot_index, "round": message.round}
                self._add(TraceKind.INSTALL_SNAPSHOT_RESPONSE, direction, peer, term, size=size, **fields)

    def _append(self, direction: Direction, peer: int, message: AppendEntries, size: int) -> None:
        entries = message.entries
        traced = self._traced_in(entries)
        if not traced and (entries or not self._buffer.heartbeats):
            return
        if message.round == NO_ROUND:  # a notice: what it tells is committed tells it from the next one
            told = min(message.commit_index, message.prev_index)
            self._add(TraceKind.APPEND_ENTRIES, direction, peer, message.term, last_index=told, size=size)
            return
        _remember(self._rounds, (message.term, message.round), None)
        client, number = next(filter(any, traced), NO_REQUEST)
        first, last = (entries[0].index, entries[-1].index) if entries else (0, 0)
        fields = {"first_index": first, "last_index": last, "client": client, "number": number, "size": size}
        self._add(TraceKind.APPEND_ENTRIES, direction, peer, message.term, round=message.round, **fields)

    def _traced_in(self, entries: Sequence[Entry]) -> list[Key]:
        """The traced requests among ``entries``, (0, 0) for an entry that is none. Their places are remembered."""
        found = []
        for index, _, kind, data in entries:
            key = self._sampled(data) if kind == _DATA else NO_REQUEST
            if key is not None:
                found.append(key)
                _remember(self._indexes, index, key)
        return found

    def _sampled(self, frame: bytes) -> Key | None:
        """The request in ``frame``, if it is traced. What a person's own replication puts into its log need be none."""
        if frame[:4] == _IS_REQUEST and len(frame) >= _REQUEST.size:
            client, number = _REQUEST.unpack_from(frame)
        elif frame[:4] == _OPENS_SESSION and len(frame) >= _NONCE.size:
            client, number = 0, _NONCE.unpack_from(frame)[0]
        else:
            return None
        return (client, number) if is_sampled(client, number, self._buffer.threshold) else None

    # Steps; see :class:`zmqlab.replica.driver.Steps`.

    def stored(self, ready: Ready) -> None:
        """Term and vote, or entries, are in the journal."""
        state, entries = ready.hard_state, ready.entries
        if state is not None:
            before, self._vote = self._vote, (state.term, state.voted_for)
            if self._vote != before and before != (state.term, UNKNOWN):
                self._add(TraceKind.STORED, _STEP, state.voted_for, state.term)
        self._step(TraceKind.STORED, entries, self._traced_in(entries))

    def committed(self, entries: Sequence[Entry]) -> None:
        """These entries may be applied."""
        indexes = self._indexes
        traced = [indexes[entry.index] for entry in entries if entry.index in indexes]
        self._step(TraceKind.COMMITTED, entries, traced)

    def applied(self, entry: Entry, key: Key) -> None:
        """The request ``key`` is executed."""
        if is_sampled(*key, self._buffer.threshold):
            fields = {"first_index": entry.index, "last_index": entry.index, "client": key[0], "number": key[1]}
            self._add(TraceKind.APPLIED, _STEP, 0, entry.term, **fields)

    def note_role(self) -> None:
        """Tell of another role, term or leader, if there is one since the last call."""
        now = self._role_now()
        if now != self._role:
            self._role = now
            role, term, leader_id = now
            self._add(_ROLES[role], _STEP, leader_id, term)

    def _role_now(self) -> tuple[Role, int, int]:
        replication = self._replication
        return replication.role, replication.term, replication.leader_id

    def _step(self, kind: TraceKind, entries: Sequence[Entry], traced: Sequence[Key]) -> None:
        if traced:
            client, number = next(filter(any, traced), NO_REQUEST)
            first, last = entries[0].index, entries[-1].index
            fields = {"first_index": first, "last_index": last, "client": client, "number": number}
            self._add(kind, _STEP, 0, entries[-1].term, **fields)

    def _add(self, kind: TraceKind, direction: Direction, peer: int, term: int = 0, **fields: int) -> None:
        self._buffer.add(TraceRecord(self._clock(), kind, direction, peer, term, **fields))  # type: ignore[arg-type]


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    """As the newest; the oldest goes where there are too many."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MEMORY:
        del memory[next(iter(memory))]
