"""One symbol's book and last trades, asked of the cluster four times a second while somebody looks.

Any node is asked, and from what it has applied, without a round through the leader: this is for the eyes, and must go
on while nobody leads. A thread of its own asks, since a node that hangs costs a time-out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from zmqlab.client import ask
from zmqlab.lab.cluster import Cluster
from zmqlab.wire import control

INTERVAL_S = 0.25
PATIENCE_S = 0.3
LEVELS = 12
TRADES_SHOWN = 60

Level = tuple[int, int, int]
"""Price in ticks, quantity, number of orders."""


@dataclass(frozen=True, slots=True)
class BookView:
    """What is shown of one symbol."""

    symbol: str
    bids: list[Level] = field(default_factory=list)
    """Best first, as the next."""
    asks: list[Level] = field(default_factory=list)
    trades: list[tuple[int, int]] = field(default_factory=list)
    """(price, quantity), oldest first."""


class BookWatch:
    """Keeps :attr:`view` up to date while ``wanted()``."""

    def __init__(self, cluster: Cluster, symbol: str, wanted: Callable[[], bool]) -> None:
        self.view = BookView(symbol)
        self.error: BaseException | None = None
        self._cluster = cluster
        self._wanted = wanted
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zmqlab-book", daemon=True)
        self._thread.start()

    def watch(self, symbol: str) -> None:
        """Look at another symbol from now on."""
        if symbol != self.view.symbol:
            self.view = BookView(symbol)

    def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(2)

    def _run(self) -> None:
        try:
            while not self._closing.wait(INTERVAL_S):
                if self._wanted():
                    self._look()
        except BaseException as error:
            self.error = error

    def _look(self) -> None:
        symbol = self.view.symbol
        for endpoint in self._cluster.living_endpoints:
            view = _ask(endpoint, symbol)
            if view is not None:
                if symbol == self.view.symbol:
                    self.view = view
                return


def _ask(endpoint: str, symbol: str) -> BookView | None:
    """What one node says, None if it doesn't answer; a symbol that no order has named yet is an empty book."""
    book_answer = ask.ask_all([endpoint], lambda _: _book_query(symbol), PATIENCE_S).get(endpoint)
    if book_answer is None:
        return None
    if not isinstance(book_answer, control.BookAnswer):
        return BookView(symbol)
    trades: list[tuple[int, int]] = []
    answer = ask.ask_all([endpoint], lambda _: _trades_query(symbol), PATIENCE_S).get(endpoint)
    if isinstance(answer, control.TradesAnswer):
        trades = [(price, quantity) for price, quantity, _, _ in answer.trades[-TRADES_SHOWN:]]
    return BookView(symbol, book_answer.bids, book_answer.asks, trades)


def _book_query(symbol: str) -> control.Query:
    return control.BookQuery(ask.new_nonce(), symbol, LEVELS, linearizable=False)


def _trades_query(symbol: str) -> control.Query:
    return control.TradesQuery(ask.new_nonce(), symbol, linearizable=False)
