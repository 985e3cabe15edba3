"""Microseconds for each command of matching alone: no sockets, no log, one process; with each exchange that is here.

The flow is made beforehand from a seed: 16 symbols whose mids move, 55 % new limit orders around the mid, 10 %
marketable ones (half of them market orders), 25 % cancels and 10 % replaces of orders that are known to rest.
An exchange runs along while the flow is made, and tells which orders rest, so that few commands are rejected, as with
real participants. Every figure is the best of the repetitions: the work is the same each time, so a longer time was
disturbed. The last rows are of the whole state machine: sessions, matching, answers and the chain hash, in requests of
5 and of 30 commands. Run it from the root of the repository::

    python benchmarks/matching.py [--commands 200000] [--seed 1] [--repeat 5]
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product

from zmqlab.market import (
    Command,
    Exchange,
    NaiveExchange,
    OrderType,
    Side,
    Status,
    TimeInForce,
    fills_in,
    reports_in,
    symbol_code,
)
from zmqlab.raft import Entry, EntryKind
from zmqlab.replica import StateMachine
from zmqlab.replica.execution import AnyExchange, PythonExchange, compiled
from zmqlab.wire import client as client_wire
from zmqlab.wire import records

BATCH = 64
"""Commands in each execute call: as many as a busy node finds in one request."""
NAIVE_COMMANDS_MAX = 20_000


class Flow:
    """Makes commands like those of a market with many accounts."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.codes = [symbol_code(f"SYM{i:02}") for i in range(16)]
        self.mids = dict.fromkeys(self.codes, 10000)
        self.known: list[tuple[int, int, int, int, int]] = []
        """(order_id, symbol, account, price, quantity) of orders that rested at their last report."""
        self.done: set[int] = set()
        """Ids of orders that were filled after they had come to rest."""
        self.exchange = Exchange()

    def commands(self, count: int) -> list[Command]:
        return [self.learn(self.next()) for _ in range(count)]

    def next(self) -> Command:
        pick = self.random.random()
        if pick >= 0.75 and self.known:
            return self.change(cancel=True)
        if pick >= 0.65 and self.known:
            return self.change(cancel=False)
        return self.enter(marketable=pick < 0.10)

    def enter(self, marketable: bool) -> Command:
        draw = self.random
        code = draw.choice(self.codes)
        self.mids[code] += draw.choice((-1, 0, 0, 0, 1))
        side = draw.choice((Side.BUY, Side.SELL))
        away = -1 if side is Side.BUY else 1
        distance = -3 if marketable else 1 + int(draw.expovariate(1 / 12))
        market = marketable and draw.random() < 0.5
        return Command(
            1,
            int(side),
            int(OrderType.MARKET if market else OrderType.LIMIT),
            int(TimeInForce.IOC if market else TimeInForce.GTC),
            draw.randint(1, 10) * 100,
            0,
            code,
            0 if market else self.mids[code] + away * distance,
            draw.randint(1, 1_000),
            0,
        )

    def change(self, cancel: bool) -> Command:
        order_id, code, account, price, quantity = self.take_known()
        if cancel:
            return Command(2, order_id=order_id, symbol=code, account=account)
        if self.random.random() < 0.5:
            quantity = max(100, quantity - 100)
        else:
            price += self.random.choice((-1, 1))
        return Command(3, 0, 0, 0, quantity, order_id, code, price, account, 0)

    def take_known(self) -> tuple[int, int, int, int, int]:
        """A random order that still rests (or, in a flow's first moments, maybe not)."""
        while True:
            at = self.random.randrange(len(self.known))
            self.known[at], self.known[-1] = self.known[-1], self.known[at]
            row = self.known.pop()
            if row[0] not in self.done or not self.known:
                return row

    def learn(self, command: Command) -> Command:
        reports, fills = self.exchange.execute([command])
        (report,) = reports_in(reports)
        leaves = report.leaves_quantity
        if leaves:
            self.known.append((report.order_id, command.symbol, command.account, command.price, leaves))
        self.done.update(fill.maker_order_id for fill in fills_in(fills) if not fill.maker_leaves_quantity)
        return command


def best(repeat: int, run: Callable[[], object]) -> float:
    """Seconds of the fastest of ``repeat`` runs."""
    times = []
    for _ in range(repeat):
        gc.collect()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def execute_all(make: type[AnyExchange], packed: list[bytes]) -> None:
    """The packed batches, one call each."""
    execute = make().execute_packed
    for data in packed:
        execute(data, 0, 1)


def match_all(batches: list[list[tuple[int, ...]]]) -> None:
    """The batches without any bytes."""
    execute = Exchange().execute
    for batch in batches:
        execute(batch)


def entries_of(flow: list[Command], size: int) -> list[Entry]:
    """A log of one client that has few requests under way."""
    datas = [client_wire.encode_open_session(1)]
    for number, at in enumerate(range(0, len(flow), size), start=1):
        packed = records.pack_commands(flow[at : at + size])
        datas.append(client_wire.encode_request(1, number, max(1, number - 3), packed))
    return [Entry(index, 1, EntryKind.DATA, data) for index, data in enumerate(datas, start=1)]


def apply_all(make: type[AnyExchange], entries: list[Entry]) -> None:
    """What a node does with what is committed."""
    apply = StateMachine(exchange=make()).apply
    for entry in entries:
        apply(entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    flow = Flow(arguments.seed).commands(arguments.commands)
    batches = [list(map(tuple, flow[at : at + BATCH])) for at in range(0, len(flow), BATCH)]
    packed = [records.pack_commands(batch) for batch in batches]

    exchange = Exchange()
    outcomes: Counter[int] = Counter()
    for batch in batches:
        outcomes.update(report.status for report in reports_in(exchange.execute(batch)[0]))
    print(f"{len(flow):,} commands in batches of {BATCH}, {exchange.open_orders:,} orders open at the end")
    print("  " + ", ".join(f"{Status(s).name} {n / len(flow):.1%}" for s, n in sorted(outcomes.items())))
    found = compiled()
    if isinstance(found, str):
        print(f"  there is no compiled exchange: {found}")
    makes: list[type[AnyExchange]] = [PythonExchange] if isinstance(found, str) else [PythonExchange, found]

    few = batches[: max(1, NAIVE_COMMANDS_MAX // BATCH)]

    def naive() -> None:
        execute = NaiveExchange().execute
        for batch in few:
            execute(batch)

    def show(what: str, seconds: float, commands: int) -> None:
        print(f"  {what:<48}{seconds / commands * 1e6:8.2f} microseconds a command")

    for make in makes:
        seconds = best(arguments.repeat, partial(execute_all, make, packed))
        show(f"{make.name} exchange, from bytes to bytes", seconds, len(flow))
    show("python exchange, from tuples to lists", best(arguments.repeat, partial(match_all, batches)), len(flow))
    show(f"naive exchange, first {len(few) * BATCH:,}", best(1, naive), sum(map(len, few)))
    snapshot = exchange.snapshot()
    for make in makes:
        restored = make()
        print(f"  {make.name}: snapshot of {len(snapshot):,} bytes restored in ", end="")
        print(f"{best(5, partial(restored.restore, snapshot)) * 1e3:.1f} ms, ", end="")
        print(f"made in {best(5, restored.snapshot) * 1e3:.1f} ms, ", end="")
        print(f"state hash {best(5, restored.state_hash) * 1e3:.1f} ms")
    for make, size in product(makes, (5, 30)):
        entries = entries_of(flow, size)
        seconds = best(arguments.repeat, partial(apply_all, make, entries))
        show(f"state machine, {make.name}, {size} commands a request", seconds, len(flow))


if __name__ == "__main__":
    main()
