"""A replication that wants more than a quorum: its followers do not count by themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest

from zmqlab.raft import Configuration, RaftSettings
from zmqlab.replica import RaftByQuorum
from zmqlab.replica.journal import StoredState
from zmqlab.replica.replication import Start


class Everyone(RaftByQuorum):
    """All voters have stored what is committed."""

    __slots__ = ()

    def stored_by_enough(self) -> int:
        return min(each.match_index for each in self.progress.values())


@pytest.mark.parametrize(("kind", "counts"), [(RaftByQuorum, True), (Everyone, False)])
def test_a_follower_counts_only_where_a_quorum_is_enough(kind: Any, counts: bool) -> None:
    founders = Configuration((1, 2, 3), addresses=((1, "tcp://a:1"), (2, "tcp://b:1"), (3, "tcp://c:1")))
    start = Start(1, founders, StoredState(None, None, []), RaftSettings(store_first=True), random.Random(1))
    assert kind(start).settings.store_first is counts
