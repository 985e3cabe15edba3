"""What a benchmark runs on, in one line: a figure without it can't be compared with another. Also the CPU time that
processes have taken, processes that want all of it, and how a benchmark ends that is told to.

A Python that was built without profile-guided optimisation (PGO) costs 10 % more CPU, so the line says how this one was
built, as far as ``sysconfig`` knows. Debian's Python has PGO, and its ``sysconfig`` does not say so.

    python benchmarks/machine.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

import psutil

from zmqlab.machine_facts import these_versions, this_machine

_SAID_IN = ("CONFIG_ARGS", "PY_CFLAGS", "PY_CFLAGS_NODIST", "PY_CORE_LDFLAGS")
"""Where a build leaves traces of its optimisations. PGO_PROF_USE_FLAG is set in every build, and says nothing."""


def optimisations() -> str:
    """``PGO``, ``LTO``, both with a plus sign, or ``none``: by which of them this Python was built, by its own word."""
    said = " ".join(str(sysconfig.get_config_var(name)) for name in _SAID_IN)
    traces = {"PGO": ("--enable-optimizations", "-fprofile-use"), "LTO": ("--with-lto", "-flto")}
    return " + ".join(name for name, marks in traces.items() if any(mark in said for mark in marks)) or "none"


def unwind_at_sigterm() -> None:
    """Have SIGTERM, and the end of the terminal, end this program as Ctrl-C does: what it has started ends, and the
    folders that it has made are removed. By itself Python would end at once, and leave the folders."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one of them
            signal.signal(number, lambda *_: sys.exit(1))


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of all these processes together since they began, user and system."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


@contextlib.contextmanager
def burning(count: int) -> Iterator[None]:
    """Other processes that want a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def facts() -> dict[str, Any]:
    """All of it, for JSON."""
    machine, versions = this_machine(), these_versions()
    return {
        "python": versions["python"],
        "optimisations": optimisations(),
        **{name: machine[name] for name in ("cores", "processor", "system")},
        **{name: versions[name] for name in ("pyzmq", "libzmq")},
        "load_average": round(os.getloadavg()[0], 1),
    }


def line() -> str:
    """One line for people."""
    known = facts()
    return (
        f"Python {known['python']} (optimisations of its build: {known['optimisations']}), pyzmq {known['pyzmq']},"
        f" libzmq {known['libzmq']}, {known['cores']} cores of {known['processor']}, load average"
        f" {known['load_average']} before the run"
    )


if __name__ == "__main__":
    print(line())
