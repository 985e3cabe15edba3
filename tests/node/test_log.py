"""A node's log: of bounded size, and never a reason for the node to stop or to wait."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zmqlab.node import process
from zmqlab.settings import NodeSettings


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """The log is one of the whole process."""
    log = process.log
    before = log.handlers, log.propagate, log.level
    yield
    for handler in log.handlers:
        if handler not in before[0]:
            handler.close()
    log.handlers, log.propagate, log.level = before


def open_log(run_dir: Path, log_to: str = "file") -> logging.Logger:
    process._open_log(NodeSettings(name="node0", port=5_000, run_dir=run_dir, log_to=log_to))  # type: ignore[arg-type]
    return process.log


def lines_of(run_dir: Path) -> str:
    return (run_dir / "logs" / "node0.log").read_text()


def test_a_full_log_goes_on_in_a_new_file_and_the_oldest_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_FILE_BYTES", 1_000)
    log = open_log(tmp_path)
    for number in range(200):
        log.info("line %d", number)
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["node0.log", "node0.log.1", "node0.log.2", "node0.log.3"]
    assert max((tmp_path / "logs" / name).stat().st_size for name in files) <= 1_000
    assert lines_of(tmp_path).endswith("line 199\n")


def test_lines_that_the_disk_does_not_take_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = open_log(tmp_path)
    log.info("before")
    (tmp_path / "logs" / "node0.log").unlink()
    (tmp_path / "logs" / "node0.log").symlink_to("/dev/full")
    (handler,) = log.handlers
    handler.stream.close()  # type: ignore[attr-defined]
    handler.stream = None  # type: ignore[attr-defined]
    log.info("lost")
    log.info("lost")
    (tmp_path / "logs" / "node0.log").unlink()
    log.info("after")
    log.info("and on")
    first, second = lines_of(tmp_path).splitlines()
    assert first.endswith("(2 lines before this one are lost) after")
    assert second.endswith("INFO and on")
    assert capfd.readouterr().err == ""


def test_the_reserve_has_no_name_and_takes_room_until_it_is_given_up(tmp_path: Path) -> None:
    (handler,) = open_log(tmp_path).handlers
    assert isinstance(handler, process._LogFile)
    assert handler._reserve is not None
    assert os.fstat(handler._reserve.fileno()).st_blocks * 512 >= process.RESERVE_BYTES
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["node0.log"]
    process._give_up_reserve()
    assert handler._reserve.closed
    process._give_up_reserve()


def test_a_pipe_that_is_not_read_does_not_stop_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(process, "STDERR", writer)
    log = open_log(tmp_path, "stderr")
    for number in range(500):
        log.info("line %d %s", number, "x" * 1_000)
    os.set_blocking(reader, False)
    told = os.read(reader, 1 << 20)
    assert b" line 30 " in told
    assert b" line 499 " not in told
    log.info("read again")
    assert b"lines before this one are lost) read again" in os.read(reader, 1 << 20)
    os.close(reader)
    os.close(writer)


def test_what_can_not_be_written_in_any_way_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(process, "STDERR", full.fileno())
        open_log(tmp_path, "stderr").info("lost \udcff")
