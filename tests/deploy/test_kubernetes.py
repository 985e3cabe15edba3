"""The manifests and the chart: what the published schemas take, what Helm renders, and what the pods' commands do.

No Kubernetes runs here. The schemas are those that ``kubernetes-validate`` carries, and Helm is the library of
``helm-python-sdk`` (Helm's own Go code). The pods' commands run as processes in network namespaces, where a name of
all of them stands for the headless service.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.compose import Container, Project
from tests.deploy.network import ROOT, environment, needs_namespaces
from tests.waiting import wait_for
from zmqlab.keys import Keyring, Role
from zmqlab.node.options import node_settings

MANIFESTS = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "zmqlab"
VERSIONS = ("1.29", "1.34")
"""Of Kubernetes: an old one that still runs, and a new one."""


SHARDS = {"shards": 8, "replicationFactor": 3, "replicas": 5, "founders": 5}
"""The chart's values for ``zmqlab-shards.yaml``."""


def documents(*names: str) -> list[dict[str, Any]]:
    return [each for name in names for each in yaml.safe_load_all((MANIFESTS / name).read_text())]


def stateful_set(file: str = "zmqlab.yaml") -> dict[str, Any]:
    return next(each for each in documents(file) if each["kind"] == "StatefulSet")


def container(file: str = "zmqlab.yaml") -> dict[str, Any]:
    (found,) = stateful_set(file)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def told(pod: str, address: str, file: str = "zmqlab.yaml") -> dict[str, str]:
    """The environment of a node's pod, with what Kubernetes fills in."""
    fields = {"metadata.name": pod, "status.podIP": address}
    return {
        each["name"]: str(each["value"]) if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container(file)["env"]
    }


def told_by_its_command(number: int, tmp_path: Path, file: str) -> dict[str, str]:
    """The environment that the pod's command gives to ``zmqlab node``."""
    program = tmp_path / "zmqlab"
    program.write_text("#!/bin/sh\n[ $1 = node ] && env\n")
    program.chmod(0o755)
    given = told(f"zmqlab-{number}", "10.1.2.3", file) | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [*container(file)["command"], *container(file)["args"]]
    said = subprocess.run(command, env=given, capture_output=True, text=True, check=True, timeout=10).stdout
    return {key: value for key, _, value in (line.partition("=") for line in said.splitlines())}


# -- the schemas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_fit_the_published_schemas(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the schemas are in the extra [test]").validate
    kinds = [each["kind"] for each in documents("zmqlab.yaml", "load.yaml", "zmqlab-shards.yaml")]
    assert kinds == ["Service", "PodDisruptionBudget", "StatefulSet", "Job", *kinds[:3]]
    for each in documents("zmqlab.yaml", "load.yaml", "zmqlab-shards.yaml"):
        validate(each, version, strict=True)


def test_a_slip_in_a_manifest_is_noticed() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the schemas are in the extra [test]")
    for slip in ({"replica": 3}, {"replicas": "three"}):
        wrong = stateful_set()
        wrong["spec"] |= slip
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


# -- what belongs together -------------------------------------------------------------------------------------------


def test_names_and_labels_lead_to_the_pods() -> None:
    service, budget, nodes = documents("zmqlab.yaml")
    labels = nodes["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == nodes["spec"]["selector"]["matchLabels"] == labels
    assert nodes["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None", "each pod has an address of its own"
    assert service["spec"]["publishNotReadyAddresses"], "nodes find each other before they are ready"
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert {each["name"]: each["port"] for each in service["spec"]["ports"]} == ports
    mounted = {each["name"] for each in container()["volumeMounts"]}
    pod = nodes["spec"]["template"]["spec"]
    claimed = {each["metadata"]["name"] for each in nodes["spec"]["volumeClaimTemplates"]}
    assert mounted == {each["name"] for each in pod["volumes"]} | claimed


def test_the_environment_is_that_of_a_node(tmp_path: Path) -> None:
    settings = node_settings({"run_dir": tmp_path}, told("zmqlab-1", "10.1.2.3"))
    assert (settings.name, settings.host, settings.metrics_port) == ("zmqlab-1", "10.1.2.3", 5003)
    pod = stateful_set()["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] * 1000 > settings.drain_ms
    assert settings.join == (f"tcp://{stateful_set()['spec']['serviceName']}:{settings.port}",)
    probed = {container()[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probed == {"/healthz", "/readyz"}
    (job,) = documents("load.yaml")
    (load,) = job["spec"]["template"]["spec"]["containers"]
    assert load["args"][:3] == ["client", "--nodes", f"tcp://{stateful_set()['spec']['serviceName']}:5002"]


def test_with_shards_founders_name_each_other_and_later_pods_join(tmp_path: Path) -> None:
    """The groups are placed on all founders, so that a seed founds none."""
    file = "zmqlab-shards.yaml"
    for number in (0, 4):
        settings = node_settings({"run_dir": tmp_path}, told_by_its_command(number, tmp_path, file))
        others = [f"tcp://zmqlab-{other}.zmqlab:5000" for other in range(5) if other != number]
        assert (settings.name, settings.peers, settings.join) == (f"zmqlab-{number}", tuple(others), ())
        assert (settings.shards, settings.replication_factor, settings.leave) == (8, 3, False)
    late = node_settings({"run_dir": tmp_path}, told_by_its_command(5, tmp_path, file))
    assert (late.peers, late.join, late.leave) == ((), ("tcp://zmqlab:5000",), True)
    assert (late.shards, late.replication_factor) == (8, 3)
    pod = stateful_set(file)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] * 1000 > late.drain_ms >= 60_000, "it hands replicas over first"


def test_without_shards_the_first_pod_is_the_seed(tmp_path: Path) -> None:
    first, second = (told_by_its_command(number, tmp_path, "zmqlab.yaml") for number in (0, 1))
    assert (first["ZMQLAB_BOOTSTRAP_MS"], first.get("ZMQLAB_LEAVE")) == ("5000", None)
    assert (second.get("ZMQLAB_BOOTSTRAP_MS"), second["ZMQLAB_LEAVE"]) == (None, "true")


def test_a_node_starts_with_the_two_files_of_its_secret(tmp_path: Path) -> None:
    """Nodes do not need the operator's key, so the secret has none."""
    Keyring.new().save(tmp_path / "lab-keys")
    (tmp_path / "secret").mkdir(mode=0o700)
    for name in ("allowed", "member.secret"):
        (tmp_path / "secret" / name).write_bytes((tmp_path / "lab-keys" / name).read_bytes())
        (tmp_path / "secret" / name).chmod(0o440)  # as the volume has it
    ring = Keyring.read(tmp_path / "secret")
    assert ring.credentials(Role.MEMBER).public
    assert "--from-file=lab-keys/allowed --from-file=lab-keys/member.secret" in (MANIFESTS / "zmqlab.yaml").read_text()


# -- Helm ------------------------------------------------------------------------------------------------------------


def rendered(values: dict[str, Any] | None = None, name: str = "zmqlab") -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> what Helm makes of the chart, offline."""
    helm = pytest.importorskip("helm_python", reason="Helm is in the extra [test], where it has a wheel")
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(chart.merge_values(values or {}))
        texts = chart.render(values, name=name, namespace="default").values()
    made = [each for text in texts for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in made}


def test_the_chart_renders_the_manifests() -> None:
    plain = {(each["kind"], each["metadata"]["name"]): each for each in documents("zmqlab.yaml", "load.yaml")}
    assert rendered({"load": {"enabled": True}}) == plain
    assert rendered() == {key: each for key, each in plain.items() if key[0] != "Job"}
    of_shards = {(each["kind"], each["metadata"]["name"]): each for each in documents("zmqlab-shards.yaml")}
    assert rendered(SHARDS) == of_shards


def test_the_founders_of_a_release_are_those_of_its_name() -> None:
    (node,) = rendered(SHARDS | {"founders": 2}, "lab")["StatefulSet", "lab"]["spec"]["template"]["spec"]["containers"]
    assert "for other in 0 1 ;" in node["args"][0]
    assert "tcp://lab-$other.lab:5000" in node["args"][0]


def test_the_values_of_the_chart_do_what_they_say() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the schemas are in the extra [test]").validate
    values = {
        "replicas": 5,
        "image": "registry.example/zmqlab:1",
        "keysSecret": "other",
        "durability": "os",
        "allowFaults": True,
        "env": {"ZMQLAB_ELECTION_TICKS": "40"},
        "storage": {"size": "1Gi", "className": "fast"},
        "resources": {"requests": None, "limits": {"memory": "1Gi"}},
        "load": {"enabled": True, "rate": 1_000_000, "duration": "1m", "keysSecret": "mine"},
    }
    made = rendered(values, "lab")
    assert set(made) == {
        ("Service", "lab"),
        ("PodDisruptionBudget", "lab"),
        ("StatefulSet", "lab"),
        ("Job", "lab-load"),
    }
    for each in made.values():
        validate(each, VERSIONS[-1], strict=True)
    spec = made["StatefulSet", "lab"]["spec"]
    (node,) = spec["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in node["env"]}
    assert (spec["replicas"], node["image"]) == (5, values["image"])
    assert node["resources"] == {"limits": {"memory": "1Gi"}}
    assert variables["ZMQLAB_JOIN"] == "tcp://lab:5000"
    assert (variables["ZMQLAB_DURABILITY"], variables["ZMQLAB_ALLOW_FAULTS"]) == ("os", "true")
    assert variables["ZMQLAB_ELECTION_TICKS"] == "40"
    assert spec["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert spec["template"]["spec"]["volumes"][0]["secret"]["secretName"] == "other"
    job = made["Job", "lab-load"]["spec"]["template"]["spec"]
    assert job["containers"][0]["args"][1:] == [
        *("--nodes", "tcp://lab:5002"),
        *("--rate", "1000000"),
        *("--duration", "1m"),
    ]
    assert job["volumes"][0]["secret"]["secretName"] == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"replica": 3}, {"replicas": 0}, {"durability": "ram"}, {"env": {"PATH": "/"}}),
        *({"shards": 0}, {"shards": 65}, {"shards": 8, "replicas": 3, "founders": 5}),
    ],
)
def test_the_chart_refuses_values_that_are_none(wrong: dict[str, Any]) -> None:
    helm = pytest.importorskip("helm_python", reason="Helm is in the extra [test], where it has a wheel")
    with pytest.raises(helm.HelmError):
        rendered(wrong)


def test_helm_finds_nothing_to_complain_about() -> None:
    helm = pytest.importorskip("helm_python", reason="Helm is in the extra [test], where it has a wheel")
    report = helm.lint(str(CHART), strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"] if each["severity"] > 1] == []


# -- the pods' commands ----------------------------------------------------------------------------------------------


class Pods(Project):
    """Containers that are started as the StatefulSet has them, all behind the one name of the service."""

    def pod(self, number: int, volume: Path | None = None, file: str = "zmqlab.yaml") -> Container:
        """Start a pod, as a new one or around the volume of the one before, at an address that no pod has had."""
        pod = self.attach(f"zmqlab zmqlab-{number}.zmqlab", volume)
        command = [*container(file)["command"], *container(file)["args"]]
        variables = told(f"zmqlab-{number}", pod.address, file) | {"ZMQLAB_KEYS": str(self.keys)}
        variables |= {"ZMQLAB_RUN_DIR": str(pod.volume), "ZMQLAB_LOG_TO": "stderr"}  # as the image has it
        with (pod.volume / "stderr").open("ab") as stderr:
            pod.run(command, environment(**variables), stdin=subprocess.DEVNULL, stderr=stderr)
        return pod


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.long
@pytest.mark.process
@needs_namespaces
def test_pods_form_a_cluster_move_and_leave(pods: Pods) -> None:
    three = [pods.pod(number) for number in range(3)]
    formed = pods.until_all_vote()
    assert {each["name"] for each in formed.values()} == {"zmqlab-0", "zmqlab-1", "zmqlab-2"}
    for path in ("/healthz", "/readyz"):
        url = f"http://{three[1].address}:5003{path}"
        assert wait_for(lambda url=url: pods.ask("get", url) == 200)  # as of the last tenth of a second

    # A pod is deleted, and made anew around its volume at another address.
    pods.ask("load", 500, ["tcp://zmqlab:5002"])
    before = formed[three[0].id]
    assert pods.stop(three[0]) == [0]
    three[0] = pods.pod(0, three[0].volume)
    assert pods.until_all_vote()[three[0].id]["node_id"] == before["node_id"], "the same member"

    # Fewer replicas are a smaller group.
    assert pods.stop(three.pop()) == [0]
    assert len(pods.until_all_vote()) == 2
    result = pods.ask("finish")
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0


@pytest.mark.long
@pytest.mark.process
@needs_namespaces
def test_pods_with_shards_form_a_cluster_and_one_moves(pods: Pods) -> None:
    """No founder knows the addresses of those that start after it."""
    file = "zmqlab-shards.yaml"
    five = [pods.pod(number, file=file) for number in range(5)]
    pods.until(lambda statuses: len(statuses) == 5 and all(each["voters"] for each in statuses.values()))
    pods.ask("load", 500, ["tcp://zmqlab:5002"])
    assert pods.stop(five[0]) == [0]
    pods.pod(0, five[0].volume, file)
    pods.until(lambda statuses: len(statuses) == 5)
    result = pods.ask("finish")
    assert result["ok"], result["verdict"]
    assert result["failed"] == 0
