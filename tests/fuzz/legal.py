"""What a legal client or peer could have said: the frames of which "nothing changes" can't be asked.

The clusters that are fuzzed have no keys. So a process that knows the ids of a cluster can speak as a
client or as a member, and a node can't tell. What follows from that is no fault of parsing and is left out of the
check, as narrowly as can be said. :func:`verdict` sorts each frame into one of

- ``BAD``: refused, and so counted by the node. Nothing may change.
- ``HARMLESS``: understood, perhaps answered. Nothing may change: queries, votes while a leader is heard, anything of an
  older term, acknowledgements of what is committed anyway, introductions, forwarded requests at a follower.
- ``LEGAL``: left out. It is an order (a whole REQUEST), a session (a whole OPEN_SESSION), a change of the members or of
  the leader that makes sense, a fault of a link to a member (nodes of a lab obey), a batch of whole requests forwarded
  by a member to the leader, a message in the name of the leader of the node's term (who may write the log), or a
  message of a later term from which one must learn that this term is over (Raft thesis, 3.3). An introduction from a
  place beyond this machine is left out too: the node would connect to it.

The last kind is sent in the *forged* run only, which does not ask that nothing changes, but that the node goes on and
that its invariants hold. Even there one thing is left out (:func:`is_whole_snapshot`): the last piece of a snapshot to
this node. In the name of a leader it is believed: its state is taken for the state, and if it is none the node stops,
with what it had in its journal.
"""

from __future__ import annotations

from enum import Enum, auto

from tests.fuzz.hostile import View
from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import FrameError, SettingsError
from zmqlab.raft.messages import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from zmqlab.replica.replica import request_key
from zmqlab.wire import control, frames
from zmqlab.wire.fault_queries import LinkFaultsQuery, NodeFaults, NodeFaultsQuery
from zmqlab.wire.peer import decode_forward, decode_hello, decode_message


class Verdict(Enum):
    """What a node must make of a frame."""

    BAD = auto()
    HARMLESS = auto()
    LEGAL = auto()


def verdict(socket: str, frame: bytes, view: View) -> Verdict:
    """What the node of ``view`` must make of ``frame`` on one of its sockets."""
    try:
        frame_type, group = frames.parse_header(frame)
        if group:
            return Verdict.BAD
        if socket == "clients":
            return _of_client(frame_type, frame, view)
        return _of_peer(frame_type, frame, view)
    except FrameError:
        return Verdict.BAD


def _of_client(frame_type: int, frame: bytes, view: View) -> Verdict:
    if len(frame) > frames.MAX_CLIENT_FRAME_BYTES:
        return Verdict.BAD
    if frame_type in (frames.REQUEST, frames.OPEN_SESSION):
        _, number = request_key(frame)
        return Verdict.LEGAL if number or frame_type == frames.OPEN_SESSION else Verdict.BAD
    if frame_type != frames.QUERY:
        return Verdict.BAD
    query = control.decode_query(frame)
    changes = False
    match query:
        case control.TransferQuery():
            changes = view.leads and query.target in (0, *view.members) and len(view.members) > 1
        case control.RemoveMemberQuery():
            changes = view.leads and query.node_id in view.members and len(view.members) > 1
        case control.AddMemberQuery():
            changes = view.leads and 0 < query.node_id < 1 << 64 and _is_endpoint(query.address)
        case LinkFaultsQuery():
            changes = any(link.sender in view.addresses for link in query.links)
        case NodeFaultsQuery():
            changes = query.faults != NodeFaults() and _is_possible(query.faults)
    return Verdict.LEGAL if changes else Verdict.HARMLESS


def _is_possible(faults: NodeFaults) -> bool:
    try:
        faults.check()
    except SettingsError:
        return False
    return True


def _is_endpoint(address: str) -> bool:
    try:
        _, port = parse_endpoint(address)
    except SettingsError:
        return False
    return port <= 65_533


def _of_peer(frame_type: int, frame: bytes, view: View) -> Verdict:
    if frame_type == frames.FORWARD:
        sender, requests = decode_forward(frame)
        if sender not in view.members or sender == view.node_id:
            return Verdict.BAD
        for request in requests:
            request_key(request)
        return Verdict.LEGAL if view.leads and requests else Verdict.HARMLESS
    if frame_type == frames.HELLO:
        hello = decode_hello(frame)
        is_for_its_place = hello.to in view.members and hello.sender in view.members and hello.sender != hello.to
        if hello.sender in (0, view.node_id) or not (hello.to == view.node_id or is_for_its_place):
            return Verdict.BAD
        is_here = parse_endpoint(hello.address)[0] == "127.0.0.1"
        return Verdict.HARMLESS if is_here or hello.sender in view.members else Verdict.LEGAL
    return _of_raft(decode_message(frame_type, frame), view)


def _of_raft(message: Message, view: View) -> Verdict:
    if message.to == BROADCAST:
        if message.sender not in view.members or message.sender == view.node_id:
            return Verdict.BAD
    elif message.to != view.node_id or message.sender in (0, view.node_id):
        return Verdict.BAD
    if message.term > view.term:
        return _of_later_term(message, view)
    if message.term < view.term:
        return Verdict.HARMLESS
    if isinstance(message, AppendEntries | InstallSnapshot | TimeoutNow):
        return Verdict.LEGAL if message.sender == view.leader_id else Verdict.BAD
    if isinstance(message, AppendEntriesResponse | InstallSnapshotResponse) and view.leads:
        is_ahead = isinstance(message, AppendEntriesResponse) and message.success and message.index > view.last_index
        if message.sender in view.members and (message.round > view.round or is_ahead):
            return Verdict.BAD
    return Verdict.HARMLESS


def _of_later_term(message: Message, view: View) -> Verdict:
    """Later, but not so much that no number of elections can explain it."""
    if message.term > view.term + (1 << 32):
        return Verdict.BAD
    if isinstance(message, RequestVote) and (message.pre_vote or not message.forced):
        return Verdict.HARMLESS
    if isinstance(message, RequestVoteResponse) and message.pre_vote and message.granted:
        return Verdict.HARMLESS
    return Verdict.LEGAL


def is_whole_snapshot(frame: bytes, view: View) -> bool:
    """Whether it ends a snapshot for this node, of more than is committed here; by whoever, since terms move on."""
    if frame[3:4] != bytes((frames.INSTALL_SNAPSHOT,)):
        return False
    try:
        message = decode_message(frames.INSTALL_SNAPSHOT, frame)
    except FrameError:
        return False
    assert isinstance(message, InstallSnapshot)
    return message.done and message.to in (view.node_id, BROADCAST) and message.snapshot_index > view.commit_index
