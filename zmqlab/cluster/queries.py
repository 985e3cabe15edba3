"""Asking nodes questions: one query and its answer, or the same query to many nodes at once.

Every call opens its own DEALER sockets and closes them: questions are rare, and a socket must not be shared
between threads. A node that does not answer in time is simply not in the result; only :func:`ask`, for
callers who need that one node, raises.

Left out on purpose: orders. They need sessions and retries, which are :mod:`zmqlab.load.requester`'s.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
import zmq

from zmqlab.errors import FrameError, NoLeader, RequestError, RequestRefused, RequestTimeout
from zmqlab.wire import control
from zmqlab.wire.frames import ANSWER, MAX_ANSWER_BYTES, QUERY, parse_header

A = TypeVar("A", bound=msgspec.Struct)

RETRY_S = 0.05
"""Between two rounds of asking while there is no leader; an election takes some 200 ms."""
RECONNECT_MS = 10
"""A node that is just starting is found quickly; libzmq's default of 100 ms would dominate a start."""


def new_nonce() -> int:
    """A number that tells this question's answer from a late one of another."""
    return secrets.randbits(63)


def ask(endpoint: str, query: control.Query, answer_type: type[A], timeout_s: float = 2.0) -> A:
    """The answer of the node that listens for clients at ``endpoint``.

    Raises:
        RequestTimeout: nothing came in time.
        NoLeader: the node knows of no leader, and the question needs one.
        RequestRefused: the node said no; the message carries its reason.
    """
    answer = ask_all([endpoint], lambda _: query, timeout_s).get(endpoint)
    if answer is None:
        raise RequestTimeout(f"{endpoint} did not answer within {timeout_s:g} s: is that node running?")
    return expect(answer, answer_type, endpoint)


def ask_any(
    endpoints: Sequence[str],
    make_query: Callable[[], control.Query],
    answer_type: type[A],
    timeout_s: float = 2.0,
    patience_s: float = 0.5,
) -> A:
    """The answer of any node: one after the other is asked until one answers, round after round.

    A node that says nothing costs ``patience_s``; one that knows of no leader is asked again later.

    Raises:
        RequestTimeout, NoLeader: nothing better came within ``timeout_s``.
        RequestRefused: a node said no for another reason, and another node would say the same.
    """
    deadline = time.monotonic() + timeout_s
    problem: RequestError = RequestTimeout("there is no node to ask")
    while True:
        for endpoint in endpoints:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise problem
            try:
                return ask(endpoint, make_query(), answer_type, min(patience_s, remaining))
            except (RequestTimeout, NoLeader) as error:
                problem = error
        time.sleep(min(RETRY_S, max(0.0, deadline - time.monotonic())))


def ask_all(
    endpoints: Iterable[str],
    make_query: Callable[[str], control.Query],
    timeout_s: float = 2.0,
    enough: Callable[[dict[str, control.Answer]], bool] | None = None,
) -> dict[str, control.Answer]:
    """The answers that came within ``timeout_s``, by endpoint; returns early with all or ``enough``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    poller = zmq.Poller()
    sockets: dict[zmq.Socket[bytes], tuple[str, int]] = {}
    answers: dict[str, control.Answer] = {}
    deadline = time.monotonic() + timeout_s
    try:
        for endpoint in dict.fromkeys(endpoints):
            query = make_query(endpoint)
            socket = _dealer(context, endpoint)
            sockets[socket] = (endpoint, query.nonce)
            poller.register(socket, zmq.POLLIN)
            socket.send(control.encode(QUERY, query))
        while len(answers) < len(sockets) and not (enough and enough(answers)):
            remaining_ms = (deadline - time.monotonic()) * 1000
            if remaining_ms <= 0:
                break
            for socket, _ in poller.poll(max(1, int(remaining_ms))):
                endpoint, nonce = sockets[socket]
                answer = _receive(socket, nonce)
                if answer is not None:
                    answers[endpoint] = answer
    finally:
        for socket in sockets:
            socket.close(0)
    return answers


def expect(answer: control.Answer, answer_type: type[A], endpoint: str) -> A:
    """``answer`` if it is of ``answer_type``; the error that it stands for otherwise."""
    if isinstance(answer, answer_type):
        return answer
    if isinstance(answer, control.ErrorAnswer):
        raise error_of(answer)
    raise RequestError(f"{endpoint} answered {type(answer).__name__} to a question that takes {answer_type.__name__}")


def error_of(answer: control.ErrorAnswer) -> RequestError:
    """The exception that an ErrorAnswer stands for."""
    if answer.code == "no_leader":
        return NoLeader("no node leads for now: an election takes a fraction of a second while a majority runs")
    return RequestRefused(f"the node refused: {answer.message} ({answer.code})")


def statuses(endpoints: Iterable[str], timeout_s: float = 1.0) -> dict[str, control.NodeStatus]:
    """The status of every node that answers within ``timeout_s``, by its client endpoint."""
    answers = ask_all(endpoints, lambda _: control.StatusQuery(nonce=new_nonce()), timeout_s)
    return {endpoint: answer.status for endpoint, answer in answers.items() if isinstance(answer, control.StatusAnswer)}


def member_endpoints(known: Sequence[str], timeout_s: float = 1.0) -> tuple[str, ...]:
    """Where clients reach all members now, as those at the ``known`` endpoints say who got furthest in the log.

    A member that answers at a known endpoint keeps this spelling of it; with no answer, the known ones are returned.
    """
    answers = statuses(known, timeout_s)
    if not answers:
        return tuple(known)
    newest = max(answers.values(), key=lambda status: (status.commit_index, status.term))
    spelled = {status.node_id: endpoint for endpoint, status in answers.items()}
    return tuple(spelled.get(member.node_id, member.client_endpoint) for member in newest.members) or tuple(known)


def follow_members(known: Sequence[str], timeout_s: float = 0.3) -> tuple[str, ...]:
    """:func:`member_endpoints` for those who ask often: it waits for a majority of the ``known`` only.

    What was known comes first, in its order, and is dropped only if a majority has answered: a few that are cut off
    may not know who took whose place. Empty if nobody answers.
    """
    majority = len(known) // 2 + 1
    answers = ask_all(
        known, lambda _: control.StatusQuery(new_nonce()), timeout_s, lambda answers: len(answers) >= majority
    )
    told = {endpoint: answer.status for endpoint, answer in answers.items() if isinstance(answer, control.StatusAnswer)}
    if not told:
        return ()
    newest = max(told.values(), key=lambda status: (status.commit_index, status.term))
    members = {member.node_id: member.client_endpoint for member in newest.members}
    by_endpoint = {endpoint: node_id for node_id, endpoint in members.items()}
    ids = {each: told[each].node_id if each in told else by_endpoint.get(each, 0) for each in known}
    kept = [each for each in known if ids[each] in members or not members or len(told) < majority]
    return (*kept, *(endpoint for node_id, endpoint in members.items() if node_id not in ids.values()))


def _dealer(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
    socket.connect(endpoint)
    return socket


def _receive(socket: zmq.Socket[bytes], nonce: int) -> control.Answer | None:
    """The answer to ``nonce``, or None for anything else."""
    frames = socket.recv_multipart()
    try:
        if len(frames) != 1 or parse_header(frames[0])[0] != ANSWER:
            return None
        answer = control.decode_answer(frames[0])
    except FrameError:
        return None
    return answer if answer.nonce == nonce else None
