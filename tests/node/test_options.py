"""A node's settings from flags, environment, file and defaults, in this order; and the page that lists them."""

from __future__ import annotations

import socket
from dataclasses import astuple, fields
from pathlib import Path

import pytest

from zmqlab.errors import SettingsError
from zmqlab.lab.hosts import node_arguments
from zmqlab.node import options
from zmqlab.node.__main__ import parse_arguments
from zmqlab.node.options import node_settings
from zmqlab.settings import NodeSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "settings.md"
FLAGS = {"name": "node0", "port": 5_000}


def test_flags_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node = "from-file"\nport = 1000\nelection_ticks = 40\nheartbeat_ticks = 5\ntick_ms = 7\n')
    environ = {"ZMQLAB_PORT": "2000", "ZMQLAB_ELECTION_TICKS": "50", "ZMQLAB_CONFIG": str(file)}
    settings = node_settings({"port": 3_000, "bind": None}, environ)
    assert (settings.name, settings.port, settings.election_ticks) == ("from-file", 3_000, 50)
    assert (settings.heartbeat_ticks, settings.tick_ms, settings.bind) == (5, 7, "127.0.0.1")


def test_the_flag_names_another_file_than_the_environment(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f'node = "{name}"\nport = 1000\n')
    assert node_settings({}, {"ZMQLAB_CONFIG": str(tmp_path / "one")}, tmp_path / "two").name == "two"


@pytest.mark.parametrize(
    "written", ['peers = ["tcp://localhost:1", "tcp://b:2"]', 'peers = "tcp://localhost:1, tcp://b:2"']
)
def test_endpoints_are_a_list_or_a_string(tmp_path: Path, written: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(written)
    assert node_settings(FLAGS, {}, file).peers == ("tcp://127.0.0.1:1", "tcp://b:2")


def test_switches_in_the_environment() -> None:
    assert node_settings(FLAGS, {"ZMQLAB_LEADER": "yes"}).leader
    assert not node_settings(FLAGS, {"ZMQLAB_LEADER": "0"}).leader
    assert not node_settings({**FLAGS, "leader": False}, {"ZMQLAB_LEADER": "1"}).leader


JOINS = {"join": ("tcp://node:5000", "tcp://seed:5000"), "bind": "0.0.0.0", "insecure": True}


def test_a_node_that_joins_finds_its_name_its_port_and_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "look_up", lambda hosts, _: {"node": (), "seed": ("10.9.0.1",)})
    monkeypatch.setattr(options, "_source_towards", {"10.9.0.1": "10.9.0.5"}.__getitem__)
    settings = node_settings({**JOINS, "run_dir": tmp_path}, {})
    assert settings.port == 5_000
    assert settings.name == socket.gethostname()[:32]
    assert settings.endpoint == "tcp://10.9.0.5:5000"


def test_one_file_names_all_machines_and_each_leaves_itself_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not start on any machine that the file named: its endpoint was refused as its own."""
    monkeypatch.setattr(options, "_source_towards", lambda address: "10.9.0.2")
    everyone = tuple(f"tcp://10.9.0.{number}:5000" for number in (1, 2, 3))
    shared = {"join": everyone, "insecure": True, "name": "n"}
    assert node_settings({**shared, "bind": "0.0.0.0"}, {}).join == (everyone[0], everyone[2])
    assert node_settings({**shared, "bind": "10.9.0.3"}, {}).join == everyone[:2]
    assert node_settings({**shared, "bind": "10.9.0.3", "port": 6_000}, {}).join == everyone
    with pytest.raises(SettingsError, match="leave it out"):
        node_settings({**shared, "join": everyone[:1], "bind": "10.9.0.1"}, {})


def test_the_file_of_founders_names_all_of_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shards all founders are named, and each would have needed a file of its own."""
    monkeypatch.setattr(options, "_source_towards", lambda address: "10.9.0.2")
    everyone = tuple(f"tcp://10.9.0.{number}:5000" for number in (1, 2, 3))
    shared = {"peers": everyone, "insecure": True, "name": "n", "port": 5_000, "shards": 8}
    found = node_settings({**shared, "bind": "0.0.0.0"}, {})
    assert (found.host, found.peers) == ("10.9.0.2", (everyone[0], everyone[2]))
    assert node_settings({**shared, "bind": "10.9.0.3"}, {}).peers == everyone[:2]
    with pytest.raises(SettingsError, match="leave it out"):
        node_settings({**shared, "peers": everyone[:1], "bind": "10.9.0.1"}, {})


def test_an_address_is_found_where_those_to_join_are_not_known_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = socket.gethostname()
    addresses = {own: ("127.0.1.1", "10.9.0.6")}
    monkeypatch.setattr(options, "look_up", lambda hosts, _: {host: addresses.get(host, ()) for host in hosts})
    assert node_settings({**JOINS, "run_dir": tmp_path}, {}).host == "10.9.0.6"


def test_a_node_that_joins_goes_by_the_name_of_its_journal(tmp_path: Path) -> None:
    flags = {"join": ("tcp://127.0.0.1:5100",), "run_dir": tmp_path}
    (tmp_path / "data" / "old-name").mkdir(parents=True)
    assert node_settings(flags, {}).name == "old-name"
    assert node_settings({**flags, "name": "mine"}, {}).name == "mine"
    (tmp_path / "data" / "other").mkdir()
    with pytest.raises(SettingsError, match="has journals of old-name, other: say which with --node"):
        node_settings(flags, {})
    assert node_settings({**flags, "name": "mine"}, {}).name == "mine"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("port = 'x'", "port in .* is 'x': it must be a whole number"),
        ("port = true", "it must be a whole number"),
        ("leader = 'perhaps'", "it must be true or false"),
        ("peers = 7", "it must be endpoints"),
        ("bind = 7", "it must be text"),
        ("prot = 1", "no setting is called 'prot'; there are node, port, peers"),
        ("owner = 1", "no setting is called 'owner'"),
        ("port =", "is not TOML"),
        ("election_ticks = 1", "election_ticks is 1"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(written)
    with pytest.raises(SettingsError, match=said):
        node_settings({} if written.startswith("port") else FLAGS, {}, file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't be read: No such file"):
        node_settings(FLAGS, {}, tmp_path / "none.toml")


def test_a_variable_is_named_where_it_is_wrong() -> None:
    with pytest.raises(SettingsError, match="ZMQLAB_TICK_MS is 'soon'"):
        node_settings(FLAGS, {"ZMQLAB_TICK_MS": "soon"})


def test_the_page_of_all_settings_is_up_to_date() -> None:
    assert PAGE.read_text() == options.settings_page(), "python -m zmqlab.node.options > docs/settings.md"


def test_a_launcher_hands_over_every_setting() -> None:
    """Some exclude others, so there are two nodes."""
    common = {"name": "n", "port": 5_000, "run_dir": Path("/run"), "cluster": "c", "owner": 7, "watch_stdin": True}
    ticks = {"tick_ms": 20, "election_ticks": 30, "heartbeat_ticks": 5, "drain_ms": 1, "snapshot_log_bytes": 4_096}
    logs = {"log_level": "debug", "log_format": "json", "log_to": "stderr", "metrics_port": 6_000}
    founder = NodeSettings(
        **common,
        **ticks,
        peers=("tcp://127.0.0.1:5100", "tcp://[::1]:5200"),
        leader=True,
        keys=Path("/keys"),
        shards=4,
        replication_factor=2,
        durability="fsync",
        replication="leader-ack",
        journal_retain_bytes=0,
    )
    newcomer = NodeSettings(
        **common,
        **logs,
        join=("tcp://127.0.0.1:5100",),
        bootstrap_ms=100,
        leave=True,
        bind="0.0.0.0",
        advertise="10.0.0.5",
        insecure=True,
        allow_faults=True,
        reads="local",
    )
    for settings in (founder, newcomer):
        assert parse_arguments(node_arguments(settings)) == settings
    both = zip(fields(NodeSettings), astuple(founder), astuple(newcomer), strict=True)
    assert [each.name for each, one, other in both if each.default == one == other] == [], "these were not handed over"
