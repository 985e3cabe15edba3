"""Free ports: whole triples, none twice, and a clear word when there are none."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from zmqlab.errors import ClusterError, SettingsError
from zmqlab.lab import hosts
from zmqlab.lab.hosts import LocalNode, end_all


def test_draws_different_free_triples_below_the_ephemeral_range() -> None:
    found = hosts.free_base_ports(5)
    assert len(set(found)) == 5
    assert all(hosts.FIRST_PORT <= base < hosts.LAST_PORT for base in found)


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_one_taken_port_spoils_the_triple(offset: int) -> None:
    base = hosts.free_base_ports(1)[0]
    with socket.create_server(("127.0.0.1", base + offset)):
        assert not hosts.is_free(base)
    assert hosts.is_free(base)


def test_the_same_seed_draws_the_same_ports_but_for_excluded_ones() -> None:
    first = hosts.free_base_ports(2, random.Random(7))
    assert hosts.free_base_ports(2, random.Random(7)) == first
    assert not set(first) & set(hosts.free_base_ports(2, random.Random(7), exclude=first))


def test_says_what_to_do_when_all_are_taken() -> None:
    every_port = range(hosts.FIRST_PORT, hosts.LAST_PORT)
    with pytest.raises(ClusterError, match="zmqlab reap"):
        hosts.free_base_ports(1, exclude=every_port)


def test_a_port_whose_connections_have_just_been_closed_is_free() -> None:
    """The system keeps such connections for a minute (TIME_WAIT). A few hundred clusters a minute used up all ports."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        base = listener.getsockname()[1]
        listener.listen()
        with socket.create_connection(("127.0.0.1", base)) as client:
            accepted, _ = listener.accept()
            accepted.close()  # who closes first keeps the connection
            client.recv(1)
        assert not hosts._can_bind("127.0.0.1", base), "it listens"
    assert hosts._can_bind("127.0.0.1", base)


def test_a_process_may_draw_from_a_range_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two processes drew from one range they both drew once in some thousand times."""
    monkeypatch.setattr(hosts, "is_free", lambda base, host: True)  # other processes of this machine use ports, too
    monkeypatch.setenv(hosts.PORTS_VARIABLE, "21000-21050")
    assert set(hosts.free_base_ports(3)) < set(range(21_000, 21_050))
    with pytest.raises(ClusterError, match="between 21000 and 21050"):
        hosts.free_base_ports(6)
    monkeypatch.setenv(hosts.PORTS_VARIABLE, "21000")
    with pytest.raises(SettingsError, match="ZMQLAB_PORTS is '21000': write FIRST-LAST"):
        hosts.free_base_ports(1)


def test_a_process_that_got_sigkill_is_waited_for_without_any_grace(tmp_path: Path) -> None:
    """It was waited for as long as for one that may still hand over; with no grace at all it stayed a zombie."""
    node = LocalNode(["/bin/sh", "-c", "trap '' TERM; exec sleep 60"], tmp_path / "stderr")
    end_all([node], grace_s=0.0)
    assert node._process.returncode is not None
