"""An order book that a person wrote, beside the naive exchange: generated orders, until the two differ.

The person writes a class ``OrderBook``::

    class OrderBook:
        def limit(self, order_id, side, price, quantity): ...   # the fills: a list of (order_id, price, quantity)
        def cancel(self, order_id): ...                         # whether the order rested
        def depth(self): ...                                    # bids and asks: two lists of (price, quantity)

``side`` is ``"buy"`` or ``"sell"``; prices and quantities are whole numbers. A fill names the resting order. The best
price comes first in both lists of a depth.

Theory of operation. A sequence of :class:`Step` goes to both books; after each step what it returned and both depths
are compared. A sequence in which they differ is made shorter for as long as they still differ: steps are left out, and
quantities become 1. What is left is told as a story. A step names its order by a number of its own, so that leaving out
another step changes nothing of its meaning.

Left out: what else the exchange knows. Market orders, order types and accounts are a chapter's subject, not this lab's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from zmqlab.course import seeds
from zmqlab.course.seeds import Finding
from zmqlab.course.submission import Submission, Unusable
from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import FILL_WIDTH, REPORT_STATUS, Command, Report, Side, Status

SEQUENCES, STEPS = 500, 30
"""About 5 s. A book that is wrong in one rule differs within the first few."""
QUICK_SEQUENCES = 60
REPORT_EVERY = 20
METHODS = {"limit": ("order_id", "side", "price", "quantity"), "cancel": ("order_id",), "depth": ()}
SYMBOL = "ACME"
SIDES = {"buy": Side.BUY, "sell": Side.SELL}

REPORT_ORDER_ID = Report._fields.index("order_id")

Levels = list[tuple[int, int]]


class Step(NamedTuple):
    """One order, or the cancellation of one."""

    order: int
    side: str = ""
    """Empty: cancel the order."""
    price: int = 0
    quantity: int = 0

    def __str__(self) -> str:
        if not self.side:
            return f"cancel order {self.order}"
        return f"order {self.order}: {self.side} {self.quantity} at {self.price}"


class Seen(NamedTuple):
    """What a book shows of one step."""

    returned: object
    bids: Levels
    asks: Levels


class NaiveSide:
    """The naive exchange with the three methods of the lab."""

    def __init__(self) -> None:
        self._exchange = NaiveExchange()
        self._ids: dict[int, int] = {}
        """The lab's number of an order -> the exchange's."""
        self._orders: dict[int, int] = {}

    def do(self, step: Step) -> Seen:
        """Carry out one step."""
        returned = self._limit(step) if step.side else self._cancel(step.order)
        depth = self._exchange.depth(SYMBOL, 1_000)
        return Seen(returned, [row[:2] for row in depth.bids], [row[:2] for row in depth.asks])

    def _limit(self, step: Step) -> list[tuple[int, int, int]]:
        """Each order has an account of its own, so that no two of them are one person's."""
        command = Command.limit(SIDES[step.side], SYMBOL, step.quantity, step.price, account=step.order)
        reports, fills = self._exchange.execute([command])
        exchange_id = reports[REPORT_ORDER_ID]
        self._ids[step.order], self._orders[exchange_id] = exchange_id, step.order
        rows = [fills[at : at + FILL_WIDTH] for at in range(0, len(fills), FILL_WIDTH)]
        return [(self._orders[maker], price, quantity) for maker, price, quantity, _ in rows]

    def _cancel(self, order: int) -> bool:
        command = Command.cancel(self._ids.get(order, 0), SYMBOL, account=order)
        return self._exchange.execute([command])[0][REPORT_STATUS] == Status.CANCELED


class WrittenSide:
    """The person's book, asked step by step."""

    def __init__(self, submission: Submission, written: Callable[[], Any]) -> None:
        self._submission = submission
        self._book = submission.call(written)

    def do(self, step: Step) -> Seen:
        """Carry out one step. Raises Unusable."""
        try:
            if step.side:
                fills = self._call("limit", step.order, step.side, step.price, step.quantity)
                returned: object = self._rows("limit", fills, 3)
            else:
                returned = self._submission.returned("cancel", self._call("cancel", step.order), bool)
            bids, asks = self._depth()
        except Unusable as problem:
            raise Unusable(f"{problem}\n    This was asked: {step}") from None
        return Seen(returned, bids, asks)

    def _call(self, name: str, *arguments: object) -> Any:
        return self._submission.call(getattr(self._book, name), *arguments)

    def _depth(self) -> tuple[Levels, Levels]:
        both = self._call("depth")
        if not isinstance(both, tuple | list) or len(both) != 2:
            raise Unusable(f"depth returns {both!r:.60}: it has to return two lists, the bids and the asks")
        return self._rows("depth", both[0], 2), self._rows("depth", both[1], 2)

    def _rows(self, name: str, rows: Any, width: int) -> list[Any]:
        if rows is None:
            raise Unusable(f"{name} returns nothing: it has to return {'two lists' if name == 'depth' else 'a list'}")
        try:
            found = [tuple(row) for row in rows]
        except TypeError:
            found = [()]
        if any(len(row) != width for row in found):
            what = "(order_id, price, quantity)" if width == 3 else "(price, quantity)"
            raise Unusable(f"{name} returns {rows!r:.60}: it has to be a list of {what}")
        return found


def fight(submission: Submission, report: seeds.Report, quick: bool = False) -> Finding:
    """Compare the person's book with the naive one."""
    written = submission.find("OrderBook", "class")
    submission.expect_parameters("OrderBook", written, ())
    for name, parameters in METHODS.items():
        method = getattr(written, name, None)
        if method is None:
            raise Unusable(f"OrderBook has no method {name}({', '.join(('self', *parameters))})")
        submission.expect_parameters(f"OrderBook.{name}", method, ("self", *parameters))
    count = QUICK_SEQUENCES if quick else SEQUENCES
    for seed in range(1, 1 + count):
        if seed % REPORT_EVERY == 1:
            report(seed - 1, count)
        if difference(submission, written, steps := drawn(seed)) is not None:
            return _told(submission, written, shortest(submission, written, steps), seed)
    report(count, count)
    return Finding(tried=f"{count} sequences of {STEPS} orders, beside the naive exchange")


def drawn(seed: int) -> list[Step]:
    """Orders at few prices, so that they meet; one step in five cancels an order, which may be gone or never was."""
    rng, steps = random.Random(f"{seed} book"), []
    for order in range(1, STEPS + 1):
        if order > 1 and rng.random() < 0.2:
            steps.append(Step(rng.randint(1, order)))
        else:
            steps.append(Step(order, rng.choice(("buy", "sell")), 100 + rng.randint(-3, 3), rng.randint(1, 9)))
    return steps


def difference(
    submission: Submission, written: Callable[[], Any], steps: Sequence[Step]
) -> tuple[int, Seen, Seen] | None:
    """The first step at which the two differ, with what the person's book and the naive one show there."""
    mine, naive = WrittenSide(submission, written), NaiveSide()
    for place, step in enumerate(steps):
        seen, right = mine.do(step), naive.do(step)
        if seen != right:
            return place, seen, right
    return None


def shortest(submission: Submission, written: Callable[[], Any], steps: Sequence[Step]) -> list[Step]:
    """A sequence from which no step can be left out, and in which no quantity can be 1 that is not."""
    best = list(steps)
    while smaller := next((each for each in _smaller(best) if difference(submission, written, each)), None):
        best = smaller
    found = difference(submission, written, best)
    assert found is not None
    return _numbered(best[: found[0] + 1])


def _numbered(steps: Sequence[Step]) -> list[Step]:
    """The same steps, with orders that count from 1."""
    numbers: dict[int, int] = {}
    return [step._replace(order=numbers.setdefault(step.order, len(numbers) + 1)) for step in steps]


def _smaller(steps: list[Step]) -> Iterator[list[Step]]:
    for place in reversed(range(len(steps))):
        yield steps[:place] + steps[place + 1 :]
    for place, step in enumerate(steps):
        if step.quantity > 1:
            yield [*steps[:place], step._replace(quantity=1), *steps[place + 1 :]]


def _told(submission: Submission, written: Callable[[], Any], steps: Sequence[Step], seed: int) -> Finding:
    found = difference(submission, written, steps)
    assert found is not None
    _, seen, right = found
    naive, story = NaiveSide(), []
    for number, step in enumerate(steps, 1):
        story.append(f"{number}. {step}: {_returned(step, naive.do(step).returned)}")
    last = steps[-1]
    story[-1] = f"{len(steps)}. {last}"
    story += [f"   yours:  {_shown(last, seen)}", f"   right:  {_shown(last, right)}"]
    what = "returns something else" if seen.returned != right.returned else "leaves another book"
    return Finding(failure=f"{last} {what} than the rules say", where=f"sequence {seed}, made shorter", story=story)


def _shown(step: Step, seen: Seen) -> str:
    return f"{_returned(step, seen.returned)}; then bids {seen.bids}, asks {seen.asks}"


def _returned(step: Step, value: Any) -> str:
    if not step.side:
        return "it rested, and is cancelled" if value else "no such order rests"
    fills = [f"{quantity} at {price} with order {order}" for order, price, quantity in value]
    return f"trades {', '.join(fills)}" if fills else "trades nothing"
