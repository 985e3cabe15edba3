"""The folder of a cluster's run: its logs and journals, who uses it, and what it takes to start that cluster again.

Beside ``logs/`` and ``data/`` a run folder holds two small files:

- ``owner`` is locked (``flock``) for as long as a process uses the folder. The system frees the lock when that process
  ends, however it ends. So no second cluster writes there, and no process id has to be believed. It says ``temporary``
  in a folder that goes when the run ends, and ``kept`` in any other.
- ``cluster.json`` names the nodes: their places, and how each got into its group. A founder's journal belongs to its
  address (:mod:`zmqlab.node.lmdb_journal`), so a cluster comes back only at the ports that it had. With this file a
  second run in the same folder is the same cluster, with the orders of the first one.

What a crash leaves is told by the same signs: a folder of this user among the temporary files, named as ours, whose
``owner`` says ``temporary`` and is not locked. :func:`abandoned` finds them, for ``zmqlab reap``. Nothing else is ever
removed there.

Rules: of a folder that a person has named, only what a cluster wrote is deleted, and only when ``fresh`` says so.

Left out on purpose: moving a founder to another port. Its journal refuses that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from zmqlab.errors import ClusterError, NodeError, SettingsError, ZmqlabError
from zmqlab.keys import make_private
from zmqlab.lab.hosts import keep_to_this_process
from zmqlab.settings import DEFAULT_REPLICATION, NodeSettings, journals_in, reason_of

PREFIX = "zmqlab-"
"""Of the names of temporary folders."""
OWNER, RECORD = "owner", "cluster.json"
TEMPORARY, KEPT = b"temporary\n", b"kept\n"
OF_A_CLUSTER = re.compile(r"node\d+")
"""The names of nodes that a cluster starts."""


ADVICE_OF_A_NODE = ". Choose another"
"""Where a node begins to say what helps if its port is taken; another port does not help here."""
ANEW = "Name another run folder, or begin anew there with fresh=True, or --fresh"


def why_not_reopened(folder: Path, error: NodeError) -> str:
    """For a person: ``error`` of a node that could not come back at its port, and what helps."""
    said = str(error).partition(ADVICE_OF_A_NODE)[0]
    return (
        f"{said}. The cluster in {folder} comes back only at the ports that it had: its journals belong to them. End"
        " what uses the port (`zmqlab reap` ends nodes whose launcher is gone); or name another run folder; or delete"
        " the orders of that cluster and begin anew, with fresh=True, or --fresh"
    )


class KnownNode(msgspec.Struct, frozen=True):
    """One node of a cluster that has run here."""

    name: str
    port: int
    peers: tuple[str, ...] = ()
    """Base endpoints of the other founders; empty for a node that joined."""
    join: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    """What it listens on."""


class KnownCluster(msgspec.Struct, frozen=True):
    """A cluster that has run here."""

    name: str
    founded_with: int
    """How many nodes it began with; others may have come or gone."""
    durability: str
    nodes: tuple[KnownNode, ...]
    replication: str = DEFAULT_REPLICATION
    shards: int = 1
    replication_factor: int = 0


class RunFolder:
    """The folder of one run. It is made, and locked, by :meth:`open`.

    Args:
        path: None: a temporary folder.
        keep: keep a temporary folder at the end.
        fresh: delete what an earlier cluster left at ``path``.
    """

    def __init__(self, path: str | Path | None, keep: bool = False, fresh: bool = False) -> None:
        self._path = Path(path).absolute() if path is not None else None
        self._is_temporary = path is None
        self._keep = keep or path is not None
        self._fresh = fresh
        self._lock: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        """Where it is. Raises ClusterError before there is one."""
        if self._path is None:
            raise ClusterError("the cluster has no folder before it is started")
        return self._path

    @property
    def keep(self) -> bool:
        """Whether it stays when the run ends, unless it is temporary and empty; always for a folder that was named."""
        return self._keep

    @keep.setter
    def keep(self, keep: bool) -> None:
        self._keep = keep
        self._mark()

    def name_in(self, error: BaseException) -> None:
        """The run has ended with ``error``: say there where its logs are, if the folder stays and no person has named
        it."""
        stays = self._is_temporary and self._path is not None and self._path.is_dir()
        if stays and isinstance(error, ZmqlabError) and f"{self._path}" not in f"{error}":
            error.args = (f"{error}. The logs are in {self._path}",)

    def keep_evidence(self) -> None:
        """Something went wrong: a person will want to read the logs."""
        self.keep = True

    def open(self) -> None:
        """Make it, unless it is there, and lock it.

        Raises:
            ClusterError: another cluster uses it.
            SettingsError: it can't be made or written.
        """
        try:
            self._path = self._path or Path(tempfile.mkdtemp(prefix=PREFIX))
            make_private(self._path)
            self._lock = _lock(self._path / OWNER)
        except (OSError, UnicodeError) as error:
            raise SettingsError(
                f"the run folder can't be used: {reason_of(error)}. Name another one with run_dir, or --run-dir"
            ) from None
        if self._lock is None:
            raise ClusterError(f"a cluster that runs uses {self._path}: stop it, or name another run folder")
        keep_to_this_process(self._lock)
        self._mark()
        if self._fresh:
            self._clear()

    def leave(self) -> None:
        """The run has ended: remove the folder unless it is kept, and unlock it. A temporary one that holds nothing is
        not kept: a start that failed before there was a log has nothing to show there."""
        if self._lock is None:
            return
        if not self._keep or (self._is_temporary and self._is_empty()):
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
        self._lock = None

    # -- the cluster in it ---------------------------------------------------------------------------------------

    def known(self) -> KnownCluster | None:
        """The cluster whose journals are here; None if none is.

        Raises:
            ClusterError: journals are here, but not what it takes to start their nodes.
        """
        path = self.path / RECORD
        try:
            known = msgspec.json.decode(path.read_bytes(), type=KnownCluster)
        except FileNotFoundError:
            known = None
        except (OSError, msgspec.MsgspecError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else error
            raise ClusterError(f"{path} does not say which cluster has run there: {reason}. {ANEW}") from None
        if known is not None and known.nodes:
            return known if known.durability != "memory" else None
        if any(self._journals()):
            raise ClusterError(f"{self.path} has journals, and no {RECORD} says how their nodes were started. {ANEW}")
        return None

    def remember(self, name: str, founded_with: int, nodes: Iterable[NodeSettings]) -> None:
        """Note which nodes the cluster has now."""
        nodes = tuple(nodes)
        known = KnownCluster(
            name,
            founded_with,
            nodes[0].durability if nodes else "",
            tuple(KnownNode(each.name, each.port, each.peers, each.join, each.bind) for each in nodes),
            nodes[0].replication if nodes else DEFAULT_REPLICATION,
            nodes[0].shards if nodes else 1,
            nodes[0].replication_factor if nodes else 0,
        )
        partial = self.path / f"{RECORD}.new"
        with contextlib.suppress(OSError):  # a full disk stops no cluster
            partial.touch(0o600)
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(known)))
            partial.replace(self.path / RECORD)

    def _clear(self) -> None:
        for journal in self._journals():
            shutil.rmtree(journal, ignore_errors=True)
            for log in (self.path / "logs").glob(f"{journal.name}.*"):
                log.unlink(missing_ok=True)
        (self.path / RECORD).unlink(missing_ok=True)

    def _journals(self) -> Iterator[Path]:
        """The folders in which nodes of clusters keep their journals."""
        with contextlib.suppress(OSError):
            for path in journals_in(self.path).iterdir():
                if OF_A_CLUSTER.fullmatch(path.name):
                    yield path

    def _is_empty(self) -> bool:
        with contextlib.suppress(OSError):
            return {each.name for each in self.path.iterdir()} <= {OWNER}
        return False

    def _mark(self) -> None:
        if self._lock is not None:
            mark(self._lock, KEPT if self._keep else TEMPORARY)


def mark(owner: IO[bytes], what: bytes) -> None:
    """Say in the file ``owner`` of a folder that it is :data:`KEPT`, or :data:`TEMPORARY`."""
    owner.seek(0)
    owner.truncate()
    owner.write(what)


# -- what crashes left -----------------------------------------------------------------------------------------------


def abandoned() -> list[Path]:
    """This user's temporary folders whose run ended without removing them: its process was killed."""
    return sorted(path for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if _is_free(path))


def remove(path: Path) -> bool:
    """Remove a folder that was abandoned; returns whether it is gone. One that is used again meanwhile stays."""
    lock = _lock_of(path)
    if lock is None:
        return False
    with lock:
        shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _is_free(path: Path) -> bool:
    lock = _lock_of(path)
    if lock is not None:
        lock.close()
    return lock is not None


def _lock_of(path: Path) -> IO[bytes] | None:
    """The lock of a temporary folder of this user, if no process has it."""
    with contextlib.suppress(OSError):
        at = path.lstat()
        if stat.S_ISDIR(at.st_mode) and at.st_uid == os.getuid() and (path / OWNER).read_bytes() == TEMPORARY:
            return _lock(path / OWNER)
    return None


def _lock(path: Path) -> IO[bytes] | None:
    """The locked file; None if another process has the lock. Raises OSError, also where files can't be locked."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return None
    return file
