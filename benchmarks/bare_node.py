"""Two yardsticks that speak the clients' protocol: an echo without a cluster, and nodes without books.

``python benchmarks/bare_node.py echo PORT`` answers every request at once from a bare pyzmq ROUTER, with one report for
each command. ``python benchmarks/bare_node.py pipeline NODE-FLAGS`` is a production node with Raft and journal. Its
exchange accepts every command and does nothing.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator

import zmq

from zmqlab.market.canonical import Pieces
from zmqlab.market.types import Depth, MarketLimits, Trade
from zmqlab.wire import client as client_wire
from zmqlab.wire import frames, records

COUNT = struct.Struct("<Q")


def new_orders(first_id: int, count: int) -> list[int]:
    """``count`` flat reports: NEW, nothing filled, one share of the next order rests."""
    reports: list[int] = []
    for order_id in range(first_id, first_id + count):
        reports += (1, 0, 0, 0, 0, 1, order_id, 0)
    return reports


class NullExchange:
    """Accepts everything, remembers a counter."""

    def __init__(self, limits: MarketLimits | None = None) -> None:
        self.limits = limits
        self._count = 0
        self.open_orders = 0

    def execute(self, commands: Iterable[tuple[int, ...]], session: int = 0) -> tuple[list[int], list[int]]:
        count, first_id = sum(1 for _ in commands), self._count + 1
        self._count += count
        return new_orders(first_id, count), []

    def freeze(self, rows: int) -> Iterator[bytes]:
        return iter([COUNT.pack(self._count)])

    def restoring(self, pieces: Pieces) -> Iterator[None]:
        (self._count,) = yield from pieces.one(COUNT)

    def dismantle(self) -> Iterator[None]:
        return iter(())

    def depth(self, symbol: str, levels: int) -> Depth:
        return Depth(symbol, [], [])

    def trades(self, symbol: str) -> list[Trade]:
        return []


def run_echo(port: int) -> None:
    """Serve until standard input ends."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"tcp://127.0.0.1:{port + 2}")
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(0, zmq.POLLIN)
    index = 0
    while 0 not in (ready := dict(poller.poll())):
        while router in ready:
            try:
                route, frame = router.recv_multipart(int(zmq.NOBLOCK))
            except zmq.Again:
                break
            index += 1
            answer = _answer(frame, index)
            if answer:
                router.send_multipart((route, client_wire.encode_responses([answer])))
    context.destroy(linger=0)


def _answer(frame: bytes, index: int) -> bytes:
    frame_type, _ = frames.parse_header(frame)
    if frame_type == frames.OPEN_SESSION:
        return client_wire.encode_response(1, client_wire.parse_open_session(frame), index)
    if frame_type != frames.REQUEST:
        return b""
    client_id, number, _, count = client_wire.parse_request(frame)
    return client_wire.encode_response(
        client_id, number, index, reports=records.pack_reports(new_orders(1_024 * index, count))
    )


def run_pipeline(arguments: list[str]) -> int:
    """A node whose books do nothing."""
    from zmqlab.node.__main__ import parse_arguments
    from zmqlab.node.process import run_node
    from zmqlab.replica import machine

    machine.Exchange = NullExchange  # type: ignore[misc,assignment]
    return run_node(parse_arguments(arguments))


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        run_echo(int(sys.argv[2]))
    else:
        sys.exit(run_pipeline(sys.argv[2:]))
