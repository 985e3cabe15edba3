"""A client for people: single orders and questions, one after the other; each call returns when it is answered.

Orders go through a :class:`~zmqlab.client.session.Session`, so that each is applied exactly once whatever nodes do
meanwhile. Questions about books are linearizable by default: they see every order that was acknowledged before.

When an order is not answered in time, its outcome is unknown. The call then raises
:class:`~zmqlab.errors.RequestTimeout` and gives up the session, so that the order is not sent again behind the caller's
back. The next call opens a new session. An order that was never sent was not applied: that is
:class:`~zmqlab.errors.NoLeader`.

In a cluster with shards the client has a session for each group that it has traded in, and asks each question of the
group of its symbol. What holds for orders holds within a group: so one call of :meth:`Client.send` takes commands of
one group.

Nodes may come and go. The session learns of that by itself. Before a question, every few seconds at most, the client
asks which nodes belong to the cluster now. The endpoints that the caller gave are the last resort.

Calls from several threads take turns.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import struct
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

from zmqlab.client import ask
from zmqlab.client.connections import ConnectedSession
from zmqlab.client.session import SessionSettings, Watch
from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import (
    NoLeader,
    RequestError,
    RequestRefused,
    RequestTimeout,
    SettingsError,
)
from zmqlab.keys import of_client, trust_clients_ports
from zmqlab.market.types import (
    MAX_PRICE,
    MAX_QUANTITY,
    Command,
    CommandKind,
    Depth,
    ExecutionReport,
    Side,
    TimeInForce,
    Trade,
    symbol_code,
)
from zmqlab.names import known_endpoints, numeric
from zmqlab.placement import group_of_code
from zmqlab.settings import require_whole
from zmqlab.tables import StatusTable, html_table, text_table
from zmqlab.wire import control, records
from zmqlab.wire.client import MAX_COMMANDS_PER_REQUEST, Response, ResponseStatus, execution_reports
from zmqlab.wording import counted

POLL_MS = 100
LOOK_S = 2.0
"""How old the client's knowledge of the members may be before a question: more than a few questions in a row take."""
LOOK_TIMEOUT_S = 0.3
MAX_U32 = 2**32 - 1
MAX_U64 = 2**64 - 1


class TradeTable(list[Trade]):
    """Trades, oldest first, that show themselves as a table."""

    def __repr__(self) -> str:
        return text_table(Trade._fields, self) if self else "no trades yet"

    def _repr_html_(self) -> str:
        return html_table(Trade._fields, self)


class Client:
    """Sends orders to a cluster and asks it questions.

    Args:
        endpoints: where the nodes listen for clients, as in ``tcp://127.0.0.1:5002``. One that works is enough. A
            host's name stands for all the addresses that it has when a session begins.
        timeout_s: how long a call waits for its answer.
        keys: the folder of keys for nodes that ask for one; a Cluster of this process needs none.
        watch: told of each request and response; see :class:`~zmqlab.client.session.Watch`.

    Raises:
        SettingsError: an argument is none of these; the message names it.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout_s: float = 5.0,
        keys: str | os.PathLike[str] | None = None,
        watch: Watch | None = None,
    ) -> None:
        if isinstance(endpoints, str) or not isinstance(endpoints, Iterable) or not endpoints:
            raise SettingsError("endpoints must be a list of at least one, as in ['tcp://127.0.0.1:5002']")
        if not isinstance(timeout_s, int | float) or not 0 < timeout_s <= 3_600:
            raise SettingsError(f"timeout_s is {timeout_s!r}: it must be above 0 and at most 3600 seconds")
        self._given = tuple("tcp://{}:{}".format(*parse_endpoint(endpoint)) for endpoint in endpoints)
        """As the caller wrote them; hosts may be names."""
        self._key = of_client(keys)
        self._watch = watch
        self._known: tuple[str, ...] = ()
        """Where the nodes are, by what was heard last; empty until the names were looked up."""
        self._looked_at = -math.inf
        """When the client last asked for that; monotonic clock, seconds."""
        self.timeout_s = timeout_s
        self._shards = 0
        """How many groups share the symbols; 0 until a node has told."""
        self._sessions: dict[int, ConnectedSession] = {}
        """By group."""
        self._forgotten: dict[int, weakref.finalize[[], Client]] = {}
        """By group, what closes its session, at the latest when nothing refers to this client any more. The session's
        sockets are in a cycle, and a collection of that cycle would wait for ever for the sockets to be closed."""
        self._closed = False
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes are, by what was heard last; at first, what the caller gave."""
        return self._known or self._given

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets. Calling it twice is fine."""
        with self._lock:
            self._closed = True
            for group in tuple(self._sessions):
                self._give_up(group)

    def __repr__(self) -> str:
        ids = [f"{each.client_id}" for each in self._sessions.values()]
        session = f"session {' '.join(ids)}" if ids else "no session yet"
        return f"<Client of {counted(len(self.endpoints), 'node')}, {'closed' if self._closed else session}>"

    # -- orders --------------------------------------------------------------------------------------------------

    def buy(
        self,
        symbol: str,
        quantity: int,
        price: int | None = None,
        *,
        account: int = 1,
        time_in_force: TimeInForce | None = None,
        post_only: bool = False,
    ) -> ExecutionReport:
        """Buy ``quantity`` of ``symbol`` at ``price`` ticks or better; without a price as a market order."""
        return self._new(Side.BUY, symbol, quantity, price, account, time_in_force, post_only)

    def sell(
        self,
        symbol: str,
        quantity: int,
        price: int | None = None,
        *,
        account: int = 1,
        time_in_force: TimeInForce | None = None,
        post_only: bool = False,
    ) -> ExecutionReport:
        """Sell ``quantity`` of ``symbol`` at ``price`` ticks or better; without a price as a market order."""
        return self._new(Side.SELL, symbol, quantity, price, account, time_in_force, post_only)

    def cancel(self, order_id: int, symbol: str, *, account: int = 1) -> ExecutionReport:
        """Take a resting order of ``account`` out of the book."""
        _check("order_id", order_id, 1, MAX_U64)
        _check("account", account, 0, MAX_U32)
        _check_symbol(symbol)
        return self.send(Command.cancel(order_id, symbol, account=account))[0]

    def replace(
        self, order_id: int, symbol: str, quantity: int, price: int, *, account: int = 1, post_only: bool = False
    ) -> ExecutionReport:
        """Change the resting quantity and price of an order. A smaller quantity at the same price keeps its place."""
        _check("order_id", order_id, 1, MAX_U64)
        _check("quantity", quantity, 1, MAX_QUANTITY)
        _check("price", price, 1, MAX_PRICE)
        _check("account", account, 0, MAX_U32)
        _check_symbol(symbol)
        return self.send(Command.replace(order_id, symbol, quantity, price, account=account, post_only=post_only))[0]

    def send(self, *commands: Command) -> list[ExecutionReport]:
        """Send up to 1,024 commands as one request: they are applied together, in this order, exactly once.

        Raises:
            SettingsError: in a cluster with shards, the symbols are of several groups; nothing was sent.
            RequestTimeout: no answer in time; the outcome is unknown.
            NotLetIn: no node lets this client in; nothing was sent.
            NoLeader: the request was not sent, since no node could take it.
            SessionExpired: the cluster had forgotten this client; the outcome is unknown.
        """
        if not 1 <= len(commands) <= MAX_COMMANDS_PER_REQUEST:
            raise SettingsError(f"{len(commands)} commands: send 1 to {MAX_COMMANDS_PER_REQUEST:,} at a time")
        try:
            packed = records.pack_commands(commands)
        except (struct.error, TypeError, ValueError) as error:
            raise SettingsError(f"a command does not fit its record: {error}") from None
        with self._lock:
            response = self._exchange(packed, {command.symbol for command in commands})
        if response.status != ResponseStatus.OK:
            raise RequestRefused(f"the cluster refused the request: {ResponseStatus(response.status).name}")
        return execution_reports(response)

    # -- questions -----------------------------------------------------------------------------------------------

    def book(self, symbol: str, levels: int = 10, *, linearizable: bool = True) -> Depth:
        """The best prices of a symbol. With ``linearizable=False`` the first node answers alone, and may lag."""
        _check_symbol(symbol)
        _check("levels", levels, 1, 1_000)

        def query() -> control.Query:
            return control.BookQuery(ask.new_nonce(), symbol, levels, linearizable)

        answer = ask.ask_any(self._where(), query, control.BookAnswer, self.timeout_s, group=self._group_of(symbol))
        return Depth(symbol, answer.bids, answer.asks)

    def trades(self, symbol: str, *, linearizable: bool = True) -> TradeTable:
        """The last trades of a symbol, oldest first."""
        _check_symbol(symbol)

        def query() -> control.Query:
            return control.TradesQuery(ask.new_nonce(), symbol, linearizable)

        answer = ask.ask_any(self._where(), query, control.TradesAnswer, self.timeout_s, group=self._group_of(symbol))
        return TradeTable(Trade(*trade) for trade in answer.trades)

    def status(self, timeout_s: float = 1.0) -> StatusTable:
        """Roles, terms and indexes of all nodes. A node that does not answer in time is ``silent``. One that does not
        let this client in is ``refused``, and the table says why."""
        return ask.status_table(self._where(), timeout_s)

    # -- inside --------------------------------------------------------------------------------------------------

    def _new(
        self,
        side: Side,
        symbol: str,
        quantity: int,
        price: int | None,
        account: int,
        time_in_force: TimeInForce | None,
        post_only: bool,
    ) -> ExecutionReport:
        _check_symbol(symbol)
        _check("quantity", quantity, 1, MAX_QUANTITY)
        _check("account", account, 0, MAX_U32)
        if price is None:
            if post_only:
                raise SettingsError("post_only needs a price: an order without one always takes liquidity")
            force = time_in_force or TimeInForce.IOC
            command = Command.market(side, symbol, quantity, account=account, time_in_force=force)
        else:
            _check("price", price, 1, MAX_PRICE)
            force = time_in_force or TimeInForce.GTC
            command = Command.limit(
                side, symbol, quantity, price, account=account, time_in_force=force, post_only=post_only
            )
        assert command.kind == CommandKind.NEW
        return self.send(command)[0]

    def _exchange(self, packed: bytes, symbols: set[int]) -> Response:
        """Submit and wait for the answer. A failure ends the session, so that nothing is sent again later."""
        self._require_open()
        deadline = time.monotonic() + self.timeout_s
        group = self._group_of_all(symbols)
        try:
            session = self._opened_session(group, deadline)
            number = session.submit(packed).number
            while (remaining_ms := (deadline - time.monotonic()) * 1000) > 0:
                done = session.poll(min(POLL_MS, remaining_ms))
                self._known = session.endpoints if self._shards <= 1 else self._known
                for completion in done:
                    if completion.request_number == number:
                        return completion.response
            sent = session.pending > sum(1 for _ in session.session.unsent_requests())
        except (RequestError, KeyboardInterrupt):
            self._give_up(group)
            raise
        self._give_up(group)
        if not sent:
            raise NoLeader(f"no node could take the order within {self.timeout_s:g} s: nothing was sent")
        raise RequestTimeout(
            f"no answer within {self.timeout_s:g} s: the order may or may not have been applied; "
            "client.book(symbol) and client.trades(symbol) tell, once a majority of the nodes runs"
        )

    def _opened_session(self, group: int, deadline: float) -> ConnectedSession:
        if group not in self._sessions:
            timeout_ms = min(1_000, self.timeout_s * 500)
            settings = SessionSettings(timeout_ms=timeout_ms, group=group)
            given = self._located()
            session = ConnectedSession(self._known or given, settings, fallbacks=given, credentials=self._key)
            self._sessions[group] = session
            self._forgotten[group] = weakref.finalize(self, session.close)
            session.open(max(1.0, (deadline - time.monotonic()) * 1000))
        session, watch = self._sessions[group], self._watch
        session.session.watched_by(watch if watch is not None and watch.group == group else None)
        return session

    def _group_of(self, symbol: str) -> int:
        """The group that a symbol belongs to. While no node tells how many groups there are, it is the only one: a node
        that knows better refuses the order."""
        return self._group_of_all({symbol_code(symbol)})

    def _group_of_all(self, symbols: set[int]) -> int:
        """The one group that these symbols, by their codes, belong to."""
        if not self._shards:
            self._shards = ask.shards_of(self._known or self._located(), min(LOOK_TIMEOUT_S, self.timeout_s))
        groups = {group_of_code(code, self._shards or 1) for code in symbols}
        if len(groups) > 1:
            raise SettingsError(
                f"the commands are of {len(groups)} groups of the cluster, and a request is of one: send them apart"
            )
        return groups.pop()

    def _require_open(self) -> None:
        if self._closed:
            raise RequestError("this client is closed: make another with cluster.client()")

    def _where(self) -> tuple[str, ...]:
        """Where questions go."""
        self._require_open()
        return self._look()

    def _look(self) -> tuple[str, ...]:
        """Where the members are now: asked of a majority of the known ones, unless that was done just now."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._looked_at = now
            self._known = ask.follow_members(self._known or self._located(), LOOK_TIMEOUT_S)
            trust_clients_ports(self._known, self._key)
        return self._known or self._located()

    def _located(self) -> tuple[str, ...]:
        """What the caller gave, with the addresses that its names have now. Raises RequestError if there is none."""
        try:
            found = numeric(known_endpoints(self._given, self.timeout_s))
        except SettingsError as error:
            raise RequestError(f"nothing was sent: {error}") from None
        trust_clients_ports(found, self._key)
        return found

    def _give_up(self, group: int) -> None:
        forget = self._forgotten.pop(group, None)
        if forget is not None:
            forget()
        self._sessions.pop(group, None)


def _check(name: str, value: SupportsIndex, low: int, high: int) -> None:
    """:func:`zmqlab.settings.require_whole`, for which a whole number of numpy is one, too."""
    with contextlib.suppress(TypeError):
        value = value if isinstance(value, bool) else operator.index(value)
    require_whole(name, value, low, high)


def _check_symbol(symbol: str) -> None:
    try:
        symbol_code(symbol)
    except (ValueError, TypeError, AttributeError):
        raise SettingsError(f"symbol is {symbol!r}: use 1 to 8 characters of A-Z 0-9 . _ -") from None
