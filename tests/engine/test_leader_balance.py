"""When a leader hands its group over, by its clock alone: the group around it is a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from zmqlab.engine.leader_balance import PATIENCE_MAX, Balance
from zmqlab.raft import ProgressState, Role
from zmqlab.replica import Replica

OWN, PREFERRED = 1, 2
ELECTION_TICKS = 20


class Office:
    """This node leads a group whose preferred leader is another, which is well."""

    def __init__(self) -> None:
        self.preferred = PREFERRED
        self.progress = SimpleNamespace(state=ProgressState.REPLICATE, heard_at=0, match_index=7)
        self.replication = SimpleNamespace(
            node_id=OWN,
            role=Role.LEADER,
            leader_id=OWN,
            ticks=0,
            election_ticks=ELECTION_TICKS,
            followers={PREFERRED: self.progress},
            configuration=SimpleNamespace(voters=(OWN, PREFERRED)),
            last_index=7,
            commit_index=7,
            hand_over=self._hand_over,
        )
        self.targets: list[int] = []
        replica: Any = SimpleNamespace(replication=self.replication, proposes=True)
        self.balance = Balance(cast(Replica, replica), lambda: self.preferred, lambda _: False, patience=1)

    def _hand_over(self, target: int) -> bool:
        self.targets.append(target)
        return True

    def step(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.replication.ticks += 1
            self.progress.heard_at = self.replication.ticks
            self.balance.tick()
            told = len(self.targets)
            wants_another_turn = self.balance.turn()
            assert wants_another_turn == (len(self.targets) > told), "what the target is told waits for no tick"

    def follow(self, ticks: int) -> None:
        """The preferred member leads for so long."""
        self.replication.role, self.replication.leader_id = Role.FOLLOWER, PREFERRED
        self.step(ticks)

    def patience(self) -> int:
        """Ticks until it hands over, when it leads again."""
        self.replication.role, self.replication.leader_id = Role.LEADER, OWN
        began, told = self.replication.ticks, len(self.targets)
        while len(self.targets) == told:
            self.step()
            assert self.replication.ticks - began <= 2 * PATIENCE_MAX * ELECTION_TICKS
        return int(self.replication.ticks - began)


def test_each_hand_over_doubles_the_patience_up_to_a_bound() -> None:
    office = Office()
    took = []
    for _ in range(7):
        took.append(round(office.patience() / ELECTION_TICKS))
        office.follow(ELECTION_TICKS)
    assert took == [1, 2, 4, 8, PATIENCE_MAX, PATIENCE_MAX, PATIENCE_MAX]


def test_a_preferred_leader_that_has_stayed_in_office_is_trusted_again() -> None:
    """Four restarts in a year, and each later one left the group for half a minute where it should not be."""
    office = Office()
    for _ in range(6):
        office.patience()
        office.follow(ELECTION_TICKS)
    office.follow(2 * PATIENCE_MAX * ELECTION_TICKS)
    assert round(office.patience() / ELECTION_TICKS) == PATIENCE_MAX // 2
    office.follow(4 * PATIENCE_MAX * ELECTION_TICKS)
    assert round(office.patience() / ELECTION_TICKS) == 1


def test_a_stay_counts_only_on_end() -> None:
    office = Office()
    for _ in range(6):
        office.patience()
        office.follow(ELECTION_TICKS)
    for _ in range(8):
        office.follow(PATIENCE_MAX * ELECTION_TICKS)
        office.replication.leader_id = 0
        office.step()
    assert round(office.patience() / ELECTION_TICKS) == PATIENCE_MAX


def test_a_preferred_leader_that_is_gone_when_all_is_committed_leaves_the_group_where_it_is() -> None:
    """The group went to whichever other member had most of the log."""
    office = Office()
    office.replication.commit_index = 6
    office.step(ELECTION_TICKS + 2)
    assert not office.targets
    office.preferred, office.replication.commit_index = 0, 7
    office.balance.turn()
    office.step()
    assert not office.targets
