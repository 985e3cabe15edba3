"""From settings to a running process: folders, log file, signals, exit statuses.

Everything that can go wrong at a start is one line on standard error and an exit status of its own (see
:mod:`zmqlab.errors`); standard output stays empty. SIGTERM, SIGINT and SIGHUP end a node in order, a second one at
once; the end of its launcher does that, too.

*The log* is ``logs/NAME.log``, and when that is full ``logs/NAME.log.1`` and so on, the oldest of which is dropped. A
line that can't be written is lost and counted, and never stops the node: standard error may be a pipe that is not read,
the disk may be full. On a full disk the journal can't be written either, and the node ends. So that its log can say
why, the log keeps a *reserve*: a file without a name, which is given up for the last line.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import IO

from zmqlab import net
from zmqlab.endpoints import is_numeric, spelled
from zmqlab.engine import Design
from zmqlab.errors import EXIT_FAILED, EXIT_OK, LogUnwritable, ZmqlabError
from zmqlab.keys import OTHERS
from zmqlab.names import own_address_of
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.node.loop import Node, Observe
from zmqlab.node.transport import Transport
from zmqlab.replica import Journal, MemoryJournal
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import NodeSettings, journals_in, reason_of

STDERR = 2
LOG_FILE_BYTES = 16 << 20
"""A node writes some 25 MB a day, most of it one line of figures a second."""
OLD_LOG_FILES = 3
"""With the newest 64 MiB a node: two and a half days."""
RESERVE_BYTES = 65_536
"""For the last line of the log and that on standard error, each of which takes a block or two."""

log = logging.getLogger("zmqlab.node")
log.addHandler(logging.NullHandler())  # until the log is open; logging itself would write to standard error


def run_node(settings: NodeSettings) -> int:
    """Run a node until it is told to stop; returns the process' exit status. What it writes is for its user alone."""
    os.umask(OTHERS)
    try:
        _open_log(settings)
        return _serve(_with_addresses(settings), settings.endpoint)
    except ZmqlabError as error:
        _give_up_reserve()
        log.error("%s", error)
        _tell(settings, str(error))
        return error.exit_status
    except Exception:
        _give_up_reserve()
        log.exception("stop: a broken invariant")
        _tell(settings, "a broken invariant; see its log")
        return EXIT_FAILED


def _with_addresses(settings: NodeSettings) -> NodeSettings:
    """The same settings with an address in place of each name that stands for this node.

    Raises:
        SettingsError: no address is known for such a name.
    """

    def address(host: str) -> str:
        if not host or host == "*" or is_numeric(spelled(host)):
            return host
        found = own_address_of(host)
        log.info("the address of this node's host %s is %s", host, found)
        return found

    return replace(settings, bind=address(settings.bind), advertise=address(settings.advertise))


def _tell(settings: NodeSettings, why: str) -> None:
    """Why the node ends, on standard error, if the log is not there already."""
    if settings.log_to == "file":
        _write_stderr(f"zmqlab node {settings.name}: {why}")


def _give_up_reserve() -> None:
    for handler in log.handlers:
        if isinstance(handler, _LogFile):
            handler.give_up_reserve()


def _write_stderr(line: str) -> bool:
    """Whether the line was written. Nothing is buffered, since what is left in a buffer makes the end of the process
    fail; and nothing waits for a pipe that is not read."""
    poller = select.poll()
    poller.register(STDERR, select.POLLOUT)
    data = (line + "\n").encode(errors="backslashreplace")
    while data:
        if not any(events & select.POLLOUT for _, events in poller.poll(0)):
            return False
        try:
            data = data[os.write(STDERR, data[: select.PIPE_BUF]) :]  # so much never waits where there is room
        except OSError:
            return False
    return True


class JsonFormatter(logging.Formatter):
    """One object a line: ``time`` (RFC 3339, UTC), ``node``, ``level``, ``message``, and ``error`` with a traceback."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "node": self._node, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Counted(logging.Handler):
    """A handler that counts the lines that it could not write, and says so in the next one."""

    lost = 0

    def format(self, record: logging.LogRecord) -> str:
        if self.lost:
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"({self.lost} lines before this one are lost) {record.getMessage()}", ()
        return super().format(record)


class _StandardError(_Counted):
    """Writes to standard error, and loses what does not fit."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.lost = 0 if _write_stderr(line) else self.lost + 1


class _LogFile(_Counted, RotatingFileHandler):
    """Writes to a file of bounded size, and loses what the disk does not take."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        super().__init__(
            path, maxBytes=LOG_FILE_BYTES, backupCount=OLD_LOG_FILES, encoding="utf-8", errors="backslashreplace"
        )
        self._reserve: IO[bytes] | None = None
        with suppress(OSError):  # on a disk that is full already there is none
            self._reserve = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115  # closed at the end
            self._reserve.write(bytes(RESERVE_BYTES))

    def give_up_reserve(self) -> None:
        """Make room for the last lines."""
        if self._reserve is not None:
            self._reserve.close()

    def close(self) -> None:
        """See :class:`logging.Handler`."""
        self.give_up_reserve()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        before = self.lost
        super().emit(record)
        if self.lost == before:
            self.lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # its name in logging
        """The line is lost. What the stream still holds of it is dropped; the next line opens the file again."""
        self.lost += 1
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _open_log(settings: NodeSettings) -> None:
    folder = settings.run_dir / "logs"
    try:
        handler: logging.Handler = _StandardError()
        if settings.log_to == "file":
            folder.mkdir(parents=True, exist_ok=True)
            handler = _LogFile(folder / f"{settings.name}.log")
    except OSError as error:
        raise LogUnwritable(
            f"the log below {folder} can't be written: {reason_of(error)}. Give that folder to this user, or"
            " use another --run-dir"
        ) from None
    text = logging.Formatter(f"%(asctime)s.%(msecs)03d {settings.name} %(levelname)s %(message)s", "%FT%T")
    handler.setFormatter(JsonFormatter(settings.name) if settings.log_format == "json" else text)
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(settings.log_level.upper())


def _serve(settings: NodeSettings, place: str) -> int:
    """``place``: the base endpoint, as it was written."""
    signals = _Signals()
    design = Design(REPLICATIONS.find(settings.replication).make)
    gc.disable()  # no cycles arise on an order's way; a full collection over a million orders takes half a second
    transport = Transport(settings, net.raise_descriptor_limit())
    try:
        observe = _show_metrics(settings)
        journal = _open_journal(settings, place)
        try:
            node = Node(settings, transport, journal, observe, design)
            signals.tell(node.terminate)
            node.run()
            log.info("stop")
        finally:
            journal.close()
    finally:
        transport.close()
    return EXIT_OK


def _show_metrics(settings: NodeSettings) -> Observe | None:
    if not settings.metrics_port:
        return None
    from zmqlab.node.prometheus import NodeExporter  # not before it is needed: it brings an HTTP server along

    return NodeExporter(settings).observe


def _open_journal(settings: NodeSettings, place: str) -> Journal:
    if settings.durability == "memory":
        return MemoryJournal(settings.journal_retain_bytes)
    return LmdbJournal(
        journals_in(settings.run_dir) / settings.name,
        identity=settings.name if settings.join or settings.shards > 1 else f"{settings.name} at {place}",
        fsync=settings.durability == "fsync",
        retain_bytes=settings.journal_retain_bytes,
        groups_max=settings.shards,
    )


class _Signals:
    """SIGTERM, SIGINT and SIGHUP, noted until there is a listener."""

    def __init__(self) -> None:
        self.came = False
        self._listener: Callable[[], None] = lambda: None
        signal.signal(signal.SIGTERM, self._take)
        signal.signal(signal.SIGINT, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, self._take)

    def tell(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at each signal from now on, and now if one has come."""
        self._listener = listener
        if self.came:
            listener()

    def _take(self, number: int, _: FrameType | None) -> None:
        log.info("stop: signal %s", signal.Signals(number).name)
        self.came = True
        self._listener()
