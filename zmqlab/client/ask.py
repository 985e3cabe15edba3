"""Questions to nodes: one query and its answer, or the same query to many nodes at once.

Every call opens its own DEALER sockets and closes them again. Questions are rare, and threads must not share a socket.
A thread that asks several times a second hands its :class:`Lines` in: a connection costs it, and the node, more than a
question. A node that does not answer in time is missing from the result; only :func:`ask_one` raises, for a caller that
needs that one node. Nor does an endpoint answer whose host is a name: callers look names up before
(:func:`zmqlab.names.known_endpoints`), and what is still a name then has no address.

*Shards.* A question is for one Raft group, by default for group 0. Without shards there is no other.

Left out on purpose: orders. They need sessions and retries, which :mod:`~zmqlab.client.session` has.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
import zmq

from zmqlab import net
from zmqlab.client.roster import newest_of, nodes_told
from zmqlab.errors import FrameError, NoLeader, NotLetIn, RequestError, RequestRefused, RequestTimeout
from zmqlab.handshakes import why_silent
from zmqlab.keys import Credentials
from zmqlab.names import numeric
from zmqlab.tables import StatusTable
from zmqlab.wire import control
from zmqlab.wire.frames import ANSWER, MAX_ANSWER_BYTES, QUERY, parse_header
from zmqlab.wire.node_status import NodeStatus

A = TypeVar("A", bound=msgspec.Struct)

RETRY_S = 0.05
"""Between two rounds of asking while there is no leader; an election takes some 200 ms."""
BOUNDS = net.SocketBounds(
    frame_bytes=MAX_ANSWER_BYTES,
    reconnect_ms=10,  # a node that is just starting is found soon; libzmq's 100 ms would dominate a start
)


def new_nonce() -> int:
    """A number that tells the answer to this question from a late answer to another one."""
    return secrets.randbits(63)


class Lines:
    """Connections to nodes that are kept from one question to the next. One thread at a time may use them.

    A connection is kept as long as each question on it is answered in time. So no late answer waits in one, and a node
    that has gone is not called again and again in vain.
    """

    def __init__(self) -> None:
        self._sockets: dict[str, net.Socket] = {}
        """By endpoint."""

    def __len__(self) -> int:
        return len(self._sockets)

    def take(self, endpoint: str) -> net.Socket:
        """The connection to a node, or a new one. It is the caller's until :meth:`give_back`.

        Raises:
            RequestError: this process has no file descriptor left.
        """
        kept = self._sockets.pop(endpoint, None)
        return _connect(net.shared_context(), endpoint) if kept is None else kept

    def give_back(self, endpoint: str, socket: net.Socket) -> None:
        """Keep a connection on which all questions were answered."""
        assert endpoint not in self._sockets, f"two connections to {endpoint}"
        self._sockets[endpoint] = socket

    def keep(self, endpoints: Iterable[str]) -> None:
        """Close the connections to all other nodes: libzmq would try for ever to reach one that has ended."""
        for endpoint in self._sockets.keys() - set(endpoints):
            self._sockets.pop(endpoint).close(0)

    def close(self) -> None:
        """Close them all; a later question opens a new one."""
        self.keep(())


def ask_one(
    endpoint: str,
    query: control.Query,
    answer_type: type[A],
    timeout_s: float = 2.0,
    group: int = 0,
    lines: Lines | None = None,
) -> A:
    """The answer of the node that listens for clients at ``endpoint``; the arguments are as in :func:`ask_all`.

    Raises:
        RequestTimeout: nothing came in time; NotLetIn if the keys are the reason.
        NoLeader: the node knows of no leader, and the question needs one.
        RequestRefused: the node said no; the message carries its reason.
    """
    answer = ask_all([endpoint], lambda _: query, timeout_s, group=group, lines=lines).get(endpoint)
    if answer is None:
        raise silence_of([endpoint], f"{endpoint} did not answer within {timeout_s:g} s: is that node running?")
    return expect(answer, answer_type, endpoint)


def ask_any(
    endpoints: Sequence[str],
    make_query: Callable[[], control.Query],
    answer_type: type[A],
    timeout_s: float = 2.0,
    patience_s: float = 0.5,
    group: int = 0,
) -> A:
    """The answer of any node: one after the other is asked until one answers, round after round.

    Args:
        endpoints: where nodes listen for clients, the preferred ones first.
        make_query: makes the query with a nonce of its own for each attempt.
        answer_type: the answer that is expected.
        timeout_s: how long to go on.
        patience_s: how long to wait for a node that says nothing. A node that knows of no leader is asked again later.
        group: the Raft group that is asked about. A node that does not hold it is left for the next.

    Raises:
        RequestTimeout: no node answered within ``timeout_s``; NotLetIn if the keys are the reason.
        NoLeader: the last node that answered knew of no leader.
        RequestRefused: a node said no for another reason, and the other nodes would say the same; or the nodes that
            answered do not hold the group.
    """
    deadline = time.monotonic() + timeout_s
    reason: RequestError | None = None
    while (remaining := deadline - time.monotonic()) > 0:
        for endpoint in endpoints:
            patience = min(patience_s, remaining)
            answer = ask_all([endpoint], lambda _: make_query(), patience, group=group).get(endpoint)
            try:
                if answer is not None and _is_elsewhere(answer):
                    reason = reason or RequestRefused(
                        f"{endpoint} does not hold group {group}: name all nodes of the cluster"
                    )
                elif answer is not None:
                    return expect(answer, answer_type, endpoint)
            except NoLeader as error:
                reason = error
            if (remaining := deadline - time.monotonic()) <= 0:
                break
        time.sleep(min(RETRY_S, max(0.0, deadline - time.monotonic())))
    asked = " and ".join(endpoints)
    raise reason or silence_of(endpoints, f"{asked} did not answer within {timeout_s:g} s: do these nodes run?")


def ask_all(
    endpoints: Iterable[str],
    make_query: Callable[[str], control.Query],
    timeout_s: float = 2.0,
    enough: Callable[[dict[str, control.Answer]], bool] | None = None,
    group: int = 0,
    lines: Lines | None = None,
) -> dict[str, control.Answer]:
    """The answers of several nodes, by endpoint.

    Args:
        endpoints: where the nodes listen for clients.
        make_query: makes the query for an endpoint.
        timeout_s: how long to wait; the call returns earlier when all have answered.
        enough: looked at after each answer; True ends the waiting.
        group: the Raft group that is asked about.
        lines: what connections to use, and to keep for the next question; None: new ones, which are closed.

    Raises:
        RequestError: this process has no file descriptor left to ask with.
    """
    own = Lines() if lines is None else lines
    poller = zmq.Poller()
    asked: dict[net.Socket, tuple[str, int]] = {}
    answers: dict[str, control.Answer] = {}
    deadline = time.monotonic() + timeout_s
    try:
        for endpoint in dict.fromkeys(numeric(endpoints)):
            query = make_query(endpoint)
            socket = own.take(endpoint)
            asked[socket] = (endpoint, query.nonce)
            poller.register(socket, zmq.POLLIN)
            with contextlib.suppress(zmq.Again):  # a connection that was refused by now has no queue any more
                socket.send(control.encode(QUERY, query, group), zmq.NOBLOCK)
        while len(answers) < len(asked) and not (enough and enough(answers)):
            remaining_ms = (deadline - time.monotonic()) * 1000
            if remaining_ms <= 0:
                break
            for socket, _ in poller.poll(max(1, int(remaining_ms))):
                endpoint, nonce = asked[socket]
                answer = answer_in(socket.recv_multipart())
                if answer is not None and answer.nonce == nonce:
                    answers[endpoint] = answer
    finally:
        for socket, (endpoint, _) in asked.items():
            if lines is not None and endpoint in answers:
                lines.give_back(endpoint, socket)
            else:
                socket.close(0)
    return answers


def _connect(context: net.Context, endpoint: str) -> net.Socket:
    try:
        return net.connect(context, zmq.DEALER, endpoint, BOUNDS)
    except zmq.ZMQError as error:
        if not net.is_out_of_descriptors(error):
            raise
        raise RequestError(
            "this process has no file descriptor left to ask a node with: close what it does not need, or raise the"
            " limit (ulimit -n)"
        ) from None


def _is_elsewhere(answer: control.Answer) -> bool:
    """Whether the node does not hold the group that was asked about."""
    return isinstance(answer, control.ErrorAnswer) and answer.code == control.ErrorCode.NO_GROUP


def silence_of(endpoints: Iterable[str], otherwise: str, credentials: Credentials | None = None) -> RequestTimeout:
    """The error for nodes of which none answered: that they do not let this process in, if they say so; else
    ``otherwise``."""
    refusals = why_silent(endpoints, credentials=credentials)
    return NotLetIn("; ".join(dict.fromkeys(refusals.values()))) if refusals else RequestTimeout(otherwise)


def expect(answer: control.Answer, answer_type: type[A], endpoint: str) -> A:
    """``answer`` if it is of ``answer_type``; raises the error that it stands for otherwise.

    Raises:
        NoLeader: the node knows of no leader.
        RequestRefused: the node said no; the message carries its reason.
        RequestError: the node answered another question.
    """
    if isinstance(answer, answer_type):
        return answer
    if isinstance(answer, control.ErrorAnswer):
        raise error_of(answer)
    raise RequestError(f"{endpoint} answered {type(answer).__name__} to a question that takes {answer_type.__name__}")


def error_of(answer: control.ErrorAnswer) -> RequestError:
    """The exception that an ErrorAnswer stands for."""
    if answer.code == control.ErrorCode.NO_LEADER:
        return NoLeader("no node leads for now: an election takes a fraction of a second while a majority runs")
    return RequestRefused(f"the node refused: {answer.message} ({answer.code})")


def statuses(
    endpoints: Iterable[str],
    timeout_s: float = 1.0,
    enough: Callable[[dict[str, control.Answer]], bool] | None = None,
) -> dict[str, NodeStatus]:
    """The status of every node that answers within ``timeout_s``, by its client endpoint; ``enough`` as in
    :func:`ask_all`."""
    return _statuses_in(ask_all(endpoints, _status_query, timeout_s, enough))


def statuses_of_group(endpoints: Iterable[str], group: int, timeout_s: float = 1.0) -> dict[str, NodeStatus]:
    """The status of a group at every node that holds it and answers within ``timeout_s``, by client endpoint."""
    told = _statuses_in(ask_all(endpoints, _status_query, timeout_s, group=group))
    return {endpoint: status for endpoint, status in told.items() if status.group == group}


def status_table(endpoints: Sequence[str], timeout_s: float = 1.0) -> StatusTable:
    """The statuses of these nodes as a table. It says of those that do not let this process in why they don't."""
    answers = statuses(endpoints, timeout_s)
    return StatusTable.of_answers(endpoints, answers, why_silent(each for each in endpoints if each not in answers))


def member_endpoints(known: Sequence[str], timeout_s: float = 1.0) -> tuple[str, ...]:
    """Where clients reach all members now, by the word of the most advanced node at the ``known`` endpoints.

    A member that answers at a known endpoint keeps this spelling of it. If no node answers, the known endpoints are
    returned.
    """
    told = statuses(known, timeout_s)
    newest = newest_of(told.values())
    if newest is None:
        return tuple(known)
    if newest.shards > 1:
        return _nodes_of_all_groups(known, told)
    spelled = {status.node_id: endpoint for endpoint, status in told.items()}
    return tuple(spelled.get(member.node_id, member.client_endpoint) for member in newest.members) or tuple(known)


def follow_members(known: Sequence[str], timeout_s: float = 0.3) -> tuple[str, ...]:
    """:func:`member_endpoints` for a caller that asks often: it waits for a majority of the ``known`` nodes only.

    The known endpoints come first, in their order. One of them is dropped only if a majority has answered, because a
    few nodes that are cut off may not know which node took the place of another. Empty if no node answers.
    """
    majority = len(known) // 2 + 1
    told = _statuses_in(ask_all(known, _status_query, timeout_s, lambda answers: len(answers) >= majority))
    newest = newest_of(told.values())
    if newest is None:
        return ()
    if newest.shards > 1:
        return _nodes_of_all_groups(known, told)
    members = {member.node_id: member.client_endpoint for member in newest.members}
    by_endpoint = {endpoint: node_id for node_id, endpoint in members.items()}
    ids = {each: told[each].node_id if each in told else by_endpoint.get(each, 0) for each in known}
    kept = [each for each in known if ids[each] in members or not members or len(told) < majority]
    return (*kept, *(endpoint for node_id, endpoint in members.items() if node_id not in ids.values()))


def _nodes_of_all_groups(known: Sequence[str], told: dict[str, NodeStatus]) -> tuple[str, ...]:
    """The known nodes, and all that they name: of a cluster with shards none is dropped, as each knows some groups."""
    return tuple(dict.fromkeys([*known, *(at for status in told.values() for at in nodes_told(status))]))


def shards_of(endpoints: Sequence[str], timeout_s: float = 2.0) -> int:
    """How many groups share the symbols of the cluster at these endpoints, by the first node that answers; 0 if none
    answers in time."""
    told = statuses(endpoints, timeout_s, enough=bool)
    return max((status.shards for status in told.values()), default=0)


def _status_query(_: str) -> control.Query:
    return control.StatusQuery(nonce=new_nonce())


def _statuses_in(answers: dict[str, control.Answer]) -> dict[str, NodeStatus]:
    return {endpoint: answer.status for endpoint, answer in answers.items() if isinstance(answer, control.StatusAnswer)}


def answer_in(message: Sequence[bytes]) -> control.Answer | None:
    """The answer that a message carries; None if it carries something else."""
    with contextlib.suppress(FrameError):
        if len(message) == 1 and parse_header(message[0])[0] == ANSWER:
            return control.decode_answer(message[0])
    return None
