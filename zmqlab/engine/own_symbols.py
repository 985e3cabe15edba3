"""Whether what a client sends to a group is about symbols of that group.

In a cluster with shards a symbol belongs to one group (:func:`zmqlab.placement.group_of`). A command for a symbol of
another group would open a second book of that symbol, and a question would be answered from a book that is empty. Both
are refused before anything is stored, with an error that names the right group. Nodes alone judge this, and not the
state machine: the log holds no such command.

The check costs a look at each command's symbol, and nothing in a cluster without shards.
"""

from __future__ import annotations

from zmqlab.errors import FrameError
from zmqlab.placement import group_of, group_of_code
from zmqlab.wire import client as client_wire
from zmqlab.wire import control
from zmqlab.wire.records import symbol_codes


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
