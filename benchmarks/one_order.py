"""How long one order takes alone, in bare round trips of pyzmq.

One request of one order is outstanding at a time, and nothing else is done. It goes to the leader, then to a follower,
then through ``Client``, and the same bytes go to a bare ROUTER that sends them back: that is a bare round trip. All of
them take turns, a hundred questions each. The table shows medians.

    python benchmarks/one_order.py [--nodes 3] [--rounds 30] [--durability os]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import zmq
from machine import line, unwind_at_sigterm
from tables import markdown
from targets import Running, running, started

from zmqlab import Client, Command, Side
from zmqlab.client.bare_client import BareClient
from zmqlab.lab.hosts import free_base_ports

IN_A_ROW = 100
"""Long enough that a process which was just woken is warm, and short enough that a disturbance hits all alike."""
BOUNCE = """
import sys, zmq
router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
poller.register(0, zmq.POLLIN)
while 0 not in (ready := dict(poller.poll())):
    router.send_multipart(router.recv_multipart())
"""
Question = Callable[[], object]


def order(number: int) -> Command:
    """One that rests or trades with the one before: the book stays small."""
    return Command.limit(Side.BUY if number % 2 else Side.SELL, "AAPL", 10, 10_000, account=1 + number % 2)


class Session:
    """Requests of one order to one node."""

    def __init__(self, client: BareClient, node: str) -> None:
        self._client = client
        self._node = node
        self._number = 0
        client.open(node)

    def ask(self) -> None:
        """One order, until its answer is there."""
        self._number += 1
        self._client.send(
            self._node, self._client.request(self._number, order(self._number), answered_below=self._number)
        )
        assert self._client.receive(self._node) is not None


class Bounce:
    """The bare round trip: a frame as long as a request of one order."""

    def __init__(self, stack: ExitStack) -> None:
        endpoint = f"tcp://127.0.0.1:{free_base_ports(1)[0]}"
        stack.enter_context(started([sys.executable, "-c", BOUNCE, endpoint]))
        context = stack.enter_context(zmq.Context())
        self._socket = stack.enter_context(context.socket(zmq.DEALER))
        self._socket.connect(endpoint)
        self._frame = bytes(80)

    def ask(self) -> None:
        """There and back."""
        self._socket.send(self._frame)
        self._socket.recv()


class Library:
    """``Client`` as a user has it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._number = 0

    def ask(self) -> None:
        """One order."""
        self._number += 1
        self._client.send(order(self._number))


def questions(target: Running, stack: ExitStack) -> dict[str, Question]:
    """What is asked, by its name in the table; the bare round trip first."""
    statuses = {status.port + 2: status for status in target.await_leader()}
    leads = {endpoint: statuses[int(endpoint.rpartition(":")[2])].role == "leader" for endpoint in target.endpoints}
    leader = next(endpoint for endpoint, is_leader in leads.items() if is_leader)
    follower = next((endpoint for endpoint, is_leader in leads.items() if not is_leader), leader)
    found: dict[str, Question] = {"bare round trip": Bounce(stack).ask}
    for name, endpoint in (("through the leader", leader), ("through a follower", follower)):
        found[name] = Session(stack.enter_context(BareClient({"node": endpoint})), "node").ask
    found["`Client`, any node"] = Library(stack.enter_context(Client(target.endpoints))).ask
    return found


def median_us(question: Question) -> float:
    """Of a row of questions."""
    took = []
    for _ in range(IN_A_ROW):
        began = time.perf_counter_ns()
        question()
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--durability", default="os")
    arguments = parser.parse_args()
    unwind_at_sigterm()
    about = line()
    with running("cluster", arguments.nodes, durability=arguments.durability) as target, ExitStack() as stack:
        asked = questions(target, stack)
        for question in asked.values():
            median_us(question)  # warms up
        rounds = [{name: median_us(question) for name, question in asked.items()} for _ in range(arguments.rounds)]
    print(f"{about}.\n{arguments.rounds} rounds of {IN_A_ROW} orders each, {arguments.nodes} nodes, in turn.\n")
    bare = "bare round trip"
    rows = [
        [
            name,
            f"{statistics.median(one[name] for one in rounds):.0f}",
            f"{statistics.median(one[name] / one[bare] for one in rounds):.1f}",
        ]
        for name in asked
    ]
    print(markdown(["one order alone", "median, µs", "bare round trips"], rows))


if __name__ == "__main__":
    main()
