"""Hostile frames, made fast and from a seed: real frames gone wrong, and frames that no program of ours would make.

A :class:`Hostile` knows what an eavesdropper could know (ids, term, indexes, a session: :class:`View`), because noise
alone never gets past the first length check. From that it makes a corpus of real frames of every type, and then, per
frame, one of these:

- noise, with and without a good header; a frame of zero bytes, and one at the bound of what the socket takes;
- a real frame cut short, lengthened, with bits flipped, with a field overwritten by a number that hurts (0, 1, 2**32,
  2**63, 2**64 - 1, a real id, term or index and their neighbours), or joined with a piece of another;
- a real message of a type drawn by chance whose every field is drawn from those numbers;
- msgpack bombs: deep nesting, counts of 2**32 - 1 without contents, wrong types, endless strings;
- now and then a message of the wrong number of ZeroMQ frames.

What of this a *legal* peer or client could have said is not for this module to know: see :mod:`tests.fuzz.legal`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from zmqlab.raft import Configuration
from zmqlab.raft.messages import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    ReadIndex,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames, records
from zmqlab.wire.control import LinkFault
from zmqlab.wire.peer import Hello, encode_forward, encode_hello, encode_message
from zmqlab.wire.traces import TraceQuery

SOCKETS = ("clients", "peers", "broadcasts")

STRANGER = 0x5EED
"""An id that no member has."""
BUY = (1, 1, 1, 1, 10, 0, 0x4C504141, 100, 1, 0)  # 10 AAPL at 100
HURTFUL = (0, 1, 2, 255, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
HOSTS = ("127.0.0.1", "localhost", "..", "-", "_", "[::1]", "[", "", "127.0.0.1:1", "a" * 300)
PORTS = (1, 2, 5, 0, 65_533, 65_534, 65_535, 65_536, 99_999)
ODD_MESSAGES_PER_MILLION = 3_000
POOL = 4_000
"""Messages with drawn fields that are kept ready: one costs ten times what a flipped bit does."""


class View(NamedTuple):
    """What an eavesdropper knows of the node that it attacks."""

    node_id: int
    members: tuple[int, ...]
    """All, with the node itself."""
    term: int
    leader_id: int
    last_index: int
    commit_index: int
    round: int
    session: int
    """The id of an open session."""
    addresses: tuple[str, ...] = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")

    @property
    def leads(self) -> bool:
        """Whether the node is the leader."""
        return self.leader_id == self.node_id


Parts = list[bytes]
"""One ZeroMQ message without the sender's identity."""


class Hostile:
    """An endless source of hostile messages for one socket."""

    def __init__(self, socket: str, view: View, rng: random.Random, pool: int = POOL) -> None:
        self._rng = rng
        self._pool_size = pool
        self._socket = socket
        self._numbers: tuple[int, ...] = ()
        self.look(view)
        self._makers: list[tuple[int, Callable[[], bytes]]] = [
            (3, self._noise),
            (5, self._noise_behind_header),
            (15, self._cut),
            (10, self._lengthened),
            (20, self._flipped),
            (25, self._overwritten),
            (8, self._joined),
            (12, self._drawn),
            (2, self._bomb),
        ]

    def look(self, view: View) -> None:
        """The world has moved on: know that from now on."""
        self.view = view
        near = [view.term, view.last_index, view.commit_index, view.round]
        self._numbers = (
            *HURTFUL,
            *view.members,
            STRANGER,
            view.session,
            *near,
            *(n + 1 for n in near),
            max(0, view.term - 1),
        )
        drawn_client, drawn_peer = self._drawn_client_frame, self._drawn_peer_frame
        more = range(self._pool_size // 10)
        clients = [*client_frames(view), *(drawn_client() for _ in more)]
        peers = [*peer_frames(view), *(drawn_peer() for _ in more)]
        self._corpus = clients if self._socket == "clients" else peers
        self._pool = [drawn_client() if self._socket == "clients" else drawn_peer() for _ in range(self._pool_size)]
        if self._socket == "broadcasts":
            appends = [frame for frame in self._corpus if frame[3] == frames.APPEND_ENTRIES]
            self._corpus = appends * 8 + self._corpus
            self._pool = [encode_message(self._drawn_append(BROADCAST)) for _ in range(self._pool_size)]

    def messages(self, count: int) -> Iterator[Parts]:
        """``count`` messages of one frame, and a few of another number of frames."""
        rng = self._rng
        weights = [weight for weight, _ in self._makers]
        makers = rng.choices([maker for _, maker in self._makers], weights, k=count)
        for maker in makers:
            frame = maker()
            if rng.random() * 1e6 < ODD_MESSAGES_PER_MILLION:
                yield [frame] * rng.choice((2, 3, 50))
            else:
                yield [frame]

    # One frame.

    def _noise(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.002:
            return rng.randbytes(rng.choice((0, frames.MAX_CLIENT_FRAME_BYTES, frames.MAX_CLIENT_FRAME_BYTES + 1)))
        return rng.randbytes(rng.randrange(100))

    def _noise_behind_header(self) -> bytes:
        rng = self._rng
        return frames.header(rng.randrange(0x24), rng.random() < 0.02) + rng.randbytes(rng.randrange(120))

    def _real(self) -> bytes:
        return self._corpus[int(self._rng.random() * len(self._corpus))]

    def _cut(self) -> bytes:
        frame = self._real()
        return frame[: int(self._rng.random() * len(frame))]

    def _lengthened(self) -> bytes:
        return self._real() + self._rng.randbytes(1 + int(self._rng.random() * 64))

    def _flipped(self) -> bytes:
        rng, frame = self._rng, bytearray(self._real())
        for _ in range(1 + int(rng.random() * 4)):
            frame[int(rng.random() * len(frame))] ^= 1 << int(rng.random() * 8)
        return bytes(frame)

    def _overwritten(self) -> bytes:
        rng, frame = self._rng, bytearray(self._real())
        width = rng.choice((1, 2, 4, 8, 8, 8))
        fields = max(1, (len(frame) - frames.HEADER_BYTES) // width)
        offset = frames.HEADER_BYTES + width * int(rng.random() * fields)
        if rng.random() < 0.3:
            offset = int(rng.random() * len(frame))
        number = rng.choice(self._numbers) & ((1 << 8 * width) - 1)
        frame[offset : offset + width] = number.to_bytes(width, "little")
        return bytes(frame)

    def _joined(self) -> bytes:
        rng, first, second = self._rng, self._real(), self._real()
        return first[: int(rng.random() * len(first))] + second[int(rng.random() * len(second)) :]

    def _drawn(self) -> bytes:
        return self._pool[int(self._rng.random() * len(self._pool))]

    def _bomb(self) -> bytes:
        return frames.header(frames.QUERY) + self._rng.choice(BOMBS)

    # Messages with drawn fields.

    def _number(self) -> int:
        return self._rng.choice(self._numbers)

    def _address(self) -> str:
        return f"tcp://{self._rng.choice(HOSTS)}:{self._rng.choice(PORTS)}"

    def _drawn_client_frame(self) -> bytes:
        rng, number = self._rng, self._number
        kind = rng.randrange(12)
        if kind == 0:
            command = [number() % (1 << 8 * width) for width in (1, 1, 1, 1, 4, 8, 8, 7, 4, 4)]
            batch = records.pack_commands([command]) * rng.choice((0, 1, 2, 1_024, 1_025))
            return client_wire.encode_request(number(), number(), number(), batch)
        if kind == 1:
            return frames.header(frames.OPEN_SESSION) + rng.randbytes(rng.choice((0, 7, 9)))
        symbol = rng.choice(("AAPL", "", "\0", "é", "A" * 9, "a", "A" * 60_000, "NONE"))
        query: control.Query = rng.choice(
            (
                control.BookQuery(number(), symbol, number() - 2**63, rng.random() < 0.5),
                control.TradesQuery(number(), symbol, rng.random() < 0.5),
                control.LogQuery(number(), number(), 1 + number() % 2_000),
                control.HashQuery(number()),
                control.StatusQuery(number()),
                control.TransferQuery(number(), number()),
                control.AddMemberQuery(number(), number(), self._address(), rng.choice(("x", "", "é" * 9_000, "\n\0"))),
                control.AddMemberQuery(number(), STRANGER, self._address(), "x"),
                control.RemoveMemberQuery(number(), number()),
                control.LinkFaultsQuery(number(), [LinkFault(sender=self._address(), cut=True, loss=number())]),
                TraceQuery(
                    number(), rng.choice((0.0, 1.0, -1.0, float("nan"))), number(), number(), rng.random() < 0.5
                ),
                TraceQuery(number(), 1.0, 60.0, 20_000, True),
            )
        )
        return control.encode(frames.QUERY, query)

    def _drawn_to(self) -> int:
        return self.view.node_id if self._rng.random() < 0.8 else self._number()

    def _drawn_peer_frame(self) -> bytes:
        rng, view, number = self._rng, self.view, self._number
        sender = rng.choice((*view.members, *view.members, number()))
        fixed = (sender, self._drawn_to(), rng.choice((view.term, view.term, number())))
        kind = rng.randrange(12)
        if kind == 10:
            name = rng.choice(("x", "", "\n\0", "é" * 40))
            return encode_hello(Hello(sender, fixed[1], self._address(), name))
        if kind == 11:
            inner = rng.choice((b"", b"x", client_wire.encode_request(number(), 1, 1, records.pack_commands([BUY]))))
            return encode_forward(sender, [inner] * rng.randrange(3))
        flag, other = rng.random() < 0.5, rng.random() < 0.5
        messages: tuple[Callable[[], Message], ...] = (
            lambda: self._drawn_append(fixed[1]),
            lambda: self._drawn_snapshot(fixed),
            lambda: AppendEntriesResponse(*fixed, number(), flag, number(), number(), number()),
            lambda: RequestVote(*fixed, number(), number(), flag, other),
            lambda: RequestVoteResponse(*fixed, flag, other),
            lambda: InstallSnapshotResponse(*fixed, number(), number(), number(), flag),
            lambda: TimeoutNow(*fixed),
            lambda: ReadIndex(*fixed, number()),
            lambda: ReadIndexResponse(*fixed, number(), number()),
        )
        return encode_message(messages[kind % len(messages)]())

    def _drawn_append(self, to: int) -> AppendEntries:
        rng, view, number = self._rng, self.view, self._number
        sender = rng.choice((*view.members, number()))
        prev_index = rng.choice((view.last_index, number()))
        term = rng.choice((view.term, number()))
        entries = tuple(
            Entry(prev_index + 1 + i, rng.choice((view.term, number())), rng.choice(tuple(EntryKind)), b"")
            for i in range(rng.randrange(3))
        )
        entries = tuple(
            entry._replace(data=self._drawn_configuration()) if entry.kind == EntryKind.CONFIGURATION else entry
            for entry in entries
        )
        prev_term = rng.choice((view.term, number()))
        return AppendEntries(sender, to, term, prev_index, prev_term, number(), 7, entries, number())

    def _drawn_snapshot(self, fixed: tuple[int, int, int]) -> InstallSnapshot:
        rng, number = self._rng, self._number
        data = rng.randbytes(rng.choice((0, 1, 100)))
        return InstallSnapshot(
            *fixed, number(), number(), number(), number(), rng.random() < 0.5, data, self._drawn_configuration()
        )

    def _drawn_configuration(self) -> bytes:
        rng, view = self._rng, self.view
        if rng.random() < 0.2:
            return struct.pack("<HH", 65_535, rng.choice((0, 65_535))) + rng.randbytes(40)
        members = [*view.members, STRANGER][: rng.randrange(len(view.members) + 2)]
        return Configuration(tuple(members), (), tuple((member, self._address()) for member in members)).encode()


def client_frames(view: View) -> list[bytes]:
    """Real frames of clients, one or more of each type, and what no client sends."""
    request = client_wire.encode_request(view.session, 9_000, 9_000, records.pack_commands([BUY]))
    queries: list[control.Query] = [
        control.StatusQuery(1),
        control.BookQuery(2, "AAPL", 5),
        control.BookQuery(2, "AAPL", 5, False),
        control.TradesQuery(3, "AAPL"),
        control.LogQuery(4, 1, 300),
        control.HashQuery(5),
        control.TransferQuery(6, view.leader_id),
        control.AddMemberQuery(7, STRANGER, "tcp://127.0.0.1:5000", "node9"),
        control.RemoveMemberQuery(8, view.node_id),
        control.LinkFaultsQuery(9, [LinkFault(sender=address, cut=True) for address in view.addresses]),
        TraceQuery(10, 0.5, 5.0),
    ]
    body = client_wire.encode_response(view.session, 1, 5)
    return [
        *[request] * 4,
        client_wire.encode_request(view.session, 9_001, 9_000, records.pack_commands([BUY] * 20)),
        client_wire.encode_open_session(77),
        *(control.encode(frames.QUERY, query) for query in queries),
        client_wire.encode_responses([body]),
        control.encode(frames.ANSWER, control.OkAnswer(1)),
        control.encode(frames.EVENT, control.Event(time_ns=1, node="x", kind="y")),
    ]


def peer_frames(view: View) -> list[bytes]:
    """Real frames between nodes, to the node that is attacked, one or more of each type."""
    other = next((member for member in view.members if member != view.node_id), STRANGER)
    leader = view.leader_id if view.leader_id != view.node_id else other
    fixed, led = (other, view.node_id, view.term), (leader, view.node_id, view.term)
    members = Configuration(view.members, (), tuple((member, "tcp://127.0.0.1:1") for member in view.members))
    request = client_wire.encode_request(view.session, 9_000, 9_000, records.pack_commands([BUY]))
    entries = (
        Entry(view.last_index + 1, view.term, EntryKind.DATA, request),
        Entry(view.last_index + 2, view.term, EntryKind.CONFIGURATION, members.encode()),
    )
    place = (view.last_index, view.term, view.commit_index, view.round)
    messages: list[Message] = [
        AppendEntries(*led, *place, ()),
        AppendEntries(*led, *place, entries),
        AppendEntries(leader, BROADCAST, view.term, *place, entries, view.last_index + 2),
        AppendEntriesResponse(*fixed, view.round, True, view.last_index, 0, 0),
        AppendEntriesResponse(*fixed, view.round, False, view.last_index, view.term, view.last_index),
        RequestVote(*fixed, view.last_index, view.term, False, False),
        RequestVote(*fixed, view.last_index, view.term, True, False),
        RequestVoteResponse(*fixed, True, False),
        InstallSnapshot(*led, view.round, view.last_index, view.term, 0, True, b"snapshot", members.encode()),
        InstallSnapshotResponse(*fixed, view.round, view.last_index, 8, True),
        TimeoutNow(*led),
        ReadIndex(*fixed, 1),
        ReadIndexResponse(*led, 1, view.commit_index),
    ]
    return [
        *map(encode_message, messages),
        encode_forward(other, [request, request]),
        encode_hello(Hello(other, view.node_id, "tcp://127.0.0.1:1", "node1")),
        encode_hello(Hello(STRANGER, view.node_id, "tcp://127.0.0.1:1", "node9")),
        control.encode(frames.METRICS, control.Event(time_ns=1, node="x", kind="y")),
    ]


def _bombs() -> list[bytes]:
    pack = msgspec.msgpack.encode
    query = pack({"op": "link_faults", "nonce": 1, "links": []})
    wrong: list[object] = [None, 1, -1, 1.5, "x", [], {}, {"op": 1}, {"op": "none"}, {"op": "status"}]
    for operation in ("status", "book", "trades", "log", "hash", "transfer", "add_member", "remove_member"):
        wrong += [{"op": operation, "nonce": bad} for bad in (None, -1.5, "1", 2**64 - 1, -(2**63), [1], {"a": 1})]
    return [
        b"",
        b"\xc1",
        b"\x91" * 60_000,  # arrays within arrays
        b"\x81\xa1x" * 20_000,  # maps within maps
        b"\xdd\xff\xff\xff\xff",  # an array of 2**32 - 1 elements, none of which is there
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        query[:-1] + b"\xdd\xff\xff\xff\xff",
        query[:-1] + b"\xdd\xff\xff\xff\xff" + b"\xc0" * 1_000,
        b"\x82\xa2op\xa6status\xa1z" + b"\x91" * 50_000,  # nesting in a field that is skipped
        b"\x82\xa2op\xa6status\xa5nonce\xd9\xff" + b"9" * 255,
        b"\x82\xa2op\xdb\x00\x00\xf0\x00" + b"s" * 61_440,
        *map(pack, wrong),
    ]


BOMBS = _bombs()
