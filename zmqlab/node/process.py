"""From settings to a running process: folders, log file, signals, exit statuses.

Everything that can go wrong at a start is one line on standard error and an exit status of its own (see
:mod:`zmqlab.errors`); standard output stays empty. SIGTERM, SIGINT and SIGHUP end a node in order, a second one at
once; the end of its launcher does that, too.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from zmqlab.errors import EXIT_FAILED, EXIT_OK, LogUnwritable, ZmqlabError
from zmqlab.node.lmdb_journal import LmdbJournal
from zmqlab.node.loop import Node, Observe
from zmqlab.node.transport import Transport
from zmqlab.replica import Journal, MemoryJournal
from zmqlab.settings import NodeSettings

log = logging.getLogger("zmqlab.node")
log.addHandler(logging.NullHandler())  # until the log is open; logging itself would write to standard error


def run_node(settings: NodeSettings) -> int:
    """Run a node until it is told to stop; returns the process' exit status."""
    try:
        _open_log(settings)
        return _serve(settings)
    except ZmqlabError as error:
        log.error("%s", error)
        if settings.log_to == "file":
            print(f"zmqlab node {settings.name}: {error}", file=sys.stderr)
        return error.exit_status
    except Exception:
        log.exception("stop: a broken invariant")
        if settings.log_to == "file":
            print(f"zmqlab node {settings.name}: a broken invariant; see its log", file=sys.stderr)
        return EXIT_FAILED


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


def _open_log(settings: NodeSettings) -> None:
    folder = settings.run_dir / "logs"
    try:
        handler: logging.Handler = logging.StreamHandler()
        if settings.log_to == "file":
            folder.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(folder / f"{settings.name}.log")
    except OSError as error:
        raise LogUnwritable(
            f"the log below {folder} can't be written: {error}. Give that folder to this user, or use another --run-dir"
        ) from None
    text = logging.Formatter(f"%(asctime)s.%(msecs)03d {settings.name} %(levelname)s %(message)s", "%FT%T")
    handler.setFormatter(JsonFormatter(settings.name) if settings.log_format == "json" else text)
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(settings.log_level.upper())


def _serve(settings: NodeSettings) -> int:
    signals = _Signals()
    gc.disable()  # no cycles arise on an order's way; a full collection over a million orders takes half a second
    transport = Transport(settings)
    try:
        observe = _show_metrics(settings)
        journal = _open_journal(settings)
        try:
            node = Node(settings, transport, journal, observe)
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


def _open_journal(settings: NodeSettings) -> Journal:
    if settings.durability == "memory":
        return MemoryJournal(settings.journal_retain_bytes)
    return LmdbJournal(
        settings.run_dir / "data" / settings.name,
        identity=settings.name if settings.join else f"{settings.name} at {settings.endpoint}",
        fsync=settings.durability == "fsync",
        retain_bytes=settings.journal_retain_bytes,
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
