"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

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


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests, and the processes that they start, make among the temporary files stands in pytest's own folder. It
    goes when all tests have passed.

    A run folder in which something went wrong is kept for a person to read, and a killed process leaves what it had
    made. Tests do both on purpose.
    """
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)
