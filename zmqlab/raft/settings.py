"""The few numbers that a Raft core is told, each with its unit and each checked.

Time is counted in ticks; what a tick is in milliseconds is the driver's business. The thesis (section 3.9)
wants the broadcast time to be an order of magnitude below the election timeout; here that is
``heartbeat_ticks`` against ``election_ticks``, so that several heartbeats may be lost before anyone
campaigns."""

from __future__ import annotations

from dataclasses import dataclass, fields

from zmqlab.errors import SettingsError


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """The settings of one core. All members of a group should have the same ones."""

    election_ticks: int = 15
    """The minimum election timeout; each timeout is drawn from ``[election_ticks, 2 * election_ticks)``. It
    is also for how long a vote is refused after a leader was heard, and after how long of silence a leader
    steps down."""
    heartbeat_ticks: int = 4
    """How often a leader that has nothing to say says so."""
    max_append_bytes: int = 1_048_576
    """About how many bytes of entries one AppendEntries carries; a single larger entry still travels,
    alone."""
    max_inflight: int = 8
    """How many unicast AppendEntries may be under way to one follower that is catching up."""
    max_apply_bytes: int = 262_144
    """About how many bytes of committed entries one Ready hands out, so that a restart replays in
    portions: 6,000 orders are some 80 ms of work, well below an election timeout."""
    snapshot_chunk_bytes: int = 262_144
    """How much of a snapshot one InstallSnapshot carries."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise SettingsError(f"{field.name} is {value!r}, but must be an integer of at least 1")
        if self.heartbeat_ticks >= self.election_ticks:
            raise SettingsError(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be below election_ticks {self.election_ticks}"
            )
