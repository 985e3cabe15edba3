"""The first start of a seed: is there a cluster already? If not, found one.

One node of a cluster is started with ``--join`` *and* ``--bootstrap-ms``: the seed. When its data folder is empty, it
asks the nodes it may join, for so long, whether one of them belongs to a cluster. If one does, it joins like any other
node. If none does, it founds a cluster of one, which the others join. Afterwards its journal knows what it is, and
nobody is asked.

Why not ``--bootstrap-expect N``, where N equal nodes agree to begin? With more than N started at once, two disjoint
sets of N can each see themselves as complete, and there are two clusters. With one seed there is one that decides.

Why ask first? A seed that has lost its disk is indistinguishable from one that starts for the first time, but for what
the others say. What remains: a seed that has lost its disk *and* reaches no member of its cluster for all that time
founds a second one. The two never mix, since a lone founder draws its identity at random: what the old cluster sends to
its lost member is not for this one. Nothing that was acknowledged is lost by it, and the stray cluster can be ended and
its folder deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import zmq

from zmqlab.errors import FrameError
from zmqlab.names import Names
from zmqlab.settings import NodeSettings, client_endpoint, parse_endpoint
from zmqlab.wire import control, frames

ROUND_MS = 250
"""How long each round of questions waits for answers. Names are looked up anew for each, since hosts are starting."""

log = logging.getLogger("zmqlab.node")


def may_found(settings: NodeSettings, stopped: Callable[[], bool], names: Names | None = None) -> bool:
    """Whether nobody was found in ``settings.bootstrap_ms`` who belongs to a cluster; False at once if somebody was.

    ``stopped`` is asked now and then; when it says so, the answer is False.
    """
    names = names or Names()
    deadline = time.monotonic() + settings.bootstrap_ms / 1000
    log.info("a first start: is there a cluster at %s?", ", ".join(settings.join))
    while time.monotonic() < deadline and not stopped():
        round_ends = min(deadline, time.monotonic() + ROUND_MS / 1000)
        targets = [target for target in names.spread(settings.join) if target != settings.endpoint]
        if found := _member_among(targets, round_ends):
            log.info("%s belongs to a cluster: this node joins it", found)
            return False
        time.sleep(max(0.0, round_ends - time.monotonic()))
    if not stopped():
        log.info("nobody belongs to a cluster: this node founds one")
    return not stopped()


def _member_among(targets: list[str], deadline: float) -> str:
    """The first of these that answers as a member of a cluster; empty if none does before ``deadline``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    asked: dict[zmq.Socket[bytes], str] = {}
    try:
        for target in targets:
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.MAXMSGSIZE, frames.MAX_ANSWER_BYTES)
            socket.connect(client_endpoint(*parse_endpoint(target)))
            socket.send(control.encode(frames.QUERY, control.StatusQuery(1)))
            asked[socket] = target
            poller.register(socket, zmq.POLLIN)
        while asked and (wait_ms := int((deadline - time.monotonic()) * 1000)) > 0:
            for socket, _ in poller.poll(wait_ms):
                if _is_member(socket.recv_multipart()[-1]):
                    return asked[socket]
        return ""
    finally:
        context.destroy(linger=0)


def _is_member(frame: bytes) -> bool:
    try:
        answer = control.decode_answer(frame) if frames.parse_header(frame)[0] == frames.ANSWER else None
    except FrameError:
        return False
    return isinstance(answer, control.StatusAnswer) and bool(answer.status.members)
