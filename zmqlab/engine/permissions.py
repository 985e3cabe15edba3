"""What each frame and query needs: one table of roles, the owner of a session, and the group of a symbol.

Whether a key may enter at all is decided at the door (:class:`zmqlab.net.KeyChecker`): the peer port lets in members
alone, so that a peer's frame needs no further look. A client's frame comes with its sender, and is held against
:data:`NEEDED`. Without keys the sender is :data:`~zmqlab.keys.ANYONE`, to whom all is allowed.

*Sessions.* A session belongs to the key that opened it. The node that takes OPEN_SESSION writes the key's fingerprint
into the frame, so that it stands in the log and all nodes know it. A request in the name of another key's session is
refused by the node that takes it. A node that has not applied the opening yet can't tell, and says BUSY: the client
turns to another node. A session that was opened without keys has no owner.

*Symbols.* In a cluster with shards a symbol belongs to one group (:func:`zmqlab.placement.group_of`). A command for a
symbol of another group would open a second book of that symbol, and a question would be answered from a book that is
empty. Both are refused before anything is stored, with an error that names the right group. Nodes alone judge this, and
not the state machine: the log holds no such command. The check costs a look at each command's symbol, and nothing in a
cluster without shards.

Left out on purpose: rights to single accounts and symbols. An account is a number in an order, for the market's rules
only; a key that may trade may name any.
"""

from __future__ import annotations

from typing import NamedTuple

from zmqlab.errors import FrameError
from zmqlab.keys import Role, Sender
from zmqlab.placement import group_of, group_of_code
from zmqlab.replica.sessions import SessionTable
from zmqlab.wire import client as client_wire
from zmqlab.wire import control, frames
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.fault_queries import LinkFaultsQuery, NodeFaultsQuery
from zmqlab.wire.records import symbol_codes
from zmqlab.wire.traces import TraceQuery

NEEDED: dict[int | type[control.Query], Role] = {
    frames.REQUEST: Role.TRADER,
    frames.OPEN_SESSION: Role.TRADER,
    control.StatusQuery: Role.WATCHER,
    control.BookQuery: Role.TRADER,
    control.TradesQuery: Role.TRADER,
    control.LogQuery: Role.TRADER,
    control.HashQuery: Role.TRADER,
    control.TransferQuery: Role.OPERATOR,
    control.AddMemberQuery: Role.OPERATOR,
    control.RemoveMemberQuery: Role.OPERATOR,
    LinkFaultsQuery: Role.OPERATOR,
    NodeFaultsQuery: Role.OPERATOR,
    TraceQuery: Role.OPERATOR,
    frames.APPEND_ENTRIES: Role.MEMBER,
    frames.APPEND_ENTRIES_RESPONSE: Role.MEMBER,
    frames.REQUEST_VOTE: Role.MEMBER,
    frames.REQUEST_VOTE_RESPONSE: Role.MEMBER,
    frames.INSTALL_SNAPSHOT: Role.MEMBER,
    frames.INSTALL_SNAPSHOT_RESPONSE: Role.MEMBER,
    frames.TIMEOUT_NOW: Role.MEMBER,
    frames.READ_INDEX: Role.MEMBER,
    frames.READ_INDEX_RESPONSE: Role.MEMBER,
    frames.FORWARD: Role.MEMBER,
    frames.HELLO: Role.MEMBER,
    frames.ROSTER: Role.MEMBER,
    frames.BUNDLE: Role.MEMBER,
}
"""A frame's type, or a query's -> the lowest role that may send it. Members send theirs at the peer port, whose door
lets in members alone."""


class Refusal(NamedTuple):
    """What a request is refused with, and what the log says of it; empty if the sender is not at fault."""

    status: ResponseStatus | None
    why: str


NOT_REFUSED = Refusal(None, "")


def objection(what: int | type[control.Query], sender: Sender) -> str:
    """Why ``sender`` may not send this; empty if it may."""
    needed = NEEDED[what]
    if sender.role >= needed:
        return ""
    return f"{sender.name} has the role {sender.role.name.lower()}, and that needs the role {needed.name.lower()}"


def owned(frame: bytes, sender: Sender) -> bytes:
    """An OPEN_SESSION frame that names its owner. Raises FrameError if the client's own frame does."""
    nonce = client_wire.parse_open_session(frame)
    if client_wire.owner_in(frame):
        raise FrameError("a client's open-session frame names an owner: the node does that")
    return client_wire.encode_open_session(nonce, frames.parse_header(frame)[1], sender.fingerprint)


def refusal(frame_type: int, client_id: int, sessions: SessionTable, applied_index: int, sender: Sender) -> Refusal:
    """What a request in the name of the session ``client_id``, or one that opens a session, is refused with."""
    if why := objection(frame_type, sender):
        return Refusal(ResponseStatus.FORBIDDEN, why)
    owner = sessions.owner_of(client_id)
    if owner is None and client_id > applied_index:
        return Refusal(ResponseStatus.BUSY, "")
    if owner and owner != sender.fingerprint:
        return Refusal(ResponseStatus.FORBIDDEN, f"{sender.name} has sent a request in another key's session")
    return NOT_REFUSED


def expect_own_commands(frame: bytes, group: int, shards: int) -> None:
    """Raise FrameError if a command of a REQUEST frame, which was parsed, names a symbol of another group."""
    if shards == 1:
        return
    for code in symbol_codes(client_wire.request_body(frame)):
        right = group_of_code(code, shards)
        if right != group:
            raise FrameError(f"a command for a symbol of group {right} came to group {group}")


def expect_own_question(query: control.Query, group: int, shards: int) -> None:
    """Raise FrameError if ``query`` is about a symbol of another group. What is no symbol at all is told later."""
    if shards == 1 or not isinstance(query, control.BookQuery | control.TradesQuery):
        return
    try:
        right = group_of(query.symbol, shards)
    except ValueError:
        return
    if right != group:
        raise FrameError(f"{query.symbol} is of group {right}, and group {group} was asked")
