"""What of the lab lives in a Dask worker: nodes and load generators of an owner elsewhere, while it is heard of.

:class:`~zmqlab.lab.dask_host.DaskHost` has :func:`call_keeper` run in the workers, out of band (``Client.run``): not as
a task, which the scheduler might try again, or move. Each owner has one :class:`Keeper` in each worker process. A
keeper's nodes are children of the worker (:class:`~zmqlab.lab.hosts.LocalHost`), in a folder that the cluster has on
that machine. So are its load generators (:class:`~zmqlab.lab.load_parts.LocalPart`), whose snapshots and records go to
the owner as they are written.

**No orphans**, whatever dies:

- *The worker.* It holds the pipe that is each node's standard input, and the sentinel of each paused one. The system
  closes them when the worker dies, however it dies, and the nodes end.
- *The owner*, or the way to it. A keeper has a *lease*. Each call of the owner renews it when it comes, and an owner
  that is well makes one every two seconds at least, to hear of its nodes (:meth:`Keeper.hear`). When none has come for
  the length of the lease, a thread of the keeper ends the nodes: by SIGTERM, and by SIGKILL a second later. It asks
  neither the scheduler nor the owner, so it does not matter which of them is gone: an owner that was killed by SIGKILL,
  a scheduler that was, a cable that was pulled.
- *Both.* Then the first rule holds.

The lease is counted in ticks of that thread and not on a clock. A machine that sleeps, a worker that is stopped by
SIGSTOP, or a task that holds the interpreter's lock for a minute, does not let it run out: while the thread gets no
turn, the owner's calls get none either. What it takes to lose nodes by mistake is a worker whose event loop is blocked
for longer than the lease while its other threads run, and such a worker is lost to its scheduler as well.

What remains: a worker that is *stopped* (SIGSTOP) when its owner dies keeps its nodes until it goes on, and then ends
them. Neither Dask nor the lease ends such a worker; a person must.

**Keys** come in a :class:`Sealed`, which shows itself as three dots: Dask logs the arguments of a call that fails. They
are written for this user alone, and deleted when the cluster leaves, and when the lease runs out.

**Folders.** ``zmqlab-CLUSTER`` among the temporary files, or in the folder that the owner named. It is marked and
locked as a run folder is (:mod:`zmqlab.lab.run_folders`). So `zmqlab reap` on that machine removes what a crash left
among the temporary files. In a folder that the owner named a person deletes it.

Left out on purpose: which worker runs which node, and what a worker's death means (:mod:`zmqlab.lab.dask_host`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from zmqlab.endpoints import is_numeric
from zmqlab.errors import ClusterError, SettingsError, ZmqlabError
from zmqlab.keys import OTHERS, PRIVATE_FILE, Credentials, make_private, trust_clients_ports
from zmqlab.lab.hosts import LocalHost, LocalNode, end_all, free_base_ports, keep_to_this_process
from zmqlab.lab.load_parts import LocalPart
from zmqlab.lab.node_plan import KEY_FOLDER
from zmqlab.lab.run_folders import KEPT, OWNER, PREFIX, TEMPORARY, mark
from zmqlab.load.load_messages import ToLoad
from zmqlab.load.load_settings import LoadSettings
from zmqlab.names import own_address_of
from zmqlab.settings import NodeSettings, journals_in, reason_of

TICK_S = 0.25
"""Of the lease: how finely it is counted."""
HEAR_S = 2.0
"""A call that waits for news comes back after so long without any: two in the shortest lease, five in the usual one."""
LOOK_S = 0.02
"""How often such a call looks. A look is a system call a node."""
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL when the lease has run out: no node is left to hand leadership to."""
GATHER_S = 0.1
"""For so long such a call gathers what load generators tell: ten snapshots a second are ten answers."""
PIECE_BYTES = 4 << 20
"""Of a file, in one answer."""


class Sealed:
    """Arguments that are in no log: some are keys."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __repr__(self) -> str:
        return "..."


class Ended(NamedTuple):
    """A node that has ended."""

    pid: int
    status: int
    """Its exit status; negative: the signal that ended it."""
    error: str
    """What it wrote on standard error, or why the keeper ended it."""


class LoadNews(NamedTuple):
    """What there is to tell of a load generator."""

    begun: bool
    frames: Sequence[bytes]
    """Snapshots."""
    pieces: Mapping[str, bytes]
    """File of the record -> what has been written to it since, at most :data:`PIECE_BYTES` in all."""
    gone: Sequence[str]
    """Files of the record that the owner has and that are no more."""
    ended: str
    """How it ended, once the owner has all of the record; empty: it has not."""


class News(NamedTuple):
    """What a call that waits for news comes back with."""

    ended: Sequence[Ended]
    loads: Mapping[str, LoadNews]
    """By the name of the generator."""


class _Kept(NamedTuple):
    """A node of a keeper."""

    process: LocalNode
    cluster: str
    name: str


class Reply(NamedTuple):
    """What a call gives back."""

    value: Any
    error: ZmqlabError | None
    """Then there is no value."""
    received_ns: int
    """When the call came, on the wall clock of this machine."""
    sent_ns: int
    """When the reply left, on the same clock."""


async def call_keeper(owner: str, lease_s: float, verb: str, sealed: Sealed) -> Reply:
    """Have the keeper of ``owner`` in this process do something; renews its lease.

    Every error is a value. Dask logs the arguments of a call that raises.
    """
    received_ns = time.time_ns()
    value, error = None, None
    try:
        keeper = _keepers.setdefault(owner, Keeper(owner))
        keeper.renew(lease_s)
        if verb == "hear":
            value = await keeper.hear(*sealed.values)
        else:
            value = await asyncio.to_thread(getattr(keeper, verb), *sealed.values)
    except ZmqlabError as problem:
        error = problem
    except Exception as problem:
        error = ClusterError(f"{verb} failed in the Dask worker on {socket.gethostname()}: {problem!r}")
    return Reply(value, error, received_ns, time.time_ns())


class Keeper:
    """Keeps the nodes of one owner in this process. Its methods are the verbs of :func:`call_keeper`."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._host = LocalHost()
        self._nodes: dict[int, _Kept] = {}
        """By process id: all of the clusters that are here. An owner may hear late of one that has ended."""
        self._why: dict[int, str] = {}
        """Why this keeper ended a node."""
        self._loads: dict[str, LocalPart] = {}
        """By name; until the owner has closed them."""
        self._folders: dict[Path, IO[bytes]] = {}
        """The locked ``owner`` file of each folder in use."""
        self._lock = threading.RLock()
        self._ticks_left = 0
        self._lease_s = 0.0
        self._watch: threading.Thread | None = None
        """Runs while a folder is in use: each node and each load generator has one."""

    # -- the lease ---------------------------------------------------------------------------------------------

    def renew(self, lease_s: float) -> None:
        """A call has come. That one is under way says nothing: its caller may have died since."""
        self._lease_s = lease_s
        self._ticks_left = round(lease_s / TICK_S)

    def _count_down(self) -> None:
        """The thread, until all is released or the lease has run out."""
        while True:
            time.sleep(TICK_S)
            self._ticks_left -= 1
            with self._lock:
                if self._ticks_left <= 0:
                    self._expire()
                if not self._folders:
                    self._watch = None
                    return

    def _expire(self) -> None:
        alive = self._alive()
        for each in alive:
            self._why[each.process.pid] = f"its owner was not heard of for {self._lease_s:g} s"
        end_all([each.process for each in alive], GRACE_S)
        for load in self._loads.values():
            load.close()
        for folder, held in self._folders.items():
            shutil.rmtree(folder / KEY_FOLDER, ignore_errors=True)
            held.close()
        self._folders.clear()

    def _alive(self) -> list[_Kept]:
        return [each for each in self._nodes.values() if each.process.poll() is None]

    # -- nodes -------------------------------------------------------------------------------------------------

    def free_ports(self, host: str, interface: str, count: int, exclude: Collection[int]) -> tuple[str, list[int]]:
        """The address of this machine that stands for ``host``, or that of ``interface``; and free base ports there.

        Raises:
            ClusterError: there are not that many.
            SettingsError: there is no such interface, or it has no IPv4 address.
        """
        address = address_of(interface) if interface else host if is_numeric(host) else own_address_of(host)
        if ":" in address:
            raise SettingsError(f"nodes on a Dask worker listen on IPv4, and {address} is not: choose an interface")
        return address, free_base_ports(count, exclude=exclude, host=address)

    def start(self, settings: NodeSettings, base: str, keys: Mapping[str, str]) -> int:
        """Start a node; returns its process id.

        Args:
            settings: as the owner knows them; this machine's folders are put in.
            base: where the cluster's folder is made; empty: among the temporary files.
            keys: name of a file -> its text; none: the cluster has no keys.
        """
        with self._lock:
            folder = self._hold(folder_of(base, settings.cluster))
            if keys:
                write_keys(folder / KEY_FOLDER, keys)
            here = replace(settings, run_dir=folder, keys=folder / KEY_FOLDER if keys else None)
            process = self._host.start(here)
            self._nodes[process.pid] = _Kept(process, settings.cluster, settings.name)
            return process.pid

    def _watch_lease(self) -> None:
        if self._watch is None:
            self._watch = threading.Thread(target=self._count_down, name="zmqlab-lease", daemon=True)
            self._watch.start()

    def signal(self, pid: int, number: int) -> None:
        """Send a node a signal."""
        with self._lock:
            if kept := self._nodes.get(pid):
                kept.process.signal(number)

    def close(self, pid: int) -> None:
        """Free what is held for a node; one that still runs ends by that, and is heard of."""
        with self._lock:
            if kept := self._nodes.get(pid):
                kept.process.close()

    async def hear(
        self, following: Collection[int], known: Collection[int], loads: Mapping[str, Mapping[str, int]]
    ) -> News:
        """What is new of the nodes and load generators that the owner follows. Waits for it.

        A node that this process has never had, as after a restart of the worker, has ended; so has a generator.

        Args:
            following: process ids of nodes.
            known: those of them of whose end the owner knows.
            loads: name of a generator -> file of its record -> how much of it the owner has.
        """
        begun = time.monotonic()
        while True:
            ended = [self._ended(pid) for pid in following if pid not in known and not self._runs(pid)]
            waited_s = time.monotonic() - begun
            told = {name: self._news_of(name, has) for name, has in loads.items()} if waited_s > GATHER_S else {}
            told = {name: news for name, news in told.items() if news.frames or news.pieces or news.ended}
            if ended or told or waited_s > HEAR_S:
                return News(ended, told)
            await asyncio.sleep(LOOK_S)

    def _news_of(self, name: str, has: Mapping[str, int]) -> LoadNews:
        load = self._loads.get(name)
        if load is None:
            return LoadNews(True, (), {}, (), "was lost: its Dask worker was restarted")
        over = load.ended  # before the files are looked at: they are whole by then
        pieces: dict[str, bytes] = {}
        there = sorted(path.name for path in load.folder.glob("*"))
        room = PIECE_BYTES
        for file in there:
            with contextlib.suppress(FileNotFoundError), (load.folder / file).open("rb") as source:  # it may just go
                source.seek(has.get(file, 0))
                if piece := source.read(room):
                    pieces[file] = piece
                    room -= len(piece)
        ended = load.run.how_it_ended if over and not pieces else ""
        return LoadNews(load.begun, load.frames(), pieces, sorted(set(has) - set(there)), ended)

    def _runs(self, pid: int) -> bool:
        kept = self._nodes.get(pid)
        return kept is not None and kept.process.poll() is None

    def _ended(self, pid: int) -> Ended:
        kept = self._nodes.get(pid)
        if kept is None:
            return Ended(pid, -signal.SIGKILL, "its Dask worker was restarted")
        return Ended(pid, kept.process.poll() or 0, self._why.get(pid, "") or kept.process.error_text())

    # -- load generators ---------------------------------------------------------------------------------------

    def start_load(self, name: str, settings: LoadSettings, base: str, cluster: str, key: Credentials | None) -> None:
        """Start one, with its record in the cluster's folder; ``key`` is what it shows to the nodes."""
        trust_clients_ports(settings.nodes, key)
        with self._lock:
            self._loads[name] = LocalPart(settings, self._hold(folder_of(base, cluster)))

    def steer_load(self, name: str, message: ToLoad) -> None:
        """Tell one something."""
        if load := self._loads.get(name):
            load.steer(message)

    def close_load(self, name: str) -> None:
        """End one, and delete its record."""
        with self._lock:
            if load := self._loads.pop(name, None):
                load.close()

    # -- files -------------------------------------------------------------------------------------------------

    def files(self, base: str, cluster: str, name: str) -> dict[str, int]:
        """The files of a node, relative to the cluster's folder, with their sizes. None of the journal of a node that
        runs: a copy of it would be of no one moment."""
        folder = folder_of(base, cluster)
        found = [*folder.glob(f"logs/{name}.*")]
        if not any((each.cluster, each.name) == (cluster, name) for each in self._alive()):
            found += [path for path in (journals_in(folder) / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.stat().st_size for path in found}

    def read(self, base: str, cluster: str, file: str, offset: int) -> bytes:
        """A piece of a file. Raises ClusterError if it is gone."""
        try:
            with (folder_of(base, cluster) / file).open("rb") as source:
                source.seek(offset)
                return source.read(PIECE_BYTES)
        except OSError as error:
            raise ClusterError(f"{file} of {cluster} can't be read: {reason_of(error)}") from None

    def wipe(self, settings: NodeSettings, base: str) -> None:
        """Delete a node's journal."""
        self._host.wipe(replace(settings, run_dir=folder_of(base, settings.cluster)))

    def release(self, base: str, cluster: str, keep: bool) -> None:
        """The cluster is done here. Its folder goes, unless it is kept; its keys go in any case."""
        with self._lock:
            folder = folder_of(base, cluster)
            end_all([each.process for each in self._nodes.values() if each.cluster == cluster], GRACE_S)
            self._nodes = {pid: each for pid, each in self._nodes.items() if each.cluster != cluster}
            for name in [name for name, load in self._loads.items() if load.folder.is_relative_to(folder)]:
                self._loads.pop(name).close()
            if keep and folder.exists():
                self._hold(folder)  # again, if the lease had run out
            held = self._folders.pop(folder, None)
            shutil.rmtree(folder / KEY_FOLDER if keep else folder, ignore_errors=True)
            if held is not None:
                if keep:
                    mark(held, KEPT)
                held.close()
            if not self._folders:
                _keepers.pop(self._owner, None)

    def _hold(self, folder: Path) -> Path:
        """Make the folder, for this user alone, and lock it. Several workers of a machine may."""
        if folder not in self._folders:
            try:
                make_private(folder)
                at = folder.lstat()
                if folder.is_symlink() or at.st_uid != os.getuid() or at.st_mode & OTHERS:
                    raise ClusterError(f"{folder} belongs to another user, or others can read it: name another folder")
                file = os.fdopen(os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, PRIVATE_FILE), "r+b", buffering=0)
                fcntl.flock(file, fcntl.LOCK_SH)
            except OSError as error:
                raise ClusterError(f"{folder} can't be used on this Dask worker: {reason_of(error)}") from None
            keep_to_this_process(file)
            mark(file, TEMPORARY)
            self._folders[folder] = file
            self._watch_lease()
        return folder


_keepers: dict[str, Keeper] = {}
"""Of this process, by owner."""


def folder_of(base: str, cluster: str) -> Path:
    """Where a cluster keeps its files on this machine."""
    return Path(base or tempfile.gettempdir()).absolute() / f"{PREFIX}{cluster}"


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface of this machine.

    Raises:
        SettingsError: it has none, or there is no such interface.
    """
    cards = psutil.net_if_addrs()
    for each in cards.get(interface, ()):
        if each.family == socket.AF_INET:
            return str(each.address)
    raise SettingsError(
        f"{socket.gethostname()} has no interface {interface!r} with an IPv4 address: it has {', '.join(sorted(cards))}"
    )


def write_keys(folder: Path, keys: Mapping[str, str]) -> None:
    """Write each file for this user alone, and in one step: a node of the same cluster may be reading it."""
    make_private(folder)
    for name, text in keys.items():
        partial = folder / f"{name}.new"
        with open(partial, "w", opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE)) as file:
            file.write(text)
        partial.replace(folder / name)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Dask logs each call out of band. An owner makes one every two seconds, for as long as it has nodes."""
    return record.args != (call_keeper.__name__,)


logging.getLogger("distributed.worker").addFilter(_is_worth_a_line)
