"""The services of the Compose file as real processes in network namespaces, names and all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.compose import Container, Project
from tests.deploy.network import needs_namespaces

pytestmark = [pytest.mark.process, needs_namespaces]

BY_NAME = ["tcp://seed:5002", "tcp://node:5002"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, ZMQLAB_BOOTSTRAP_MS="1500")
    try:
        yield made
    finally:
        made.close()


def formed(project: Project, nodes: int) -> list[Container]:
    """The seed and so many others, started at once."""
    containers = [project.up("seed"), *(project.up("node") for _ in range(nodes))]
    project.until_all_vote()
    return containers


@pytest.mark.long
def test_a_cluster_in_containers_grows_and_is_renewed_under_load(project: Project) -> None:
    seed, first, second = formed(project, 2)
    nodes = [seed, first, second]
    assert project.ask("load", 2_000, BY_NAME) == [node.client for node in nodes], "a name is all its addresses"

    nodes += [project.up("node"), project.up("node")]
    ids = {status["node_id"] for status in project.until_all_vote().values()}
    assert len(ids) == 5

    # One is destroyed with its disk; another comes to its place, under its name.
    lost = nodes.pop(1)
    lost_id = project.statuses()[lost.id]["node_id"]
    project.down(lost)
    nodes.append(project.up("node", address=lost.address))
    renewed = project.until_all_vote()
    assert lost_id not in {status["node_id"] for status in renewed.values()}, "a new member, not the old one"

    # One is killed and made anew around its volume, at another address.
    moved = nodes.pop(1)
    before = project.statuses()[moved.id]
    project.down(moved)
    nodes.append(project.up("node", volume=moved.volume))
    after = project.until_all_vote()[nodes[-1].id]
    assert (after["node_id"], after["name"]) == (before["node_id"], before["name"]), "the same member, and its name"

    # Every one is restarted by SIGTERM, one after the other.
    for node in nodes:
        assert project.stop(node) == [0]
        project.up(node.service, volume=node.volume, address=node.address)
        project.until_all_vote()

    result = project.ask("finish")
    print({key: value for key, value in result.items() if key != "verdict"})
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0
    assert result["acknowledged"] > 2_000


@pytest.mark.long
def test_scaled_down_all_at_once(project: Project) -> None:
    _, *nodes = formed(project, 4)
    project.ask("load", 500, BY_NAME)
    assert project.stop(*nodes[1:]) == [0, 0, 0]
    left = project.until_all_vote()
    assert len(left) == 2
    result = project.ask("finish")
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0


def test_all_come_back_at_exchanged_addresses(project: Project) -> None:
    """As after a power cut, when the engine gives out addresses in another order."""
    containers = formed(project, 2)
    ids = {status["node_id"] for status in project.statuses().values()}
    for container in containers:
        container.signal(signal.SIGKILL)
    for container in containers:
        project.down(container)
    addresses = [containers[1].address, containers[2].address, containers[0].address]
    for container, address in zip(containers, addresses, strict=True):
        project.up(container.service, volume=container.volume, address=address)
    statuses = project.until_all_vote()
    assert {status["node_id"] for status in statuses.values()} == ids, "the same three"


def test_a_seed_that_lost_its_disk_founds_no_second_cluster(project: Project) -> None:
    seed, *_ = formed(project, 2)
    before = project.statuses()[seed.id]
    project.down(seed)
    again = project.up("seed", address=seed.address)
    after = project.until_all_vote()[again.id]
    assert after["node_id"] != before["node_id"]
    assert "belongs to a cluster: this node joins it" in again.log


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    project = Project(tmp_path)
    container = project.up("node")
    pid, namespace = container.pid, container.namespace
    project.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/run/netns/{namespace}").exists()
    assert not Path(f"/etc/netns/{namespace}").exists()
