"""Names of hosts, and the addresses behind them.

A name may stand for several hosts: in Compose and Kubernetes the name of a service has one address for each replica.
libzmq connects to the first address only. And it looks names up in the thread that moves all its data, so a name server
that does not answer stops every connection of a process for seconds. Therefore zmqlab looks names up itself,
beforehand, and gives addresses to libzmq.

Only IPv4 addresses are looked up, because libzmq uses IPv6 only where a socket asks for it. An IPv6 address in brackets
stands for itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable

from zmqlab.errors import SettingsError
from zmqlab.settings import parse_endpoint

LOOK_AGAIN_S = 1.0
"""The age at which an answer is looked up again. Hosts come and go while a cluster forms, and a caller mostly waits
then."""


def addresses_of(host: str) -> tuple[str, ...]:
    """All addresses of ``host`` in numerical order; none if the name is not known. May block for seconds."""
    if host.startswith("["):
        return (host,)
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(address[0]) for *_, address in found}, key=socket.inet_aton))


def spread(endpoints: Iterable[str], look_up: Callable[[str], tuple[str, ...]] = addresses_of) -> tuple[str, ...]:
    """One endpoint for each address of each endpoint's host, without repetition; none for a host that is not known."""
    found = []
    for endpoint in endpoints:
        host, port = parse_endpoint(endpoint)
        found += [f"tcp://{address}:{port}" for address in look_up(host)]
    return tuple(dict.fromkeys(found))


def known_endpoints(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Like :func:`spread`, for endpoints that a person wrote. An endpoint whose host is not known now stays as it is.

    Raises:
        SettingsError: no address is known for any of the hosts.
    """
    written = tuple(endpoints)
    by_endpoint = {endpoint: spread([endpoint]) for endpoint in written}
    if written and not any(by_endpoint.values()):
        hosts = ", ".join(dict.fromkeys(parse_endpoint(endpoint)[0] for endpoint in written))
        raise SettingsError(f"no address is known for {hosts}: is the name right, and does that host run?")
    return tuple(dict.fromkeys(each for endpoint in written for each in by_endpoint[endpoint] or (endpoint,)))


class Names:
    """Looks names up in its own thread, for a loop that must not wait."""

    def __init__(self, look_up: Callable[[str], tuple[str, ...]] = addresses_of) -> None:
        self._look_up = look_up
        self._found: dict[str, tuple[str, ...]] = {}
        """Host -> addresses, as of the last look-up; all hosts that were ever asked for."""
        self._looked_at_s = 0.0
        self._thread: threading.Thread | None = None

    def spread(self, endpoints: Iterable[str]) -> tuple[str, ...]:
        """:func:`spread` with the addresses known so far. Old ones are looked up in the background, for later calls."""
        wanted = tuple(endpoints)
        hosts = {parse_endpoint(endpoint)[0] for endpoint in wanted}
        is_old = time.monotonic() - self._looked_at_s > LOOK_AGAIN_S or not hosts <= self._found.keys()
        if is_old and (self._thread is None or not self._thread.is_alive()):
            known = hosts | self._found.keys()
            self._thread = threading.Thread(target=self._look, args=(known,), name="zmqlab-names", daemon=True)
            self._thread.start()
        return spread(wanted, lambda host: self._found.get(host, ()))

    def _look(self, hosts: set[str]) -> None:
        self._found = {host: self._look_up(host) for host in hosts}
        self._looked_at_s = time.monotonic()
