"""Everything that can go wrong in operation, as one tree of exceptions.

Three kinds of trouble are kept apart. A *broken invariant* is an ``AssertionError``: the node stops, because going on
could spread a wrong state. A *bad command* (an unknown order, a zero quantity) is no exception at all but a
deterministic rejection that every node makes alike and that comes back as an ``ExecutionReport``. An *operating
failure* is one of the classes here; its message says what happened and what to try next.

::

    ZmqlabError
    ├── SettingsError          an argument or a setting is out of range; exit status 2
    ├── FrameError             bytes from a socket are not a frame of ours; counted and dropped
    │   └── Forbidden          the sender's key has no right to that; the sender is told
    ├── StateInvalid           bytes are no canonical state of the market; nothing was restored from them
    ├── NodeError              a node could not start or go on
    │   ├── PortInUse          another process listens there                exit status 3
    │   ├── ListenFailed       no such address here, or no right to it      exit status 7
    │   ├── LogUnwritable      the log file can't be written                exit status 8
    │   ├── JournalMismatch    the journal belongs to another node          exit status 4
    │   ├── JournalFull        the disk or the journal's map is full        exit status 5
    │   ├── JournalCorrupt     the journal is damaged                       exit status 6
    │   │   ├── JournalLost    its file was deleted, moved or cut off while the node ran
    │   │   └── JournalDenied  no right to it, or something else stands in its place
    │   └── NodeStartFailed    a launched node ended before it was ready
    ├── RequestError           a client's request was not carried out
    │   ├── RequestTimeout     no node answered in time: the outcome is unknown
    │   │   └── NotLetIn       because the keys of this process and of the nodes do not fit; nothing was done
    │   ├── NoLeader           no node leads for now: nothing was done
    │   ├── SessionExpired     the client's session was evicted: the outcome of open requests is unknown
    │   └── RequestRefused     the cluster said no, with its reason: nothing was done
    ├── ClusterError           the lab was asked for something that it can't do (no such node, not running)
    └── RunUnreadable          a folder is no kept run, or one of its files is damaged
"""

from __future__ import annotations

import os
import traceback

EXIT_OK = 0
EXIT_FAILED = 1
"""The command ran and its answer is no: a verdict that fails, a node that died."""
EXIT_NOT_JUDGED = 9
"""The command ran, and what it should have shown can't be known: the verdict says why."""
EXIT_THRESHOLD = 10
"""The command ran, no promise was broken, and a figure crossed a threshold that the caller had set."""
EXIT_USAGE = 2
"""The arguments were wrong; the convention of getopt and of Python's own argparse."""


class ZmqlabError(Exception):
    """The root of all operating failures."""

    exit_status = EXIT_FAILED

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the line of the cell, and what happened. The way through this package says nothing to a
        reader of a notebook. Where no cell is concerned it is the whole traceback."""
        frames = traceback.extract_tb(self.__traceback__)
        cells = [frame for frame in frames if not os.path.exists(frame.filename)]  # a cell is no file
        if not cells:
            return traceback.format_exception(self)
        return [f"line {cells[-1].lineno} of the cell: {cells[-1].line}", f"{type(self).__name__}: {self}"]


class SettingsError(ZmqlabError):
    """An argument or a setting has a wrong type or is out of range."""

    exit_status = EXIT_USAGE


class FrameError(ZmqlabError):
    """Bytes from a socket are not a valid frame. The receiver counts and drops them."""


class Forbidden(FrameError):
    """The key of the sender has no right to what a frame asks for. The sender has been told."""


class StateInvalid(ZmqlabError):
    """Bytes are not the canonical state of an exchange. The exchange that was to take them is as it was."""


class NodeError(ZmqlabError):
    """A node could not start or could not go on."""


class PortInUse(NodeError):
    """Another process listens on a port that the node needs."""

    exit_status = 3


class ListenFailed(NodeError):
    """The node can't listen where it was told to: this machine has no such address, or the port needs other rights."""

    exit_status = 7


class LogUnwritable(NodeError):
    """The node's log can't be written: the folder is missing its rights, or a file stands in its place."""

    exit_status = 8


class JournalMismatch(NodeError):
    """The journal in the data folder was written by another node or another cluster."""

    exit_status = 4


class JournalFull(NodeError):
    """No room is left for the journal; nothing that was promised is lost."""

    exit_status = 5


class JournalCorrupt(NodeError):
    """What is stored is not what was written. The node does not serve from it, and trying again does not help."""

    exit_status = 6


class JournalLost(JournalCorrupt):
    """The journal's file was deleted, moved or cut off under the node, which can promise nothing any more."""


class JournalDenied(JournalCorrupt):
    """The journal can't be reached: the rights are missing, or something else stands in its place."""


class NodeStartFailed(NodeError):
    """A launched node ended, or was not ready in time."""


class RequestError(ZmqlabError):
    """A client's request was not carried out, or its outcome is unknown."""


class RequestTimeout(RequestError):
    """No node answered in time. The request may still be applied; retrying under its number is safe."""


class NotLetIn(RequestTimeout):
    """No node answered, because none of them lets this process in: the keys do not fit. Nothing was done."""


class NoLeader(RequestError):
    """No node leads for now. The request was not applied."""


class SessionExpired(RequestError):
    """The client's session was evicted, so that its open requests may or may not have been applied."""


class RequestRefused(RequestError):
    """The cluster refused the request and did not apply it; the message carries the reason."""


class ClusterError(ZmqlabError):
    """The lab was asked for something that it can't do."""


class RunUnreadable(ZmqlabError):
    """A folder is no kept run, or a file in it is not as it was written."""


START_ERRORS = (PortInUse, ListenFailed, LogUnwritable, JournalMismatch, JournalFull, JournalCorrupt)
"""Each has an exit status of its own."""


def start_error(status: int, message: str) -> NodeError:
    """The NodeError whose exit status a node ended with; NodeStartFailed for any other status."""
    for kind in START_ERRORS:
        if kind.exit_status == status:
            return kind(message)
    return NodeStartFailed(message)
