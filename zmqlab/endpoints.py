"""How processes are addressed: ``tcp://HOST:PORT``, in one spelling, and the ports of a node.

A node is known by its base endpoint. Its three ports follow from that: peers hear it at the first and ask it at the
second, clients reach it at the third. Nothing here opens a socket; only :func:`is_loopback` may look a name up.
:mod:`zmqlab.names` knows which addresses stand behind a name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from functools import lru_cache

from zmqlab.errors import SettingsError

PORTS_PER_NODE = 3
"""Base port + 0: PUB; + 1: ROUTER for peers; + 2: ROUTER for clients."""
CLIENT_PORT = 2
"""How far the port for clients is above the base port."""

_ENDPOINT = re.compile(r"tcp://(\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):([0-9]{1,5})/?")
"""A name, an IPv4 address, or an IPv6 address in brackets. libzmq fails at an empty host, and at one that begins with a
dot or a dash."""


@lru_cache(maxsize=1_024)
def parse_endpoint(text: str) -> tuple[str, int]:
    """``(host, port)`` of ``tcp://host:port``. Several spellings of one address become one: ``localhost`` is 127.0.0.1,
    and an IPv6 address has its shortest form, in brackets.

    Raises:
        SettingsError: it has another form, or the port is out of range.
    """
    match = _ENDPOINT.fullmatch(text.strip()) if isinstance(text, str) else None
    host = spelled(match[1]) if match else ""
    if not match or not 1 <= int(match[2]) <= 65_535 or (host.startswith("[") and not is_numeric(host)):
        raise SettingsError(
            f"{str(text)[:300]!r} is not an endpoint: write tcp://HOST:PORT, as in tcp://localhost:5000"
        )
    return host, int(match[2])


def spelled(host: str) -> str:
    """The one spelling of a host in endpoints: an IPv6 address in its shortest form and in brackets, and 127.0.0.1 for
    ``localhost``. Names stay as they are."""
    if host == "localhost":
        return "127.0.0.1"
    if ":" in host:
        with contextlib.suppress(ValueError):
            return f"[{ipaddress.IPv6Address(host.strip('[]')).compressed}]"
    return host


@lru_cache(maxsize=1_024)
def is_numeric(host: str) -> bool:
    """Whether ``host``, as it stands in an endpoint, is an address and no name that has to be looked up."""
    with contextlib.suppress(ValueError):
        if host.startswith("["):
            return host.endswith("]") and not ipaddress.IPv6Address(host[1:-1]).scope_id
        ipaddress.IPv4Address(host)
        return True
    return False


@lru_cache(maxsize=1_024)
def parse_address(text: str) -> tuple[str, int]:
    """``(host, port)`` of a node's base endpoint as nodes tell it to each other: the host is an address.

    A name of a host is refused. It would get into the log, and each node would have to look it up for ever.

    Raises:
        SettingsError: it is no endpoint, it names a host, or there is no room for all ports of a node.
    """
    host, port = parse_endpoint(text)
    if not is_numeric(host):
        raise SettingsError(f"{text!r} names a host: nodes tell each other addresses, as in tcp://10.0.0.1:5000")
    if port > 65_535 - PORTS_PER_NODE + 1:
        raise SettingsError(f"{text!r} is no base endpoint: a node has {PORTS_PER_NODE} ports from there on")
    return host, port


@lru_cache(maxsize=1_024)
def is_address(text: str) -> bool:
    """Whether ``text``, which another process has sent, is a node's base endpoint as :func:`parse_address` takes it,
    and in its one spelling."""
    try:
        return "tcp://{}:{}".format(*parse_address(text)) == text
    except SettingsError:
        return False


def parse_endpoints(text: str) -> tuple[str, ...]:
    """The endpoints of a comma-separated list in one spelling; an empty tuple for a blank text.

    Raises:
        SettingsError: one of them is no endpoint.
    """
    parts = [part for part in text.split(",") if part.strip()]
    return tuple("tcp://{}:{}".format(*parse_endpoint(part)) for part in parts)


def client_endpoint(host: str, port: int) -> str:
    """The endpoint at which clients reach the node with base port ``port``."""
    return f"tcp://{host}:{port + CLIENT_PORT}"


@lru_cache(maxsize=1_024)
def client_endpoint_of(base: str) -> str:
    """The endpoint at which clients reach the node with the base endpoint ``base``.

    Raises:
        SettingsError: ``base`` is no endpoint.
    """
    return client_endpoint(*parse_endpoint(base))


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach ``host``: all of its addresses are loopback addresses.

    Any name but ``localhost`` is looked up, which may take seconds. A name that is not known is not loopback.
    """
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    if host == "localhost":
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
