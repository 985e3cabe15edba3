"""Compose without an engine: each container is a process in a network namespace of its own, at one bridge.

Services are started with the command and the environment that ``deploy/docker-compose.multi-node.yml`` gives them, as
process 1 of a process namespace and with a host name of its own, as in a container. A service's name stands for the
addresses of all its containers that run, as Compose's name server has it: here it is ``/etc/hosts``, which ``ip netns
exec`` takes from ``/etc/netns/NAMESPACE``. A volume is a folder.

Nothing leaves these namespaces: they have no way out. :meth:`Project.close` removes everything; a test run that was
killed leaves namespaces without processes, which the next run removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from zmqlab.keys import Keyring

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ROOT / "deploy" / "docker-compose.multi-node.yml"
NETWORK = "10.213.77"
NETNS = Path("/etc/netns")
PREFIX = "zmqlab-"
OUTSIDE = ("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec")
INSIDE = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
PROGRAMS = ("ip", "unshare", "setpriv", "hostname")


def why_not() -> str:
    """Why namespaces can't be made here; empty if they can."""
    if os.name != "posix" or not sys.platform.startswith("linux"):
        return "network namespaces are Linux'"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)} here: `apt-get install iproute2 util-linux hostname` (Debian)"
    name = f"{PREFIX}{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return "" if made.returncode == 0 else f"this system makes no network namespaces: {made.stderr.strip()}"


_reason = why_not()
needs_namespaces = pytest.mark.skipif(bool(_reason), reason=_reason)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


def services() -> dict[str, Any]:
    """The services as the file describes them."""
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


class Container:
    """One process in its namespace."""

    def __init__(self, project: Project, service: str, container_id: str, address: str, volume: Path) -> None:
        self.service, self.id, self.address, self.volume = service, container_id, address, volume
        self.namespace = f"{project.prefix}{container_id}"
        self._outer: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> str:
        """Where clients reach it."""
        return f"tcp://{self.address}:5002"

    @property
    def log(self) -> str:
        return (self.volume / "stderr").read_text()

    def run(self, command: list[str], environment: dict[str, str], **kwargs: Any) -> subprocess.Popen[bytes]:
        """Start it as process 1; it dies with this process, whatever ends that."""
        inner = f"hostname {self.id}; exec {shlex.join(command)}"
        self._outer = subprocess.Popen(
            [*OUTSIDE, self.namespace, *INSIDE, inner],
            env=environment,
            **kwargs,
        )
        return self._outer

    @property
    def pid(self) -> int:
        """Of process 1, as seen from outside."""
        assert self._outer is not None
        deadline = time.monotonic() + 5
        while not (children := psutil.Process(self._outer.pid).children()):
            assert time.monotonic() < deadline, f"{self.id} has no process"
            time.sleep(0.01)
        return children[0].pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 15) -> int:
        assert self._outer is not None
        return self._outer.wait(timeout_s)

    def end(self) -> None:
        """At once."""
        if self._outer is not None and self._outer.poll() is None:
            with contextlib.suppress(psutil.Error, OSError, AssertionError):
                os.kill(self.pid, signal.SIGKILL)
            try:
                self._outer.wait(5)  # it has waited for process 1, then
            except subprocess.TimeoutExpired:
                self._outer.kill()
                self._outer.wait(5)


class Project:
    """What ``docker compose`` would do, one step at a time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """``environment`` overrides what the file gives the services that it gives it to."""
        self.prefix = f"{PREFIX}{os.getpid()}-"
        self._folder = folder
        self._overrides = environment
        self._services = services()
        self._keys = folder / "keys"
        """The volume that the service ``keys`` has filled."""
        Keyring.new().save(self._keys)
        self._count = 0
        self._asking: subprocess.Popen[bytes] | None = None
        self.containers: list[Container] = []
        """Those that run."""
        _remove_leftovers()
        self._switch = f"{self.prefix}net"
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")

    def up(self, service: str, volume: Path | None = None, address: str = "") -> Container:
        """One more container of ``service``; with a new volume and a new address unless they are given."""
        container = self._attach(service, volume, address)
        described = self._services[service]
        environment = {key: self._overrides.get(key, str(value)) for key, value in described["environment"].items()}
        environment |= {"ZMQLAB_RUN_DIR": str(container.volume), "ZMQLAB_LOG_TO": "stderr"}  # as the image has it
        environment["ZMQLAB_KEYS"] = str(self._keys)
        command = [sys.executable, "-P", "-m", "zmqlab.cli", *shlex.split(described["command"])]
        with (container.volume / "stderr").open("ab") as stderr:
            container.run(command, self._environment(environment), stdin=subprocess.DEVNULL, stderr=stderr)
        return container

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"} | more

    def _attach(self, service: str, volume: Path | None, address: str) -> Container:
        self._count += 1
        container_id = f"{self._count:02d}{os.urandom(5).hex()}"
        address = address or f"{NETWORK}.{self._count + 1}"
        if volume is None:
            volume = self._folder / f"volume-{container_id}"
            volume.mkdir()
        container = Container(self, service, container_id, address, volume)
        link = f"v{self._count}"
        (NETNS / container.namespace).mkdir(parents=True)
        ip("netns", "add", container.namespace)
        ip("-n", self._switch, "link", "add", link, "type", "veth", "peer", "eth0", "netns", container.namespace)
        ip("-n", self._switch, "link", "set", link, "master", "br0", "up")
        ip("-n", container.namespace, "link", "set", "eth0", "address", _hardware_address(address))
        ip("-n", container.namespace, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", container.namespace, "link", "set", "eth0", "up")
        ip("-n", container.namespace, "link", "set", "lo", "up")
        (NETNS / container.namespace / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        self.containers.append(container)
        self._tell_names()
        return container

    def _tell_names(self) -> None:
        """Written in place: the file is mounted in each namespace."""
        lines = ["127.0.0.1 localhost"]
        for each in self.containers:
            lines += [f"{each.address} {each.service}", f"{each.address} {each.id}"]
        for each in self.containers:
            (NETNS / each.namespace / "hosts").write_text("\n".join(lines) + "\n")

    def down(self, container: Container) -> None:
        """Remove one that has ended, or end it by SIGKILL; its volume stays."""
        container.end()
        self.containers.remove(container)
        _remove_namespace(container.namespace)
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

    def ask(self, *question: Any, timeout_s: float = 30) -> Any:
        """An answer of :mod:`tests.deploy.inside`, which runs in a namespace of its own."""
        if self._asking is None:
            client = self._attach("client", None, "")
            command = [sys.executable, "-m", "tests.deploy.inside", str(self._keys)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._asking = client.run(command, self._environment({"TMPDIR": str(client.volume)}), **pipes, cwd=ROOT)
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
        return [each for each in self.containers if each.service in ("seed", "node")]

    def statuses(self) -> dict[str, Any]:
        """Container id -> what it says of itself, of those that answer."""
        said = self.ask("statuses", [node.client for node in self.nodes])
        return {node.id: said[node.client] for node in self.nodes if node.client in said}

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 20) -> dict[str, Any]:
        """The statuses, once they fulfil ``condition``."""
        deadline = time.monotonic() + timeout_s
        while not condition(statuses := self.statuses()):
            assert time.monotonic() < deadline, json.dumps(statuses, indent=1) + "".join(
                f"\n-- {node.service} {node.id} {node.address}\n{_told(node.log)}" for node in self.nodes
            )
            time.sleep(0.05)
        return statuses

    def until_all_vote(self, timeout_s: float = 20) -> dict[str, Any]:
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
        for container in self.containers:
            _remove_namespace(container.namespace)
        _remove_namespace(self._switch)
        with contextlib.suppress(OSError):
            NETNS.rmdir()  # unless somebody else has something there


def _hardware_address(address: str) -> str:
    """Made of the address, as an engine does: whoever comes to an old address is found there at once."""
    return ":".join(f"{part:02x}" for part in (2, 0x42, *map(int, address.split("."))))


def _told(log: str) -> str:
    return "\n".join(line for line in log.splitlines()[-40:] if "metrics" not in line)


def _remove_namespace(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False, timeout=10)
    shutil.rmtree(NETNS / name, ignore_errors=True)


def _remove_leftovers() -> None:
    """Of test runs that were killed; their processes went with them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False, timeout=10).stdout
    folders = [path.name for path in NETNS.glob(f"{PREFIX}*")]
    for name in {*(line.split()[0] for line in listed.splitlines() if line), *folders}:
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove_namespace(name)
