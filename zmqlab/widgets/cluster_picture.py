"""The cluster as a live picture: nodes in a ring, links, clients, messages on their way, and where each log stands.

:class:`ClusterPicture` is a panel (:mod:`~zmqlab.widgets.panel`): a click on a node or a link opens a menu with the
buttons of the one registry of faults, and they strike as those of the tables do. What moves does not travel as a state.
It is pushed as the charts' figures are (:class:`~zmqlab.widgets.live_figure.Pushes`): binary, numbered, with key
frames, ten times a second, at once if a node dies, and not at all for a hidden page.

*What is drawn.* :mod:`~zmqlab.widgets.picture_readings` says how nodes look, and
:mod:`~zmqlab.widgets.travelling_messages` which messages are told of.
``picture_scene.js`` decides what is seen where and when, ``picture_canvas.js`` draws it, and ``cluster_picture.js``
holds the page together. The first two know no page, and are tested without one.

*Honesty.* A message that takes 0.2 ms can't be seen. It is drawn over 0.4 s, and later ones of its story wait for it,
so that cause comes before effect. The caption says so. Nodes, links and logs are shown as they are now. *Slow motion*
shows the last ten seconds again, from what the page was told, with a sign that it is a replay.

*With several Raft groups* the picture is of all of them, or of the one that a person chooses in it
(:meth:`ClusterPicture.do_show`): its crown, its terms and timers, its logs and its messages. All pages that show this
picture show the same group. What was kept for slow motion is of the last choice, and begins anew.

*Samples cost something*, so they are asked for while a page shows the picture, for a few seconds at a time. Asking
takes up to half a second, and so it has a thread of its own.

Left out on purpose: a history beyond ten seconds. That is the charts'.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import traitlets
from ipywidgets import widget_serialization

from zmqlab.errors import ZmqlabError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.fault_registry import Control
from zmqlab.lab.feed import MetricsFeed
from zmqlab.lab.trace_leases import trace
from zmqlab.settings import require_whole
from zmqlab.tables import html_table
from zmqlab.widgets.cluster_controls import FaultPanel
from zmqlab.widgets.courier import Courier, box_with
from zmqlab.widgets.live_figure import Frame, Pushes, page_text
from zmqlab.widgets.panel import script
from zmqlab.widgets.picture_readings import PictureReadings
from zmqlab.widgets.sampler import sampler_of
from zmqlab.widgets.travelling_messages import share_for

LEASE_S = 5.0
"""Samples end so long after the last page that showed the picture."""
ASK_S = 2.0
"""Until they are asked for again; at once if the load has changed."""
RECORDS_PER_S = 250
"""Of each process. A leader with four followers needs as many for its heartbeats. It bounds what comes while a load
begins, and the share of its requests does not fit yet."""
IDLE_REQUESTS_PER_S = 20.0
"""Below, heartbeats are sampled, too. Under load a leader sends empty messages all the time."""
SAMPLED = "Real processes. Samples of real frames travel, slowed down."
OF_GROUP = "Samples of group {group}'s real frames travel, slowed down; one group is sampled at a time."
OF_OTHER = "No messages are shown: those of group {group} are sampled now, one group at a time."
NOT_SAMPLED = "Real processes. Their frames are not sampled: {why}"

_log = logging.getLogger(__name__)


class ClusterPicture(FaultPanel):
    """A cluster as a live picture; see the module.

    Its height follows from its width, between 320 and 1,200 pixels and beyond. In a box of a given height it fills that
    instead, once it has the class ``zl-fill``. All sizes follow the font size of the element that holds it.

    Args:
        cluster: a cluster that has been started.

    Raises:
        ClusterError: the cluster has not been started.
    """

    _esm = script("pushes.js", "picture_scene.js", "picture_canvas.js", "cluster_picture.js")
    _css = FaultPanel._css + page_text("cluster_picture.css")

    _courier = traitlets.Instance(Courier).tag(sync=True, **widget_serialization)
    _box = traitlets.Int().tag(sync=True)
    """With the courier."""

    def __init__(self, cluster: Cluster) -> None:
        self._pushes = Pushes()
        self._readings: PictureReadings | None = None
        """None: the panel is being made."""
        self._told: tuple[object, ...] = ()
        """What the last push told; another one does not wait."""
        self._asked_s = float("-inf")
        """When samples were asked for last, on the monotonic clock."""
        self._wish: tuple[float, bool] | None = None
        """The share that was asked for last, and whether heartbeats were."""
        self._unsampled = ""
        """Why there are no samples; empty: there are."""
        self._turns_to: int | None = None
        """The group whose messages are to be sampled from the next time on; None: the same as before."""
        self._courier, self._box = box_with(sampler_of(cluster), self._heard)
        super().__init__(cluster, interval_s=0.5)
        self._readings = PictureReadings(cluster, self._sampler)

    def close(self) -> None:
        """Take the picture from the page; samples end by themselves."""
        if self.comm is None:
            return
        super().close()
        self._courier.close_box(self._box)

    def make_state(self) -> dict[str, Any]:
        """Whether more will come; all else is pushed."""
        return {"alive": self._sampler.alive, "ended": self._sampler.ended}

    def html(self) -> str:
        """The nodes as a table of words; of the group that is shown."""
        looks = self._readings.look(time.monotonic()) if self._readings is not None else {}
        group = self._readings.group if self._readings is not None else None
        newest = self._sampler.feed.newest(group if self._sampler.groups is not None else None)
        rows = [
            (name, look.name.lower().replace("_", " "), status.term if (status := newest.get(name)) else "-")
            for name, look in looks.items()
        ]
        return html_table(("node", "is", "term"), rows)

    def do_show(self, group: int | None) -> None:
        """Show one Raft group, of several; None: all of them.

        Messages are traced of one group at a time, for the whole cluster: of the one that was chosen last, in any
        picture or by ``cluster.trace(group=...)``. A picture of another group shows none, says so, and has a button
        (:meth:`do_sample`). That of all groups shows those of the traced one.

        Raises:
            SettingsError: there is no such group.
        """
        if group is not None:
            require_whole("group", group, 0, max(self._sampler.feed.shards, 1) - 1)

        def change() -> None:
            self._readings = PictureReadings(self._cluster, self._sampler, group)

        self._pushes.begin_anew(change)
        self._turns_to, self._asked_s, self._wish = group, float("-inf"), None
        self.refresh(now=True)

    def do_sample(self) -> None:
        """Have the messages of the group that is shown traced, and no longer those of another one."""
        if self._readings is not None:
            self._turns_to, self._asked_s, self._wish = self._readings.group, float("-inf"), None

    def _own_controls(self) -> list[Control]:
        return list(FAULTS.controls)

    def _tick(self) -> None:
        if self._sampler.problem and not self._problem:
            self.tell(self._sampler.problem)
        self.refresh()
        self._push()

    def refresh(self, now: bool = False) -> None:
        """As :meth:`Panel.refresh`; ``now`` also pushes: an action has ended, and what it did is to be seen."""
        super().refresh(now)
        if now:
            self._push()

    def _push(self, owed: bool = False) -> None:
        readings = self._readings
        if readings is None or not self._pushes.watched:
            return
        self._ask_for_samples(readings)
        news = readings.news()
        now_ns = time.time_ns()
        caption = NOT_SAMPLED.format(why=self._unsampled) if self._unsampled else SAMPLED
        if self._sampler.feed.shards > 1 and not self._unsampled:
            caption = (OF_GROUP if readings.is_traced else OF_OTHER).format(group=self._sampler.feed.traces.group)
        is_news = owed or news != self._told
        if self._pushes.push(lambda: self._taken(now_ns, caption), self._post, is_news):
            self._told = news

    def _post(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self._courier.post(self._box, self.send, message, buffers)

    def _taken(self, now_ns: int, caption: str) -> Frame:
        """Called between two choices of a group, so that all of a push is of one."""
        assert self._readings is not None
        self._readings.sample(now_ns)
        return self._readings.frame(now_ns, caption)

    def _ask_for_samples(self, readings: PictureReadings) -> None:
        requests_per_s = readings.requests_per_s
        share = self._wish[0] if self._wish is not None else 0.0
        wish = (share_for(requests_per_s, share), requests_per_s < IDLE_REQUESTS_PER_S)
        is_due = time.monotonic() - self._asked_s >= (ASK_S if wish == self._wish else ASK_S / 4)
        if is_due and not self._sampler.ended:
            last, self._wish, self._asked_s = self._wish, wish, time.monotonic()
            group, self._turns_to = self._turns_to, None
            arguments = (self._sampler.feed, wish, last if last != wish else None, group)
            threading.Thread(target=self._ask, args=arguments, name="zmqlab-samples", daemon=True).start()

    def _ask(
        self, feed: MetricsFeed, wish: tuple[float, bool], last: tuple[float, bool] | None, group: int | None
    ) -> None:
        """Ask for samples, and no longer for those of before; ``group``: of this one from now on. Runs in a thread of
        its own."""
        try:
            for (share, heartbeats), seconds in ((wish, LEASE_S), (last, 0.0)) if last else ((wish, LEASE_S),):
                trace(feed, share, seconds, heartbeats=heartbeats, records_per_s=RECORDS_PER_S, group=group)
            self._unsampled = ""
        except ZmqlabError as error:
            self._unsampled = str(error)
        except Exception as error:
            _log.exception("samples can not be asked for")
            self._unsampled = f"{type(error).__name__}: {error}"

    def _on_message(self, widget: object, content: Mapping[str, Any], buffers: object) -> None:
        if "push" in content:
            self._heard(str(content.get("view")), str(content["push"]), int(content.get("seq", 0)))
        else:
            super()._on_message(widget, content, buffers)

    def _heard(self, view: str, what: str, sequence: int) -> None:
        self._pushes.heard(view, what, sequence)
        if self._sampler.ended and self._pushes.owes:  # no later turn will push what this page lacks
            self._push(owed=True)
