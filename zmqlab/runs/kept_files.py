"""The files of one repetition of a kept run: what they hold, how they are written, and how they are checked.

========================  =============================================================================================
``result.json``           what ``--json`` prints, and the load client's whole result
``seconds.csv``,          a row a second: orders offered, sent, acknowledged, failed; percentiles in milliseconds
``seconds.jsonl``
``events.jsonl``          what happened: elections, faults, changes; with the label that a chart shows
``faults.json``           what each fault cost (*cards*), and how long it lasted (*bands*)
``traces.json``           the slowest traced requests, and the elections; only if the run was traced
``latency.hlog``          both latencies, second by second, as an HdrHistogram log
``evidence.json``,        what the verdict was passed on: the nodes' words, acknowledged requests, the replicated log
``ledger.gz``, ``log.gz``
``evidence-3.json``,      with several Raft groups: the nodes' words and the log of each
``log-3.gz``
``contents.json``         length and CRC-32 of each of these files; written last
========================  =============================================================================================

Rules. Files are for their user alone (0600). Nothing is read before its length and its CRC-32 were compared with
``contents.json``: a damaged or cut file is noticed. No key is written: settings name no folder, evidence has none.

Left out on purpose: a log of more than :data:`LOG_BYTES_MAX`; with several Raft groups, each log that would make their
sum larger than that. The folder says so, and then the verdict can be read, but not passed again.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32, error

import msgspec

from zmqlab.errors import ClusterError, RunUnreadable
from zmqlab.judge.evidence import Acknowledgements, LogPiece
from zmqlab.judge.promises import BookRead, NodeEvidence, RunTotals
from zmqlab.judge.replay import LogEntry
from zmqlab.judge.run_evidence import RunEvidence
from zmqlab.keys import new_private_file
from zmqlab.lab.events import Span
from zmqlab.lab.fault_kinds import FAULTS
from zmqlab.lab.incidents import Incident, sort_of
from zmqlab.lab.load_client import JudgedRun
from zmqlab.lab.traced_parts import Part
from zmqlab.load.load_messages import LoadResult, Second
from zmqlab.load.load_report import LatencySummary, response_time_of, service_time_of
from zmqlab.load.run_record import RECORD
from zmqlab.runs.run_bands import bands_of, silences_of
from zmqlab.settings import reason_of
from zmqlab.wire.control import Event

RESULT, EVENTS, FAULTS_FILE, LATENCIES = "result.json", "events.jsonl", "faults.json", "latency.hlog"
SECONDS, SECONDS_CSV = "seconds.jsonl", "seconds.csv"
EVIDENCE, LEDGER, LOG = "evidence.json", "ledger.gz", "log.gz"
CONTENTS, TRACES = "contents.json", "traces.json"
LOG_BYTES_MAX = 256 << 20
"""Some four minutes at 20,000 orders/s; half of what nodes keep of their log."""
COMPRESSION = 1
"""Of gzip: a quarter of the size; higher levels gain little on orders."""
AS_TAKEN = ("asked", "compared", "unremembered", "mismatches", "totals", "parting", "replication", "group")
"""Fields of the evidence that are kept as they are."""
NS_PER_S = 1_000_000_000
_HEAD = struct.Struct("<QQII")
"""Before each entry of the log: index, term, kind, and the length of its data."""
Told = TypeVar("Told")


class SecondRow(msgspec.Struct, kw_only=True):
    """One second of a run. Milliseconds are None if nothing was acknowledged in it."""

    at_s: float
    """Since the first order was due."""
    length_s: float
    offered: int
    sent: int
    acknowledged: int
    failed: int
    rejected: int
    retries: int
    response_p50_ms: float | None
    response_p90_ms: float | None
    response_p99_ms: float | None
    response_p99_9_ms: float | None
    response_max_ms: float | None
    service_p50_ms: float | None
    service_p99_ms: float | None
    service_max_ms: float | None


class EventRow(msgspec.Struct, kw_only=True):
    """One event."""

    at_s: float
    """Since the first order was due; negative before."""
    time_ns: int
    """On the wall clock."""
    node: str
    kind: str
    term: int
    text: str
    label: str
    """What a chart writes at its line; empty: it has none."""
    sort: str
    """``fault``, ``change``, ``election``, or empty."""


class KeptFaults(msgspec.Struct, kw_only=True):
    """What broke, or was broken. Times are on the wall clock, in nanoseconds."""

    cards: list[Incident]
    bands: list[Span]


class KeptVerdict(msgspec.Struct):
    """What :meth:`~zmqlab.judge.verdict.Verdict.as_dict` said."""

    checks: list[dict[str, Any]]
    coverage: str
    nodes: list[dict[str, Any]]
    commands: tuple[int, int] = (0, 0)
    groups: dict[int, KeptVerdict] = {}
    """Folders of older versions have neither."""


class KeptResult(msgspec.Struct, kw_only=True):
    """What is read of ``result.json``; it has more for people and for other tools."""

    load: LoadResult
    """Without the seconds, the ledger and the books that were read."""
    elections: int
    exchange: str
    thresholds: list[dict[str, Any]]
    """:class:`~zmqlab.judge.thresholds.ThresholdCheck` by its fields, as are the tuples in the verdict."""
    verdict: KeptVerdict


class KeptEvidence(msgspec.Struct, kw_only=True):
    """A :class:`~zmqlab.judge.run_evidence.RunEvidence`, but for the ledger and the log."""

    asked: int
    nodes: list[NodeEvidence]
    first_index: int | None
    """Of the log; None: the log is not here, and ``log_problem`` says why."""
    log_problem: str
    conflicts: list[str]
    compared: int | None
    unremembered: int
    mismatches: int
    leaders: dict[int, list[str]] | None
    reads: list[BookRead] | None
    totals: RunTotals | None
    parting: str = ""
    replication: str = ""
    group: int | None = None
    groups: list[int] = []
    """The Raft groups, if there are several; the evidence of each is in a file of its own."""
    limits: dict[str, Any]


class KeptFile(msgspec.Struct):
    """What a file must be."""

    bytes: int
    crc32: int


# -- writing -------------------------------------------------------------------------------------------------------


def write_repetition(folder: Path, run: JudgedRun) -> None:
    """Write all files of one repetition into ``folder``, which is made.

    Raises:
        OSError: there is no room, or no right to write.
        ClusterError: the evidence is gone, because the load client was closed.
    """
    folder.mkdir(0o700)
    outcome = run.result.report.result
    rows = [_row_of(each) for each in outcome.seconds]
    kept = msgspec.to_builtins(msgspec.structs.replace(outcome, seconds=[], ledger=b"", book_reads=[]))
    write_json(folder / RESULT, run.result.as_dict() | {"load": kept})
    _write(folder / SECONDS, _lines(rows))
    _write(folder / SECONDS_CSV, _csv(rows))
    _write(folder / EVENTS, _lines([_event_row(each, outcome.started_ns) for each in run.events]))
    bands = [*bands_of(run.events, outcome), *silences_of(outcome)]
    write_json(folder / FAULTS_FILE, KeptFaults(cards=[*run.incidents], bands=bands))
    _write(folder / LATENCIES, b"")  # for its mode
    run.result.export_hdr(folder / LATENCIES)
    _write_evidence(folder, run)
    if run.traced:
        write_json(folder / TRACES, [*run.traced])
    contents = {path.name: KeptFile(path.stat().st_size, _crc_of(path)) for path in sorted(folder.iterdir())}
    write_json(folder / CONTENTS, contents)


def _write_evidence(folder: Path, run: JudgedRun) -> None:
    _pack(folder / LEDGER, [run.result.report.result.ledger])
    room = LOG_BYTES_MAX
    for taken in (run.evidence, *run.evidence.groups.values()):
        room -= _write_evidence_of(taken, folder, run.limits, room)


def _of_group(name: str, group: int | None) -> str:
    """The name of a file with what belongs to one of several groups: ``log-3.gz``."""
    stem, dot, kind = name.partition(".")
    return name if group is None else f"{stem}-{group}{dot}{kind}"


def _write_evidence_of(taken: RunEvidence, folder: Path, limits: dict[str, Any], room: int) -> int:
    """Write one group's evidence, with a log of at most ``room`` bytes; how many of them were written."""
    log = folder / _of_group(LOG, taken.group)
    problem, size = taken.log_problem, 0
    if taken.log is not None:
        try:
            _pack(log, _entries(taken.log.entries, room))
            size = sum(len(entry.data) for entry in taken.log.entries)
        except _TooLarge:
            log.unlink()
            which = "the log" if taken.group is None else "the groups' logs together"
            problem = f"the log was not kept: {which} would be larger than {LOG_BYTES_MAX >> 20} MiB"
        except ValueError:  # its file was closed
            raise ClusterError(
                "the log of the run went with its load client: keep a run before load.close(), and before its cluster"
                " stops"
            ) from None
    kept = KeptEvidence(
        nodes=[*taken.nodes],
        first_index=taken.log.first_index if taken.log is not None and log.exists() else None,
        log_problem=problem,
        conflicts=[str(each) for each in taken.conflicts],
        leaders=None if taken.leaders is None else {term: sorted(names) for term, names in taken.leaders.items()},
        reads=None if taken.reads is None else [*taken.reads],
        groups=[*taken.groups],
        limits=limits,
        **{name: getattr(taken, name) for name in AS_TAKEN},
    )
    write_json(folder / _of_group(EVIDENCE, taken.group), kept)
    return size


class _TooLarge(Exception):
    """The log has more bytes than are kept."""


def _entries(entries: Sequence[LogEntry], bytes_max: int) -> Iterator[bytes]:
    size = 0
    for entry in entries:
        size += len(entry.data)
        if size > bytes_max:
            raise _TooLarge
        yield _HEAD.pack(entry.log_index, entry.term, entry.kind, len(entry.data)) + entry.data


def write_json(path: Path, value: Any) -> None:
    """Write a new file, for this user alone, that people can read as well. Raises OSError."""
    _write(path, msgspec.json.format(msgspec.json.encode(value)))


def _write(path: Path, data: bytes) -> None:
    with new_private_file(path) as file:
        file.write(data)


def _pack(path: Path, pieces: Sequence[bytes] | Iterator[bytes]) -> None:
    with new_private_file(path) as file, gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed:
        for piece in pieces:
            packed.write(piece)


def _crc_of(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            crc = crc32(piece, crc)
    return crc


def _lines(rows: Sequence[msgspec.Struct]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _csv(rows: Sequence[SecondRow]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(SecondRow.__struct_fields__)
    table.writerows(msgspec.structs.astuple(row) for row in rows)
    return text.getvalue().encode()


def _row_of(second: Second) -> SecondRow:
    response = LatencySummary.of(response_time_of([second]))
    service = LatencySummary.of(service_time_of([second]))
    counters = second.counters
    said = {f"response_{name}": value for name, value in response.as_dict().items()}
    said |= {f"service_{name}": value for name, value in service.as_dict().items()}
    return SecondRow(
        at_s=second.start_s,
        length_s=second.length_s,
        offered=counters.offered,
        sent=counters.sent,
        acknowledged=counters.acknowledged,
        failed=counters.failed,
        rejected=counters.rejected,
        retries=counters.retries,
        **{name: value for name, value in said.items() if name in SecondRow.__struct_fields__},
    )


def _event_row(event: Event, started_ns: int) -> EventRow:
    mark = FAULTS.marks.get(event.kind)
    return EventRow(
        at_s=(event.time_ns - started_ns) / NS_PER_S,
        time_ns=event.time_ns,
        node=event.node,
        kind=event.kind,
        term=event.term,
        text=event.text,
        label="" if mark is None else mark.label_of(event),
        sort=sort_of(event),
    )


# -- reading -------------------------------------------------------------------------------------------------------


class KeptFiles:
    """The files of one repetition, read and checked one by one as they are asked for.

    Raises:
        RunUnreadable: from each method; a file is missing, or is not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents: dict[str, KeptFile] = decoded(
            folder / CONTENTS, _bytes_of(folder / CONTENTS), dict[str, KeptFile]
        )

    def result(self) -> KeptResult:
        """``result.json``."""
        return self._decoded(RESULT, KeptResult)

    def seconds(self) -> list[SecondRow]:
        """``seconds.jsonl``."""
        return self._rows(SECONDS, SecondRow)

    def events(self) -> list[EventRow]:
        """``events.jsonl``."""
        return self._rows(EVENTS, EventRow)

    def faults(self) -> KeptFaults:
        """``faults.json``."""
        return self._decoded(FAULTS_FILE, KeptFaults)

    def traced(self) -> list[Part]:
        """``traces.json``; empty if nothing was traced."""
        return self._decoded(TRACES, list[Part]) if TRACES in self._contents else []

    def evidence(self) -> tuple[RunEvidence, dict[str, Any]]:
        """What a verdict is passed on, and how far the first one went."""
        ledger = self._unpacked(LEDGER)
        if len(ledger) % RECORD.itemsize:
            raise RunUnreadable(f"{self.folder / LEDGER} is damaged: its last record is cut")
        taken, kept = self._evidence_of(ledger, None)
        groups = {group: self._evidence_of(ledger, group)[0] for group in kept.groups}
        return replace(taken, groups=groups), kept.limits

    def _evidence_of(self, ledger: bytes, group: int | None) -> tuple[RunEvidence, KeptEvidence]:
        kept = self._decoded(_of_group(EVIDENCE, group), KeptEvidence)
        log = None if kept.first_index is None else LogPiece(kept.first_index, self._log(_of_group(LOG, group)))
        taken = RunEvidence(
            acknowledgements=Acknowledgements(ledger, group),
            nodes=kept.nodes,
            log=log,
            log_problem=kept.log_problem,
            conflicts=kept.conflicts,
            leaders=kept.leaders,
            reads=kept.reads,
            **{name: getattr(kept, name) for name in AS_TAKEN},
        )
        return taken, kept

    def _log(self, name: str) -> list[LogEntry]:
        data, at, entries = self._unpacked(name), 0, []
        while at < len(data):
            index, term, kind, length = _HEAD.unpack(data[at : at + _HEAD.size].ljust(_HEAD.size, b"\xff"))
            at += _HEAD.size
            if at + length > len(data):
                raise RunUnreadable(f"{self.folder / name} is damaged: its last entry is cut")
            entries.append(LogEntry(index, term, kind, data[at : at + length]))
            at += length
        return entries

    def _unpacked(self, name: str) -> bytes:
        try:
            return gzip.decompress(self._checked(name))
        except (OSError, EOFError, error) as problem:
            raise RunUnreadable(f"{self.folder / name} is damaged: {problem}") from None

    def _rows(self, name: str, kind: type[Told]) -> list[Told]:
        return [decoded(self.folder / name, line, kind) for line in self._checked(name).splitlines()]

    def _decoded(self, name: str, kind: type[Told]) -> Told:
        return decoded(self.folder / name, self._checked(name), kind)

    def _checked(self, name: str) -> bytes:
        data = _bytes_of(self.folder / name)
        if self._contents.get(name) != KeptFile(len(data), crc32(data)):
            raise RunUnreadable(f"{self.folder / name} is not as it was written: {CONTENTS} names other contents")
        return data


def decoded(path: Path, data: bytes, kind: type[Told]) -> Told:
    """JSON of a known shape. Raises RunUnreadable, which names ``path``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise RunUnreadable(f"{path} can't be read: {problem}. It is no file of a kept run, or is damaged") from None


def of_fields(kind: type[Told], fields: Mapping[str, object]) -> Told:
    """The named tuple with these fields. Those at its end that an older version did not have keep their defaults.

    Raises:
        RunUnreadable: they are no fields of such a tuple.
    """
    names: Sequence[str] = kind._fields  # type: ignore[attr-defined]
    try:
        return msgspec.convert([fields[name] for name in takewhile(fields.__contains__, names)], kind)
    except msgspec.ValidationError as problem:
        raise RunUnreadable(f"{RESULT} has no {kind.__name__} in {dict(fields)}: {problem}") from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise RunUnreadable(f"{path} can't be read: {reason_of(problem)}") from None
