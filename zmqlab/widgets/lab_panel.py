"""The whole panel on one page: status line, nodes, load, fault cards, charts, links and events.

:class:`Lab` is the front of this package, and what most notebooks show. It only puts the widgets together; each of them
also works alone.
"""

from __future__ import annotations

from typing import Any

import ipywidgets

from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.widgets.chart_widgets import AllCharts
from zmqlab.widgets.cluster_controls import NodeTable, PartitionMatrix
from zmqlab.widgets.consistency_strip import ConsistencyStrip
from zmqlab.widgets.fault_cards import EventLog, FaultCards
from zmqlab.widgets.live_figure import close_rest, with_html
from zmqlab.widgets.load_controls import LoadControls
from zmqlab.widgets.sampler import sampler_of
from zmqlab.widgets.status_line import StatusLine


class Lab(ipywidgets.VBox):
    """A cluster to look at and to break: ``Lab(cluster, load)`` as a cell's last line.

    Its parts are attributes: ``status``, ``nodes``, ``consistency``, ``load``, ``cards``, ``charts``, ``links``,
    ``events``. Each is a widget of its own.

    Args:
        cluster: a cluster that has been started.
        load: the pattern for loads that are started on the page; if it runs, it is steered from there.

    Raises:
        ClusterError: the cluster has not been started.
    """

    def __init__(self, cluster: Cluster, load: LoadClient | None = None) -> None:
        self._sampler = sampler_of(cluster)
        self.status = StatusLine(cluster)
        self.nodes = NodeTable(cluster)
        self.consistency = ConsistencyStrip(cluster)
        self.load = LoadControls(cluster, load)
        self.charts = AllCharts(cluster)
        self.cards = FaultCards(cluster)
        self.links = PartitionMatrix(cluster)
        self.events = EventLog(cluster)
        self.load.on_judged(self._judged)
        below = ipywidgets.Box([self.links, self.events])
        below.add_class("zl-row")
        super().__init__(
            children=[self.status, self.nodes, self.consistency, self.load, self.cards, self.charts, below]
        )
        self.add_class("zl-lab")
        self.layout.width = "100%"

    @property
    def _parts(self) -> tuple[Any, ...]:
        return (
            self.status,
            self.nodes,
            self.consistency,
            self.load,
            self.cards,
            self.charts,
            self.links,
            self.events,
        )

    def _judged(self, result: LoadResult) -> None:
        self.status.judged(result.verdict.outcome)
        self.cards.judged(result.verdict, result.report.result.started_ns)

    def close(self) -> None:
        """Take the panel from the page; the cluster and its load go on.

        Raises:
            Exception: what a thread behind the panel died of, if one did.
        """
        boxes = [child for child in self.children if child not in self._parts]
        for part in self._parts:
            part.close()
        for box in boxes:  # ipywidgets keeps a box that is not closed, and what is in it, for ever
            box.close()
            close_rest(box)
        super().close()
        close_rest(self)
        if self._sampler.error is not None:
            raise self._sampler.error

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self._parts)

    def __repr__(self) -> str:
        return "Lab()"
