"""``docs/matching.md`` says what both exchanges do: its examples, its tables, its lists of reasons, its limits."""

from __future__ import annotations

import doctest
import itertools
import random
import re
from pathlib import Path

import pytest

from tests.market.exchanges import ALL
from zmqlab.market import (
    POST_ONLY,
    Command,
    CommandKind,
    Exchange,
    MarketLimits,
    NaiveExchange,
    OrderType,
    Reason,
    Side,
    Status,
    TimeInForce,
    reports_in,
    symbol_code,
)
from zmqlab.market.types import MAX_PRICE, MAX_QUANTITY, TAPE_LENGTH, Report
from zmqlab.settings import SessionLimits

PAGE = (Path(__file__).parents[2] / "docs" / "matching.md").read_text()
ACME = symbol_code("ACME")
ACCOUNTS, PRICES = (1, 2, 3), (100, 101, 102)
ROOMS = ("symbols", "account_symbols", "session_symbols", "open_orders", "account_orders", "session_orders")
"""The limits, in the order in which they are looked at."""


def execute(exchange: Exchange | NaiveExchange, command: Command) -> Report:
    (report,) = reports_in(exchange.execute([command])[0])
    return report


def cells(text: str) -> list[list[str]]:
    """The rows of the only table in ``text``, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("exchange", [Exchange, NaiveExchange])
def test_the_example(exchange: type) -> None:
    text = PAGE.replace("Exchange", exchange.__name__)
    (failed, tried) = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(text, {}, "matching.md", None, 0))
    assert (failed, tried > 25) == (0, True)


@pytest.mark.parametrize("exchange", ALL)
def test_what_becomes_of_quantity_that_is_not_filled(exchange: type[Exchange]) -> None:
    for order_type, *said in cells(section("What an order says").partition("What becomes of")[2]):
        for time_in_force, text in zip(TimeInForce, said, strict=True):
            code = OrderType[order_type.upper()]
            price = 100 if code is OrderType.LIMIT else 0
            command = Command(CommandKind.NEW, Side.BUY, code, time_in_force, 5, symbol=ACME, price=price)
            report = execute(exchange(), command)
            if text == "rests at its price":
                assert (report.status, report.leaves_quantity) == (Status.NEW, 5)
            else:
                assert f": {Status(report.status).name}, {Reason(report.reason).name}" in text


def random_command(rng: random.Random, latest_id: int) -> Command:
    kind = rng.choice(list(CommandKind))
    account, quantity, price = rng.choice(ACCOUNTS), rng.randrange(0, 9), rng.choice(PRICES)
    flags = rng.choice((0, 0, POST_ONLY))
    order_id = max(1, latest_id - rng.randrange(9))
    if kind is CommandKind.CANCEL:
        return Command.cancel(order_id, "ACME", account=account)
    if kind is CommandKind.REPLACE:
        return Command.replace(order_id, "ACME", quantity, price, account=account, post_only=bool(flags))
    order_type, time_in_force = rng.choice(list(OrderType)), rng.choice(list(TimeInForce))
    price *= order_type is OrderType.LIMIT
    return Command(kind, rng.choice(list(Side)), order_type, time_in_force, quantity, 0, ACME, price, account, flags)


def row_of(command: Command) -> str:
    if command.kind != CommandKind.NEW:
        return CommandKind(command.kind).name.lower()
    rests = command.order_type == OrderType.LIMIT and command.time_in_force == TimeInForce.GTC
    return "new, GTC limit" if rests else "new, every other"


def test_how_each_command_can_end() -> None:
    """The table has all that happens in a random flow, and nothing else."""
    rng, exchange, latest_id = random.Random(11), NaiveExchange(), 0
    seen: set[tuple[str, str, str]] = set()
    for _ in range(6_000):
        command = random_command(rng, latest_id)
        report = execute(exchange, command)
        latest_id = max(latest_id, report.order_id)
        status = Status(report.status)
        seen.add((row_of(command), status.name, Reason(report.reason).name if status is Status.EXPIRED else ""))
    table = set()
    for command_name, said in cells(section("What comes back")):
        for status_name, reasons in re.findall(r"([A-Z_]+)(?: \(([^)]*)\))?", said):
            table |= {(command_name, status_name, reason) for reason in (reasons or "").split(", ")}
    assert seen == table


@pytest.mark.parametrize("exchange", ALL)
def test_which_reason_comes_first(exchange: type[Exchange]) -> None:
    """A new order that breaks every rule is mended one rule after the other; then the exchange has ever more room."""
    (lines,) = re.findall(r"((?:^\d\. .*\n(?:   .*\n)?)+)", section("What comes back"), re.M)
    listed = re.findall(r"[A-Z]+(?:_[A-Z]+)+", lines)
    wrong = Command(CommandKind.NEW, 9, 9, 9, 0, 7, 0, 0, 0, POST_ONLY)
    mended = [{"symbol": symbol_code("NEW")}, {"side": Side.BUY}]
    mended += [{"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}]
    mended += [{"quantity": 1}, {"price": 100}, {"order_id": 0}]
    tight = dict.fromkeys(ROOMS, 1)
    commands = itertools.accumulate(mended, lambda old, new: old._replace(**new), initial=wrong)
    steps = [(tight, command) for command in commands]
    new_symbol, crossing = steps[-1][1], Command.limit(Side.BUY, "ACME", 1, 100, post_only=True)
    steps += [({**tight, **dict.fromkeys(ROOMS[:count], 2)}, new_symbol) for count in range(1, len(ROOMS))]
    steps += [(steps[-1][0], crossing), (dict.fromkeys(ROOMS, 2), crossing)]
    found = [reason_after_an_order(exchange(MarketLimits(**limits)), command) for limits, command in steps]
    assert [reason for reason, _ in itertools.groupby(found)] == listed


def reason_after_an_order(exchange: Exchange | NaiveExchange, command: Command) -> str:
    execute(exchange, Command.limit(Side.SELL, "ACME", 1, 100))
    return Reason(execute(exchange, command).reason).name


@pytest.mark.parametrize("exchange", ALL)
def test_which_reason_of_a_replace_comes_first(exchange: type[Exchange]) -> None:
    (sentence,) = re.findall(r"The list of a replace is ([^.]*)\.", PAGE)
    book = exchange()
    execute(book, Command.limit(Side.SELL, "ACME", 1, 100))
    execute(book, Command.limit(Side.BUY, "ACME", 1, 90))
    steps = [
        Command(CommandKind.REPLACE, 1, order_id=9, symbol=ACME, flags=2),
        Command(CommandKind.REPLACE, 1, order_id=2, symbol=ACME, flags=2),
        Command(CommandKind.REPLACE, 1, order_id=2, symbol=ACME, flags=POST_ONLY),
        Command(CommandKind.REPLACE, 1, order_id=2, symbol=ACME, quantity=1, flags=POST_ONLY),
        Command(CommandKind.REPLACE, 1, order_id=2, symbol=ACME, quantity=1, price=100, flags=POST_ONLY),
        Command(CommandKind.REPLACE, order_id=2, symbol=ACME, quantity=1, price=100, flags=POST_ONLY),
    ]
    assert [Reason(execute(book, step).reason).name for step in steps] == re.findall(r"[A-Z_]{2,}", sentence)


def test_the_limits() -> None:
    limits = MarketLimits()
    bounds = [limits.open_orders, limits.account_orders, limits.session_orders]
    bounds += [limits.symbols, limits.account_symbols, limits.session_symbols]
    bounds += [TAPE_LENGTH, SessionLimits().answer_fills]
    assert [row[1] for row in cells(section("Limits"))] == [f"{bound:,}" for bound in bounds]
    assert f"| quantity | 1 to {MAX_QUANTITY:,} |" in PAGE
    assert f"1 to {MAX_PRICE:,} ticks" in PAGE
