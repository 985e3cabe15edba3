"""Everything that happened in one run, as JSON for tools.

:func:`document` gives one object::

    {"format": "zmqlab sim trace", "version": 1, "seed": 7, "ok": true, "failure": "",
     "settings": {...}, "plan": {...}, "figures": {...}, "events": [...]}

``settings`` and ``plan`` are the fields of :class:`~zmqlab.sim.plan.SimSettings` and of the
:class:`~zmqlab.sim.plan.Plan` that the seed drew. Each event has ``at_us``, the virtual time in microseconds, and
``event``, which names its kind and its other fields:

========== ============================================================================================
event      fields
========== ============================================================================================
story      ``text``: a line of the story, as printed
frame      ``sender``, ``to``, ``type`` (as in docs/wire-format.md), ``bytes``, ``arrives_us``: when each copy
           is to arrive, none if it is lost
lost       ``sender``, ``to``: a copy that was under way went with its link
started    ``node``, ``term``, ``last_index``, ``applied_index``
crashed    ``node``, ``why``
leads      ``node``, ``term``
stored     ``node``, ``term`` and ``voted_for`` (null where they did not change), ``first_index`` and
           ``last_index`` of entries (null without entries), ``snapshot_index`` of a received one (or null)
applied    ``node``, ``index``, ``term``, ``kind``, ``chain``: the chain hash after it
invoked    ``client``, ``number``: an operation is sent for the first time; ``number`` as in the protocol
answered   ``client``, ``number``, ``index``: its answer has come, from this log index
========== ============================================================================================

In a run with shards ``leads``, ``stored`` and ``applied`` have ``group`` as well, the number of the Raft group.

Nodes are numbered from 1, clients from 101. Events stand in the order in which they happened; the same seed gives the
same file, byte for byte.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from zmqlab.sim.plan import Plan, SimSettings
from zmqlab.wire import frames

FORMAT, VERSION = "zmqlab sim trace", 1

_TYPES = {
    value: name.lower()
    for name, value in vars(frames).items()
    if name.isupper() and isinstance(value, int) and not name.startswith(("MAX_", "HEADER", "VERSION"))
}
"""Frame type -> its name in :mod:`zmqlab.wire.frames`."""


class Trace:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, at_us: int, event: str, **fields: Any) -> None:
        """Something happened."""
        self.events.append({"at_us": at_us, "event": event, **fields})

    def frame(self, at_us: int, sender: int, to: int, frame: bytes, arrives_us: list[int]) -> None:
        """A frame was sent."""
        kind = _TYPES.get(frames.parse_header(frame)[0], "?")
        self.add(at_us, "frame", sender=sender, to=to, type=kind, bytes=len(frame), arrives_us=arrives_us)


def document(
    trace: Trace, settings: SimSettings, plan: Plan, *, seed: int, failure: str, figures: dict[str, int]
) -> dict[str, Any]:
    """The whole file; see the module."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "seed": seed,
        "ok": not failure,
        "failure": failure,
        "settings": dataclasses.asdict(settings),
        "plan": {**dataclasses.asdict(plan), "make_replication": plan.make_replication.__name__},
        "figures": figures,
        "events": trace.events,
    }
