"""Microseconds for each command of matching alone: no sockets, no log, one process.

The flow is made beforehand from a seed: 16 symbols whose mids move, 55 % new limit orders around the mid, 10 %
marketable ones (half of them market orders), 25 % cancels and 10 % replaces of orders that are known to rest.
An exchange runs along while the flow is made, and tells which orders rest, so that few commands are rejected, as with
real participants. Every figure is the best of the repetitions: the work is the same each time, so a longer time was
disturbed. Run it from the root of the repository::

    python benchmarks/matching.py [--commands 200000] [--seed 1] [--repeat 5]
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections import Counter
from collections.abc import Callable

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

    def fast() -> None:
        execute = Exchange().execute
        for batch in batches:
            execute(batch)

    def with_wire() -> None:
        execute = Exchange().execute
        for data in packed:
            reports, fills = execute(records.iter_commands(data))
            records.pack_reports(reports)
            records.pack_fills(fills)

    few = batches[: max(1, NAIVE_COMMANDS_MAX // BATCH)]

    def naive() -> None:
        execute = NaiveExchange().execute
        for batch in few:
            execute(batch)

    def show(what: str, seconds: float, commands: int) -> None:
        print(f"  {what:<44}{seconds / commands * 1e6:8.2f} microseconds a command")

    show("exchange", best(arguments.repeat, fast), len(flow))
    show("exchange, unpacking commands, packing reports", best(arguments.repeat, with_wire), len(flow))
    show(f"naive exchange, first {len(few) * BATCH:,}", best(1, naive), sum(map(len, few)))
    snapshot = exchange.snapshot()
    print(f"  snapshot of {len(snapshot):,} bytes: ", end="")
    print(f"{best(5, exchange.snapshot) * 1e3:.1f} ms, restore ", end="")
    print(f"{best(5, lambda: Exchange().restore(snapshot)) * 1e3:.1f} ms, ", end="")
    print(f"state hash {best(5, exchange.state_hash) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
