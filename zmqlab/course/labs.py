"""The five labs: what each asks for, and what judges it.

How many seeds a lab tries, and with which aim, was chosen so that a grade takes less than 20 s on one core of a small
machine, and so that every wrong solution in ``tests/course/wrong`` is found. An aim is one of
:data:`zmqlab.sim.plan.FOCUSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmqlab.course.book_duel import fight
from zmqlab.course.raft_pieces import ack_piece, commit_piece, vote_piece
from zmqlab.course.retrying_client import client_piece
from zmqlab.course.seeds import Aim, Finding, Piece, Report, try_seeds
from zmqlab.course.submission import Submission
from zmqlab.errors import SettingsError
from zmqlab.sim.plan import SimSettings

Judge = Callable[[Submission, Report, bool], Finding]
"""(code, report, quick) -> what was found."""


@dataclass(frozen=True, slots=True)
class Lab:
    """One of the five."""

    number: int
    name: str
    asks: str
    """What the person writes."""
    judge: Judge


def _by_seeds(make: Callable[[Submission], Piece], *aims: Aim) -> Judge:
    return lambda submission, report, quick: try_seeds(make(submission), aims, report, quick)


def _aim(count: int, focus: str = "", nodes: int = 0) -> Aim:
    return Aim(SimSettings(focus=focus, nodes=nodes), count)


LABS = (
    Lab(
        1,
        "client",
        "a class RetryingClient: an order is sent until it is answered, and carried out once",
        _by_seeds(client_piece, _aim(60, "outage"), _aim(40, "outage", 3), _aim(60), _aim(30, "ahead")),
    ),
    Lab(
        2,
        "vote",
        "a function grant_vote(me, request): whether a node votes for a candidate",
        _by_seeds(vote_piece, _aim(40, "figure-8"), _aim(50, "crashes"), _aim(40, "ahead"), _aim(30)),
    ),
    Lab(
        3,
        "commit",
        "a function commit_index(leader): up to where a leader's log is committed",
        _by_seeds(commit_piece, _aim(40, "figure-8"), _aim(20, "members"), _aim(60, "outage"), _aim(30)),
    ),
    Lab(4, "book", "a class OrderBook: price and time priority", fight),
    Lab(
        5,
        "ack",
        "a class InSync(RaftByQuorum): an order is done when every voter that answers has stored it",
        _by_seeds(ack_piece, _aim(40, "figure-8", 5), _aim(60, "outage"), _aim(20, "members"), _aim(30)),
    ),
)


def find_lab(which: str) -> Lab:
    """The lab of a number or a name. Raises SettingsError."""
    lab = next((lab for lab in LABS if which in (str(lab.number), lab.name)), None)
    if lab is None:
        known = ", ".join(f"{lab.number} or {lab.name}" for lab in LABS)
        raise SettingsError(f"there is no lab {which!r}: choose {known}")
    return lab
