"""What a torture run showed: how long no client was served under each kind of fault, and the verdict.

Unavailability is measured at the client, from the times at which its requests were acknowledged. The *gap* of a fault
is the longest time between two acknowledgements, one after the other, of those that overlap the time from the strike to
the recovery. Orders come at thousands a second, so without faults gaps are some milliseconds. Those are reported as
well, for the time between the faults (``calm``).

*With several Raft groups* each has gaps of its own, and a fault's gap is that of the group that waited longest. Over
all groups together there is hardly any: while one elects a leader, the others answer.

The client remembers the first requests and the newest ones. In between there may be a time of which nothing is known
but what was published while the run went on; the gap of a fault in that time is taken from there (``gap_seen_ms``).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zmqlab.errors import EXIT_FAILED
from zmqlab.judge import promises
from zmqlab.judge.verdict import LoadResult
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.scenarios.nemesis import Strike
from zmqlab.tables import html_table, text_table
from zmqlab.wording import counted

Times = npt.NDArray[np.int64]
ByGroup = Mapping[int, Times]
"""When requests were acknowledged, sorted, by the number of their Raft group."""

HEAD = ("fault", "times", "gap median ms", "gap worst ms", "recovery median s", "recovery worst s")
GROUP_HEAD = ("group", "gap median ms", "gap worst ms", "in fault", "calm worst ms")
CALM = "calm"
MAX_GAP_MS = 10_000.0
"""A fault that leaves a majority must not stop the service for longer, whatever its kind: forty election time-outs."""


def longest_gap_ms(acknowledged_ns: Times, from_ns: int, to_ns: int) -> float:
    """The longest time between neighbours in ``acknowledged_ns``, sorted, of those that overlap the given time."""
    first = max(0, int(np.searchsorted(acknowledged_ns, from_ns, "right")) - 1)
    last = int(np.searchsorted(acknowledged_ns, to_ns, "left")) + 1
    window = acknowledged_ns[first:last]
    return float(np.diff(window).max()) / 1e6 if len(window) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault and what it cost."""

    strike: Strike
    gaps_ms: Mapping[int, float]
    """Of each Raft group that was asked for anything."""

    @property
    def gap_ms(self) -> float:
        """That of the group for which it was longest."""
        return max(self.gaps_ms.values(), default=0.0)

    @property
    def worst_group(self) -> int | None:
        """Which one that is; None: there is one group."""
        return max(self.gaps_ms, key=self.gaps_ms.__getitem__) if len(self.gaps_ms) > 1 else None

    @property
    def recovery_s(self) -> float:
        """From the end of the fault until the cluster was whole."""
        return max(0.0, (self.strike.recovered_ns - self.strike.lifted_ns) / 1e9)

    @property
    def problem(self) -> str:
        """What was wrong with it, if anything."""
        if self.strike.problem:
            return self.strike.problem
        if self.gap_ms > MAX_GAP_MS and not self.strike.deal.draw.is_total:
            where = "" if self.worst_group is None else f" by group {self.worst_group}"
            return f"no client was served{where} for {self.gap_ms:,.0f} ms"
        return ""

    def as_dict(self, start_ns: int) -> dict[str, Any]:
        """For JSON; times in seconds from the start of the load."""
        strike = self.strike
        return {
            "number": strike.deal.number,
            "kind": strike.deal.kind,
            "variant": strike.deal.variant,
            "what": strike.what,
            "amount": strike.deal.amount,
            "hold_s": strike.deal.hold_s,
            "began_s": round((strike.began_ns - start_ns) / 1e9, 3),
            "lifted_s": round((strike.lifted_ns - start_ns) / 1e9, 3),
            "recovery_s": round(self.recovery_s, 3),
            "gap_ms": round(self.gap_ms, 1),
            "problem": self.problem,
        } | ({"gaps_ms": _rounded(self.gaps_ms)} if len(self.gaps_ms) > 1 else {})


def _rounded(gaps_ms: Mapping[int, float]) -> dict[str, float]:
    return {str(group): round(gap_ms, 1) for group, gap_ms in sorted(gaps_ms.items())}


def outcomes(
    strikes: Sequence[Strike],
    acknowledged_ns: ByGroup,
    gaps_seen_ms: Sequence[Mapping[int, float]] = (),
    forgotten_ns: tuple[int, int] | None = None,
) -> list[Outcome]:
    """Each strike with its gaps.

    Args:
        strikes: the faults.
        acknowledged_ns: when requests were acknowledged, sorted, by group.
        gaps_seen_ms: the gaps of each strike as they were published, by group; needed only with ``forgotten_ns``.
        forgotten_ns: between these two times acknowledgements were not remembered.
    """
    found = []
    for number, strike in enumerate(strikes):
        ended_ns = strike.recovered_ns or strike.lifted_ns
        if forgotten_ns is not None and strike.began_ns < forgotten_ns[1] and ended_ns > forgotten_ns[0]:
            found.append(Outcome(strike, gaps_seen_ms[number]))
        else:
            gaps = {group: longest_gap_ms(times, strike.began_ns, ended_ns) for group, times in acknowledged_ns.items()}
            found.append(Outcome(strike, gaps))
    return found


def calm_gap_ms(
    strikes: Sequence[Strike], acknowledged_ns: Times, forgotten_ns: tuple[int, int] | None = None
) -> float:
    """The longest gap of those that overlap no fault, and no time of which nothing is remembered; of one group."""
    if len(acknowledged_ns) < 2:
        return 0.0
    quiet = np.ones(len(acknowledged_ns) - 1, bool)
    if forgotten_ns is not None:
        first = int(np.searchsorted(acknowledged_ns, forgotten_ns[1])) - 1
        quiet[max(0, first) : first + 1] = False
    for strike in strikes:
        first = int(np.searchsorted(acknowledged_ns, strike.began_ns, "right")) - 1
        last = int(np.searchsorted(acknowledged_ns, strike.recovered_ns or strike.lifted_ns, "left"))
        quiet[max(0, first) : last] = False
    gaps = np.diff(acknowledged_ns)[quiet]
    return float(gaps.max()) / 1e6 if len(gaps) else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class TortureResult:
    """Everything about a run; shows itself as text and as HTML."""

    settings: dict[str, Any]
    load: LoadResult
    outcomes: Sequence[Outcome]
    calm_gaps_ms: Mapping[int, float]
    """By Raft group: the longest gap between the faults."""
    start_ns: int
    problems: Sequence[str] = field(default_factory=tuple)
    """What was wrong besides the verdict: no recovery in time, errors at the client."""
    run_dir: str = ""
    """Where logs and journals are, if they were kept."""
    kept: str = ""
    """The folder of the run, if it was to be kept (:mod:`zmqlab.runs`)."""

    @property
    def outcome(self) -> promises.Outcome:
        """``passed``: every promise was kept and every recovery was in time."""
        return "failed" if self.problems else self.load.verdict.outcome

    @property
    def ok(self) -> bool:
        """Whether it passed, and every threshold was kept."""
        return not self.problems and self.load.ok

    @property
    def exit_status(self) -> int:
        """What the command ends with."""
        return EXIT_FAILED if self.problems else self.load.exit_status

    @property
    def calm_gap_ms(self) -> float:
        """That of the group for which it was longest."""
        return max(self.calm_gaps_ms.values(), default=0.0)

    def group_rows(self) -> list[tuple[object, ...]]:
        """A row for each of several Raft groups, under :data:`GROUP_HEAD`: its gaps over all faults."""
        rows: list[tuple[object, ...]] = []
        for group, calm_ms in sorted(self.calm_gaps_ms.items()) if len(self.calm_gaps_ms) > 1 else ():
            gaps = [(each.gaps_ms[group], each.strike.deal.name) for each in self.outcomes if group in each.gaps_ms]
            worst_ms, fault = max(gaps, default=(0.0, "-"))
            median_ms = statistics.median([gap_ms for gap_ms, _ in gaps]) if gaps else 0.0
            rows.append((group, f"{median_ms:,.0f}", f"{worst_ms:,.0f}", fault, f"{calm_ms:,.0f}"))
        return rows

    def rows(self) -> list[tuple[object, ...]]:
        """The table by kind of fault, in the registry's order; a gap is that of the group that waited longest."""
        rows: list[tuple[object, ...]] = []
        for name in (f"{kind} {variant}" for kind, variant in FAULTS.draws):
            these = [each for each in self.outcomes if each.strike.deal.name == name]
            if these:
                gaps, recoveries = [each.gap_ms for each in these], [each.recovery_s for each in these]
                rows.append(
                    (
                        name,
                        len(these),
                        f"{statistics.median(gaps):,.0f}",
                        f"{max(gaps):,.0f}",
                        f"{statistics.median(recoveries):.1f}",
                        f"{max(recoveries):.1f}",
                    )
                )
        return [*rows, (CALM, "-", "-", f"{self.calm_gap_ms:,.0f}", "-", "-")]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.ok,
            "outcome": self.outcome,
            "settings": self.settings,
            "problems": list(self.problems),
            "faults": [each.as_dict(self.start_ns) for each in self.outcomes],
            "calm_gap_ms": round(self.calm_gap_ms, 1),
            **({"calm_gaps_ms": _rounded(self.calm_gaps_ms)} if len(self.calm_gaps_ms) > 1 else {}),
            "load": self.load.as_dict(),
            "run_dir": self.run_dir or None,
            "kept": self.kept or None,
        }

    def __repr__(self) -> str:
        lines = [repr(self.load), "", f"{counted(len(self.outcomes), 'fault')}, seed {self.settings.get('seed')}", ""]
        lines += [text_table(HEAD, self.rows()), ""]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        lines += [f"torture: {self.outcome.upper()}"]
        lines += [f"logs and journals: {self.run_dir}"] if self.run_dir else []
        lines += [f"kept: {self.kept}"] if self.kept else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = html_table(HEAD, self.rows())
        problems = html_table(("problem",), [(problem,) for problem in self.problems]) if self.problems else ""
        title = self.outcome if self.outcome == "passed" else self.outcome.upper()
        return f"<p><b>torture {title}</b></p>{table}{problems}{self.load._repr_html_()}"
