"""What holds for all tests."""

from __future__ import annotations

import os
import signal

import hypothesis

from zmqlab.lab.hosts import FIRST_PORT, LAST_PORT, PORTS_VARIABLE


def pytest_configure() -> None:
    """No example has to be quick: on a busy machine any may take long.

    A test that starts nodes by hand draws their ports a second before they are bound. Nodes of another worker's test
    may take them meanwhile, once in some thousand starts. So each worker has ports of its own, for all that it starts.

    A background job ignores SIGINT, and ``nohup`` SIGHUP; so would each process that a test starts and signals.

    A handler is not inherited: those processes have the signals' default actions.
    """
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        size = (LAST_PORT - FIRST_PORT) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        first = FIRST_PORT + size * int(worker.removeprefix("gw"))
        os.environ[PORTS_VARIABLE] = f"{first}-{first + size}"
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
