"""The notebook's panel: a cluster to look at and to break, in JupyterLab and Voilà.

``from zmqlab.widgets import Lab`` and ``Lab(cluster, load)``. The parts of it are widgets of their own. From a
cluster's feed to the page::

    cluster.feed ──▶ Sampler (data.py: one thread, ring buffers)
                        ├──▶ charts/ (bokeh figures) ──▶ LiveFigure (live.py, live.js: pushes, at most ten a second)
                        └──▶ Panel (panel.py, panel.js: tables and buttons) ──▶ actions in threads ──▶ cluster

Views, no decisions: what can be done is :class:`~zmqlab.lab.cluster.Cluster`'s and
:class:`~zmqlab.lab.load_client.LoadClient`'s. Needs the extra ``lab``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BookChart": "live_charts",
    "EventLog": "events",
    "FaultCards": "card",
    "Lab": "lab",
    "LatencyChart": "live_charts",
    "LoadControls": "controls",
    "NodeTable": "nodes",
    "PartitionMatrix": "partition",
    "ReplicationChart": "live_charts",
    "ThroughputChart": "live_charts",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("zmqlab"):
            raise
        raise ModuleNotFoundError(
            f"the notebook's widgets need {error.name}: pip install 'zmqlab[lab]', or make lab", name=error.name
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
