"""A lab for distributed systems: ZeroMQ, Raft and limit order books, run, broken and measured live.

A notebook or a script needs only the names of this module::

    from zmqlab import Cluster, LoadClient, Side

:class:`Cluster` starts nodes and breaks them, :class:`LoadClient` puts them under load, :class:`Client` sends single
orders, and a :class:`Verdict` says after a run whether anything that was promised is missing. A :class:`Scenario` is a
file that says what happens to a cluster and what is expected then. :func:`clusters` lists what runs, :func:`stop_all`
stops it. Each name is imported when it is first used: a node process imports this package too, and must not load the
lab.

The layers, from the ground up. A module imports only from its own layer and from earlier ones.

* :mod:`~zmqlab.errors`: the tree of all errors in operation
* :mod:`~zmqlab.wording`: a count with its noun, for messages
* :mod:`~zmqlab.endpoints`: how processes are addressed, and the ports of a node
* :mod:`~zmqlab.settings`: the settings of a node; durations and rates as people write them
* :mod:`~zmqlab.keys`: who may connect, and what each key may do
* :mod:`~zmqlab.names`: names of hosts and the addresses behind them
* :mod:`~zmqlab.net`: the only module that creates sockets
* :mod:`~zmqlab.handshakes`: why another process does not let this one in
* :mod:`~zmqlab.histogram`: latency histograms that merge
* :mod:`~zmqlab.machine_facts`: what a run was measured on
* :mod:`~zmqlab.raft`: consensus without I/O
* :mod:`~zmqlab.market`: the exchange, fast and naive
* :mod:`~zmqlab.placement`: which group a symbol belongs to, and which nodes hold each group
* :mod:`~zmqlab.wire`: bytes to messages and back
* :mod:`~zmqlab.tables`: statuses and other rows as text and as HTML
* :mod:`~zmqlab.replica`: one Raft group's share of a node: sessions, state machine, members
* :mod:`~zmqlab.engine`: a whole node without I/O: frames, ticks and signals in, effects out
* :mod:`~zmqlab.node`: the process around the engine: sockets, journal, logs, signals
* :mod:`~zmqlab.client`: a client's sessions, with and without sockets
* :mod:`~zmqlab.load`: order flow, schedule, generator, report
* :mod:`~zmqlab.sim`: engine and clients under one seed, with virtual clock, network and disks
* :mod:`~zmqlab.judge`: evidence of a run, and the verdict on it
* :mod:`~zmqlab.lab`: clusters, hosts, faults, events, live figures
* :mod:`~zmqlab.runs`: runs that are kept, shown, compared, and judged again
* :mod:`~zmqlab.scenarios`: faults on real processes under load: from a seed, or from a file
* :mod:`~zmqlab.widgets`: the panel in the notebook
* :mod:`~zmqlab.lesson`: what the chapters in ``notebooks/`` need beside the lab
* :mod:`~zmqlab.course`: labs in which a person writes the missing piece, and their grader
* :mod:`~zmqlab.cli`: one function for each command
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmqlab.client.order_client import Client
    from zmqlab.errors import ZmqlabError
    from zmqlab.judge.verdict import LoadResult, Verdict
    from zmqlab.lab.cluster import Cluster
    from zmqlab.lab.dask_host import DaskHost
    from zmqlab.lab.load_client import LoadClient
    from zmqlab.lab.register import clusters, stop_all
    from zmqlab.market.types import Command, ExecutionReport, OrderType, Side, TimeInForce
    from zmqlab.runs.kept_run import Run
    from zmqlab.runs.trace_diagrams import Diagram
    from zmqlab.scenarios.scenario_file import Scenario

__all__ = [
    "Client",
    "Cluster",
    "Command",
    "DaskHost",
    "Diagram",
    "ExecutionReport",
    "LoadClient",
    "LoadResult",
    "OrderType",
    "Run",
    "Scenario",
    "Side",
    "TimeInForce",
    "Verdict",
    "ZmqlabError",
    "clusters",
    "stop_all",
]

_HOME = {
    "Client": "zmqlab.client.order_client",
    "Cluster": "zmqlab.lab.cluster",
    "Command": "zmqlab.market.types",
    "DaskHost": "zmqlab.lab.dask_host",
    "Diagram": "zmqlab.runs.trace_diagrams",
    "ExecutionReport": "zmqlab.market.types",
    "LoadClient": "zmqlab.lab.load_client",
    "LoadResult": "zmqlab.judge.verdict",
    "OrderType": "zmqlab.market.types",
    "Run": "zmqlab.runs.kept_run",
    "Scenario": "zmqlab.scenarios.scenario_file",
    "Side": "zmqlab.market.types",
    "TimeInForce": "zmqlab.market.types",
    "Verdict": "zmqlab.judge.verdict",
    "ZmqlabError": "zmqlab.errors",
    "clusters": "zmqlab.lab.register",
    "stop_all": "zmqlab.lab.register",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
