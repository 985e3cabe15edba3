"""Three replicas that have elected a leader."""

from __future__ import annotations

import pytest

from tests.replica.network import Network


@pytest.fixture
def network() -> Network:
    return Network()
