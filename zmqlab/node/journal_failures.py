"""What a failure of the journal's disk means, and what to do next.

LMDB, the system and :mod:`zmqlab.node.lmdb_pages` each have errors of their own. Here each becomes one of those in
:mod:`zmqlab.errors`, with one line that says what to do:

- *no room*: make some; nothing is lost (:class:`~zmqlab.errors.JournalFull`).
- *no right*, or *something else in its place*: give it, or move it (:class:`~zmqlab.errors.JournalDenied`).
- *not as it was written*, or the disk fails: a new journal (:class:`~zmqlab.errors.JournalCorrupt`).
- *gone*, or shorter than it was: the same, under a node that runs (:class:`~zmqlab.errors.JournalLost`).
- anything else, such as no addresses or no descriptors: a plain :class:`~zmqlab.errors.NodeError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import tempfile
from pathlib import Path

import lmdb

from zmqlab.errors import JournalCorrupt, JournalDenied, JournalFull, JournalLost, NodeError
from zmqlab.node.lmdb_pages import PagesForeign
from zmqlab.replica.sealed_records import NEW_MEMBER
from zmqlab.settings import reason_of

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENXIO, errno.ELOOP)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_OTHERS = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOLCK)
_BY_TEXT = {os.strerror(number): number for number in (*_FULL, *_IN_THE_WAY, *_NO_RIGHT, *_OTHERS)}
"""LMDB gives the system's errors as texts."""
_BY_KIND: dict[type[Exception], int] = {
    lmdb.DiskError: errno.ENOSPC,
    lmdb.ReadonlyError: errno.EACCES,
    lmdb.MemoryError: errno.ENOMEM,
}
"""Those for which it has kinds of its own."""
PROBE_BYTES = 1 << 20
"""A disk that does not take so much more is full: a turn's transaction is smaller but for snapshots."""


def meaning(folder: Path, error: Exception) -> NodeError:
    """The error that stands for a failure of the journal in ``folder``."""
    number, reason = _number(error), _reason(error)
    if number == errno.EIO and isinstance(error, lmdb.Error) and _is_full(folder):
        number, reason = errno.ENOSPC, os.strerror(errno.ENOSPC)
    if isinstance(error, lmdb.MapFullError):
        return JournalFull(
            f"the journal in {folder} fills its map. Give the node more addresses (ulimit -v), or a smaller"
            " --journal-retain-bytes: nothing that was promised is lost"
        )
    if number in _FULL:
        return JournalFull(
            f"the journal in {folder} can't be written ({reason}); {_free_mib(folder)} MiB are free on that disk."
            " Make room and start the node again: nothing that was promised is lost"
        )
    if number in _NO_RIGHT:
        return JournalDenied(
            f"the journal in {folder} can't be written ({reason}): this user ({os.geteuid()}) may not. Give it the"
            " folder and the files in it, or name another folder with --run-dir"
        )
    if number in _IN_THE_WAY:
        return JournalDenied(
            f"the journal can't be in {folder} ({reason}): something else stands there. Move that away, or name"
            " another folder with --run-dir"
        )
    if number == errno.EIO:
        return JournalCorrupt(
            f"the disk under the journal in {folder} fails ({reason}): the kernel's log says more. With an empty"
            " folder on a sound disk the node comes back as a new member, and gets everything from the others"
        )
    if number:
        return NodeError(f"the journal in {folder} can't be opened or written: {reason}")
    if isinstance(error, PagesForeign):
        return JournalCorrupt(f"data.mdb in {folder} is no journal: {reason}. {NEW_MEMBER}")
    return JournalCorrupt(f"the journal in {folder} is damaged: {reason}. {NEW_MEMBER}")


def deleted(folder: Path) -> JournalLost:
    """The file is not where it was."""
    return JournalLost(
        f"the journal in {folder} was deleted while the node ran. The node stops, since nothing that it stores would"
        " stay. Start it again: it comes back as a new member, and gets everything from the others"
    )


def cut_off(folder: Path, size_before: int, size: int) -> JournalLost:
    """The file is shorter than it was; LMDB's file never shrinks."""
    return JournalLost(
        f"the journal in {folder} was cut off while the node ran, from {size_before} bytes to {size}. {NEW_MEMBER}"
    )


def _number(error: Exception) -> int:
    """The system's number of a failure; 0 if it is none of the system's."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    return _BY_KIND.get(type(error)) or _BY_TEXT.get(_reason(error), 0)


def _reason(error: Exception) -> str:
    """A failure without the path that stands before it."""
    if isinstance(error, OSError):
        return reason_of(error)
    return str(error).rpartition(": ")[2] if isinstance(error, lmdb.Error) else str(error)


def _is_full(folder: Path) -> bool:
    """Whether the disk has no room. LMDB says "Input/output error" where the system wrote a part of what it was to."""
    try:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most != resource.RLIM_INFINITY and (folder / "data.mdb").stat().st_size + PROBE_BYTES > most:
            return True
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            return probe.write(bytes(PROBE_BYTES)) < PROBE_BYTES
    except OSError as error:
        return error.errno in _FULL


def _free_mib(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free >> 20
    return 0
