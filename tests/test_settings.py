"""Whom a node listens to, by its own settings."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from zmqlab.errors import SettingsError
from zmqlab.settings import NodeSettings, is_loopback

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
