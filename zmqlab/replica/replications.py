"""Which ways to copy the log there are, by name; what each promises, and what it loses.

``zmqlab node --replication NAME`` and ``Cluster(replication=NAME)`` choose one of :data:`REPLICATIONS`. A name with a
colon is a person's own class: ``mymodule:MyClass`` is imported where a node starts, from the current folder or from
wherever Python finds modules (``docs/write-your-own.md``).

The registry also says what the verdict must know. ``not_promised`` names the checks that a run may break without a bug
in the program. They are broken all the same, and the verdict fails: a weak replication is not judged by a weaker rule.
The name of the promise that was never made is told beside it.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zmqlab.errors import SettingsError
from zmqlab.replica.broadcast import Broadcast
from zmqlab.replica.leader_answers import LeaderAnswers
from zmqlab.replica.primary_backup import PrimaryBackup
from zmqlab.replica.raft_by_quorum import RaftByQuorum
from zmqlab.replica.replication import MakeReplication
from zmqlab.settings import DEFAULT_REPLICATION, Ack, is_replication_name, require, require_choice

UNKNOWN = "only its author knows"
Needs = Literal["majority", "leader", "node", ""]
"""A majority of the voters; one node that leads; any node; or that is not known."""
_OWN = re.compile(r"(?P<module>[^:]+):(?P<name>[^:]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationKind:
    """One way to copy the log."""

    name: str
    """As in ``--replication NAME``."""
    make: MakeReplication
    promises: str
    """What an acknowledgement means, in a few words."""
    loses: str
    """What is lost, and when."""
    not_promised: frozenset[str] = frozenset()
    """Names of the verdict's checks that it does not promise to keep."""
    needs: Needs = ""
    """What must run and hear each other, so that orders are acknowledged."""


class Registry:
    """All kinds of replication, in the order of their registration."""

    def __init__(self) -> None:
        self._kinds: dict[str, ReplicationKind] = {}

    def register(self, kind: ReplicationKind) -> ReplicationKind:
        """Add one. Raises ValueError if its name is taken."""
        if kind.name in self._kinds:
            raise ValueError(f"a replication is called {kind.name!r} already: choose another name")
        self._kinds[kind.name] = kind
        return kind

    def remove(self, name: str) -> None:
        """Take one out again."""
        del self._kinds[name]

    def __iter__(self) -> Iterator[ReplicationKind]:
        return iter(tuple(self._kinds.values()))

    @property
    def names(self) -> str:
        """All names, for a message."""
        return ", ".join(self._kinds)

    def known(self, name: str) -> ReplicationKind | None:
        """The kind that is registered under ``name``; None if there is none. Nothing is imported."""
        return self._kinds.get(name)

    def find(self, name: str) -> ReplicationKind:
        """The kind called ``name``, or the class at the import path ``module:Class``.

        Raises:
            SettingsError: there is none of that name, or the class can't be imported.
        """
        kind = self._kinds.get(name)
        if kind is not None:
            return kind
        self.expect(name)
        return _imported(name)

    def expect(self, name: str) -> None:
        """Raise SettingsError unless ``name`` is a registered one, or has the form of an import path."""
        if name not in self._kinds and not (is_replication_name(name) and ":" in name):
            raise SettingsError(f"replication {name!r}: choose {self.names}, or module:Class for one of your own")


def _imported(path: str) -> ReplicationKind:
    """The class at ``module:Class``. Raises SettingsError."""
    match = _OWN.fullmatch(path)
    assert match is not None, path
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        make = getattr(importlib.import_module(match["module"]), match["name"])
    except Exception as error:  # whatever a person's module raises
        reason = f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"replication {path!r} can't be imported: {' '.join(reason.split())}. Give its module's folder in"
            " PYTHONPATH, or start in it"
        ) from None
    if not callable(make):
        raise SettingsError(f"replication {path!r} is no class: it is {make!r:.60}")
    said = " ".join((make.__doc__ or "").split("\n\n")[0].split())
    return ReplicationKind(name=path, make=make, promises=said or UNKNOWN, loses=UNKNOWN)


def replication_of(name: str, ack: Ack) -> str:
    """The name of the replication that answers as ``ack`` says.

    Raises:
        SettingsError: ``ack`` is none, or it is not the choice of this replication.
    """
    require_choice("ack", ack, Ack)
    if ack != "leader" or name == LEADER_ACK:
        return name
    require(name == DEFAULT_REPLICATION, f"replication {name} answers in its own way: leave out ack, or take raft")
    return LEADER_ACK


AHEAD = frozenset(
    (
        *("nothing lost", "nothing twice", "order agrees", "totals agree", "answers agree", "reads agree"),
        *("one log", "nodes agree"),
    )
)
"""What a replication can't keep whose nodes apply, answer and tell what the group may lose."""

REPLICATIONS = Registry()
LEADER_ACK = "leader-ack"

for _kind in (
    ReplicationKind(
        name=DEFAULT_REPLICATION,
        make=RaftByQuorum,
        promises="a majority has stored what is acknowledged",
        loses="nothing, while a majority of journals survives",
        needs="majority",
    ),
    ReplicationKind(
        name=LEADER_ACK,
        make=LeaderAnswers,
        promises="the leader has stored and applied what is acknowledged",
        loses="the last orders of a leader that dies, or is cut off, before a majority has them",
        not_promised=AHEAD,
        needs="majority",
    ),
    ReplicationKind(
        name="primary-backup",
        make=PrimaryBackup,
        promises="the primary has stored and applied what is acknowledged",
        loses="what a primary that dies has not sent on, and under a partition all that one of the two sides answered",
        not_promised=AHEAD,
        needs="leader",
    ),
    ReplicationKind(
        name="broadcast",
        make=Broadcast,
        promises="one node has stored and applied what is acknowledged, in a sequence of its own",
        loses="the order of things: nodes differ from the first two orders on that came to two nodes at once, or from"
        " the first broadcast on that was lost",
        not_promised=AHEAD | {"log complete"},
        needs="node",
    ),
):
    REPLICATIONS.register(_kind)
