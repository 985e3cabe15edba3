"""One replica: what waits when a snapshot comes, answers to an earlier life, a long log after a restart."""

from __future__ import annotations

import random
from collections.abc import Iterable

from zmqlab.market.types import symbol_code
from zmqlab.raft import (
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    HardState,
    Message,
    RaftSettings,
    ReadIndex,
    ReadIndexResponse,
)
from zmqlab.raft.messages import BROADCAST, Entry, EntryKind, InstallSnapshot, RequestVote, RequestVoteResponse
from zmqlab.replica import Applied, MemoryJournal, RaftByQuorum, Replica, ReplicaSettings, Start, StateMachine
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

ORDER = records.pack_commands([(1, 1, 1, 1, 5, 0, symbol_code("AAA"), 100, 7, 0)])
MEMBERS = Configuration((1, 2, 3))


class Effects:
    """A driver that keeps what it is given."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, bytes]] = []
        self.forwarded: list[bytes] = []
        self.asked: list[int] = []
        """Contexts of reads that the leader was asked about."""
        self.votes: list[RequestVoteResponse] = []

    def send(self, messages: Iterable[Message]) -> None:
        messages = list(messages)
        self.votes += [message for message in messages if isinstance(message, RequestVoteResponse)]
        self.asked += [message.context for message in messages if isinstance(message, ReadIndex)]

    def forward(self, leader_id: int, requests: list[bytes]) -> None:
        self.forwarded += requests

    def answer(self, answers: list[tuple[bytes, bytes]]) -> None:
        self.answers += answers

    def applied(self, entry: Entry, applied: Applied) -> None:
        """Nobody counts."""


def make_replica(
    effects: Effects,
    journal: MemoryJournal | None = None,
    *,
    node_id: int = 1,
    seed: int = 1,
    raft: RaftSettings | None = None,
    settings: ReplicaSettings | None = None,
) -> Replica:
    """A replica that starts from what the journal holds."""
    journal = journal or MemoryJournal()
    rng = random.Random(seed)
    replication = RaftByQuorum(Start(node_id, MEMBERS, journal.load(), raft or RaftSettings(), rng))
    return Replica(
        replication, StateMachine(), journal, effects, settings or ReplicaSettings(), first_context=rng.getrandbits(62)
    )


def test_a_snapshot_answers_what_waits() -> None:
    """Requests 1 and 2 wait here and were applied elsewhere; the client has the answer of the first already.

    Otherwise each resend would write both into the log again, and a node that is far behind could fill the log faster
    than it catches up (found by ``zmqlab.sim``, seed 1338).
    """
    elsewhere = StateMachine()
    frames = [
        client_wire.encode_open_session(9),
        client_wire.encode_request(1, 1, 1, ORDER),
        client_wire.encode_request(1, 2, 2, ORDER),
    ]
    bodies = [elsewhere.apply(Entry(index, 1, EntryKind.DATA, frame)) for index, frame in enumerate(frames, 1)]
    effects = Effects()
    replica = make_replica(effects, settings=ReplicaSettings(resend_ticks=1))
    for frame in (frames[1], frames[2], client_wire.encode_request(1, 3, 2, ORDER)):
        assert replica.take_request(b"route", frame, 0) is None
    replica.step(InstallSnapshot(2, 1, 1, 1, 3, 1, 0, True, elsewhere.snapshot(), MEMBERS.encode()))
    replica.turn()
    assert bodies[2] is not None
    stale = client_wire.encode_response(1, 1, 0, client_wire.ResponseStatus.STALE)
    assert effects.answers == [(b"route", stale), (b"route", client_wire.replayed(bodies[2].body))]
    assert list(replica.pending) == [(1, 3)], "only the one that was not applied still waits"
    effects.forwarded.clear()
    replica.tick()
    replica.tick()
    replica.turn()
    assert {client_wire.parse_request(frame).request_number for frame in effects.forwarded} == {3}


def test_a_copy_of_an_older_term_is_applied_and_the_one_of_this_term_still_stands() -> None:
    frame = client_wire.encode_open_session(9)
    journal = MemoryJournal()
    entries = [Entry(1, 1, EntryKind.NO_OP, b""), Entry(2, 1, EntryKind.DATA, frame)]
    journal.store(HardState(1, 2, 0), entries, None)
    replica = make_replica(Effects(), journal)
    replication = replica.replication
    replication.campaign()
    for pre_vote in (True, False):
        replica.turn()
        replica.step(RequestVoteResponse(2, 1, 2, True, pre_vote))
    replica.turn()
    replica.take_forwarded([frame])
    replica.turn()
    assert (replication.term, replication.last_index) == (2, 4)
    replica.step(AppendEntriesResponse(2, 1, 2, 1, True, 3, 0, 0))
    replica.turn()
    assert replica.machine.applied_index == 3
    replica.take_forwarded([frame])
    replica.turn()
    assert replication.last_index == 4


def test_an_answer_to_an_earlier_life_finishes_no_read() -> None:
    """Node 1 asks leader 2 about a read, dies, comes back and asks about another; only then the first answer comes.

    Both lives named their first read 1, so that the new read was served at the index of the old one, from before what
    others had applied meanwhile. The messages of a DEALER wait while its peer is away, so that an answer can outlive
    the process that asked (found by ``zmqlab.sim``, seed 11863).
    """
    journal = MemoryJournal()
    first, second = life(journal, 1), life(journal, 2)
    finished: list[bool] = []
    for replica, effects in (first, second):
        replica.step(AppendEntries(2, 1, 1, 0, 0, 0, 1, ()))
        replica.read(finished.append)
        replica.turn()
        assert len(effects.asked) == 1
    replica, effects = second
    replica.step(ReadIndexResponse(2, 1, 1, first[1].asked[0], 0))
    replica.turn()
    assert finished == []
    replica.step(ReadIndexResponse(2, 1, 1, effects.asked[0], 0))
    replica.turn()
    assert finished == [True]


def test_a_read_ends_in_time_though_one_with_a_later_deadline_waits_before_it() -> None:
    """Two read indexes come in the other order (found by ``zmqlab.sim``, seed 7700056 of focus ``moves``)."""
    replica, effects = life(MemoryJournal(), 1)
    replica.step(AppendEntries(2, 1, 1, 0, 0, 0, 1, ()))
    finished: list[str] = []
    for name in ("first", "second"):
        replica.read(lambda is_confirmed, name=name: finished.append(name))  # type: ignore[misc]
        replica.turn()
        replica.tick()
    for context in reversed(effects.asked):
        replica.step(ReadIndexResponse(2, 1, 1, context, 9))
    replica.turn()
    assert finished == []
    for _ in range(replica.settings.read_ticks - 2):
        replica.tick()
    assert finished == ["first"]


def life(journal: MemoryJournal, seed: int) -> tuple[Replica, Effects]:
    """A replica that starts from what the journal holds."""
    effects = Effects()
    return make_replica(effects, journal, seed=seed), effects


def test_what_waits_is_bounded_in_bytes() -> None:
    replica = make_replica(Effects(), settings=ReplicaSettings(max_pending_bytes=3 * len(request(1))))
    answers = [replica.take_request(b"c", request(number), 0) for number in (1, 2, 3, 4)]
    assert answers[:3] == [None] * 3
    (refused,) = client_wire.iter_responses(client_wire.encode_responses([answers[3] or b""]))
    assert (refused.request_number, refused.status) == (4, client_wire.ResponseStatus.BUSY)
    assert replica.take_request(b"c", request(2), 0) is None, "one that waits already may be asked for again"
    assert list(replica.pending) == [(1, 1), (1, 3), (1, 2)]


def request(number: int) -> bytes:
    return client_wire.encode_request(1, number, 1, ORDER)


def test_a_long_log_is_replayed_a_portion_a_turn_and_votes_are_given_between() -> None:
    """Node 3 comes back with a log of a hundred entries, and its leader dies while it replays.

    All were applied in one turn, for seconds with a long log, in which node 1 found no majority to elect it (found by
    ``zmqlab torture``: leaders killed again and again, nobody served for 2.8 s).
    """
    entries = [Entry(index, 1, EntryKind.DATA, client_wire.encode_open_session(index)) for index in range(1, 101)]
    portion = 10 * len(entries[0].data)
    effects = Effects()
    journal = MemoryJournal()
    journal.store(HardState(1, 2, 0), entries, None)
    replica = make_replica(effects, journal, node_id=3, raft=RaftSettings(max_apply_bytes=portion))
    replica.step(AppendEntries(2, BROADCAST, 1, 100, 1, 100, 1, ()))
    assert replica.turn()
    applied = replica.machine.applied_index
    assert 0 < applied <= 11
    replica.step(RequestVote(1, 3, 2, 100, 1, False, True))
    assert replica.turn()
    assert [(vote.to, vote.granted) for vote in effects.votes] == [(1, True)]
    assert applied < replica.machine.applied_index < 30
    turns = 2
    while replica.turn():
        turns += 1
    assert replica.machine.applied_index == 100
    assert turns >= 9
