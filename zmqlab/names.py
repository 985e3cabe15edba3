"""Names of hosts, and the addresses behind them.

A name may stand for several hosts: in Compose and Kubernetes the name of a service has one address for each replica.
libzmq connects to the first address only. And it looks names up in the thread that moves all its data, so a name server
that does not answer stops every connection of a process for seconds. Therefore zmqlab looks names up itself,
beforehand, and gives addresses to libzmq (:func:`zmqlab.net.attach` refuses anything else).

Rules:

- No caller waits longer than it said: the system's resolver runs in a thread, and what it finds too late is dropped.
- An address stands for itself. A name has addresses of both families, IPv4 before IPv6. An address that is only valid
  on one interface (``fe80::1%eth0``) is left out, because another host could not use it.
- No answer is for good. A loop asks :class:`Names` again and again, since containers change their addresses.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable

import psutil

from zmqlab.endpoints import is_numeric, parse_endpoint, spelled
from zmqlab.errors import SettingsError

LOOK_AGAIN_S = 1.0
"""The age at which an answer is looked up again. Hosts come and go while a cluster forms, and a caller mostly waits
then."""
LOOK_UP_S = 5.0
"""How long a person's command waits for a name server: glibc asks a second time after 5 s."""

LookUp = Callable[[str], tuple[str, ...]]
"""Host, as in an endpoint -> its addresses."""


def addresses_of(host: str) -> tuple[str, ...]:
    """All addresses of ``host``, IPv4 first, each family in numerical order; none if the name is not known. IPv6
    addresses are in brackets. May block for as long as the system's resolver likes."""
    if is_numeric(host):
        return (host,)
    try:
        found = socket.getaddrinfo(host, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    addresses = {ipaddress.ip_address(str(address[0])) for *_, address in found if "%" not in str(address[0])}
    return tuple(spelled(str(each)) for each in sorted(addresses, key=lambda each: (each.version, int(each))))


def look_up(hosts: Iterable[str], timeout_s: float, resolve: LookUp = addresses_of) -> dict[str, tuple[str, ...]]:
    """The addresses of each host; none for a host that is not known within ``timeout_s``."""
    found: dict[str, tuple[str, ...]] = {host: (host,) if is_numeric(host) else () for host in hosts}

    def look(host: str) -> None:
        found[host] = resolve(host)

    names = [host for host, addresses in found.items() if not addresses]
    threads = [threading.Thread(target=look, args=(host,), name="zmqlab-names", daemon=True) for host in names]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def spread(endpoints: Iterable[str], resolve: LookUp = addresses_of) -> tuple[str, ...]:
    """One endpoint for each address of each endpoint's host, without repetition; none for a host that is not known."""
    found = []
    for endpoint in endpoints:
        host, port = parse_endpoint(endpoint)
        found += [f"tcp://{address}:{port}" for address in resolve(host)]
    return tuple(dict.fromkeys(found))


def known_endpoints(endpoints: Iterable[str], timeout_s: float = LOOK_UP_S) -> tuple[str, ...]:
    """Like :func:`spread`, for endpoints that a person wrote. An endpoint whose host is not known now stays as it is.

    Raises:
        SettingsError: no address is known for any of the hosts within ``timeout_s``.
    """
    written = tuple(endpoints)
    hosts = tuple(dict.fromkeys(parse_endpoint(endpoint)[0] for endpoint in written))
    found = look_up(hosts, timeout_s)
    if written and not any(found.values()):
        raise unknown(*hosts)
    by_endpoint = {endpoint: spread([endpoint], found.__getitem__) for endpoint in written}
    return tuple(dict.fromkeys(each for endpoint in written for each in by_endpoint[endpoint] or (endpoint,)))


def numeric(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Those of the endpoints that have an address for a host."""
    return tuple(endpoint for endpoint in endpoints if is_numeric(parse_endpoint(endpoint)[0]))


def own_address_of(host: str, timeout_s: float = LOOK_UP_S) -> str:
    """The address that ``host`` stands for, where it names this machine: one of this machine's if there is one, else
    the first (behind address translation this machine does not have it).

    Raises:
        SettingsError: no address is known for it within ``timeout_s``.
    """
    addresses = look_up([host], timeout_s)[host]
    if not addresses:
        raise unknown(host)
    own = {spelled(each.address.partition("%")[0]) for card in psutil.net_if_addrs().values() for each in card}
    return next((address for address in addresses if address in own), addresses[0])


def unknown(*hosts: str) -> SettingsError:
    """The error that none of these hosts has an address."""
    return SettingsError(f"no address is known for {', '.join(hosts)}: is the name right, and does that host run?")


class Names:
    """Looks names up in threads of their own, for a loop that must not wait. A name whose server is silent holds up no
    other name."""

    def __init__(self, resolve: LookUp = addresses_of) -> None:
        self._resolve = resolve
        self._found: dict[str, tuple[str, ...]] = {}
        """Host -> addresses, as of its last look-up."""
        self._looked_at_s: dict[str, float] = {}
        """Host -> when its last look-up ended."""
        self._threads: dict[str, threading.Thread] = {}
        """Host -> its last look-up."""

    def spread(self, endpoints: Iterable[str]) -> tuple[str, ...]:
        """:func:`spread` with the addresses known so far. Old ones are looked up in the background, for later calls."""
        return spread(tuple(endpoints), self._known)

    def _known(self, host: str) -> tuple[str, ...]:
        if is_numeric(host):
            return (host,)
        if time.monotonic() - self._looked_at_s.get(host, -LOOK_AGAIN_S) >= LOOK_AGAIN_S:
            self._look_again(host)
        return self._found.get(host, ())

    def _look_again(self, host: str) -> None:
        if host in self._threads and self._threads[host].is_alive():
            return
        thread = threading.Thread(target=self._look, args=(host,), name="zmqlab-names", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads for now: a later call tries again
            thread.start()
            self._threads[host] = thread

    def _look(self, host: str) -> None:
        self._found[host] = self._resolve(host)
        self._looked_at_s[host] = time.monotonic()
