"""The state of an exchange as bytes: the snapshot, and the input of the state hash.

The bytes are *canonical*: two exchanges in the same state give the same bytes, whatever their data structures are. So
one form serves as snapshot and as input of the hash. All integers are little-endian, and unsigned but for the price::

    offset  size  field
                  the state
    0       4     magic              b"ZLMS"
    4       4     version            2
    8       8     next_order_id
    16      4     held               how many symbols have open orders
    20      4     idle               how many are listed and have none
    24      4     orders             how many orders are open
    28            the held symbols by rising code, the idle ones (the one that has been idle longest first), the orders
                  by their arrival

                  each symbol
    0       8     code
    8       8     session            who holds it; 0 of an idle one
    16      4     account
    20      4     trades             how many trades follow, oldest first

                  each trade
    0       4     price
    4       4     quantity
    8       8     maker_order_id
    16      8     taker_order_id

                  each order
    0       8     order_id
    8       8     session
    16      8     symbol
    24      4     price              signed: that of a bid is negated
    28      4     leaves_quantity
    32      4     account

The *arrival* of an order is the moment at which it came to rest in its place. A replace that loses the place is a new
arrival; a partial fill and a replace in place are none. So the orders of one price stand in their order of time, and
putting all orders into empty books, one after the other, gives the state back. The order of arrival over all symbols is
a part of the state, too: all exchanges that executed the same commands share it.

Records have one width and need nothing of what follows them. So the bytes can be made and read in pieces, and no turn
of a node's loop is held up by a large state: :meth:`~zmqlab.market.market_state.MarketState.freeze` makes *slices*, and
:class:`Pieces` is what a reader takes its records from.

Left out on purpose: the limits, because they are part of the rules; dead orders and spare levels, because they are no
state.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from hashlib import blake2b
from typing import Any

from zmqlab.errors import StateInvalid

MAGIC = b"ZLMS"
VERSION = 2
STATE_HASH_BYTES = 16
SLICE_ROWS = 2_048
"""Orders, or trades, that one slice encodes: 0.5 ms of work."""

HEADER = struct.Struct("<4sIQIII")  # magic version next_order_id held idle orders
SYMBOL = struct.Struct("<QQII")  # code session account trades
TRADE = struct.Struct("<IIQQ")  # price quantity maker_order_id taker_order_id
ORDER = struct.Struct("<QQQiII")  # order_id session symbol price(negated: bid) leaves_quantity account


def pack_symbol(code: int, session: int, account: int, tape: Iterable[tuple[int, int, int, int]]) -> bytes:
    """The record of a symbol and the records of its trades."""
    trades = [TRADE.pack(*trade) for trade in tape]
    return SYMBOL.pack(code, session, account, len(trades)) + b"".join(trades)


def hash_slices(slices: Iterable[bytes]) -> bytes:
    """The state hash of canonical bytes that come in slices."""
    digest = blake2b(digest_size=STATE_HASH_BYTES)
    for piece in slices:
        digest.update(piece)
    return digest.digest()


class Pieces:
    """Bytes that arrive in pieces, read as records. A reader is a generator that yields where it needs more."""

    def __init__(self) -> None:
        self._data = b""
        self._offset = 0

    @property
    def size(self) -> int:
        """How many bytes are there and not taken."""
        return len(self._data) - self._offset

    def feed(self, piece: bytes) -> None:
        """More bytes."""
        self._data = self._data[self._offset :] + piece
        self._offset = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, which must be there."""
        assert size <= self.size
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def one(self, record: struct.Struct) -> Generator[None, None, tuple[Any, ...]]:
        """One record; yields until it is there."""
        while self.size < record.size:
            yield
        return record.unpack(self.take(record.size))

    def rows(self, record: struct.Struct, at_most: int) -> tuple[int, Iterator[tuple[Any, ...]]]:
        """Those records that are there, up to ``at_most``, and their number."""
        count = min(at_most, self.size // record.size)
        return count, record.iter_unpack(self.take(count * record.size))


class CanonicalState(ABC):
    """A state with canonical bytes: what follows from :meth:`freeze` and :meth:`restoring`, in every data structure."""

    limits: Any
    """What the constructor takes."""

    @abstractmethod
    def freeze(self, rows: int = SLICE_ROWS) -> Iterator[bytes]:
        """The canonical bytes of the state as it is now, in slices of about ``rows`` orders or trades.

        Commands may go on while the slices are made. Who does not want more of them drops the iterator.
        """

    @abstractmethod
    def restoring(self, pieces: Pieces) -> Iterator[None]:
        """Fill this state, which must be new, from ``pieces``. Yields where more bytes are needed.

        Raises:
            StateInvalid: the bytes are no state. This object is of no more use.
        """

    @abstractmethod
    def swap(self, other: Any, /) -> None:
        """Exchange the states of two objects of one class."""

    @abstractmethod
    def dismantle(self) -> Iterator[None]:
        """Free this state, which is of no more use, in steps."""

    def snapshot(self) -> bytes:
        """The whole state as canonical bytes."""
        return b"".join(self.freeze())

    def state_hash(self) -> bytes:
        """16 bytes that are equal for equal states, in every implementation."""
        return hash_slices(self.freeze())

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by that of a snapshot. The limits stay.

        Raises:
            StateInvalid: the bytes are no snapshot. The state is as it was.
        """
        pieces, other = Pieces(), type(self)(self.limits)  # type: ignore[call-arg]  # each has this constructor
        pieces.feed(snapshot)
        for _ in other.restoring(pieces):
            raise StateInvalid(f"a state of the market is cut short, after {len(snapshot)} bytes")
        if pieces.size:
            raise StateInvalid(f"a state of the market ends {pieces.size} bytes before its last one")
        self.swap(other)
        for _ in other.dismantle():
            pass


def expect_header(magic: bytes, version: int) -> None:
    """Raise StateInvalid unless a state begins like this."""
    if magic != MAGIC or version != VERSION:
        raise StateInvalid(
            f"a state of the market begins with {magic!r}, version {version}; this zmqlab reads {MAGIC!r}, "
            f"version {VERSION}"
        )
