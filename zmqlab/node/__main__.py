"""``python -m zmqlab.node``: a node without the command line's libraries, for launchers that want a fast start.

Its flags are those of ``zmqlab node``: one for each field of :class:`~zmqlab.settings.NodeSettings`. Nothing else is
read, neither the environment nor a file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from zmqlab.endpoints import parse_endpoints
from zmqlab.errors import SettingsError
from zmqlab.settings import NodeSettings


def parse_arguments(arguments: list[str]) -> NodeSettings:
    """Settings from flags; see ``zmqlab node --help`` for what each means. Raises SettingsError, or SystemExit 2."""
    parser = argparse.ArgumentParser(prog="python -m zmqlab.node", description="Run one node.")
    kinds = get_type_hints(NodeSettings)
    for each in fields(NodeSettings):
        flag = "--node" if each.name == "name" else f"--{each.name.replace('_', '-')}"
        required = each.default is MISSING and each.default_factory is MISSING
        parser.add_argument(
            flag, dest=each.name, required=required, default=argparse.SUPPRESS, **_how(kinds[each.name])
        )
    return NodeSettings(**vars(parser.parse_args(arguments)))


def _how(kind: Any) -> dict[str, Any]:
    """How a setting of this type is read. What is not given is left to the settings."""
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is tuple:
        return {"type": parse_endpoints}
    return {"type": Path if kind in (Path, Path | None) else kind}


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
