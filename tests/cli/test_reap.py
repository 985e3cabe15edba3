"""``reap`` ends orphans without asking, and everything only on demand."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from zmqlab.cli import run
from zmqlab.lab import processes
from zmqlab.lab.processes import LabProcess, ProcessTable

ORPHAN = LabProcess(11, 0.0, "node", "left", "lab-1", 20_000, 99, owner_alive=False)
IN_USE = LabProcess(12, 0.0, "node", "used", "lab-2", 20_010, 1, owner_alive=True)
BY_HAND = LabProcess(13, 0.0, "node", "hand", "", 5_000, 0, owner_alive=False)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pids that would have been ended; nothing real is touched."""
    pids: list[int] = []

    def reap(chosen: Iterable[LabProcess]) -> list[LabProcess]:
        pids.extend(each.pid for each in chosen)
        return list(chosen)

    monkeypatch.setattr(processes, "find", lambda: ProcessTable([ORPHAN, IN_USE, BY_HAND]))
    monkeypatch.setattr(processes, "reap", reap)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return pids


def test_only_orphans_are_ended(ended: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reap"]) == 0
    assert ended == [ORPHAN.pid]
    assert "1 ended; 2 left alone" in capsys.readouterr().out


def test_everything_takes_a_yes(
    ended: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["reap", "--all"]) == 2
    assert ended == []
    assert "add --yes" in capsys.readouterr().err
    assert run(["reap", "--all", "--yes", "--json"]) == 0
    assert ended == [11, 12, 13]
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["left", "used", "hand"]


def test_what_can_not_be_ended_fails(
    ended: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "reap", lambda _: [])
    assert run(["reap"]) == 1


def test_folders_that_crashes_left_are_removed(
    ended: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, kept = tmp_path / "zmqlab-left", tmp_path / "zmqlab-kept"
    for folder, mark in ((left, "temporary"), (kept, "kept")):
        folder.mkdir()
        (folder / "owner").write_text(f"{mark}\n")
    assert run(["reap"]) == 0
    assert f"removed {left}\n" in capsys.readouterr().out
    assert not left.exists()
    assert kept.exists()
