"""What one node owes to those around it: its clients, its peers, and the process that it runs in.

The other rules look at the group: its log, its leader, its answers. A node can keep all of them and still be a bad one:
it lets a query hang, ends without the answers that it owes, or listens to a stranger. Clients and peers make up for
that by asking again, so that no damage is seen. :class:`Duties` looks at the node itself:

* *strangers*: a broadcast reaches Raft only if a member sent it (:mod:`zmqlab.engine.peers`);
* *links*: nothing comes in over a link that is cut, once the sender has said where it is
  (:mod:`zmqlab.engine.link_faults`);
* *queries*: each query is answered once; one that waits for a read index within ``read_ticks``;
* *busy*: a request is refused as one too many only while so many wait, in number or in bytes;
* *at once*: no request waits whose answer the node has;
* *bounds*: a node that does not lead keeps no more frames to hand on than requests wait there;
* *word*: a change of the members that the node calls done is on the disks of a majority;
* *refusal*: a removal is refused only if it comes from an earlier life of that node, or would leave no majority;
* *log*: what the node tells of its log was applied by some node;
* *joining*: a node asks no more to be taken in once it votes for sure (:class:`zmqlab.engine.lifecycle.Joining`): by
  its leader's word, or by a change that is committed and came in since it started;
* *status*: what a node tells of itself is so;
* *closing*: a node that ends in order before its time is up owes no answer, leads no others and, if it was to leave,
  is out (:class:`zmqlab.engine.departure.Closing`);
* *at rest*: every request that the node took is answered; it takes no member to be elsewhere than the log says, and is
  connected to the members and to no other node but such as have introduced themselves;
* *upkeep*: a snapshot is begun when it is due (:func:`late_snapshot`). At rest it is made, no bytes are counted of
  requests that do not wait (:func:`upkeep`), and no container has more in it than a run has nodes and clients
  (:func:`crowds`). A leak does harm only once a limit is reached, which no run lives to see.

One object belongs to one life of one node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from zmqlab.engine import Group
from zmqlab.engine.lifecycle import Joining
from zmqlab.engine.link_faults import LinkFaults
from zmqlab.engine.peers import Peers
from zmqlab.placement import Roster
from zmqlab.raft import Configuration, Message, Raft
from zmqlab.raft.messages import BROADCAST
from zmqlab.raft.state import FOLLOWER, LEADER
from zmqlab.replica import Replica
from zmqlab.sim.checkers import Ledger, Violation
from zmqlab.wire import client as client_wire
from zmqlab.wire.control import (
    AddMemberQuery,
    Answer,
    ErrorAnswer,
    ErrorCode,
    LogAnswer,
    OkAnswer,
    Query,
    RemoveMemberQuery,
)
from zmqlab.wire.frames import HELLO
from zmqlab.wire.node_status import NodeStatus
from zmqlab.wire.peer import decode_hello

if TYPE_CHECKING:
    from zmqlab.sim.network import Sockets
    from zmqlab.sim.node_process import Process


UNBOUNDED = {
    "ObservedMachine",
    "Log",
    "ConfigurationHistory",
    "DiskJournal",
    "VolatileJournal",
    "Counters",
    "NodeStatus",
}
"""What grows with the log, by right: states, logs with their configurations, journals; and histograms, which have a
bound of their own."""


class Duties:
    """See the module."""

    def __init__(self, process: Process, replica: Replica, peers: Peers, joining: Joining) -> None:
        self._process = process
        self._replica = replica
        self._peers = peers
        self._joining = joining
        self._began_at = replica.replication.last_index
        self._is_in = False
        """Whether the node has been seen to take itself for a voter, since it started."""
        self._may_have_led = False
        """Whether it led when the last turn ended, or stood for election: it may have won and stepped down in this one.
        A leader's own word counts."""
        self._configuration = replica.replication.configuration
        """As it was when the last turn ended: the node hears its members in the present turn."""
        self._members = self._configuration.members
        self._introduced: dict[int, str] = {}
        """Node -> the address in its last HELLO that came while links were faulty."""
        self._queries: dict[int, int] = {}
        """The number of a query that waits -> the tick at which it came; oldest first."""
        self._queries_taken = 0
        self._owed = 0
        """Queries that are not answered, those among them that wait for no read index."""
        self._looked_at = 0, 0
        """Requests taken and the index applied when the waiting requests were last looked at."""
        self._taken = 0
        """Requests that had to wait."""
        self._signals = 0
        self._signalled_at = 0
        """The tick of the first signal."""
        self._committed_at_signal = 0
        """The highest index that any node had applied then."""

    # Strangers.

    def heard(self, message: Message) -> None:
        """The node is about to hand a message to its replication."""
        if message.to == BROADCAST and message.sender not in self._members:
            raise Violation(
                f"strangers: node {self._process.node_id} listens to a broadcast of node {message.sender}, "
                f"but the members are {self._members}"
            )

    def took_turn(self) -> None:
        """The node's turn is over."""
        replica = self._replica
        replication, pending, to_propose = replica.replication, replica.pending, replica._to_propose
        if (configuration := replication.configuration) is not self._configuration:
            self._configuration, self._members = configuration, configuration.members
        if self._queries:
            self._look_at_queries()
        if pending:
            self._look_at_pending()
        if to_propose and len(to_propose) > len(pending):
            self._look_at_frames()
        if not self._is_in and self._joining.was_in:
            self._is_in = True
            if not (replication.role is LEADER or self._may_have_led):
                self._came_in()
        self._may_have_led = replication.role is not FOLLOWER

    # Links.

    def is_cut(self, links: LinkFaults, sender: Process, frame: bytes) -> bool:
        """Whether the node must not hear this frame."""
        if frame[3] == HELLO:
            self._introduced[sender.node_id] = decode_hello(frame).address
        address = self._peers.address_of(sender.node_id) or self._introduced.get(sender.node_id, "")
        fault = links.faults.get(address)
        return fault is not None and fault.cut

    # Queries.

    def query_begins(self) -> int:
        """A query waits for its read index; returns its number."""
        self._queries_taken += 1
        self._queries[self._queries_taken] = self._replica.replication.ticks
        return self._queries_taken

    def query_ends(self, number: int) -> None:
        """It is about to be answered."""
        if self._queries.pop(number, None) is None:
            raise Violation(f"queries: node {self._process.node_id} answers a query twice")

    def asked(self) -> None:
        """A query of any kind has come."""
        self._owed += 1

    def replied(self) -> None:
        """One of them is about to be answered."""
        self._owed -= 1
        if self._owed < 0:
            raise Violation(f"queries: node {self._process.node_id} answers a query twice")

    def _look_at_queries(self) -> None:
        waited = self._replica.replication.ticks - next(iter(self._queries.values()))
        if waited > self._replica.settings.read_ticks:
            raise Violation(f"queries: node {self._process.node_id} lets a query wait for {waited} ticks")

    # Requests.

    def answered_at_once(self, frame: bytes, body: bytes) -> None:
        """A request came, and got this answer without having to wait."""
        response = next(client_wire.iter_responses(client_wire.encode_responses([body])))
        pending, settings = self._replica.pending, self._replica.settings
        waiting = sum(len(each.frame) for each in pending.values())
        is_full = len(pending) >= settings.max_pending or waiting + len(frame) > settings.max_pending_bytes
        world = self._process.world
        told = (
            world.causes.claims.told if world.causes is not None else 0
        )  # by a leader that ended before it applied it
        committed = max(world.ledger.last_index, self._replica.replication.commit_index, told)
        behind = committed - self._replica.machine.applied_index
        is_behind = 2 * behind > settings.max_behind
        if response.status == client_wire.ResponseStatus.BUSY and not (is_full or is_behind):
            raise Violation(
                f"busy: node {self._process.node_id} refuses {len(frame)} bytes as too many, "
                f"while {len(pending)} requests wait, of {waiting} bytes"
            )

    def took_request(self) -> None:
        """A request came that has to wait."""
        self._taken += 1

    def _look_at_pending(self) -> None:
        """A node that has the answer to a request, from the log or within a snapshot, gives it at once.

        It gets answers as it applies entries or a snapshot, so it is looked at only after that, and after a request.
        """
        place = self._taken, self._replica.machine.applied_index
        if place == self._looked_at:
            return
        self._looked_at = place
        peek = self._replica.machine.sessions.peek
        for key in self._replica.pending:
            if peek(*key) is not None:
                raise Violation(f"at once: node {self._process.node_id} has the answer to {key}, and does not give it")

    def _look_at_frames(self) -> None:
        replica = self._replica
        if replica.replication.role is not LEADER:
            raise Violation(
                f"bounds: node {self._process.node_id} keeps {len(replica._to_propose)} frames to hand on, "
                f"while {len(replica.pending)} requests wait"
            )

    # Answers to people, and to nodes that come and go.

    def answers(self, query: Query, answer: Answer) -> None:
        """The node is about to answer this."""
        if isinstance(answer, LogAnswer):
            self._tells_log(answer)
        elif isinstance(query, AddMemberQuery | RemoveMemberQuery):
            if isinstance(answer, OkAnswer):
                self._calls_done(query)
            elif isinstance(query, RemoveMemberQuery) and isinstance(answer, ErrorAnswer):
                self._refuses(query, answer)

    def _tells_log(self, answer: LogAnswer) -> None:
        last, applied = answer.entries[-1][0] if answer.entries else 0, self._process.world.ledger.last_index
        if last > applied:
            raise Violation(f"log: node {self._process.node_id} tells entry {last}, but only {applied} is applied")

    def tells_status(self, status: NodeStatus) -> None:
        """The node tells of itself: what its log, its replication and its state say."""
        replication, machine = self._replica.replication, self._replica.machine
        configuration = replication.configuration
        told = {member.node_id: (member.endpoint, member.voter) for member in status.members}
        known = {node: (address, node in configuration.voters) for node, address in configuration.addresses}
        said = status.node_id, status.term, status.leader_id, status.commit_index, status.applied_index
        true = replication.node_id, replication.term, replication.leader_id, replication.commit_index
        if said != (*true, machine.applied_index) or (status.role == "leader") != (replication.role is LEADER):
            raise Violation(f"status: node {self._process.node_id} says {said}, which is not so: {true}")
        if told != known:
            raise Violation(f"status: node {self._process.node_id} names the members {told}, but has {known}")

    def _calls_done(self, query: AddMemberQuery | RemoveMemberQuery) -> None:
        """By the members in effect, at the index where they were named; or by the roster, if the node at an address is
        to leave a cluster with shards. It may be a member of the group for a while after that."""
        world, node_id, index = self._process.world, query.node_id, self._replica.replication.configuration_index
        if world.causes is None:
            return
        is_addition = isinstance(query, AddMemberQuery)

        def fits(members: Configuration) -> bool:
            if is_addition:
                return node_id in members.voters
            if world.placed is not None and query.address:
                roster = Roster.decode(members.roster) if members.roster else None
                return roster is None or not (roster.address_of(node_id) if node_id else query.address in roster.nodes)
            return node_id not in members.members

        if index <= world.ledger.last_index:
            is_done = fits(world.configurations.at(index))
        else:
            is_done = world.causes.commitment.agrees(index - 1, fits)
        if not is_done:
            said = "voting" if is_addition else "removal"
            raise Violation(
                f"word: node {self._process.node_id} says that the {said} of node {node_id} is done, "
                f"but the change at {index} is not committed"
            )

    def _refuses(self, query: RemoveMemberQuery, answer: ErrorAnswer) -> None:
        """Only what is late, or would be harmful."""
        world, raft = self._process.world, self._replica.replication
        process = world.processes.get(query.node_id)
        is_late = process is not None and 0 < query.life < process.newest_life
        if answer.code != ErrorCode.REFUSED or is_late or world.causes is None:
            return
        rest = [voter for voter in raft.configuration.voters if voter != query.node_id]
        reached = world.causes.hearing.in_reach(cast(Raft, raft), rest)
        if rest and 2 * len(reached) > len(rest):
            raise Violation(
                f"refusal: node {self._process.node_id} does not remove node {query.node_id} ({answer.message}), "
                f"but of {rest}, which stay, it hears {reached}"
            )

    # Joining.

    def _came_in(self) -> None:
        """The node will ask no more to be taken in. It votes, by its leader's word or by a change that is committed.

        The change must have come in since the start: what is older may have been taken back since.
        """
        world, replication = self._process.world, self._replica.replication
        own_id, index = replication.node_id, replication.configuration_index
        if self._joining.is_told or world.causes is None:
            return
        if index <= self._began_at:
            raise Violation(
                f"joining: node {own_id} asks no more to be taken in, by its log alone, "
                f"which named it at {index} and ended at {self._began_at} when it started"
            )
        if index <= world.ledger.last_index:
            votes = own_id in world.configurations.at(index).voters
        else:
            votes = world.causes.commitment.votes(own_id, self._began_at)
        if not votes:
            raise Violation(
                f"joining: node {own_id} asks no more to be taken in, but its being a voter at {index} is not committed"
            )

    # Closing.

    def signalled(self) -> None:
        """The node is told to end."""
        self._signals += 1
        if self._signals == 1:
            self._signalled_at = self._replica.replication.ticks
            self._committed_at_signal = self._process.world.ledger.last_index

    def ended(self) -> None:
        """The node has ended in order."""
        settings, replica = self._process.settings, self._replica
        ticks_left = settings.drain_ms // settings.tick_ms - (replica.replication.ticks - self._signalled_at)
        if self._signals > 1 or ticks_left <= 0:
            return
        who = f"closing: node {self._process.node_id} ends {ticks_left} ticks before it must, and"
        voters = replica.replication.configuration.voters
        if replica.pending:
            raise Violation(f"{who} owes the answers to {len(replica.pending)} requests")
        if replica.replication.role is LEADER and len(voters) > 1:
            raise Violation(f"{who} leads {voters}")
        if settings.leave and set(voters) - {self._process.node_id} and not self._is_out():
            raise Violation(f"{who} was to leave, but its removal is not committed")

    def _is_out(self) -> bool:
        """Whether it was no member at the signal, or its removal is on a majority. No node need have applied that."""
        own_id, world, since = self._process.node_id, self._process.world, self._committed_at_signal
        if world.causes is None or own_id not in world.configurations.at(since).members:
            return True
        return world.causes.commitment.is_out(own_id, since)

    # At rest.

    def missing(self, members: Iterable[Process]) -> str:
        """What the node still has to do when all is healed and ``members`` are the members; empty if nothing."""
        node_id, owed = self._process.node_id, len(self._replica.pending)
        if owed:
            return f"node {node_id} owes the answers to {owed} requests"
        if self._owed:
            return f"node {node_id} owes the answers to {self._owed} queries"
        if self._peers.elsewhere:
            return f"node {node_id} takes {sorted(self._peers.elsewhere)} to be elsewhere than the log says"
        return self._wrong_connections(self._process.sockets, {each.address for each in members})

    def _wrong_connections(self, sockets: Sockets, addresses: set[str]) -> str:
        others = addresses - {self._process.address}
        strangers = {process.address for process in self._process.world.processes.values()} - addresses
        if sockets.subscribed == others and others <= sockets.connected <= others | strangers:
            return ""
        return (
            f"node {self._process.node_id} is connected to {sorted(sockets.connected)} and hears "
            f"{sorted(sockets.subscribed)}, but the other members are at {sorted(others)}"
        )


def late_snapshot(replica: Replica) -> str:
    """After a turn: why a snapshot that is due should have been begun; empty if none is due, or one is under way."""
    work, replication = replica._snapshotting, replica.replication
    if work.applied_bytes < replica.settings.snapshot_log_bytes or work._making is not None:
        return ""
    receives = work._receiving is not None and work._receiving.source[2] > replica.machine.applied_index
    if receives or not replication.members_at(replica.machine.applied_index).voters:
        return ""
    return f"node {replication.node_id} has applied {work.applied_bytes} bytes since its snapshot, and begins no other"


def upkeep(group: Group, snapshot_index: int, ledger: Ledger) -> str:
    """What a member still has to do for itself when nothing happens any more; empty if nothing.

    ``snapshot_index``: of the newest snapshot; 0 if there is none.
    """
    replica, work = group.replica, group.replica._snapshotting
    who, settings = f"node {replica.replication.node_id}", replica.settings
    size = sum(len(entry.data) for entry in ledger.entries[snapshot_index : replica.machine.applied_index])
    if size >= settings.snapshot_log_bytes:
        return f"{who} has applied {size} bytes since its snapshot at {snapshot_index}"
    if work._making or work._hashing or work._hash_waiting or work._let_go:
        return f"{who} is still making a snapshot or a hash, or letting go of a state"
    counted, waits = replica._pending_bytes, sum(len(each.frame) for each in replica.pending.values())
    if counted != waits:
        return f"{who} counts {counted} bytes of requests that wait, but they have {waits}"
    if group.standing is not None and group.standing.was_removed:
        return f"{who} takes itself for removed"
    return ""


def crowds(root: object, most: int) -> Iterator[str]:
    """Containers below ``root`` that have more than ``most`` in them; all but what grows with the log by right."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [(type(root).__name__, root)]
    while waiting:
        path, thing = waiting.pop()
        if id(thing) in seen or type(thing).__name__ in UNBOUNDED or _is_simulator(thing):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | deque):
            if len(thing) > most:
                yield f"{path} has {len(thing)} in it"
            inside = thing.values() if isinstance(thing, dict) else thing
            waiting += [(f"{path}[]", each) for each in inside if type(each).__module__.startswith("zmqlab.")]
        elif type(thing).__module__.startswith("zmqlab."):
            waiting += [(f"{path}.{name}", value) for name, value in _fields(thing)]


def _is_simulator(thing: object) -> bool:
    return type(thing).__module__.startswith("zmqlab.sim.") and not isinstance(thing, Group)


def _fields(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(thing, name):
                yield name, getattr(thing, name)
