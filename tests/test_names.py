"""A name stands for all its addresses, and a caller does not wait for its look-up."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from zmqlab.errors import SettingsError
from zmqlab.names import LOOK_AGAIN_S, Names, addresses_of, known_endpoints, look_up, own_address_of, spread

HOSTS = {"node": ("10.9.0.2", "10.9.0.3"), "seed": ("10.9.0.1",)}


def known(host: str) -> tuple[str, ...]:
    return HOSTS.get(host, ())


def test_an_address_is_itself() -> None:
    assert addresses_of("127.0.0.1") == ("127.0.0.1",)
    assert addresses_of("[::1]") == ("[::1]",)


def test_a_name_that_nobody_knows_has_no_address() -> None:
    assert addresses_of("no-such-host.invalid") == ()


def test_each_address_of_a_name_is_an_endpoint_once() -> None:
    written = ["tcp://node:5002", "tcp://seed:5002", "tcp://10.9.0.3:5002", "tcp://none:5002"]
    assert spread(written, known) == ("tcp://10.9.0.2:5002", "tcp://10.9.0.3:5002", "tcp://10.9.0.1:5002")


def test_what_is_written_stays_while_its_host_is_not_known() -> None:
    written = ["tcp://127.0.0.1:5002", "tcp://no-such-host.invalid:5002"]
    assert list(known_endpoints(written)) == written


def test_no_host_that_is_known_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"no address is known for no-such-host\.invalid: is the name right"):
        known_endpoints(["tcp://no-such-host.invalid:5002"])


def test_a_name_has_addresses_of_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only IPv4 was looked up. An address of one interface is of no use to another host."""
    found = [("fe80::1%eth0", 0, 0, 2), ("2001:db8::2", 0, 0, 0), ("10.9.0.12", 0), ("10.9.0.2", 0), ("10.9.0.2", 0)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", address) for address in found])
    assert addresses_of("both") == ("10.9.0.2", "10.9.0.12", "[2001:db8::2]")
    assert spread(["tcp://both:5000"])[-1] == "tcp://[2001:db8::2]:5000"


def test_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands waited as long as the system's resolver."""
    never = threading.Event()

    def resolve(host: str) -> tuple[str, ...]:
        if host == "silent":
            never.wait(60)
        return ("10.9.0.1",)

    assert look_up(["silent", "seed", "10.9.0.7"], 0.2, resolve) == {
        "silent": (),
        "seed": ("10.9.0.1",),
        "10.9.0.7": ("10.9.0.7",),
    }
    never.set()


def test_a_silent_name_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names were looked up one after the other, and none was known before the last."""
    never = threading.Event()

    def resolve(host: str) -> tuple[str, ...]:
        if host == "silent":
            never.wait(60)
        return ("10.9.0.1",)

    names = Names(resolve)
    while names.spread(["tcp://silent:5000", "tcp://seed:5000"]) != ("tcp://10.9.0.1:5000",):
        time.sleep(0.01)
    assert names._threads["silent"].is_alive()
    never.set()


def test_the_host_of_a_node_is_an_address_of_this_machine_if_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("10.255.255.1", 0), ("127.0.0.1", 0)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", address) for address in found])
    assert own_address_of("node7") == "127.0.0.1"
    found.pop()
    assert own_address_of("node7") == "10.255.255.1"
    found.pop()
    with pytest.raises(SettingsError, match="no address is known for node7"):
        own_address_of("node7")


def test_a_slow_name_server_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def slowly(host: str) -> tuple[str, ...]:
        may_answer.wait(120)
        return known(host)

    names = Names(slowly)
    began = time.monotonic()
    assert names.spread(["tcp://node:5000"]) == ()
    assert names.spread(["tcp://node:5000"]) == ()
    assert time.monotonic() - began < 60
    may_answer.set()
    deadline = time.monotonic() + 60
    while not (found := names.spread(["tcp://node:5000"])):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found == ("tcp://10.9.0.2:5000", "tcp://10.9.0.3:5000")


def test_a_name_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([("10.9.0.1",), ("10.9.0.7",)])
    names = Names(lambda _: next(answers))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def look() -> tuple[str, ...]:
        found = names.spread(["tcp://seed:5000"])
        for thread in names._threads.values():
            thread.join()
        return found or names.spread(["tcp://seed:5000"])

    assert look() == look() == ("tcp://10.9.0.1:5000",)
    now[0] += LOOK_AGAIN_S + 0.1
    look()
    assert look() == ("tcp://10.9.0.7:5000",)


def test_names_that_are_asked_for_one_at_a_time_are_all_known() -> None:
    """Each look-up forgot the hosts of the one before: founders at several hosts were looked up for ever."""
    looked: list[str] = []

    def look_up(host: str) -> tuple[str, ...]:
        looked.append(host)
        return (f"10.9.0.{len(host)}",)

    names = Names(look_up)

    def look(host: str) -> tuple[str, ...]:
        found = names.spread([f"tcp://{host}:5000"])
        for thread in names._threads.values():
            thread.join()
        return found

    for host in ("a", "bb"):
        look(host)  # may be too early to know
    looked.clear()
    assert (look("a"), look("bb"), look("a")) == (
        ("tcp://10.9.0.1:5000",),
        ("tcp://10.9.0.2:5000",),
        ("tcp://10.9.0.1:5000",),
    )
    assert looked == []
