"""What a load client leaves behind, written while it runs, so that the verdict has it however the run ends.

A load process may be killed, run out of descriptors, or meet a bug of its own. What the cluster had promised to it by
then must still be judged. So it writes to a folder as it goes, and its parent reads the folder when the process has
ended:

- ``ledger-0``, ``ledger-1``, ...: for each acknowledged request a record of 56 bytes (:data:`RECORD`, :class:`Ledger`).
- ``story``: what the run was to do, its counts and histograms second by second, the books that it read, and its end.
  Each message is msgpack behind its length and its CRC-32.

Rules. Files are only appended to. What was acknowledged is handed to the system at least every 20 ms, each second of
the story at once; the death of the process does not undo that. (Nothing is synced: a power cut ends the parent, too.)
A reader stops at the first message that is cut or damaged, and leaves out a cut last record. A file that can't be
written ends no run: :attr:`RunRecord.problem` says why, and the verdict is told that evidence is missing.

Bounds. A ledger has room for so many records. The first half of them are the first ones of the run, and the others are
the newest: a cluster that loses its past loses the beginning, and one that is rolled back loses the end. The newest are
kept in segments of a quarter of the room; when one is begun, the last but one goes. The story takes some kilobytes a
second.

Without a folder all of it stays in memory; that is for a load client in its caller's own process.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import msgspec
import numpy as np

from zmqlab.load.load_messages import GroupShare, LoadCounters, LoadResult, ReadOutcome, Second
from zmqlab.load.load_report import response_time_of, service_time_of
from zmqlab.load.order_flow import Rows

RECORD = np.dtype(
    [
        ("client_id", "<u8"),
        ("request_number", "<u8"),
        ("log_index", "<u8"),
        ("invoked_ns", "<i8"),
        ("completed_ns", "<i8"),
        ("orders", "<u4"),
        ("answer_crc", "<u4"),
        ("commands_crc", "<u4"),
        ("node", "u1"),
        ("clock", "u1"),
        ("flags", "u1"),
        ("group", "u1"),
    ]
)
"""``clock``: the number of the generator, where the records of several are in one ledger; its times are on a clock of
its own (:mod:`zmqlab.load.merged_load`). A generator writes 0. ``group``: the Raft group that the session belongs to.
Session ids and log indexes are of that group: those of two groups have nothing to do with each other."""
NODE_MAX = 255
"""Of ``node``: the place of the endpoint among those that the generator has known. Any later one is this."""
Entry = tuple[int, int, int, int, int, int, int, int, int, int, int]
"""One record's fields, in order; without the clock."""
SEGMENTS = 4
"""Of a full ledger: two for the beginning, two for the newest."""
FLUSH_BYTES = 262_144
"""A busy second's records are written in pieces of this size, if they do not wait for the next 20 ms."""
TAIL_RECORDS = 100_000
"""5.6 MB: more than two seconds at 40,000 requests a second."""
STORY = "story"
LEDGER = "ledger-"
_PACK = struct.Struct("<QQQqqIIIBxBB").pack
_HEAD = struct.Struct("<II")
"""Of a message of the story: its length and its CRC-32."""
NS_PER_S = 1_000_000_000


class RunBegun(msgspec.Struct, tag="begun"):
    """The sessions are open, and the first order is about to be sent."""

    name: str
    settings: dict[str, Any]
    client_ids: list[int]
    started_ns: int
    started_monotonic_ns: int
    client_groups: list[int] = []
    """As of :class:`~zmqlab.load.load_messages.LoadResult`."""


class RunSecond(msgspec.Struct, tag="second"):
    """One second, and the books that were read in it."""

    second: Second
    reads: list[ReadOutcome]


class RunEnded(msgspec.Struct, tag="ended"):
    """The result, but for what stands in the story and in the ledger already."""

    result: LoadResult


class RunFailed(msgspec.Struct, tag="failed"):
    """The run never began. ``kind`` is the name of a class of :mod:`zmqlab.errors`."""

    kind: str
    message: str


Message = RunBegun | RunSecond | RunEnded | RunFailed
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Ledger:
    """Remembers what the cluster has promised: the first requests of a run, and the newest."""

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        """At most ``limit`` records are kept; with fewer than four, none."""
        self.count = 0
        """Records that were appended, kept or not."""
        self.problem = ""
        """Why nothing is written any more, if so."""
        self._size = limit // SEGMENTS
        self._folder = folder
        self._segments: dict[int, BinaryIO] = {}
        """By number, those that are kept. All but the last one are full."""
        self._pending = bytearray()
        """Records of the last segment that are not written yet."""

    def append(self, entry: Entry) -> None:
        """Remember one acknowledged request."""
        self.count += 1
        if not self._size:
            return
        self._pending += _PACK(*entry)
        if self.count % self._size == 0 or len(self._pending) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was remembered to the system."""
        if self._pending and not self.problem:
            try:
                _write(self._segment((self.count - 1) // self._size), self._pending)
            except OSError as error:
                self.problem = f"the ledger of acknowledged requests can't be written: {error}"
        self._pending.clear()

    def to_bytes(self) -> bytes:
        """All records that are kept, oldest first; only without a folder."""
        self.flush()
        return b"".join(each.getvalue() for each in self._segments.values() if isinstance(each, io.BytesIO))

    def close(self) -> None:
        """Flush, and close the files; what is in memory is gone then."""
        self.flush()
        for each in self._segments.values():
            each.close()

    def _segment(self, number: int) -> BinaryIO:
        if number not in self._segments:
            self._forget(number - SEGMENTS // 2)
            folder = self._folder
            self._segments[number] = io.BytesIO() if folder is None else _new_file(folder / f"{LEDGER}{number}")
        return self._segments[number]

    def _forget(self, number: int) -> None:
        if number >= SEGMENTS // 2:
            self._segments.pop(number).close()
            if self._folder is not None:
                (self._folder / f"{LEDGER}{number}").unlink(missing_ok=True)


class RunRecord:
    """Writes the record of one run; see the module."""

    def __init__(self, ledger_limit: int, folder: Path | None = None) -> None:
        self.ledger = Ledger(ledger_limit, folder)
        self._folder = folder
        self._story: BinaryIO | None = None if folder is None else _new_file(folder / STORY)
        self._story_problem = ""
        self._reads: list[ReadOutcome] = []
        """Of the second under way."""
        self._kept: list[RunSecond] = []
        """All seconds, if there is no folder."""

    @property
    def problem(self) -> str:
        """Why evidence is missing, if it is."""
        return self.ledger.problem or self._story_problem

    def begin(self, begun: RunBegun) -> None:
        """The run begins."""
        self._tell(begun)

    def read(self, reads: Sequence[ReadOutcome]) -> None:
        """Books were read."""
        self._reads += reads

    def second(self, second: Second) -> None:
        """A second is over."""
        told, self._reads = RunSecond(second, self._reads), []
        if self._story is None:
            self._kept.append(told)
        self._tell(told)

    def end(self, result: LoadResult) -> LoadResult:
        """The run has ended; returns its result with all that is in memory."""
        self.ledger.flush()
        result.problem = result.problem or self.problem
        self._tell(RunEnded(result))
        self._close()
        return result if self._story is not None else _completed(result, self._kept, self.ledger.to_bytes())

    def fail(self, error: Exception) -> None:
        """The run never began."""
        self._tell(RunFailed(type(error).__name__, str(error)))
        self._close()

    def _close(self) -> None:
        if self._story is not None:
            self.ledger.close()
            self._story.close()

    def _tell(self, message: Message) -> None:
        if self._story is None or self._story_problem:
            return
        data = msgspec.msgpack.encode(message)
        try:
            _write(self._story, _HEAD.pack(len(data), crc32(data)) + data)
        except OSError as error:
            self._story_problem = f"the story of the run can't be written: {error}"


@dataclass(slots=True)
class _Story:
    """What was read of a story."""

    begun: RunBegun | None = None
    seconds: list[RunSecond] = field(default_factory=list)
    ended: RunEnded | None = None
    failed: RunFailed | None = None


def read_run(folder: Path, cause: str) -> LoadResult | RunFailed | None:
    """The result of the run that wrote ``folder``, pieced together if the run did not come to its end.

    Args:
        folder: where a :class:`RunRecord` wrote.
        cause: what ended the load process, for the result of a run that did not tell its end.

    Returns None if the folder does not even say that a run began.
    """
    story = _read_story(folder / STORY)
    if story.begun is None or story.failed is not None:
        return story.failed
    ledger = b"".join(_whole_records(path.read_bytes()) for path in _segments_in(folder))
    result = story.ended.result if story.ended else _pieced_together(story.begun, story.seconds, ledger, cause)
    return _completed(result, story.seconds, ledger)


class LedgerTail:
    """Reads a ledger along while another process writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segment = 0
        self._read_bytes = 0
        """Of this segment; whole records."""

    def read(self, most: int = TAIL_RECORDS) -> Rows:
        """The records that were written since the last call, ``most`` of them at a time, oldest first. Those of a
        segment that went before it was read are left out."""
        parts: list[bytes] = []
        room = most * RECORD.itemsize
        while room > 0:
            known = [int(path.name.removeprefix(LEDGER)) for path in _segments_in(self._folder)]
            data = self._more(room) if self._segment in known else b""
            parts.append(data)
            room -= len(data)
            later = [number for number in known if number > self._segment]
            if data or not later:
                break
            self._segment, self._read_bytes = later[0], 0
        return read_ledger(b"".join(parts))

    def _more(self, room: int) -> bytes:
        try:
            with open(self._folder / f"{LEDGER}{self._segment}", "rb") as file:
                file.seek(self._read_bytes)
                data = _whole_records(file.read(room))
        except FileNotFoundError:  # it went in this moment
            return b""
        self._read_bytes += len(data)
        return data


class LedgerTails:
    """Reads the ledgers of several load generators along, as one.

    Generators on other machines have other clocks. Of their records the time of the answer is when they were read here;
    which part of a second they lay on the way is not known.
    """

    def __init__(self, folders: Mapping[Path, bool]) -> None:
        """``folders``: where each writes, or where its record comes in -> whether its clock is that of this process."""
        self._tails = [(LedgerTail(folder), is_own_clock) for folder, is_own_clock in folders.items()]

    def read(self, now_ns: int) -> Rows:
        """The records that were written since the last call, of one ledger after the other.

        ``now_ns``: on the monotonic clock of this process.
        """
        parts = []
        for tail, is_own_clock in self._tails:
            rows = tail.read().copy()
            if not is_own_clock:
                rows["completed_ns"] = now_ns
            parts.append(rows)
        return np.concatenate(parts)


def kept_for_good(limit: int) -> int:
    """How many of the first records a ledger with room for ``limit`` keeps; behind them are the newest."""
    return limit // SEGMENTS * (SEGMENTS // 2)


def read_ledger(data: bytes) -> Rows:
    """The records of a ledger, as an array with named fields."""
    return np.frombuffer(data, RECORD)


def _new_file(path: Path) -> BinaryIO:
    return open(path, "xb", buffering=0)  # closed when the run has ended


def _write(file: BinaryIO, data: bytes | bytearray) -> None:
    if file.write(data) != len(data):
        raise OSError("no room for all of it")


def _segments_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(LEDGER + "*"), key=lambda path: int(path.name.removeprefix(LEDGER)))


def _whole_records(data: bytes) -> bytes:
    return data[: len(data) - len(data) % RECORD.itemsize]


def _read_story(path: Path) -> _Story:
    story = _Story()
    for message in _messages(path.read_bytes() if path.exists() else b""):
        if isinstance(message, RunBegun):
            story.begun = message
        elif isinstance(message, RunSecond):
            story.seconds.append(message)
        elif isinstance(message, RunEnded):
            story.ended = message
        else:
            story.failed = message
    return story


def _messages(data: bytes) -> Iterator[Message]:
    """The messages up to the end, or up to the first one that is cut or damaged."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        message = data[at : at + length]
        at += length
        if len(message) < length or crc32(message) != crc:
            return
        yield _decoder.decode(message)


def _completed(result: LoadResult, seconds: Sequence[RunSecond], ledger: bytes) -> LoadResult:
    """The result with what stands outside of it in a record."""
    result.seconds = [each.second for each in seconds]
    result.book_reads = [read for each in seconds for read in each.reads]
    result.ledger = ledger
    result.unremembered = result.total.requests - len(ledger) // RECORD.itemsize
    return result


def _pieced_together(begun: RunBegun, seconds: Sequence[RunSecond], ledger: bytes, cause: str) -> LoadResult:
    """A result from the seconds that were told, and from what was acknowledged after the last of them."""
    told, total = [each.second for each in seconds], LoadCounters()
    for second in told:
        total = total.plus(second.counters)
    response, service = response_time_of(told), service_time_of(told)
    told_s = seconds[-1].second.start_s + seconds[-1].second.length_s if seconds else 0.0
    rows = read_ledger(ledger)
    later = rows[rows["completed_ns"] > begun.started_monotonic_ns + round(told_s * NS_PER_S)]
    total.requests += len(later)
    total.acknowledged += int(later["orders"].sum())
    total.sent = max(total.sent, total.acknowledged)
    total.offered = max(total.offered, total.sent)
    last_ns = int(rows["completed_ns"].max()) if len(rows) else 0
    lasted_s = max(told_s, (last_ns - begun.started_monotonic_ns) / NS_PER_S)
    gap_ns, gap_from_ns = _longest_gap(rows) if len(rows) == total.requests else (0, 0)
    return LoadResult(
        name=begun.name,
        settings=begun.settings,
        client_ids=begun.client_ids,
        client_groups=begun.client_groups,
        groups=_shares_of(rows, begun.client_groups),
        started_ns=begun.started_ns,
        started_monotonic_ns=begun.started_monotonic_ns,
        sending_s=lasted_s,
        elapsed_s=lasted_s,
        closed_loop=begun.settings.get("rate") is None,
        total=total,
        response_time=response.to_sparse(),
        response_time_max_ns=response.max,
        service_time=service.to_sparse(),
        service_time_max_ns=service.max,
        longest_gap_ms=gap_ns / 1e6,
        longest_gap_at_s=max(gap_from_ns - begun.started_monotonic_ns, 0) / NS_PER_S,
        problem=f"{cause}, {lasted_s:.1f} s after the first order was due",
    )


def _shares_of(rows: Rows, client_groups: Sequence[int]) -> list[GroupShare]:
    """What each group acknowledged, as far as the ledger has it; none if there is one group."""
    shares = []
    for group in sorted(set(client_groups)):
        own = rows[rows["group"] == group]
        gap_ns, _ = _longest_gap(own)
        shares.append(
            GroupShare(
                group=group, requests=len(own), acknowledged=int(own["orders"].sum()), longest_gap_ms=gap_ns / 1e6
            )
        )
    return shares


def _longest_gap(rows: Rows) -> tuple[int, int]:
    """The longest time between two acknowledgements, and when it began; (0, 0) if there are fewer than two."""
    times = np.sort(rows["completed_ns"])
    if len(times) < 2:
        return 0, 0
    gaps = np.diff(times)
    longest = int(gaps.argmax())
    return int(gaps[longest]), int(times[longest])
