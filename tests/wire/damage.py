"""Damaged frames, for parsers that must raise FrameError at each of them and no other exception."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from zmqlab.errors import FrameError
from zmqlab.wire import frames

HEADERS = st.builds(frames.header, st.integers(0, 0x24), st.integers(0, 1))


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` with up to three bytes changed, a piece cut out, or some bytes appended."""
    frame = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    start = draw(st.integers(0, len(frame)))
    del frame[start : draw(st.one_of(st.just(start), st.integers(start, len(frame))))]
    return bytes(frame) + draw(st.one_of(st.just(b""), st.binary(max_size=50)))


def damaged(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, any bytes after a good header, and each of ``valid`` damaged."""
    noise = st.binary(max_size=200)
    behind_header = st.builds(bytes.__add__, HEADERS, noise)
    own_headers = st.builds(bytes.__add__, st.sampled_from([frame[: frames.HEADER_BYTES] for frame in valid]), noise)
    return st.one_of(noise, behind_header, own_headers, *(mutated(frame) for frame in valid))


def refuses_or_accepts(parse: Callable[[bytes], object], frame: bytes) -> None:
    """Parse ``frame``. An exception other than FrameError goes through and fails the test."""
    try:
        parse(frame)
    except FrameError as error:
        assert str(error)  # noqa: PT017  # whoever reads the log must learn why
