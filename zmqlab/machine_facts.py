"""What a run was measured on: cores, processor, memory, system, and the versions of what carries the orders.

A figure without these can't be compared with another. Nothing is measured here, and nothing is kept: each call asks the
system. What takes time to import is imported by the function that needs it; the simulator asks for the cores alone.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

VERSIONS = ("pyzmq", "msgspec", "numpy", "lmdb")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_machine() -> dict[str, Any]:
    """Cores, processor, memory and system."""
    import psutil

    return {
        "cores": cores(),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def these_versions() -> dict[str, str]:
    """Of Python, zmqlab, libzmq, and the libraries that carry the orders."""
    from importlib.metadata import PackageNotFoundError, version

    import zmq

    found = {"python": platform.python_version(), "libzmq": zmq.zmq_version()}
    for name in ("zmqlab", *VERSIONS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
