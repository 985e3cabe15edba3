"""Which of the usable nodes a request goes to: a pure function."""

from __future__ import annotations

import random
from collections.abc import Sequence

from zmqlab.load.connection import Connection
from zmqlab.load.settings import NodeChoice


def choose_node(
    candidates: Sequence[Connection],
    other_than: Connection | None,
    choice: NodeChoice,
    turn: int,
    leader: int | None,
    rng: random.Random,
) -> Connection | None:
    """One of ``candidates`` by the rule, or None if there is none.

    A retry names the node that it comes from in ``other_than``: that one is taken only if it is the last. The leader
    is taken by choice ``leader`` if it is known and a candidate; until then any node will do, for it forwards.
    """
    if other_than is not None and len(candidates) > 1:
        candidates = [node for node in candidates if node is not other_than]
    if not candidates:
        return None
    if choice == "leader":
        for node in candidates:
            if node.index == leader:
                return node
    if choice == "random":
        return candidates[int(rng.random() * len(candidates))]
    return candidates[turn % len(candidates)]
