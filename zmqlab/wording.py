"""Words for a person: a count with its noun, a list of names, a verb that agrees with its subject.

Every message says ``1 order`` and ``2,345 orders``, never ``1 orders``.
"""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, one: str, many: str = "") -> str:
    """``1 order``, ``2 entries``, ``2,345 orders``; ``many`` where the plural ends neither in s nor in ies."""
    plural = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{count:,} {agreeing(count, one, many or plural)}"


def agreeing(count: int, one: str, many: str) -> str:
    """The word that goes with ``count``: ``is`` or ``are``."""
    return one if count == 1 else many


def joined(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; empty without names."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
