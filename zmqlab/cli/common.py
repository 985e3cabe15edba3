"""What several commands share: the list of nodes, JSON on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from zmqlab.errors import SettingsError
from zmqlab.settings import parse_endpoints

NODES_HELP = (
    "Where the nodes listen for clients (base port + 2), separated by commas: tcp://localhost:5002,tcp://localhost:5102."
    " A name stands for all its addresses."
)

JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs, instead of tables.")
NODES_OPTION = typer.Option(..., "--nodes", help=NODES_HELP, metavar="ENDPOINTS")


def node_list(text: str) -> tuple[str, ...]:
    """The endpoints of ``--nodes``, of each name all its addresses; at least one. Raises SettingsError."""
    endpoints = parse_endpoints(text)
    if not endpoints:
        raise SettingsError("--nodes names no node: write tcp://HOST:PORT, several of them separated by commas")
    if len(set(endpoints)) < len(endpoints):
        raise SettingsError("--nodes names a node twice")
    from zmqlab.names import known_endpoints

    return known_endpoints(endpoints)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
