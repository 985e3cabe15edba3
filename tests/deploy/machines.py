"""Machines of their own: a node on each, and a notebook on one more that attaches to them with a key.

Each node is started with the command that a person gives on such a machine, and knows nothing of this process. The
notebook (:mod:`tests.deploy.inside`) is attached through the network alone (:class:`zmqlab.lab.external_host`), so it
learns of a cut cable or a killed process only by what it no longer hears.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.network import ROOT, Machine, Network, environment
from zmqlab.keys import Keyring


class NodeMachine(Machine):
    """A machine that runs one node, named after it."""

    def __init__(self, network: Network, name: str, address: str, link: str, *, folder: Path) -> None:
        super().__init__(network, name, address, link)
        self.folder = folder
        folder.mkdir()

    @property
    def log(self) -> str:
        return (self.folder / "logs" / f"{self.name}.log").read_text()


class Machines:
    """``count`` machines, ``host1`` and so on, whose nodes found one cluster. Use it in a ``with`` block."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self.keys = folder / "keys"
        Keyring.new().save(self.keys)
        self._asking: subprocess.Popen[bytes] | None = None
        self.network = Network()
        self.hosts: dict[str, NodeMachine] = {}
        try:
            for number in range(1, count + 1):
                name = f"host{number}"
                self.hosts[name] = self.network.add(NodeMachine, name, folder=folder / name)
            for name in self.hosts:
                self.start(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str) -> None:
        """Start a machine's node, for the first time or again."""
        host = self.hosts[name]
        peers = ",".join(f"tcp://{each.address}:5000" for each in self.hosts.values() if each is not host)
        flags = ["--node", name, "--port", "5000", "--bind", host.address, "--peers", peers]
        flags += ["--keys", str(self.keys), "--run-dir", str(host.folder), "--allow-faults"]
        flags += ["--leader"] if name == "host1" else []
        command = [sys.executable, "-P", "-m", "zmqlab.cli", "node", *flags]
        host.run(command, environment(), stdin=subprocess.DEVNULL, cwd=host.folder)

    def ask(self, *question: Any) -> Any:
        """An answer of the notebook, which is started when it is first asked."""
        if self._asking is None:
            notebook = self.network.add(Machine, "notebook")
            command = [sys.executable, "-m", "tests.deploy.inside", str(self.keys)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._asking = notebook.run(command, environment(TMPDIR=str(self._folder)), **pipes, cwd=ROOT)
        assert self._asking.stdin is not None
        assert self._asking.stdout is not None
        self._asking.stdin.write(json.dumps(question).encode() + b"\n")
        self._asking.stdin.flush()
        line = self._asking.stdout.readline()
        assert line, "the notebook has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["is"]

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 120) -> dict[str, Any]:
        """What the notebook sees, once that fulfils ``condition``."""
        deadline = time.monotonic() + timeout_s
        while not condition(seen := self.ask("seen")):
            assert time.monotonic() < deadline, json.dumps(seen, indent=1)
            time.sleep(0.05)
        return dict(seen)

    def until_all_are_well(self, timeout_s: float = 120) -> dict[str, Any]:
        """Once all nodes are heard, one leads, and none is behind."""
        return self.until(
            lambda seen: (
                set(seen["heard"]) == set(self.hosts) and bool(seen["leader"]) and max(seen["lag"].values()) < 50
            ),
            timeout_s,
        )

    def close(self) -> None:
        """End everything and remove it."""
        for machine in self.network.machines:
            machine.end()
        if self._asking is not None:
            for pipe in (self._asking.stdin, self._asking.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
        self.network.close()
