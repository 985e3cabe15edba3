"""The members of a group, the voters among them, the size of a quorum, and how the members change.

Thesis, chapter 4. A :class:`Configuration` is a value, and it travels as an entry of the log. Each node follows it from
the moment it is appended there, committed or not, and goes back to the old one if the entry is truncated (section 4.1).
:class:`ConfigurationHistory` is the stack that this needs.

*One server at a time.* A change adds, removes, promotes or moves one server. So any quorum of the old configuration
shares a member with any quorum of the new one (section 4.1, figure 4.3). The next change must wait until the entry is
committed. And any change must wait until the leader has committed an entry of its own term. Without that second rule,
changes by different leaders could have quorums that share no member: this is the bug found in 2015, and one reason for
the no-op. :meth:`~zmqlab.raft.core.Raft.propose_configuration` holds both rules.

*Joining and leaving.* A new server should join as a learner (section 4.2.1), be watched in ``progress`` until it has
caught up, and then be promoted. A leader that removes itself leads until that is committed, without counting itself,
and then steps down (section 4.2.2). A removed server is not told. Pre-votes and refused votes keep it harmless (section
4.2.3).

*Addresses.* A configuration also carries the address of each member. A node that is new, or that has only a snapshot,
learns from it where the other members are. Raft itself never looks at addresses. Nor does it look at the *roster*, a
few bytes that a group may agree on beside its members, and that reach every node in the same way.

Left out: arbitrary changes by joint consensus (section 4.3), and the judgement of when a learner has caught up, which
:mod:`zmqlab.replica` makes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

_COUNTS = struct.Struct("<HH")
"""Number of voters, number of learners. Their ids follow as u64, then the address of each with its length before it,
then the roster with its length before it; nothing if there is none."""
_LENGTH = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a group. ``voters`` and ``learners`` are sorted, without repetition, and share no id.

    Raises:
        ValueError: a node is voter and learner, or an id is not positive or does not fit 64 bits.
    """

    voters: tuple[int, ...]
    """Ids of the members that elect leaders and commit entries."""
    learners: tuple[int, ...] = ()
    """Ids of the members that receive the log and do not vote (section 4.2.1)."""
    addresses: tuple[tuple[int, str], ...] = ()
    """``(node id, address)``, sorted. A member may have none. Addresses of nodes that are no members are dropped."""
    roster: bytes = b""
    """What the group has agreed on beside its members, at most 65,535 bytes: where there are many groups, which nodes
    there are (:class:`zmqlab.placement.Roster`). Raft never looks at it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "voters", tuple(sorted(set(self.voters))))
        object.__setattr__(self, "learners", tuple(sorted(set(self.learners))))
        if set(self.voters) & set(self.learners):
            raise ValueError(f"voters {self.voters} and learners {self.learners} overlap")
        if not all(0 < node_id < 1 << 64 for node_id in self.members):
            raise ValueError(f"node ids must be positive and fit 64 bits: {self.members}")
        known = {node_id: address for node_id, address in self.addresses if address and node_id in self.members}
        object.__setattr__(self, "addresses", tuple(sorted(known.items())))

    @property
    def members(self) -> tuple[int, ...]:
        """Ids of all members: they receive the log."""
        return self.voters + self.learners

    def differs_by_one(self, other: Configuration) -> bool:
        """Whether ``other`` is one step away: one server added, removed, promoted, demoted or moved; or another roster,
        by which no quorum changes."""
        changed = set(self.voters) ^ set(other.voters) | set(self.learners) ^ set(other.learners)
        before, after = dict(self.addresses), dict(other.addresses)
        stay = set(self.members) & set(other.members)
        moved = {member for member in stay if before.get(member) != after.get(member)}
        return len(changed | moved) + (self.roster != other.roster) == 1

    def with_learner(self, node_id: int, address: str = "") -> Configuration:
        """The configuration with one more member, which does not vote yet."""
        addresses = (*self.addresses, (node_id, address))
        return replace(self, learners=(*self.learners, node_id), addresses=addresses)

    def with_voter(self, node_id: int) -> Configuration:
        """The configuration in which the learner ``node_id`` votes."""
        learners = tuple(learner for learner in self.learners if learner != node_id)
        return replace(self, voters=(*self.voters, node_id), learners=learners)

    def with_address(self, node_id: int, address: str) -> Configuration:
        """The configuration in which the member ``node_id`` has another address."""
        return replace(self, addresses=tuple({**dict(self.addresses), node_id: address}.items()))

    def without(self, node_id: int) -> Configuration:
        """The configuration without the member ``node_id``."""
        voters, learners = ([each for each in ids if each != node_id] for ids in (self.voters, self.learners))
        return replace(self, voters=tuple(voters), learners=tuple(learners))

    def encode(self) -> bytes:
        """Bytes that are the same for equal configurations."""
        return _encoded(self)

    @classmethod
    @lru_cache(maxsize=256)
    def decode(cls, data: bytes) -> Configuration:
        """The configuration in the bytes of :meth:`encode`.

        Raises:
            ValueError: these bytes are not a configuration.
        """
        try:
            voters, learners = _COUNTS.unpack_from(data)
            ids = struct.unpack_from(f"<{voters + learners}Q", data, _COUNTS.size)
            offset, addresses = _COUNTS.size + 8 * len(ids), []
            for node_id in ids:
                (size,) = _LENGTH.unpack_from(data, offset)
                offset += _LENGTH.size + size
                addresses.append((node_id, data[offset - size : offset].decode()))
            roster = b""
            if offset < len(data):
                (size,) = _LENGTH.unpack_from(data, offset)
                offset += _LENGTH.size + size
                roster = data[offset - size : offset]
        except (struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"{len(data)} bytes are not a configuration") from error
        if offset != len(data):
            raise ValueError(f"{len(data)} bytes are not a configuration: it ends at {offset}")
        return cls(ids[:voters], ids[voters:], tuple(addresses), roster)


@lru_cache(maxsize=256)
def _encoded(configuration: Configuration) -> bytes:
    """A status tells it, and it changes seldom."""
    members, roster = configuration.members, configuration.roster
    parts = [_COUNTS.pack(len(configuration.voters), len(configuration.learners))]
    parts.append(struct.pack(f"<{len(members)}Q", *members))
    addresses = dict(configuration.addresses)
    for member in members:
        address = addresses.get(member, "").encode()
        parts += (_LENGTH.pack(len(address)), address)
    if roster:
        parts += (_LENGTH.pack(len(roster)), roster)
    return b"".join(parts)


def quorum_size(voter_count: int) -> int:
    """The size of the smallest majority of ``voter_count`` voters."""
    return voter_count // 2 + 1


def quorum_value(values: Iterable[int]) -> int:
    """The largest value that a quorum has reached, given one value for each voter; 0 without voters."""
    ordered = sorted(values)
    return ordered[len(ordered) - quorum_size(len(ordered))] if ordered else 0


class ConfigurationHistory:
    """The configurations that a log may still be rolled back to, newest last.

    Invariant: never empty, and the indexes rise strictly. The first configuration held at the oldest point of the log.
    """

    __slots__ = ("_stack", "current", "current_index")

    def __init__(self, index: int, configuration: Configuration) -> None:
        self._stack = [(index, configuration)]
        self.current = configuration
        """The configuration in effect: the latest in the log, committed or not."""
        self.current_index = index
        """The index of the entry that holds :attr:`current`."""

    @property
    def oldest_index(self) -> int:
        """The index from which on the configurations are known."""
        return self._stack[0][0]

    def append(self, index: int, configuration: Configuration) -> None:
        """An entry with ``configuration`` was appended at ``index``."""
        assert index > self.current_index
        self._stack.append((index, configuration))
        self.current_index, self.current = index, configuration

    def truncate(self, from_index: int) -> bool:
        """The entries from ``from_index`` on were dropped. Returns whether that changed the configuration."""
        before = len(self._stack)
        while len(self._stack) > 1 and self._stack[-1][0] >= from_index:
            self._stack.pop()
        self.current_index, self.current = self._stack[-1]
        return len(self._stack) != before

    def at(self, index: int) -> Configuration:
        """The configuration in effect at ``index``, which must not lie before the oldest one kept."""
        for start, configuration in reversed(self._stack):
            if start <= index:
                return configuration
        raise AssertionError(f"no configuration is kept for index {index}")

    def compact(self, index: int) -> None:
        """Forget configurations that only entries before ``index`` need."""
        while len(self._stack) > 1 and self._stack[1][0] <= index:
            del self._stack[0]
