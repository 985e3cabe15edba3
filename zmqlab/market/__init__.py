"""The market: limit order books with price-time priority, as a deterministic state machine.

Rules of this layer: integers only, no clock, no chance, no I/O, and no iteration whose order depends on a hash. The
same commands give the same reports, the same books and the same state hash in every process. It knows neither the wire
nor the log; bytes occur only in the canonical state.

The rules of a book:

* **Priority.** An incoming order trades with the best price first, and at one price with the oldest order. It trades at
  the resting order's price.
* **Order types.** A *limit* order trades up to its price. A *market* order trades at any price and never rests.
* **Time in force.** *GTC*: what can't be filled at once rests. *IOC*: it is dropped. *FOK*: unless all can be filled at
  once, nothing trades and the order expires.
* **Post-only.** A limit order with this flag is rejected if it would trade on arrival.
* **Cancel.** Names the order, its symbol and its account. If one of them is wrong, the order is unknown.
* **Replace.** The same price with a quantity that is not larger keeps the order's place. Any other change loses it: the
  order leaves the book and arrives again under its old id, so it may trade. With the post-only flag such a replace is
  rejected if the order would trade.
* **Self-trade prevention, cancel newest.** An incoming order that meets a resting order of the same account stops
  there. Its fills stand; the rest of it is dropped.
* **Rejections** change nothing, use up no order id, and carry a reason. A field that a kind of command does not use is
  0: a market order with a price, or a cancel with a quantity, is rejected.
* **Listing.** The first order that rests in a symbol lists it. A listed symbol without open orders is *idle*. When
  there are as many symbols as there may be, the one that has been idle longest is *delisted* to make room for another:
  its tape is forgotten. It may be listed again.
* **Quotas.** The open orders of the exchange, of an account and of a session are bounded, and so are the symbols that
  each holds (:class:`MarketLimits`). An order that would rest beyond a bound is rejected before it trades. Orders that
  can't rest are not bounded, and neither is a replace.

A command is a tuple of ten integers; :class:`Command` makes them for people. :class:`Exchange` is the fast
implementation, :class:`NaiveExchange` the obvious one that it is compared with. The third,
:class:`~zmqlab.market.compiled_exchange.CompiledExchange`, is written in C, optional, and faster by an order of
magnitude. It takes and gives packed records, and so it is the one place here that knows their layout. Left out on
purpose: fees, auctions, hidden and stop orders, tick-size tables.

Modules, in reading order:

* :mod:`~zmqlab.market.types`: codes, limits, the fields of each record, and the objects that people read
* :mod:`~zmqlab.market.naive`: the exchange in the obvious way; read it to learn the rules
* :mod:`~zmqlab.market.book`: the fast book: price levels with queues of orders
* :mod:`~zmqlab.market.canonical`: the state as bytes: snapshot and state hash
* :mod:`~zmqlab.market.market_state`: what the fast exchange consists of: listing, quotas, how it is frozen and restored
* :mod:`~zmqlab.market.exchange`: the fast exchange
* :mod:`~zmqlab.market.compiled_exchange`: the same in C, where it was built; ``_matching.c`` has the books
"""

from zmqlab.market.exchange import Exchange
from zmqlab.market.naive import NaiveExchange
from zmqlab.market.types import (
    POST_ONLY,
    Command,
    CommandKind,
    Depth,
    ExecutionReport,
    Fill,
    MarketLimits,
    OrderType,
    Reason,
    Report,
    Side,
    Status,
    TimeInForce,
    Trade,
    fills_in,
    reports_in,
    symbol_code,
    symbol_name,
)

__all__ = [
    "POST_ONLY",
    "Command",
    "CommandKind",
    "Depth",
    "Exchange",
    "ExecutionReport",
    "Fill",
    "MarketLimits",
    "NaiveExchange",
    "OrderType",
    "Reason",
    "Report",
    "Side",
    "Status",
    "TimeInForce",
    "Trade",
    "fills_in",
    "reports_in",
    "symbol_code",
    "symbol_name",
]
