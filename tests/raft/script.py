"""Golden scripts: commands to a group of Raft cores, and the transcript that they must print.

A script opens with comment lines that state the scenario. A line that starts with ``>`` is a command; the lines after
it are its output. Nodes run only when a command makes them.

::

    nodes 1 2 3 [key=value ...]   voters; settings by their names, and learners=4,5 and extra=6 (no members yet);
                                  store_first=0: the leader sends its entries before it stores them
    waits 1 4                     node 4 has something in the log of the leader 1, and waits for its commit
    disk 1 term=3 vote=2 commit=1 log=1,1,3
                                  restart node 1 with this on disk: the log is given by the terms of its entries
    lead 1                        campaign and stabilize, without printing each step
    ends 2                        node 2 sees that the process of its leader has ended
    campaign 1 | tick 1 [count] | propose 1 a b | read 1 7 | transfer 1 2
    members 1 voters=1,2 learners=3
    snapshot 1 [keep]             take a snapshot and keep so many entries before it
    deliver 1 2 [count]           the messages under way from 1 to 2, in order, all or so many; 2 answers each
    drop, postpone 1 2 [count]    lose them; or let all other messages overtake them
    repeat 1 2                    deliver again what was delivered last
    double 1 2                    the first message under way will come once more, after all others
    stabilize                     deliver all messages to all nodes until nothing is under way
    cut 1 2 | deaf 2 | heal       messages from 1 to 2 get lost; broadcasts to 2 get lost; none do
    crash 1                       restart node 1 from its disk
    crash-in 1 store|answer|apply node 1 dies in its next turn just before it stores, answers or applies
    status | log | pending        what each node believes; the log of each node; the messages under way

In a transcript ``->`` is a unicast, ``=>`` a broadcast, ``x>`` a message that got lost; ``3/2`` is entry 3 of term 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import singledispatch

from zmqlab.raft import (
    BROADCAST,
    AppendEntries,
    AppendEntriesResponse,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RaftSettings,
    ReadIndex,
    ReadIndexResponse,
    Ready,
    RequestVote,
    RequestVoteResponse,
    Role,
)

from .harness import Crash, Network, Node

DEFAULTS = {"election_ticks": 10, "heartbeat_ticks": 3}
STEPS = {"store": 1, "answer": 2, "apply": 3}


def run(text: str) -> str:
    """The script with the transcript that it prints now."""
    script = Script()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            lines.append(line)
        elif line.startswith(">"):
            lines += ["", line, *script.command(line[1:])]
    return "\n".join(lines) + "\n"


class Script:
    """One group under the control of commands."""

    def __init__(self) -> None:
        self.network = Network((), RaftSettings())
        self.lines: list[str] = []
        self.delivered: dict[tuple[int, int], Message] = {}
        self.crash_at: dict[int, int] = {}

    def command(self, line: str) -> list[str]:
        """Carry out one command. Returns its output."""
        name, *words = line.split()
        arguments = [word for word in words if "=" not in word]
        options = dict(word.split("=") for word in words if "=" in word)
        method: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        method(*arguments, **options)
        printed, self.lines = self.lines, []
        return printed

    def node(self, name: str) -> Node:
        return self.network.nodes[int(name)]

    def turn(self, node: Node) -> None:
        try:
            self.network.turn(node, self.crash_at.pop(node.node_id, None))
        except Crash:
            node.restart()
            self.lines.append(f"{node.node_id} crashes and restarts")

    # The group

    def do_nodes(self, *voters: str, learners: str = "", extra: str = "", **options: str) -> None:
        settings = RaftSettings(**{**DEFAULTS, **{name: int(value) for name, value in options.items()}})
        self.network = Network(map(int, voters), settings, ids(extra), ids(learners))
        self.network.on_ready = self.print_ready
        self.network.on_lost = self.print_lost

    def do_disk(self, name: str, term: str, vote: str = "0", commit: str = "0", log: str = "") -> None:
        node = self.node(name)
        node.disk.hard_state = HardState(int(term), int(vote), int(commit))
        node.disk.entries = [
            Entry(index, entry_term, EntryKind.DATA, f"{index}/{entry_term}".encode())
            for index, entry_term in enumerate(ids(log), 1)
        ]
        node.restart()

    # What a driver does

    def do_campaign(self, name: str) -> None:
        self.node(name).raft.campaign()
        self.turn(self.node(name))

    def do_ends(self, name: str) -> None:
        if not self.node(name).raft.lose_leader():
            self.lines.append(f"{name} does not act on it")
        self.turn(self.node(name))

    def do_lead(self, name: str) -> None:
        self.do_campaign(name)
        self.do_stabilize()
        self.lines = []
        assert self.node(name).raft.role is Role.LEADER
        self.lines.append(f"{name} leads in term {self.node(name).raft.term}")

    def do_tick(self, name: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.node(name).raft.tick()
            self.turn(self.node(name))

    def do_propose(self, name: str, *datas: str) -> None:
        if not self.node(name).raft.propose([data.encode() for data in datas]):
            self.lines.append(f"{name} refuses")
        self.turn(self.node(name))

    def do_members(self, name: str, voters: str = "", learners: str = "") -> None:
        configuration = Configuration(tuple(ids(voters)), tuple(ids(learners)))
        if not self.node(name).raft.propose_configuration(configuration):
            self.lines.append(f"{name} refuses")
        self.turn(self.node(name))

    def do_read(self, name: str, context: str) -> None:
        self.network.read(int(name), int(context))
        self.turn(self.node(name))

    def do_waits(self, name: str, follower: str) -> None:
        self.node(name).raft.await_commit(int(follower))

    def do_transfer(self, name: str, target: str) -> None:
        if not self.node(name).raft.transfer_leadership(int(target)):
            self.lines.append(f"{name} refuses")
        self.turn(self.node(name))

    def do_snapshot(self, name: str, keep: str = "0") -> None:
        node = self.node(name)
        node.take_snapshot(int(keep))
        self.lines.append(f"{name} keeps entries from {node.raft.first_index}")

    # What happens to messages

    def take(self, sender: str, to: str, count: str) -> list[tuple[int, int, Message]]:
        """Take messages out of the network."""
        route = (int(sender), int(to))
        chosen = [item for item in self.network.in_flight if item[:2] == route][: int(count)]
        for item in chosen:
            self.network.in_flight.remove(item)
        return chosen

    def deliver(self, sender: int, to: int, message: Message) -> None:
        self.lines.append(route(sender, to, message))
        self.delivered[sender, to] = message
        self.network.deliver(to, message)
        self.turn(self.network.nodes[to])

    def do_deliver(self, sender: str, to: str, count: str = "1000") -> None:
        for item in self.take(sender, to, count):
            self.deliver(*item)

    def do_drop(self, sender: str, to: str, count: str = "1000") -> None:
        for item in self.take(sender, to, count):
            self.print_lost(*item)

    def do_postpone(self, sender: str, to: str, count: str = "1000") -> None:
        postponed = self.take(sender, to, count)
        self.network.in_flight += postponed

    def do_double(self, sender: str, to: str) -> None:
        first = next(item for item in self.network.in_flight if item[:2] == (int(sender), int(to)))
        self.network.in_flight.append(first)

    def do_repeat(self, sender: str, to: str) -> None:
        self.deliver(int(sender), int(to), self.delivered[int(sender), int(to)])

    def do_stabilize(self) -> None:
        while self.network.in_flight:
            for name in self.network.nodes:
                for item in [item for item in self.network.in_flight if item[1] == name]:
                    self.network.in_flight.remove(item)
                    self.deliver(*item)

    def do_cut(self, sender: str, to: str) -> None:
        self.network.cuts.add((int(sender), int(to)))

    def do_deaf(self, name: str) -> None:
        self.network.deaf.add(int(name))

    def do_heal(self) -> None:
        self.network.cuts.clear()
        self.network.deaf.clear()

    def do_crash(self, name: str) -> None:
        self.node(name).restart()

    def do_crash_in(self, name: str, step: str) -> None:
        self.crash_at[int(name)] = STEPS[step]

    # What is printed

    def do_status(self) -> None:
        for name, node in self.network.nodes.items():
            raft = node.raft
            vote = f", voted for {raft.voted_for}" if raft.voted_for else ""
            role = "learner" if raft.is_learner and raft.role.name == "FOLLOWER" else raft.role.name.lower()
            leader = f" of {raft.leader_id}" if raft.leader_id not in (0, name) else ""
            self.lines.append(f"{name} {role}{leader}, term {raft.term}{vote}, commit {raft.commit_index}")
            for progress in raft.progress.values():
                state = progress.state.name.lower()
                self.lines.append(
                    f"  {progress.node_id} {state}, match {progress.match_index}, next {progress.next_index}"
                )

    def do_log(self) -> None:
        for name, node in self.network.nodes.items():
            raft = node.raft
            self.lines.append(f"{name}: {describe_entries(raft.entries(1, 1 << 30)) or 'nothing'}")

    def do_pending(self) -> None:
        self.lines += [route(*item) for item in self.network.in_flight]

    def print_lost(self, sender: int, to: int, message: Message) -> None:
        self.lines.append(f"{sender} x> {to}  {describe(message)}")

    def print_ready(self, node: Node, ready: Ready) -> None:
        name, raft = node.node_id, node.raft
        if ready.role_changed:
            leader = f" of {raft.leader_id}" if raft.leader_id not in (0, name) else ""
            self.lines.append(f"{name} is {raft.role.name.lower()}{leader} in term {raft.term}")
        if ready.hard_state is not None:
            state = ready.hard_state
            self.lines.append(f"{name} stores term {state.term}, vote {state.voted_for}, commit {state.commit_index}")
        if ready.snapshot is not None:
            self.lines.append(f"{name} restores snapshot {ready.snapshot.index}/{ready.snapshot.term}")
        if ready.entries:
            self.lines.append(f"{name} stores {describe_entries(ready.entries)}")
        if ready.committed:
            self.lines.append(f"{name} applies {describe_entries(ready.committed)}")
        self.lines += [f"{name} may serve read {context} at {index}" for context, index in ready.reads]
        self.lines += [f"{name} fails read {context}" for context in ready.failed_reads]


def ids(words: str) -> list[int]:
    """``1,2,3`` as integers."""
    return [int(word) for word in words.split(",") if word]


def route(sender: int, to: int, message: Message) -> str:
    """One delivery."""
    arrow = "=>" if message.to == BROADCAST else "->"
    return f"{sender} {arrow} {to}  {describe(message)}"


def describe_entries(entries: Iterable[Entry]) -> str:
    """``1/1 no-op, 2/1 "a"``."""
    return ", ".join(f"{entry.index}/{entry.term} {describe_data(entry)}" for entry in entries)


def describe_data(entry: Entry) -> str:
    """The content of an entry in words."""
    if entry.kind == EntryKind.NO_OP:
        return "no-op"
    if entry.kind == EntryKind.DATA:
        return f'"{entry.data.decode()}"'
    configuration = Configuration.decode(entry.data)
    learners = f" learners {list(configuration.learners)}" if configuration.learners else ""
    return f"voters {list(configuration.voters)}{learners}"


@singledispatch
def describe(message: Message) -> str:
    """One message in words."""
    return f"{type(message).__name__} term {message.term}"


@describe.register
def _(message: AppendEntries) -> str:
    entries = describe_entries(message.entries)
    head = f"AppendEntries term {message.term} round {message.round} commit {message.commit_index}"
    if message.stored_index:
        head += f" stored {message.stored_index}"
    return f"{head} after {message.prev_index}/{message.prev_term}: {entries or 'nothing'}"


@describe.register
def _(message: AppendEntriesResponse) -> str:
    head = f"term {message.term} round {message.round}"
    if message.success:
        return f"accepts up to {message.index}, {head}"
    return f"rejects {message.rejected_index}, try {message.index}/{message.hint_term}, {head}"


@describe.register
def _(message: RequestVote) -> str:
    kind = "would you vote" if message.pre_vote else "vote"
    forced = ", as our leader wants" if message.forced else ""
    return f"{kind} for me in term {message.term}, my log ends {message.last_index}/{message.last_term}{forced}"


@describe.register
def _(message: RequestVoteResponse) -> str:
    verb = "would vote" if message.pre_vote else "votes"
    return f"{verb} {'yes' if message.granted else 'no'}, term {message.term}"


@describe.register
def _(message: InstallSnapshot) -> str:
    place = f"{message.snapshot_index}/{message.snapshot_term}"
    done = ", the last" if message.done else ""
    return (
        f"snapshot {place} bytes {message.offset}+{len(message.data)}{done}, term {message.term} round {message.round}"
    )


@describe.register
def _(message: InstallSnapshotResponse) -> str:
    wants = "needs no more" if message.done else f"wants byte {message.offset}"
    return f"{wants} of snapshot {message.snapshot_index}, term {message.term} round {message.round}"


@describe.register
def _(message: ReadIndex) -> str:
    return f"ReadIndex {message.context}, term {message.term}"


@describe.register
def _(message: ReadIndexResponse) -> str:
    return f"ReadIndex {message.context} is {message.index}, term {message.term}"
