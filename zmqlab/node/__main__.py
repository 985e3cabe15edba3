"""``python -m zmqlab.node``: a node without the command line's libraries, for launchers that want a fast start."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from zmqlab.endpoints import parse_endpoints
from zmqlab.errors import SettingsError
from zmqlab.settings import DEFAULT_REPLICATION, Durability, LogFormat, LogLevel, LogTo, NodeSettings, Reads


def parse_arguments(arguments: list[str]) -> NodeSettings:
    """Settings from flags; see ``zmqlab node --help`` for what each means. Raises SettingsError, or SystemExit 2."""
    parser = argparse.ArgumentParser(prog="python -m zmqlab.node", description="Run one node.")
    parser.add_argument("--node", required=True, dest="name")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--peers", default="")
    parser.add_argument("--join", default="")
    parser.add_argument("--leader", action="store_true")
    parser.add_argument("--leave", action="store_true")
    parser.add_argument("--run-dir", type=Path, default=Path())
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--advertise", default="")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--durability", default="os", choices=get_args(Durability))
    parser.add_argument("--replication", default=DEFAULT_REPLICATION)
    parser.add_argument("--cluster", default="")
    parser.add_argument("--owner", type=int, default=0)
    parser.add_argument("--watch-stdin", action="store_true")
    parser.add_argument("--allow-faults", action="store_true")
    parser.add_argument("--reads", default="linearizable", choices=get_args(Reads))
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--log-level", default="info", choices=get_args(LogLevel))
    parser.add_argument("--log-format", default="text", choices=get_args(LogFormat))
    parser.add_argument("--log-to", default="file", choices=get_args(LogTo))
    defaults = NodeSettings(name="defaults", port=1)
    for name in (
        "tick_ms",
        "election_ticks",
        "heartbeat_ticks",
        "snapshot_log_bytes",
        "journal_retain_bytes",
        "drain_ms",
        "bootstrap_ms",
        "shards",
        "replication_factor",
    ):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=getattr(defaults, name))
    values = vars(parser.parse_args(arguments))
    for name in ("peers", "join"):
        values[name] = parse_endpoints(values[name])
    return NodeSettings(**values)


def main() -> int:
    """Parse, run, return the exit status."""
    try:
        settings = parse_arguments(sys.argv[1:])
    except SettingsError as error:
        print(f"zmqlab node: {error}", file=sys.stderr)
        return error.exit_status
    from zmqlab.node.process import run_node  # only now: a usage error should be quick

    return run_node(settings)


if __name__ == "__main__":
    sys.exit(main())
