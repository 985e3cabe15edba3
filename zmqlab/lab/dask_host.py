"""Nodes on the workers of a Dask cluster: ``Cluster(host=DaskHost(client))``, and everything else stays the same.

``client`` is a ``distributed.Client`` of whatever runs Dask: processes of this machine, SSH, Kubernetes, Slurm, a
cloud. The nodes are no tasks. They are started out of band in chosen workers, each with a pipe that its worker holds,
and they talk to each other and to this process over ZeroMQ, without Dask. Over the Dask connection go starts, signals,
ends, keys and files (:mod:`zmqlab.lab.worker_nodes`, which also says why nothing is left running).

Rules:

- **Spread.** A new node goes to the machine that has the fewest nodes of the cluster, and there to the worker that has
  the fewest. A *machine* is what fails together: by default all workers of one host, or what a function of the caller
  says, or a resource of the workers. So no machine has two nodes while another one has none.
- **Nothing is repaired.** A worker that dies takes its nodes along, and that is shown as their death. No other worker
  takes over. ``cluster.restart(name)`` starts the node again in any worker *of the same machine* that is alive, such as
  the one by which its nanny has replaced the dead one, because its journal and its address are there.

A process that reaches a Dask scheduler can run anything on its workers. Without TLS (``distributed.security.Security``)
it may read what goes over the connections, keys among it. Nodes beyond loopback need ``Cluster(keys=True)``.

This module imports nothing of Dask. It needs a client, which needs the extra ``zmqlab[dask]``; and so do the workers.

Left out on purpose: moving a node to another machine. That is ``cluster.remove(name)`` and ``cluster.add()``.
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zmqlab.errors import ClusterError, SettingsError
from zmqlab.keys import ALLOWED, SECRET_SUFFIX, Keyring, Role, make_private, towards
from zmqlab.lab.dask_links import DaskNode, DaskPart, Worker, WorkerLink
from zmqlab.lab.hosts import SAME_CLOCK, ClockOffset, Host, LocalHost, Place
from zmqlab.lab.register import stop_all
from zmqlab.lab.worker_nodes import HEAR_S, PIECE_BYTES
from zmqlab.load.load_settings import LoadSettings
from zmqlab.settings import NodeSettings, require, require_number

if TYPE_CHECKING:
    from distributed import Client

LEASE_S = 10.0
"""How long nodes outlive the last word of their owner. Longer than any pause of a healthy process; short enough for a
person who starts again."""
LEASE_MIN_S = 2 * HEAR_S
WITHOUT_NODES = ("inproc",)
"""Schemes of addresses of workers that are threads of this process."""


class DaskHost(Host):
    """Nodes on the workers of a Dask cluster; see the module.

    Args:
        client: of ``distributed``, and not an asynchronous one. It must stay open while the cluster runs.
        workers: names or addresses of the workers that may have nodes; all by default.
        machine: what fails together. By default the worker's host; or a function of a :class:`Worker`; or the name of a
            resource that the workers were started with, as in ``dask worker --resources "rack=2"``.
        interface: the network interface on the workers' machines that nodes listen on, as ``eth1``. By default the
            address by which Dask knows the worker.
        folder: where clusters keep logs and journals on the workers' machines; the temporary files by default.
        lease_s: how long nodes outlive the last word of this process, 4 to 3,600 seconds.

    Raises:
        SettingsError: an argument is none of these; the message names it.
    """

    def __init__(
        self,
        client: Client,
        *,
        workers: Sequence[str] | None = None,
        machine: Callable[[Worker], str] | str = lambda worker: worker.host,
        interface: str = "",
        folder: str = "",
        lease_s: float = LEASE_S,
    ) -> None:
        require(
            hasattr(client, "run") and not getattr(client, "asynchronous", False),
            f"client is {client!r}: give a distributed.Client that is not asynchronous",
        )
        require_number("lease_s", lease_s, LEASE_MIN_S, 3_600)
        self._client: Any = client
        self._chosen = None if workers is None else frozenset(workers)
        self._machine = machine if callable(machine) else _by_resource(machine)
        self._interface = interface
        self._folder = folder
        self._lease_s = lease_s
        self._owner = secrets.token_hex(8)
        self._fetched = LocalHost()
        """Knows where in the run folder here the files of a node are."""
        self._homes: dict[str, Worker] = {}
        """Base endpoint -> the worker that has the node, or had it."""
        self._links: dict[str, WorkerLink] = {}
        """By the address of a worker."""
        self._nodes: dict[str, DaskNode] = {}
        """Base endpoint -> the process that was started last there."""
        self._wiped: set[tuple[str, str]] = set()
        """Cluster and name of nodes that were wiped and not started since. What a machine that had no worker then still
        has of one is no journal of the next node of this name."""
        self._lock = threading.RLock()
        _end_before_dask()

    def __repr__(self) -> str:
        return f"<DaskHost of {len(self.workers())} workers on {len(set(map(self._machine, self.workers())))} machines>"

    def workers(self) -> list[Worker]:
        """The workers that may have nodes, in the order of their names.

        Raises:
            ClusterError: the scheduler does not answer.
            SettingsError: they are threads of this process.
        """
        try:
            known = self._client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:  # of many kinds
            raise ClusterError(f"the Dask scheduler does not answer ({error!r}): is the client open?") from None
        found = [
            Worker(address, str(each["name"]), str(each["host"]), each.get("resources") or {})
            for address, each in known.items()
        ]
        if found and all(urlsplit(each.address).scheme in WITHOUT_NODES for each in found):
            raise SettingsError("the workers are threads of this process: make the Dask cluster with processes=True")
        chosen = self._chosen
        return sorted(
            (each for each in found if chosen is None or {each.address, each.name} & chosen),
            key=lambda each: (len(each.name), each.name),
        )

    # -- the host ----------------------------------------------------------------------------------------------

    def places(self, count: int, others: Collection[NodeSettings] = (), exclude: Collection[int] = ()) -> list[Place]:
        """See :class:`~zmqlab.lab.hosts.Host`, and the module for how nodes are spread."""
        workers = self.workers()
        if not workers:
            raise ClusterError("no Dask worker may have nodes: start one, or choose others with DaskHost(workers=...)")
        homes = [home for each in others if (home := self._home(each, workers)) is not None]
        machines, own = Counter(map(self._machine, homes)), Counter(home.address for home in homes)
        places: list[Place] = []
        for _ in range(count):
            worker = min(workers, key=lambda each: (machines[self._machine(each)], own[each.address]))
            machines[self._machine(worker)] += 1
            own[worker.address] += 1
            taken = {*exclude, *(each.port for each in places), *(each.port for each in others)}
            address, ports = self._link(worker).call("free_ports", worker.host, self._interface, 1, taken)
            places.append(Place(address, ports[0]))
            self._homes[places[-1].endpoint] = worker
        return places

    def start(self, settings: NodeSettings) -> DaskNode:
        """See :class:`~zmqlab.lab.hosts.Host`."""
        link = self._at(settings)
        if (settings.cluster, settings.name) in self._wiped:
            link.call("wipe", settings, self._folder)
            self._wiped.discard((settings.cluster, settings.name))
        pid = link.call("start", settings, self._folder, _keys_of_a_node(settings.keys))
        node = DaskNode(pid, link)
        with self._lock:
            self._homes[settings.endpoint] = link.worker
            self._nodes[settings.endpoint] = node
        link.follow(node)
        return node

    def log_path(self, settings: NodeSettings) -> Path:
        """See :class:`~zmqlab.lab.hosts.Host`. If the worker does not answer it is what was fetched before."""
        with contextlib.suppress(ClusterError):
            self._fetch(settings, "logs/")
        return self._fetched.log_path(settings)

    def fetch(self, settings: NodeSettings) -> None:
        """See :class:`~zmqlab.lab.hosts.Host`. The journal of a node that runs is left where it is."""
        self._fetch(settings, "")

    def wipe(self, settings: NodeSettings) -> None:
        """See :class:`~zmqlab.lab.hosts.Host`. What lies on a machine without a worker stays there, until the next node
        of this name is started there."""
        self._wiped.add((settings.cluster, settings.name))
        self._fetched.wipe(settings)
        with contextlib.suppress(ClusterError):
            self._at(settings).call("wipe", settings, self._folder)

    def machine(self, settings: NodeSettings) -> str:
        """See :class:`~zmqlab.lab.hosts.Host`."""
        home = self._homes.get(settings.endpoint)
        return self._machine(home) if home is not None else settings.host

    def clock(self, settings: NodeSettings) -> ClockOffset:
        """See :class:`~zmqlab.lab.hosts.Host`."""
        home = self._homes.get(settings.endpoint)
        link = self._links.get(home.address) if home is not None else None
        return link.clock.offset() if link is not None else SAME_CLOCK

    def start_load(
        self, settings: LoadSettings, number: int, folder: Path, nodes: Collection[NodeSettings]
    ) -> DaskPart:
        """See :class:`~zmqlab.lab.hosts.Host`."""
        workers = self.workers()
        if not workers:
            raise ClusterError("no Dask worker may have a load generator: start one, or choose others")
        machines = Counter(map(self.machine, nodes))
        order = sorted(workers, key=lambda each: (machines[self._machine(each)], each.name))
        apart = {self._machine(each): each for each in reversed(order)}
        chosen = sorted(order, key=lambda each: apart[self._machine(each)] is not each)[number % len(order)]
        link = self._link(chosen)
        part = DaskPart(f"{folder.parent.name}-{number}", link, folder)
        cluster = next(iter(nodes)).cluster
        link.call("start_load", part.name, settings, self._folder, cluster, towards(settings.nodes[0]))
        link.follow_load(part)
        return part

    def close(self, cluster: str, keep: bool) -> None:
        """See :class:`~zmqlab.lab.hosts.Host`. A worker that does not answer ends its nodes by itself."""
        with contextlib.suppress(ClusterError):
            for address in {each.address for each in self.workers()} & self._links.keys():
                with contextlib.suppress(ClusterError):
                    self._links[address].call("release", self._folder, cluster, keep)

    # -- inside ------------------------------------------------------------------------------------------------

    def _link(self, worker: Worker) -> WorkerLink:
        with self._lock:
            if worker.address not in self._links:
                self._links[worker.address] = WorkerLink(self._client, worker, self._owner, self._lease_s)
            self._links[worker.address].gone = False  # it was just listed: at the address of one that is gone, perhaps
            return self._links[worker.address]

    def _home(self, settings: NodeSettings, workers: Sequence[Worker]) -> Worker | None:
        """The worker of a node; if that is gone, or not known, another one of the same machine: the idlest."""
        home = self._homes.get(settings.endpoint)
        if home in workers:
            return home
        machine = self._machine(home) if home is not None else None
        near = [each for each in workers if each.host in (settings.host, home.host if home is not None else "")]
        used = Counter(each.address for each in self._homes.values())
        same = (each for each in near if machine in (None, self._machine(each)))
        return min(same, key=lambda each: used[each.address], default=None)

    def _at(self, settings: NodeSettings) -> WorkerLink:
        worker = self._home(settings, self.workers())
        if worker is None:
            raise ClusterError(
                f"no Dask worker runs on the machine of {settings.name}, {settings.host}: start one there, or remove"
                " the node and add another one"
            )
        return self._link(worker)

    def _fetch(self, settings: NodeSettings, part: str) -> None:
        link = self._at(settings)
        files: dict[str, int] = link.call("files", self._folder, settings.cluster, settings.name)
        for file in files:
            if file.startswith(part):
                self._fetch_file(link, settings, file, files[file])

    def _fetch_file(self, link: WorkerLink, settings: NodeSettings, file: str, size: int) -> None:
        path = settings.run_dir / file
        make_private(path.parent)
        partial = path.with_name(f"{path.name}.new")
        with partial.open("wb") as target:
            for offset in range(0, size, PIECE_BYTES):
                target.write(link.call("read", self._folder, settings.cluster, file, offset)[: size - offset])
        partial.replace(path)


def _by_resource(name: str) -> Callable[[Worker], str]:
    def machine(worker: Worker) -> str:
        if name not in worker.resources:
            raise SettingsError(
                f"the Dask worker {worker.name} has no resource {name!r}, which is to say what fails together: start"
                f' it with --resources "{name}=1", or choose others with DaskHost(workers=...)'
            )
        return f"{name} {worker.resources[name]:g}"

    return machine


def _keys_of_a_node(folder: Path | None) -> dict[str, str]:
    """What a node needs of the cluster's keys, as files: who may enter, and the secret of the members."""
    if folder is None:
        return {}
    member = Keyring.read(folder).credentials(Role.MEMBER)
    name = Keyring.read(folder).allowed[member.public].name
    return {ALLOWED: (folder / ALLOWED).read_text(), name + SECRET_SUFFIX: member.secret + "\n"}


_ends_before_dask: list[bool] = []


def _end_before_dask() -> None:
    """At the interpreter's exit, clusters end while their Dask client is still open: the newest step is done first."""
    if not _ends_before_dask:
        _ends_before_dask.append(True)
        atexit.register(stop_all)
