"""A terminal of a given size in this process: what is written to it, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
from typing import TextIO

import pyte


class Terminal:
    """A pseudo terminal whose output pyte draws. Use it as a context manager."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self._master, self.slave = pty.openpty()
        self.stream: TextIO = os.fdopen(os.dup(self.slave), "w", encoding="utf-8")
        """What a program writes to."""
        self._screen = pyte.Screen(width, height)
        self._drawn = pyte.ByteStream(self._screen)
        self._raw = bytearray()
        self._lock = threading.Lock()
        self.resize(width, height)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.stream.closed:
            self.stream.close()
        os.close(self.slave)
        self._thread.join(30)
        os.close(self._master)

    def resize(self, width: int, height: int) -> None:
        """As when a person pulls at the window's corner."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        with self._lock:
            self._screen.resize(height, width)

    @property
    def lines(self) -> list[str]:
        """What a person sees, without the blanks at the right."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def raw(self) -> str:
        """All that was written."""
        with self._lock:
            return self._raw.decode()

    @property
    def is_as_it_was(self) -> bool:
        """Whether the program has given the screen and the cursor back, as often as it took them."""
        written = self.raw
        pairs = (("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h"))
        return all(written.count(taken) == written.count(given) for taken, given in pairs) and all(
            written.rfind(taken) <= written.rfind(given) for taken, given in pairs
        )

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                self._raw += data
                self._drawn.feed(data)
