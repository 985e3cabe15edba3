"""How a node leaves its groups and its cluster, and how it ends. All of it asks, and waits for no answer.

- :class:`Leaving`: a node with ``--leave`` asks to be removed from its group before it ends.
- :class:`Departing`: with shards it asks first that the whole cluster does without it, so that other nodes take over
  its replicas.
- :class:`Closing`: a node's end by SIGTERM: in order, and within a bound.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zmqlab.endpoints import is_address
from zmqlab.engine.effects import Asking
from zmqlab.engine.following import Following
from zmqlab.engine.lifecycle import Asker
from zmqlab.engine.placing import Placing
from zmqlab.raft import Role
from zmqlab.replica import Replica
from zmqlab.replica.replication import Change, Replication
from zmqlab.settings import NodeSettings
from zmqlab.wire import control

HAND_OVERS = 2
"""Tries in an election time-out to hand leadership over: a successor that does not answer is not waited for longer."""


def drain_ticks(settings: NodeSettings) -> int:
    """How long the end of a node may take, in ticks."""
    return max(1, settings.drain_ms // settings.tick_ms)


class Leaving:
    """Asks to be removed, as the last thing that a node does (``--leave``).

    A node that is only stopped stays a member, and counts for the majority that the others need: right for a restart,
    wrong for one of many that are scaled away, for with three of five gone the two that are left could do nothing more.
    The leader removes one at a time and never so many that no majority is in reach (:class:`zmqlab.replica.Members`); a
    leader that leaves hands over first, and the last voter stays.

    Its journal is worth keeping: a later start with ``--join`` is taken in under the same identity, and needs only
    what it has missed.
    """

    def __init__(
        self,
        effects: Asking,
        rng: random.Random,
        replication: Replication,
        life: int,
        group: int = 0,
        is_last: Callable[[], bool] | None = None,
    ) -> None:
        """
        Args:
            life: counts this node's starts (:attr:`zmqlab.replica.Journal.life`).
            is_last: whether no other node could hold the group; None: if there is no other voter.
        """
        self._replication = replication
        self._is_last = is_last or self._is_alone
        self._asker = Asker(
            effects,
            rng,
            replication.election_ticks,
            lambda nonce: control.RemoveMemberQuery(nonce, replication.node_id, life),
            "does not let this node go for now",
            group,
        )

    @property
    def is_over(self) -> bool:
        """Whether this node is out, or is the last that there is."""
        return isinstance(self._asker.answer, control.OkAnswer) or self._is_last()

    def _is_alone(self) -> bool:
        replication = self._replication
        return not [voter for voter in replication.configuration.voters if voter != replication.node_id]

    def tick(self) -> None:
        """Ask until it is over."""
        if self.is_over:
            self._asker.close()
        else:
            self._asker.tick(self._replication.ticks, self._targets)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        self._asker.take(address, answer, self._replication.ticks)

    def close(self) -> None:
        """Ask no more."""
        self._asker.close()

    def _targets(self) -> list[str]:
        replication = self._replication
        addresses = {node_id: at for node_id, at in replication.configuration.addresses if is_address(at)}
        ids = [replication.leader_id, *replication.configuration.voters]
        return list(dict.fromkeys(addresses[each] for each in ids if each != replication.node_id and each in addresses))


class Closing:
    """A node's end: begun by :meth:`begin`, carried on by :meth:`tick` until :attr:`is_over`.

    From the signal on, requests of clients are refused with CLOSING, which sends them to another node at once. What
    this node has taken before is answered when it is applied, and a leader hands leadership over, so that clients do
    not wait for an election (thesis, 3.10). The node ends when nothing is left to do, or after ``drain_ticks``:
    without a majority neither can be done, and a person who stops a node should not have to wait for what will not
    come.
    """

    def __init__(self, replica: Replica, drain_ticks: int, leaving: Leaving | None) -> None:
        """``leaving``: of a node that shall be out of the group when it ends."""
        self._replica = replica
        self._leaving = leaving
        self._drain_ticks = drain_ticks
        self._hand_over_ticks = max(1, replica.replication.election_ticks // HAND_OVERS)
        self._ticks_left = -1

    @property
    def begun(self) -> bool:
        """Whether the node takes no more requests."""
        return self._ticks_left >= 0

    @property
    def is_over(self) -> bool:
        """Whether the node may end now."""
        if not self.begun:
            return False
        stays = self._leaving is not None and not self._leaving.is_over
        return self._ticks_left == 0 or not (self._replica.pending or self._leads_others() or stays)

    def begin(self) -> None:
        """Take no more requests from now on."""
        self._ticks_left = self._drain_ticks

    def tick(self) -> None:
        """Let one tick pass."""
        if not self.begun:
            return
        if self._ticks_left % self._hand_over_ticks == 0 and self._leads_others():
            self._replica.replication.hand_over()
        if self._leaving is not None:
            self._leaving.tick()
        self._ticks_left = max(0, self._ticks_left - 1)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        if self._leaving is not None:
            self._leaving.take(address, answer)

    def close(self) -> None:
        """Ask no more to be let go."""
        if self._leaving is not None:
            self._leaving.close()

    def _leads_others(self) -> bool:
        replication = self._replica.replication
        return replication.role is Role.LEADER and len(replication.configuration.voters) > 1


class Departing:
    """Asks the leader of group 0 for a roster without this node, at a cluster with shards.

    From there on the groups follow (:class:`~zmqlab.engine.following.Following`): other nodes take over this node's
    replicas, and it closes one after the other. It gives up after ``drain_ms``, as :class:`Closing` does.
    """

    def __init__(
        self, settings: NodeSettings, effects: Asking, rng: random.Random, placing: Placing, life: int
    ) -> None:
        """``life``: counts this node's starts (:attr:`zmqlab.replica.Journal.life`)."""
        self._placing = placing
        self._life = life
        self._ticks = 0
        self._ticks_max = drain_ticks(settings)
        self._asker = Asker(
            effects,
            rng,
            settings.election_ticks,
            lambda nonce: control.RemoveMemberQuery(nonce, placing.node_id, life, settings.endpoint),
            "does not let this node go for now",
        )

    @property
    def is_over(self) -> bool:
        """Whether the roster is without this node, or has no other, or it has taken too long."""
        placing = self._placing
        return placing.is_last() or placing.place not in placing.roster.nodes or self._ticks >= self._ticks_max

    def tick(self, following: Following | None) -> None:
        """Ask. ``following``: of group 0, if this node holds it: it may lead."""
        self._ticks += 1
        placing = self._placing
        if self.is_over:
            self._asker.close()
        elif (
            following is None
            or following.release(placing.node_id, placing.own_address, self._life) is Change.NOT_LEADER
        ):
            self._asker.tick(self._ticks, self._targets)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        self._asker.take(address, answer, self._ticks)

    def _targets(self) -> list[str]:
        holders = [place for place in self._placing.places_in(0) if place != self._placing.own_address]
        return holders or [place for place in self._placing.roster.places if place != self._placing.own_address]
