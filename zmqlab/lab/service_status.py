"""Whether clients are served now, in one line: what is known of a cluster and its load in, a status out.

:func:`service_status` is a pure function of :class:`~zmqlab.lab.service_facts.Facts`. The notebook's panel and the
terminal show the same line, a :class:`ServiceStatus`.
There are five levels (:class:`Level`), each with a shape beside its colour:

- *serving*: orders are acknowledged, and nothing that is known is wrong.
- *degraded*: orders are acknowledged, and something is wrong: a node is dead, paused or catching up, links are not
  whole, orders wait, some clients get no answer. Or an election is under way.
- *unserved*: answers are owed and none has come for a second; or, without a load, no order could be acknowledged.
- *not judged*: that can't be known, and the line says why. Without a load no order is tried, so nothing is known of
  service. When figures are old, they are called old.
- *no kernel*: only a page knows that. Nothing here gives it; it is here so that all displays have one list.

What a load client saw counts before what nodes say. A node that says that it leads may be cut off; an acknowledgement
has come, or it has not. What nodes and processes say is used to tell the reason, and what to do.

Rules: no clock and no sockets in :func:`service_status`. It remembers nothing: *since when* is read off the events, the
client's silence and its snapshots, and is 0 where they do not tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from zmqlab.lab.events import LabEvent
from zmqlab.lab.group_facts import Finding, findings_of_clients, findings_of_groups, said_of_leaders
from zmqlab.lab.incidents import NS_PER_MS, UNSERVED_MS
from zmqlab.lab.service_facts import NODE_FAULTS, NS_PER_S, OLD_S, Facts, NodeFacts
from zmqlab.load.load_messages import LoadMetrics
from zmqlab.load.load_report import LATE_SHARE, response_time_of
from zmqlab.wording import WHY_REFUSED, agreeing, counted, joined, refused

PAUSE_MS = 150.0
"""A longer time without acknowledgements is told. An election takes 200 ms and more; a busy machine causes shorter
gaps."""
BEHIND = 1_000
"""A node with more entries to apply is catching up: twenty thousand orders a second are 200 entries in 10 ms."""
WAITING_SHARE = 0.1
"""When more than this share of the orders is held back, the cluster is the limit."""
REJECTED_SHARE = 0.5
"""The ordinary flow has a few rejections in a hundred, such as the cancel of an order that was filled meanwhile."""
START_NS = 2_000_000_000
"""A node speaks 0.2 s after its start; on a machine with other work a second later."""
REASONS_SHOWN = 2
_DEATHS = frozenset((LabEvent.KILLED, LabEvent.TERMINATED, LabEvent.DIED, LabEvent.WIPED, LabEvent.REMOVED))
_ENDS = _DEATHS | {LabEvent.PAUSED}
_LINK_FAULTS = frozenset((LabEvent.CUT, LabEvent.LINK, LabEvent.PARTITIONED))
_LOOK = "look at the event log"
_COUNTED = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Level(StrEnum):
    """How much a reader must worry. The values are what pages are sent."""

    SERVING = "serving"
    DEGRADED = "degraded"
    UNSERVED = "unserved"
    NOT_JUDGED = "not judged"
    NO_KERNEL = "no kernel"

    @property
    def symbol(self) -> str:
        """A shape of one character, so that the level can be told without colours."""
        return _LOOKS[self][0]

    @property
    def colour(self) -> str:
        """A colour by name: a display has its own shade of it."""
        return _LOOKS[self][1]


_LOOKS = {
    Level.SERVING: ("●", "green"),
    Level.DEGRADED: ("▲", "amber"),
    Level.UNSERVED: ("■", "red"),
    Level.NOT_JUDGED: ("○", "grey"),
    Level.NO_KERNEL: ("✕", "black"),
}


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One line about a cluster's service."""

    level: Level
    headline: str
    """Two or three words in capitals. It changes only when the state does, so it can be announced."""
    text: str
    """What is known, in a sentence without a full stop."""
    since_ns: int = 0
    """When that began, on the wall clock; 0: not known, or of no interest."""
    advice: str = ""
    """What to do about it; empty: nothing."""

    def line(self, now_ns: int) -> str:
        """All of it, as in ``NOBODY IS SERVED for 8 s: 1 of 3 nodes runs, a majority is 2: restart one``."""
        if self.level is Level.SERVING:
            return " ".join(filter(None, (self.headline, self.text))) + (f": {self.advice}" if self.advice else "")
        lasts = f" for {duration(now_ns - self.since_ns)}" if self.since_ns else ""
        return ": ".join(filter(None, (self.headline + lasts, self.text, self.advice)))


def service_status(facts: Facts) -> ServiceStatus:
    """Whether clients are served; see the module."""
    if facts.life == "not started":
        return _not_judged("NOTHING RUNS", "the cluster has not been started", "cluster.start() starts it")
    if facts.life == "stopped":
        return _not_judged("NOTHING RUNS", _said_of_last_run("the cluster has been stopped", facts), "start a new one")
    if facts.problem:
        return _not_judged("NOT JUDGED", f"the figures have stopped: {facts.problem}", "run the cell again")
    clients = facts.clients
    speaking = [each for each in clients if facts.silent_s.get(each[-1].pid, inf) < OLD_S]
    if not speaking and clients and not facts.is_out:
        return _of_silent_clients(facts, clients)
    at_work = [each for each in speaking if _is_at_work(each)]
    return _under_load(facts, at_work) if at_work else _without_load(facts, paused=bool(speaking))


def duration(length_ns: float) -> str:
    """A time as people say it: ``0.3 s``, ``8 s``, ``2 min 5 s``, ``1 h 3 min``."""
    seconds = max(length_ns, 0) / NS_PER_S
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# -- with a load ---------------------------------------------------------------------------------------------------


def _under_load(facts: Facts, clients: Sequence[Sequence[LoadMetrics]]) -> ServiceStatus:
    newest = [each[-1] for each in clients]
    patience_ms = PAUSE_MS if facts.is_out else UNSERVED_MS
    waiting = [each for each in newest if each.outstanding and each.silence_ms > patience_ms]
    if len(waiting) == len(newest):
        since_ns = min(each.time_ns - round(each.silence_ms * NS_PER_MS) for each in waiting)
        return ServiceStatus(Level.UNSERVED, "NOBODY IS SERVED", *_why_unserved(facts, since_ns))
    if all(_waits_for_nothing(each) for each in clients):
        text = "the load client waits for no answer, so it learns nothing of what becomes of its orders"
        return _not_judged("NOT JUDGED", text, "the verdict tells, when the load has stopped")
    if not any(each.total.acknowledged for each in newest):
        return _not_judged("STARTING", "orders are on their way, and the first answer has not come yet")
    served = _figures(clients)
    wrong = [*_of_clients(facts, clients, waiting), *_of_nodes(facts)]
    if wrong:
        return _degraded(facts, wrong, served)
    late = _late(clients)
    text = f"{served} · {_who_runs(facts)}" if facts.nodes else served
    return ServiceStatus(Level.SERVING, "SERVING", text + late)


def _of_clients(
    facts: Facts, clients: Sequence[Sequence[LoadMetrics]], waiting: Sequence[LoadMetrics]
) -> Iterable[Finding]:
    """What load clients see that is wrong, the worst first."""
    if waiting:
        since_ns = min(each.time_ns - round(each.silence_ms * NS_PER_MS) for each in waiting)
        gets = agreeing(len(waiting), "gets", "get")
        yield Finding(
            f"{len(waiting)} of {len(clients)} load clients {gets} no answer",
            since_ns,
            "heal the links" if facts.links else "",
        )
    yield from findings_of_clients(clients, facts.groups, PAUSE_MS)
    pauses = [each[-1] for each in clients if each[-1].outstanding and PAUSE_MS < each[-1].silence_ms <= UNSERVED_MS]
    if pauses:
        longest = max(pauses, key=lambda each: each.silence_ms)
        why = f", {_no_leader(facts)}" if facts.nodes and facts.has_leader and not facts.leader else ""
        since_ns = longest.time_ns - round(longest.silence_ms * NS_PER_MS)
        yield Finding(f"no acknowledgement for {longest.silence_ms:,.0f} ms{why}", since_ns)
    recent = [each for client in clients for each in client]
    sent, held_back, offered, acknowledged, rejected, orders_refused = (
        sum(getattr(each.interval, name) for each in recent)
        for name in ("sent", "held_back", "offered", "acknowledged", "rejected", "refused")
    )
    if orders_refused:
        yield Finding(refused(orders_refused), advice=WHY_REFUSED)
    if offered and max(held_back, 0) > WAITING_SHARE * offered:
        over_s = max(sum(each.interval_s for each in client) for client in clients) or 1.0  # beside each other
        rates = f"{offered / over_s:,.0f} orders/s offered, {acknowledged / over_s:,.0f} acknowledged"
        yield Finding(f"orders are held back, {rates}", _held_back_since(clients))
    if sent and rejected > REJECTED_SHARE * acknowledged:
        yield Finding(f"{rejected / acknowledged:.0%} of the orders are rejected{_by_what(clients)}")


def _figures(clients: Sequence[Sequence[LoadMetrics]]) -> str:
    """Orders acknowledged a second, and p99, over the last second."""
    rate, recent = 0.0, []
    for client in clients:
        last = [each for each in client if client[-1].time_ns - each.time_ns < 0.95 * NS_PER_S]
        rate += sum(each.interval.acknowledged for each in last) / (sum(each.interval_s for each in last) or 1.0)
        recent += last
    response = response_time_of(recent)
    return f"{rate:,.0f}/s" + (f", p99 {_short_ms(response.percentile(99) / NS_PER_MS)}" if response.count else "")


def _short_ms(latency_ms: float) -> str:
    return f"{latency_ms:,.0f} ms" if latency_ms >= 10 else f"{latency_ms:.1f} ms" if latency_ms >= 1 else "< 1 ms"


def _late(clients: Sequence[Sequence[LoadMetrics]]) -> str:
    recent = [each for client in clients for each in client]
    sent, late = sum(each.interval.sent for each in recent), sum(each.interval.late for each in recent)
    return f" · the load client itself sends {late / sent:.0%} late" if sent and late > LATE_SHARE * sent else ""


def _held_back_since(clients: Iterable[Sequence[LoadMetrics]]) -> int:
    """When the last row of snapshots began in each of which orders were held back; 0: before all that are known."""
    last = [next((one.time_ns for one in reversed(each) if one.interval.held_back <= 0), 0) for each in clients]
    return min(last, default=0)


def _by_what(clients: Iterable[Sequence[LoadMetrics]]) -> str:
    """Why most orders were rejected since the start, as nodes say it."""
    counts: Counter[str] = Counter()
    for client in clients:
        counts.update(client[-1].rejected_by_reason)
    return "".join(f", mostly as {reason.replace('_', ' ')}" for reason, _ in counts.most_common(1))


def _is_at_work(client: Sequence[LoadMetrics]) -> bool:
    """Whether it offers anything, or waits for an answer."""
    return client[-1].rate != 0 or bool(client[-1].outstanding) or any(each.interval.offered for each in client)


def _waits_for_nothing(client: Sequence[LoadMetrics]) -> bool:
    newest = client[-1]
    answered = newest.total.acknowledged or newest.total.refused
    return newest.total.sent > 0 and not answered and not newest.outstanding


def _of_silent_clients(facts: Facts, clients: Sequence[Sequence[LoadMetrics]]) -> ServiceStatus:
    """All load clients that should speak are silent."""
    newest = max((each[-1] for each in clients), key=lambda each: each.time_ns)
    silent_s = facts.silent_s.get(newest.pid, inf)
    since_ns = newest.time_ns if silent_s == inf else facts.now_ns - round(silent_s * NS_PER_S)
    if newest.pid in facts.dead_clients:
        text, advice = "the load process has died, so no order is tried", "judge its run, and start another load"
    else:
        text, advice = "the load client says nothing, so its figures are old", "is its process stopped, or starved?"
    return ServiceStatus(Level.NOT_JUDGED, "NOT JUDGED", f"{text}; {_who_runs(facts)}", since_ns, advice)


# -- without a load ------------------------------------------------------------------------------------------------


def _without_load(facts: Facts, paused: bool) -> ServiceStatus:
    if not facts.nodes:
        return _not_judged("NOT JUDGED", "no node has been heard yet", "are the nodes' addresses right?")
    if facts.is_out:
        return ServiceStatus(Level.UNSERVED, "OUT OF SERVICE", *_why_unserved(facts, 0, waits=False))
    if not any(each.is_heard for each in facts.nodes):
        since_ns = facts.silent_since(facts.nodes)
        running = sum(each.process == "running" for each in facts.nodes)
        text = "no node has been heard" + (f", though {_number(running)} of them run" if running else "")
        advice = "look at the nodes' logs" if running else "do they run?"
        return ServiceStatus(Level.NOT_JUDGED, "NO NEWS", f"{text}: what is shown of them is old", since_ns, advice)
    wrong = list(_of_nodes(facts))
    if facts.has_leader and not facts.leader:
        wrong.insert(0, Finding(_no_leader(facts)))
    no_load = "the load is paused" if paused else "no load"
    if wrong:
        return _degraded(facts, wrong, no_load)
    text = _said_of_last_run(f"{_who_runs(facts)}, and no order is tried", facts)
    return _not_judged("LOAD PAUSED" if paused else "NO LOAD", text, "raise the rate" if paused else "start a load")


def _said_of_last_run(text: str, facts: Facts) -> str:
    said = {
        "passed": "every promise of the last run was kept",
        "failed": "a promise of the last run was broken",
        "not judged": "the last run could not be judged",
    }.get(facts.outcome)
    return f"{text}; {said}" if said else text


# -- what is wrong with nodes and links ----------------------------------------------------------------------------


def _of_nodes(facts: Facts) -> Iterable[Finding]:
    """What is known to be wrong with nodes and links, the worst first."""
    if facts.parted_at:
        since_ns = max((each.time_ns for each in facts.events if each.kind == LabEvent.HASH_MISMATCH), default=0)
        yield Finding(f"the nodes' states differ from index {facts.parted_at:,} on", since_ns, "judge the run")
    yield from _of_processes(facts)
    yield from findings_of_groups(facts.groups)
    silent = [each for each in facts.nodes if _is_silent(facts, each)]
    if silent:
        yield Finding(f"{_names(silent)} {_is(silent)} silent", facts.silent_since(silent))
    yield from _of_links(facts)
    for name, said in facts.suffering.items():
        yield Finding(f"{name} suffers: {said}", facts.time_of(name, NODE_FAULTS), f"mend {name}")
    behind = [each for each in facts.nodes if each.is_heard and each.status is not None and each.status.lag > BEHIND]
    for each in (each for each in behind if each.name in facts.voters):
        assert each.status is not None
        since_ns = facts.time_of(each.name, (LabEvent.RESTARTED, LabEvent.RESUMED, LabEvent.ADDED))
        yield Finding(f"{each.name} catches up, {counted(each.status.lag, 'entry')} to apply", since_ns)


def _is_silent(facts: Facts, node: NodeFacts) -> bool:
    """Whether it should speak, and does not; a node that has just been started may take its time."""
    started_ns = facts.time_of(node.name, (LabEvent.STARTED, LabEvent.RESTARTED, LabEvent.ADDED, LabEvent.RESUMED))
    return node.process in ("running", "unknown") and not node.is_heard and facts.now_ns - started_ns > START_NS


def _of_processes(facts: Facts) -> Iterable[Finding]:
    dead = [each for each in facts.nodes if each.process == "stopped"]
    paused = [each for each in facts.nodes if each.process == "paused"]
    spare = "" if facts.spare != 0 else ", with no node to spare"
    if dead:
        since_ns = min(facts.time_of(each.name, _DEATHS) for each in dead)
        yield Finding(
            f"{_names(dead)} {_is(dead)} dead{spare}", since_ns, f"restart {agreeing(len(dead), 'it', 'them')}"
        )
    if paused:
        since_ns = min(facts.time_of(each.name, (LabEvent.PAUSED,)) for each in paused)
        yield Finding(
            f"{_names(paused)} {_is(paused)} paused{'' if dead else spare}",
            since_ns,
            f"resume {agreeing(len(paused), 'it', 'them')}",
        )


def _of_links(facts: Facts) -> Iterable[Finding]:
    cut = sum(each.cut for each in facts.links.values())
    ill = len(facts.links) - cut
    if not facts.links:
        return
    healed_ns = max(
        (each.time_ns for each in facts.events if each.kind == LabEvent.HEALED and not each.node), default=0
    )
    faults = [each.time_ns for each in facts.events if each.kind in _LINK_FAULTS and each.time_ns > healed_ns]
    counts = ((cut, "cut"), (ill, "bad"))
    parts = [f"{counted(count, 'link is', 'links are')} {what}" for count, what in counts if count]
    yield Finding(joined(parts), min(faults, default=0), "heal the links")


def _why_unserved(facts: Facts, since_ns: int, waits: bool = True) -> tuple[str, int, str]:
    """Text, since when, advice."""
    if not facts.nodes:
        return "answers are owed, and none comes; of the nodes nothing is known", since_ns, "do they run?"
    reason, advice = _what_stands_in_the_way(facts)
    if facts.groups and facts.is_out:
        reason, advice = ", and no group has a majority", _bring_back(facts, 1)
    text = _who_is_up(facts) + reason
    if waits:
        return text, since_ns, advice
    return f"{text}; no load, so no order waits", _out_since(facts), advice


def _what_stands_in_the_way(facts: Facts) -> tuple[str, str]:
    """Why no order is acknowledged, as what follows the count of the nodes that run; and what to do."""
    up = sum(each.is_up and each.name in facts.voters for each in facts.nodes)
    if facts.needs == "majority" and up < facts.majority and not facts.groups:
        return f", a majority is {facts.majority}", _bring_back(facts, facts.majority - up)
    if not any(each.is_up for each in facts.nodes):
        return "", _bring_back(facts, 1)
    if facts.is_out:
        return ", and no node hears a majority: links are cut", "heal the links"
    if not any(each.is_heard for each in facts.nodes):
        return ", and none of them is heard", _LOOK
    if facts.has_leader and not facts.leader:
        return f", {_no_leader(facts)}", _LOOK
    return (f" and {facts.leader} leads, yet no answer comes" if facts.has_leader else ""), _LOOK


def _out_since(facts: Facts) -> int:
    """When the node stopped without which there is no majority, or no node; 0: the events do not tell."""
    voters = [each for each in facts.nodes if each.name in facts.voters]
    times_ns = sorted(facts.time_of(each.name, _ENDS) for each in voters if each.is_down)
    enough = facts.majority if facts.needs == "majority" else 1
    place = len(voters) - enough  # so many may stop before service does
    return times_ns[place] if place < len(times_ns) else 0


def _degraded(facts: Facts, wrong: Sequence[Finding], service: str) -> ServiceStatus:
    texts = [each.text for each in wrong[:REASONS_SHOWN]]
    if len(wrong) > REASONS_SHOWN:
        texts.append(f"and {_number(len(wrong) - REASONS_SHOWN)} more")
    known = [each.since_ns for each in wrong if each.since_ns]
    advice = next((each.advice for each in wrong if each.advice), "")
    return ServiceStatus(Level.DEGRADED, "DEGRADED", f"{', '.join(texts)} · {service}", min(known, default=0), advice)


def _not_judged(headline: str, text: str, advice: str = "") -> ServiceStatus:
    return ServiceStatus(Level.NOT_JUDGED, headline, text, 0, advice)


# -- words ---------------------------------------------------------------------------------------------------------


def _who_runs(facts: Facts) -> str:
    if not facts.nodes:
        return "of the nodes nothing is known"
    leader = facts.leader
    said = _who_is_up(facts)
    joining = [each for each in facts.nodes if each.is_heard and each.status and each.status.role == "learner"]
    said += f", {leader} leads" if leader and facts.has_leader else ""
    said += f", {said_of_leaders(facts.groups)}" if facts.groups else ""
    return said + (f", {_names(joining)} {agreeing(len(joining), 'joins', 'join')}" if joining else "")


def _no_leader(facts: Facts) -> str:
    campaigning = [each for each in facts.nodes if each.is_heard and each.status and "candidate" in each.status.role]
    if not campaigning:
        return "no node leads"
    return f"no node leads, {_names(campaigning)} {agreeing(len(campaigning), 'campaigns', 'campaign')}"


def _who_is_up(facts: Facts) -> str:
    """How many of the nodes that count run; of nodes of another process, how many are heard."""
    voters = [each for each in facts.nodes if each.name in facts.voters]
    up = sum(each.is_up for each in voters)
    is_known = any(each.process != "unknown" for each in voters)
    verb = agreeing(up, "runs", "run") if is_known else agreeing(up, "is heard", "are heard")
    return f"{up} of {counted(len(voters), 'node')} {verb}"


def _number(count: int) -> str:
    return _COUNTED[count] if count < len(_COUNTED) else f"{count:,}"


def _names(nodes: Sequence[NodeFacts]) -> str:
    return joined([each.name for each in nodes])


def _is(nodes: Sequence[NodeFacts]) -> str:
    return agreeing(len(nodes), "is", "are")


def _bring_back(facts: Facts, missing: int) -> str:
    """What has so many nodes take part again."""
    paused = [each for each in facts.nodes if each.process == "paused"]
    if not any(each.is_down for each in facts.nodes):
        return "do the others run?"
    if len(paused) >= missing:
        return f"resume {_number(missing) if len(paused) > missing else _names(paused)}"
    return f"restart {_number(missing - len(paused))}" + (f" and resume {_names(paused)}" if paused else "")
