"""The table of what the nodes of a cluster suffer: bad links, one direction each, and bad disks, clocks and clients.

A node plays its own faults: it filters what it hears (:mod:`zmqlab.engine.link_faults`), slows its disk down, and so
on. This module keeps the table of the whole cluster, ``(source, target) -> LinkFault`` and ``node -> NodeFaults``, and
sends each node its part. It always sends all of it, so that sending it twice does no harm.

A node forgets its part when its process ends. It is told again when it comes back: after a restart, after a wiped disk,
and after a pause in which the table changed. Until it has been told, some tens of milliseconds, it suffers nothing. A
node that is added later is well, also if it gets the name of one that was removed: it has another address.

A :class:`LinkFault` is about links between nodes. Clients reach every node all the same, also one that is cut off from
all others: so a person can see what such a node does. What clients suffer is one of :class:`NodeFaults`.

Left out on purpose: events. :mod:`~zmqlab.lab.faults` tells them, before anything is changed here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from zmqlab.client import ask
from zmqlab.errors import ClusterError
from zmqlab.lab.fleet import Fleet
from zmqlab.wire import control
from zmqlab.wire.fault_queries import LinkFault, LinkFaultsQuery, NodeFaults, NodeFaultsQuery

ANSWER_TIMEOUT_S = 0.5
TELL_TIMEOUT_S = 5.0
"""A running node answers within a turn of its loop. One that is busy with a snapshot needs a second."""
WHOLE = LinkFault()
WELL = NodeFaults()

Link = tuple[str, str]
"""The name of the node that speaks, and of the one that hears it."""


class FaultTable:
    """What the nodes of ``fleet`` suffer. Safe to use from several threads: changes take turns."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._links: dict[Link, LinkFault] = {}
        """Holds no whole link."""
        self._nodes: dict[str, NodeFaults] = {}
        """Holds no node that is well."""
        self._places: dict[str, str] = {}
        """The addresses of the nodes that are in the table."""
        self._lock = threading.RLock()
        self._about_links = _Part(fleet, self._links_of)
        self._about_nodes = _Part(fleet, self._node_faults_of)

    # -- links ---------------------------------------------------------------------------------------------

    @property
    def faults(self) -> dict[Link, LinkFault]:
        """``(source, target)`` -> what is wrong, for the links that are not whole."""
        with self._lock:
            return dict(self._links)

    def change(self, links: Sequence[Link], fault: LinkFault) -> None:
        """From now on these links are like this.

        Raises:
            ClusterError: there is no such node, or a node does not obey.
        """
        with self._lock:
            self._forget_removed()
            for link in links:
                self._links.pop(link, None)
                if fault != WHOLE:
                    self._links[link] = fault
                    self._places.update((name, self._place(name)) for name in link)
            self._about_links.tell({target for _, target in links} | self._about_links.untold)

    @property
    def all_whole(self) -> bool:
        """Whether no link is bad, and every node knows that."""
        with self._lock:
            return not self._links and not self._about_links.untold

    def heal(self) -> None:
        """Make all links whole. Raises as :meth:`change`."""
        with self._lock:
            self.change(list(self._links), WHOLE)

    # -- nodes ---------------------------------------------------------------------------------------------

    @property
    def node_faults(self) -> dict[str, NodeFaults]:
        """Node -> what it suffers, for the nodes that are not well."""
        with self._lock:
            return dict(self._nodes)

    def of_node(self, name: str) -> NodeFaults:
        """What a node suffers."""
        with self._lock:
            return self._nodes.get(name, WELL)

    def change_node(self, name: str, **faults: Any) -> None:
        """From now on this is wrong with a node, by fields of :class:`NodeFaults`; all else stays as it is.

        Raises:
            ClusterError: the node does not obey.
        """
        with self._lock:
            self._forget_removed()
            changed = replace(self.of_node(name), **faults)
            self._nodes.pop(name, None)
            if changed != WELL:
                self._nodes[name] = changed
                self._places[name] = self._place(name)
            self._about_nodes.tell({name})

    # -- telling -------------------------------------------------------------------------------------------

    def concerns(self, name: str) -> bool:
        """Whether ``name`` must be told something when it comes back."""
        with self._lock:
            self._forget_removed()
            return self._has_bad_links(name) or self._is_ill(name)

    def tell(self, name: str) -> None:
        """Tell a node that came back its part."""
        with self._lock:
            if self._has_bad_links(name):
                self._about_links.tell({name})
            if self._is_ill(name):
                self._about_nodes.tell({name})

    def tell_again(self, name: str) -> None:
        """Tell a node that was just started its part, as soon as it listens."""
        if self.concerns(name):
            self._fleet.await_answer(name)
            self.tell(name)

    def _has_bad_links(self, name: str) -> bool:
        return name in self._about_links.untold or any(target == name for _, target in self._links)

    def _is_ill(self, name: str) -> bool:
        return name in self._about_nodes.untold or name in self._nodes

    def _forget_removed(self) -> None:
        gone = {name for name, place in self._places.items() if self._place(name) != place}
        self._links = {link: fault for link, fault in self._links.items() if gone.isdisjoint(link)}
        self._nodes = {name: faults for name, faults in self._nodes.items() if name not in gone}
        for name in gone:
            del self._places[name]
        for part in (self._about_links, self._about_nodes):
            part.untold = part.untold.intersection(self._fleet.names) - gone

    def _place(self, name: str) -> str:
        """Where a node is; empty if there is none of that name."""
        try:
            return self._fleet.settings(name).endpoint
        except ClusterError:
            return ""

    def _links_of(self, name: str) -> control.Query:
        links = [
            replace(fault, sender=self._fleet.settings(source).endpoint)
            for (source, target), fault in self._links.items()
            if target == name
        ]
        return LinkFaultsQuery(ask.new_nonce(), links)

    def _node_faults_of(self, name: str) -> control.Query:
        return NodeFaultsQuery(ask.new_nonce(), self.of_node(name))


class _Part:
    """One part of the table: who has not been told of it yet."""

    def __init__(self, fleet: Fleet, query: Callable[[str], control.Query]) -> None:
        """``query`` makes what tells a node all of it."""
        self._fleet = fleet
        self._query = query
        self.untold: set[str] = set()
        """Nodes whose part has changed while they could not be told."""

    def tell(self, names: Collection[str]) -> None:
        """Have these nodes obey the table. Those that do not run now are told when they do. Raises ClusterError if one
        does not obey."""
        self.untold.update(names)
        deadline = time.monotonic() + TELL_TIMEOUT_S
        while waiting := self.untold.intersection(names, self._fleet.running):
            endpoints = {self._fleet.endpoint(name): name for name in waiting}
            answers = ask.ask_all(endpoints, partial(self._query_at, endpoints), ANSWER_TIMEOUT_S)
            for endpoint, answer in answers.items():
                if isinstance(answer, control.ErrorAnswer):
                    raise ClusterError(f"{endpoints[endpoint]} takes no faults: {answer.message}")
                self.untold.discard(endpoints[endpoint])
            if time.monotonic() > deadline:
                raise ClusterError(f"{', '.join(sorted(waiting))} did not answer within {TELL_TIMEOUT_S:g} s")

    def _query_at(self, names: Mapping[str, str], endpoint: str) -> control.Query:
        return self._query(names[endpoint])
