"""What this process has started and not ended: one register of its clusters and load clients.

The register ends what its maker has lost sight of:

- **A cell that runs again replaces what it made before.** Jupyter tells which cell a message belongs to. What the same
  cell made in an earlier run ends before its new run starts anything. Outside Jupyter, and where a page does not name
  its cells, nothing is replaced.
- **What nothing refers to any more ends.** A :class:`~zmqlab.lab.cluster.Cluster` that is forgotten stops; a forgotten
  load client ends its process. So keep the object for as long as its processes are needed: its endpoints alone do not
  keep it.
- **The end of the process ends everything**, load clients before their clusters.

:func:`clusters` lists, :func:`stop_all` stops. Both are names of ``zmqlab`` itself.

How it works: the register holds the :class:`Ending` of a thing, which must not refer to the thing, and the thing itself
only weakly. Garbage is found at any moment, in any thread, and with any lock held. So what is garbage ends in a thread
of its own.

Left out on purpose: what another process started (:mod:`zmqlab.lab.processes`). A forked child inherits the register,
and there no ending does anything.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from zmqlab.tables import html_table, text_table

if TYPE_CHECKING:
    from zmqlab.lab.cluster import Cluster

HEAD = ("cluster", "nodes", "running", "leader", "folder")


class Ending:
    """What ends a thing: steps, of which the newest is done first. Call it to end the thing.

    A second call does nothing, and in another thread it returns when the first one has ended the thing. If a step
    fails, the others are done all the same. In a forked child nothing is done: the thing belongs to its parent.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        """The process that started the thing."""
        self.first: Callable[[], None] = lambda: None
        """Done before all steps, also while another thread ends the thing or starts it."""
        self.begun = False
        self._steps: dict[object, Callable[[], object]] = {}
        """Oldest first, by keys that mean nothing. A step that is done, or not needed any more, is not here."""
        self._lock = threading.RLock()

    def also(self, step: Callable[[], object]) -> Callable[[], object]:
        """One more step; it must not refer to the thing. It is done at once if the ending has begun.

        Returns:
            A function that takes the step away again: what it ends has ended already.
        """
        key = object()
        if not self.begun:
            with self._lock:
                if not self.begun:
                    self._steps[key] = step
                    return partial(self._steps.pop, key, None)
        step()
        return lambda: None

    def __call__(self) -> None:
        if os.getpid() != self.owner:
            return
        self.begun = True
        try:
            self.first()
        finally:
            with self._lock:
                try:
                    with contextlib.ExitStack() as steps:  # of which the newest is done first, also if one fails
                        for key in tuple(self._steps):
                            steps.callback(self._do, key)
                finally:
                    _entries.pop(self, None)

    def _do(self, key: object) -> None:
        self._steps.pop(key, lambda: None)()


class Cell(NamedTuple):
    """One run of one cell of a notebook."""

    cell: str
    """The page's id of the cell; empty: not in a cell, or not known."""
    run: str
    """The id of the message that ran it."""


class _Entry(NamedTuple):
    thing: weakref.ref[object]
    cell: Cell


_entries: dict[Ending, _Entry] = {}
"""What was started and has not ended, oldest first. Changed by single operations, which need no lock."""


class ClusterTable(list["Cluster"]):
    """Clusters that show themselves as a table."""

    def __repr__(self) -> str:
        return text_table(HEAD, map(_row, self)) if self else "no cluster runs in this process"

    def _repr_html_(self) -> str:
        return html_table(HEAD, map(_row, self))


def clusters() -> ClusterTable:
    """The clusters of this process that were started and not stopped, oldest first."""
    from zmqlab.lab.cluster import Cluster

    things = [entry.thing() for entry in list(_entries.values())]
    return ClusterTable(thing for thing in things if isinstance(thing, Cluster))


def stop_all() -> None:
    """End all clusters and load clients of this process, the newest first.

    If one can't be ended, the others are ended all the same, and then the first error is raised.
    """
    errors = []
    for end in reversed(list(_entries)):
        try:
            end()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def enter(thing: object, end: Ending) -> None:
    """Note that ``thing``, a cluster or a load client, is about to be started, and what ends it."""
    _entries[end] = _Entry(weakref.ref(thing), this_cell())
    weakref.finalize(thing, _end_forgotten, end).atexit = False


def replace_earlier() -> None:
    """End what an earlier run of this cell made."""
    now = this_cell()
    for end, entry in reversed(list(_entries.items())):
        if now.cell and entry.cell.cell == now.cell and entry.cell.run != now.run:
            end()


def this_cell() -> Cell:
    """The run of the cell that calls this."""
    shell_of = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = shell_of() if shell_of is not None else None
    if shell is None or not hasattr(shell, "get_parent") or threading.current_thread() is not threading.main_thread():
        return Cell("", "")  # a thread may go on while other cells run
    message = shell.get_parent()
    return Cell(message.get("metadata", {}).get("cellId") or "", message.get("header", {}).get("msg_id") or "")


def _end_forgotten(end: Ending) -> None:
    if end in _entries:
        with contextlib.suppress(RuntimeError):  # no thread starts while the interpreter ends, and all ends then
            threading.Thread(target=end, name="zmqlab-forgotten").start()


def _row(cluster: Cluster) -> tuple[object, ...]:
    leader = cluster.feed.leader_among(cluster.running) or "-"
    return (cluster.name, len(cluster.nodes), len(cluster.running), leader, cluster.run_dir)


atexit.register(stop_all)
