"""Nodes that only show metrics, and may show what no real node ever does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from zmqlab.node.exposition import Distribution, Endpoint, Pages, render
from zmqlab.node.prometheus import View, figures
from zmqlab.wire.node_status import Member, NodeStatus

HONEST_CHAIN = "f" * 32


def a_status(role: str = "follower", term: int = 7, leader_id: int = 1, lag: int = 0) -> NodeStatus:
    """Of node 1 of three."""
    members = [Member(node_id=number, name=f"node{number}", host="127.0.0.1", port=1) for number in (1, 3, 5)]
    return NodeStatus(
        name="node1",
        node_id=1,
        pid=1,
        port=5_000,
        cluster="fakes",
        time_ns=time.time_ns(),
        uptime_ms=60_000,
        role=role,
        term=term,
        leader_id=leader_id,
        first_index=1,
        last_index=300,
        commit_index=300,
        applied_index=300 - lag,
        lag=lag,
        members=members,
    )


def a_view(status: NodeStatus, chain: str = HONEST_CHAIN, closing: bool = False) -> View:
    """A node at its first checkpoint."""
    return View(
        status=status,
        service_time=Distribution(),
        journal_write=Distribution(),
        chain={256: (256, chain)},
        turn_s_max=0.001,
        closing=closing,
        made_at_s=time.monotonic(),
    )


class FakeNode:
    """Serves one unchanging view."""

    def __init__(self, role: str = "follower", term: int = 7, chain: str = HONEST_CHAIN) -> None:
        view = a_view(a_status(role, term), chain)
        self._endpoint = Endpoint("127.0.0.1", 0, Pages(lambda: render(figures(view)), str, str), "a fake")
        self.port = self._endpoint.port

    def close(self) -> None:
        """Stop serving."""
        self._endpoint.close()


def fake_targets(folder: Path, cluster: str, ports: list[int]) -> None:
    """A file for discovery, in place at once."""
    path = folder / f"{cluster}.json"
    groups = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"job": "zmqlab", "cluster": cluster, "node": f"node{number}"}}
        for number, port in enumerate(ports)
    ]
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(groups))
    os.replace(aside, path)
