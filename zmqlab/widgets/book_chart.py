"""One symbol's order book as it stands: resting quantity by price, and beside it the prices of the last trades.

Both share the price axis. Asks are above, bids below; the gap between them is the spread. Trades run from left to
right, the newest at the right, sized by their quantity.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bokeh.models import ColumnDataSource, HBar, HoverTool, NumeralTickFormatter, Range1d, Scatter, UIElement
from bokeh.plotting import figure

from zmqlab.cluster import queries
from zmqlab.cluster.cluster import Cluster
from zmqlab.widgets.live_figure import Frame
from zmqlab.widgets.palette import ASK_COLOUR, BID_COLOUR
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.scene import HEIGHT_PX, Scene, dress, steady_top
from zmqlab.wire import control

TRADE_PX = (4.0, 12.0)
"""Diameters of the smallest and of the largest trade."""
QUANTITY = ("quantity", "@quantity{0,0}")
EMPTY = 100.0
"""Where the axes end while there is nothing to show: ticks at whole numbers."""
LEAST_TICKS = 6.0
"""The price axis spans at least so many to either side."""


class Book:
    """Shows what ``view()`` gives; someone else keeps that up to date."""

    name = "book"

    def __init__(self, view: Callable[[], BookView]) -> None:
        self._view = view
        self._top = 0.0

    def draw(self, scene: Scene) -> list[UIElement]:
        prices = Range1d(start=0, end=EMPTY, name="book_y")
        self._depth_range = Range1d(start=0, end=EMPTY, name="book_depth")
        depth = _figure("book", "Order book", prices, self._depth_range, "resting quantity")
        depth.yaxis.axis_label = "price, ticks"
        empty: dict[str, Any] = {name: [] for name in ("price", "quantity", "orders")}
        items = []
        for side, colour in (("bids", BID_COLOUR), ("asks", ASK_COLOUR)):
            source = ColumnDataSource(data=dict(empty), name=side)
            bar = HBar(y="price", right="quantity", left=0, height=0.8, fill_color=colour, line_color=None)
            renderer = depth.add_glyph(source, bar)
            still = HBar(y="y", right="x", left=0, height=0.8, fill_color=colour, line_color=None)
            items.append(scene.key(depth, side, still))
            tooltips = [
                (side.removesuffix("s"), "@price{0,0}"),
                ("quantity", "@quantity{0,0}"),
                ("orders", "@orders{0,0}"),
            ]
            depth.add_tools(HoverTool(renderers=[renderer], tooltips=tooltips))
        scene.legend(depth, items)
        scene.empty_note(depth, "No orders rest: start the load, or client.buy(...).")

        trades = _figure(
            "trades", "Last trades", prices, Range1d(start=-TRADES_SHOWN, end=1), "trades, the newest at the right"
        )
        trades.min_border_left = 12
        trades.yaxis.visible = False
        columns: dict[str, Any] = {name: [] for name in ("ago", "price", "quantity", "size")}
        tape = ColumnDataSource(data=columns, name="tape")
        trades.step("ago", "price", source=tape, line_color="#8c8c8c", line_width=1.0, mode="after")
        dots = trades.scatter("ago", "price", size="size", source=tape, color="#009E73", alpha=0.75, line_color=None)
        trades.add_tools(HoverTool(renderers=[dots], tooltips=[("price", "@price{0,0}"), QUANTITY]))
        still = Scatter(x="x", y="y", size=8, fill_color="#009E73", line_color=None)
        scene.legend(trades, [scene.key(trades, "size: quantity", still)])
        scene.empty_note(trades, "No trades of it yet.")
        return [depth, trades]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        view = self._view()
        bids, asks, trades = view.bids, view.asks, view.trades
        frame.tables["bids"], frame.tables["asks"] = _levels(bids), _levels(asks)
        largest = max((trade[1] for trade in trades), default=1)
        frame.tables["tape"] = {
            "ago": list(range(-len(trades) + 1, 1)),
            "price": [price for price, _ in trades],
            "quantity": [quantity for _, quantity in trades],
            "size": [TRADE_PX[0] + (TRADE_PX[1] - TRADE_PX[0]) * (quantity / largest) ** 0.5 for _, quantity in trades],
        }
        levels = [*bids, *asks]
        prices = [level[0] for level in levels] + [price for price, _ in trades]
        if prices:
            middle = (max(prices) + min(prices)) / 2
            reach = max(max(prices) - middle + 1.0, LEAST_TICKS)
            frame.properties["book_y", "start"], frame.properties["book_y", "end"] = middle - reach, middle + reach
        self._top = steady_top(self._top, max((level[1] for level in levels), default=0) * 1.05 or EMPTY)
        frame.properties["book_depth", "end"] = self._top
        frame.properties["book_title", "text"] = f"Order book of {view.symbol}"
        frame.properties["trades_title", "text"] = f"Last trades of {view.symbol}"
        frame.properties["book_empty", "visible"] = not levels
        frame.properties["trades_empty", "visible"] = not trades

    def summary(self, sampler: Sampler) -> str:
        view = self._view()
        best = f"best bid {view.bids[0][0]:,}" if view.bids else "no bids"
        return f"{view.symbol}: {best}, " + (f"best ask {view.asks[0][0]:,}" if view.asks else "no asks")


def _figure(name: str, title: str, y_range: Range1d, x_range: Range1d, x_label: str) -> figure:
    chart = figure(
        name=name,
        title=title,
        height=HEIGHT_PX,
        sizing_mode="stretch_width",
        x_range=x_range,
        y_range=y_range,
        x_axis_label=x_label,
        tools="",
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=62,
        min_border_right=26,
    )
    dress(chart)
    chart.title.name = f"{name}_title"
    chart.xaxis.formatter = NumeralTickFormatter(format="0,0")
    return chart


def _levels(levels: list[tuple[int, int, int]]) -> dict[str, list[Any]]:
    return {
        "price": [price for price, _, _ in levels],
        "quantity": [quantity for _, quantity, _ in levels],
        "orders": [orders for _, _, orders in levels],
    }


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
    book_answer = queries.ask_all([endpoint], lambda _: _book_query(symbol), PATIENCE_S).get(endpoint)
    if book_answer is None:
        return None
    if not isinstance(book_answer, control.BookAnswer):
        return BookView(symbol)
    trades: list[tuple[int, int]] = []
    answer = queries.ask_all([endpoint], lambda _: _trades_query(symbol), PATIENCE_S).get(endpoint)
    if isinstance(answer, control.TradesAnswer):
        trades = [(price, quantity) for price, quantity, _, _ in answer.trades[-TRADES_SHOWN:]]
    return BookView(symbol, book_answer.bids, book_answer.asks, trades)


def _book_query(symbol: str) -> control.Query:
    return control.BookQuery(queries.new_nonce(), symbol, LEVELS, linearizable=False)


def _trades_query(symbol: str) -> control.Query:
    return control.TradesQuery(queries.new_nonce(), symbol, linearizable=False)
