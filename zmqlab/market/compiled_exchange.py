"""The exchange in C, with the interface of :class:`~zmqlab.market.exchange.Exchange`.

``_matching.c`` beside this module holds the books and carries the rules out, from packed commands to packed reports and
fills; its head explains how. This module makes what people read of it, and checks the snapshots that it restores.

The extension is optional. Where it was not built, importing this module raises ImportError, and the Python exchange is
used (:mod:`zmqlab.replica.execution` decides). The same happens in a checkout whose ``_matching.c`` is not the one that
was built: an exchange of older rules would part from the other nodes.

Both exchanges are the same function of their commands: equal reports, fills, snapshots and state hashes, and equal
refusals of a snapshot. What differs is the room of integers. The Python exchange takes any; this one takes what fits
the fields of a record, which is all that travels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from zmqlab.errors import StateInvalid
from zmqlab.market import _matching
from zmqlab.market.canonical import HEADER, ORDER, SLICE_ROWS, SYMBOL, TRADE, CanonicalState, Pieces, expect_header
from zmqlab.market.market_state import FREED_AT_ONCE
from zmqlab.market.types import (
    TAPE_LENGTH,
    Command,
    Depth,
    Fill,
    MarketLimits,
    Report,
    Trade,
    record_fields,
    symbol_code,
    symbol_name,
)

_COMMAND, _REPORT, _FILL = (
    struct.Struct("<" + "".join(code for _, code in record_fields(record))) for record in (Command, Report, Fill)
)


def _expect_build_of(source: Path) -> None:
    """Raise ImportError if ``source`` is there and the extension was built from another text."""
    if source.exists() and blake2b(source.read_bytes(), digest_size=16).hexdigest() != _matching.SOURCE_DIGEST:
        raise ImportError(f"the compiled exchange was not built from {source}: install zmqlab again (pip install -e .)")


_expect_build_of(Path(__file__).with_name("_matching.c"))


class CompiledExchange(_matching.Core, CanonicalState):
    """All books of one Raft group, in C."""

    name = "compiled"

    def __init__(self, limits: MarketLimits | None = None) -> None:
        self.limits = limits = limits or MarketLimits()
        orders = limits.open_orders, limits.account_orders, limits.session_orders
        super().__init__(*orders, limits.symbols, limits.account_symbols, limits.session_symbols)

    def execute(self, commands: Iterable[tuple[int, ...]], session: int = 0) -> tuple[list[int], list[int]]:
        """See :meth:`zmqlab.market.exchange.Exchange.execute`.

        Raises:
            struct.error: an integer does not fit its field.
        """
        packed = b"".join([_COMMAND.pack(*command) for command in commands])
        reports, fills, _ = self.execute_packed(packed, 0, session)
        rows = _REPORT.iter_unpack(reports), _FILL.iter_unpack(fills)
        return list(chain.from_iterable(rows[0])), list(chain.from_iterable(rows[1]))

    @property
    def symbols(self) -> list[str]:
        """The names of all listed symbols, sorted by code."""
        return [symbol_name(code) for code in sorted(self.codes())]

    def depth(self, symbol: str, levels: int = 10) -> Depth:
        """The best ``levels`` levels of ``symbol``; empty for a symbol that is not listed.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        return Depth(symbol, *self.levels(symbol_code(symbol), levels))

    def trades(self, symbol: str) -> list[Trade]:
        """The last trades of ``symbol``, oldest first; none of a symbol that is not listed.

        Raises:
            ValueError: ``symbol`` can't be the name of a symbol.
        """
        return list(map(Trade._make, TRADE.iter_unpack(self.tape(symbol_code(symbol)))))

    def freeze(self, rows: int = SLICE_ROWS) -> Iterator[bytes]:
        """The canonical bytes of the state as it is now, in the slices of the Python exchange.

        Commands may go on while the slices are made. Who does not want more of them drops the iterator.
        """
        return super().freeze(rows)

    def restoring(self, pieces: Pieces) -> Iterator[None]:
        """Fill this state, which must be new, from ``pieces``. Yields where more bytes are needed.

        Raises:
            StateInvalid: the bytes are no state. This object is of no more use.
        """
        magic, version, next_order_id, held, idle, orders = yield from pieces.one(HEADER)
        expect_header(magic, version)
        if held + idle > self.limits.symbols or orders > self.limits.open_orders:
            raise StateInvalid(f"a state of {held + idle} symbols and {orders} orders is beyond the market's limits")
        self.restore_header(next_order_id)
        for number in range(held + idle):
            code, session, account, trades = yield from pieces.one(SYMBOL)
            try:
                self.restore_symbol(code, session, account, number >= held)
            except ValueError as error:
                raise StateInvalid(str(error)) from None
            if trades > TAPE_LENGTH:
                raise StateInvalid(f"a state of the market has {trades} trades of one symbol, more than a tape holds")
            while pieces.size < trades * TRADE.size:
                yield
            self.restore_tape(code, pieces.take(trades * TRADE.size))
        while orders:
            count = min(orders, pieces.size // ORDER.size)
            try:
                self.restore_orders(pieces.take(count * ORDER.size))
            except ValueError as error:
                raise StateInvalid(str(error)) from None
            orders -= count
            if orders:
                yield
        if not self.is_sound():
            raise StateInvalid("a state of the market has an empty or a crossed book")

    def dismantle(self) -> Iterator[None]:
        """Free this state, which is of no more use, in steps."""
        while self.free_some(FREED_AT_ONCE):
            yield
