"""A lab for distributed systems: ZeroMQ, Raft and limit order books, run, broken and measured live.

What a notebook or a script needs is here: ``from zmqlab import Cluster, LoadClient``. The names are looked up when
they are first used, so that a node process, which imports this package too, loads nothing of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmqlab.cluster.client import Client
    from zmqlab.errors import ZmqlabError
    from zmqlab.judge.load_result import LoadResult
    from zmqlab.judge.verdict import Verdict
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.load_client import LoadClient
    from zmqlab.market.types import Command, ExecutionReport, OrderType, Side, TimeInForce

__all__ = [
    "Client",
    "Cluster",
    "Command",
    "ExecutionReport",
    "LoadClient",
    "LoadResult",
    "OrderType",
    "Side",
    "TimeInForce",
    "Verdict",
    "ZmqlabError",
]

_HOME = {
    "Client": "zmqlab.cluster.client",
    "Cluster": "zmqlab.lab.cluster",
    "Command": "zmqlab.market.types",
    "ExecutionReport": "zmqlab.market.types",
    "LoadClient": "zmqlab.lab.load_client",
    "LoadResult": "zmqlab.judge.load_result",
    "OrderType": "zmqlab.market.types",
    "Side": "zmqlab.market.types",
    "TimeInForce": "zmqlab.market.types",
    "Verdict": "zmqlab.judge.verdict",
    "ZmqlabError": "zmqlab.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
