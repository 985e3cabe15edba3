"""A name stands for all its addresses, and a caller does not wait for its look-up."""

from __future__ import annotations

import threading
import time

import pytest

from zmqlab.errors import SettingsError
from zmqlab.names import LOOK_AGAIN_S, Names, addresses_of, known_endpoints, spread

HOSTS = {"node": ("10.9.0.2", "10.9.0.3"), "seed": ("10.9.0.1",)}


def look_up(host: str) -> tuple[str, ...]:
    return HOSTS.get(host, ())


def test_an_address_is_itself() -> None:
    assert addresses_of("127.0.0.1") == ("127.0.0.1",)
    assert addresses_of("[::1]") == ("[::1]",)


def test_a_name_that_nobody_knows_has_no_address() -> None:
    assert addresses_of("no-such-host.invalid") == ()


def test_each_address_of_a_name_is_an_endpoint_once() -> None:
    written = ["tcp://node:5002", "tcp://seed:5002", "tcp://10.9.0.3:5002", "tcp://none:5002"]
    assert spread(written, look_up) == ("tcp://10.9.0.2:5002", "tcp://10.9.0.3:5002", "tcp://10.9.0.1:5002")


def test_what_is_written_stays_while_its_host_is_not_known() -> None:
    written = ["tcp://127.0.0.1:5002", "tcp://no-such-host.invalid:5002"]
    assert list(known_endpoints(written)) == written


def test_no_host_that_is_known_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"no address is known for no-such-host\.invalid: is the name right"):
        known_endpoints(["tcp://no-such-host.invalid:5002"])


def test_a_slow_name_server_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def slowly(host: str) -> tuple[str, ...]:
        may_answer.wait(10)
        return look_up(host)

    names = Names(slowly)
    began = time.monotonic()
    assert names.spread(["tcp://node:5000"]) == ()
    assert names.spread(["tcp://node:5000"]) == ()
    assert time.monotonic() - began < 1
    may_answer.set()
    deadline = time.monotonic() + 10
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
        if names._thread is not None:
            names._thread.join()
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
        if names._thread is not None:
            names._thread.join()
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
