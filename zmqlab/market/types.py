"""The vocabulary of the market: codes, limits, the fields of each record, and the objects that people read.

Everything is an integer. A price is a number of ticks. A symbol is its *symbol code*: its up to eight characters as one
little-endian integer. Only the average price, which is for people, is a float.

*Codes* are part of the wire format and of stored logs: a number, once given, keeps its meaning.

*Records.* :class:`Command`, :class:`Report` and :class:`Fill` are the only definition of what travels and is stored:
the names of the fields, their order and their widths. The wire, the load client, the tests and the tools derive their
layouts from :func:`record_fields`. On the way of an order a record is a plain tuple, or a run of integers in a flat
list, in the order of these fields; :func:`reports_in` and :func:`fills_in` give the integers their names back.

A new order type is a code in :class:`OrderType`, a field of :class:`Command` if it needs one, and a rule in
:mod:`~zmqlab.market.exchange` and :mod:`~zmqlab.market.naive`.

Left out: bytes. :mod:`zmqlab.wire.records` packs records, and :mod:`~zmqlab.market.canonical` packs the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from html import escape
from typing import Annotated, NamedTuple, TypeAlias, get_type_hints

U8: TypeAlias = Annotated[int, "B"]
U16: TypeAlias = Annotated[int, "H"]
U32: TypeAlias = Annotated[int, "I"]
U64: TypeAlias = Annotated[int, "Q"]
I64: TypeAlias = Annotated[int, "q"]
"""The widths of fields, each with its code in a ``struct`` format."""

MAX_PRICE = 2_000_000_000
"""In ticks. MAX_PRICE * MAX_QUANTITY is 4e18 and fits a signed 64-bit notional."""
MAX_QUANTITY = 2_000_000_000
"""Fits an unsigned 32-bit field, with room to notice an overflow."""
SYMBOL_BYTES = 8
SYMBOL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
TAPE_LENGTH = 64
"""How many trades of a symbol the state keeps: enough to show, cheap to copy into a snapshot."""
POST_ONLY = 1
"""Command flag: reject the order if it would take liquidity."""


class CommandKind(IntEnum):
    """What a command does."""

    NEW = 1
    """A new order."""
    CANCEL = 2
    """Take a resting order out of the book."""
    REPLACE = 3
    """Change quantity and price of a resting order."""


class Side(IntEnum):
    """Which side of the book an order belongs to."""

    BUY = 1
    """A bid: the higher price is the better one."""
    SELL = 2
    """An ask (offer): the lower price is the better one."""


class OrderType(IntEnum):
    """Whether an order has a worst price."""

    LIMIT = 1
    """It trades at its price or a better one."""
    MARKET = 2
    """It trades at any price, and never rests."""


class TimeInForce(IntEnum):
    """What happens to quantity that can't be filled at once."""

    GTC = 1
    """Good till cancelled: it rests in the book."""
    IOC = 2
    """Immediate or cancel: what can't be filled at once is dropped."""
    FOK = 3
    """Fill or kill: if not all of it can be filled at once, nothing is filled."""


class Status(IntEnum):
    """What became of a command."""

    NEW = 1
    """The order rests; nothing was filled."""
    PARTIALLY_FILLED = 2
    """Some was filled, the rest rests."""
    FILLED = 3
    """All of it was filled at once."""
    CANCELED = 4
    """The order has left the book."""
    REPLACED = 5
    """The order was changed. It may have traded as well: see ``filled_quantity``. What rests is ``leaves_quantity``."""
    REJECTED = 6
    """The command changed nothing, and no order id was used up."""
    EXPIRED = 7
    """The remainder was dropped. ``filled_quantity`` says how much was filled before."""


class Reason(IntEnum):
    """Why a command was rejected or its remainder dropped."""

    NONE = 0
    """The command was neither rejected nor cut short."""
    UNKNOWN_ORDER = 1
    """No open order has this id, symbol and account. An order of another account is unknown too."""
    BAD_QUANTITY = 2
    """It is not 1 to 2,000,000,000."""
    BAD_PRICE = 3
    """It is not 1 to 2,000,000,000 ticks."""
    BAD_SYMBOL = 4
    """It is not 1 to 8 characters of ``A-Z 0-9 . _ -``, padded with zeros."""
    BAD_SIDE = 5
    """It is neither buy nor sell."""
    BAD_TYPE = 6
    """Order type, time in force or flags are unknown, or don't go together."""
    WOULD_CROSS = 7
    """A post-only order would have taken liquidity."""
    WOULD_NOT_FILL = 8
    """A fill-or-kill order could not have been filled completely."""
    NO_LIQUIDITY = 9
    """The other side had no (more) orders at an acceptable price."""
    SELF_TRADE = 10
    """The next order to trade with belongs to the same account."""
    TOO_MANY_ORDERS = 11
    """The exchange holds as many open orders as it may."""
    TOO_MANY_SYMBOLS = 12
    """All symbols that the exchange may list have open orders."""
    UNKNOWN_COMMAND = 13
    """It is neither a new order nor a cancel nor a replace."""
    TOO_MANY_ACCOUNT_ORDERS = 14
    """The account has as many open orders as one may have."""
    TOO_MANY_SESSION_ORDERS = 15
    """The session has as many open orders as one may have."""
    TOO_MANY_ACCOUNT_SYMBOLS = 16
    """The account holds as many symbols as one may hold; see :class:`MarketLimits`."""
    TOO_MANY_SESSION_SYMBOLS = 17
    """The session holds as many symbols as one may hold."""
    UNUSED_FIELD = 18
    """A field that this kind of command does not use is not 0: its sender takes it for something that it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketLimits:
    """How much an exchange holds. The limits are part of the rules: all nodes need the same.

    A symbol is *held* by the account and the session whose order came first to its empty book, until the book is empty
    again. A quarter of the whole is enough for any load that this project makes, and three more participants find room
    beside the largest one.
    """

    open_orders: int = 1_000_000
    account_orders: int = 250_000
    session_orders: int = 250_000
    symbols: int = 4_096
    """With open orders, or idle (:mod:`zmqlab.market`)."""
    account_symbols: int = 1_024
    session_symbols: int = 1_024


def symbol_code(name: str) -> int:
    """The integer that stands for the symbol ``name`` on the wire and in the exchange.

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
    """One command: the ten integers that travel, that the log stores and that the exchange executes.

    Use the class methods to build one, for example ``Command.limit(Side.BUY, "ACME", 100, 2_500)``.
    """

    kind: U8
    """A :class:`CommandKind`."""
    side: U8 = 0
    """A :class:`Side`, of a new order."""
    order_type: U8 = 0
    """An :class:`OrderType`, of a new order."""
    time_in_force: U8 = 0
    """A :class:`TimeInForce`, of a new order."""
    quantity: U32 = 0
    order_id: U64 = 0
    """The order to cancel or to replace; 0 of a new order."""
    symbol: U64 = 0
    """A symbol code."""
    price: I64 = 0
    """In ticks; 0 of a market order."""
    account: U32 = 0
    flags: U32 = 0
    """POST_ONLY, or 0."""

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
        """A new limit order: ``quantity`` at ``price`` ticks or better.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
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
        """A new market order: ``quantity`` at any price. What can't be filled is dropped.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        code = symbol_code(symbol)
        return cls(CommandKind.NEW, side, OrderType.MARKET, time_in_force, quantity, 0, code, 0, account, 0)

    @classmethod
    def cancel(cls, order_id: int, symbol: str, *, account: int = 0) -> Command:
        """Take a resting order out of the book.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
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
        """Change leaves quantity and price of a resting order. Less quantity at the same price keeps its place.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        return cls(
            CommandKind.REPLACE,
            quantity=quantity,
            order_id=order_id,
            symbol=symbol_code(symbol),
            price=price,
            account=account,
            flags=POST_ONLY if post_only else 0,
        )


class Report(NamedTuple):
    """What became of one command, as it travels. :class:`ExecutionReport` is the same for people."""

    status: U8
    """A :class:`Status`."""
    reason: U8
    """A :class:`Reason`."""
    reserved: U16
    """Always 0."""
    fill_count: U32
    """How many of the fills after the reports belong to this one."""
    filled_quantity: U32
    """What this command filled."""
    leaves_quantity: U32
    """What rests in the book afterwards."""
    order_id: U64
    """The new order's id, or the id in the command; 0 for a rejected new order."""
    notional: I64
    """Sum of price * quantity over the fills."""


class Fill(NamedTuple):
    """One trade of a command with one resting order, as the command sees it."""

    maker_order_id: U64
    """The resting order."""
    price: I64
    quantity: U32
    maker_leaves_quantity: U32
    """What is left of the resting order; at 0 it leaves the book."""


REPORT_WIDTH = len(Report._fields)
"""Integers of one report in a flat list."""
REPORT_STATUS = Report._fields.index("status")
"""The position of the status in a report."""
REPORT_FILL_COUNT = Report._fields.index("fill_count")
"""The position of the number of fills in a report."""
FILL_WIDTH = len(Fill._fields)
"""Integers of one fill in a flat list."""


def record_fields(record: type[tuple[int, ...]]) -> tuple[tuple[str, str], ...]:
    """``(name, struct code)`` of each field of :class:`Command`, :class:`Report` or :class:`Fill`, in order."""
    hints = get_type_hints(record, include_extras=True)
    return tuple((name, hint.__metadata__[0]) for name, hint in hints.items())


def reports_in(flat: Iterable[int]) -> Iterator[Report]:
    """The reports of a flat list, as :meth:`~zmqlab.market.exchange.Exchange.execute` returns it."""
    return map(Report._make, zip(*[iter(flat)] * REPORT_WIDTH, strict=True))


def fills_in(flat: Iterable[int]) -> Iterator[Fill]:
    """The fills of a flat list, as :meth:`~zmqlab.market.exchange.Exchange.execute` returns it."""
    return map(Fill._make, zip(*[iter(flat)] * FILL_WIDTH, strict=True))


class Trade(NamedTuple):
    """One trade on a symbol's tape."""

    price: int
    quantity: int
    maker_order_id: int
    taker_order_id: int


@dataclass(frozen=True, slots=True, repr=False)
class ExecutionReport:
    """What became of one command, for people; it shows itself as a table in a notebook."""

    status: Status
    reason: Reason = Reason.NONE
    order_id: int = 0
    """The new order's id, or the id in the command; 0 for a rejected new order."""
    filled_quantity: int = 0
    """What this command filled. Earlier fills of the same order are not in it."""
    leaves_quantity: int = 0
    """What rests in the book afterwards."""
    notional: int = 0
    """Sum of price * quantity over ``fills``."""
    fills: tuple[Fill, ...] = ()
    log_index: int = 0
    """The index of the command in the replicated log; 0 if it came from no log."""

    @property
    def average_price(self) -> float | None:
        """The price in ticks, weighted by quantity; None if nothing was filled."""
        return self.notional / self.filled_quantity if self.filled_quantity else None

    def _facts(self) -> list[tuple[str, str]]:
        """(name, value) of the fields that say something."""
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
        """Best ask minus best bid, in ticks; None if a side is empty."""
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
        spread = "" if self.spread is None else f" (spread {self.spread})"
        return "\n".join([f"{self.symbol}{spread}", title, *(lines or ["(empty)"])])

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align:right'>{c}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row("td", cells) for cells in self._rows())
        head = row("th", ("orders", "bid", "price", "ask", "orders"))
        return f"<table><caption><b>{escape(self.symbol)}</b></caption>{head}{body}</table>"
