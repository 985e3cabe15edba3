"""Rules that are pure functions or small values, each compared with a plainer version of itself."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.errors import SettingsError
from zmqlab.raft import (
    AppendEntriesResponse,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Raft,
    RaftSettings,
    RequestVoteResponse,
    Role,
    quorum_size,
    quorum_value,
)
from zmqlab.raft.configuration import ConfigurationHistory
from zmqlab.raft.log import ENTRY_OVERHEAD_BYTES, Log

TERMS = st.lists(st.integers(1, 5), max_size=12).map(sorted)
"""Logs, each given by the terms of its entries."""


def entries_of(terms: list[int], first_index: int = 1) -> list[Entry]:
    return [Entry(index, term, EntryKind.DATA, b"x" * term) for index, term in enumerate(terms, first_index)]


@given(values=st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_a_quorum_value_is_reached_by_a_majority_and_the_next_is_not(values: list[int]) -> None:
    reached = quorum_value(values)
    assert sum(value >= reached for value in values) > len(values) / 2
    assert sum(value > reached for value in values) <= len(values) / 2


@given(count=st.integers(1, 50))
def test_any_two_quorums_share_a_member(count: int) -> None:
    assert 2 * quorum_size(count) > count
    assert 2 * (quorum_size(count) - 1) <= count


@given(terms=TERMS, matches=st.lists(st.integers(0, 13), min_size=2, max_size=6))
def test_the_commit_rule_against_a_search(terms: list[int], matches: list[int]) -> None:
    """The commit index by sorting: the last entry of the leader's term that a majority holds, or no new one."""
    voters = tuple(range(1, len(matches) + 2))
    term = max(terms, default=0)
    raft = Raft(
        1, Configuration(voters), RaftSettings(), random.Random(1), HardState(term, 0, 0), entries=entries_of(terms)
    )
    raft.campaign()
    for pre_vote in (True, False):
        for voter in voters[1:]:
            respond_to_vote(raft, voter, pre_vote)
    assert raft.role is Role.LEADER
    raft.advance(raft.ready())
    acknowledged = dict(zip(voters[1:], (min(match, raft.last_index) for match in matches), strict=True))
    for voter, index in acknowledged.items():
        raft.step(AppendEntriesResponse(voter, 1, raft.term, 1, True, index, 0, 0))
        raft.check_invariants()
    holds = {1: raft.last_index, **acknowledged}
    expected = 0
    for entry in raft.entries(1, 1 << 30):
        copies = sum(index >= entry.index for index in holds.values())
        if entry.term == raft.term and 2 * copies > len(voters):
            expected = entry.index
    assert raft.commit_index == expected


def respond_to_vote(raft: Raft, voter: int, pre_vote: bool) -> None:
    raft.step(RequestVoteResponse(voter, 1, raft.term + pre_vote, True, pre_vote))


@given(terms=TERMS, base=st.integers(0, 6), index=st.integers(0, 14), term=st.integers(0, 6))
def test_the_hint_against_a_walk(terms: list[int], base: int, index: int, term: int) -> None:
    log = Log(entries=entries_of(terms))
    log.compact(min(base, len(terms)))
    walk = min(index, log.last_index)
    while walk >= log.base_index and (log.term_at(walk) or 0) > term:
        walk -= 1
    assert log.last_index_with_term_at_most(term, index) == max(walk, log.base_index - 1)


@given(terms=TERMS, cut=st.integers(1, 12), base=st.integers(0, 12), more=st.integers(0, 3))
def test_a_log_against_a_list(terms: list[int], cut: int, base: int, more: int) -> None:
    log, plain = Log(entries=entries_of(terms)), entries_of(terms)
    base = min(base, len(plain))
    log.compact(base)
    if base < cut <= len(plain):
        log.truncate(cut)
        plain = plain[: cut - 1]
    new = entries_of([6] * more, len(plain) + 1)
    log.append(new)
    plain += new
    assert log.slice(base + 1, len(plain), 1 << 30) == plain[base:]
    assert log.unstored() == plain[log.stored_index :]
    assert log.stored_index == len(plain) - more
    assert log.size_bytes == sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in plain[base:])
    assert (log.last_index, log.last_term) == (len(plain), plain[-1].term if plain else 0)
    for index in range(base + 1, len(plain) + 1):
        assert log.term_at(index) == plain[index - 1].term
    assert log.term_at(len(plain) + 1) is None
    assert base == 0 or log.term_at(base - 1) is None


@given(limit=st.integers(1, 400), first=st.integers(1, 6))
def test_a_slice_keeps_to_its_limit_but_holds_at_least_one(limit: int, first: int) -> None:
    log = Log(entries=entries_of([1, 2, 3, 4, 5]))
    entries = log.slice(first, 5, limit)
    size = sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)
    assert size <= limit or len(entries) == 1
    assert bool(entries) == (first <= 5)
    rest = log.slice(first + len(entries), 5, 1 << 30)
    if entries and rest:
        assert size + len(rest[0].data) + ENTRY_OVERHEAD_BYTES > limit


def test_what_is_stored_is_only_what_the_log_still_holds() -> None:
    log = Log()
    log.append(entries_of([1, 1]))
    old = log.unstored()[-1]
    log.truncate(2)
    log.append(entries_of([2], 2))
    log.mark_stored(old)
    assert log.stored_index == 0
    log.mark_stored(log.unstored()[-1])
    assert log.stored_index == 2


@given(voters=st.sets(st.integers(1, 2**64 - 1), max_size=5), learners=st.sets(st.integers(1, 99), max_size=5))
def test_a_configuration_survives_its_bytes(voters: set[int], learners: set[int]) -> None:
    addresses = tuple((node_id, f"tcp://host:{node_id}") for node_id in voters if node_id % 2)
    configuration = Configuration(tuple(voters), tuple(learners - voters), addresses)
    assert Configuration.decode(configuration.encode()) == configuration
    with_roster = replace(configuration, roster=b"who there is")
    assert Configuration.decode(with_roster.encode()) == with_roster
    reversed_voters = tuple(reversed(configuration.voters))
    assert configuration.encode() == Configuration(reversed_voters, configuration.learners, addresses[::-1]).encode()


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x00\x00\x00", b"\x00\x00\x00\x00x", b"\x01" + b"\x00" * 11])
def test_bytes_that_are_no_configuration(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a configuration|must be positive"):
        Configuration.decode(data)


def test_a_configuration_has_each_node_once() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Configuration((1, 2), (2,))


@pytest.mark.parametrize(
    ("voters", "learners", "one_step"),
    [
        ((1, 2, 3), (), False),
        ((1, 2), (), True),
        ((1, 2, 3, 4), (), True),
        ((1, 2, 4), (), False),
        ((1, 2, 3), (4,), True),
        ((1, 2), (3,), True),
        ((1, 2), (4,), False),
    ],
)
def test_one_server_at_a_time(voters: tuple[int, ...], learners: tuple[int, ...], one_step: bool) -> None:
    assert Configuration((1, 2, 3)).differs_by_one(Configuration(voters, learners)) == one_step


def test_a_roster_changes_alone_and_stays_as_members_come_and_go() -> None:
    before = Configuration((1, 2, 3), (4,), ((1, "a"), (4, "d")))
    after = replace(before, roster=b"more nodes")
    assert before.differs_by_one(after)
    assert not before.differs_by_one(replace(after, voters=(1, 2)))
    changed = after.with_learner(5, "e").with_voter(4).with_address(5, "f").without(1)
    assert changed.roster == b"more nodes"


def test_configurations_roll_back_and_are_forgotten() -> None:
    first, second, third = (Configuration((1, *extra)) for extra in ((), (2,), (2, 3)))
    history = ConfigurationHistory(0, first)
    history.append(4, second)
    history.append(7, third)
    assert [history.at(index) for index in (0, 3, 4, 6, 7)] == [first, first, second, second, third]
    assert not history.truncate(8)
    assert history.truncate(7)
    assert history.current == second
    history.compact(5)
    assert (history.oldest_index, history.current_index) == (4, 4)
    assert not history.truncate(4), "what is compacted is committed, and stays"


@pytest.mark.parametrize(
    "wrong", [{"election_ticks": 0}, {"max_inflight": 1.5}, {"heartbeat_ticks": 15}, {"max_append_bytes": -1}]
)
def test_settings_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        RaftSettings(**wrong)
