"""A node that notes when each step of its turns begins and ends, for ``timeline.py``.

``python benchmarks/stamped_node.py NODE-FLAGS`` takes those of ``python -m zmqlab.node``. The notes are
``[nanoseconds, step, is_end]`` of the clock that all processes of a machine share; they go to the folder in
``ZMQLAB_STAMPS`` when the node ends. A note takes half a microsecond, and there are some forty in a turn.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zmqlab import net
from zmqlab.engine import Engine, Group
from zmqlab.node import __main__ as node
from zmqlab.node.loop import Node
from zmqlab.node.transport import Transport
from zmqlab.replica import Replica

STEPS: tuple[tuple[type, str, str], ...] = (
    (net.Inlets, "wait", "wait"),
    (Node, "_drain", "take frames in"),
    (Replica, "begin_turn", "propose, or pass on"),
    (Replica, "take_ready", "what is to be done"),
    (Replica, "store", "store"),
    (Transport, "publish", "publish"),
    (Transport, "send_to", "send to a peer"),
    (Replica, "_apply", "apply"),
    (Group, "flush", "end of turn"),
    (Transport, "reply", "answer"),
    (Engine, "_publish_statuses", "status"),
)
"""What is noted: a method, and what it is called in the table."""
stamps: list[tuple[int, str, bool]] = []


def noted(method: Callable[..., Any], step: str) -> Callable[..., Any]:
    """``method``, noting when it begins and when it ends."""
    note, now = stamps.append, time.monotonic_ns

    def call(*arguments: Any, **named: Any) -> Any:
        note((now(), step, False))
        try:
            return method(*arguments, **named)
        finally:
            note((now(), step, True))

    return call


def main() -> int:
    """Run the node to its end."""
    for owner, name, step in STEPS:
        setattr(owner, name, noted(getattr(owner, name), step))
    status = node.main()
    (Path(os.environ["ZMQLAB_STAMPS"]) / f"{os.getpid()}.json").write_text(json.dumps(stamps))
    return status


if __name__ == "__main__":
    sys.exit(main())
