"""How far the clock of another machine is from the one here, and how surely that is known.

A question and its answer give one sample, by the four times of NTP (RFC 5905, section 8): sent and got on the clock
here, received and answered on the clock there. The offset can't be known better than half the way there and back: the
two halves may differ. So the sample of the shortest way counts. Its uncertainty grows with its age by the drift that
NTP allows for. An offset that is smaller than its uncertainty is taken for none, and widens it.

Rules: no socket. Callers ask, and tell what came.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset

CLOCK_SAMPLES = 16
"""That are kept: half a minute and more of questions."""
DRIFT = 15e-6
"""By how much two disciplined clocks part in a second (PHI in RFC 5905)."""


@dataclass
class ClockSamples:
    """What is known of the clock of one machine."""

    samples: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=CLOCK_SAMPLES))
    """(offset, uncertainty, when on the monotonic clock), each in nanoseconds."""

    def sample(self, sent_ns: int, received_ns: int, answered_ns: int, got_ns: int) -> None:
        """The four times of a question; see the module."""
        offset_ns = ((received_ns - sent_ns) + (answered_ns - got_ns)) // 2
        way_ns = (got_ns - sent_ns) - (answered_ns - received_ns)
        self.samples.append((offset_ns, max(1, way_ns // 2), time.monotonic_ns()))

    def offset(self) -> ClockOffset:
        """See the module."""
        now_ns = time.monotonic_ns()
        aged = [
            (uncertainty_ns + round((now_ns - at_ns) * DRIFT), offset_ns)
            for offset_ns, uncertainty_ns, at_ns in tuple(self.samples)
        ]
        if not aged:
            return SAME_CLOCK
        uncertainty_ns, offset_ns = min(aged)
        if abs(offset_ns) <= uncertainty_ns:
            return ClockOffset(0, abs(offset_ns) + uncertainty_ns)
        return ClockOffset(offset_ns, uncertainty_ns)
