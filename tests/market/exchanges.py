"""The exchanges that the tests of this folder run on. The compiled one is skipped where it was not built."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from zmqlab.market import Exchange, NaiveExchange
from zmqlab.replica.execution import PythonExchange, compiled

COMPILED = compiled()
"""The class, or why there is none."""
needs_compiled = pytest.mark.skipif(isinstance(COMPILED, str), reason=f"there is no compiled exchange here: {COMPILED}")

Make: TypeAlias = type[PythonExchange]
"""A class with the interface of the fast exchange. All of them have it; one of them is named, for the type checker."""

FAST = [
    pytest.param(Exchange, id="python"),
    pytest.param(Exchange if isinstance(COMPILED, str) else COMPILED, id="compiled", marks=needs_compiled),
]
ALL = [*FAST, pytest.param(NaiveExchange, id="naive")]


def fast_exchanges() -> list[Make]:
    """Those that are here."""
    return [each for each in (Exchange, COMPILED) if not isinstance(each, str)]  # type: ignore[misc]
