"""The layers hold: a package imports only from those that stand before it in docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "zmqlab"
LAYERS = [
    "errors",
    "wording",
    "endpoints",
    "settings",
    "keys",
    "names",
    "net",
    "handshakes",
    "histogram",
    "machine_facts",
    "raft",
    "market",
    "placement",
    "wire",
    "tables",
    "replica",
    "engine",
    "node",
    "client",
    "load",
    "sim",
    "judge",
    "lab",
    "runs",
    "scenarios",
    "widgets",
    "lesson",
    "course",
    "cli",
]
THIRD_PARTY = {
    "raft": set(),
    "market": {"sortedcontainers"},
    "wire": {"msgspec"},
    "replica": set(),
    "engine": set(),
    "sim": set(),
    "keys": {"zmq"},
    "net": {"zmq", "psutil"},
    "handshakes": {"zmq"},
    "client": {"zmq", "msgspec"},
    "node": {"zmq", "lmdb", "psutil", "msgspec", "prometheus_client"},
}
"""What the layers below the lab may import from outside; those that are not named may import anything."""
OURS_OF_STANDARD = {"raft": {"time", "socket", "threading", "asyncio"}, "market": {"time", "random", "threading"}}
"""Standard modules that a pure layer may not touch."""
PURE_CLIENT = [PACKAGE / "client" / name for name in ("__init__.py", "roster.py", "retries.py", "session.py")]
"""The core that the simulator runs in virtual time."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that this test sees them"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "zmqlab"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_earlier_layers(path: Path) -> None:
    layer = layer_of(path)
    assert layer in LAYERS, f"{layer} has no place among the layers yet: add it here and to docs/architecture.md"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "zmqlab" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{layer} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if layer_of(path) in THIRD_PARTY], ids=str)
def test_a_low_layer_imports_nothing_it_should_not(path: Path) -> None:
    import sys

    layer = layer_of(path)
    for name in imports_of(path):
        root = name.split(".")[0]
        if root in sys.stdlib_module_names:
            assert root not in OURS_OF_STANDARD.get(layer, set()), f"{layer} imports {name}"
        elif root != "zmqlab":
            assert root in THIRD_PARTY[layer], f"{layer} imports {name}"


@pytest.mark.parametrize("path", PURE_CLIENT, ids=lambda path: str(path.name))
def test_the_clients_core_has_no_sockets_and_no_clock(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] not in {"zmq", "time", "socket", "select", "threading", "secrets"}, name
        assert name != "zmqlab.net"
        if name.startswith("zmqlab.client."):
            assert PACKAGE / "client" / f"{name.split('.')[2]}.py" in PURE_CLIENT, name
