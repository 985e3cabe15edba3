"""The vocabulary of the market: enumerations, limits, and what people read.

Rules. Nothing here is on an order's way: inside the engine and on the wire a command is a tuple of ten plain
integers and a report is eight of them, in the order of :class:`Command` and :class:`ExecutionReport`. The
classes of this module are for building the former and showing the latter. Everything is an integer: prices
are ticks, a symbol is its *symbol code* (its up to eight characters as one little-endian integer), an average
price is computed only for people.

Codes are part of the wire format and of stored logs: a number, once given, keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from html import escape
from typing import NamedTuple

MAX_PRICE = 2_000_000_000
"""Ticks. MAX_PRICE * MAX_QUANTITY is 4e18 and fits a signed 64-bit notional."""
MAX_QUANTITY = 2_000_000_000
"""Fits an unsigned 32-bit field, with room to see an overflow."""
SYMBOL_BYTES = 8
SYMBOL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
TAPE_LENGTH = 64
"""Trades of a symbol that are kept, as part of the state: enough to show, cheap to copy in a snapshot."""
POST_ONLY = 1
"""Command flag: reject the order rather than let it take liquidity."""


class CommandKind(IntEnum):
    """What a command asks for."""

    NEW = 1
    CANCEL = 2
    REPLACE = 3


class Side(IntEnum):
    """Which side of the book an order belongs to."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """Whether an order has a worst price."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    """What happens to the quantity that can't be filled at once."""

    GTC = 1
    """Good till cancelled: it rests in the book."""
    IOC = 2
    """Immediate or cancel: it is dropped."""
    FOK = 3
    """Fill or kill: unless all can be filled at once, nothing is."""


class Status(IntEnum):
    """What became of a command."""

    NEW = 1
    """The order rests; nothing was filled."""
    PARTIALLY_FILLED = 2
    """Some was filled, the rest rests."""
    FILLED = 3
    CANCELED = 4
    REPLACED = 5
    """The replace was done. It may have filled too: see ``filled_quantity`` and ``leaves_quantity``."""
    REJECTED = 6
    """The command changed nothing; no order id was used up."""
    EXPIRED = 7
    """The remainder was dropped; ``filled_quantity`` tells how much had been done before."""


class Reason(IntEnum):
    """Why a command was rejected or its remainder dropped."""

    NONE = 0
    UNKNOWN_ORDER = 1
    """No open order has this id, symbol and account; whose order it is, is not told."""
    BAD_QUANTITY = 2
    BAD_PRICE = 3
    BAD_SYMBOL = 4
    BAD_SIDE = 5
    BAD_TYPE = 6
    """Order type, time in force or flags are unknown or don't go together."""
    WOULD_CROSS = 7
    """A post-only order would have taken liquidity."""
    WOULD_NOT_FILL = 8
    """A fill-or-kill order could not have been filled completely."""
    NO_LIQUIDITY = 9
    """The other side had nothing (more) at an acceptable price."""
    SELF_TRADE = 10
    """The next order to trade with belongs to the same account."""
    TOO_MANY_ORDERS = 11
    TOO_MANY_SYMBOLS = 12
    UNKNOWN_COMMAND = 13


def symbol_code(name: str) -> int:
    """The integer that stands for the symbol ``name`` on the wire and in the engine.

    Raises:
        ValueError: ``name`` is not 1 to 8 characters of ``A-Z 0-9 . _ -``.
    """
    if not 1 <= len(name) <= SYMBOL_BYTES or not SYMBOL_CHARACTERS.issuperset(name):
        raise ValueError(f"a symbol is 1 to {SYMBOL_BYTES} characters of A-Z 0-9 . _ -, not {name!r}")
    return int.from_bytes(name.encode().ljust(SYMBOL_BYTES, b"\0"), "little")


def symbol_name(code: int) -> str:
    """The name of the symbol whose code is ``code``; the inverse of :func:`symbol_code`.

    Raises:
        ValueError: no valid name has this code.
    """
    if not 0 < code < 1 << 8 * SYMBOL_BYTES:
        raise ValueError(f"{code} is not the code of a symbol")
    name = code.to_bytes(SYMBOL_BYTES, "little").rstrip(b"\0").decode("latin-1")
    if not SYMBOL_CHARACTERS.issuperset(name):
        raise ValueError(f"{code} is not the code of a symbol")
    return name


class Command(NamedTuple):
    """One command; as a tuple exactly the ten integers that travel and that the exchange executes.

    Use the class methods to build one, for example ``Command.limit(Side.BUY, "ACME", 100, 2_500)``.
    """

    kind: int
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    quantity: int = 0
    order_id: int = 0
    symbol: int = 0
    price: int = 0
    account: int = 0
    flags: int = 0

    @classmethod
    def limit(
        cls,
        side: Side,
        symbol: str,
        quantity: int,
        price: int,
        *,
        account: int = 0,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
    ) -> Command:
        """A new limit order: ``quantity`` at ``price`` ticks or better."""
        flags = POST_ONLY if post_only else 0
        code = symbol_code(symbol)
        return cls(CommandKind.NEW, side, OrderType.LIMIT, time_in_force, quantity, 0, code, price, account, flags)

    @classmethod
    def market(
        cls,
        side: Side,
        symbol: str,
        quantity: int,
        *,
        account: int = 0,
        time_in_force: TimeInForce = TimeInForce.IOC,
    ) -> Command:
        """A new market order: ``quantity`` at whatever price there is; the rest is dropped."""
        code = symbol_code(symbol)
        return cls(CommandKind.NEW, side, OrderType.MARKET, time_in_force, quantity, 0, code, 0, account, 0)

    @classmethod
    def cancel(cls, order_id: int, symbol: str, *, account: int = 0) -> Command:
        """Take a resting order out of the book."""
        return cls(CommandKind.CANCEL, order_id=order_id, symbol=symbol_code(symbol), account=account)

    @classmethod
    def replace(
        cls,
        order_id: int,
        symbol: str,
        quantity: int,
        price: int,
        *,
        account: int = 0,
        post_only: bool = False,
    ) -> Command:
        """Change a resting order's leaves quantity and price; less at the same price keeps its place."""
        return cls(
            CommandKind.REPLACE,
            quantity=quantity,
            order_id=order_id,
            symbol=symbol_code(symbol),
            price=price,
            account=account,
            flags=POST_ONLY if post_only else 0,
        )


class Fill(NamedTuple):
    """One trade of a command with one resting order, seen from the command."""

    maker_order_id: int
    price: int
    quantity: int
    maker_leaves_quantity: int
    """0: the resting order is done and gone."""


class Trade(NamedTuple):
    """One trade on a symbol's tape."""

    price: int
    quantity: int
    maker_order_id: int
    taker_order_id: int


@dataclass(frozen=True, slots=True, repr=False)
class ExecutionReport:
    """What became of one command."""

    status: Status
    reason: Reason = Reason.NONE
    order_id: int = 0
    """The new order's id, or the one that the command named; 0 for a rejected new order."""
    filled_quantity: int = 0
    """What this command filled, not what the order filled in its life."""
    leaves_quantity: int = 0
    """What rests in the book afterwards."""
    notional: int = 0
    """Sum of price * quantity over ``fills``."""
    fills: tuple[Fill, ...] = ()
    log_index: int = 0
    """Where in the replicated log the command stands; 0: it came from no log."""

    @property
    def average_price(self) -> float | None:
        """Ticks, weighted by quantity; None if nothing was filled."""
        return self.notional / self.filled_quantity if self.filled_quantity else None

    def _facts(self) -> list[tuple[str, str]]:
        """What there is to say, as (name, value); facts that say nothing are left out."""
        facts = [("order_id", str(self.order_id))] if self.order_id else []
        if self.reason:
            facts.append(("reason", self.reason.name))
        if self.filled_quantity:
            facts.append(("filled_quantity", f"{self.filled_quantity:,}"))
            facts.append(("average_price", f"{self.average_price:,.2f}"))
        if self.leaves_quantity:
            facts.append(("leaves_quantity", f"{self.leaves_quantity:,}"))
        if self.log_index:
            facts.append(("log_index", str(self.log_index)))
        return facts

    def __repr__(self) -> str:
        facts = "".join(f", {name}={value}" for name, value in self._facts())
        return f"<ExecutionReport {self.status.name}{facts}>"

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th>{name}</th><td style='text-align:right'>{escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        fills = "".join(
            f"<tr><td colspan='2'>{quantity:,} at {price:,} from order {maker}</td></tr>"
            for maker, price, quantity, _ in self.fills[:20]
        )
        return f"<table><caption><b>{self.status.name}</b></caption>{facts}{fills}</table>"


class Level(NamedTuple):
    """One price of a :class:`Depth`."""

    price: int
    quantity: int
    orders: int


@dataclass(frozen=True, slots=True, repr=False)
class Depth:
    """The best levels of one symbol's book, best first on both sides."""

    symbol: str
    bids: Sequence[tuple[int, int, int]]
    """(price, quantity, orders), prices falling."""
    asks: Sequence[tuple[int, int, int]]
    """(price, quantity, orders), prices rising."""

    @property
    def spread(self) -> int | None:
        """Best ask less best bid, in ticks; None if a side is empty."""
        return self.asks[0][0] - self.bids[0][0] if self.bids and self.asks else None

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        """The ladder from the highest ask to the lowest bid: orders, bid, price, ask, orders."""
        asks = [("", "", f"{p:,}", f"{q:,}", str(n)) for p, q, n in reversed(self.asks)]
        bids = [(str(n), f"{q:,}", f"{p:,}", "", "") for p, q, n in self.bids]
        return asks + bids

    def __repr__(self) -> str:
        head = ("orders", "bid", "price", "ask", "orders")
        rows = self._rows()
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        title = "  ".join(cell.rjust(width) for cell, width in zip(head, widths, strict=True))
        return "\n".join([f"{self.symbol} (spread {self.spread})", title, *(lines or ["(empty)"])])

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align:right'>{c}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row("td", cells) for cells in self._rows())
        head = row("th", ("orders", "bid", "price", "ask", "orders"))
        return f"<table><caption><b>{escape(self.symbol)}</b></caption>{head}{body}</table>"
