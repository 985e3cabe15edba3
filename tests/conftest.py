"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A background job ignores SIGINT, and ``nohup`` SIGHUP; so would each process that a test starts and signals.

    A handler is not inherited: those processes have the signals' default actions.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
