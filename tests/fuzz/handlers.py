"""The run in one process: hostile frames straight to a node's handlers, and what must be true after every batch.

A batch is what a node takes from a socket in one turn. After each one:

- no exception came out of the node;
- term, vote, role, leader, members, log, commit and applied index, hash chain, sessions and orders are what they were;
  every so often the whole state is hashed, and a good client must get its answer;
- the frames that were refused are just those that should be (:mod:`tests.fuzz.legal`);
- nothing that a stranger could make grow is beyond its bound.

Frames that a legal peer or client could have said are left out, and counted. The *forged* run sends them all, to one
node of three whose companions are dead: that nothing changes can't be asked there, but that the node goes on, that its
Raft's invariants hold, and that nothing grows without bound.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.fuzz.hostile import SOCKETS, Hostile, View
from tests.fuzz.in_process import Group, make_group
from tests.fuzz.legal import Verdict, is_whole_snapshot, verdict
from zmqlab.engine.engine import MAX_PER_TURN
from zmqlab.wire.fault_queries import LinkFault

BATCHES_PER_WHOLE_CHECK = 200
BATCHES_PER_LOOK = 400
"""The generator gets to know the world anew so often: that makes its pool of drawn messages another one."""
FORGED_BATCH = 64
FORGED_BATCHES_PER_LOOK = 10
MAX_GROWTH_BYTES = 64 << 20

Progress = Callable[[int], None]


@dataclass
class Outcome:
    """What became of one run."""

    what: str
    frames: int = 0
    """Sent and checked."""
    bad: int = 0
    harmless: int = 0
    left_out: int = 0
    """Drawn, but fit to be said by a legal peer or client."""
    legal: int = 0
    """Fit to be said by a legal peer or client, and sent all the same: in the forged run only."""
    odd: int = 0
    """Messages of another number of ZeroMQ frames than one."""
    seconds: float = 0.0
    grown_bytes: int = 0
    answer_ms_max: float = 0.0
    """The good client's longest wait."""
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds else 0.0
        counts = {
            "refused": self.bad,
            "harmless": self.harmless,
            "legal": self.legal,
            "of many parts": self.odd,
            "left out": self.left_out,
        }
        told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
        end = [f"good client waited {self.answer_ms_max:.1f} ms"] if self.answer_ms_max else []
        end += [f"memory {self.grown_bytes / 2**20:+.1f} MiB", *self.notes]
        return (
            f"{self.what:28}{self.frames:>10,} frames in {self.seconds:6.1f} s, {rate:>7,.0f}/s: {told}; "
            + ", ".join(end)
        )


def resident_bytes() -> int:
    """Of this process."""
    return int(psutil.Process().memory_info().rss)


@dataclass
class Subject:
    """What is attacked."""

    name: str
    size: int
    attack_leader: bool
    allow_faults: bool = False
    """Frames of peers pass the filter of faulty links, which lets all of them through; clients may fill its table."""


SOMEWHERE_ELSE = "tcp://127.0.0.1:7"
ALONE = Subject("alone", 1, True, allow_faults=True)
LEADER = Subject("leader of 3", 3, True)

SUBJECTS = {
    "clients": (ALONE, LEADER, Subject("follower of 3", 3, False)),
    "peers": (ALONE, LEADER, Subject("follower of 3", 3, False, allow_faults=True)),
    "broadcasts": (LEADER, Subject("follower of 3", 3, False, allow_faults=True)),
}
"""A node that is alone hears no broadcasts."""


def run_handlers(socket: str, count: int, seed: int, progress: Progress = lambda _: None) -> list[Outcome]:
    """``count`` frames for ``socket``, shared among its subjects. Raises AssertionError at the first wrong turn."""
    subjects = SUBJECTS[socket]
    return [
        _attack(socket, subject, count // len(subjects) + 1, seed + number, progress)
        for number, subject in enumerate(subjects)
    ]


def _attack(socket: str, subject: Subject, count: int, seed: int, progress: Progress) -> Outcome:
    outcome = Outcome(f"{socket}, {subject.name}")
    group = make_group(subject.size, attack_leader=subject.attack_leader, seed=seed, allow_faults=subject.allow_faults)
    if subject.allow_faults:
        group.target.engine.links.replace([LinkFault(sender=SOMEWHERE_ELSE, cut=True)])
    hostile = Hostile(socket, group.view(), random.Random(seed))
    before = group.fingerprint(), group.state_hash()
    memory, began, batches = resident_bytes(), time.perf_counter(), 0
    try:
        while outcome.frames < count:
            batches += 1
            if batches % BATCHES_PER_LOOK == 0:
                hostile.look(group.view())
            _one_batch(socket, group, hostile, outcome, min(MAX_PER_TURN, count - outcome.frames))
            group.assert_bounded()
            assert_equal(before[0], group.fingerprint())
            if batches % BATCHES_PER_WHOLE_CHECK == 0:
                _check_whole(group, before[1], outcome)
                progress(outcome.frames)
        _check_whole(group, before[1], outcome)
    except BaseException as error:
        error.add_note(f"{outcome.what}: seed {seed}, after {outcome.frames:,} frames, in batch {batches}")
        raise
    outcome.seconds = time.perf_counter() - began
    outcome.grown_bytes = resident_bytes() - memory
    assert outcome.grown_bytes < MAX_GROWTH_BYTES
    return outcome


def run_forged(count: int, seed: int, progress: Progress = lambda _: None) -> Outcome:
    """``count`` frames for all sockets of a node of three whose companions are dead, legal ones with them."""
    outcome = Outcome("forged, a node of 3")
    group = make_group(3, attack_leader=False, seed=seed)
    target = group.target
    for node_id in [node_id for node_id in group.nodes if node_id != target.node_id]:
        del group.nodes[node_id]
    rng = random.Random(seed)
    sources = {socket: Hostile(socket, group.view(), rng, pool=200) for socket in SOCKETS}
    memory, began, batches, bad = resident_bytes(), time.perf_counter(), 0, target.bad_frames
    try:
        while outcome.frames < count:
            batches += 1
            for socket, hostile in sources.items():
                if batches % FORGED_BATCHES_PER_LOOK == 0:
                    hostile.look(group.view())
                _one_forged_batch(socket, group, hostile, outcome)
            target.raft.check_invariants()
            group.assert_bounded()
            if batches % BATCHES_PER_WHOLE_CHECK == 0:
                progress(outcome.frames)
    except BaseException as error:
        error.add_note(f"{outcome.what}: seed {seed}, after {outcome.frames:,} frames, in batch {batches}")
        raise
    outcome.bad = target.bad_frames - bad
    outcome.harmless = outcome.frames - outcome.bad - outcome.legal
    outcome.seconds = time.perf_counter() - began
    outcome.grown_bytes = resident_bytes() - memory
    raft = target.raft
    assert outcome.grown_bytes < MAX_GROWTH_BYTES
    outcome.notes.append(f"ended in term {raft.term:,}, log of {raft.last_index:,}, role {raft.role.name.lower()}")
    return outcome


def _one_forged_batch(socket: str, group: Group, hostile: Hostile, outcome: Outcome) -> None:
    """What a legal peer or client could have said is sent, too, but for a snapshot of nothing."""
    queue = getattr(group.target.transport, socket).messages
    view = group.view()
    for parts in hostile.messages(FORGED_BATCH):
        if is_whole_snapshot(parts[0], view):
            outcome.left_out += 1
            continue
        outcome.odd += len(parts) != 1
        outcome.legal += len(parts) == 1 and verdict(socket, parts[0], view) is Verdict.LEGAL
        outcome.frames += 1
        queue.append(parts if socket == "broadcasts" else [b"stranger", *parts])
    group.target.drain(socket)
    group.turn()


def _one_batch(socket: str, group: Group, hostile: Hostile, outcome: Outcome, most: int) -> None:
    target = group.target
    queue = getattr(target.transport, socket).messages
    view, before, bad = group.view(), target.bad_frames, 0
    for parts in hostile.messages(most):
        if len(parts) != 1:
            outcome.odd += 1
            bad += 1
        else:
            judged = verdict(socket, parts[0], view)
            if judged is Verdict.LEGAL:
                outcome.left_out += 1
                continue
            bad += judged is Verdict.BAD
        outcome.frames += 1
        queue.append(parts if socket == "broadcasts" else [b"stranger", *parts])
    sent = list(queue)
    target.drain(socket)
    refused = target.bad_frames - before
    if refused != bad:
        raise AssertionError(f"{refused} frames were refused, {bad} are bad: {_blame(socket, sent, view, group)}")
    outcome.bad += bad
    outcome.harmless = outcome.frames - outcome.bad
    group.turn()


def _blame(socket: str, sent: list[list[bytes]], view: View, group: Group) -> str:
    """The first message of which node and oracle think differently."""
    queue = getattr(group.target.transport, socket).messages
    for parts in sent:
        before = group.target.bad_frames
        queue.append(parts)
        group.target.turn()
        is_odd = len(parts) != (1 if socket == "broadcasts" else 2)
        expected = is_odd or verdict(socket, parts[-1], view) is Verdict.BAD
        if group.target.bad_frames - before != expected:
            return f"expected {expected} of {[part[:400] for part in parts]}"
    return "none of them alone"


def assert_equal(before: dict[str, object], after: dict[str, object]) -> None:
    """Nothing has changed; else say what."""
    changed = {what: (before[what], after[what]) for what in before if before[what] != after[what]}
    assert not changed, f"the state has changed: {changed}"


def _check_whole(group: Group, state_hash: bytes, outcome: Outcome) -> None:
    assert group.state_hash() == state_hash, "the books or the sessions have changed"
    for driven in group.nodes.values():
        driven.raft.check_invariants()
    began = time.perf_counter()
    assert group.is_alive(), "a good client gets no answer"
    outcome.answer_ms_max = max(outcome.answer_ms_max, (time.perf_counter() - began) * 1e3)
