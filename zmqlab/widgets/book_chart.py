"""One symbol's order book, its last trades and its live tape: what is asked of the nodes, and how it is drawn.

Three figures. *Depth* shows the resting quantity by price: asks above, bids below, and the spread between them. *Last
trades* shares its price axis; trades run from left to right, sized by their quantity. The *live tape* lists the newest
trades in words, newest first, each with an arrow that compares its price with that of the trade before.

*Asked for.* :class:`BookWatch` asks a node for book and trades four times a second while a page shows them. Any node is
asked, and from what it has applied, without a round through the leader: the picture must go on while no node leads. A
thread of its own asks, because a node that hangs costs a time-out.

*Published.* The leader publishes every trade, but at most 64 between two of its snapshots. :class:`TradeTape` listens
to that, also only while a page shows it, because a busy market has thousands of trades a second.

Left out on purpose: completeness. The tape may miss trades; the book's own list of trades, which is asked for, may not.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    HBar,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
    Row,
    Scatter,
    Text,
    Title,
    UIElement,
)
from bokeh.plotting import figure

from zmqlab.client import ask
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.feed import MetricsFeed
from zmqlab.placement import group_of
from zmqlab.widgets.live_figure import Frame
from zmqlab.widgets.palette import ASK_COLOUR, BID_COLOUR, FAINT, FONT, GREY, INK, TRADE_COLOUR
from zmqlab.widgets.sampler import Sampler
from zmqlab.widgets.scene import HEIGHT_PX, Scene, dress, steady_top
from zmqlab.wire import control
from zmqlab.wire.control import TradeEvent

ASK_INTERVAL_S = 0.25
"""A book that changes four times a second can just be followed by eye."""
PATIENCE_S = 0.3
"""A node that does not answer within so long is passed over for the next one."""
LEVELS = 12
"""Price levels of each side: as many bars as the figure's height has room for."""
TRADES_SHOWN = 60
TAPE_LINES = 8
"""With the head nine lines of 17 pixels, which fill the height of the frame."""

TRADE_PX = (4.0, 12.0)
"""Diameters of the smallest and of the largest trade."""
EMPTY = 100.0
"""Where the axes end while there is nothing to show, so that ticks stand at whole numbers."""
LEAST_TICKS = 6.0
"""The price axis reaches at least so far to either side of its middle."""
TAPE_WIDTH_PX = 138
UP, DOWN, LEVEL = ("▲", BID_COLOUR), ("▼", ASK_COLOUR), ("•", GREY)
"""The arrow before a price, and its colour."""

PriceLevel = tuple[int, int, int]
"""Price in ticks, quantity, number of orders."""


# -- what is asked for, and what is heard ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BookView:
    """What a node said of one symbol; empty until a node has answered."""

    symbol: str
    bids: list[PriceLevel] = field(default_factory=list)
    """Best price first."""
    asks: list[PriceLevel] = field(default_factory=list)
    """Best price first."""
    trades: list[tuple[int, int]] = field(default_factory=list)
    """(price, quantity), oldest first; at most ``TRADES_SHOWN``."""


class TradeTape:
    """The newest published trades of one symbol."""

    def __init__(self, feed: MetricsFeed, symbol: str) -> None:
        self._feed = feed
        self._tape: tuple[str, deque[TradeEvent]] = (symbol, deque(maxlen=TAPE_LINES + 1))
        """The symbol, and its trades, oldest first. One more trade than is shown, for the arrow of the oldest line."""
        self._unregister: Callable[[], None] | None = None
        """None: not listening."""

    def watch(self, symbol: str) -> None:
        """Begin an empty tape of ``symbol``."""
        self._tape = (symbol, deque(maxlen=TAPE_LINES + 1))

    def listen(self, wanted: bool) -> None:
        """Begin to listen, or cease."""
        if wanted and self._unregister is None:
            self._unregister = self._feed.on_trade(self._take, at_once=True)
        elif not wanted and self._unregister is not None:
            self._unregister()
            self._unregister = None

    def trades(self) -> list[TradeEvent]:
        """What is on the tape, oldest first: at most one more than ``TAPE_LINES``."""
        return list(self._tape[1].copy())

    def _take(self, trade: TradeEvent) -> None:
        """Runs in the feed's thread."""
        symbol, trades = self._tape
        if trade.symbol == symbol:
            trades.append(trade)


class BookWatch:
    """Keeps :attr:`view` and :attr:`tape` up to date while ``wanted()``."""

    def __init__(self, cluster: Cluster, symbol: str, wanted: Callable[[], bool]) -> None:
        self.view = BookView(symbol)
        """The newest answer; replaced as a whole, so that a reader holds one consistent state."""
        self.tape = TradeTape(cluster.feed, symbol)
        self.answered = True
        """Whether the last question was answered; if not, :attr:`view` is what was seen before."""
        self.error: BaseException | None = None
        """What the thread died of; None: it did not."""
        self._cluster = weakref.ref(cluster)
        self._wanted = wanted
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zmqlab-book", daemon=True)
        self._thread.start()

    def watch(self, symbol: str) -> None:
        """Look at another symbol from now on."""
        if symbol != self.view.symbol:
            self.view = BookView(symbol)
            self.tape.watch(symbol)

    def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(2)
        self.tape.listen(False)

    def _run(self) -> None:
        try:
            while not self._closing.wait(ASK_INTERVAL_S):
                wanted = self._wanted()
                self.tape.listen(wanted)
                if wanted:
                    self._look()
        except BaseException as error:
            self.error = error

    def _look(self) -> None:
        symbol = self.view.symbol
        cluster = self._cluster()
        for endpoint in cluster.living_endpoints if cluster is not None else ():
            view = _ask(endpoint, symbol, group_of(symbol, cluster.shards) if cluster is not None else 0)
            if view is not None:
                self.answered = True
                if symbol == self.view.symbol:
                    self.view = view
                return
        self.answered = False


def _ask(endpoint: str, symbol: str, group: int) -> BookView | None:
    """What one node says; None if it does not answer, or does not hold the symbol's group. A symbol that no order has
    named yet has an empty book."""
    book_answer = ask.ask_all([endpoint], lambda _: _book_query(symbol), PATIENCE_S, group=group).get(endpoint)
    elsewhere = isinstance(book_answer, control.ErrorAnswer) and book_answer.code == control.ErrorCode.NO_GROUP
    if book_answer is None or elsewhere:
        return None
    if not isinstance(book_answer, control.BookAnswer):
        return BookView(symbol)
    trades: list[tuple[int, int]] = []
    answer = ask.ask_all([endpoint], lambda _: _trades_query(symbol), PATIENCE_S, group=group).get(endpoint)
    if isinstance(answer, control.TradesAnswer):
        trades = [(price, quantity) for price, quantity, _, _ in answer.trades[-TRADES_SHOWN:]]
    return BookView(symbol, book_answer.bids, book_answer.asks, trades)


def _book_query(symbol: str) -> control.Query:
    return control.BookQuery(ask.new_nonce(), symbol, LEVELS, linearizable=False)


def _trades_query(symbol: str) -> control.Query:
    return control.TradesQuery(ask.new_nonce(), symbol, linearizable=False)


# -- how it is drawn -------------------------------------------------------------------------------------------------


class Book:
    """Draws what a :class:`BookWatch` knows; a :class:`~zmqlab.widgets.scene.Chart`."""

    name = "book"

    def __init__(self, watch: BookWatch) -> None:
        self._watch = watch
        self._top = 0.0
        """Where the axis of the resting quantity ends; it does not jump."""

    def draw(self, scene: Scene) -> list[UIElement]:
        """Depth is one tile of the page; last trades and tape share another."""
        prices = Range1d(start=0, end=EMPTY, name="book_y")
        trades = Row(children=[_draw_trades(scene, prices), _draw_tape(scene)], sizing_mode="stretch_width", spacing=0)
        return [_draw_depth(scene, prices), trades]

    def update(self, scene: Scene, sampler: Sampler, frame: Frame, options: Mapping[str, Any]) -> None:
        """Show the newest answer, and what is on the tape."""
        view, tape = self._watch.view, self._watch.tape.trades()
        levels = [*view.bids, *view.asks]
        frame.tables["bids"], frame.tables["asks"] = _level_columns(view.bids), _level_columns(view.asks)
        frame.tables["last_trades"] = _trade_columns(view.trades)
        frame.tables["tape_lines"] = tape_columns(tape)
        prices = [level[0] for level in levels] + [price for price, _ in view.trades]
        if prices:
            middle = (max(prices) + min(prices)) / 2
            reach = max(max(prices) - middle + 1.0, LEAST_TICKS)
            frame.properties["book_y", "start"], frame.properties["book_y", "end"] = middle - reach, middle + reach
        self._top = steady_top(self._top, max((level[1] for level in levels), default=0) * 1.05 or EMPTY)
        frame.properties["book_depth", "end"] = self._top
        as_of = "" if self._watch.answered else ", as last seen: no node answers"
        frame.properties["book_title", "text"] = f"Order book of {view.symbol}{as_of}"
        frame.properties["trades_title", "text"] = f"Last trades of {view.symbol}"
        frame.properties["book_empty", "visible"] = not levels
        frame.properties["trades_empty", "visible"] = not view.trades
        frame.properties["tape_empty", "visible"] = not tape

    def summary(self, sampler: Sampler) -> str:
        """Best bid and best ask."""
        view = self._watch.view
        best = f"best bid {view.bids[0][0]:,}" if view.bids else "no bids"
        return f"{view.symbol}: {best}, " + (f"best ask {view.asks[0][0]:,}" if view.asks else "no asks")


def _draw_depth(scene: Scene, prices: Range1d) -> figure:
    depth = _figure("book", "Order book", prices, Range1d(start=0, end=EMPTY, name="book_depth"), "resting quantity")
    depth.yaxis.axis_label = "price, ticks"
    items = []
    for side, colour in (("bids", BID_COLOUR), ("asks", ASK_COLOUR)):
        look = {"left": 0, "height": 0.8, "fill_color": colour, "line_color": None}
        renderer = depth.add_glyph(
            _source(side, "price", "quantity", "orders"), HBar(y="price", right="quantity", **look)
        )
        items.append(scene.key(depth, side, HBar(y="y", right="x", **look)))
        rows = [(side.removesuffix("s"), "price"), ("quantity", "quantity"), ("orders", "orders")]
        depth.add_tools(_hover(renderer, rows))
    scene.legend(depth, items)
    scene.empty_note(depth, "No orders rest: start the load.")
    return depth


def _draw_trades(scene: Scene, prices: Range1d) -> figure:
    ago = Range1d(start=-TRADES_SHOWN, end=1)
    trades = _figure("trades", "Last trades", prices, ago, "trades, the newest at the right")
    trades.min_border_left, trades.min_border_right = 12, 6
    trades.yaxis.visible = False
    source = _source("last_trades", "ago", "price", "quantity", "size")
    trades.step("ago", "price", source=source, line_color=GREY, line_width=1.0, mode="after")
    dots = trades.scatter("ago", "price", size="size", source=source, color=TRADE_COLOUR, alpha=0.75, line_color=None)
    trades.add_tools(_hover(dots, [("price", "price"), ("quantity", "quantity")]))
    still = Scatter(x="x", y="y", size=8, fill_color=TRADE_COLOUR, line_color=None)
    scene.legend(trades, [scene.key(trades, "size: quantity", still)])
    scene.empty_note(trades, "No trades of it yet.")
    return trades


def _draw_tape(scene: Scene) -> figure:
    """Three columns of text on a figure without axes; row 0 is the newest trade."""
    rows, across = Range1d(start=TAPE_LINES - 0.4, end=-1.6), Range1d(start=0, end=1)
    tape = _figure("tape", "Live tape", rows, across, "")
    tape.sizing_mode, tape.width = "fixed", TAPE_WIDTH_PX
    tape.min_border_left, tape.min_border_right = 4, 12
    small = {"text_font": FONT, "text_font_size": "10px", "text_font_style": "normal"}
    # As high as the legend beside it, so that the two titles are level.
    tape.add_layout(Title(text="newest first", standoff=5, tags=[FAINT], **small), "above")
    tape.axis.visible = tape.grid.visible = False
    source = _source("tape_lines", "row", "arrow", "colour", "price", "quantity", "alpha")
    style = {"y": "row", "text_baseline": "middle", "text_font": value(FONT), "text_font_size": "11px"}
    tape.add_glyph(source, Text(x=0.02, text="arrow", text_color="colour", **(style | {"text_font_size": "10px"})))
    price = {"text_align": "right", "text_font_style": "bold", "text_alpha": "alpha", "tags": [INK]}
    tape.add_glyph(source, Text(x=0.58, text="price", **style, **price))
    tape.add_glyph(source, Text(x=0.98, text="quantity", text_align="right", tags=[FAINT], **style))
    head = ColumnDataSource(data={"x": [0.58, 0.98], "row": [-1, -1], "text": ["price", "quantity"]})
    style |= {"text_font_size": "10px"}
    tape.add_glyph(head, Text(x="x", text="text", text_align="right", tags=[FAINT], **style))
    scene.empty_note(tape, "Waits for a trade.")
    return tape


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


def _source(name: str, *columns: str) -> ColumnDataSource:
    return ColumnDataSource(data={column: [] for column in columns}, name=name)


def _hover(renderer: Any, rows: Sequence[tuple[str, str]]) -> HoverTool:
    """The values of columns at the mouse; ``rows``: (label, column)."""
    return HoverTool(renderers=[renderer], tooltips=[(label, f"@{column}{{0,0}}") for label, column in rows])


def _level_columns(levels: Sequence[PriceLevel]) -> dict[str, list[Any]]:
    return {
        "price": [price for price, _, _ in levels],
        "quantity": [quantity for _, quantity, _ in levels],
        "orders": [orders for _, _, orders in levels],
    }


def _trade_columns(trades: Sequence[tuple[int, int]]) -> dict[str, list[Any]]:
    largest = max((quantity for _, quantity in trades), default=1)
    smallest_px, largest_px = TRADE_PX
    return {
        "ago": list(range(-len(trades) + 1, 1)),
        "price": [price for price, _ in trades],
        "quantity": [quantity for _, quantity in trades],
        "size": [smallest_px + (largest_px - smallest_px) * (quantity / largest) ** 0.5 for _, quantity in trades],
    }


def tape_columns(trades: Sequence[TradeEvent]) -> dict[str, list[Any]]:
    """The tape as columns of a bokeh source, newest trade first; ``trades`` are oldest first. Older lines are
    fainter."""
    arrows = [LEVEL, *(_arrow(before, after) for before, after in pairwise(trades))]
    lines = list(zip(trades, arrows, strict=False))[-TAPE_LINES:][::-1]
    return {
        "row": list(range(len(lines))),
        "arrow": [arrow for _, (arrow, _) in lines],
        "colour": [colour for _, (_, colour) in lines],
        "price": [f"{trade.price:,}" for trade, _ in lines],
        "quantity": [f"{trade.quantity:,}" for trade, _ in lines],
        "alpha": [1.0 - 0.4 * row / TAPE_LINES for row in range(len(lines))],
    }


def _arrow(before: TradeEvent, after: TradeEvent) -> tuple[str, str]:
    if after.price == before.price:
        return LEVEL
    return UP if after.price > before.price else DOWN
