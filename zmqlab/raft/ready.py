"""What a driver is to do next, in this order.

1. send ``send_now``
2. store ``hard_state``, ``snapshot`` and ``entries``, in one transaction
3. send ``send_stored``
4. take ``snapshot`` over, then apply ``committed``
5. ``advance(ready)``

Steps 1 and 2 may overlap: what is sent at once promises nothing about this node's disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zmqlab.raft.messages import Entry, HardState, Message, Snapshot


@dataclass(slots=True)
class Ready:
    """One turn's work. All fields may be empty."""

    send_now: list[Message] = field(default_factory=list)
    """Send before storing, or while storing."""
    hard_state: HardState | None = None
    """Replaces the stored one."""
    entries: list[Entry] = field(default_factory=list)
    """To store. They may start at or below the last stored index: then the stored entries from there on go
    first."""
    snapshot: Snapshot | None = None
    """A received one. It replaces the stored log, the stored snapshot and the state machine."""
    send_stored: list[Message] = field(default_factory=list)
    """Votes and answers, which promise what this turn stores."""
    committed: list[Entry] = field(default_factory=list)
    """To apply, each exactly once and in order; of any kind."""
    reads: list[tuple[int, int]] = field(default_factory=list)
    """``(context, index)``: the read may be answered as soon as ``index`` is applied."""
    failed_reads: list[int] = field(default_factory=list)
    """Contexts of reads that got no answer; they may be asked again."""
    role_changed: bool = False
    """Role, term or leader are not what they were at the last Ready."""
