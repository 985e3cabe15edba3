"""What a table of statuses says of its nodes together."""

from __future__ import annotations

import pytest

from tests.monitoring.fakes import a_status
from zmqlab.tables import NodeState, StatusTable


@pytest.mark.parametrize(
    ("exchanges", "said"),
    [
        ([], ""),
        (["", ""], ""),
        (["compiled", "compiled"], "compiled"),
        (["python", ""], "python"),
        (["python", "compiled", "python"], "compiled on node1; python on node0, node2"),
    ],
)
def test_which_exchange_matches_orders(exchanges: list[str], said: str) -> None:
    states = []
    for number, exchange in enumerate(exchanges):
        status = a_status()
        status.exchange = exchange
        states.append(NodeState(f"node{number}", "tcp://127.0.0.1:5002", "running", status))
    states.append(NodeState("gone", "tcp://127.0.0.1:5102", "silent"))
    assert StatusTable(tuple(states)).exchange == said
