"""What a scenario expects of its run: figures that must hold, and what the verdict must say.

An expectation is one line. It says what must be so, where a threshold (:mod:`zmqlab.judge.thresholds`) says what must
not be; metrics and units are the thresholds' own.

=============================  =====================================================================================
``verdict passed``             also ``verdict failed`` and ``verdict not judged``
``broken nothing lost``        the verdict says that this promise was broken, with its evidence
``gap < 1s``                   a metric of the load: ``<``, ``<=``, ``>``, ``>=``, ``==``, a number, its unit
``elections >= 2``             terms in which a leader was seen, the first one included
``term == 1``                  a figure of the nodes at the end: :data:`CLUSTER_FIGURES`
=============================  =====================================================================================

Where there are several loads, a line is about all of them, or about one whose name stands before it, as in
``closed.p99 < 50ms``. A scenario that says nothing of the verdict expects that it passes.

Where there are several Raft groups, some lines can be about one of them, or about those that a fault has *struck* (a
node that it hit led them at that moment) and about the *others*:

=============================  =====================================================================================
``group3.gap < 1s``            the longest gap of group 3; likewise ``group3.verdict passed``, ``group3.broken nothing
                               lost``, and ``group3.term == 1`` and ``group3.members == 3`` by the nodes' word
``struck.gap > 500ms``         the longest gap of any struck group
``others.gap < 500ms``         the longest gap of any other group
=============================  =====================================================================================

An expectation is *met*, *not met*, or *not known*: then nothing was measured for it, and it is not met either.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from zmqlab.errors import SettingsError
from zmqlab.judge.promises import Outcome
from zmqlab.judge.thresholds import COMPARE, METRICS, Threshold, parse_thresholds
from zmqlab.judge.verdict import LoadResult, Verdict
from zmqlab.scenarios.written import Written, choices
from zmqlab.wire.node_status import GroupBrief, NodeStatus

PASSES = "verdict passed"
SCOPE = re.compile(r"group(\d+)|struck|others")
"""Which of several Raft groups a line is about; a full stop stands behind it."""
_FORM = re.compile(r"([a-z_0-9.]+)\s*(<=|>=|==|<|>)\s*([0-9]*\.?[0-9]+\s*[a-z%]*)")
_CROSSED = {"<": ("<",), "<=": ("<=",), ">": (">",), ">=": (">=",), "==": (">=", "<=")}
"""The expectation is met if the thresholds with these comparisons are crossed: a threshold says what must not be."""
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {**COMPARE, "==": operator.eq}


class Met(NamedTuple):
    """One expectation, and what the run says to it."""

    text: str
    ok: bool | None
    """None: it is not known."""
    detail: str
    """The figure as it was."""


Measure = Callable[[LoadResult, Collection[int]], tuple[bool | None, str]]
"""Given a result, and the numbers of the struck groups: whether it is so, and the figure."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be so; made by :func:`read_expectations`."""

    text: str
    load: str
    """The name of the load that it is about; empty: of all of them."""
    measure: Measure

    def check(self, results: Mapping[str, LoadResult], struck: Collection[int] = ()) -> Met:
        """Look at the results of a run, by the name of their load; ``struck``: the numbers of the struck groups."""
        looked = [(name, *self.measure(results[name], struck)) for name in results if self.load in ("", name)]
        worst = min((ok for _, ok, _ in looked), key=lambda ok: {False: 0, None: 1, True: 2}[ok], default=None)
        details = [f"{name}: {detail}" if len(looked) > 1 else detail for name, _, detail in looked]
        return Met(self.text, worst, "; ".join(dict.fromkeys(details)) or "no load has a result")


def read_expectations(lines: Iterable[Written], loads: Collection[str], shards: int = 1) -> tuple[Expectation, ...]:
    """The expectations that are written like this, about loads of these names and so many Raft groups.

    Raises:
        SettingsError: one can't be read; the message says what can be written.
    """
    found = [_read(line, loads, shards) for line in lines]
    if not any(each.text.partition(".")[2].startswith("verdict") or each.text.startswith("verdict") for each in found):
        found.insert(0, Expectation(PASSES, "", _verdict("passed")))
    return tuple(found)


def _read(written: Written, loads: Collection[str], shards: int) -> Expectation:
    text = written.text()
    load = next((each for each in loads if text.startswith(f"{each}.")), "")
    said = text.removeprefix(f"{load}.") if load else text
    scope, dot, of_groups = said.partition(".")
    if dot and SCOPE.fullmatch(scope):
        return Expectation(text, load, _of_groups(written, scope, of_groups, shards))
    return Expectation(text, load, _of_verdict(written, said) or _of_figures(written, said))


def _of_verdict(written: Written, said: str, group: int | None = None) -> Measure | None:
    """What the verdict on all, or on one group, must say; None: ``said`` is not about it."""
    word, _, rest = said.partition(" ")
    if word == "verdict":
        if rest not in get_args(Outcome):
            raise written.wrong(f"a verdict is never {rest!r}: {choices(rest, get_args(Outcome))}")
        return _verdict(rest, group)
    return _broken(rest, group) if word == "broken" and rest else None


def _of_figures(written: Written, said: str) -> Measure:
    metric, comparison, limit = _parts(said)
    if not metric:
        raise written.wrong(
            f"{written.text()!r} expects nothing: write 'verdict passed', 'gap < 1s' or 'elections >= 2'"
        )
    if metric in CLUSTER_FIGURES:
        return _figure(metric, comparison, _whole(written, metric, limit))
    if metric not in METRICS:
        raise written.wrong(f"nothing is measured as {metric!r}: {choices(metric, (*METRICS, *CLUSTER_FIGURES))}")
    return _metric([_threshold(written, f"{metric}{each}{limit}") for each in _CROSSED[comparison]])


def _parts(said: str) -> tuple[str, str, str]:
    """Metric, comparison and limit; empty if ``said`` has another form."""
    form = _FORM.fullmatch(said.lower())
    return (form[1], form[2], form[3]) if form is not None else ("", "", "")


def _threshold(written: Written, expression: str) -> Threshold:
    try:
        (threshold,) = parse_thresholds([expression])
    except SettingsError as error:
        raise written.wrong(str(error).partition(". Metrics")[0]) from None
    return threshold


def _whole(written: Written, name: str, limit: str) -> int:
    if not limit.strip().isdecimal():
        raise written.wrong(f"{name!r} is a count: write a whole number in place of {limit.strip()!r}")
    return int(limit)


def _verdict(outcome: str, group: int | None = None) -> Measure:
    def measure(result: LoadResult, _struck: Collection[int]) -> tuple[bool | None, str]:
        verdict = _verdict_of(result, group)
        if verdict is None:
            return None, f"the verdict has no group {group}"
        said = [
            f"{check.name}: {check.detail}"
            for check in verdict.checks
            if check.ok is (False if verdict.outcome == "failed" else None)
        ]
        why = f" ({'; '.join(said)})" if said and verdict.outcome != outcome else ""
        known = verdict.outcome == outcome or verdict.outcome != "not judged"
        return (verdict.outcome == outcome) if known else None, f"{verdict.outcome}{why}"

    return measure


def _verdict_of(result: LoadResult, group: int | None) -> Verdict | None:
    return result.verdict if group is None else result.verdict.groups.get(group)


def _broken(promise: str, group: int | None = None) -> Measure:
    def measure(result: LoadResult, _struck: Collection[int]) -> tuple[bool | None, str]:
        verdict = _verdict_of(result, group)
        checks = {check.name: check for check in verdict.checks} if verdict is not None else {}
        if promise not in checks:
            return None, f"the verdict has no promise {promise!r}: {choices(promise, checks)}"
        return checks[promise].ok is False, checks[promise].detail

    return measure


def _metric(thresholds: Sequence[Threshold]) -> Measure:
    def measure(result: LoadResult, _struck: Collection[int]) -> tuple[bool | None, str]:
        checks = [each.check(result.report, result.elections) for each in thresholds]
        if any(check.ok is None for check in checks):
            return None, checks[0].detail
        return all(check.ok is False for check in checks), checks[0].detail

    return measure


# -- figures of the nodes ------------------------------------------------------------------------------------------


def _members(nodes: Sequence[NodeStatus]) -> int:
    return max((sum(member.voter for member in node.members) for node in nodes if node.role == "leader"), default=0)


CLUSTER_FIGURES: Mapping[str, Callable[[Sequence[NodeStatus]], int]] = {
    "term": lambda nodes: max(term for node in nodes for term in (node.term, *(each.term for each in node.groups))),
    "nodes": len,
    "members": _members,
    "snapshots": lambda nodes: sum(node.snapshots_total for node in nodes),
}
"""What is read from the nodes that run at the end: the highest term, how many they are, how many members vote by the
leader's word, how many snapshots they have taken since they were started. With several groups the term is the highest
of any, and members and snapshots are those of group 0: a node's answer tells no more."""


def _figure(name: str, comparison: str, count: int) -> Measure:
    def measure(result: LoadResult, _struck: Collection[int]) -> tuple[bool | None, str]:
        nodes = _statuses(result)
        if not nodes:
            return None, "no node answered at the end"
        return _compared(name, CLUSTER_FIGURES[name](nodes), comparison, count)

    return measure


def _statuses(result: LoadResult) -> list[NodeStatus]:
    """Of the nodes that answered at the end."""
    return [node.status for node in result.nodes if node.status is not None]


def _compared(name: str, value: int, comparison: str, count: int) -> tuple[bool, str]:
    return _COMPARE[comparison](value, count), f"{name} {value:,}"


# -- one of several Raft groups, or some ---------------------------------------------------------------------------

GROUP_FIGURES: Mapping[str, Callable[[Sequence[GroupBrief]], int]] = {
    "term": lambda briefs: max(brief.term for brief in briefs),
    "members": lambda briefs: max(len(brief.members) for brief in briefs),
}
"""What is read of one group from the words of the nodes that hold it at the end: its highest term, how many members it
has."""


def _of_groups(written: Written, scope: str, said: str, shards: int) -> Measure:
    """What ``said`` says of the groups that ``scope`` names."""
    if shards == 1:
        raise written.wrong(f"the cluster has one Raft group: leave {scope!r} away, or write shards in cluster")
    number = SCOPE.fullmatch(scope)
    group = int(number[1]) if number is not None and number[1] else None
    if group is not None and group >= shards:
        raise written.wrong(f"there is no group {group}: the last of {shards} is group {shards - 1}")
    if group is not None and (measure := _of_verdict(written, said, group)):
        return measure
    metric, comparison, limit = _parts(said)
    if metric == "gap":
        return _gap(scope, group, comparison, _threshold(written, f"gap<{limit}").limit)
    if group is not None and metric in GROUP_FIGURES:
        return _group_figure(group, metric, comparison, _whole(written, metric, limit))
    known = ["gap < 1s"] if group is None else ["gap < 1s", "verdict passed", "broken nothing lost", "term == 1"]
    raise written.wrong(
        f"of {scope} nothing is known as {said!r}: write {' or '.join(f'{scope}.{each}' for each in known)}"
    )


def _gap(scope: str, group: int | None, comparison: str, limit_ms: float) -> Measure:
    def measure(result: LoadResult, struck: Collection[int]) -> tuple[bool | None, str]:
        if group is None and not struck:
            return None, "no fault hit a node that led a group"
        meant = [
            share
            for share in result.report.result.groups
            if (share.group == group if group is not None else (share.group in struck) == (scope == "struck"))
        ]
        if not meant:
            return None, f"no order of the load belongs to {scope}"
        worst = max(meant, key=lambda share: share.longest_gap_ms)
        where = f" in group {worst.group}" if group is None else ""
        return _COMPARE[comparison](worst.longest_gap_ms, limit_ms), f"gap {worst.longest_gap_ms:,.0f} ms{where}"

    return measure


def _group_figure(group: int, name: str, comparison: str, count: int) -> Measure:
    def measure(result: LoadResult, _struck: Collection[int]) -> tuple[bool | None, str]:
        briefs = [brief for node in _statuses(result) for brief in node.groups if brief.number == group]
        if not briefs:
            return None, f"no node that answered at the end holds group {group}"
        return _compared(name, GROUP_FIGURES[name](briefs), comparison, count)

    return measure
