"""Trades for the eyes: what the leader publishes of the fills that it has just applied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from zmqlab.market.types import symbol_name
from zmqlab.raft.messages import Entry
from zmqlab.replica import Applied
from zmqlab.wire import client as client_wire
from zmqlab.wire.control import TradeEvent
from zmqlab.wire.records import FILL_WIDTH, REPORT_WIDTH

_FILL_COUNT, _ORDER_ID = 3, 6  # positions in a report
_SYMBOL = 6  # position in a command


def trades_of(entry: Entry, applied: Applied, most: int) -> Iterator[TradeEvent]:
    """The first ``most`` trades of one applied request, in the order in which they happened."""
    return islice(_all_trades(entry, applied), most)


def _all_trades(entry: Entry, applied: Applied) -> Iterator[TradeEvent]:
    fills = zip(*[iter(applied.fills)] * FILL_WIDTH, strict=True)
    reports = zip(*[iter(applied.reports)] * REPORT_WIDTH, strict=True)
    for command, report in zip(client_wire.request_commands(entry.data), reports, strict=True):
        for maker_order_id, price, quantity, _ in islice(fills, report[_FILL_COUNT]):
            yield TradeEvent(
                symbol=symbol_name(command[_SYMBOL]),
                price=price,
                quantity=quantity,
                log_index=entry.index,
                maker_order_id=maker_order_id,
                taker_order_id=report[_ORDER_ID],
            )
