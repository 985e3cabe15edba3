"""Why another process does not let this one in, in one sentence for a person.

A key that is refused looks like a node that is dead: nothing comes back. libzmq knows better. A monitor of the socket
that connects reports the end of each handshake, and :class:`Handshakes` turns that into text.

What libzmq tells, and what it means:

=====================  ============================================================================================
report                 meaning
=====================  ============================================================================================
FAILED_AUTH            the other side has looked our key up, and does not let it in (ZAP status 400)
FAILED_PROTOCOL        with :data:`MISMATCH`: one side has keys and the other has none
FAILED_NO_DETAIL       the other side hung up before it had said why: one of the above (libzmq may find the connection
                       closed before it has read the reason); other keys; no node; too many connections
DISCONNECTED           the other side hung up, and no handshake had begun: another kind of socket
CONNECT_RETRIED        nothing listens there
SUCCEEDED              we are in; a silence has another reason
=====================  ============================================================================================

After the first two libzmq does not try again, ever: a socket that must outlive such a mistake has to be connected anew.
So a member that was started once without its keys, and then rightly, was not reached by the others any more
(:attr:`Report.is_final`).

*When is it asked?* A socket that lives for long is monitored, if few of its kind are open: a monitor takes two file
descriptors. For all others :func:`why_silent` knocks once more after the time-out. So what goes well costs nothing.

*Which side speaks first?* Where one side has keys and the other has none, the side that notices first hangs up, and
mostly has not sent its own greeting to the end by then. On busy cores it may be the other side each time, for many
seconds. So :func:`why_silent` then reads the greeting itself (:func:`mechanism_of`). A node does not: it would wait for
another machine in its loop. It says what a node that hangs up may be.

Left out: who was refused here. That is counted by the one that refuses (:class:`zmqlab.net.KeyChecker`).
"""

from __future__ import annotations

import contextlib
import socket as sockets
import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import zmq

from zmqlab import keys, net
from zmqlab.endpoints import is_numeric, parse_endpoint
from zmqlab.keys import Credentials

FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
HANDSHAKES = int(FAILED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_SUCCEEDED)
ALL_ENDS = int(HANDSHAKES | DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
MISMATCH = 0x11000002
"""``ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH`` of zmq.h."""
HUNG_UP_TIMES = 20
"""So often in a row a node has to hang up before :class:`Complaints` tells, which takes some seconds. One that is being
ended does it too, and one that has a reason says it sooner or later."""
KNOCK_S = 0.25
"""A refusal came after 4 ms on loopback; another machine has its way there and back three times. One that hung up is
asked again by libzmq, since it may say more the next time: some ten times in this time."""

SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"
"""How each greeting begins (ZMTP 3.1)."""
MECHANISM = slice(12, 32)
"""Where it names the mechanism, behind two bytes for the version."""

_REPORT = struct.Struct("=HI")
_BOUNDS = net.SocketBounds(frame_bytes=1_024)


class Report(NamedTuple):
    """The end of one handshake, or of a connection."""

    endpoint: str
    why: str
    """Why it failed; empty if it succeeded, or if nothing listens there."""
    is_final: bool = False
    """Whether libzmq has given this connection up."""
    is_in: bool = False
    """Whether it succeeded."""
    is_end: bool = False
    """Whether this is the end of a connection, and not of a handshake."""


class Handshakes:
    """The handshakes of one socket that connects. Its owner reads :attr:`reports` in its own thread, and closes it
    before the socket."""

    def __init__(
        self, context: net.Context, socket: net.Socket, credentials: Credentials | None = None, events: int = HANDSHAKES
    ) -> None:
        """
        Args:
            credentials: what the socket shows; None: what :func:`zmqlab.keys.towards` finds for each endpoint.
            events: what is reported.
        """
        self._credentials = credentials
        self._socket = socket
        self.monitor = net.monitor(context, socket, events)
        """To be polled for input."""

    def reports(self) -> Iterator[Report]:
        """What has happened since the last call."""
        with contextlib.suppress(zmq.Again):
            while True:
                head, place = self.monitor.recv_multipart(zmq.NOBLOCK)
                event, value = _REPORT.unpack(head)
                endpoint = place.decode(errors="replace")
                why, is_in = "", event == zmq.EVENT_HANDSHAKE_SUCCEEDED
                if not is_in and event != zmq.EVENT_CONNECT_RETRIED:
                    why = _why(event, value, endpoint, self._credentials or keys.towards(endpoint))
                yield Report(endpoint, why, bool(event & FAILED), is_in, event == DISCONNECTED)

    def close(self) -> None:
        """Listen no more."""
        net.stop_monitor(self._socket, self.monitor)


class Complaints:
    """Tells of each endpoint once that it does not let this process in; and again after it has let it in meanwhile."""

    def __init__(self) -> None:
        self._hung_up: dict[str, int] = {}
        self._told: set[str] = set()
        """Endpoints of which the reason was told."""

    def take(self, report: Report) -> str:
        """What to tell because of this report; mostly nothing."""
        endpoint = report.endpoint
        if report.is_in:
            self._hung_up.pop(endpoint, None)
            self._told.discard(endpoint)
        elif endpoint in self._told:
            return ""
        elif report.is_final:
            self._told.add(endpoint)
            return report.why
        else:
            self._hung_up[endpoint] = self._hung_up.get(endpoint, 0) + 1
            if self._hung_up[endpoint] == HUNG_UP_TIMES:
                return report.why
        return ""


def _why(event: int, value: int, endpoint: str, credentials: Credentials | None) -> str:
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and credentials is not None:
        return (
            f"{_called(credentials)} is not let in by {endpoint}: add this line to the file {keys.ALLOWED!r} in the"
            f" nodes' folder of keys: {credentials.line or 'ROLE NAME ' + credentials.public}"
        )
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MISMATCH:
        return _mismatch(endpoint, credentials)
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return f"{endpoint} breaks the protocol of ZeroMQ ({value:#x}): no node of zmqlab listens there"
    asks = "a node that asks for a key"
    if credentials is not None:
        asks = f"a node whose keys are not those of {_called(credentials)}, or that has none"
    return f"{endpoint} hung up at once: it is {asks}, a wrong port (for clients: base port + 2), or no node"


def _mismatch(endpoint: str, credentials: Credentials | None) -> str:
    if credentials is None:
        return f"{endpoint} asks for a key, and was shown none: name a folder of keys (--keys)"
    shown = _called(credentials)
    return f"{endpoint} has no keys, and was shown {shown}: leave --keys out, or start that node with --keys"


def _called(credentials: Credentials) -> str:
    return f"the key in {credentials.folder}" if credentials.folder else f"the key {credentials.public}"


def why_silent(
    endpoints: Iterable[str], timeout_s: float = KNOCK_S, credentials: Credentials | None = None
) -> dict[str, str]:
    """Knock at nodes that gave no answer: for each that does not let this process in, why. Others are left out.

    Args:
        endpoints: where they listen; those that name a host are left out.
        timeout_s: how long to wait for all of them together.
        credentials: what to show; None: what :func:`zmqlab.keys.towards` finds.
    """
    found: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        waiting = _knock_at(endpoints, credentials, stack)
        deadline = time.monotonic() + timeout_s
        while waiting and (remaining_s := deadline - time.monotonic()) > 0:
            zmq.select([each.monitor for each in waiting.values()], [], [], remaining_s)
            for endpoint, handshakes in list(waiting.items()):
                for report in handshakes.reports():
                    if report.why or report.is_in:
                        found[endpoint] = report.why
                    if report.is_final or report.is_in or endpoint not in found:
                        del waiting[endpoint]
                        break
    for endpoint in waiting.keys() & found.keys():  # they hung up, and have not said why
        shown = credentials or keys.towards(endpoint)
        if (mechanism := mechanism_of(endpoint)) and (mechanism == "CURVE") != (shown is not None):
            found[endpoint] = _mismatch(endpoint, shown)
    return {endpoint: why for endpoint, why in found.items() if why}


def mechanism_of(endpoint: str, timeout_s: float = KNOCK_S) -> str:
    """``CURVE`` or ``NULL``, as the socket that listens there says in its greeting; empty: it says nothing.

    It says that as soon as it knows the signature and the version of its peer, and before it knows the peer's mechanism
    (ZMTP 3.1, "Connection Metadata" and "Version Negotiation"). So here no more is sent.
    """
    greeting = b""
    with (
        contextlib.suppress(OSError),
        sockets.create_connection(parse_endpoint(endpoint), timeout_s) as connection,
    ):
        connection.sendall(SIGNATURE + b"\x03")
        while len(greeting) < MECHANISM.stop and (more := connection.recv(64)):
            greeting += more
    said = greeting[MECHANISM].rstrip(b"\0").decode("ascii", "replace") if greeting[:1] == SIGNATURE[:1] else ""
    return said if len(greeting) >= MECHANISM.stop else ""


def _knock_at(
    endpoints: Iterable[str], credentials: Credentials | None, stack: contextlib.ExitStack
) -> dict[str, Handshakes]:
    """Begin to connect to each; ``stack`` closes what was opened. Where no descriptor is left it stays unknown."""
    context = net.shared_context()
    begun: dict[str, Handshakes] = {}
    try:
        for endpoint in dict.fromkeys(each for each in endpoints if is_numeric(parse_endpoint(each)[0])):
            socket = net.open_socket(context, zmq.DEALER, _BOUNDS)
            stack.callback(socket.close, 0)
            begun[endpoint] = Handshakes(context, socket, credentials, ALL_ENDS)
            stack.callback(begun[endpoint].close)
            net.attach(socket, endpoint, credentials)
    except zmq.ZMQError as error:
        if not net.is_out_of_descriptors(error):
            raise
    return begun
