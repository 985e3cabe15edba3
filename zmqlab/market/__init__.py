"""The market: limit order books with price-time priority, as a deterministic state machine.

Rules of this layer: integers only, no clock, no chance, no I/O, and no iteration whose order depends on a hash. The
same commands give the same reports, the same books and the same state hash in every process.

The rules of a book:

* **Priority.** An incoming order trades with the best price first, and at one price with the order that came first.
  It trades at the resting order's price.
* **Order types.** A *limit* order trades up to its price. A *market* order trades at any price and never rests.
* **Time in force.** *GTC*: what is not filled rests. *IOC*: it is dropped. *FOK*: unless all can be filled at once,
  nothing trades and the order expires.
* **Post-only.** A limit order with this flag is rejected rather than trade on arrival.
* **Cancel.** Names the order, its symbol and its account; otherwise the order is unknown, whoever asks.
* **Replace.** The same price and a quantity that is not larger keep the order's place. Anything else loses it: the
  order leaves the book and arrives anew, so that it may trade, under its old id; with the post-only flag the replace
  is rejected rather than that.
* **Self-trade prevention, cancel newest.** An incoming order that would trade with a resting one of the same account
  stops there; what it has filled stands, the rest of it is dropped.
* **Rejections** change nothing, use up no order id, and carry a reason.

A command is a tuple of ten integers, in the order of the wire (:mod:`zmqlab.wire.records`); :class:`Command` makes
them for people. :class:`Exchange` is the fast implementation, :class:`NaiveExchange` the obvious one that it is held
against. Left out on purpose: fees, auctions, hidden and stop orders, tick-size tables.
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
    OrderType,
    Reason,
    Side,
    Status,
    TimeInForce,
    Trade,
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
    "NaiveExchange",
    "OrderType",
    "Reason",
    "Side",
    "Status",
    "TimeInForce",
    "Trade",
    "symbol_code",
    "symbol_name",
]
