"""The notebook's panel: a cluster to look at and to break, in JupyterLab and Voilà.

``from zmqlab.widgets import Lab``, then ``Lab(cluster, load)`` as a cell's last line. The parts of the panel are
widgets of their own. From a cluster's feed to the page, and back::

    cluster.feed ──▶ Sampler ──▶ charts (bokeh figures) ──▶ LiveFigure ──▶ page
                        │                                                    │
                        └──────▶ panels (tables and buttons) ◀───────────────┘
                                    └──▶ actions in threads ──▶ cluster

The package may not decide anything. What can be done to a cluster is a method of
:class:`~zmqlab.lab.cluster.Cluster` or :class:`~zmqlab.lab.load_client.LoadClient`, what was promised is judged
by the verdict, and the widgets show it. It opens no sockets, and a page needs neither network nor ports of its own.

The modules, in reading order:

* :mod:`~zmqlab.widgets.palette`: colours that follow the page's theme
* :mod:`~zmqlab.widgets.marks`: events in words, and as lines and bands over the charts
* :mod:`~zmqlab.widgets.group_readings`: what one row says about several Raft groups: who leads, who lags
* :mod:`~zmqlab.widgets.readings`: what one row says about the nodes and about the load; the newest rows; percentiles
* :mod:`~zmqlab.widgets.sampler`: the thread that samples a cluster ten times a second; which node leads
* :mod:`~zmqlab.widgets.courier`: one message for what several widgets push at one moment
* :mod:`~zmqlab.widgets.bokeh_library`: BokehJS, once for all figures of a kernel
* :mod:`~zmqlab.widgets.live_figure`: how a bokeh figure gets to a page, and what is new of it, and when
* :mod:`~zmqlab.widgets.scene`: what the figures of one page share, and what a chart is
* :mod:`~zmqlab.widgets.time_charts`: throughput, response time, replication and leaders over time
* :mod:`~zmqlab.widgets.book_chart`: an order book, its last trades, and the live tape
* :mod:`~zmqlab.widgets.chart_widgets`: these charts as widgets, alone or together
* :mod:`~zmqlab.widgets.pictures`: figures that do not move, for chapters and reports
* :mod:`~zmqlab.widgets.panel`: the base of tables and buttons
* :mod:`~zmqlab.widgets.cluster_controls`: nodes and links as tables, with the buttons that break and heal them
* :mod:`~zmqlab.widgets.group_table`: several Raft groups as a table: who leads each, and each node's lag there
* :mod:`~zmqlab.widgets.travelling_messages`: which sampled messages travel in the live picture
* :mod:`~zmqlab.widgets.picture_readings`: what the live picture is told: how nodes look, links, clients
* :mod:`~zmqlab.widgets.cluster_picture`: the cluster as a live picture, whose nodes and links can be clicked
* :mod:`~zmqlab.widgets.consistency_strip`: whether the nodes have the same state, and from where on they do not
* :mod:`~zmqlab.widgets.load_controls`: the load, started, steered and judged from the page
* :mod:`~zmqlab.widgets.fault_cards`: what each fault cost, as a card, and the log of events
* :mod:`~zmqlab.widgets.status_line`: one line that says whether clients are served
* :mod:`~zmqlab.widgets.stage`: what matters to a class room, beside a notebook's text or on a whole page
* :mod:`~zmqlab.widgets.lab_panel`: the whole panel, in either layout
* :mod:`~zmqlab.widgets.scenario_runner`: a button that runs a scenario, and its story
* :mod:`~zmqlab.widgets.story_player`: stories for a class: a question, a show of hands, captions

Needs the extra ``lab``: ``pip install 'zmqlab[lab]'``. Names are imported when they are first used, so that the package
can say so.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BookChart": "chart_widgets",
    "ClusterPicture": "cluster_picture",
    "ConsistencyStrip": "consistency_strip",
    "EventLog": "fault_cards",
    "FaultCards": "fault_cards",
    "FilmStrip": "fault_cards",
    "GroupTable": "group_table",
    "Lab": "lab_panel",
    "LatencyChart": "chart_widgets",
    "LoadControls": "load_controls",
    "NodeTable": "cluster_controls",
    "PartitionMatrix": "cluster_controls",
    "ReplicationChart": "chart_widgets",
    "ScenarioRunner": "scenario_runner",
    "StatusLine": "status_line",
    "Stories": "story_player",
    "ThroughputChart": "chart_widgets",
}
"""The module of each public name."""
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
