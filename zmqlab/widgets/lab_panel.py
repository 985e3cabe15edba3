"""The whole panel on one page: status line, picture, nodes, load, fault cards, charts, links and events.

:class:`Lab` is the front of this package, and what most notebooks show. It only puts the widgets together; each of them
also works alone. There are two layouts of the same parts: the *panel*, one below the other in the cell, and the *stage*
(:mod:`~zmqlab.widgets.stage`), which stands beside the text and shows what matters to a class room.
"""

from __future__ import annotations

from typing import Any, Literal

import ipywidgets

from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.widgets.chart_widgets import AllCharts
from zmqlab.widgets.cluster_controls import NodeTable, PartitionMatrix
from zmqlab.widgets.cluster_picture import ClusterPicture
from zmqlab.widgets.consistency_strip import ConsistencyStrip
from zmqlab.widgets.courier import close_rest
from zmqlab.widgets.fault_cards import EventLog, FaultCards
from zmqlab.widgets.group_table import GroupTable
from zmqlab.widgets.live_figure import with_html
from zmqlab.widgets.load_controls import LoadControls
from zmqlab.widgets.sampler import sampler_of
from zmqlab.widgets.stage import BASE_PX, Stage, StageActions, StageChart, StageFigures
from zmqlab.widgets.status_line import StatusLine

LayoutName = Literal["panel", "stage"]
TABS = (
    ("nodes", ("nodes", "groups", "consistency")),
    ("load", ("load",)),
    ("links", ("links",)),
    ("charts and book", ("charts",)),
    ("events", ("events",)),
)
"""What the stage has behind its tabs; ``groups`` where there are several."""
TITLE = "A cluster, live"


class Lab(ipywidgets.VBox):
    """A cluster to look at and to break: ``Lab(cluster, load)`` as a cell's last line.

    Its parts are attributes: ``status``, ``picture``, ``nodes``, ``groups``, ``consistency``, ``load``, ``cards``,
    ``charts``, ``links`` and ``events``. Each is a widget of its own. ``groups`` is there where there are several.

    Args:
        cluster: a cluster that has been started.
        load: the pattern for loads that are started on the page; if it runs, it is steered from there.
        layout: ``panel``: everything below the cell; ``stage``: what matters beside the notebook's text, or on the
            whole page in Voilà, the rest behind tabs.
        title: stands on top of a stage.
        base_px: the size of plain text on a stage, in pixels; 18 can be read from the back of a room.

    Raises:
        ClusterError: the cluster has not been started.
        ValueError: there is no such layout.
    """

    def __init__(
        self,
        cluster: Cluster,
        load: LoadClient | None = None,
        *,
        layout: LayoutName = "panel",
        title: str = "",
        base_px: int = BASE_PX,
    ) -> None:
        self._sampler = sampler_of(cluster)
        self.load = LoadControls(cluster, load)
        self.status = StatusLine(cluster, self.load)
        self.picture = ClusterPicture(cluster)
        self.nodes = NodeTable(cluster)
        self.groups = GroupTable(cluster) if cluster.shards > 1 else None
        self.consistency = ConsistencyStrip(cluster)
        self.charts = AllCharts(cluster)
        self.cards = FaultCards(cluster, self.load)
        self.links = PartitionMatrix(cluster)
        self.events = EventLog(cluster)
        self._figures: StageFigures | None = None
        """Of a stage."""
        self.load.on_judged(self.judged)
        self._inner: tuple[Any, ...] = ()
        """What only the layout has: boxes, or the stage and its own parts. Closed with it."""
        if layout not in ("panel", "stage"):  # not before all is there that close() closes
            raise ValueError(f"no layout is called {layout!r}: take 'panel' or 'stage'")
        super().__init__(children=self._panel() if layout == "panel" else self._stage(cluster, title, base_px))
        self.add_class("zl-lab" if layout == "panel" else "zl-lab-stage")
        self.layout.width = "100%"

    @property
    def _parts(self) -> tuple[Any, ...]:
        rest = (self.load, self.cards, self.charts, self.links, self.events)
        return (self.status, self.picture, self.nodes, *self._of_groups, self.consistency, *rest)

    @property
    def _of_groups(self) -> tuple[Any, ...]:
        return () if self.groups is None else (self.groups,)

    def _panel(self) -> list[Any]:
        below = ipywidgets.Box([self.links, self.events])
        below.add_class("zl-row")
        self._inner = (below,)
        rest = [self.consistency, self.load, self.cards, self.charts, below]
        return [self.status, self.picture, self.nodes, *self._of_groups, *rest]

    def _stage(self, cluster: Cluster, title: str, base_px: int) -> list[Any]:
        self._figures = figures = StageFigures(cluster, lambda: self.load.load)
        actions, chart = StageActions(cluster), StageChart(cluster, base_px)
        parts = {"status": self.status, "figures": figures, "picture": self.picture, "chart": chart}
        parts |= {"cards": self.cards, "actions": actions}
        tabbed = {"nodes": self.nodes, "consistency": self.consistency, "load": self.load, "links": self.links}
        tabbed |= {"charts": self.charts, "events": self.events}
        tabbed |= {} if self.groups is None else {"groups": self.groups}
        tabs = [(label, [name for name in names if name in tabbed]) for label, names in TABS]
        stage = Stage(parts | tabbed, tabs, title or TITLE, base_px)
        self._inner = (stage, figures, actions, chart)
        return [stage]

    def judged(self, result: LoadResult) -> None:
        """Show the verdict on a run. A run that is judged on the page needs no call."""
        self.status.judged(result.verdict.outcome)
        self.cards.judged(result.verdict, result.report.result.started_ns)
        if self._figures is not None:
            self._figures.judged(result)

    def close(self) -> None:
        """Take the panel from the page; the cluster and its load go on.

        Raises:
            Exception: what a thread behind the panel died of, or how a part of it failed, if either did.
        """
        for part in self._parts:
            part.close()
        for each in self._inner:  # ipywidgets keeps a box that is not closed, and what is in it, for ever
            each.close()
            close_rest(each)
        super().close()
        close_rest(self)
        self._sampler.check()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_html(super()._repr_mimebundle_(**kwargs), self._repr_html_())

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self._parts)

    def __repr__(self) -> str:
        return "Lab()"
