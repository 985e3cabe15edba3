"""Names of hosts and the addresses behind them.

A name may stand for several hosts: in Compose and Kubernetes the name of a service has an address for each replica.
libzmq connects to the first of them only, and looks names up in the thread that moves all its data: a name server that
does not answer holds up every connection of a process for seconds. So zmqlab looks names up by itself, beforehand, and
gives libzmq numbers.

Numbers of IPv4 only, since libzmq speaks IPv6 only where it is told to.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable

from zmqlab.errors import SettingsError
from zmqlab.settings import parse_endpoint

LOOK_AGAIN_S = 1.0
"""How old an answer may be. Hosts come and go while a cluster is formed; who looks up a name is mostly waiting."""


def addresses_of(host: str) -> tuple[str, ...]:
    """All addresses of ``host``, in numerical order; itself if it is one; none if it is not known. May block."""
    if host.startswith("["):
        return (host,)
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(address[0]) for *_, address in found}, key=socket.inet_aton))


def spread(endpoints: Iterable[str], look_up: Callable[[str], tuple[str, ...]] = addresses_of) -> tuple[str, ...]:
    """Each endpoint, or one for each address of its host, without repetition; none for a host that nobody knows."""
    found = []
    for endpoint in endpoints:
        host, port = parse_endpoint(endpoint)
        found += [f"tcp://{address}:{port}" for address in look_up(host)]
    return tuple(dict.fromkeys(found))


def known_endpoints(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Like :func:`spread`, for what a person has written; an endpoint whose host is not known now stays as it is.

    Raises:
        SettingsError: none of the hosts is known.
    """
    written = tuple(endpoints)
    by_endpoint = {endpoint: spread([endpoint]) for endpoint in written}
    if written and not any(by_endpoint.values()):
        hosts = ", ".join(dict.fromkeys(parse_endpoint(endpoint)[0] for endpoint in written))
        raise SettingsError(f"no address is known for {hosts}: is the name right, and does that host run?")
    return tuple(dict.fromkeys(each for endpoint in written for each in by_endpoint[endpoint] or (endpoint,)))


class Names:
    """Looks names up in a thread of its own, for a loop that must not wait."""

    def __init__(self, look_up: Callable[[str], tuple[str, ...]] = addresses_of) -> None:
        self._look_up = look_up
        self._found: dict[str, tuple[str, ...]] = {}
        """By host, as of the last look."""
        self._looked_at_s = 0.0
        self._thread: threading.Thread | None = None

    def spread(self, endpoints: Iterable[str]) -> tuple[str, ...]:
        """:func:`spread`, as far as is known by now; what is old is looked up behind the caller's back."""
        wanted = tuple(endpoints)
        hosts = {parse_endpoint(endpoint)[0] for endpoint in wanted}
        is_old = time.monotonic() - self._looked_at_s > LOOK_AGAIN_S or not hosts <= self._found.keys()
        if is_old and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._look, args=(hosts,), name="zmqlab-names", daemon=True)
            self._thread.start()
        return spread(wanted, lambda host: self._found.get(host, ()))

    def _look(self, hosts: set[str]) -> None:
        self._found = {host: self._look_up(host) for host in hosts}
        self._looked_at_s = time.monotonic()
