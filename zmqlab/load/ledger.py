"""What the cluster has promised: one record for each acknowledged request, kept for the verdict.

52 bytes a request. Times are of the monotonic clock, which all processes of a machine share. ``invoked_ns`` is the
first time that the request was handed to a socket, so that the request took effect between ``invoked_ns`` and
``completed_ns`` if the cluster is linearizable. ``answer_crc`` is the CRC-32 of the report and fill records as they
came: the verdict replays the log and compares.
"""

from __future__ import annotations

import numpy as np

from zmqlab.load.layout import Rows

RECORD = np.dtype(
    [
        ("client_id", "<u8"),
        ("request_number", "<u8"),
        ("log_index", "<u8"),
        ("invoked_ns", "<i8"),
        ("completed_ns", "<i8"),
        ("orders", "<u4"),
        ("answer_crc", "<u4"),
        ("node", "<u2"),
        ("flags", "<u2"),
    ]
)
BLOCK = 4_096
Entry = tuple[int, int, int, int, int, int, int, int, int]
"""One record's fields, in order."""


class Ledger:
    """Appends cheaply, and stops remembering at ``limit`` records."""

    def __init__(self, limit: int) -> None:
        self.unremembered = 0
        """Records beyond the limit."""
        self._limit = limit
        self._count = 0
        self._blocks: list[Rows] = []
        self._recent: list[Entry] = []
        """Not yet packed; below BLOCK."""

    def append(self, entry: Entry) -> None:
        """Remember one acknowledged request."""
        if self._count >= self._limit:
            self.unremembered += 1
            return
        self._count += 1
        self._recent.append(entry)
        if len(self._recent) >= BLOCK:
            self._pack()

    def __len__(self) -> int:
        return self._count

    def to_bytes(self) -> bytes:
        """All records, in the order of their completion."""
        self._pack()
        return b"".join(block.tobytes() for block in self._blocks)

    def _pack(self) -> None:
        if self._recent:
            self._blocks.append(np.array(self._recent, RECORD))
            self._recent = []


def read_ledger(data: bytes) -> Rows:
    """The records of :meth:`Ledger.to_bytes`, as an array with named fields."""
    return np.frombuffer(data, RECORD)
