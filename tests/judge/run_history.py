"""A small run without processes: a log, the state machine that applied it, what the client was told, and nodes."""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass, field
from zlib import crc32

import zmq

from tests.lab.fake_node import status_of
from zmqlab.judge.promises import Acknowledgement
from zmqlab.judge.replay import BODY_BYTES, LogEntry
from zmqlab.judge.verdict import Verdict
from zmqlab.market.types import Command, Side
from zmqlab.raft import Entry, EntryKind
from zmqlab.replica.machine import StateMachine
from zmqlab.wire import client, control, frames, records


@dataclass
class History:
    """Applies requests with the production state machine and keeps what a client would know."""

    entries: list[LogEntry] = field(default_factory=list)
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    machine: StateMachine = field(default_factory=StateMachine)
    clock: int = 0

    def append(self, data: bytes, kind: EntryKind = EntryKind.DATA) -> bytes:
        """Append and apply one entry; the body of its answer."""
        entry = Entry(len(self.entries) + 1, 1, kind, data)
        self.entries.append(LogEntry(*entry))
        applied = self.machine.apply(entry)
        return applied.body if applied else b""

    def open(self) -> int:
        """Open a session; the client id."""
        self.append(client.encode_open_session(77))
        return len(self.entries)

    def request(self, client_id: int, number: int, commands: list[Command], answered_below: int = 1) -> None:
        """Send a request and keep its acknowledgement."""
        frame = client.encode_request(client_id, number, answered_below, records.pack_commands(commands))
        body = self.append(frame)
        crc, index = crc32(body[BODY_BYTES:]), len(self.entries)
        sent_crc = crc32(records.pack_commands(commands))
        self.acknowledgements.append(
            Acknowledgement(client_id, number, index, self.clock, self.clock + 1, crc, sent_crc)
        )
        self.clock += 2


def small_run(requests: int = 30, seed: int = 1) -> History:
    """One client's run with trades, cancels, and a retry that the session rules swallow."""
    rng = random.Random(seed)
    history = History()
    history.append(b"", EntryKind.NO_OP)
    client_id = history.open()
    for number in range(1, requests + 1):
        side = rng.choice([Side.BUY, Side.SELL])
        commands = [
            Command.limit(side, "AAPL", rng.randint(1, 9), rng.randint(98, 102), account=rng.randint(1, 5)),
            Command.cancel(rng.randint(1, 2 * number), "AAPL", account=rng.randint(1, 5)),
        ]
        history.request(client_id, number, commands, max(1, number - 4))
    history.append(history.entries[-1].data)
    return history


def failed(verdict: Verdict) -> set[str]:
    """The names of the promises that were not found kept."""
    return {check.name for check in verdict.checks if not check.ok}


class FakeNode:
    """Answers a verdict's questions from a history, on a thread; every answer can be tampered with beforehand."""

    def __init__(self, name: str, history: History) -> None:
        machine = history.machine
        self.entries = list(history.entries)
        self.first_index = 1
        self.index = machine.applied_index
        self.chain_hash, self.state_hash = machine.chain.hex(), machine.state_hash().hex()
        self.callers: list[bytes] = []
        """The connections on which it was asked, in the order of the questions."""
        self.status = status_of(name, 1, leads=False)
        self.status.applied_index, self.status.orders_applied = machine.applied_index, machine.orders_applied
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self._router.bind_to_random_port('tcp://127.0.0.1')}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fake {name} of {os.getpid()}")

    def __enter__(self) -> FakeNode:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._router.close(0)
        self._context.term()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._router.poll(20):
                identity, frame = self._router.recv_multipart()
                self.callers.append(identity)
                answer = self._answer(control.decode_query(frame))
                self._router.send_multipart([identity, control.encode(frames.ANSWER, answer)])

    def _answer(self, query: control.Query) -> control.Answer:
        match query:
            case control.StatusQuery():
                return control.StatusAnswer(query.nonce, self.status)
            case control.HashQuery():
                return control.HashAnswer(query.nonce, self.index, self.chain_hash, self.state_hash)
            case control.LogQuery():
                start = max(query.from_index, self.first_index)
                piece = [tuple(entry) for entry in self.entries if start <= entry.log_index < start + 10]
                return control.LogAnswer(query.nonce, self.first_index, self.index, piece)  # type: ignore[arg-type]
            case _:
                return control.ErrorAnswer(query.nonce, "bad_query", "not here")
