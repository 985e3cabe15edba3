"""The kinds of fault that there are: how each kind looks, which buttons start it, and how torture draws it.

:data:`FAULTS` holds a :class:`~zmqlab.lab.fault_registry.FaultKind` for each. Three kinds of reader use it:

- charts and tables: the marks and bands of its events (:mod:`~zmqlab.lab.events`);
- buttons: its controls. ``control.fault(cluster, "node1").strike(cluster)`` is a click, and ``.undo(cluster)`` another;
- torture: its draws (:mod:`zmqlab.scenarios.nemesis`), and scenario files: draws and buttons, each by its name.

So a new kind of fault is a class (:class:`~zmqlab.lab.faults.Fault`) and one call of
:meth:`~zmqlab.lab.fault_registry.Registry.register`, in one file. ``tests/lab/test_fault_kinds.py`` has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from typing import Any

from zmqlab.lab import faults
from zmqlab.lab.events import ENDS_OF_PAUSE, Band, LabEvent, Mark, Sort
from zmqlab.lab.fault_registry import ALIVE, Aim, Control, Draw, FaultKind, Parameter, Registry, Target, Undo
from zmqlab.lab.fault_table import Link
from zmqlab.lab.faults import Fault
from zmqlab.lab.node_faults import BadClientLinks, FullDisk, SkewedClock, SlowDisk
from zmqlab.wire.fault_queries import LinkFault

DELAY_MS_MAX = 500.0
"""As far as a slider goes: beyond 200 ms elections begin."""

FAULTS = Registry()
"""All kinds of fault."""


# -- what there is -------------------------------------------------------------------------------------------------

ANY_STATE = (*ALIVE, "stopped")
RESUME = Undo("resume", "SIGCONT", ("paused",))
HEAL = Undo("heal", "make its links whole")
LINK_MARK = Mark(LabEvent.LINK, "{link} bad", Sort.FAULT)
LINK_SIZES = (
    Parameter("delay_ms", 0, DELAY_MS_MAX, "delay, ms"),
    Parameter("loss", 0, 1, "share of frames lost"),
    Parameter("bytes_per_s", 0, 1_000_000, "bandwidth, bytes/s (0: no bound)"),
    Parameter("duplication", 0, 1, "share of frames that come twice"),
    Parameter("reordering", 0, 1, "share of frames out of turn"),
    Parameter("reordering_ms", 0, 200, "out of turn by up to, ms"),
)
CLIENT_SIZES = (
    Parameter("request_loss", 0, 1, "share of requests lost"),
    Parameter("request_delay_ms", 0, DELAY_MS_MAX, "requests late, ms"),
    Parameter("answer_loss", 0, 1, "share of answers lost"),
    Parameter("answer_delay_ms", 0, DELAY_MS_MAX, "answers late, ms"),
)
REORDERING_MS = 20.0
"""By so much torture shuffles frames: half a heartbeat."""


def _all(fault: Callable[[str], Fault], names: Iterable[str]) -> Fault:
    return faults.Together(tuple(fault(name) for name in names))


def _band(label: str, begins: str, ends: str) -> Band:
    """Of something that a node suffers until it ends, or the node is removed: it outlives the process."""
    return Band(label, frozenset((begins,)), frozenset((ends, LabEvent.REMOVED)))


def _bad(links: Iterable[Link], **sizes: Any) -> Fault:
    return faults.BadLinks(tuple(links), LinkFault(**sizes))


def _cut(source: str, target: str) -> Fault:
    return faults.BadLinks(((source, target),), LinkFault(cut=True))


def _worsen(source: str, target: str, **sizes: float) -> Fault:
    return _bad([(source, target)], **sizes)


def _both_ways(links: Iterable[Link], aim: Aim) -> tuple[Link, Link]:
    one = aim.rng.choice(tuple(links))
    return one, (one[1], one[0])


def _cut_off(aim: Aim, away: Sequence[str]) -> Fault:
    """These on one side, all others on the other."""
    return faults.Partition((tuple(away), tuple(name for name in aim.cluster.nodes if name not in away)))


def _bridge(aim: Aim) -> Fault:
    """Two halves that do not hear each other, and nodes between them that hear both."""
    ring, half = aim.everyone(), aim.minority
    return faults.Partition((tuple(ring[:half]), tuple(ring[len(ring) - half :])))


def _ring(aim: Aim) -> Fault:
    """Each node hears as many neighbours on either side as make a majority with itself."""
    ring = aim.everyone()
    reach = (len(ring) // 2 + 1) // 2
    apart = [
        (ring[one], ring[other])
        for one, other in permutations(range(len(ring)), 2)
        if min(abs(one - other), len(ring) - abs(one - other)) > reach
    ]
    return faults.BadLinks(tuple(apart), LinkFault(cut=True))


def _one_way(aim: Aim, deaf: bool) -> Fault:
    """The leader hears no follower, or no follower hears the leader."""
    leader = aim.leader()
    links = tuple((name, leader) if deaf else (leader, name) for name in aim.followers())
    return faults.BadLinks(links, LinkFault(cut=True))


def _all_slow(names: Iterable[str], write_ms: float) -> Fault:
    return _all(lambda name: SlowDisk(name, write_ms), names)


def _all_clocks(aim: Aim) -> Fault:
    """Each node's clock goes wrong in its own way, from half to twice the ticks."""
    return _all(lambda name: SkewedClock(name, round(2 ** aim.rng.uniform(-1, 1), 2)), aim.everyone())


def _harmed(aim: Aim, **sizes: float) -> Fault:
    return BadClientLinks(aim.everyone()[0], **sizes)


def _scaled(aim: Aim, direction: int) -> Fault:
    count = len(aim.cluster.nodes)
    return faults.Scale(min(count + direction * round(aim.amount), aim.cluster.scaling.nodes_max), count)


def _handed_over(aim: Aim) -> Fault:
    return faults.Transfer(aim.successors()[0], group=aim.group or 0)


for _kind in (
    FaultKind(
        name="kill",
        marks=(Mark(LabEvent.KILLED, "{node} killed", Sort.FAULT),),
        controls=(
            Control("kill -9", "SIGKILL", Target.NODE, faults.Kill, danger=True, needs_process=True),
            Control(
                "kill the leader",
                "SIGKILL for the node that leads now; with shards, that leads most groups",
                Target.LEADER,
                faults.Kill,
                danger=True,
                needs_process=True,
            ),
        ),
        draws=(
            Draw("leader", (0.5, 3.0), lambda aim: faults.Kill(aim.leader())),
            Draw("follower", (0.5, 3.0), lambda aim: faults.Kill(aim.followers()[0])),
            Draw("minority", (0.5, 3.0), lambda aim: _all(faults.Kill, aim.everyone()[: aim.minority]), nodes=5),
            Draw("again and again", (0.0, 0.3), amount=(2, 4)),
        ),
    ),
    FaultKind(
        name="kill-all",
        draws=(Draw("at once", (0.2, 1.0), lambda aim: faults.power_cut(aim.everyone()), is_total=True),),
    ),
    FaultKind(
        name="pause",
        marks=(Mark(LabEvent.PAUSED, "{node} paused", Sort.FAULT),),
        bands=(Band("{node} paused", frozenset((LabEvent.PAUSED,)), ENDS_OF_PAUSE),),
        controls=(
            Control(
                "pause",
                "SIGSTOP: it hangs, sockets open",
                Target.NODE,
                faults.Pause,
                ("running",),
                RESUME,
                needs_process=True,
            ),
        ),
        draws=(
            Draw("leader", (0.3, 3.0), lambda aim: faults.Pause(aim.leader())),
            Draw("follower", (0.3, 3.0), lambda aim: faults.Pause(aim.followers()[0])),
            Draw("all", (0.2, 1.5), lambda aim: _all(faults.Pause, aim.everyone()), is_total=True),
        ),
    ),
    FaultKind(
        name="terminate",
        marks=(Mark(LabEvent.TERMINATED, "{node} terminated", Sort.FAULT),),
        controls=(
            Control(
                "terminate",
                "SIGTERM: it ends by itself",
                Target.NODE,
                faults.Terminate,
                short="term",
                needs_process=True,
            ),
            Control(
                "restart",
                "end it, if it runs, and start it from its journal",
                Target.NODE,
                faults.Restart,
                ANY_STATE,
                needs_process=True,
            ),
        ),
        draws=(
            Draw("leader", (0.2, 2.0), lambda aim: faults.Terminate(aim.leader())),
            Draw("follower", (0.2, 2.0), lambda aim: faults.Terminate(aim.followers()[0])),
            Draw("rolling", (0.0, 0.3)),
        ),
    ),
    FaultKind(
        name="partition",
        marks=(
            Mark(LabEvent.PARTITIONED, "partition", Sort.FAULT),
            Mark(LabEvent.CUT, "{link} cut", Sort.FAULT),
            LINK_MARK,
        ),
        bands=(
            Band(
                "links bad",
                frozenset((LabEvent.PARTITIONED, LabEvent.CUT, LabEvent.LINK)),
                frozenset((LabEvent.HEALED,)),
                of_links=True,
            ),
        ),
        controls=(
            Control("cut", "the second node hears nothing of the first", Target.LINK, _cut, undo=HEAL),
            Control("isolate", "cut all links of this node", Target.NODE, faults.Isolate, undo=HEAL),
            Control(
                "isolate the leader",
                "cut all links of the leader; with shards, of the node that leads most groups",
                Target.LEADER,
                faults.Isolate,
                undo=HEAL,
            ),
        ),
        draws=(
            Draw(
                "leader cut off",
                (1.0, 4.0),
                lambda aim: _cut_off(aim, [aim.leader(), *aim.followers()[: aim.minority - 1]]),
            ),
            Draw("minority cut off", (1.0, 4.0), lambda aim: _cut_off(aim, aim.followers()[: aim.minority])),
            Draw("leader not heard", (1.0, 4.0), lambda aim: _one_way(aim, deaf=False)),
            Draw("leader deaf", (1.0, 4.0), lambda aim: _one_way(aim, deaf=True)),
            Draw("bridge", (1.0, 4.0), _bridge),
            Draw("ring", (1.0, 4.0), _ring, nodes=5),
        ),
    ),
    FaultKind(
        name="delay",
        marks=(LINK_MARK,),
        controls=(
            Control(
                "make worse",
                "the second node hears the first late, badly or out of order",
                Target.LINK,
                _worsen,
                undo=HEAL,
                parameters=LINK_SIZES,
            ),
        ),
        draws=(
            Draw("leader", (1.0, 4.0), lambda aim: _bad(aim.links(aim.leader()), delay_ms=aim.amount), (50, 300)),
            Draw(
                "one link", (1.0, 4.0), lambda aim: _bad(_both_ways(aim.links(), aim), delay_ms=aim.amount), (50, 300)
            ),
            Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), delay_ms=aim.amount), (2, 20)),
        ),
    ),
    FaultKind(
        name="loss",
        marks=(LINK_MARK,),
        draws=(
            Draw("one node", (1.0, 4.0), lambda aim: _bad(aim.links(aim.everyone()[0]), loss=aim.amount), (0.2, 0.6)),
            Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), loss=aim.amount), (0.02, 0.2)),
        ),
    ),
    FaultKind(
        name="bandwidth",
        marks=(LINK_MARK,),
        draws=(
            Draw(
                "one link",
                (1.0, 4.0),
                lambda aim: _bad(_both_ways(aim.links(), aim), bytes_per_s=aim.amount),
                (50_000, 1_000_000),
            ),
            Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), bytes_per_s=aim.amount), (1_000_000, 4_000_000)),
        ),
    ),
    FaultKind(
        name="duplication",
        marks=(LINK_MARK,),
        draws=(Draw("all", (1.0, 4.0), lambda aim: _bad(aim.links(), duplication=aim.amount), (0.05, 0.5)),),
    ),
    FaultKind(
        name="reordering",
        marks=(LINK_MARK,),
        draws=(
            Draw(
                "all",
                (1.0, 4.0),
                lambda aim: _bad(aim.links(), reordering=aim.amount, reordering_ms=REORDERING_MS),
                (0.05, 0.5),
            ),
        ),
    ),
    FaultKind(
        name="slow-disk",
        marks=(
            Mark(SlowDisk.begins, "{node} disk slow", Sort.FAULT),
            Mark(SlowDisk.ends, "{node} disk quick again", Sort.CHANGE),
        ),
        bands=(_band("{node} disk slow", SlowDisk.begins, SlowDisk.ends),),
        controls=(
            Control(
                "slow disk",
                "each write of its journal takes long, and it does nothing else meanwhile",
                Target.NODE,
                SlowDisk,
                undo=Undo("quick disk", "its disk is as quick as it is", ALIVE),
                parameters=(Parameter("write_ms", 0, 200, "a write takes, ms"),),
                is_rare=True,
            ),
        ),
        draws=(
            Draw("leader", (1.0, 4.0), lambda aim: SlowDisk(aim.leader(), aim.amount), (5, 100)),
            Draw("follower", (1.0, 4.0), lambda aim: SlowDisk(aim.followers()[0], aim.amount), (5, 100)),
            Draw("all", (1.0, 4.0), lambda aim: _all_slow(aim.everyone(), aim.amount), (2, 20)),
        ),
    ),
    FaultKind(
        name="full-disk",
        marks=(
            Mark(FullDisk.begins, "{node} disk full", Sort.FAULT),
            Mark(FullDisk.ends, "{node} has room", Sort.CHANGE),
        ),
        bands=(_band("{node} disk full", FullDisk.begins, FullDisk.ends),),
        controls=(
            Control(
                "fill disk",
                "its journal can't be written: it ends by itself",
                Target.NODE,
                FullDisk,
                undo=Undo("make room", "room on its disk; it starts again", ANY_STATE),
                danger=True,
                is_rare=True,
                needs_process=True,
            ),
        ),
        draws=(
            Draw("leader", (0.5, 3.0), lambda aim: FullDisk(aim.leader())),
            Draw("follower", (0.5, 3.0), lambda aim: FullDisk(aim.followers()[0])),
        ),
    ),
    FaultKind(
        name="clock",
        marks=(
            Mark(SkewedClock.begins, "{node} clock wrong", Sort.FAULT),
            Mark(SkewedClock.ends, "{node} clock right", Sort.CHANGE),
        ),
        bands=(_band("{node} clock wrong", SkewedClock.begins, SkewedClock.ends),),
        controls=(
            Control(
                "skew clock",
                "its ticks come more often or more seldom, and its time-outs with them",
                Target.NODE,
                SkewedClock,
                undo=Undo("set clock", "its clock goes right", ALIVE),
                parameters=(Parameter("clock_rate", 0.5, 2, "ticks in place of one"),),
                is_rare=True,
            ),
        ),
        draws=(
            Draw("leader", (1.0, 4.0), lambda aim: SkewedClock(aim.leader(), aim.amount), (0.5, 2)),
            Draw("follower", (1.0, 4.0), lambda aim: SkewedClock(aim.followers()[0], aim.amount), (0.5, 2)),
            Draw("all apart", (1.0, 4.0), _all_clocks),
        ),
    ),
    FaultKind(
        name="clients",
        marks=(
            Mark(BadClientLinks.begins, "{node} loses clients", Sort.FAULT),
            Mark(BadClientLinks.ends, "{node} hears clients", Sort.CHANGE),
        ),
        bands=(_band("{node} loses clients", BadClientLinks.begins, BadClientLinks.ends),),
        controls=(
            Control(
                "harm clients",
                "requests to it, or its answers, are lost or late",
                Target.NODE,
                BadClientLinks,
                undo=Undo("heal clients", "clients reach it as ever", ALIVE),
                parameters=CLIENT_SIZES,
                is_rare=True,
            ),
        ),
        draws=(
            Draw("requests lost", (1.0, 4.0), lambda aim: _harmed(aim, request_loss=aim.amount), (0.2, 1)),
            Draw("answers lost", (1.0, 4.0), lambda aim: _harmed(aim, answer_loss=aim.amount), (0.2, 1)),
            Draw(
                "both late",
                (1.0, 4.0),
                lambda aim: _harmed(aim, request_delay_ms=aim.amount, answer_delay_ms=aim.amount),
                (20, 300),
            ),
        ),
    ),
    FaultKind(
        name="wipe",
        marks=(Mark(LabEvent.WIPED, "{node} wiped", Sort.FAULT),),
        controls=(
            Control(
                "wipe",
                "kill it, delete its journal; it rejoins as a new member",
                Target.NODE,
                faults.Wipe,
                ANY_STATE,
                needs_process=True,
            ),
        ),
        draws=(
            Draw("leader", (0.0, 0.0), lambda aim: faults.Wipe(aim.leader()), asks_leader=True),
            Draw("follower", (0.0, 0.0), lambda aim: faults.Wipe(aim.followers()[0]), asks_leader=True),
        ),
    ),
    FaultKind(
        name="scale",
        draws=(
            Draw("up", (1.0, 3.0), lambda aim: _scaled(aim, 1), (1, 2), asks_leader=True),
            Draw("down", (1.0, 3.0), lambda aim: _scaled(aim, -1), (1, 1), asks_leader=True),
        ),
    ),
    FaultKind(
        name="transfer",
        marks=(Mark(LabEvent.TRANSFER, "{node} is to lead", Sort.CHANGE),),
        controls=(
            Control(
                "make it lead",
                "the leader hands over to this node; with shards, in each group that the node holds",
                Target.NODE,
                lambda name: faults.Transfer(name, group=None),
                ("running",),
            ),
        ),
        draws=(Draw("follower", (0.1, 0.5), _handed_over, asks_leader=True),),
    ),
):
    FAULTS.register(_kind)
