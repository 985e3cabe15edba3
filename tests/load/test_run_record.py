"""What a load client leaves on disk: the first and the newest requests, each second, and all of it however it ends."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from tests.client.conftest import MakeNodes
from tests.load.test_generator import settings_for
from zmqlab.load import run_record
from zmqlab.load.generator import Generator
from zmqlab.load.load_messages import LoadResult
from zmqlab.load.load_process import LoadProcess
from zmqlab.load.run_record import RECORD, Ledger, RunFailed, RunRecord, read_ledger, read_run


def fill(ledger: Ledger, count: int) -> None:
    for number in range(1, count + 1):
        ledger.append((7, number, number + 1, 10 * number, 10 * number + 5, 3, 1, 2, 0, 0, 0))


def numbers(data: bytes) -> list[int]:
    return [int(number) for number in read_ledger(data)["request_number"]]


def in_folder(folder: Path) -> bytes:
    paths = sorted(folder.glob("ledger-*"), key=lambda path: int(path.name.split("-")[1]))
    return b"".join(path.read_bytes() for path in paths)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 12, 13, 16, 17, 100])
def test_a_ledger_keeps_the_first_and_the_newest_in_memory_and_on_disk(count: int, tmp_path: Path) -> None:
    in_memory, on_disk = Ledger(16), Ledger(16, tmp_path)
    for ledger in (in_memory, on_disk):
        fill(ledger, count)
        ledger.flush()
    on_disk.close()
    kept = numbers(in_memory.to_bytes())
    assert kept == numbers(in_folder(tmp_path))
    assert kept[:8] == list(range(1, min(count, 8) + 1))
    assert len(kept) <= 16
    assert kept == list(range(1, count + 1)) if count <= 16 else kept[-5:] == list(range(count - 4, count + 1))


def test_a_ledger_without_room_counts(tmp_path: Path) -> None:
    ledger = Ledger(3, tmp_path)
    fill(ledger, 10)
    ledger.flush()
    assert (ledger.count, in_folder(tmp_path)) == (10, b"")


def recorded(make_nodes: MakeNodes, folder: Path, **changes: object) -> LoadResult:
    return Generator(settings_for(make_nodes(1), duration_s=2.2, **changes), folder=folder).run()


def test_a_run_that_ended_is_read_as_it_was(make_nodes: MakeNodes, tmp_path: Path) -> None:
    told = recorded(make_nodes, tmp_path, ledger_limit=400)
    read = read_run(tmp_path, "")
    assert isinstance(read, LoadResult)
    assert read.total == told.total
    assert len(read.seconds) >= 2
    assert sum(second.counters.acknowledged for second in read.seconds) == told.total.acknowledged
    assert read.unremembered == told.total.requests - len(numbers(read.ledger)) > 0
    assert read.problem == ""


def test_a_run_that_never_told_its_end_is_pieced_together(make_nodes: MakeNodes, tmp_path: Path) -> None:
    told = recorded(make_nodes, tmp_path)
    story = tmp_path / "story"
    pieces = [run_record._HEAD.size + length for length in lengths(story.read_bytes())]
    story.write_bytes(story.read_bytes()[: sum(pieces[:3]) + 5])  # begun, two seconds, and a cut third
    (tmp_path / "ledger-0").write_bytes((tmp_path / "ledger-0").read_bytes() + b"x" * (RECORD.itemsize - 1))
    read = read_run(tmp_path, "the load process was killed by SIGKILL")
    assert isinstance(read, LoadResult)
    assert read.problem.startswith("the load process was killed by SIGKILL, ")
    assert read.client_ids == told.client_ids
    assert read.total.requests == told.total.requests == len(numbers(read.ledger)), "the ledger knows of the last ones"
    assert read.total.acknowledged == told.total.acknowledged
    assert len(read.seconds) == 2
    assert read.longest_gap_ms > 0


def lengths(story: bytes) -> list[int]:
    found, at = [], 0
    while at < len(story):
        found.append(run_record._HEAD.unpack_from(story, at)[0])
        at += run_record._HEAD.size + found[-1]
    return found


def test_a_damaged_story_is_read_up_to_the_damage(make_nodes: MakeNodes, tmp_path: Path) -> None:
    recorded(make_nodes, tmp_path)
    story = tmp_path / "story"
    data = bytearray(story.read_bytes())
    data[lengths(data)[0] + 50] ^= 1
    story.write_bytes(data)
    read = read_run(tmp_path, "it died")
    assert isinstance(read, LoadResult)
    assert read.seconds == []
    assert read.total.requests > 100


def test_a_folder_in_which_no_run_began_says_so(tmp_path: Path) -> None:
    assert read_run(tmp_path, "") is None
    record = RunRecord(100, tmp_path)
    assert read_run(tmp_path, "") is None
    record.fail(ValueError("no"))
    assert read_run(tmp_path, "") == RunFailed("ValueError", "no")


def fill_disk(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """No file whose name begins so takes anything."""
    written = run_record._write

    def no_room(file: BinaryIO, data: bytes) -> None:
        if Path(file.name).name.startswith(kind):
            raise OSError(28, "No space left on device")
        written(file, data)

    monkeypatch.setattr(run_record, "_write", no_room)


def test_a_full_disk_ends_no_run_and_is_told(
    make_nodes: MakeNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, "ledger")
    told = recorded(make_nodes, tmp_path)
    assert told.total.acknowledged > 3_000
    read = read_run(tmp_path, "")
    assert isinstance(read, LoadResult)
    assert "can't be written" in read.problem
    assert "No space left" in read.problem
    assert read.unremembered == told.total.requests


def test_a_disk_without_room_for_the_story_is_told_as_the_last_words(
    make_nodes: MakeNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record can't say it: the parent was told that the process ended with status 0 and wrote nothing."""
    fill_disk(monkeypatch, "story")
    settings = settings_for(make_nodes(1), duration_s=0.5)
    assert LoadProcess(settings, "tcp://127.0.0.1:9", "tcp://127.0.0.1:9", tmp_path).run() == 0
    said = capsys.readouterr().err
    assert said.startswith("the story of the run can't be written: ")
    assert said.strip().endswith("No space left on device")
