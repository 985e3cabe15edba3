"""Compose without an engine: each container is a process in a network namespace of its own, at one bridge.

Services are started with the command and the environment that ``deploy/docker-compose.multi-node.yml`` gives them, as
process 1 of a process namespace and with a host name of its own, as in a container. A service's name stands for the
addresses of all its containers that run, as Compose's name server has it: here it is ``/etc/hosts``, which ``ip netns
exec`` takes from ``/etc/netns/NAMESPACE``. A volume is a folder. :mod:`tests.deploy.network` makes the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.network import ROOT, Machine, Network, environment
from zmqlab.keys import Keyring

COMPOSE = ROOT / "deploy" / "docker-compose.multi-node.yml"
COMPOSE_SHARDS = ROOT / "deploy" / "docker-compose.shards.yml"


def services(file: Path = COMPOSE) -> dict[str, Any]:
    """The services as the file describes them."""
    return dict(yaml.safe_load(file.read_text())["services"])


class Container(Machine):
    """One process in its namespace."""

    def __init__(self, network: Network, name: str, address: str, link: str, *, service: str, volume: Path) -> None:
        super().__init__(network, name, address, link)
        self.id, self.service, self.volume = name, service, volume

    @property
    def log(self) -> str:
        return (self.volume / "stderr").read_text()


class Project:
    """What ``docker compose`` would do, one step at a time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """``environment`` overrides what the file gives the services that it gives it to."""
        self._folder = folder
        self._overrides = environment
        self._services = services()
        self.keys = folder / "keys"
        """The volume that the service ``keys`` has filled."""
        Keyring.new().save(self.keys)
        self._count = 0
        self._asking: subprocess.Popen[bytes] | None = None
        self._network = Network()

    @property
    def containers(self) -> list[Container]:
        """Those that run."""
        return [each for each in self._network.machines if isinstance(each, Container)]

    def up(self, service: str, volume: Path | None = None, address: str = "") -> Container:
        """One more container of ``service``; with a new volume and a new address unless they are given."""
        container = self.attach(service, volume, address)
        described = self._services[service]
        told = {key: self._overrides.get(key, str(value)) for key, value in described["environment"].items()}
        told |= {"ZMQLAB_RUN_DIR": str(container.volume), "ZMQLAB_LOG_TO": "stderr"}  # as the image has it
        told["ZMQLAB_KEYS"] = str(self.keys)
        command = [sys.executable, "-P", "-m", "zmqlab.cli", *shlex.split(described["command"])]
        with (container.volume / "stderr").open("ab") as stderr:
            container.run(command, environment(**told), stdin=subprocess.DEVNULL, stderr=stderr)
        return container

    def attach(self, service: str, volume: Path | None = None, address: str = "") -> Container:
        """A container that runs nothing yet."""
        self._count += 1
        container_id = f"{self._count:02d}{os.urandom(5).hex()}"
        if volume is None:
            volume = self._folder / f"volume-{container_id}"
            volume.mkdir()
        container: Container = self._network.add(Container, container_id, address, service=service, volume=volume)
        self._tell_names()
        return container

    def _tell_names(self) -> None:
        self._network.tell_names({each.address: f"{each.service} {each.id}" for each in self.containers})

    def down(self, container: Container) -> None:
        """Remove one that has ended, or end it by SIGKILL; its volume stays."""
        self._network.remove(container)
        self._tell_names()

    def stop(self, *containers: Container) -> list[int]:
        """SIGTERM to all of these, then wait for them, as Compose does; their exit statuses."""
        for container in containers:
            container.signal(signal.SIGTERM)
        statuses = [container.wait() for container in containers]
        for container in containers:
            self.down(container)
        return statuses

    # -- seen from a client within ---------------------------------------------------------------------------

    def ask(self, *question: Any, timeout_s: float = 120) -> Any:
        """An answer of :mod:`tests.deploy.inside`, which runs in a namespace of its own."""
        if self._asking is None:
            client = self.attach("client")
            command = [sys.executable, "-m", "tests.deploy.inside", str(self.keys)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._asking = client.run(command, environment(TMPDIR=str(client.volume)), **pipes, cwd=ROOT)
        assert self._asking.stdin is not None
        assert self._asking.stdout is not None
        self._asking.stdin.write(json.dumps(question).encode() + b"\n")
        self._asking.stdin.flush()
        line = self._asking.stdout.readline()
        assert line, "the client has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["is"]

    @property
    def nodes(self) -> list[Container]:
        return [each for each in self.containers if each.service != "client"]

    def statuses(self) -> dict[str, Any]:
        """Container id -> what it says of itself, of those that answer."""
        said = self.ask("statuses", [node.client for node in self.nodes])
        return {node.id: said[node.client] for node in self.nodes if node.client in said}

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 120) -> dict[str, Any]:
        """The statuses, once they fulfil ``condition``."""
        deadline = time.monotonic() + timeout_s
        while not condition(statuses := self.statuses()):
            assert time.monotonic() < deadline, json.dumps(statuses, indent=1) + "".join(
                f"\n-- {node.service} {node.id} {node.address}\n{_told(node.log)}" for node in self.nodes
            )
            time.sleep(0.05)
        return statuses

    def until_all_vote(self, timeout_s: float = 120) -> dict[str, Any]:
        """One leader, and the voters are the nodes that run, where they run, as all of them know."""
        places = {f"{node.address}:5000" for node in self.nodes}

        def agreed(statuses: dict[str, Any]) -> bool:
            roles = [status["role"] for status in statuses.values()]
            return (
                len(statuses) == len(self.nodes)
                and roles.count("leader") == 1
                and all(set(status["voters"].values()) == places for status in statuses.values())
            )

        return self.until(agreed, timeout_s)

    def close(self) -> None:
        """End everything and remove it."""
        for container in self.containers:
            container.end()
        if self._asking is not None:
            for pipe in (self._asking.stdin, self._asking.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
        self._network.close()


def _told(log: str) -> str:
    return "\n".join(line for line in log.splitlines()[-40:] if "metrics" not in line)
