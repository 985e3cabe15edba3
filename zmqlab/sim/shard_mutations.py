"""Bugs to plant in what a node, and a client, do with many groups.

What a group does alone is planted elsewhere (:mod:`~zmqlab.sim.mutations`, :mod:`~zmqlab.sim.node_mutations`), and is
the same with shards. These are the bugs of the seam between groups: a frame, a session and a leader that go to the
wrong one, and a transaction that is not one. And they are the bugs of nodes that come and go: a replica that is closed
or let go too early, a roster that was never agreed on, and a node that takes another one's groups.
"""

from __future__ import annotations

from zmqlab import placement
from zmqlab.client import session
from zmqlab.engine import engine, following, group, hosting, leader_balance
from zmqlab.sim import disk
from zmqlab.sim.mutations import Mutation
from zmqlab.sim.plan import SimSettings

SHARDS = SimSettings(shards=True)

SHARD_MUTATIONS = (
    Mutation(
        "a frame of one group stepped into another",
        engine.Engine._hand_to_group,
        (("self._group(number)", "self._group(min(self.groups) if frame[-1] % 4 == 0 else number)"),),
        20,
        SHARDS,
    ),
    Mutation(
        "a session shared by two groups",
        session.Session.begin,
        (("encode_open_session(self.nonce, self._group)", "encode_open_session(self.nonce, 0)"),),
        20,
        SHARDS,
    ),
    Mutation(
        "an answer of one group taken for that of another",
        engine.Engine.on_client_frame,
        (("group = self.groups.get(number)", "group = self.groups.get(number) or next(iter(self.groups.values()))"),),
        40,
        SHARDS,
    ),
    Mutation(
        "a leader balanced away while it holds uncommitted entries",
        leader_balance.Balance.turn,
        (("elif replication.commit_index == replication.last_index:", "else:"),),
        120,
        SHARDS,
    ),
    Mutation(
        "a hand-over that the next leader is told of at the next tick",
        group.Group.end_turn,
        (("return self._look_round() or more", "return more if self._look_round() else more"),),
        20,
        SHARDS,
    ),
    Mutation(
        "one group's share of a transaction that is lost",
        disk.Disk.commit,
        (("self._joint[number] = contents", "self._joint.setdefault(number, contents)"),),
        20,
        SHARDS,
    ),
    Mutation(
        "what answers of all groups promise sent before it is stored",
        engine.Engine._turn_of_groups,
        (
            (
                "        for group, ready in due:\n            group.replica.send_stored(ready)\n        flush()\n",
                "        flush()\n",
            ),
            (
                "        flush()\n        to_store",
                "        for group, ready in due:\n            group.replica.send_stored(ready)\n"
                "        flush()\n        to_store",
            ),
        ),
        20,
        SHARDS,
    ),
    Mutation(
        "of frames that came as one only the first handed on",
        engine.Engine._hand_to_group,
        (("in decode_bundle(frame):", "in decode_bundle(frame)[:1]:"),),
        20,
        SHARDS,
    ),
    Mutation(
        "a replica closed before its group has let it go",
        following.Following.is_out,
        (("return standing.let_go_at >= max(1, in_effect)", "return True"),),
        15,
        SHARDS,
    ),
    Mutation(
        "a member let go before the one in its place votes",
        following.Following.tick,
        (("elif surplus and self._is_complete():", "elif surplus:"),),
        20,
        SHARDS,
    ),
    Mutation(
        "a member let go for one that has died since it was promoted",
        following.Following._is_complete,
        (("bool(is_lasting) and ", ""), ("self._answers(voters.get(place, 0))", "place in voters")),
        20,
        SHARDS,
    ),
    Mutation(
        "nodes that follow a roster that is not agreed on",
        hosting.Hosting.tick,
        (("replication.members_at(replication.commit_index).roster", "replication.configuration.roster"),),
        40,
        SHARDS,
    ),
    Mutation(
        "a node that takes the groups of the place where it is for its own",
        placement.Roster.place_of,
        (("return self", 'return (address if address in self.nodes else "") or self'),),
        120,
        SHARDS,
    ),
    Mutation(
        "a node that starts again with the groups that it has closed",
        hosting.Hosting._store,
        (("tuple(sorted(numbers))", "tuple(sorted({*numbers, *self.hosted.groups}))"),),
        400,
        SHARDS,
    ),
)
