"""The links between a cluster's nodes, as far as they are not whole: cut, slow or lossy, one direction each.

The receiving node filters what it hears (:mod:`zmqlab.node.links`); this module keeps the table of the whole cluster,
``(source, target) -> LinkFault``, and sends each target its part, always all of it, so that sending twice does no harm.

A node forgets its part when its process ends. It is told again when it is back: after a restart, after a wiped disk,
after a pause in which the table changed. Until it has been told, some tens of milliseconds, it hears everyone. A node
that is added later has whole links.

Only links between nodes are meant. Clients reach every node, also one that is cut off from all others: that is how one
sees what such a node does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import permutations

import msgspec

from zmqlab.cluster import queries
from zmqlab.errors import ClusterError
from zmqlab.lab.fleet import Nodes
from zmqlab.node.links import check_fault
from zmqlab.wire import control
from zmqlab.wire.control import LinkFault

ANSWER_TIMEOUT_S = 0.5
TELL_TIMEOUT_S = 5.0
"""A running node answers within a turn of its loop; one that is busy with a snapshot needs a second."""


WHOLE = LinkFault()


class ClusterLinks:
    """The faults of the links between ``nodes``. Safe to use from several threads; changes take turns."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._table: dict[tuple[str, str], LinkFault] = {}
        """Holds no whole link."""
        self._untold: set[str] = set()
        """Nodes whose part has changed while they could not be told."""
        self._lock = threading.RLock()

    @property
    def table(self) -> dict[tuple[str, str], LinkFault]:
        """(source, target) -> what is wrong, for the links that are not whole."""
        with self._lock:
            return dict(self._table)

    def change(self, source: str, target: str, fault: LinkFault) -> None:
        """From now on ``target`` hears ``source`` like this.

        Raises:
            SettingsError: a delay or a share is out of range. ClusterError: no such node, or it does not obey.
        """
        check_fault(fault.delay_ms, fault.loss)
        if source == target:
            raise ClusterError(f"{source} is no peer of itself: name two nodes")
        with self._lock:
            self._change([(source, target)], fault)
        kind = "cut" if fault.cut else "healed" if fault == WHOLE else "link"
        self._nodes.record(target, kind, f"{source} -> {target}: {fault}")

    def partition(self, groups: Sequence[Iterable[str]]) -> None:
        """Cut all links between nodes of different groups, both ways; nodes that no group names keep theirs.

        Raises:
            ClusterError: fewer than two groups, or a node in two of them.
        """
        if any(isinstance(group, str) for group in groups):
            raise ClusterError(f"a group is a list of names: partition([{groups[0]!r}], [...])")
        parts = [tuple(group) for group in groups]
        named = [name for part in parts for name in part]
        if len(parts) < 2 or not all(parts):
            raise ClusterError('a partition takes two groups or more: partition(["node0"], ["node1", "node2"])')
        if len(set(named)) < len(named):
            raise ClusterError(f"a node stands in two groups: {', '.join(named)}")
        between = [(a, b) for one, other in permutations(parts, 2) for a in one for b in other]
        with self._lock:
            self._change(between, LinkFault(cut=True))
        self._nodes.record("", "partitioned", " | ".join(", ".join(part) for part in parts))

    def heal(self) -> None:
        """Make all links whole."""
        with self._lock:
            if not self._table and not self._untold:
                return
            self._change(list(self._table), WHOLE)
        self._nodes.record("", "healed", "all links are whole")

    def concerns(self, name: str) -> bool:
        """Whether ``name`` must be told something when it comes back."""
        with self._lock:
            return name in self._untold or any(target == name for _, target in self._table)

    def tell(self, name: str) -> None:
        """Tell a node that came back its part."""
        with self._lock:
            if self.concerns(name):
                self._tell({name})

    def forget(self) -> None:
        """Drop the links of nodes that are no more."""
        with self._lock:
            known = set(self._nodes.names)
            self._table = {pair: fault for pair, fault in self._table.items() if known.issuperset(pair)}
            self._untold &= known

    # -- inside ------------------------------------------------------------------------------------------

    def _change(self, pairs: Sequence[tuple[str, str]], fault: LinkFault) -> None:
        self.forget()
        for name in {name for pair in pairs for name in pair}:
            if fault != WHOLE:
                self._nodes.settings(name)
        for pair in pairs:
            self._table.pop(pair, None)
            if fault != WHOLE:
                self._table[pair] = fault
        self._tell({target for _, target in pairs} | self._untold)

    def _tell(self, names: set[str]) -> None:
        """Have these nodes filter as the table says; those that do not run now are told when they do."""
        self._untold |= names
        deadline = time.monotonic() + TELL_TIMEOUT_S
        while waiting := self._untold.intersection(names, self._nodes.running):
            endpoints = {self._nodes.endpoint(name): name for name in waiting}
            answers = queries.ask_all(endpoints, partial(self._query_at, endpoints), ANSWER_TIMEOUT_S)
            for endpoint, answer in answers.items():
                if isinstance(answer, control.ErrorAnswer):
                    raise ClusterError(f"{endpoints[endpoint]} takes no faults: {answer.message}")
                self._untold.discard(endpoints[endpoint])
            if time.monotonic() > deadline:
                raise ClusterError(f"{', '.join(sorted(waiting))} did not answer within {TELL_TIMEOUT_S:g} s")

    def _query_at(self, names: Mapping[str, str], endpoint: str) -> control.LinkFaultsQuery:
        target = names[endpoint]
        links = [
            msgspec.structs.replace(fault, sender=self._nodes.settings(source).endpoint)
            for (source, hears), fault in self._table.items()
            if hears == target
        ]
        return control.LinkFaultsQuery(queries.new_nonce(), links)
