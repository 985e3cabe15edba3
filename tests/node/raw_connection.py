"""A connection to a node's socket, written byte by byte: what no library of ZeroMQ would send."""

from __future__ import annotations

import contextlib
import socket
import struct

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\x00") + b"\x00" + bytes(31)
EMPTY_PART = b"\x01\x00"
"""One that more parts follow."""


class RawConnection:
    """ZMTP 3 by hand. Sending never waits for long; whether the other side has ended it is asked for."""

    def __init__(self, port: int, kind: bytes = b"DEALER", is_greeted: bool = True) -> None:
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        if is_greeted:
            self._greet(ready)

    def _greet(self, ready: bytes) -> None:
        self._socket.sendall(GREETING)
        self._read(len(GREETING))
        self._socket.sendall(b"\x04" + bytes([len(ready)]) + ready)
        self._read(self._read(2)[1])

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            assert piece, "the other side ended the handshake"
            data += piece
        return data

    def send(self, data: bytes) -> bool:
        """Whether all of it was taken."""
        self._socket.settimeout(0.5)
        with contextlib.suppress(OSError):
            self._socket.sendall(data)
            return True
        return False

    def message(self, *parts: bytes) -> bool:
        """One message of short parts."""
        last = len(parts) - 1
        heads = (b"\x03" if number < last else b"\x02" for number in range(len(parts)))
        return self.send(b"".join(h + struct.pack(">Q", len(p)) + p for h, p in zip(heads, parts, strict=True)))

    def is_ended(self, within_s: float = 10.0) -> bool:
        """Whether the other side ends it; what it says before is read."""
        self._socket.settimeout(within_s)
        try:
            while self._socket.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
