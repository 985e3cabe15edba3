"""How long the service stops after ``kill -9`` of the leader, by election time-out, and what a short time-out costs.

Each setting has one cluster under load. Its leader is killed and restarted again and again; the cluster is whole again
before the next kill. The client measures the gap: the longest time between two acknowledgements around the kill. Then
the cluster is left in peace for a while (with ``--busy``, other processes compete for its cores). An election in that
time is needless: it is the price of a time-out that is too short, or of an end that was seen and was none. The verdict
must pass in any case.

Where the time goes is told by the nodes' own events. Below each row stand medians, in milliseconds from the kill: when
the first voter had noticed it, when the next leader was elected, and when the first request was answered after that.

    python benchmarks/failover.py [--kills 50] [--rate 10000] [--nodes 3] [--ticks 15,20,25,30] [--calm 60] [--busy 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from machine import burning, unwind_at_sigterm

from zmqlab import Cluster, LoadClient
from zmqlab.judge.evidence import acknowledgements_of
from zmqlab.judge.log_collector import LogCollector
from zmqlab.lab.events import LabEvent
from zmqlab.lab.hosts import LocalHost, module_command
from zmqlab.scenarios.nemesis import Deal, Nemesis, Progress, Strike
from zmqlab.scenarios.torture_report import outcomes
from zmqlab.wire.control import Event, EventKind

HOLD_S = 1.0
"""How long the dead leader stays away: longer than an election."""
PHASES = ("noticed", "elected", "answered")


Phases = tuple[float, ...]
"""As many as PHASES, in their order; milliseconds from the kill."""


class Run:
    """The result of one setting."""

    def __init__(self, gaps_ms: list[float], phases_ms: list[Phases], needless: int, ok: bool) -> None:
        self.gaps_ms = gaps_ms
        self.phases_ms = phases_ms
        """Of each kill whose events are all known."""
        self.needless = needless
        """Leaders that took over in the calm time."""
        self.ok = ok

    def row(self) -> str:
        """Cells of the table behind the setting."""
        if not self.gaps_ms:
            return f"{'-':>9} {'-':>8} {'-':>8} {self.needless:>10}"
        median, p90 = statistics.median(self.gaps_ms), np.percentile(self.gaps_ms, 90)
        return f"{median:9.0f} {p90:8.0f} {max(self.gaps_ms):8.0f} {self.needless:>10}"

    def phases(self) -> str:
        """The medians of the phases."""
        if not self.phases_ms:
            return "no phases are known"
        medians = map(statistics.median, zip(*self.phases_ms, strict=True))
        return ", ".join(f"{name} {median:.0f} ms" for name, median in zip(PHASES, medians, strict=True))


def phases_of(strike: Strike, events: Sequence[Event], acknowledged_ns: np.ndarray) -> Phases | None:
    """When it was noticed, when the next leader was elected and when that one answered, in ms from the kill; None if
    an event is missing. The nodes' clock is the wall clock, the client's is not."""
    wall_ns = time.time_ns() - time.monotonic_ns()
    between = [each for each in events if strike.began_ns < each.time_ns - wall_ns < strike.lifted_ns]
    killed = [each.time_ns for each in between if each.kind == LabEvent.KILLED]
    told = [each.time_ns for each in between if each.kind in (EventKind.ROLE, EventKind.ELECTED)]
    elected = [each.time_ns for each in between if each.kind == EventKind.ELECTED]
    if not (killed and elected):
        return None
    after = acknowledged_ns[np.searchsorted(acknowledged_ns, elected[0] - wall_ns) :]
    if not len(after):
        return None
    noticed_ns, elected_ns, answered_ns = min(told), elected[0], int(after[0]) + wall_ns
    return tuple((each_ns - killed[0]) / 1e6 for each_ns in (noticed_ns, elected_ns, answered_ns))


def run_once(arguments: argparse.Namespace, ticks: int) -> Run:
    """Kill the leader of one cluster again and again, then watch the cluster in peace."""
    host = LocalHost([*module_command("zmqlab.node"), "--election-ticks", str(ticks)])
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(arguments.nodes, host=host))
        collector = stack.enter_context(LogCollector(cluster, cluster.run_dir))
        load = stack.enter_context(
            LoadClient(cluster, rate=arguments.rate, duration=None, seed=ticks, collector=collector)
        )
        load.start()
        progress = Progress()
        cluster.feed.on_load_frame(progress.take, at_once=True)
        nemesis = Nemesis(cluster, progress, lambda _: None, lambda: False)
        strikes: list[Strike] = []
        time.sleep(1.5)
        for number in range(1, arguments.kills + 1):
            strikes.append(nemesis.strike(Deal(number, "kill", "leader", HOLD_S, 0.0, 0.0, number)))
            if strikes[-1].problem:
                print(f"kill {number}: {strikes[-1].problem}", file=sys.stderr)
            time.sleep(0.3)
        needless = watch_in_peace(cluster, arguments)
        load.stop()
        result = load.wait()
        if not result.verdict.ok:
            print(result.verdict, file=sys.stderr)
        acknowledged_ns = np.array([ack.completed_ns for ack in acknowledgements_of(result.report.result)], np.int64)
        acknowledged_ns.sort()
        gaps_ms = [each.gap_ms for each in outcomes(strikes, acknowledged_ns)]
        phases_ms = [phases_of(strike, cluster.events, acknowledged_ns) for strike in strikes]
        ok = result.verdict.ok and not any(strike.problem for strike in strikes)
        return Run(gaps_ms, [each for each in phases_ms if each is not None], needless, ok)


def watch_in_peace(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """How many leaders take over although no node is killed."""
    with burning(arguments.busy):
        before = len(cluster.feed.leaders())
        time.sleep(arguments.calm)
        return len(cluster.feed.leaders()) - before


def main() -> int:
    """Measure, print, and fail if any verdict did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--ticks", default="20", help="minimum election time-outs to try, in ticks of 10 ms")
    parser.add_argument("--calm", type=float, default=60.0, help="seconds in peace after the kills")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy in that time")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    print(f"{arguments.kills} kills of the leader, {arguments.nodes} nodes, {arguments.rate:,.0f} orders/s")
    print(f"{'election ticks':14} {'median ms':>9} {'p90 ms':>8} {'worst ms':>8} {'needless':>10}")
    passed = True
    for ticks in map(int, arguments.ticks.split(",")):
        run = run_once(arguments, ticks)
        passed = passed and run.ok
        print(f"{ticks:14} {run.row()}  verdict {'ok' if run.ok else 'FAILED'}", flush=True)
        print(f"{'':14} {run.phases()}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
