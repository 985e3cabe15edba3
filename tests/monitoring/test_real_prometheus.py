"""A real Prometheus scrapes a real cluster: every query of the dashboard and of the alerts is answered as it should be,
discovery follows the members, and each alert fires when its fault is made.

One server and one cluster for all tests of this file, which go through a story from a healthy cluster to a dead one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.monitoring.fakes import FakeNode, fake_targets
from tests.monitoring.server import DEPLOY, RATE_OVER, Prometheus, Sample, needs_prometheus
from zmqlab import Cluster, LoadClient

pytestmark = [pytest.mark.process, needs_prometheus]

DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "zmqlab.json").read_text())
PANELS: dict[str, list[str]] = {
    panel["title"]: [target["expr"] for target in panel["targets"]]
    for panel in DASHBOARD["panels"]
    if panel["type"] != "row"
}
RATE = 1_500.0
"""Each order is a request of its own: a machine half as fast as a small one can do twice as many."""
FAKES: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "beyond-48-bits": ({"chain": "f" * 31 + "e"}, "", {}),
    "another-chain": ({"chain": "e" + "f" * 31}, "ZmqlabHashMismatch", {"every": "256"}),
    "two-leaders-in-a-term": ({"role": "leader"}, "ZmqlabTwoLeaders", {"term": "7"}),
    "the-next-leader": ({"role": "leader", "term": 8}, "", {}),
}
"""Clusters of a leader and a node that does what none of ours does: how, which alert is due, and for what."""


@dataclass
class Lab:
    prometheus: Prometheus
    cluster: Cluster
    load: LoadClient
    removed: str = ""

    @property
    def nodes(self) -> set[str]:
        return set(self.cluster.nodes)

    def ask(self, expression: str) -> list[Sample]:
        """A query of the dashboard, with its variables as Grafana would fill them in."""
        expression = expression.replace("$__rate_interval", RATE_OVER).replace("$cluster", self.cluster.name)
        assert "$" not in expression
        return self.prometheus.query(expression)

    def up(self) -> dict[str, float]:
        samples = self.prometheus.query(f'up{{cluster="{self.cluster.name}"}}')
        return {labels.get("node") or labels["client"]: value for labels, value in samples}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("monitoring")
    targets = folder / "lab" / "prometheus"
    targets.mkdir(parents=True)  # what is there when Prometheus starts is watched; the rest is looked at every 5 s
    with ExitStack() as stack:
        prometheus = stack.enter_context(closing(Prometheus(folder, targets)))
        cluster = stack.enter_context(Cluster(3, run_dir=folder / "lab", metrics=True))
        # Many small requests: entries come fast, and that is what lag is counted in.
        load = stack.enter_context(LoadClient(cluster, rate=RATE, duration=None, batch_interval_ms=0.0))
        load.start()
        for name, (fault, _, _) in FAKES.items():
            nodes = [stack.enter_context(closing(FakeNode(**kind))) for kind in ({"role": "leader"}, fault)]
            fake_targets(targets, name, [node.port for node in nodes])
        made = Lab(prometheus, cluster, load)
        prometheus.wait_until(lambda: made.up() == dict.fromkeys((*cluster.nodes, "load"), 1.0), "all targets are up")
        yield made


# -- the dashboard -------------------------------------------------------------------------------------------


Check = Callable[[Lab, list[list[Sample]]], None]


def by_node(samples: list[Sample]) -> dict[str, float]:
    return {labels["node"]: value for labels, value in samples}


def one(samples: list[Sample]) -> float:
    ((_, value),) = samples
    return value


def about(value: float, expected: float, factor: float = 1.5) -> None:
    assert expected / factor < value < expected * factor


def check_throughput(lab: Lab, answers: list[list[Sample]]) -> None:
    for answer in answers:
        about(one(answer), RATE)


def check_percentiles(lab: Lab, answers: list[list[Sample]]) -> None:
    p50, p90, p99, p99_9 = map(one, answers)
    assert 0.000_05 < p50 <= p90 <= p99 <= p99_9 <= 10


def check_response_p99(lab: Lab, answers: list[list[Sample]]) -> None:
    assert 0.000_1 < one(answers[0]) < 10


def check_refusals(lab: Lab, answers: list[list[Sample]]) -> None:
    retries, failovers, busy, rejected = map(one, answers)
    assert (failovers, busy) == (0, 0)
    assert retries < RATE / 100
    assert rejected < RATE


def check_roles(lab: Lab, answers: list[list[Sample]]) -> None:
    expected = {name: 1.0 if name == lab.cluster.leader else 2.0 for name in lab.nodes}
    assert by_node(answers[0]) == expected


def check_terms(lab: Lab, answers: list[list[Sample]]) -> None:
    assert by_node(answers[0]) == {state.name: state.status.term for state in lab.cluster.status() if state.status}


def check_elections(lab: Lab, answers: list[list[Sample]]) -> None:
    won = by_node(answers[0])
    assert set(won) == lab.nodes
    assert won[lab.cluster.leader] >= 1


def check_lag(lab: Lab, answers: list[list[Sample]]) -> None:
    own, seen_by_leader = answers
    assert set(by_node(own)) == lab.nodes
    assert {labels["member"] for labels, _ in seen_by_leader} == lab.nodes - {lab.cluster.leader}
    assert all(value < 2_000 for _, value in own + seen_by_leader)


def check_members(lab: Lab, answers: list[list[Sample]]) -> None:
    assert {labels["kind"]: value for labels, value in answers[0]} == {"voter": 3.0, "learner": 0.0}


def check_each_node(low: float, high: float) -> Check:
    def check(lab: Lab, answers: list[list[Sample]]) -> None:
        for answer in answers:
            found = by_node(answer)
            assert set(found) == lab.nodes
            assert all(low <= value <= high for value in found.values()), found

    return check


def check_memory(lab: Lab, answers: list[list[Sample]]) -> None:
    for name, value in by_node(answers[0]).items():
        about(value, psutil.Process(lab.cluster.pid(name)).memory_info().rss)


def check_taken(lab: Lab, answers: list[list[Sample]]) -> None:
    taken = by_node(answers[0])
    assert set(taken) == lab.nodes
    about(sum(taken.values()), RATE)


def check_one(low: float, high: float) -> Check:
    def check(lab: Lab, answers: list[list[Sample]]) -> None:
        assert all(low <= one(answer) <= high for answer in answers)

    return check


CHECKS: dict[str, Check] = {
    "Leader": check_one(1, 1),
    "Nodes that answer": check_one(3, 3),
    "Nodes agree": check_one(1, 1),
    "Response time, p99": check_response_p99,
    "Throughput": check_throughput,
    "Response time": check_percentiles,
    "Service time at the nodes": check_percentiles,
    "Retries and refusals": check_refusals,
    "Role": check_roles,
    "Term": check_terms,
    "Elections won": check_elections,
    "Lag": check_lag,
    "Nodes compared": check_one(2, 3),
    "Members": check_members,
    "Journal, one write": check_each_node(0.000_001, 1),
    "Journal, size": check_each_node(1_000, 1e9),
    "CPU": check_each_node(0.01, 1.5),
    "Memory": check_memory,
    "Orders taken": check_taken,
    "Requests that wait": check_each_node(0, 2_000),
    "Longest turn": check_each_node(0.000_1, 5),
    "Dropped": check_each_node(0, 0),
}


def test_every_panel_is_checked() -> None:
    assert set(PANELS) == set(CHECKS)


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_what_is(lab: Lab, title: str) -> None:
    answers: list[list[Sample]] = []

    def shows_what_is() -> bool:
        """Scrapes are 0.2 s apart and a rate reaches back for 2 s, so that a moment's pause of the machine shows."""
        answers[:] = [lab.ask(expression) for expression in PANELS[title]]
        try:
            CHECKS[title](lab, answers)
        except (AssertionError, KeyError, ValueError):
            return False
        return True

    lab.prometheus.wait_until(shows_what_is, f"{title} shows what is; it showed {answers}")


def test_the_variable_offers_this_cluster(lab: Lab) -> None:
    assert DASHBOARD["templating"]["list"][0]["query"]["query"] == "label_values(zmqlab_term, cluster)"
    clusters = {labels["cluster"] for labels, _ in lab.prometheus.query("zmqlab_term")}
    assert lab.cluster.name in clusters


# -- the alerts ----------------------------------------------------------------------------------------------


def test_every_rule_is_healthy_and_nothing_fires(lab: Lab) -> None:
    alerts = {rule["name"] for rule in lab.prometheus.rules() if rule["type"] == "alerting"}
    assert alerts == {*FIRED, *(alert for _, alert, _ in FAKES.values() if alert)}
    lab.prometheus.wait_until(
        lambda: all(rule["health"] == "ok" for rule in lab.prometheus.rules()), "every rule was evaluated"
    )
    lab.prometheus.await_calm(cluster=lab.cluster.name)


FIRED = ("ZmqlabNodeDown", "ZmqlabLag", "ZmqlabSlow", "ZmqlabNoLeader")
"""By what is done to the cluster below."""


def test_a_hanging_member_lags_and_does_not_answer(lab: Lab) -> None:
    follower = next(name for name in lab.cluster.nodes if name != lab.cluster.leader)
    lab.cluster.pause(follower)
    lab.prometheus.await_alert("ZmqlabNodeDown", cluster=lab.cluster.name, node=follower)
    lab.prometheus.await_alert("ZmqlabLag", cluster=lab.cluster.name, node=follower)
    lab.prometheus.wait_until(lambda: one(lab.ask(PANELS["Nodes that answer"][0])) == 2, "two nodes answer")
    lab.cluster.resume(follower)


def test_an_election_under_load_is_slow(lab: Lab) -> None:
    """Requests that wait for a new leader are one in a hundred, and wait for more than 50 ms."""

    def fires_at_the_next_one() -> bool:
        """An election is over after a moment, and a busy machine may scrape nothing just then."""
        leader = lab.cluster.leader
        lab.cluster.pause(leader)
        try:
            lab.prometheus.await_alert("ZmqlabSlow", 10, cluster=lab.cluster.name)
        except AssertionError:
            return False
        finally:
            lab.cluster.resume(leader)
            lab.cluster.wait_for_leader()
        return True

    lab.prometheus.wait_until(fires_at_the_next_one, "an election is slow")
    lab.prometheus.await_calm(cluster=lab.cluster.name)


@pytest.mark.parametrize("name", FAKES)
def test_what_never_happens_is_told_by_fakes(lab: Lab, name: str) -> None:
    """Through a real endpoint, into the real server."""
    _, alert, labels = FAKES[name]
    compared = f'count by (every) (node_every:zmqlab_chain_hash:newest{{cluster="{name}"}})'
    lab.prometheus.wait_until(lambda: lab.prometheus.value(compared) == 2, "the fakes' chains are compared")
    if alert:
        lab.prometheus.await_alert(alert, cluster=name, **labels)

    def only_that_fires() -> bool:
        firing = {alert for alert, all_labels in lab.prometheus.firing().items() if name in str(all_labels)}
        return firing == ({alert} if alert else set())

    lab.prometheus.wait_until(only_that_fires, f"only {alert or 'nothing'} fires")


# -- the members change --------------------------------------------------------------------------------------


def test_discovery_follows_the_members(lab: Lab) -> None:
    """Prometheus takes a changed list over every five seconds."""
    name = lab.cluster.add()
    lab.prometheus.wait_until(lambda: lab.up().get(name) == 1, "the new node is scraped")
    lab.cluster.remove(name)
    lab.removed = name


def test_no_leader_without_a_majority(lab: Lab) -> None:
    for name in [name for name in lab.cluster.nodes if name != lab.cluster.leader]:
        lab.cluster.kill(name)
    lab.prometheus.await_alert("ZmqlabNoLeader", cluster=lab.cluster.name)
    lab.prometheus.wait_until(lambda: one(lab.ask(PANELS["Leader"][0])) == 0, "no leader is shown")


def test_the_removed_node_is_no_longer_a_target(lab: Lab) -> None:
    """Last, since Prometheus takes five seconds for it. The killed ones still are: they should be there."""
    lab.prometheus.wait_until(lambda: lab.removed not in lab.up(), "the removed node is no longer a target")
    (alive,) = lab.cluster.running
    due = {**dict.fromkeys(lab.cluster.nodes, 0.0), alive: 1.0, "load": 1.0}
    lab.prometheus.wait_until(lambda: lab.up() == due, "each target is shown as it is")
    lab.cluster.kill(alive)  # alone it would look for a majority for as long as a node may
