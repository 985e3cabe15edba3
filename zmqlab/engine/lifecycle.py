"""How a node gets in, moves, and finds out that it was removed. All of it asks, and waits for no answer.

Each class here is driven by ``tick`` and never blocks. What a node wants of its group (to be taken in, to be moved, to
be let go) it asks for with the queries that a person's tool sends too (:mod:`zmqlab.wire.control`), at the members'
client ports, one member after the other (:class:`Asker`). A member that does not lead says which one does, and that
one is asked next. A member that knows of no leader, or says nothing, is left for the next in the list, so that a node
that is itself waiting to be taken in holds no other node up.

- :class:`Joining`: a node with ``--join``, or a member at another address, asks until it is taken in.
- :class:`Standing`: a node that was removed, while it was away or while it ran, finds out.

What a node is at its first start is decided before, in :mod:`zmqlab.engine.first_start`; how it ends, in
:mod:`zmqlab.engine.departure`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

from zmqlab.endpoints import is_address
from zmqlab.engine.effects import Asking
from zmqlab.raft import Configuration
from zmqlab.raft.state import LEADER
from zmqlab.replica.replication import Replication
from zmqlab.settings import NodeSettings
from zmqlab.wire import control, frames

ASKS = 2
"""Questions in an election time-out: one every 100 ms with the node's own settings."""
SILENT_TIMEOUTS = 2.5
"""A member that has not answered for so many election time-outs is given up for the next one."""
STANDING_TIMEOUTS = 15
"""In election time-outs, until a node that no leader has reached asks whether it is a member still: 3 s. An election
takes two or three of them."""
REFUSALS = (control.ErrorCode.REFUSED, control.ErrorCode.LET_GO)
"""What the log tells of, once for each message."""


class Asker:
    """Asks the same question of one member after the other. The questions are repeated until the owner stops asking."""

    def __init__(
        self,
        effects: Asking,
        rng: random.Random,
        election_ticks: int,
        make_query: Callable[[int], control.Query],
        refused: str,
        group: int = 0,
    ) -> None:
        """``make_query`` gets a nonce; ``refused`` completes the sentence "ENDPOINT ..." in the log; ``group`` is the
        number of the group that is asked about."""
        self._ask_ticks = max(1, round(election_ticks / ASKS))
        self._silent_ticks = round(SILENT_TIMEOUTS * election_ticks)
        self._effects = effects
        self._rng = rng
        self._make_query = make_query
        self._refused = refused
        self._group = group
        self._target = ""
        """The base endpoint of the member that is asked; empty: none."""
        self._redirected = ""
        """The leader, as the target says."""
        self._give_up = False
        self._last_asked = ""
        self._nonce = 0
        self._ask_at = 0
        self._silent_at = 0
        self._last_refusal = ""
        self.has_asked = False
        self.answer: control.Answer | None = None
        """The newest answer that does not only say which node to ask; for its owner to look at."""

    def tick(self, ticks: int, targets: Callable[[], Sequence[str]]) -> None:
        """Ask again when it is time.

        Args:
            ticks: the time.
            targets: gives the base endpoints of the nodes that may be asked now.
        """
        if ticks < self._ask_at:
            return
        self._ask_at = ticks + self._ask_ticks
        if self._redirected:
            self._turn_to(self._redirected, ticks)
        elif not self._target or self._give_up or ticks >= self._silent_at:
            self._turn_to(self._next_of(targets()), ticks)
        if self._target:
            self._nonce = self._rng.getrandbits(63)
            self.has_asked = True
            self._effects.ask(self._target, control.encode(frames.QUERY, self._make_query(self._nonce), self._group))

    def forget(self) -> None:
        """What was answered so far counts no more."""
        self.close()
        self.answer, self.has_asked, self._nonce = None, False, 0

    def close(self) -> None:
        """Ask no more; a later tick begins anew."""
        if self._target:
            self._effects.hang_up(self._target)
        self._target = self._redirected = ""

    def take(self, address: str, answer: control.Answer, ticks: int) -> None:
        """An answer from the node at ``address``; one to another question is ignored."""
        if address != self._target or answer.nonce != self._nonce:
            return
        self._silent_at = ticks + self._silent_ticks
        if isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.NOT_LEADER:
            is_usable = answer.leader != self._target and is_address(answer.leader)
            self._redirected = answer.leader if is_usable else ""
            self._give_up = not self._redirected
            return
        if isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.NO_GROUP:
            self._give_up = True
            return
        self.answer = answer
        if isinstance(answer, control.ErrorAnswer) and answer.code in REFUSALS:
            self._note_refusal(answer.message)

    def _note_refusal(self, message: str) -> None:
        if message != self._last_refusal:
            self._last_refusal = message
            self._effects.note(f"{self._target} {self._refused}: {message}", is_warning=True)

    def _next_of(self, targets: Sequence[str]) -> str:
        """The one behind the one that was asked last; the first, if that one is no longer there."""
        if not targets:
            return ""
        after = targets.index(self._last_asked) + 1 if self._last_asked in targets else 0
        self._last_asked = targets[after % len(targets)]
        return self._last_asked

    def _turn_to(self, target: str, ticks: int) -> None:
        """Ask ``target`` from now on; no node if it is empty."""
        self._give_up, self._redirected = False, ""
        self._silent_at = ticks + self._silent_ticks
        if target != self._target:
            self.close()
            self._target = target


class Joining:
    """Asks to be taken in, or to be moved.

    It asks the nodes that were named with ``--join``, all addresses of each name, the members that its log names, and
    with shards all nodes of the roster: the members of a group may all have come while this node was away. From there
    on everything is Raft: the leader appends a configuration with this node as a learner, sends it the log, and
    promotes it when it has caught up. So also

    - a member that was started again *at another address*, so that the others learn where it is. Where no node leads,
      the nodes that are asked note the new address for the time being (:meth:`zmqlab.engine.peers.Peers.note_address`):
      when a whole cluster comes back at other addresses, it is by this that an election becomes possible;
    - a member that was *removed while it was away*. Its own log can't tell it so, and it still hears the leader's
      broadcasts, by which Raft neither repairs it nor lets it know.

    So the asking ends with the leader's word that this node votes, where it is, or after the first question, when the
    log that came in since the start says so; that costs a member that was only restarted one question. The leader
    learns by it that a late question of an earlier life, to be let go, does not count any more. (Being a learner is not
    enough: a slow one may have to make room for another.) It does not begin again in this process if the node is
    removed later. It ends, too, with the leader's word that the node was let go since it was started: only the node
    itself can know that when another one leads.
    """

    def __init__(
        self,
        settings: NodeSettings,
        effects: Asking,
        rng: random.Random,
        replication: Replication,
        elsewhere: Callable[[], Collection[int]],
        seeds: Sequence[str],
        life: int,
        group: int = 0,
        places: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """
        Args:
            elsewhere: the members that are not where the configuration says (:attr:`Peers.elsewhere`).
            seeds: base endpoints of nodes that it may ask first; none for a node that founded its cluster.
            life: counts this node's starts (:attr:`zmqlab.replica.Journal.life`).
            places: the base endpoints of the roster; none without shards.
        """
        self._replication = replication
        self._elsewhere = elsewhere
        self._effects = effects
        self._own_address = settings.endpoint
        self._seeds = tuple(seeds)
        self._places = places
        self._began_at = replication.last_index
        """What the log told up to here may be old."""
        self.was_in = False
        """Whether it is known since this node's start that it votes, where it is."""
        self._no_reason_in: Configuration | None = None
        """The configuration in effect when there was no reason to ask; it stays so until there is another."""
        self._asker = Asker(
            effects,
            rng,
            replication.election_ticks,
            lambda nonce: control.AddMemberQuery(nonce, replication.node_id, self._own_address, settings.name, life),
            "does not take this node in",
            group,
        )

    def ask_again(self, seeds: Sequence[str]) -> None:
        """The node is to be a member, and is none: it was let go, or the nodes that it asks do not know the group."""
        if self.was_in or self._seeds != tuple(seeds):
            self.was_in, self._no_reason_in, self._seeds = False, None, tuple(seeds)
            self._began_at = self._replication.last_index
            self._asker.forget()

    def tick(self) -> None:
        """Ask while there is a reason to. A leader that has moved needs to ask no other node."""
        replication = self._replication
        if not self.is_wanted():
            self._asker.close()
        elif replication.role is LEADER:
            replication.add_member(replication.node_id, self._own_address, self._elsewhere())
        else:
            self._asker.tick(replication.ticks, self._targets)

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        self._asker.take(address, answer, self._replication.ticks)

    @property
    def is_told(self) -> bool:
        """Whether the leader has said that this node votes, where it is."""
        return isinstance(self._asker.answer, control.OkAnswer)

    @property
    def _is_let_go(self) -> bool:
        """Whether the leader has said that a person has let this node go since it was started."""
        answer = self._asker.answer
        return isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.LET_GO

    def close(self) -> None:
        """Ask no more."""
        self._asker.close()

    def is_wanted(self) -> bool:
        """Whether there is a reason to ask."""
        replication = self._replication
        configuration, own_id = replication.configuration, replication.node_id
        if configuration is self._no_reason_in:
            return False
        is_member = own_id in configuration.members
        is_here = dict(configuration.addresses).get(own_id) == self._own_address
        settled = replication.commit_index >= replication.configuration_index
        promoted = own_id in configuration.voters and replication.configuration_index > self._began_at
        told = (promoted and self._asker.has_asked) or replication.role is LEADER
        in_for_sure = is_here and settled and told
        if self.is_told or in_for_sure:
            self.was_in = True
        wanted = (is_member and not is_here) or (bool(self._seeds) and not self.was_in)
        wanted = wanted and not self._is_let_go
        self._no_reason_in = None if wanted else configuration
        return wanted

    def _targets(self) -> list[str]:
        """The nodes that were named, then those that the log knows, then those of the roster; never this node.

        Where the log has this node, if that is elsewhere, another member may be by now: they exchanged their addresses.
        """
        members = [address for _, address in self._replication.configuration.addresses if is_address(address)]
        named = self._effects.resolve(self._seeds) if self._seeds else ()
        known = dict.fromkeys([*named, *members, *self._places()])
        return [target for target in known if target != self._own_address]


class Standing:
    """Whether this node is a member still; for a node that does not ask to be taken in (:class:`Joining`).

    A node that is removed is sent nothing more. There are two ways in which it finds out:

    - *Its own log says so*, with the entry that removes it, committed. It has that if it heard the leader at the time,
      because broadcasts reach all who subscribe.
    - *It asks.* A node that was away, or cut off, has itself among the members by its own log. Then it hears no leader,
      and campaigns in vain for ever. Or it hears the leader's broadcasts, which do not fit its log, and so it neither
      campaigns nor is repaired: it would look like a follower for ever. So a node that has taken nothing of a leader
      for a while asks for their status the members that it knows, the nodes that it was given, and with shards all
      nodes of the roster: a member that has come since may lead. The leader of a term that is not older than its own
      decides. It goes on asking, because the change that removed it may not be committed yet, or it may be taken in
      again.

    A node in touch asks nothing. One that is not asks each node once in :data:`STANDING_TIMEOUTS`.
    """

    def __init__(
        self,
        effects: Asking,
        replication: Replication,
        own_address: str,
        nonce: int,
        seeds: Sequence[str],
        group: int = 0,
        places: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """
        Args:
            nonce: a number that this node drew when it started.
            seeds: base endpoints of nodes that may be asked too; none for a node that founded its cluster.
            places: the base endpoints of the roster; none without shards.
        """
        self._effects = effects
        self._replication = replication
        self._own_address = own_address
        self._nonce = nonce
        self._seeds = tuple(seeds)
        self._group = group
        self._places = places
        self._interval_ticks = round(STANDING_TIMEOUTS * replication.election_ticks)
        self._ask_at = 0
        self._asked: list[str] = []
        self.was_removed = False
        """What the log or the leader said last."""
        self.let_go_at = 0
        """Up to which index the leader has committed what it said when it said last that this node is no member by
        what is committed; 0: it has not said so."""

    def tick(self) -> None:
        """Ask when it is time, or know without."""
        replication = self._replication
        patient_until = replication.accepted_at + self._interval_ticks
        if is_left_out(replication):
            self._note(True, "its own log")
            self.close()
        elif replication.role is LEADER or replication.ticks < patient_until:
            self.was_removed = False
            self._ask_at = patient_until
            self.close()
        elif replication.ticks >= self._ask_at:
            self._ask_at = replication.ticks + self._interval_ticks
            self.close()
            self._ask()

    def _ask(self) -> None:
        members = [address for _, address in self._replication.configuration.addresses if is_address(address)]
        named = self._effects.resolve(self._seeds) if self._seeds else ()
        known = dict.fromkeys([*members, *named, *self._places()])
        self._asked = [address for address in known if address != self._own_address]
        for address in self._asked:
            self._effects.ask(address, control.encode(frames.QUERY, control.StatusQuery(self._nonce), self._group))

    def take(self, address: str, answer: control.Answer) -> None:
        """An answer from the node at ``address``."""
        if not isinstance(answer, control.StatusAnswer) or answer.nonce != self._nonce or address not in self._asked:
            return
        status = answer.status
        if status.group == self._group and status.role == "leader" and status.term >= self._replication.term:
            removed = self._replication.node_id not in {member.node_id for member in status.members}
            members = Configuration.decode(status.committed_members).members if status.committed_members else ()
            if members and self._replication.node_id not in members:
                self.let_go_at = status.commit_index
            self._note(removed, f"{status.name}, which leads it")

    def _note(self, removed: bool, source: str) -> None:
        if removed and not self.was_removed:
            back = "start it again" if self._seeds else "delete its journal and start it again by the same command"
            self._effects.note(
                f"this node was removed from its group, says {source}. It takes no part. End it; or, to have it back"
                f" as a member, {back}",
                is_warning=True,
            )
        self.was_removed = removed

    def close(self) -> None:
        """Ask no more for now."""
        for address in self._asked:
            self._effects.hang_up(address)
        self._asked = []


def is_left_out(replication: Replication) -> bool:
    """Whether the log has members, this node is none of them, and that is committed. A log that has no members yet says
    nothing: the node may have been taken in since."""
    members = replication.configuration.members
    is_committed = replication.commit_index >= replication.configuration_index
    return is_committed and bool(members) and replication.node_id not in members
