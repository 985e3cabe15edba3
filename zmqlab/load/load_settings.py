"""What a load client is told: frozen values, each of them checked. No numpy.

``rate`` is in orders a second, or None for "max". At "max" the client keeps a bounded number of requests outstanding
and sends the next one when one is answered (a closed loop). That finds saturation, but measures service time only.

*Stages* (:class:`Stage`) make the rate a function of time: straight lines between points, as in ``0s:1000, 5s:1000,
5s:8000``. Two points of one rate hold it, two points of two rates are a ramp, two points at one time are a step, and
two steps are a spike. The rate of the last point goes on until the end of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from zmqlab.client.retries import NodeChoice
from zmqlab.client.session import SessionSettings
from zmqlab.endpoints import parse_endpoint
from zmqlab.errors import SettingsError
from zmqlab.settings import (
    MAX_RATE,
    MAX_SHARDS,
    Ack,
    parse_duration,
    parse_rate,
    require,
    require_choice,
    require_number,
    require_path,
    require_whole,
)
from zmqlab.wire.client import MAX_COMMANDS_PER_REQUEST

Arrivals = Literal["poisson", "constant"]

MAX_CLIENTS = 100
"""Each has a socket to every node."""
MAX_WINDOW = 1_024
"""What a session remembers at most (:class:`zmqlab.settings.SessionLimits`)."""
MAX_SYMBOLS = 4_096


class Stage(NamedTuple):
    """One point of a rate that changes in time."""

    at_s: float
    """Since the first order may be sent."""
    rate: float
    """Orders a second at that moment; 0 is a pause."""

    def __str__(self) -> str:
        return f"{self.at_s:g}s:{self.rate:g}"


def parse_stages(stages: object) -> tuple[Stage, ...]:
    """The stages in ``"0s:1000, 5s:1000, 5s:8000"``, or in a list of such points; a point is also ``(5, 8000)`` or
    ``{"5s": 8000}``, as YAML has it.

    Raises:
        SettingsError: a point can't be read, or the points are in no order of time that begins at 0 s.
    """
    points = stages.split(",") if isinstance(stages, str) else stages
    if not isinstance(points, Iterable) or isinstance(points, Mapping):
        raise SettingsError(f"stages are {stages!r}: write points of time and rate, as in '0s:1000, 5s:1000, 5s:8000'")
    return check_stages(tuple(map(_parse_stage, points)))


def check_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages. Raises SettingsError unless they begin at 0 s and go forward in time."""
    require(len(stages) > 0, "stages are empty: write at least one point, as in '0s:1000'")
    require(
        stages[0].at_s == 0, f"stages begin at {stages[0].at_s:g} s: say the rate from the start on, as in '0s:1000'"
    )
    for stage in stages:
        require_number(f"the rate at {stage.at_s:g} s", stage.rate, 0, MAX_RATE)
    for one, other in pairwise(stages):
        require(one.at_s <= other.at_s, f"stages go back in time, from {one} to {other}: order them by time")
    for one, other in zip(stages, stages[2:], strict=False):
        require(one.at_s < other.at_s, f"more than two stages stand at {one.at_s:g} s: a step is two")
    return stages


def _parse_stage(point: object) -> Stage:
    if isinstance(point, Stage):
        return point
    parts: list[object] = []
    if isinstance(point, str):
        parts = list(point.split(":"))
    elif isinstance(point, Mapping):
        parts = [part for pair in point.items() for part in pair]
    elif isinstance(point, list | tuple):
        parts = list(point)
    if len(parts) != 2 or not all(isinstance(part, str | int | float) for part in parts):
        raise SettingsError(f"stage {point!r} can't be read: write TIME:RATE, as in 5s:8000")
    at, rate = (str(part).strip() for part in parts)
    at_s = 0.0 if at in ("0", "0s", "0ms", "0.0") else parse_duration(at)
    value = 0.0 if rate in ("0", "0.0") else parse_rate(rate)
    if value is None:
        raise SettingsError(f"stage {point!r} has no rate: stages are of an open loop, and max is none")
    return Stage(at_s, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMix:
    """Relative shares of what the client sends; they need not add up to 1.

    The default is a calm market: more cancels than trades, and about as many orders leave the book as enter it.
    """

    passive: float = 0.44
    """Limit orders away from the mid price: they rest."""
    marketable: float = 0.12
    """Limit orders across the spread: they trade, and what is left of them rests."""
    cancel: float = 0.32
    replace: float = 0.07
    post_only: float = 0.02
    """Passive orders that are rejected if they would trade at once."""
    ioc: float = 0.015
    fok: float = 0.005
    market: float = 0.01

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            require_number(f"share {name}", share, 0, 1_000_000)
        require(sum(asdict(self).values()) > 0, "the flow mix is empty: give at least one share above 0")
        require(
            self.passive + self.marketable + self.post_only + self.ioc + self.fok + self.market > 0,
            "a flow of cancels and replaces alone has nothing to cancel: give some new orders a share",
        )

    @property
    def shares(self) -> dict[str, float]:
        """Each kind's share; they add up to 1."""
        weights = asdict(self)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """All that one load client is told.

    Raises:
        SettingsError: from the constructor; a value is out of its range.
    """

    nodes: tuple[str, ...]
    """Client endpoints (base port + 2), as in tcp://127.0.0.1:5002."""
    rate: float | None = 5_000.0
    """Orders a second; None is "max". With stages it is the first stage's."""
    stages: tuple[Stage, ...] = ()
    """How the rate changes in time; none: it stays."""
    duration_s: float = math.inf
    """How long to send; by default until the run is stopped."""
    clients: int = 1
    """Sessions, each with its own connections, numbers and window; they share the rate evenly."""
    name: str = "load"
    node_choice: NodeChoice = "random"
    ack: Ack = "quorum"
    """``none``: orders are sent, and nothing is waited for: no answer, no retry. Then response time ends when an order
    is handed to a socket, and no order counts as acknowledged. Otherwise each answer is waited for, whatever the nodes
    mean by it."""
    arrivals: Arrivals = "poisson"
    mix: FlowMix = field(default_factory=FlowMix)
    symbols: int = 16
    shards: int = 1
    """How many Raft groups share the symbols at the nodes. Each client has a session with each group that has one of
    its symbols."""
    accounts: int = 64
    """Many enough that few orders meet one of their own account."""
    seed: int = 1
    timeout_ms: float = 1_000.0
    """The shortest time after which a request is sent again, to another node, under its number. The time-out follows
    the observed response time (:mod:`zmqlab.client.retries`)."""
    suspicion_ms: float = 300.0
    """A node that says nothing for so long, while other nodes do, is avoided: it may be paused."""
    window: int = 512
    """How far request numbers run ahead of the first unanswered one; half of what a session allows."""
    batch_interval_ms: float | None = None
    """The pause between two requests, in which due orders gather. None: it follows the load
    (:class:`zmqlab.load.pace.Pace`). It is part of response time."""
    resting_target: int = 20_000
    """Above so many resting orders of this client, more and more new orders become cancels."""
    drain_ms: float = 5_000.0
    """How long to wait for answers at the end."""
    closed_requests: int = 16
    """At rate "max": requests outstanding at a time, of each session: of each client, and where there are several Raft
    groups, of each client in each of them. So a group has the queue that a cluster of one group has."""
    closed_batch: int = 256
    """At rate "max": orders in each."""
    book_reads: float = 0.0
    """Linearizable queries for books a second, each to a node drawn at random, at most 50. The verdict checks their
    answers. 0: none."""
    history: str | None = None
    """Write every operation to this file (:mod:`zmqlab.load.history`), compressed if its name ends in ``.gz``: about
    200 bytes and 3 µs an order. A path is taken as well."""
    ledger_limit: int = 2_000_000
    """Acknowledged requests remembered for the verdict, 56 bytes each: the first half, and the newest. Those between
    are counted only."""

    def __post_init__(self) -> None:
        if self.history is not None:
            object.__setattr__(self, "history", str(require_path("history", self.history)))
        require(len(self.nodes) > 0, "no node to send to: give at least one endpoint, as in tcp://127.0.0.1:5002")
        for node in self.nodes:
            parse_endpoint(node)
        require(len(set(self.nodes)) == len(self.nodes), "a node is named twice")
        if self.rate is not None:
            require_number("rate", self.rate, 0, MAX_RATE)
        if self.stages:
            check_stages(self.stages)
            require(self.rate == self.stages[0].rate, f"rate is {self.rate!r}, and the stages begin with another one")
            require(
                self.stages[-1].at_s <= self.duration_s,
                f"the last stage is at {self.stages[-1].at_s:g} s, after the end at {self.duration_s:g} s",
            )
        require_number("duration_s", self.duration_s, 0.001, math.inf)
        require_choice("node_choice", self.node_choice, NodeChoice)
        require_choice("ack", self.ack, Ack)
        require(
            self.ack != "none" or self.rate is not None,
            'rate "max" sends the next request when one is answered: with ack none, give a rate',
        )
        require_choice("arrivals", self.arrivals, Arrivals)
        require(isinstance(self.mix, FlowMix), f"mix is {self.mix!r}: it must be a FlowMix")
        require_whole("clients", self.clients, 1, MAX_CLIENTS)
        require_whole("symbols", self.symbols, 1, MAX_SYMBOLS)
        require_whole("shards", self.shards, 1, MAX_SHARDS)
        require_whole("accounts", self.accounts, 1, 1_000_000)
        require_whole("seed", self.seed, 0, 2**63)
        require_number("timeout_ms", self.timeout_ms, 10, 600_000)
        require_number("suspicion_ms", self.suspicion_ms, 10, 600_000)
        require_whole("window", self.window, 1, MAX_WINDOW)
        if self.batch_interval_ms is not None:
            require_number("batch_interval_ms", self.batch_interval_ms, 0, 1_000)
        require_whole("resting_target", self.resting_target, 1, 50_000)
        require_number("drain_ms", self.drain_ms, 0, 600_000)
        require_whole("closed_requests", self.closed_requests, 1, MAX_WINDOW)
        require_whole("closed_batch", self.closed_batch, 1, MAX_COMMANDS_PER_REQUEST)
        require_number("book_reads", self.book_reads, 0, 50)
        require_whole("ledger_limit", self.ledger_limit, 0, 10_000_000)

    @property
    def session(self) -> SessionSettings:
        """How each session behaves."""
        return SessionSettings(
            timeout_ms=self.timeout_ms,
            suspicion_ms=self.suspicion_ms,
            window=self.window,
            node_choice=self.node_choice,
            waits=self.ack != "none",
        )

    @property
    def rate_text(self) -> str:
        """What is offered, for people."""
        if self.stages:
            rates = [stage.rate for stage in self.stages]
            return f"{min(rates):,.0f} to {max(rates):,.0f} orders/s"
        return "as fast as it can" if self.rate is None else f"{self.rate:,.0f} orders/s"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an endless duration becomes None."""
        return asdict(self) | {"duration_s": None if math.isinf(self.duration_s) else self.duration_s}

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoadSettings:
        """The settings that :meth:`to_dict` gave.

        Raises:
            SettingsError: a name is unknown, or a value is wrong.
        """
        unknown = set(values) - {each.name for each in fields(cls)}
        require(not unknown, f"unknown load settings: {', '.join(sorted(unknown))}")
        values = dict(values)
        if values.get("duration_s", 0) is None:
            values["duration_s"] = math.inf
        try:
            mix = FlowMix(**values.pop("mix", {}))
            stages = tuple(Stage(*each) for each in values.pop("stages", ()))
            return cls(**values | {"mix": mix, "nodes": tuple(values.get("nodes", ())), "stages": stages})
        except TypeError as error:
            raise SettingsError(f"load settings do not fit: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> LoadSettings:
        """The settings that :meth:`to_json` gave.

        Raises:
            SettingsError: it is no such JSON.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(f"load settings are not JSON: {error}") from None
        require(isinstance(values, dict), "load settings must be a JSON object")
        return cls.from_dict(values)
