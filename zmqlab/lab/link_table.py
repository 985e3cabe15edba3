"""The table of links between a cluster's nodes that are not whole: cut, slow or lossy, one direction each.

The receiving node filters what it hears (:mod:`zmqlab.engine.link_faults`). This module keeps the table of the whole
cluster, ``(source, target) -> LinkFault``, and sends each target its part. It always sends all of it, so that sending
it twice does no harm.

A node forgets its part when its process ends. It is told again when it comes back: after a restart, after a wiped disk,
and after a pause in which the table changed. Until it has been told, some tens of milliseconds, it hears every peer. A
node that is added later has whole links.

Only links between nodes are meant. Clients reach every node, also one that is cut off from all others: so a person can
see what such a node does.

Left out on purpose: events. :mod:`~zmqlab.lab.faults` tells them, before anything is changed here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from zmqlab.client import ask
from zmqlab.errors import ClusterError
from zmqlab.lab.fleet import Fleet
from zmqlab.wire import control
from zmqlab.wire.control import LinkFault

ANSWER_TIMEOUT_S = 0.5
TELL_TIMEOUT_S = 5.0
"""A running node answers within a turn of its loop. One that is busy with a snapshot needs a second."""
WHOLE = LinkFault()

Link = tuple[str, str]
"""The name of the node that speaks, and of the one that hears it."""


class LinkTable:
    """The faults of the links between the nodes of ``fleet``. Safe to use from several threads: changes take turns."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._faults: dict[Link, LinkFault] = {}
        """Holds no whole link."""
        self._untold: set[str] = set()
        """Nodes whose part has changed while they could not be told."""
        self._lock = threading.RLock()

    @property
    def faults(self) -> dict[Link, LinkFault]:
        """``(source, target)`` -> what is wrong, for the links that are not whole."""
        with self._lock:
            return dict(self._faults)

    def change(self, links: Sequence[Link], fault: LinkFault) -> None:
        """From now on these links are like this.

        Raises:
            ClusterError: there is no such node, or a node does not obey.
        """
        with self._lock:
            self._forget_removed()
            for link in links:
                self._faults.pop(link, None)
                if fault != WHOLE:
                    self._faults[link] = fault
            self._tell({target for _, target in links} | self._untold)

    @property
    def all_whole(self) -> bool:
        """Whether no link is bad, and every node knows that."""
        with self._lock:
            return not self._faults and not self._untold

    def heal(self) -> None:
        """Make all links whole. Raises as :meth:`change`."""
        with self._lock:
            self.change(list(self._faults), WHOLE)

    def concerns(self, name: str) -> bool:
        """Whether ``name`` must be told something when it comes back."""
        with self._lock:
            return name in self._untold or any(target == name for _, target in self._faults)

    def tell(self, name: str) -> None:
        """Tell a node that came back its part."""
        with self._lock:
            if self.concerns(name):
                self._tell({name})

    def tell_again(self, name: str) -> None:
        """Tell a node that was just started its part, as soon as it listens."""
        if self.concerns(name):
            self._fleet.await_answer(name)
            self.tell(name)

    def _forget_removed(self) -> None:
        known = set(self._fleet.names)
        self._faults = {link: fault for link, fault in self._faults.items() if known.issuperset(link)}
        self._untold &= known

    def _tell(self, names: set[str]) -> None:
        """Have these nodes filter as the table says. Those that do not run now are told when they do."""
        self._untold |= names
        deadline = time.monotonic() + TELL_TIMEOUT_S
        while waiting := self._untold.intersection(names, self._fleet.running):
            endpoints = {self._fleet.endpoint(name): name for name in waiting}
            answers = ask.ask_all(endpoints, partial(self._query_at, endpoints), ANSWER_TIMEOUT_S)
            for endpoint, answer in answers.items():
                if isinstance(answer, control.ErrorAnswer):
                    raise ClusterError(f"{endpoints[endpoint]} takes no faults: {answer.message}")
                self._untold.discard(endpoints[endpoint])
            if time.monotonic() > deadline:
                raise ClusterError(f"{', '.join(sorted(waiting))} did not answer within {TELL_TIMEOUT_S:g} s")

    def _query_at(self, names: Mapping[str, str], endpoint: str) -> control.LinkFaultsQuery:
        target = names[endpoint]
        links = [
            replace(fault, sender=self._fleet.settings(source).endpoint)
            for (source, hears), fault in self._faults.items()
            if hears == target
        ]
        return control.LinkFaultsQuery(ask.new_nonce(), links)
