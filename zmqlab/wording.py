"""Words for a person: a count with its noun, a list of names or numbers, a verb that agrees with its subject.

For messages in which a count may be one: ``1 order`` and ``2,345 orders``, never ``1 orders``. What several reports say
of the same figure stands here, too.
"""

from __future__ import annotations

from collections.abc import Sequence

WHY_REFUSED = "does another process use the session, or was its key put out?"
"""What to look at, if orders were refused: a sound client on a sound cluster sees that for no other reason."""


def counted(count: int, one: str, many: str = "") -> str:
    """``1 order``, ``2 entries``, ``2,345 orders``; ``many`` where the plural is of another kind."""
    plural = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{count:,} {agreeing(count, one, many or plural)}"


def agreeing(count: int, one: str, many: str) -> str:
    """The word that goes with ``count``: ``is`` or ``are``."""
    return one if count == 1 else many


def numbered(one: str, numbers: Sequence[int]) -> str:
    """``group 3``, ``groups 1, 2``; the plural ends in s."""
    return f"{agreeing(len(numbers), one, f'{one}s')} {', '.join(map(str, numbers))}"


def refused(orders: int) -> str:
    """``1 order refused as stale, malformed or forbidden``: what a load client was answered with an error."""
    return f"{counted(orders, 'order')} refused as stale, malformed or forbidden"


def joined(names: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; empty without names. ``word``: before the last of them."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
