"""A member of a PySyncObj cluster whose state machine is the exchange of this project, and which speaks its protocol.

So the same load client drives it, and the same pure Python matches the orders: what differs is the replication. A
request is one replicated call. The member that took it answers when it has applied it, as a node of this project does.
Sessions are not kept: a request that is sent twice is applied twice.

PySyncObj runs in this thread (``autoTick=False``), and the ROUTER's descriptor is in its poller. With its default
settings it sends entries every 100 ms. ``appendEntriesUseBatch=False`` sends each at once, as a user would choose who
wants a low latency. The journal is its file journal, which writes to a mapped file and does not wait for the disk.

    python benchmarks/rival_pysyncobj.py CLIENT-PORT FOLDER OWN-ADDRESS OTHER-ADDRESS...
"""

from __future__ import annotations

import sys
from typing import Any

import zmq
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.poller import POLL_EVENT_TYPE

from zmqlab.market import Exchange
from zmqlab.wire import client as wire
from zmqlab.wire import frames

TICK_S = 0.02
MAX_FILLS = 40_000
"""As a node has it."""


class ReplicatedExchange(SyncObj):  # type: ignore[misc]
    """The exchange, behind one replicated method."""

    def __init__(self, own: str, others: list[str], folder: str) -> None:
        self.exchange = Exchange()
        self.count = 0
        conf = SyncObjConf(autoTick=False, appendEntriesUseBatch=False, journalFile=f"{folder}/journal")
        super().__init__(own, others, conf=conf)

    @replicated  # type: ignore[untyped-decorator]
    def execute(self, frame: bytes) -> bytes:
        """One request; returns the body of its answer."""
        self.count += 1
        head = wire.parse_request(frame)
        reports, fills = self.exchange.execute(wire.request_commands(frame), head.client_id)
        return wire.encode_execution(head.client_id, head.request_number, self.count, reports, fills, MAX_FILLS)


class Server:
    """The ROUTER beside the member."""

    def __init__(self, port: int, member: ReplicatedExchange) -> None:
        self._member = member
        self._router = zmq.Context().socket(zmq.ROUTER)
        self._router.bind(f"tcp://127.0.0.1:{port}")
        member._poller.subscribe(self._router.fileno(), lambda *_: self.drain(), POLL_EVENT_TYPE.READ)
        member.addOnTickCallback(self.drain)
        self._opened = 0

    def drain(self) -> None:
        """Take all that has come. The descriptor tells of news only once, so this is called in every turn as well."""
        while int(self._router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            route, frame = self._router.recv_multipart()
            frame_type, _ = frames.parse_header(frame)
            if frame_type == frames.OPEN_SESSION:
                self._opened += 1
                self._answer(route, wire.encode_response(self._opened, wire.parse_open_session(frame), 1))
            elif frame_type == frames.REQUEST:
                self._member.execute(frame, callback=self._answering(route))

    def _answering(self, route: bytes) -> Any:
        def done(body: bytes | None, error: int) -> None:
            if body is not None and not error:
                self._answer(route, body)

        return done

    def _answer(self, route: bytes, body: bytes) -> None:
        self._router.send_multipart((route, wire.encode_responses([body])))


def main() -> None:
    """Serve until the process is ended."""
    port, folder, own, *others = sys.argv[1:]
    member = ReplicatedExchange(own, others, folder)
    Server(int(port), member)
    told = False
    while True:
        member.doTick(TICK_S)
        if not told and member.isReady():
            told = True
            print("ready", flush=True)


if __name__ == "__main__":
    main()
