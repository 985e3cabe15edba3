"""The load: started, stopped, steered and judged from the page.

A load client runs once, so each start makes a new one from what is chosen here. The client that was handed in is the
pattern for it: settings that cannot be chosen here come from there. If that client runs, it is steered and stopped from
here as well.

A run that is started here has no end of its own. Stopping it judges it: the verdict stands here, and goes to every
callback of :meth:`LoadControls.on_judged`. A run that ends without being told to is judged, too, because its verdict or
its error says why.

*What an acknowledgement means* stands in a line of its own, with its price and its risk. Whether the load waits for
answers is the load client's matter, and counts from the next start: one run has one meaning of *acknowledged*. Whether
a journal waits for the disk is changed while the cluster runs (:meth:`~zmqlab.lab.cluster.Cluster.change`). All else
needs a new cluster.

The speed of the machine is measured on demand, by a load client at rate "max". Two limits are told apart
(:func:`warning_of`): orders that were sent late although only the generator had to do with it, and orders that wait
because the cluster takes no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from zmqlab.errors import ClusterError
from zmqlab.judge.live_count import SoFar
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.incidents import UNSERVED_MS
from zmqlab.lab.load_client import LoadClient
from zmqlab.lab.service_status import PAUSE_MS
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.load.load_report import LATE_SHARE, text_of_ms
from zmqlab.load.load_settings import FlowMix
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.runs.kept_run import RUNS, Run
from zmqlab.settings import Durability
from zmqlab.tables import html_table
from zmqlab.widgets.panel import Panel, script

RATE_MIN = 100
"""Orders a second at the slider's low end; below it percentiles of a second mean little."""
RATE_TOP = 20_000
"""Orders a second at the slider's high end, until the machine has been measured."""
BEYOND = 1.25
"""The slider reaches beyond saturation, so that a reader can see what happens there."""
CALIBRATION_S = 3.0
"""The page says how long it takes: three seconds at full speed."""
RECENT_SNAPSHOTS = 20
"""Two seconds."""
WAITING_SHARE = 0.1
"""When more than this share of the orders is held back, the cluster is the limit."""
JUDGE_TIMEOUT_S = 120.0
"""The verdict replays the whole log on the naive book, which is slow on purpose."""

MIXES = {
    "calm market": FlowMix(),
    "many trades": FlowMix(passive=0.40, marketable=0.40, cancel=0.10, replace=0.03, ioc=0.04, fok=0.01, market=0.02),
    "many cancels": FlowMix(passive=0.42, marketable=0.05, cancel=0.45, replace=0.08, ioc=0.0, fok=0.0, market=0.0),
    "new orders alone": FlowMix(passive=0.75, marketable=0.25, cancel=0.0, replace=0.0, ioc=0.0, fok=0.0, market=0.0),
}
"""The flows to choose from."""
AS_GIVEN = "as given"
"""The name of a pattern's own flow."""
NODE_CHOICES = ("random", "round-robin", "leader")
ARRIVALS = ("poisson", "constant")
ANSWER, NOTHING = "the nodes' answer", "nothing"
WAITS = (ANSWER, NOTHING)
"""What a load client waits for: ``ack`` of its settings is ``none``, or not."""
OF_NOTHING = (
    "An order counts as sent when a socket has it.",
    "The fastest way there is.",
    "Whatever is lost on the way is lost, and no client learns of it.",
)
"""What is promised, the price and the risk of waiting for nothing."""
PRICES = {
    "raft": "Costs a way to the followers and back.",
    "leader-ack": "Saves the way to the followers: about half the time at the median.",
    "primary-backup": "Saves the way to the backups: about half the time at the median.",
    "broadcast": "Saves all agreement.",
}
"""Measured in docs/acknowledgements.md."""
DISKS = {
    "os": "The journal is written, not flushed: it outlives the death of every process, and no power cut.",
    "fsync": "Each write waits for the disk, which took three times as long at the median. It outlives a power cut.",
    "memory": "There is no journal: nothing outlives its process. Another durability needs a new cluster.",
}
"""By durability: what it survives, and its price where there is one, measured in docs/acknowledgements.md."""
OWN = {"nodes", "rate", "stages", "duration_s", "node_choice", "arrivals", "mix", "ack"}
"""Settings that are chosen here, or given by the cluster. The others come from the pattern. The slider's rate stands in
place of stages."""


class LoadControls(Panel):
    """The load's buttons, figures and verdict; see the module.

    Args:
        cluster: where orders go.
        load: the pattern for new clients; None: default settings.
    """

    _esm = script("load_controls.js")

    def __init__(self, cluster: Cluster, load: LoadClient | None = None) -> None:
        self.load = load
        """The newest client: the one that was handed in, or one that was started here."""
        self.result: LoadResult | None = None
        """Of the run that was judged last; None while a run has not been judged."""
        self._pattern = load.settings if load is not None else None
        self._fail_if = [each.expression for each in load.thresholds] if load is not None else []
        given = self._pattern
        self._mixes = dict(MIXES)
        if given is not None and given.mix not in MIXES.values():
            self._mixes[AS_GIVEN] = given.mix
        self._chosen: dict[str, Any] = {
            "rate": float(given.rate if given and given.rate else 5_000),
            "node_choice": given.node_choice if given else "leader" if cluster.shards > 1 else "random",
            "arrivals": given.arrivals if given else "poisson",
            "mix": next(name for name, mix in self._mixes.items() if mix == (given.mix if given else FlowMix())),
            "waits": NOTHING if (given.ack if given else cluster.ack) == "none" else ANSWER,
        }
        self._saturation = 0.0
        """Orders a second that the machine can do; 0: not measured yet."""
        self._machine = ""
        """The same in a sentence."""
        self._phase = ""
        """``judging`` or ``measuring`` while that is under way."""
        self._judged_of: LoadClient | None = None
        """The client whose run was judged last, or could not be."""
        self._kept = ""
        """The folder of the run that was judged last, if it is kept."""
        self._own: LoadClient | None = None
        """The client that was started here last. A client that was handed in is waited for by its caller."""
        self._on_judged: list[Callable[[LoadResult], None]] = []
        super().__init__(cluster)

    def on_judged(self, callback: Callable[[LoadResult], None]) -> None:
        """Call ``callback`` with the result of each judged run, in the thread that judged it."""
        self._on_judged.append(callback)

    # -- views -------------------------------------------------------------------------------------------------

    @property
    def so_far(self) -> SoFar | None:
        """What the run that goes on has lost so far; None: none goes on, or that is not counted."""
        return self.load.so_far if self.load is not None and self._is_running() else None

    def make_state(self) -> dict[str, Any]:
        """What is chosen, what can be done now, the figures, the limit and the verdict."""
        running = self._is_running()
        newest = None if self._sampler.ended else self._sampler.load
        recent = list(self._sampler.load_frames)[-RECENT_SNAPSHOTS:]
        return {
            **self._chosen,
            "running": running,
            "phase": self._phase,
            "judge": not running and self._ended_unjudged(),
            "keep": self.result is not None and not self._kept,
            "kept": self._kept,
            "fixed": self.load is not None and running and self.load.settings.rate is None,
            "rate_min": RATE_MIN,
            "rate_max": self._top(),
            "saturation": round(self._saturation),
            "machine": self._machine,
            "mixes": list(self._mixes),
            "node_choices": NODE_CHOICES,
            "all_arrivals": ARRIVALS,
            "all_waits": WAITS,
            **self._meaning(),
            "figures": _figures(newest) if newest is not None else None,
            "warning": warning_of(recent) if newest is not None else "",
            "keeps_up": newest is not None and keeps_up(recent),
            "verdict": _verdict(self.result),
            "alive": self._sampler.alive,
        }

    def html(self) -> str:
        """The figures of the load that runs, as a table."""
        figures = self._state["figures"]
        if figures is None:
            return f"<p>Load: {self._chosen['rate']:,.0f} orders/s chosen, none is running.</p>"
        return html_table(tuple(figures), [tuple(figures.values())])

    # -- actions -----------------------------------------------------------------------------------------------

    def do_choose(self, **chosen: Any) -> None:
        """Take a choice: ``rate``, ``mix``, ``node_choice``, ``arrivals`` or ``waits``. A rate counts at once, the rest
        at the next start."""
        self._chosen |= {name: value for name, value in chosen.items() if name in self._chosen}
        load = self.load
        if "rate" in chosen and load is not None and load.running:
            load.set_rate(float(chosen["rate"]))
        self.refresh(now=True)

    def do_start(self) -> None:
        """Start a new client."""
        self.act("start", self._start)

    def do_stop(self) -> None:
        """Stop the client that runs, and judge its run."""
        self.act("stop", self._stop)

    def do_judge(self) -> None:
        """Judge a run that has ended."""
        self.act("judge", self._judge)

    def do_keep(self) -> None:
        """Keep the run that was judged last, in the folder ``runs``."""
        self.act("keep", self._keep)

    def do_calibrate(self) -> None:
        """Measure what the machine can do."""
        self.act("calibrate", self._calibrate)

    def do_change(self, durability: Durability) -> None:
        """Have the journals of all nodes flushed, or not, while the cluster goes on."""
        self.act("change", lambda: self._cluster.change(durability=durability))

    def _start(self) -> None:
        if self.load is not None and self.load.running:
            raise ClusterError("a load is running already: stop it first")
        self.result = None
        self.load = self._own = self._new_client(self._chosen["rate"], None, self._fail_if).start()

    def _stop(self) -> None:
        if self.load is None or not self.load.running:
            raise ClusterError("no load is running")
        self.load.stop()
        self._judge()

    def _judge(self) -> None:
        load = self.load
        if load is None:
            raise ClusterError("there is no run to judge: start one")
        self._phase, self._judged_of, self._kept = "judging", load, ""
        try:
            self.result = load.wait(JUDGE_TIMEOUT_S)
        finally:
            self._phase = ""
        for callback in self._on_judged:
            callback(self.result)

    def _keep(self) -> None:
        if self.result is None or self._judged_of is None or self._kept:
            raise ClusterError("there is no judged run to keep: stop the load, or judge it, first")
        self._kept = str(Run.keep(self._judged_of, RUNS, "panel").folder)

    def _calibrate(self) -> None:
        if self.load is not None and self.load.running:
            raise ClusterError("a load is running: what the machine can do is measured without one")
        self._phase = "measuring"
        try:
            client = self._new_client("max", CALIBRATION_S, waits=ANSWER).start()
            result = client.wait(JUDGE_TIMEOUT_S)
            client.close()
        finally:
            self._phase = ""
        self._saturation = result.throughput
        count, at = len(self._cluster.running), time.strftime("%H:%M")
        nodes = f"{count} node{'s' * (count != 1)}"
        self._machine = f"This machine, with {nodes}: about {_round(self._saturation):,} orders/s (measured at {at})."

    def _new_client(
        self, rate: float | str, duration_s: float | None, fail_if: Sequence[str] = (), waits: str = ""
    ) -> LoadClient:
        pattern, waits = self._pattern, waits or self._chosen["waits"]
        kept = {} if pattern is None else {each.name: getattr(pattern, each.name) for each in fields(pattern)}
        chosen = {name: value for name, value in kept.items() if name not in OWN}
        chosen |= {"node_choice": self._chosen["node_choice"], "arrivals": self._chosen["arrivals"]}
        chosen["ack"] = "none" if waits == NOTHING else "quorum"  # of an answer the nodes say what it means
        # The log is collected as the run goes on, up to a bound, and a run without an end may outlive that. The verdict
        # then says what it covers.
        return LoadClient(
            self._cluster,
            rate,
            duration_s,
            allow_compacted=True,
            fail_if=fail_if,
            mix=self._mixes[self._chosen["mix"]],
            **chosen,
        )

    # -- inside ------------------------------------------------------------------------------------------------

    def _meaning(self) -> dict[str, Any]:
        """What an acknowledgement means to the load that runs, or else to the next one: the replication, what is
        promised, price and risk; and the journals."""
        plan, running = self._cluster.fleet.plan, self.load if self._is_running() else None
        kind = REPLICATIONS.known(plan.replication)
        is_unanswered = running.settings.ack == "none" if running else self._chosen["waits"] == NOTHING
        if is_unanswered:
            means = OF_NOTHING
        elif kind is not None:
            means = (f"{_capital(kind.promises)}.", PRICES.get(kind.name, ""), f"{_capital(kind.loses)}.")
        else:
            means = ("The class of the replication says what it promises.", "", "")
        return {
            "replication": plan.replication,
            "means": dict(zip(("promise", "price", "risk"), means, strict=True)),
            "durability": plan.durability,
            "disk": DISKS[plan.durability],
        }

    def _ended_unjudged(self) -> bool:
        return self.load is not None and self.load.newest is not None and self._judged_of is not self.load

    def _top(self) -> int:
        if self._saturation:
            return _round(self._saturation * BEYOND)
        return max(RATE_TOP, _round(self._chosen["rate"] * 2))

    def _is_running(self) -> bool:
        """Whether a load runs. When the cluster stops its load ends with it, a moment after the last figures."""
        return self.load is not None and self.load.running and not self._sampler.ended

    def _tick(self) -> None:
        running = self._is_running()
        newest = self.load.newest if self.load is not None and running else None
        if newest is not None and newest.rate:
            self._chosen["rate"] = newest.rate  # the page, a cell, or the stages of the load have set it
        waits = self._own is self.load is not None and not running and not self._busy and self._ended_unjudged()
        if waits and not self._sampler.ended:
            self.act("judge", self._judge)  # it ended without being told to
        self.refresh(now=running != self._state["running"] or self._sampler.alive != self._state["alive"])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def warning_of(snapshots: list[LoadMetrics]) -> str:
    """A sentence about what limits the run, the generator or the cluster; empty: nothing does.

    A cluster that answers nothing at all takes nothing new after a while, so that nothing is sent late either.

    Args:
        snapshots: of the last two seconds.
    """
    sent = sum(each.interval.sent for each in snapshots)
    late = sum(each.interval.late for each in snapshots)
    held_back = sum(each.interval.held_back for each in snapshots)
    offered = sum(each.interval.offered for each in snapshots)
    acknowledged = sum(each.interval.acknowledged for each in snapshots)
    waiting = snapshots[-1].outstanding if snapshots else 0
    if waiting and not acknowledged and snapshots[-1].silence_ms > UNSERVED_MS:
        return (
            f"The cluster acknowledges nothing, and {waiting:,} requests wait: a majority of its nodes must run and "
            "hear each other."
        )
    if sent and late > LATE_SHARE * sent:
        return (
            f"The generator, not the cluster, is the limit: {late / sent:.1%} of the orders were sent late for want of "
            "CPU. Lower the rate before you believe the latencies."
        )
    if sent and held_back > WAITING_SHARE * sent:
        over_s = sum(each.interval_s for each in snapshots) or 1.0
        return (
            f"The cluster is the limit: {offered / over_s:,.0f} orders/s offered, {acknowledged / over_s:,.0f} "
            "acknowledged; the others wait."
        )
    return ""


def keeps_up(snapshots: Sequence[LoadMetrics]) -> bool:
    """Whether the cluster is known to answer what it is asked: answers come, none is owed for long, few orders wait.

    Args:
        snapshots: of the last two seconds.
    """
    offered = sum(each.interval.offered for each in snapshots)
    acknowledged = sum(each.interval.acknowledged for each in snapshots)
    is_answered = acknowledged > 0 and acknowledged >= (1 - WAITING_SHARE) * offered
    return is_answered and snapshots[-1].silence_ms < PAUSE_MS


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
        "outcome": result.verdict.outcome,
        "coverage": result.verdict.coverage,
        "checks": [check._asdict() for check in result.verdict.checks],
        "thresholds": [check._asdict() for check in result.thresholds],
        "summary": f"{result.throughput:,.0f} orders/s acknowledged, p50 {text_of_ms(result.response_time.p50_ms)} ms, "
        f"p99 {text_of_ms(result.response_time.p99_ms)} ms, longest gap {result.longest_gap_ms:,.0f} ms",
        "warnings": result.warnings,
    }


def _round(rate: float) -> int:
    """``rate`` with two significant digits."""
    digits = max(len(str(int(rate))) - 2, 0)
    return int(round(rate, -digits))
