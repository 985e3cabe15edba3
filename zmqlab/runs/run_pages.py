"""A kept run as one HTML page that opens offline: verdict, figures, charts with faults, evidence, settings, machine.

What decides comes first: the verdict, and the figures that people ask for. Charts follow, then what each fault cost,
then the evidence of the verdict, and at the end what it takes to repeat the run. A run of several repetitions begins
with all of them together, and then shows each.

What is around it is :mod:`zmqlab.runs.page_shell`'s. :mod:`zmqlab.runs.run_charts` draws, and
:mod:`zmqlab.runs.comparison` makes the page of several runs from the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from zmqlab.judge.promises import outcomes_text
from zmqlab.judge.verdict import Verdict
from zmqlab.lab.incidents import Incident
from zmqlab.load.load_report import text_of_ms
from zmqlab.runs.kept_files import NS_PER_S, SecondRow
from zmqlab.runs.kept_run import Repetition, Run, Spread
from zmqlab.runs.page_shell import in_notebook, page
from zmqlab.runs.run_bands import is_silence
from zmqlab.runs.run_charts import Backdrop, Curve, Line, Stripe, percentile_chart, series_style, time_chart
from zmqlab.runs.trace_diagrams import Diagram
from zmqlab.tables import clock, html_table

POINTS_MAX = 1_200
"""Of a curve. A longer run has several seconds in each point: the sum of its orders, the highest of its percentiles."""
SAME_LABEL_S = 1.0
"""Events with one label that follow each other this closely have one label: the links of a partition."""
MARKS = {True: ("ok", "✓"), False: ("bad", "✗"), None: ("unsure", "?")}
OUTCOME_IS_OK = {"passed": True, "failed": False, "not judged": None}
HASHES_HEAD = ("node", "at index", "state hash", "history hash")
OUTCOMES = {"passed": "ok", "failed": "bad", "not judged": "unsure"}
GIB = 1 << 30


def run_page(run: Run) -> str:
    """The report of a run as a whole page."""
    return page(f"{run.title}: {run.outcome}", run_body(run))


def run_in_notebook(run: Run) -> str:
    """The same as a part of a notebook's page."""
    return in_notebook(run_body(run))


# -- a run ---------------------------------------------------------------------------------------------------------


def run_body(run: Run) -> str:
    """All of a run's report but the page around it."""
    single = run.repetitions[0] if len(run.repetitions) == 1 else None
    parts = [headline(run.outcome, run.title, f"{run.when} · {run.name}"), _first_words(run)]
    notes = dict.fromkeys(text for each in run.repetitions for text in each.report.warnings)
    parts += [_note(text, "unsure") for text in notes]
    parts.append(_tiles(run))
    if single is not None:
        parts.append(_charts(single))
        parts.append(_details(single))
    else:
        parts += [_percentiles(run), section("Repetitions", _repetitions(run))]
        parts += [_one_of_many(each, number == 0) for number, each in enumerate(run.repetitions)]
    parts.append(settings_and_machine(run.settings, run.about.machine, run.about.versions))
    return "\n".join(parts)


def headline(outcome: str, title: str, under: str) -> str:
    """The badge of a verdict, a title, and what stands under it."""
    badge = f'<span class="badge {OUTCOMES[outcome]}">{outcome.upper()}</span>'
    return f'<div class="head">{badge}<h1>{escape(title)}</h1></div><p class="faint">{escape(under)}</p>'


def section(title: str, content: str) -> str:
    """A heading, and what belongs to it; nothing if there is nothing."""
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _first_words(run: Run) -> str:
    """The worst verdict in a sentence or a few, and each threshold that any repetition crossed."""
    worst = next(each for each in run.repetitions if each.verdict.outcome == run.outcome)
    verdict, count = worst.verdict, len(run.repetitions)
    where = f"repetition {worst.number}: " if count > 1 else ""
    told = [_note(f"{where}{each.name}: {each.detail}", MARKS[each.ok][0]) for each in verdict.checks if not each.ok]
    crossed: dict[str, list[str]] = {}
    for repetition in run.repetitions:
        where = f"repetition {repetition.number}: " if count > 1 else ""
        for limit in repetition.thresholds:
            if limit.ok is False:
                crossed.setdefault(limit.expression, []).append(where + limit.detail)
    for expression, details in crossed.items():
        often = f" in {len(details)} of {count} repetitions, first in" if count > 1 else ":"
        told.append(_note(f"threshold {expression} was crossed{often} {details[0]}", "bad"))
    return "".join(told) or f"<p>All {len(verdict.checks)} promises were kept. Covered: {escape(verdict.coverage)}.</p>"


def _note(text: str, style: str) -> str:
    return f'<div class="note {style}">{escape(text)}</div>'


def _tiles(run: Run) -> str:
    times, unserved = run.response_time, sum(each.report.unserved for each in run.repetitions)
    offered = sum(each.report.result.total.offered for each in run.repetitions)
    gap = max(each.report.result.longest_gap_ms for each in run.repetitions)
    rate = run.throughput
    tiles = [
        ("throughput", f"{rate.middle:,.0f}", "orders/s" + _range(rate, ",.0f", len(run.repetitions))),
        ("response time p50", f"{text_of_ms(times.p50_ms)} ms", f"p90 {text_of_ms(times.p90_ms)} ms"),
        ("p99", f"{text_of_ms(times.p99_ms)} ms", f"p99.9 {text_of_ms(times.p99_9_ms)} ms"),
        ("longest response", f"{text_of_ms(times.max_ms)} ms", f"longest gap {gap:,.0f} ms"),
        ("acknowledged", f"{run.acknowledged:,}", f"of {offered:,} orders"),
        ("unserved", f"{unserved:,}", f"orders, {unserved / max(offered, 1):.2%}"),
    ]
    return '<div class="tiles">' + "".join(_tile(*each) for each in tiles) + "</div>"


def _tile(name: str, value: str, under: str) -> str:
    return f'<div class="tile"><span class="faint">{name}</span><b>{value}</b><span class="faint">{under}</span></div>'


def _range(spread: Spread, form: str, count: int) -> str:
    return f", {spread.low:{form}} to {spread.high:{form}}" if count > 1 else ""


def _percentiles(run: Run) -> str:
    curves = [(f"repetition {each.number}", series_style(number), each) for number, each in enumerate(run.repetitions)]
    return figure(
        "Response time by percentile",
        [(style, name) for name, style, _ in curves],
        percentile_chart([(name, style, each.report.response_histogram) for name, style, each in curves]),
    )


def _repetitions(run: Run) -> str:
    head = ("", "orders/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "unserved", "verdict")
    rows = []
    for each in run.repetitions:
        times = each.report.response_time
        told = [text_of_ms(value) for value in (times.p50_ms, times.p99_ms, times.p99_9_ms, times.max_ms)]
        rate, unserved = f"{each.report.throughput:,.0f}", f"{each.report.unserved:,}"
        rows.append((f"repetition {each.number}", rate, *told, unserved, each.verdict.outcome))
    return table(head, rows, "numbers")


def _one_of_many(repetition: Repetition, is_open: bool) -> str:
    summary = f"Repetition {repetition.number}: {repetition.verdict.outcome}"
    state = " open" if is_open else ""
    return f"<details{state}><summary>{summary}</summary>{_charts(repetition)}{_details(repetition)}</details>"


# -- one repetition ------------------------------------------------------------------------------------------------


def _charts(each: Repetition) -> str:
    rows, behind = grouped(each.seconds), backdrop(each)
    stripes = [("band", "something was broken")] * any(stripe.style == "band" for stripe in behind.stripes)
    stripes += [("silent", "no answer came")] * any(stripe.style == "silent" for stripe in behind.stripes)
    rates = [
        Curve("offered", "offered", rate_points(rows, lambda row: row.offered)),
        Curve("acknowledged", "c0", rate_points(rows, lambda row: row.acknowledged)),
    ]
    if any(row.failed for row in rows):
        rates.append(Curve("failed", "c1", rate_points(rows, lambda row: row.failed)))
    times = [
        Curve("p50", "c0", points_of(rows, lambda row: row.response_p50_ms)),
        Curve("p99", "c1", points_of(rows, lambda row: row.response_p99_ms)),
        Curve("p99.9", "c3", points_of(rows, lambda row: row.response_p99_9_ms)),
        Curve("max", "c6", points_of(rows, lambda row: row.response_max_ms)),
    ]
    both = [("response time", "c0", each.report.response_histogram)]
    if not each.report.result.closed_loop:
        both.append(("service time", "c1", each.report.service_histogram))
    over = f", highest of {round(rows[0].length_s)} s" if rows and rows[0].length_s > 1.5 else ", each second"
    return "".join(
        (
            figure("Throughput", [*_keys(rates), *stripes], time_chart("orders/s", rates, behind)),
            figure(f"Response time{over}", [*_keys(times), *stripes], time_chart("ms", times, behind, log=True)),
            _cards(each),
            _traced(each),
            figure("Latency by percentile", [(style, name) for name, style, _ in both], percentile_chart(both)),
        )
    )


def _traced(each: Repetition) -> str:
    """The slowest traced request, and each election."""
    diagrams = [Diagram(part, each.events) for part in each.traced]
    slowest = [diagram for diagram in diagrams if diagram.part.key[0]][:1]
    elections = [diagram for diagram in diagrams if not diagram.part.key[0]]
    shown = [
        f"<details open><summary>The slowest traced request</summary>{each.figure()}</details>" for each in slowest
    ]
    shown += [f"<details><summary>{escape(each.title)}</summary>{each.figure()}</details>" for each in elections]
    return section("From traces of real frames", "".join(shown))


def figure(title: str, keys: Iterable[tuple[str, str]], chart: str) -> str:
    """A chart under its title and its legend: ``(style, name)`` each."""
    legend = "".join(f'<i class="{style}">{escape(name)}</i>' for style, name in keys)
    return f"<figure><figcaption><b>{escape(title)}</b>{legend}</figcaption>{chart}</figure>"


def _keys(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    return [(curve.style, curve.name) for curve in curves]


def backdrop(each: Repetition) -> Backdrop:
    """The events and bands of a repetition."""
    began_ns, rows = each.report.result.started_ns, each.seconds
    end = max([each.report.result.elapsed_s, *(row.at_s + row.length_s for row in rows)])
    lines: list[Line] = []
    last: dict[str, float] = {}
    for event in sorted(each.events, key=lambda event: event.at_s):
        if event.sort and 0 <= event.at_s <= end:
            again = event.at_s - last.get(event.label, float("-inf")) < SAME_LABEL_S
            lines.append(Line(event.at_s, "" if again else event.label, event.sort))
            last[event.label] = event.at_s
    stripes = []
    for span in each.faults.bands:
        start, stop = (span.start_ns - began_ns) / NS_PER_S, end
        if span.end_ns is not None:
            stop = (span.end_ns - began_ns) / NS_PER_S
        style = "silent" if is_silence(span) else "band"
        stripes.append(Stripe(max(start, 0.0), min(stop, end), span.label, style))
    return Backdrop(end, lines, stripes)


def grouped(rows: Sequence[SecondRow]) -> Sequence[SecondRow]:
    """Whole seconds, at most so many as a chart has points: orders are summed, of percentiles the highest counts."""
    whole = [row for row in rows if row.length_s >= 0.5] or list(rows)
    size = -(-len(whole) // POINTS_MAX)
    if size <= 1:
        return whole
    return [_together(whole[start : start + size]) for start in range(0, len(whole), size)]


def _together(rows: Sequence[SecondRow]) -> SecondRow:
    sums: dict[str, Any] = {}
    for name in SecondRow.__struct_fields__:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        sums[name] = (max(values) if name.endswith("_ms") else sum(values)) if values else None
    return SecondRow(**sums | {"at_s": rows[0].at_s})


def points_of(
    rows: Sequence[SecondRow], value: Callable[[SecondRow], float | None]
) -> list[tuple[float, float | None]]:
    return [(row.at_s + row.length_s / 2, value(row)) for row in rows]


def rate_points(rows: Sequence[SecondRow], count: Callable[[SecondRow], int]) -> list[tuple[float, float | None]]:
    """A count a second over time."""
    return points_of(rows, lambda row: count(row) / row.length_s)


def _cards(each: Repetition) -> str:
    began_ns = each.report.result.started_ns
    cards = "".join(_card(card, began_ns) for card in each.faults.cards)
    return section("What each fault cost", f'<div class="cards">{cards}</div>' if cards else "")


def _card(card: Incident, began_ns: int) -> str:
    led = " (it led)" if card.led else ""
    leads = f"{card.new_leader} leads after" if card.new_leader else "another node leads after"
    rows = [
        ("detected after", _ms(card.detected_ms)),
        (leads, _ms(card.elected_ms)),
        ("no acknowledgement for", _ms(card.silence_ms)),
        ("p99 before", _ms(card.p99_before_ms)),
        ("p99 during", _ms(card.p99_during_ms)),
        ("lost", card.lost or "not judged"),
        ("applied twice", card.duplicated or "not judged"),
    ]
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    at = f"{(card.time_ns - began_ns) / NS_PER_S:.1f} s"
    return f'<div class="card fault"><h3>{escape(card.title + led)}<span>{at}</span></h3><dl>{told}</dl></div>'


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _details(each: Repetition) -> str:
    events = [
        (
            clock(event.time_ns),
            f"{event.at_s:.2f}",
            event.node,
            event.kind.replace("_", " "),
            event.term or "",
            event.text,
        )
        for event in sorted(each.events, key=lambda event: event.time_ns)
    ]
    listed = table(("time", "second", "node", "what", "term", ""), events) if events else "<p>No event is known.</p>"
    figures = [*each.report.figures(), ("elections", str(each.elections)), ("exchange", each.exchange or "not known")]
    limits = [(MARKS[limit.ok], limit.expression, limit.detail) for limit in each.thresholds]
    return (
        section("Verdict: every promise, and its evidence", verdict_table(each.verdict))
        + section("Thresholds", signed_table(limits) if limits else "")
        + section("Figures", table((), figures))
        + f"<details><summary>{len(events):,} events</summary>{listed}</details>"
    )


def verdict_table(verdict: Verdict) -> str:
    """The promises of a verdict, and what it covers."""
    rows = [(MARKS[check.ok], check.name, check.detail) for check in verdict.checks]
    nodes = table(HASHES_HEAD, _hashes_of(verdict)) if verdict.nodes else ""
    return f"{signed_table(rows)}<p>Covered: {escape(verdict.coverage)}.</p>{_groups(verdict)}{nodes}"


def _groups(verdict: Verdict) -> str:
    """With several Raft groups: the outcome of each, the promises that it did not keep, and its nodes' hashes."""
    if not verdict.groups:
        return ""
    rows, hashes = [], []
    for group, each in verdict.groups.items():
        bad = "; ".join(f"{check.name}: {check.detail}" for check in each.checks if not check.ok)
        rows.append((MARKS[OUTCOME_IS_OK[each.outcome]], f"group {group}: {each.outcome}", bad or each.coverage))
        hashes += [(group, *cells) for cells in _hashes_of(each)]
    nodes = table(("group", *HASHES_HEAD), hashes)
    told = escape(outcomes_text(verdict.group_outcomes))
    return f"<p>Groups: {told}.</p><details><summary>Each group</summary>{signed_table(rows)}{nodes}</details>"


def _hashes_of(verdict: Verdict) -> list[tuple[str, ...]]:
    return [(node.name, f"{node.log_index:,}", node.state_hash[:16], node.chain_hash[:16]) for node in verdict.nodes]


def signed_table(rows: Iterable[tuple[tuple[str, str], str, str]]) -> str:
    """Rows that each begin with a sign."""
    told = (
        f'<tr><td class="sign {style}">{sign}</td><td><b>{escape(name)}</b></td><td>{escape(detail)}</td></tr>'
        for (style, sign), name, detail in rows
    )
    return f"<table>{''.join(told)}</table>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], style: str = "") -> str:
    """A table that scrolls by itself if the page is narrow."""
    text = html_table(head, rows, aligned=False).replace("<thead><tr></tr></thead>", "")
    return f'<div class="scroll {style}">{text}</div>'


def settings_and_machine(settings: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """What it takes to repeat a run, as two tables side by side."""
    told = [(name, setting_text(value)) for name, value in settings.items()]
    facts = [(name, setting_text(value)) for name, value in machine.items() if name != "memory_bytes"]
    facts += [("memory", f"{machine.get('memory_bytes', 0) / GIB:.1f} GiB"), *versions.items()]
    left, right = section("Settings", table((), told)), section("Machine", table((), facts))
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


def setting_text(value: Any) -> str:
    """A setting as people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if isinstance(value, float) else str(value)
