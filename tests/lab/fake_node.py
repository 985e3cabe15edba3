"""A stand-in for a node: answers status queries and publishes its status, and nothing else.

Run as a script with a node's own arguments. With FAKE_NODE=corrupt in its
environment it ends at once, as a node whose journal is damaged.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time

import zmq

from zmqlab.wire import control, frames
from zmqlab.wire.node_status import NodeStatus


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--leader", action="store_true")
    parser.add_argument("--cluster", default="")
    options, _ = parser.parse_known_args()
    if os.environ.get("FAKE_NODE") == "corrupt":
        print("zmqlab node: record 7 fails its check", file=sys.stderr)
        return 6
    context = zmq.Context()
    publisher, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
    for socket, offset in ((publisher, 0), (router, 2)):
        socket.linger = 0
        socket.bind(f"tcp://127.0.0.1:{options.port + offset}")

    def status() -> NodeStatus:
        return status_of(options.node, options.port, options.leader, options.cluster)

    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll(20))
        publisher.send(control.encode(frames.METRICS, status()))
        if router in ready:
            identity, frame = router.recv_multipart()
            query = control.decode_query(frame)
            answer = control.StatusAnswer(query.nonce, status())
            router.send_multipart([identity, control.encode(frames.ANSWER, answer)])
        if select.select([sys.stdin], [], [], 0)[0] and not os.read(0, 1):
            return 0


def status_of(name: str, port: int, leads: bool, cluster: str = "") -> NodeStatus:
    return NodeStatus(
        name=name,
        node_id=port,
        pid=os.getpid(),
        port=port,
        cluster=cluster,
        time_ns=time.time_ns(),
        uptime_ms=1,
        role="leader" if leads else "follower",
        term=1,
        leader_id=1,
        leader_name="node0",
        first_index=1,
        last_index=1,
        commit_index=1,
        applied_index=1,
        lag=0,
    )


if __name__ == "__main__":
    sys.exit(main())
