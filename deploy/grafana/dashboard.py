"""Makes Grafana's dashboard: ``python deploy/grafana/dashboard.py > deploy/grafana/dashboards/zmqlab.json``.

The JSON of a dashboard is ten times as long as the decisions behind it, and a diff of it can't be read. The decisions
stand here. A test holds that this script makes exactly the JSON file that is checked in.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SOURCE = {"type": "prometheus", "uid": "zmqlab-prometheus"}
"""The data source of provisioning/datasources/prometheus.yml."""
WIDTH = 24
"""Columns of Grafana's grid."""
HERE = 'cluster=~"$cluster"'
ROLES = {1: ("leader", "green"), 2: ("follower", "blue"), 3: ("candidate", "orange"), 4: ("pre_candidate", "yellow")}
ROLES |= {5: ("learner", "purple"), 6: ("removed", "red")}
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Query = tuple[str, str]
"""An expression and its legend."""


def quantile(share: float, metric: str, by: str = "cluster") -> str:
    """A percentile of a histogram, over all nodes or per label."""
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{HERE}}}[$__rate_interval])))"


def percentiles(metric: str) -> list[Query]:
    """A query for each of :data:`PERCENTILES`."""
    return [(quantile(share, metric), name) for name, share in PERCENTILES.items()]


def rate(metric: str, by: str) -> str:
    """How much a counter grows in a second."""
    return f"sum by ({by}) (rate({metric}{{{HERE}}}[$__rate_interval]))"


def role_number() -> str:
    """The role as a number, which the panel maps to a name."""
    parts = [f'{number} * zmqlab_role{{{HERE},role="{name}"}}' for number, (name, _) in ROLES.items()]
    return "sum by (node) (" + " or ".join(parts) + ")"


def panel(
    title: str, text: str, queries: list[Query], unit: str, *, kind: str = "timeseries", **more: Any
) -> dict[str, Any]:
    """One panel, without its place on the grid."""
    defaults: dict[str, Any] = {"unit": unit, **more}
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never", "spanNulls": False}
    options: dict[str, Any] = {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "none"},
        "state-timeline": {"showValue": "auto", "mergeValues": True, "rowHeight": 0.8},
    }[kind]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(queries)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def yes_no(yes: str, no: str) -> dict[str, Any]:
    """A mapping of 1 to a green text and of 0 to a red one."""
    texts = {"1": {"text": yes, "color": "green"}, "0": {"text": no, "color": "red"}}
    return {"mappings": [{"type": "value", "options": texts}]}


def stats() -> list[dict[str, Any]]:
    """The top row: the state of the cluster now."""
    green_from_zero = {"mode": "absolute", "steps": [{"color": "blue", "value": None}]}
    return [
        panel(
            "Leader",
            "Whether any node knows a leader.",
            [(f"max by (cluster) (zmqlab_leader_known{{{HERE}}})", "{{cluster}}")],
            "none",
            kind="stat",
            **yes_no("known", "none"),
        ),
        panel(
            "Nodes that answer",
            "How many of the nodes that discovery lists answer.",
            [(f'sum by (cluster) (up{{job="zmqlab",{HERE}}})', "{{cluster}}")],
            "none",
            kind="stat",
            thresholds=green_from_zero,
        ),
        panel(
            "Nodes agree",
            "Whether the hash chains of all nodes that stand at one checkpoint are equal, at each spacing.",
            [
                (
                    f"min by (cluster) (max by (cluster, every, group) (node_every:zmqlab_chain_hash:newest{{{HERE}}})"
                    f" == bool min by (cluster, every, group) (node_every:zmqlab_chain_hash:newest{{{HERE}}}))",
                    "{{cluster}}",
                )
            ],
            "none",
            kind="stat",
            **yes_no("yes", "NO"),
        ),
        panel(
            "Response time, p99",
            "Measured by the load clients, from the moment at which an order was due.",
            [(quantile(0.99, "zmqlab_load_response_time_seconds"), "{{cluster}}")],
            "s",
            kind="stat",
            thresholds={
                "mode": "absolute",
                "steps": [{"color": "green", "value": None}, {"color": "red", "value": 0.05}],
            },
        ),
    ]


def load_panels() -> list[dict[str, Any]]:
    """Throughput and times, as users get them."""
    return [
        panel(
            "Throughput",
            "Orders a second: due at the load clients, acknowledged to them, and executed by the fastest node.",
            [
                (rate("zmqlab_load_orders_offered_total", "cluster"), "offered"),
                (rate("zmqlab_load_orders_acknowledged_total", "cluster"), "acknowledged"),
                (
                    f"max by (cluster) (rate(zmqlab_orders_applied_total{{{HERE}}}[$__rate_interval]))",
                    "executed",
                ),
            ],
            "ops",
        ),
        panel(
            "Response time",
            "From an order's due time to its answer. Percentiles of all orders of the interval, never averaged.",
            percentiles("zmqlab_load_response_time_seconds"),
            "s",
        ),
        panel(
            "Service time at the nodes",
            "From a request's receipt at a node to its answer there.",
            percentiles("zmqlab_service_time_seconds"),
            "s",
        ),
        panel(
            "Retries and refusals",
            'Per second: requests sent again, changes to another node, answers "too busy", orders rejected.',
            [
                (rate("zmqlab_load_retries_total", "cluster"), "retries"),
                (rate("zmqlab_load_failovers_total", "cluster"), "failovers"),
                (rate("zmqlab_load_busy_total", "cluster"), "busy"),
                (rate("zmqlab_load_orders_rejected_total", "cluster"), "rejected"),
            ],
            "ops",
        ),
    ]


def raft_panels() -> list[dict[str, Any]]:
    """Roles, terms, elections, lag and members of the group."""
    mapping = {str(number): {"text": name, "color": colour} for number, (name, colour) in ROLES.items()}
    return [
        panel(
            "Role",
            "A gap: the node does not answer.",
            [(role_number(), "{{node}}")],
            "none",
            kind="state-timeline",
            mappings=[{"type": "value", "options": mapping}],
        ),
        panel("Term", "Rises with each election.", [(f"max by (node) (zmqlab_term{{{HERE}}})", "{{node}}")], "none"),
        panel(
            "Elections won",
            "Since each node started.",
            [(f"max by (node) (zmqlab_elections_won_total{{{HERE}}})", "{{node}}")],
            "none",
        ),
        panel(
            "Lag",
            "Entries that a node knows of and has not applied; entries that a member lacks, as the leader knows.",
            [
                (f"max by (node) (zmqlab_lag_entries{{{HERE}}})", "{{node}} itself"),
                (f"max by (member) (zmqlab_member_lag_entries{{{HERE}}})", "{{member}}, says the leader"),
            ],
            "none",
        ),
        panel(
            "Nodes compared",
            "How many nodes stood at one checkpoint, so that their hash chains were compared.",
            [
                (
                    "max by (cluster) "
                    f"(count by (cluster, every, group) (node_every:zmqlab_chain_hash:newest{{{HERE}}}))",
                    "nodes",
                )
            ],
            "none",
        ),
        panel(
            "Members",
            "Members that a node knows, at the node that knows the most.",
            [(f"max by (cluster, kind) (zmqlab_members{{{HERE}}})", "{{kind}}")],
            "none",
        ),
    ]


def node_panels() -> list[dict[str, Any]]:
    """Journal, processor, memory and queues of each node."""
    return [
        panel(
            "Journal, one write",
            "One transaction, which holds all entries of a turn.",
            [
                (quantile(0.5, "zmqlab_journal_write_seconds", "node"), "{{node}} p50"),
                (quantile(0.99, "zmqlab_journal_write_seconds", "node"), "{{node}} p99"),
            ],
            "s",
        ),
        panel(
            "Journal, size",
            "Log entries on disk.",
            [(f"max by (node) (zmqlab_journal_bytes{{{HERE}}})", "{{node}}")],
            "bytes",
        ),
        panel(
            "CPU",
            "1 is a whole core.",
            [(f'sum by (node) (rate(process_cpu_seconds_total{{job="zmqlab",{HERE}}}[$__rate_interval]))', "{{node}}")],
            "percentunit",
        ),
        panel(
            "Memory",
            "Resident memory of the process.",
            [(f'max by (node) (process_resident_memory_bytes{{job="zmqlab",{HERE}}})', "{{node}}")],
            "bytes",
        ),
        panel(
            "Orders taken",
            "Orders a second that clients sent to each node.",
            [(rate("zmqlab_orders_taken_total", "node"), "{{node}}")],
            "ops",
        ),
        panel(
            "Requests that wait",
            "Requests that a node has taken and not answered yet.",
            [(f"max by (node) (zmqlab_pending_requests{{{HERE}}})", "{{node}}")],
            "none",
        ),
        panel(
            "Longest turn",
            "The longest turn of each node's loop in the last 15 s.",
            [(f"max by (node) (zmqlab_turn_max_seconds{{{HERE}}})", "{{node}}")],
            "s",
        ),
        panel(
            "Dropped",
            "Per second: frames without sense, messages that a queue had no room for, connections that were ended.",
            [
                (rate("zmqlab_bad_frames_total", "node"), "{{node}} bad frames"),
                (rate("zmqlab_dropped_messages_total", "node"), "{{node}} dropped"),
                (rate("zmqlab_connections_ended_total", "node"), "{{node}} connections ended"),
            ],
            "ops",
        ),
    ]


def placed(rows: list[tuple[str, list[dict[str, Any]], int, int]]) -> list[dict[str, Any]]:
    """Panels on the grid: (title of the row, panels, columns, height)."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, panels, columns, height in rows:
        if title:
            grid = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            found.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": grid})
            y += 1
        width = WIDTH // columns
        for number, each in enumerate(panels):
            grid = {"x": number % columns * width, "y": y + number // columns * height, "w": width, "h": height}
            found.append({**each, "gridPos": grid})
        y += -(-len(panels) // columns) * height
    return [{"id": number, **each} for number, each in enumerate(found, 1)]


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana's JSON model."""
    cluster = {
        "name": "cluster",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(zmqlab_term, cluster)", "refId": "cluster"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "zmqlab",
        "title": "zmqlab",
        "description": "A cluster of order books, replicated by Raft over ZeroMQ.",
        "tags": ["zmqlab"],
        "timezone": "browser",
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-5m", "to": "now"},
        "templating": {"list": [cluster]},
        "panels": placed(
            [
                ("", stats(), 4, 4),
                ("Load", load_panels(), 2, 8),
                ("Raft", raft_panels(), 3, 7),
                ("Nodes", node_panels(), 4, 7),
            ]
        ),
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")
