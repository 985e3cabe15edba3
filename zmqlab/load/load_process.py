"""A load client as a process of its own: ``python -m zmqlab.load.load_process --config JSON``.

The parent owns the sockets that listen: a SUB at ``metrics`` and a ROUTER at ``control``. This process connects a PUB
and a DEALER to them. :mod:`~zmqlab.load.load_messages` has the messages. The configuration is one JSON object::

    {"settings": {...LoadSettings.to_dict()...}, "metrics": "tcp://127.0.0.1:6000", "control": "tcp://127.0.0.1:6001",
     "record": "/tmp/zmqlab-1/load-1"}

The parent's sockets let in this process alone: the first line of its standard input is the key to them, and the second
line the key to show to the nodes.

It writes to the folder ``record`` as it goes (:mod:`~zmqlab.load.run_record`); there is the result when it has ended.
So a process that dies takes nothing along but the last milliseconds. It ends at once when its standard input ends,
because then the parent is gone. SIGTERM stops the run in good order. SIGINT is left to the parent: a terminal sends it
to both.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from zmqlab import errors, keys, net
from zmqlab.client.request_traces import RequestTraces
from zmqlab.errors import EXIT_FAILED, EXIT_OK, ClusterError, FrameError, SettingsError, ZmqlabError
from zmqlab.keys import Credentials
from zmqlab.load import load_messages
from zmqlab.load.generator import Generator
from zmqlab.load.load_settings import LoadSettings
from zmqlab.load.run_record import RunFailed
from zmqlab.wire.traces import TraceQuery, encode_trace

MODULE = "zmqlab.load.load_process"
"""By this name `zmqlab ps` recognizes such a process."""
PARENT_FRAME_BYTES = 65_536
"""The parent only sends small things."""
METRICS_BOUNDS = net.SocketBounds(frame_bytes=PARENT_FRAME_BYTES, send_messages=100)
"""Ten seconds of snapshots; a parent that does not read loses the rest."""
CONTROL_BOUNDS = net.SocketBounds(frame_bytes=PARENT_FRAME_BYTES, linger_ms=1_000)
"""So long may the word that the run began take."""
ORPHAN_GRACE_S = 1.0
"""How long the run may take to end by itself after the parent's death."""


def command_line(settings: LoadSettings, metrics_endpoint: str, control_endpoint: str, record: Path) -> list[str]:
    """The command that a parent starts, with a pipe as standard input. What the current folder holds is not run."""
    config = {
        "settings": settings.to_dict(),
        "metrics": metrics_endpoint,
        "control": control_endpoint,
        "record": str(record),
    }
    return [sys.executable, "-P", "-m", MODULE, "--config", json.dumps(config, separators=(",", ":"))]


def how_it_ended(status: int, last_words: Callable[[], str]) -> str:
    """For the parent: the end of a load process that told no result. Its last words are what it wrote last."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}: {last_words()}"


def error_of(failed: RunFailed) -> ZmqlabError:
    """For the parent: the error that a load process met before its run began."""
    kind = getattr(errors, failed.kind, None)
    known = isinstance(kind, type) and issubclass(kind, ZmqlabError)
    return kind(failed.message) if known and kind is not None else ClusterError(f"{failed.kind}: {failed.message}")


class LoadProcess:
    """Connects one generator with its parent."""

    def __init__(
        self,
        settings: LoadSettings,
        metrics_endpoint: str,
        control_endpoint: str,
        record: Path,
        parents: Credentials | None = None,
        nodes: Credentials | None = None,
    ) -> None:
        """
        Args:
            settings: what to send, and where.
            metrics_endpoint: of the parent's SUB.
            control_endpoint: of the parent's ROUTER.
            record: the folder of the run's record.
            parents: what is shown to both of them.
            nodes: what is shown to the nodes.
        """
        self._context = net.new_context()
        self._name = settings.name
        self._traces: RequestTraces | None = None
        """While a lease goes on."""
        self._publisher = net.connect(self._context, zmq.PUB, metrics_endpoint, METRICS_BOUNDS, (), parents)
        self._control = net.connect(self._context, zmq.DEALER, control_endpoint, CONTROL_BOUNDS, (), parents)
        keys.show_everywhere(nodes)
        self.generator = Generator(
            settings, on_metrics=self._publish, on_started=self._tell_start, on_turn=self._take_control, folder=record
        )

    def run(self) -> int:
        """Run to the end; returns the exit status."""
        status = EXIT_OK
        try:
            self.generator.run()
        except ZmqlabError as error:
            self.generator.record.fail(error)
            status = error.exit_status
        if problem := self.generator.record.problem:
            print(problem, file=sys.stderr)  # the record itself may have had no room for it
        self._publisher.close()
        self._control.close()
        self._context.term()
        return status

    def _publish(self, snapshot: load_messages.LoadMetrics) -> None:
        self._publisher.send(load_messages.encode_metrics(snapshot))
        if self._traces is not None:
            self._publish_traces(self._traces)

    def _publish_traces(self, traces: RequestTraces) -> None:
        """Also when the last lease has just ended: what was seen until then is told."""
        now_ns = time.monotonic_ns()
        if not traces.is_on(now_ns):
            self._traces = None
            self.generator.watched_by(None)
        self._publisher.send(encode_trace(traces.take(now_ns, time.time_ns()), traces.group))

    def _tell_start(self, client_ids: list[int]) -> None:
        self._control.send(load_messages.encode_control(load_messages.LoadStarted(self._name, os.getpid(), client_ids)))

    def _take_control(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                frame = self._control.recv(zmq.NOBLOCK)
                with contextlib.suppress(FrameError, SettingsError):  # the parent has checked what it sends
                    self._obey(load_messages.decode_to_load(frame))

    def _obey(self, message: load_messages.ToLoad) -> None:
        if isinstance(message, load_messages.Stop):
            self.generator.stop()
        elif isinstance(message, TraceQuery):
            now_ns = time.monotonic_ns()
            traces = self._traces or RequestTraces(self._name, now_ns)
            traces.want(message, now_ns)
            self._traces = traces
            self.generator.watched_by(traces)
        else:
            self.generator.set_rate(message.rate)


def passes_of(parents: Credentials | None, nodes: Credentials | None) -> bytes:
    """What a parent writes to the process' standard input: what to show to itself, and what to the nodes.

    Two lines, blank where nothing is to be shown. They hold secrets, and a command line is for everybody to read.
    """
    words = (((each.public, each.secret, each.server) if each else ()) for each in (parents, nodes))
    return b"".join(" ".join(line).encode() + b"\n" for line in words)


def _read_pass() -> Credentials | None:
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 1)):
        line += more
    words = line.decode(errors="replace").split()
    return Credentials(*words) if len(words) == 3 else None


def _watch_parent(generator: Generator) -> None:
    """End with the parent: the system closes its end of the pipe when it dies, however it dies."""
    while os.read(0, 4_096):
        pass
    generator.abort()
    time.sleep(ORPHAN_GRACE_S)
    os._exit(EXIT_FAILED)


def _read_config(text: str) -> tuple[LoadSettings, str, str, Path]:
    try:
        config: dict[str, Any] = json.loads(text)
        settings = LoadSettings.from_dict(config["settings"])
        return settings, str(config["metrics"]), str(config["control"]), Path(config["record"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SettingsError(f"--config does not say settings, metrics, control and record in JSON: {error!r}") from None


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="one load client of a parent process")
    parser.add_argument("--config", required=True, help="JSON: settings, metrics and control endpoint, folder")
    try:
        config = _read_config(parser.parse_args().config)
        process = LoadProcess(*config, _read_pass(), _read_pass())
    except OSError as error:
        print(f"the run can't be recorded: {error}", file=sys.stderr)
        return EXIT_FAILED
    except SettingsError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.generator.stop())
    threading.Thread(target=_watch_parent, args=(process.generator,), daemon=True).start()
    gc.freeze()  # what was imported is here to stay: to look through it for cycles takes 10 ms
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
