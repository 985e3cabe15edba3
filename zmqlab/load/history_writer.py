"""Writes the history of a run (:mod:`~zmqlab.load.history`) while the run goes on, at little cost to it.

The loop makes the lines as answers come, at some 3 µs an order, so that the work is spread as the answers are. A thread
writes them a quarter of a megabyte at a time, so that the loop never waits for a disk that is busy with the nodes'
journals. A disk that fails or is full ends the history and not the run; :attr:`HistoryWriter.problem` says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from functools import cache
from queue import SimpleQueue
from typing import BinaryIO

import msgspec

from zmqlab.client.retries import OpenRequest
from zmqlab.client.session import Completion
from zmqlab.errors import SettingsError
from zmqlab.load import history
from zmqlab.load.load_settings import LoadSettings
from zmqlab.market.types import (
    POST_ONLY,
    CommandKind,
    OrderType,
    Reason,
    Side,
    Status,
    TimeInForce,
    symbol_name,
)
from zmqlab.wire.client import REPLAYED, Response, ResponseStatus
from zmqlab.wire.records import FILL, REPORT

CHUNK_BYTES = 262_144
CLOSE_TIMEOUT_S = 10.0
"""How long the end may wait for what is not yet written; a disk that takes longer is stuck."""


def _names(codes: type[IntEnum]) -> list[str]:
    """Lower-case names by code, for all codes that fit a byte; the name of 0 is empty unless it has one."""
    known = {int(code): code.name.lower() for code in codes}
    return [known.get(code, str(code) if code else "") for code in range(256)]


_KINDS, _SIDES, _ORDER_TYPES, _TIMES_IN_FORCE = map(_names, (CommandKind, Side, OrderType, TimeInForce))
_STATUSES, _REASONS, _OUTCOMES = map(_names, (Status, Reason, ResponseStatus))
_REASONS[Reason.NONE] = ""
_symbol_name = cache(symbol_name)


class HistoryWriter:
    """One file. Its thread writes; all methods belong to the loop of the load."""

    def __init__(self, path: str, settings: LoadSettings, endpoints: Sequence[str]) -> None:
        """Begin the file; an old file of that name is overwritten.

        Args:
            path: where to write; compressed if it ends in ``.gz``.
            settings: of the run, for the first line.
            endpoints: by node index; the list may grow.

        Raises:
            SettingsError: the file can't be written.
        """
        try:
            self._file = history.open_history(path, "wb")
        except OSError as error:
            raise SettingsError(f"the history {path} can't be written: {error}") from None
        self.problem = ""
        """Why the file is not whole; empty if it is."""
        self._path = path
        self._endpoints = endpoints
        self._encoder = msgspec.json.Encoder()
        self._lines = bytearray()
        """Made and not yet handed to the thread; below CHUNK_BYTES, except for one batch."""
        self._requests = 0
        self._unknown = 0
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        """For the thread; an empty chunk ends it."""
        self._thread = threading.Thread(target=self._write, args=(self._file,), name="zmqlab-history", daemon=True)
        self._thread.start()
        now_ns = time.monotonic_ns()
        head = history.Head(
            version=history.VERSION,
            name=settings.name,
            time_ns=time.time_ns(),
            monotonic_ns=now_ns,
            settings=settings.to_dict(),
        )
        self._add([head])

    def opened(self, client_ids: Iterable[int], opened_ns: Iterable[tuple[int, int]]) -> None:
        """Sessions were opened."""
        self._add(
            [
                history.SessionOpened(client=client_id, invoked_ns=invoked_ns, completed_ns=completed_ns)
                for client_id, (invoked_ns, completed_ns) in zip(client_ids, opened_ns, strict=True)
            ]
        )

    def completed(self, completions: Sequence[Completion]) -> None:
        """Requests were answered."""
        self._requests += len(completions)
        self._add([self._answered(each) for each in completions])

    def read(self, reads: Sequence[history.BookRead]) -> None:
        """Books were read."""
        self._add(reads)

    def close(self, open_requests: Iterable[tuple[int, OpenRequest]], expired: Iterable[int], problem: str) -> None:
        """End the file.

        Args:
            open_requests: (client id, request) of what has no answer and will get none.
            expired: ids of sessions that the cluster has forgotten.
            problem: why the run ended before its time; empty if it did not.
        """
        gone = frozenset(expired)
        lines = [self._unanswered(client_id, request, gone) for client_id, request in open_requests]
        unknown = sum(line.outcome == "unknown" for line in lines)
        self._add(lines)
        requests = self._requests + len(lines)
        self._add([history.End(completed_ns=time.monotonic_ns(), requests=requests, unknown=unknown, problem=problem)])
        self._hand_over()
        self._chunks.put(b"")
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self.problem = f"the history {self._path} is not whole: its disk takes too long"

    def _add(self, lines: Sequence[history.Line]) -> None:
        self._lines += self._encoder.encode_lines(lines)
        if len(self._lines) >= CHUNK_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        self._chunks.put(bytes(self._lines))
        self._lines.clear()

    def _write(self, file: BinaryIO) -> None:
        """The thread."""
        while chunk := self._chunks.get():
            if not self.problem:
                self._note_problem(file.write, chunk)
        self._note_problem(file.close)

    def _note_problem(self, action: Callable[..., object], *arguments: bytes) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.problem = f"the history {self._path} is not whole: {error}"

    def _answered(self, each: Completion) -> history.Request:
        response = each.response
        return history.Request(
            client=response.client_id,
            number=each.request_number,
            invoked_ns=each.first_sent_ns,
            completed_ns=each.completed_ns,
            outcome=_OUTCOMES[response.status],
            log_index=response.log_index,
            attempts=each.attempts,
            node=self._endpoints[each.node],
            replayed=bool(response.flags & REPLAYED),
            commands=_commands(each.token.rows.tolist()),
            reports=_reports(response),
        )

    def _unanswered(self, client_id: int, request: OpenRequest, expired: Collection[int]) -> history.Request:
        sent = request.attempts > 0
        why = "session_expired" if client_id in expired else "no_answer"
        return history.Request(
            client=client_id,
            number=request.number,
            invoked_ns=request.first_sent_ns,
            outcome="unknown" if sent else "not_sent",
            why=why if sent else "",
            attempts=request.attempts,
            node=request.node.endpoint if request.node is not None else "",
            commands=_commands(request.token.rows.tolist()),
        )


def _commands(rows: Iterable[tuple[int, ...]]) -> list[history.Command]:
    """Commands as people read them."""
    return [
        history.Command(
            kind=_KINDS[kind],
            symbol=_symbol_name(symbol),
            account=account,
            side=_SIDES[side],
            order_type=_ORDER_TYPES[order_type],
            time_in_force=_TIMES_IN_FORCE[time_in_force],
            quantity=quantity,
            price=price,
            order_id=order_id,
            post_only=bool(flags & POST_ONLY),
        )
        for kind, side, order_type, time_in_force, quantity, order_id, symbol, price, account, flags in rows
    ]


def _reports(response: Response) -> list[history.Report]:
    """The reports of an answer, each with its fills."""
    fills = [
        history.Fill(maker_order_id=maker, price=price, quantity=quantity, maker_leaves_quantity=leaves)
        for maker, price, quantity, leaves in FILL.iter_unpack(response.fills)
    ]
    reports, start = [], 0
    for status, reason, _, count, filled, leaves, order_id, notional in REPORT.iter_unpack(response.reports):
        reports.append(
            history.Report(
                status=_STATUSES[status],
                reason=_REASONS[reason],
                order_id=order_id,
                filled_quantity=filled,
                leaves_quantity=leaves,
                notional=notional,
                fills=fills[start : start + count],
            )
        )
        start += count
    return reports
