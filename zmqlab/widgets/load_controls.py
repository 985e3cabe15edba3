"""The load: started, stopped, steered and judged from the page.

A load client runs once, so each start makes a new one from what is chosen here; the one that was handed in is the
pattern for the first, and is steered and stopped from here if it runs. A run that is started here has no end of its
own. Stopping it judges it: the verdict stands here, and goes to whoever asked with :meth:`LoadControls.on_judged`.

What the machine can do is measured on demand, by a load client at rate "max". The two limits are told apart: orders
sent late with nobody but the generator to blame, and orders that wait because the cluster takes no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from zmqlab.cluster.cluster import Cluster
from zmqlab.cluster.load_client import LoadClient
from zmqlab.cluster.load_result import LoadResult
from zmqlab.cluster.tables import html_table
from zmqlab.errors import ClusterError
from zmqlab.load.metrics import LoadMetrics
from zmqlab.load.report import LATE_SHARE
from zmqlab.load.settings import FlowMix
from zmqlab.widgets.panel import Panel, script
from zmqlab.widgets.sampler import sampler_of

RATE_MIN = 100
RATE_TOP = 20_000
"""The slider's end until the machine has been measured."""
BEYOND = 1.25
"""The slider goes so far beyond saturation: it is there to be seen."""
CALIBRATION_S = 3.0
RECENT_SNAPSHOTS = 20
"""Two seconds."""
WAITING_SHARE = 0.1
JUDGE_TIMEOUT_S = 120.0

MIXES = {
    "calm market": FlowMix(),
    "many trades": FlowMix(passive=0.40, marketable=0.40, cancel=0.10, replace=0.03, ioc=0.04, fok=0.01, market=0.02),
    "many cancels": FlowMix(passive=0.42, marketable=0.05, cancel=0.45, replace=0.08, ioc=0.0, fok=0.0, market=0.0),
    "new orders alone": FlowMix(passive=0.75, marketable=0.25, cancel=0.0, replace=0.0, ioc=0.0, fok=0.0, market=0.0),
}
AS_GIVEN = "as given"
NODE_CHOICES = ("random", "round-robin", "leader")
ARRIVALS = ("poisson", "constant")
OWN = {"nodes", "rate", "duration_s", "node_choice", "arrivals", "mix"}
"""Settings that are chosen here; the others are taken from the pattern."""


class LoadControls(Panel):
    """See the module. ``load`` is the newest client: the one that was handed in, or one that was started here."""

    _esm = script("load_controls.js")

    def __init__(self, cluster: Cluster, load: LoadClient | None = None) -> None:
        self._cluster = cluster
        self._sampler = sampler_of(cluster)
        self.load = load
        self.result: LoadResult | None = None
        """The newest verdict's run."""
        self._pattern = load.settings if load is not None else None
        given = self._pattern
        self._mixes = dict(MIXES)
        if given is not None and given.mix not in MIXES.values():
            self._mixes[AS_GIVEN] = given.mix
        self._chosen: dict[str, Any] = {
            "rate": float(given.rate if given and given.rate else 5_000),
            "node_choice": given.node_choice if given else "random",
            "arrivals": given.arrivals if given else "poisson",
            "mix": next(name for name, mix in self._mixes.items() if mix == (given.mix if given else FlowMix())),
        }
        self._saturation = 0.0
        self._machine = ""
        self._phase = ""
        self._judged_of: LoadClient | None = None
        """The run that the verdict, or the problem, is of."""
        self._own: LoadClient | None = None
        """The client that was started here last; one that was handed in is its owner's to wait for."""
        self._on_judged: list[Callable[[LoadResult], None]] = []
        super().__init__()
        self._unregister = self._sampler.on_tick(self._tick)

    def on_judged(self, callback: Callable[[LoadResult], None]) -> None:
        """Call ``callback`` with each result, in the thread that judged."""
        self._on_judged.append(callback)

    # -- views -------------------------------------------------------------------------------------------------

    def make_state(self) -> dict[str, Any]:
        running = self.load is not None and self.load.running
        newest = self._sampler.load
        return {
            **self._chosen,
            "running": running,
            "phase": self._phase,
            "judge": not running and self._ended_unjudged(),
            "fixed": self.load is not None and running and self.load.settings.rate is None,
            "rate_min": RATE_MIN,
            "rate_max": self._top(),
            "saturation": round(self._saturation),
            "machine": self._machine,
            "mixes": list(self._mixes),
            "node_choices": NODE_CHOICES,
            "all_arrivals": ARRIVALS,
            "figures": _figures(newest) if newest is not None else None,
            "warning": warning_of(list(self._sampler.load_frames)[-RECENT_SNAPSHOTS:]) if newest is not None else "",
            "verdict": _verdict(self.result),
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        figures = self._state["figures"]
        if figures is None:
            return f"<p>Load: {self._chosen['rate']:,.0f} orders/s chosen, none is running.</p>"
        return html_table(tuple(figures), [tuple(figures.values())])

    def close(self) -> None:
        """Take it from the page; a load that runs goes on."""
        self._unregister()
        super().close()

    # -- actions -----------------------------------------------------------------------------------------------

    def do_choose(self, **chosen: Any) -> None:
        """Something was set. A rate counts at once, the rest at the next start."""
        self._chosen |= {name: value for name, value in chosen.items() if name in self._chosen}
        load = self.load
        if "rate" in chosen and load is not None and load.running:
            load.set_rate(float(chosen["rate"]))
        self.refresh(now=True)

    def do_start(self) -> None:
        self.act("start", self._start)

    def do_stop(self) -> None:
        self.act("stop", self._stop)

    def do_judge(self) -> None:
        self.act("judge", self._judge)

    def do_calibrate(self) -> None:
        self.act("calibrate", self._calibrate)

    def _start(self) -> None:
        if self.load is not None and self.load.running:
            raise ClusterError("a load is running already: stop it first")
        self.result = None
        self.load = self._own = self._new_client(self._chosen["rate"], None).start()

    def _stop(self) -> None:
        if self.load is None or not self.load.running:
            raise ClusterError("no load is running")
        self.load.stop()
        self._judge()

    def _judge(self) -> None:
        load = self.load
        if load is None:
            raise ClusterError("there is no run to judge: start one")
        self._phase, self._judged_of = "judging", load
        try:
            self.result = load.wait(JUDGE_TIMEOUT_S)
        finally:
            self._phase = ""
        for callback in self._on_judged:
            callback(self.result)

    def _calibrate(self) -> None:
        if self.load is not None and self.load.running:
            raise ClusterError("a load is running: what the machine can do is measured without one")
        self._phase = "measuring"
        try:
            client = self._new_client("max", CALIBRATION_S).start()
            result = client.wait(JUDGE_TIMEOUT_S)
            client.close()
        finally:
            self._phase = ""
        self._saturation = result.throughput
        count, at = len(self._cluster.running), time.strftime("%H:%M")
        nodes = f"{count} node{'s' * (count != 1)}"
        self._machine = f"This machine, with {nodes}: about {_round(self._saturation):,} orders/s (measured at {at})."

    def _new_client(self, rate: float | str, duration_s: float | None) -> LoadClient:
        pattern = self._pattern
        kept = {} if pattern is None else {each.name: getattr(pattern, each.name) for each in fields(pattern)}
        chosen = {name: value for name, value in kept.items() if name not in OWN}
        chosen |= {"node_choice": self._chosen["node_choice"], "arrivals": self._chosen["arrivals"]}
        # A run without an end outlives the log that the nodes keep: then the verdict says what it could not cover.
        return LoadClient(
            self._cluster, rate, duration_s, allow_compacted=True, mix=self._mixes[self._chosen["mix"]], **chosen
        )

    # -- inside ------------------------------------------------------------------------------------------------

    def _ended_unjudged(self) -> bool:
        return self.load is not None and self.load.newest is not None and self._judged_of is not self.load

    def _top(self) -> int:
        if self._saturation:
            return _round(self._saturation * BEYOND)
        return max(RATE_TOP, _round(self._chosen["rate"] * 2))

    def _tick(self) -> None:
        running = self.load is not None and self.load.running
        if self._own is self.load is not None and not running and not self._busy and self._ended_unjudged():
            self.act("judge", self._judge)  # it ended without being told to: its verdict or its error says why
        self.refresh(now=running != self._state["running"] or self._sampler.alive != self._state["alive"])


def warning_of(snapshots: list[LoadMetrics]) -> str:
    """What limits the run, if anything does: the generator or the cluster. ``snapshots``: the last two seconds."""
    sent = sum(each.interval.sent for each in snapshots)
    late = sum(each.interval.late for each in snapshots)
    held_back = sum(each.interval.held_back for each in snapshots)
    offered = sum(each.interval.offered for each in snapshots)
    if sent and late > LATE_SHARE * sent:
        return (
            f"The generator, not the cluster, is the limit: {late / sent:.1%} of the orders were sent late for want of "
            "CPU. Lower the rate before you believe the latencies."
        )
    if sent and held_back > WAITING_SHARE * sent:
        acknowledged = sum(each.interval.acknowledged for each in snapshots)
        over_s = sum(each.interval_s for each in snapshots) or 1.0
        return (
            f"The cluster is the limit: {offered / over_s:,.0f} orders/s offered, {acknowledged / over_s:,.0f} "
            "acknowledged; the others wait."
        )
    return ""


def _figures(metrics: LoadMetrics) -> dict[str, Any]:
    total = metrics.total
    return {
        "state": metrics.state,
        "elapsed_s": round(metrics.elapsed_s),
        "offered": total.offered,
        "acknowledged": total.acknowledged,
        "rejected": total.rejected,
        "outstanding": metrics.outstanding,
        "retries": total.retries,
        "cpu": round(metrics.cpu_percent),
    }


def _verdict(result: LoadResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "ok": result.verdict.ok,
        "coverage": result.verdict.coverage,
        "checks": [check._asdict() for check in result.verdict.checks],
        "summary": f"{result.throughput:,.0f} orders/s acknowledged, p50 {result.response_time.p50_ms:.2f} ms, "
        f"p99 {result.response_time.p99_ms:.2f} ms, longest gap {result.longest_gap_ms:,.0f} ms",
        "warnings": result.warnings,
    }


def _round(rate: float) -> int:
    """Two significant digits."""
    digits = max(len(str(int(rate))) - 2, 0)
    return int(round(rate, -digits))
