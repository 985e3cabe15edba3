"""A market on each of the exchanges."""

from __future__ import annotations

import pytest

from tests.market.exchanges import ALL
from tests.market.market import Market


@pytest.fixture(params=ALL)
def market(request: pytest.FixtureRequest) -> Market:
    return Market(request.param())
