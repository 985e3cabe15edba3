"""What all nodes of a cluster have in common, and what each of its first nodes is told.

Left out: which processes there are (:mod:`zmqlab.lab.fleet`), and where they run (:mod:`zmqlab.lab.hosts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmqlab.errors import SettingsError
from zmqlab.lab.hosts import METRICS_OFFSET, Place
from zmqlab.replica.replications import REPLICATIONS
from zmqlab.settings import (
    DEFAULT_REPLICATION,
    MAX_SHARDS,
    Durability,
    LogLevel,
    NodeSettings,
    require_alike,
    require_choice,
    require_whole,
)
from zmqlab.wording import counted

KEY_FOLDER = "keys"
"""In the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What all nodes of a cluster have in common. Raises SettingsError from the constructor."""

    cluster: str
    """The cluster's name."""
    run_dir: Path
    """Where logs and journals go."""
    durability: Durability = "os"
    log_level: LogLevel = "info"
    metrics: bool = False
    """Every node shows metrics on the port behind its own three."""
    keys: bool = False
    """The nodes let in only who has a key; the keys are in ``keys`` in the run folder, and are made if need be."""
    replication: str = DEFAULT_REPLICATION
    shards: int = 1
    """How many Raft groups share the symbols."""
    replication_factor: int = 0
    """How many nodes hold each group; 0: all."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Settings beyond these, of :data:`~zmqlab.settings.ALIKE`."""

    def __post_init__(self) -> None:
        require_alike(self.more)
        require_choice("durability", self.durability, Durability)
        require_choice("log_level", self.log_level, LogLevel)
        REPLICATIONS.expect(self.replication)

    @property
    def key_folder(self) -> Path | None:
        """Where the cluster's keys are; None: it has none."""
        return self.run_dir / KEY_FOLDER if self.keys else None

    def settings(self, name: str, place: Place, **more: Any) -> NodeSettings:
        """What a node with this name at ``place`` is told; ``more`` are settings of its own."""
        return NodeSettings(
            name=name,
            port=place.port,
            bind=place.address,
            run_dir=self.run_dir,
            durability=self.durability,
            replication=self.replication,
            shards=self.shards,
            replication_factor=self.replication_factor,
            cluster=self.cluster,
            allow_faults=True,
            log_level=self.log_level,
            metrics_port=place.port + METRICS_OFFSET if self.metrics else 0,
            keys=self.key_folder,
            **{**self.more, **more},
        )

    def founders(self, places: Sequence[Place]) -> list[NodeSettings]:
        """The first nodes, ``node0``, ``node1``, ...; node0 campaigns at once."""
        endpoints = {place: place.endpoint for place in places}
        return [
            self.settings(
                f"node{number}",
                place,
                peers=tuple(endpoint for other, endpoint in endpoints.items() if other != place),
                leader=number == 0,
            )
            for number, place in enumerate(places)
        ]


def check_shards(nodes: int, shards: int, replication_factor: int) -> None:
    """Raise SettingsError unless so many nodes can hold so many groups."""
    require_whole("shards", shards, 1, MAX_SHARDS)
    require_whole("replication_factor", replication_factor, 0, nodes)
    if shards == 1 and replication_factor:
        raise SettingsError(
            f"replication_factor is {replication_factor}, and every node holds the one group: say shards, too"
        )
    if replication_factor and shards * replication_factor < nodes:
        copies = f"{counted(shards, 'shard')}, {counted(replication_factor, 'copy')} each"
        raise SettingsError(f"{copies}, are too few for {nodes} nodes")
