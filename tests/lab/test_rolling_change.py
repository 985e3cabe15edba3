"""Nodes that start anew one after the other, with several Raft groups: each group keeps a majority."""

from __future__ import annotations

import psutil
import pytest
from msgspec.structs import replace

from tests.lab.test_groups import PLACED, status_in
from zmqlab import Cluster, LoadClient
from zmqlab.lab.rolling_change import lacking
from zmqlab.wire.node_status import NodeStatus

GROUP = 3


def told(group: int = GROUP) -> list[NodeStatus]:
    """What the three members of a group say, its leader first."""
    leader_id = next(status_in(name, group).node_id for name in PLACED[group][:1])
    return [status_in(name, group, leader_id=leader_id, commit_index=90, applied_index=90) for name in PLACED[group]]


def test_a_group_whose_members_have_caught_up_can_do_without_any_one_of_them() -> None:
    assert lacking(GROUP, told(), 90) == ""
    others = [status_in(name, 0, leader_id=77, term=9) for name in PLACED[0] if name not in PLACED[GROUP]]
    assert lacking(GROUP, [*told(), *others], 90) == "", "a node that is no member any more counts for nothing"


def test_a_group_with_one_member_that_could_not_stand_in_keeps_all_others_running() -> None:
    """A node that had caught up in its first group alone was taken for well, and the next one ended."""
    leader, one, other = told()
    assert lacking(GROUP, [], 90) == f"group {GROUP} has no leader"
    assert lacking(GROUP, [replace(leader, role="follower"), one, other], 90) == f"group {GROUP} has no leader"
    assert lacking(GROUP, [leader, one], 90) == f"{other.name} of group {GROUP} does not answer"
    behind = replace(other, applied_index=89)
    assert lacking(GROUP, [leader, one, behind], 90) == f"{other.name} has not caught up in group {GROUP}"
    learner = replace(other, role="learner")
    assert lacking(GROUP, [leader, one, learner], 90) == f"{other.name} has not caught up in group {GROUP}"
    for alone in (replace(other, leader_id=0), replace(other, term=1)):
        assert lacking(GROUP, [leader, one, alone], 90) == f"{other.name} does not know the leader of group {GROUP}"


def test_where_no_node_leads_none_is_waited_for() -> None:
    alike = [replace(each, replication="broadcast", leader_id=each.node_id) for each in told()]
    assert lacking(GROUP, alike, 90) == ""
    assert (
        lacking(GROUP, [replace(alike[0], applied_index=0)], 90)
        == f"{alike[0].name} has not caught up in group {GROUP}"
    )


@pytest.mark.long
def test_with_shards_under_load_all_nodes_get_another_setting_and_nothing_is_lost() -> None:
    with Cluster(5, shards=4, replication_factor=3) as cluster, LoadClient(cluster, rate=500, duration=None) as load:
        load.start()
        pids = {name: cluster.pid(name) for name in cluster.nodes}
        cluster.change(durability="fsync")
        assert all("fsync" in psutil.Process(cluster.pid(name)).cmdline() for name in cluster.nodes)
        assert all(cluster.pid(name) != pid for name, pid in pids.items())
        load.stop()
        result = load.wait()
        assert result.verdict.outcome == "passed", result
    seen = [(event.node, event.kind) for event in cluster.events if event.kind in ("terminated", "restarted")]
    ended = [name for name, kind in seen if kind == "terminated"]
    assert seen == [(name, kind) for name in ended for kind in ("terminated", "restarted")], "one after the other"
    assert sorted(ended) == sorted(pids)
