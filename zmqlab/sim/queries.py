"""What a simulated node answers to queries: books, its log, a change of the members.

The node's own answers (:mod:`zmqlab.node.queries`) stand above this layer; here is as much of them as the simulated
clients and the operator ask for, by the same calls of the replica and with the same frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from zmqlab.raft import Configuration
from zmqlab.replica import Change
from zmqlab.settings import parse_endpoint
from zmqlab.wire import control, frames

if TYPE_CHECKING:
    from zmqlab.sim.process import Process


def answer_query(process: Process, asker: int, query: control.Query) -> None:
    """Answer now or, a read, when it may be answered. Raises JournalCorrupt."""
    match query:
        case control.BookQuery():
            _read_book(process, asker, query)
        case control.StatusQuery():
            _send(process, asker, control.StatusAnswer(query.nonce, _status(process)))
        case control.LogQuery():
            _send(process, asker, _log(process, query))
        case control.AddMemberQuery():
            change = process.running.members.add(query.node_id, query.address)
            _send(process, asker, _outcome(query.nonce, change))
        case control.RemoveMemberQuery():
            _send(process, asker, _outcome(query.nonce, process.running.members.remove(query.node_id)))
        case _:
            raise AssertionError(f"nobody asks {query} here")


def _send(process: Process, asker: int, answer: control.Answer) -> None:
    process.around.network.send(process.node_id, asker, control.encode(frames.ANSWER, answer))


def _status(process: Process) -> control.NodeStatus:
    """As much of a status as clients look at."""
    raft = process.running.raft
    return control.NodeStatus(
        name="",
        node_id=process.node_id,
        pid=0,
        port=0,
        time_ns=0,
        uptime_ms=0,
        role=raft.role.name.lower(),
        term=raft.term,
        leader_id=raft.leader_id,
        first_index=0,
        last_index=0,
        commit_index=raft.commit_index,
        applied_index=raft.applied_index,
        lag=0,
        members=_members(raft.configuration),
    )


@lru_cache(maxsize=64)
def _members(configuration: Configuration) -> list[control.Member]:
    members = []
    for node_id, address in configuration.addresses:
        host, port = parse_endpoint(address)
        voter = node_id in configuration.voters
        members.append(control.Member(node_id=node_id, name="", host=host, port=port, voter=voter))
    return members


def _read_book(process: Process, asker: int, query: control.BookQuery) -> None:
    machine = process.running.machine

    def finish(readable: bool) -> None:
        depth = machine.exchange.depth(query.symbol, query.levels)
        bids = [(row[0], row[1], row[2]) for row in depth.bids]
        asks = [(row[0], row[1], row[2]) for row in depth.asks]
        answer: control.Answer = control.BookAnswer(query.nonce, query.symbol, bids, asks, machine.applied_index)
        if not readable:
            answer = control.ErrorAnswer(query.nonce, "no_leader", "no leader confirmed the read")
        _send(process, asker, answer)

    process.running.read(finish)


def _log(process: Process, query: control.LogQuery) -> control.LogAnswer:
    replica = process.running
    entries = replica.journal.read(query.from_index, replica.machine.applied_index, query.max_bytes)
    rows = [(entry.index, entry.term, int(entry.kind), entry.data) for entry in entries]
    return control.LogAnswer(query.nonce, replica.journal.first_index, replica.raft.commit_index, rows)


def _outcome(nonce: int, change: Change) -> control.Answer:
    if change is Change.DONE:
        return control.OkAnswer(nonce, change.value)
    codes = {Change.UNDER_WAY: "busy", Change.NOT_LEADER: "not_leader"}
    return control.ErrorAnswer(nonce, codes.get(change, "refused"), change.value)
