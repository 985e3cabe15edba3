"""Whom a node listens to, by its own settings."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from zmqlab.endpoints import is_loopback, parse_endpoint
from zmqlab.errors import SettingsError
from zmqlab.settings import NodeSettings, require_number, require_path, require_whole

KNOWN = {
    "localhost.lan": ["192.168.1.7"],
    "127.example": ["10.0.0.1"],
    "self": ["127.0.1.1"],
    "two": ["127.0.0.1", "10.0.0.1"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if host not in KNOWN:
            raise socket.gaierror(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in KNOWN[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "self"])
def test_what_only_this_machine_can_reach(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.lan", "127.example", "two", "unknown"])
def test_what_others_can_reach(host: str) -> None:
    """A prefix decided: ``localhost.lan`` and ``127.example`` counted as this machine."""
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="insecure"):
        NodeSettings(name="n", port=5_000, bind=host)


@pytest.mark.parametrize("value", [0, 16, -1, 1.0, 1.5, "3", None, True, float("nan"), [3]])
def test_what_is_no_whole_number_from_1_to_15(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"nodes is .*: it must be a whole number from 1 to 15"):
        require_whole("nodes", value, 1, 15)


@pytest.mark.parametrize("value", [-0.1, 1.1, "1", None, True, float("nan"), float("inf"), [0.5]])
def test_what_is_no_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"loss is .*: it must be a number from 0 to 1"):
        require_number("loss", value, 0, 1)


@pytest.mark.parametrize("value", [5, b"/tmp/x", "", "a\0b", None, ["x"]])
def test_what_is_no_path(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"run_dir is .*: it must be the path of a file or folder"):
        require_path("run_dir", value)


@pytest.mark.parametrize("value", [5, None, b"tcp://localhost:1"])
def test_what_is_no_endpoint(value: Any) -> None:
    with pytest.raises(SettingsError, match="is not an endpoint"):
        parse_endpoint(value)


def test_shards_need_founders_and_as_many_nodes_as_copies() -> None:
    two = ("tcp://localhost:6000", "tcp://localhost:7000")
    assert NodeSettings(name="n", port=5_000, peers=two, shards=8, replication_factor=3).shards == 8
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"shards": 0}, "shards is 0: it must be a whole number from 1 to 64"),
        ({"replication_factor": 1}, "replication_factor is 1: it must be a whole number from 0 to 0"),
        ({"peers": two, "shards": 2, "replication_factor": 4}, "must be a whole number from 0 to 3"),
        ({"join": two, "shards": 2, "bootstrap_ms": 100}, "a seed founds no shards"),
        ({"join": two, "shards": 2, "replication_factor": 16}, "must be a whole number from 0 to 15"),
        ({"peers": two, "shards": 2, "replication_factor": 1}, "2 copies for 3 founders: some would hold no shard"),
    )
    for fields, said in wrong:
        with pytest.raises(SettingsError, match=said):
            NodeSettings(name="n", port=5_000, **fields)
