"""What holds for all tests."""

from __future__ import annotations

import signal

import hypothesis


def pytest_configure() -> None:
    """No example has to be quick: on a busy machine any may take long.

    A background job ignores SIGINT, and ``nohup`` SIGHUP; so would each process that a test starts and signals.

    A handler is not inherited: those processes have the signals' default actions.
    """
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
