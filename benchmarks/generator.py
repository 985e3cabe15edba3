"""The cost of the load generator by itself, against nodes that answer at once.

The fake nodes run in another process and are cheap. The benchmark measures the process of the generator (its ZeroMQ I/O
thread included): its CPU time for each second, order and request, and how well it keeps its schedule. Run it while
nothing else runs:

    python -m benchmarks.generator [--rates 5000,20000,50000,100000] [--seconds 5] [--history FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection

import numpy as np
import zmq

from zmqlab.load.generator import run_load
from zmqlab.load.load_report import LoadReport
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.order_flow import COMMAND, KIND_NEW, REPORT
from zmqlab.market.types import Status
from zmqlab.settings import parse_rate
from zmqlab.wire import client, frames

NODES = 3


def serve(ready: Connection) -> None:
    """Three nodes in one thread. Every order rests, every cancel and replace succeeds, and nothing is remembered."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets: list[zmq.Socket[bytes]] = [context.socket(zmq.ROUTER) for _ in range(NODES)]
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    ready.send([f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}" for socket in sockets])
    log_index, next_id = 0, 1
    by_kind = np.array([0, Status.NEW, Status.CANCELED, Status.REPLACED])
    while not ready.poll():
        for socket, _ in poller.poll(50):
            route, frame = socket.recv_multipart()
            frame_type, _ = frames.parse_header(frame)
            if frame_type == frames.QUERY:
                continue
            log_index += 1
            if frame_type == frames.OPEN_SESSION:
                body = client.encode_response(log_index, client.parse_open_session(frame), log_index)
            else:
                head = client.parse_request(frame)
                rows = np.frombuffer(frame, COMMAND, offset=len(frame) - head.command_count * COMMAND.itemsize)
                reports = np.zeros(len(rows), REPORT)
                reports["status"] = by_kind[rows["kind"]]
                ids = next_id + np.arange(len(rows), dtype=np.uint64)
                reports["order_id"] = np.where(rows["kind"] == KIND_NEW, ids, rows["order_id"])
                reports["leaves_quantity"] = rows["quantity"]
                next_id += len(rows)
                body = client.encode_response(*head[:2], log_index, 0, 0, reports.tobytes())
            socket.send_multipart([route, client.encode_responses([body])])
    context.destroy(linger=0)


def measure(endpoints: list[str], rate: float | None, seconds: float, history: str | None) -> str:
    """One line of the table."""
    settings = LoadSettings(nodes=tuple(endpoints), rate=rate, duration_s=seconds, history=history)
    result = run_load(settings)
    report, total = LoadReport(result), result.total
    return (
        f"{'max' if rate is None else f'{rate:,.0f}':>8} {report.throughput:>10,.0f} "
        f"{100 * result.cpu_s / result.elapsed_s:>6.0f} {report.cpu_us_per_order:>8.2f} "
        f"{report.cpu_us_per_request:>8.0f} {report.orders_per_request:>8.1f} {report.response_time.p50_ms:>8.3f} "
        f"{report.response_time.p99_ms:>8.3f} {report.response_time.max_ms:>8.2f} {report.service_time.p50_ms:>8.3f} "
        f"{total.late:>6}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="5000,20000,50000,100000,max")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--history", help="write the operations to this file, to see what that costs")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    endpoints = ours.recv()
    print("    rate   orders/s  CPU % us/order us/requ. orders/   response ms                service   late")
    print("                                             request      p50      p99      max      p50")
    for rate in arguments.rates.split(","):
        print(measure(endpoints, parse_rate(rate), arguments.seconds, arguments.history), flush=True)
        time.sleep(0.2)
    ours.send("stop")
    server.join(5)


if __name__ == "__main__":
    main()
