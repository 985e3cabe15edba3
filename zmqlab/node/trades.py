"""Trades for the eyes: what the leader publishes of the fills that it has just applied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from zmqlab.market.types import Command, fills_in, reports_in, symbol_name
from zmqlab.raft.messages import Entry
from zmqlab.replica import Applied
from zmqlab.wire import client as client_wire
from zmqlab.wire.control import TradeEvent


def trades_of(entry: Entry, applied: Applied, most: int) -> Iterator[TradeEvent]:
    """The first ``most`` trades of one applied request, in the order in which they happened."""
    return islice(_all_trades(entry, applied), most)


def _all_trades(entry: Entry, applied: Applied) -> Iterator[TradeEvent]:
    fills = fills_in(applied.fills)
    commands = map(Command._make, client_wire.request_commands(entry.data))
    for command, report in zip(commands, reports_in(applied.reports), strict=True):
        for fill in islice(fills, report.fill_count):
            yield TradeEvent(
                symbol=symbol_name(command.symbol),
                price=fill.price,
                quantity=fill.quantity,
                log_index=entry.index,
                maker_order_id=fill.maker_order_id,
                taker_order_id=report.order_id,
            )
