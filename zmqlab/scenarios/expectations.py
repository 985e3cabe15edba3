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

An expectation is *met*, *not met*, or *not known*: then nothing was measured for it, and it is not met either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from zmqlab.errors import SettingsError
from zmqlab.judge.promises import Outcome
from zmqlab.judge.thresholds import METRICS, Threshold, parse_thresholds
from zmqlab.judge.verdict import LoadResult
from zmqlab.scenarios.written import Written, choices
from zmqlab.wire.node_status import NodeStatus

PASSES = "verdict passed"
_FORM = re.compile(r"([a-z_0-9.]+)\s*(<=|>=|==|<|>)\s*([0-9]*\.?[0-9]+\s*[a-z%]*)")
_OPPOSITE = {"==": (">=", "<="), "<": ("<",), "<=": ("<=",), ">": (">",), ">=": (">=",)}
"""A threshold that is crossed in each of these ways means that the expectation is met."""
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "==": lambda value, limit: value == limit,
}


class Met(NamedTuple):
    """One expectation, and what the run says to it."""

    text: str
    ok: bool | None
    """None: it is not known."""
    detail: str
    """The figure as it was."""


Measure = Callable[[LoadResult], tuple[bool | None, str]]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be so; made by :func:`read_expectations`."""

    text: str
    load: str
    """The name of the load that it is about; empty: of all of them."""
    measure: Measure

    def check(self, results: Mapping[str, LoadResult]) -> Met:
        """Look at the results of a run, by the name of their load."""
        looked = [(name, *self.measure(results[name])) for name in results if self.load in ("", name)]
        worst = min((ok for _, ok, _ in looked), key=lambda ok: {False: 0, None: 1, True: 2}[ok], default=None)
        details = [f"{name}: {detail}" if len(looked) > 1 else detail for name, _, detail in looked]
        return Met(self.text, worst, "; ".join(dict.fromkeys(details)) or "no load has a result")


def read_expectations(lines: Iterable[Written], loads: Collection[str]) -> tuple[Expectation, ...]:
    """The expectations that are written like this, about loads of these names.

    Raises:
        SettingsError: one can't be read; the message says what can be written.
    """
    found = [_read(line, loads) for line in lines]
    if not any(each.text.partition(".")[2].startswith("verdict") or each.text.startswith("verdict") for each in found):
        found.insert(0, Expectation(PASSES, "", _verdict("passed")))
    return tuple(found)


def _read(written: Written, loads: Collection[str]) -> Expectation:
    text = written.text()
    name = next((each for each in loads if text.startswith(f"{each}.")), "")
    said = text.removeprefix(f"{name}.") if name else text
    word, _, rest = said.partition(" ")
    if word == "verdict":
        if rest not in get_args(Outcome):
            raise written.wrong(f"a verdict is never {rest!r}: {choices(rest, get_args(Outcome))}")
        return Expectation(text, name, _verdict(rest))
    if word == "broken" and rest:
        return Expectation(text, name, _broken(rest))
    form = _FORM.fullmatch(said.lower())
    if form is None:
        raise written.wrong(f"{text!r} expects nothing: write 'verdict passed', 'gap < 1s' or 'elections >= 2'")
    metric, comparison, limit = form.groups()
    if metric in CLUSTER_FIGURES:
        return Expectation(text, name, _figure(written, metric, comparison, limit))
    if metric not in METRICS:
        raise written.wrong(f"nothing is measured as {metric!r}: {choices(metric, (*METRICS, *CLUSTER_FIGURES))}")
    try:
        thresholds = parse_thresholds(f"{metric}{each}{limit}" for each in _OPPOSITE[comparison])
    except SettingsError as error:
        raise written.wrong(str(error).partition(". Metrics")[0]) from None
    return Expectation(text, name, _metric(thresholds))


def _verdict(outcome: str) -> Measure:
    def measure(result: LoadResult) -> tuple[bool | None, str]:
        verdict = result.verdict
        said = [
            f"{check.name}: {check.detail}"
            for check in verdict.checks
            if check.ok is (False if verdict.outcome == "failed" else None)
        ]
        why = f" ({'; '.join(said)})" if said and verdict.outcome != outcome else ""
        known = verdict.outcome == outcome or verdict.outcome != "not judged"
        return (verdict.outcome == outcome) if known else None, f"{verdict.outcome}{why}"

    return measure


def _broken(promise: str) -> Measure:
    def measure(result: LoadResult) -> tuple[bool | None, str]:
        checks = {check.name: check for check in result.verdict.checks}
        if promise not in checks:
            return None, f"the verdict has no promise {promise!r}: {choices(promise, checks)}"
        return checks[promise].ok is False, checks[promise].detail

    return measure


def _metric(thresholds: Sequence[Threshold]) -> Measure:
    def measure(result: LoadResult) -> tuple[bool | None, str]:
        checks = [each.check(result.report, result.elections) for each in thresholds]
        if any(check.ok is None for check in checks):
            return None, checks[0].detail
        return all(check.ok is False for check in checks), checks[0].detail

    return measure


# -- figures of the nodes ------------------------------------------------------------------------------------------


def _members(nodes: Sequence[NodeStatus]) -> int:
    return max((sum(member.voter for member in node.members) for node in nodes if node.role == "leader"), default=0)


CLUSTER_FIGURES: Mapping[str, Callable[[Sequence[NodeStatus]], int]] = {
    "term": lambda nodes: max((node.term for node in nodes), default=0),
    "nodes": len,
    "members": _members,
    "snapshots": lambda nodes: sum(node.snapshots_total for node in nodes),
}
"""What is read from the nodes that run at the end: the highest term, how many they are, how many members vote by the
leader's word, how many snapshots they have taken since they were started."""


def _figure(written: Written, name: str, comparison: str, limit: str) -> Measure:
    if not limit.strip().isdecimal():
        raise written.wrong(f"{name!r} is a count: write a whole number in place of {limit.strip()!r}")

    def measure(result: LoadResult) -> tuple[bool | None, str]:
        nodes = [node.status for node in result.nodes if node.status is not None]
        if not nodes:
            return None, "no node answered at the end"
        value = CLUSTER_FIGURES[name](nodes)
        return _COMPARE[comparison](value, int(limit)), f"{name} {value:,}"

    return measure
