"""A network that tests make themselves: each machine is a network namespace, joined by a veth pair to one bridge.

The bridge stands in a namespace of its own, and nothing leads out of it: no address of this machine is used, and what
is sent there stays there. A cable is pulled by ``ip link set down`` at the bridge (:meth:`Network.cut`), as real for
the machine as a cut cable is: its sockets stay open and hear nothing. ``tc`` makes a link late, lossy or narrow.

Needs root, ``ip`` and ``unshare``; ``netem`` needs a kernel that has it. :func:`why_not` and :func:`why_no_netem` say
what is missing. :meth:`Network.close` removes everything; a test run that was killed leaves namespaces without
processes, which the next run removes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
SUBNET = "10.213.77"
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


def why_no_queue(*discipline: str) -> str:
    """Why a link can't have this queueing discipline of ``tc`` here; empty if it can."""
    if reason := why_not():
        return reason
    if shutil.which("tc") is None:
        return "no tc here: `apt-get install iproute2` (Debian)"
    name = f"{PREFIX}{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        tried = subprocess.run(
            ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", *discipline],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"this kernel has no {discipline[0]}: {tried.stderr.strip()}"


_reason = why_not()
needs_namespaces = pytest.mark.skipif(bool(_reason), reason=_reason)


def ip(*arguments: str) -> None:
    run("ip", *arguments)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr.strip()}"


class Machine:
    """One network namespace with one interface, and the process that runs there as number 1."""

    def __init__(self, network: Network, name: str, address: str, link: str) -> None:
        self.name, self.address, self.link = name, address, link
        self.namespace = f"{network.prefix}{name}"
        self._outer: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> str:
        """Where clients reach a node that runs here at the port of a node that joins."""
        return f"tcp://{self.address}:5002"

    def run(self, command: list[str], environment: dict[str, str], **kwargs: Any) -> subprocess.Popen[bytes]:
        """Start it as process 1; it dies with this process, whatever ends that."""
        inner = f"hostname {self.name}; exec {shlex.join(command)}"
        self._outer = subprocess.Popen([*OUTSIDE, self.namespace, *INSIDE, inner], env=environment, **kwargs)
        return self._outer

    @property
    def pid(self) -> int:
        """Of process 1, as seen from outside."""
        assert self._outer is not None
        deadline = time.monotonic() + 60
        while not (children := psutil.Process(self._outer.pid).children()):
            assert self._outer.poll() is None, f"the process of {self.name} has ended"
            assert time.monotonic() < deadline, f"{self.name} has no process"
            time.sleep(0.01)
        return children[0].pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60) -> int:
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


class Network:
    """The bridge, and the machines at it."""

    def __init__(self, subnet: str = SUBNET) -> None:
        self.prefix = f"{PREFIX}{os.getpid()}-"
        self.machines: list[Machine] = []
        self._subnet = subnet
        self._count = 0
        _remove_leftovers()
        self._switch = f"{self.prefix}net"
        try:
            ip("netns", "add", self._switch)
            ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            ip("-n", self._switch, "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    def add(self, kind: type[Machine], name: str, address: str = "", **more: Any) -> Any:
        """One more machine of this class, at the next address unless one is given."""
        self._count += 1
        link = f"v{self._count}"
        machine = kind(self, name, address or f"{self._subnet}.{self._count + 1}", link, **more)
        self.machines.append(machine)
        (NETNS / machine.namespace).mkdir(parents=True)
        (NETNS / machine.namespace / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (NETNS / machine.namespace / "hosts").write_text("127.0.0.1 localhost\n")
        ip("netns", "add", machine.namespace)
        ip("-n", self._switch, "link", "add", link, "type", "veth", "peer", "eth0", "netns", machine.namespace)
        ip("-n", self._switch, "link", "set", link, "master", "br0", "up")
        ip("-n", machine.namespace, "link", "set", "eth0", "address", _hardware_address(machine.address))
        ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
        ip("-n", machine.namespace, "link", "set", "eth0", "up")
        ip("-n", machine.namespace, "link", "set", "lo", "up")
        return machine

    def tell_names(self, names: dict[str, str]) -> None:
        """``names``: lines of ``/etc/hosts`` by address, for all machines. Written in place: the file is mounted in
        each namespace."""
        text = "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *(f"{a} {n}" for a, n in names.items())))
        for machine in self.machines:
            (NETNS / machine.namespace / "hosts").write_text(text)

    def cut(self, machine: Machine) -> None:
        """Pull its cable."""
        ip("-n", self._switch, "link", "set", machine.link, "down")

    def restore(self, machine: Machine) -> None:
        """Plug it in again."""
        ip("-n", self._switch, "link", "set", machine.link, "up")

    def impair(self, machine: Machine, *discipline: str) -> None:
        """Have what goes to and from it pass a queue of ``tc``, as in ``netem delay 20ms loss 1%``."""
        run("tc", "-n", self._switch, "qdisc", "replace", "dev", machine.link, "root", *discipline)
        run("tc", "-n", machine.namespace, "qdisc", "replace", "dev", "eth0", "root", *discipline)

    def repair(self, machine: Machine) -> None:
        """Undo :meth:`impair`."""
        run("tc", "-n", self._switch, "qdisc", "delete", "dev", machine.link, "root")
        run("tc", "-n", machine.namespace, "qdisc", "delete", "dev", "eth0", "root")

    def remove(self, machine: Machine) -> None:
        """End what runs there by SIGKILL, and take the machine away."""
        machine.end()
        self.machines.remove(machine)
        _remove_namespace(machine.namespace)

    def close(self) -> None:
        """End everything and remove it."""
        for machine in self.machines:
            machine.end()
        for machine in tuple(self.machines):
            self.remove(machine)
        _remove_namespace(self._switch)
        with contextlib.suppress(OSError):
            NETNS.rmdir()  # unless another program has something there


def environment(**more: str) -> dict[str, str]:
    """What a process in a namespace needs to run this checkout, and nothing else of this process' but the place of its
    temporary files. ``zmqlab`` is there as a command."""
    own = {"PATH": f"{_commands()}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    return own | {"TMPDIR": tempfile.gettempdir()} | more


@functools.cache
def _commands() -> str:
    """A folder with a command ``zmqlab`` that runs this checkout; it goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="zmqlab-commands-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = Path(folder, "zmqlab")
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m zmqlab.cli "$@"\n')
    command.chmod(0o755)
    return folder


def _hardware_address(address: str) -> str:
    """Made of the address, as an engine does: a machine that comes to an old address is found there at once."""
    return ":".join(f"{part:02x}" for part in (2, 0x42, *map(int, address.split("."))))


def _remove_namespace(name: str) -> None:
    """End what still runs in it, and remove it."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False, timeout=60)
    for pid in map(int, listed.stdout.split()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False, timeout=60)
    shutil.rmtree(NETNS / name, ignore_errors=True)


def _remove_leftovers() -> None:
    """Of test runs that were killed; their processes went with them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False, timeout=60).stdout
    folders = [path.name for path in NETNS.glob(f"{PREFIX}*")]
    for name in {*(line.split()[0] for line in listed.splitlines() if line), *folders}:
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove_namespace(name)
