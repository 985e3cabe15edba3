"""How a cluster behaves from idle to beyond saturation: one load client, a rising rate, figures of each step.

Response time is nearly flat as long as the cluster has time to spare. Then it bends, at the *knee*, and grows without
end: more orders come than are done, and each waits behind all that came before it. A rate beyond the knee measures the
queue. So a sweep stops behind the first rate that the cluster does not keep up with.

Each step has ``settle_s`` to forget the last one, and is then measured for ``step_s``. The load client publishes
histograms of intervals, which are merged. A rate is too much if the cluster does not keep up with it twice in a row: a
pause of the machine takes a twentieth of a short step, and does not come again, while a queue that grows goes on.

:func:`comfortable_rate` finds quickly a rate that this machine carries with ease.

Left out on purpose: the verdict. A sweep asks how fast, not whether.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from zmqlab.errors import ClusterError
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.load.load_messages import LoadCounters, LoadMetrics, decode_metrics
from zmqlab.load.load_report import LATE_SHARE, LatencySummary, response_time_of, service_time_of
from zmqlab.tables import html_table, text_table

KEEPS_UP = 0.95
"""A step whose acknowledged rate is below this share of the offered one is beyond saturation."""
HEAD = ("offered/s", "acknowledged/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "keeps up", "limit")

LOOKS = 2
"""How many times a step is measured with which the cluster does not keep up."""
SILENCE_S = 30.0
"""A load client that has published nothing for so long is dead. Offered far more than it can draw, it was silent for
seven seconds on a machine with other work."""

CALIBRATION_S = 0.5
"""How long the calibration of :func:`comfortable_rate` takes."""
CALIBRATION_REQUESTS, CALIBRATION_BATCH = 4, 64
"""A quarter of the queue of rate "max": enough to keep a core of the leader busy, and the log stays short."""
COMFORTABLE_SHARE = 0.1
"""Of what the cluster did in the calibration."""
COMFORTABLE_MIN, COMFORTABLE_MAX = 500, 5_000
"""Below it, charts show little. Above it, p99 on a shared machine begins to depend on its other processes."""


class SweepStep(NamedTuple):
    """One rate that was offered, and what the cluster made of it."""

    rate: float
    """Orders a second that were asked for."""
    offered: float
    """Orders a second that fell due, as drawn."""
    acknowledged: float
    response_time: LatencySummary
    service_time: LatencySummary
    late_share: float
    """The share of the orders sent that were late by the generator's own fault."""

    @property
    def keeps_up(self) -> bool:
        """Whether the cluster did what was offered."""
        return self.acknowledged >= KEEPS_UP * self.offered

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        times = {"response_time": self.response_time.as_dict(), "service_time": self.service_time.as_dict()}
        return self._asdict() | times | {"keeps_up": self.keeps_up, "generator_limited": self.generator_limited}

    @property
    def generator_limited(self) -> bool:
        """Whether the generator was the limit. Then the step says little about the cluster."""
        return self.late_share > LATE_SHARE

    @property
    def limit(self) -> str:
        """What was the limit: ``generator``, ``cluster``, or empty if there was none."""
        return "generator" if self.generator_limited else "" if self.keeps_up else "cluster"

    def row(self) -> tuple[object, ...]:
        """Cells of a table, under :data:`HEAD`."""
        times = self.response_time
        latencies = [
            f"{value:.1f}" if value else "-" for value in (times.p50_ms, times.p99_ms, times.p99_9_ms, times.max_ms)
        ]
        said = "yes" if self.keeps_up else "no"
        return (f"{self.offered:,.0f}", f"{self.acknowledged:,.0f}", *latencies, said, self.limit)


class Sweep(list[SweepStep]):
    """The steps, slowest first, shown as a table."""

    @property
    def knee_step(self) -> SweepStep | None:
        """The step with the highest rate that had no limit; None if there is none.

        A step of which the generator was the limit is left out, though the cluster kept up: it says little of that.
        """
        return max((step for step in self if not step.limit), default=None, key=lambda step: step.rate)

    @property
    def knee(self) -> float:
        """What the cluster acknowledged in :attr:`knee_step`, in orders a second; 0 if there is none."""
        return step.acknowledged if (step := self.knee_step) else 0.0

    @property
    def limit(self) -> str:
        """What was the limit above the knee: ``cluster``, ``generator`` or, if no higher rate was tried, empty.

        Only if it is ``cluster`` was the knee reached. Otherwise it lies beyond :attr:`knee_step`.
        """
        knee = self.knee_step
        above = {step.limit for step in self if knee is None or step.rate > knee.rate}
        return "cluster" if "cluster" in above else "generator" if above else ""

    def __repr__(self) -> str:
        return text_table(HEAD, [step.row() for step in self])

    def _repr_html_(self) -> str:
        return html_table(HEAD, [step.row() for step in self])


def sweep(
    target: Cluster | Sequence[str],
    rates: Iterable[float],
    *,
    step_s: float = 2.0,
    settle_s: float = 0.5,
    on_step: Callable[[SweepStep], None] = lambda _: None,
    **settings: Any,
) -> Sweep:
    """Offer each of ``rates``, the lowest first, and measure. Ends early behind the first that is too much.

    Args:
        target: a Cluster, or the client endpoints of nodes that run already.
        rates: orders a second.
        step_s: how long each rate is measured.
        settle_s: how long the cluster has to get used to a rate before it is measured.
        on_step: called with each step when it has been measured.
        settings: anything else that :class:`~zmqlab.load.load_settings.LoadSettings` takes.

    Raises:
        ClusterError: the load client published nothing in a step.
        SettingsError: a setting is wrong; the message names it.
    """
    steps = Sweep()
    with _Watched(target, min(rates := sorted(rates)), None, **settings) as watched:
        for rate in rates:
            watched.load.set_rate(rate)
            for _ in range(LOOKS):
                time.sleep(settle_s)
                step = watched.measure(rate, step_s)
                if step.keeps_up:
                    break
            steps.append(step)
            on_step(step)
            if not step.keeps_up:
                break
    return steps


def comfortable_rate(cluster: Cluster) -> int:
    """A rate that ``cluster`` carries with ease: a tenth of what it does in half a second of a short queue.

    Returns orders a second, from 500 to 5,000.
    """
    settings = {"closed_requests": CALIBRATION_REQUESTS, "closed_batch": CALIBRATION_BATCH}
    with _Watched(cluster, "max", None, **settings) as watched:
        acknowledged = watched.measure(0.0, CALIBRATION_S).acknowledged
    rate = round(acknowledged * COMFORTABLE_SHARE, -2)
    return int(min(max(rate, COMFORTABLE_MIN), COMFORTABLE_MAX))


class _Watched:
    """A load client that runs, and all that it publishes while it runs."""

    def __init__(self, target: Cluster | Sequence[str], rate: float | str, duration: float | None, **settings: Any):
        self.load = LoadClient(target, rate, duration, **settings)
        self._frames: list[bytes] = []

    def __enter__(self) -> _Watched:
        self._unsubscribe = self.load.feed.on_load_frame(self._frames.append, at_once=True)
        try:
            self.load.start()
        except BaseException:
            self._unsubscribe()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()
        self.load.close()

    def measure(self, rate: float, for_s: float) -> SweepStep:
        """The figures of the next ``for_s``. The interval that is under way is left out."""
        self._frames.clear()
        time.sleep(for_s + 0.05)
        deadline = time.monotonic() + SILENCE_S
        while len(self._frames) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)  # far beyond its own limit a generator finds little time to publish
        snapshots = [decode_metrics(frame) for frame in self._frames[1:]]
        if not snapshots:
            raise ClusterError("the load client published nothing during a step: does it still run? Offer it less")
        return _step_of(rate, snapshots)


def _step_of(rate: float, snapshots: Sequence[LoadMetrics]) -> SweepStep:
    total = LoadCounters()
    for each in snapshots:
        for name in ("offered", "acknowledged", "sent", "late"):
            setattr(total, name, getattr(total, name) + getattr(each.interval, name))
    over_s = sum(each.interval_s for each in snapshots)
    return SweepStep(
        rate,
        total.offered / over_s,
        total.acknowledged / over_s,
        LatencySummary.of(response_time_of(snapshots)),
        LatencySummary.of(service_time_of(snapshots)),
        total.late / max(total.sent, 1),
    )
