"""Free ports for nodes on this machine.

A node needs three consecutive ports, one more if it shows metrics, and all nodes must know each other's before the
first one starts, so that "bind to port 0 and see" is no way. Candidates are tried by binding them for a moment. They
lie below the range from which the system hands out ports by itself (32768 up on Linux, 49152 up on macOS): above it,
any outgoing connection could take one in between.

Between the probe and the node's own bind another process may still come first. The node then ends with the
exit status of :class:`~zmqlab.errors.PortInUse`, and whoever started it draws other ports
(:meth:`zmqlab.lab.cluster.Cluster.start`).
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from zmqlab.errors import ClusterError
from zmqlab.settings import PORTS_PER_NODE

FIRST_PORT = 20_000
LAST_PORT = 32_000
"""Below every system's ephemeral range, and above what well-known services use."""
METRICS_OFFSET = 3
"""A node that shows metrics does so on the port behind its own three."""
STEP = 10
"""Base ports are round numbers, which are easier to read in a table of nodes."""


def is_free(base: int, host: str = "127.0.0.1") -> bool:
    """Whether all ports of a node with base port ``base`` can be bound now, that of its metrics among them."""
    return all(_can_bind(host, base + offset) for offset in (*range(PORTS_PER_NODE), METRICS_OFFSET))


def free_base_ports(
    count: int, rng: random.Random | None = None, exclude: Collection[int] = (), host: str = "127.0.0.1"
) -> list[int]:
    """``count`` base ports whose triples are free now, drawn at random so that clusters don't collide.

    Raises:
        ClusterError: there are not that many.
    """
    candidates = [base for base in range(FIRST_PORT, LAST_PORT, STEP) if base not in exclude]
    (rng or random.Random()).shuffle(candidates)
    found: list[int] = []
    for base in candidates:
        if len(found) == count:
            break
        if is_free(base, host):
            found.append(base)
    if len(found) < count:
        raise ClusterError(
            f"only {len(found)} of {count} nodes find free ports between {FIRST_PORT} and {LAST_PORT}: "
            "`zmqlab ps` shows what runs, `zmqlab reap` ends what a crash left behind"
        )
    return sorted(found)


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
