"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A background job ignores SIGINT, and so would each process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
