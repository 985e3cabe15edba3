"""The notebook's panel: a cluster to look at and to break, in JupyterLab and Voilà.

``from zmqlab.widgets import Lab`` and ``Lab(cluster, load)``. The parts of it are widgets of their own. From a
cluster's feed to the page::

    cluster.feed ──▶ Sampler (sampler.py: one thread, ring buffers)
                        ├──▶ charts (bokeh figures) ──▶ LiveFigure (pushes, at most ten a second)
                        └──▶ Panel (panel.py, panel.js: tables and buttons) ──▶ actions in threads ──▶ cluster

Views, no decisions: what can be done is :class:`~zmqlab.cluster.cluster.Cluster`'s and
:class:`~zmqlab.cluster.load_client.LoadClient`'s. Needs the extra ``lab``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BookChart": "chart_widgets",
    "EventLog": "incidents",
    "FaultCards": "incidents",
    "Lab": "lab_panel",
    "LatencyChart": "chart_widgets",
    "LoadControls": "load_controls",
    "NodeTable": "cluster_controls",
    "PartitionMatrix": "cluster_controls",
    "ReplicationChart": "chart_widgets",
    "ThroughputChart": "chart_widgets",
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
