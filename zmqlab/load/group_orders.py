"""The orders of each Raft group: which of the due orders are whose, and what waits to be sent to a group.

The nodes share the symbols out to *groups* (:mod:`zmqlab.placement`), and a request has commands of one group. One
schedule says when orders are due. Each due order is *dealt* to a group by chance, in proportion to the group's symbols.
A Poisson process that is dealt out like this is a Poisson process in each group. A group has an order flow of its own
over its own symbols, because the ids of resting orders are of one group: two groups give out the same ids.

Orders wait here in two places. Those that are not dealt yet wait in the schedule. Those of a group whose sessions have
no room, as while it elects a leader, wait in the group's queue, and hold up no other group. An order that waits has an
intended time and nothing else: its row is drawn when its request is made.

With one group there is one queue, one flow, and nothing is drawn to deal.

Left out: orders that touch two groups. There are none, because an order has one symbol.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.order_flow import TABLE_SIZE, Ints, OrderFlow, Rows, symbol_names
from zmqlab.load.schedule import Schedule
from zmqlab.placement import group_of
from zmqlab.wire.client import MAX_COMMANDS_PER_REQUEST

TABLE_SIZE_MIN = 1 << 16


class GroupOrders:
    """What one group is to be sent."""

    def __init__(self, group: int, symbols: Sequence[str], flow: OrderFlow) -> None:
        self.group = group
        """Its number at the nodes."""
        self.symbols = symbols
        self.held_back_until_ns = 0
        """The last moment at which orders were due and no session of the group had room for a request."""
        self._flow = flow
        self._times: list[int] = []
        """Intended times that were dealt to this group and are not sent, ascending."""

    @property
    def due(self) -> int:
        """Orders that were dealt and are not sent."""
        return len(self._times)

    @property
    def resting(self) -> int:
        """Orders of this client that rest in the group's books, as far as it knows."""
        return self._flow.pool.count

    def deal(self, times_ns: Sequence[int]) -> None:
        """More orders of this group have fallen due."""
        self._times += times_ns

    def take(self) -> Ints:
        """The intended times of the next request, oldest first."""
        taken, self._times = self._times[:MAX_COMMANDS_PER_REQUEST], self._times[MAX_COMMANDS_PER_REQUEST:]
        return np.array(taken, np.int64)

    def rows(self, count: int) -> Rows:
        """The next commands, of symbols of this group."""
        return self._flow.take(count)

    def observe(self, rows: Rows, reports: Rows, fills: Rows) -> None:
        """Learn from the answers to this group's commands."""
        self._flow.observe(rows, reports, fills)

    def due_before(self, time_ns: int) -> int:
        """How many of the dealt orders were due earlier than ``time_ns``."""
        return bisect_left(self._times, time_ns)


class Dealer:
    """Deals due orders to the groups; iterable: the groups, by number."""

    def __init__(self, settings: LoadSettings) -> None:
        by_group: dict[int, list[str]] = {}
        for name in symbol_names(settings.symbols):
            by_group.setdefault(group_of(name, settings.shards), []).append(name)
        self.groups = [
            GroupOrders(group, names, _flow_of(group, names, settings)) for group, names in sorted(by_group.items())
        ]
        """Those that have a symbol; the nodes may have more."""
        self._by_number = {each.group: each for each in self.groups}
        self._rng = np.random.default_rng([settings.seed, 0xDEA1])
        shares = np.array([len(each.symbols) for each in self.groups]) / settings.symbols
        self._bounds = np.cumsum(shares)[:-1]
        """Between the groups, of a number from 0 to 1."""

    def __iter__(self) -> Iterator[GroupOrders]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def numbers(self) -> list[int]:
        """Of the groups, at the nodes."""
        return [each.group for each in self.groups]

    def of(self, group: int) -> GroupOrders:
        """The group of this number."""
        return self._by_number[group]

    @property
    def due(self) -> int:
        """Orders that were dealt to any group and are not sent."""
        return sum(each.due for each in self.groups)

    @property
    def resting(self) -> int:
        """Orders of this client that rest, as far as it knows."""
        return sum(each.resting for each in self.groups)

    def deal(self, schedule: Schedule, now_ns: int) -> None:
        """Take what has fallen due from the schedule: of each group about as much as a request holds."""
        times_ns = schedule.take(now_ns, MAX_COMMANDS_PER_REQUEST * len(self.groups))
        if len(self.groups) == 1:
            self.groups[0].deal(times_ns.tolist())
            return
        whose = np.searchsorted(self._bounds, self._rng.random(len(times_ns)), side="right")
        by_group: list[list[int]] = [[] for _ in self.groups]
        for place, time_ns in zip(whose.tolist(), times_ns.tolist(), strict=True):
            by_group[place].append(time_ns)
        for each, dealt in zip(self.groups, by_group, strict=True):
            if dealt:
                each.deal(dealt)


def _flow_of(group: int, names: Sequence[str], settings: LoadSettings) -> OrderFlow:
    """Over these symbols, with their share of the resting orders; with one group the flow of all."""
    alone = settings.shards == 1
    share = len(names) / settings.symbols
    table_size = TABLE_SIZE
    while not alone and table_size > max(TABLE_SIZE * share, TABLE_SIZE_MIN):
        table_size //= 2
    return OrderFlow(
        settings.mix,
        accounts=settings.accounts,
        seed=settings.seed,
        resting_target=max(1, round(settings.resting_target * share)),
        names=names,
        stream=() if alone else (group,),
        table_size=table_size,
    )
