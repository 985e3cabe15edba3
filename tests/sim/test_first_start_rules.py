"""A node that does not know yet what it is: whom it has to believe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tests.sim.test_node_rules import VITALS
from zmqlab.engine.first_start import FirstStart
from zmqlab.engine.status import early_status
from zmqlab.placement import Roster
from zmqlab.raft import Configuration
from zmqlab.settings import NodeSettings
from zmqlab.sim.checkers import Violation
from zmqlab.sim.first_start_rules import Beginning
from zmqlab.wire import control
from zmqlab.wire.frames import ANSWER
from zmqlab.wire.node_status import GroupBrief, Member

NODE_1 = NodeSettings(name="node1", port=5000, bind="10.0.0.1", insecure=True)


@pytest.mark.parametrize("configuration", [None, Configuration((1,))])
def test_a_first_start_that_does_not_believe_a_member(configuration: Configuration | None) -> None:
    """A cluster that has no leader just now is a cluster."""
    member = Member(node_id=2, name="", host="10.0.0.2", port=5000, match_index=0, state="", voter=True)
    status = early_status(NodeSettings(name="node2", port=5000, insecure=True), "follower", 2, VITALS)
    status.members = [member]
    answer = control.encode(ANSWER, control.StatusAnswer(5, status))
    start = SimpleNamespace(callers={}, has_asked=lambda address, nonce: (address, nonce) == ("at 2", 4))
    beginning = Beginning(1, NODE_1)
    beginning.hears(cast(FirstStart, start), "at 2", answer)  # to a question of an earlier life
    assert not beginning.told_by
    start.has_asked = lambda address, nonce: (address, nonce) == ("at 2", 5)
    beginning.hears(cast(FirstStart, start), "at 2", answer)
    with pytest.raises(Violation, match="founding: node 1 is told of a cluster at at 2, and"):
        beginning.took_turn(configuration)
    beginning.took_turn(Configuration(()))
    assert not beginning.told_by  # much later it may be the only one that is left


def test_with_shards_a_member_without_a_group_of_this_node_need_not_be_believed() -> None:
    """Seed 30004075 with shards: a founder without its disk asks on until it hears a node that holds its groups."""
    founders = [(place, f"tcp://10.0.0.{place}:5000") for place in range(1, 6)]
    settings = NodeSettings(
        name="node1", port=5000, bind="10.0.0.1", insecure=True, shards=5, replication_factor=1,
        peers=tuple(at for _, at in founders[1:]),
    )  # fmt: skip
    own = {group for group, members in enumerate(Roster.of_founders([at for _, at in founders], 5, 1).groups)
           if settings.endpoint in members}  # fmt: skip
    start = SimpleNamespace(callers={}, has_asked=lambda address, nonce: True)

    def is_told(held: set[int]) -> bool:
        status = early_status(settings, "follower", 2, VITALS)
        status.members = [Member(node_id=2, name="", host="10.0.0.2", port=5000, match_index=0, state="", voter=True)]
        status.founders = founders
        status.groups = [GroupBrief(number=each, role="follower", term=1, leader_id=0) for each in sorted(held)]
        beginning = Beginning(1, settings)
        beginning.hears(cast(FirstStart, start), "at 2", control.encode(ANSWER, control.StatusAnswer(5, status)))
        return bool(beginning.told_by)

    assert own
    assert is_told(own)
    assert not is_told(set(range(5)) - own)
