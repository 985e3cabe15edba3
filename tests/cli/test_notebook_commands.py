"""The copy of the chapters, and what ``zmqlab lab`` and ``zmqlab demo`` start; the servers themselves come up in
``test_installed.py``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zmqlab.cli import notebook_commands, run
from zmqlab.cli.notebook_commands import FIRST, NEEDED, PANEL, RECORD, copy_chapters, source_folder

LINK = re.compile(r"\]\(([^)#:\s]+)[)#]")
"""A link to a file in a chapter or a page."""


def test_the_copy_has_every_chapter_and_what_it_leads_to(tmp_path: Path) -> None:
    copied = copy_chapters(source_folder(), tmp_path)
    chapters = sorted((tmp_path / "notebooks").rglob("*.ipynb"))
    assert {FIRST, PANEL} <= {path.name for path in chapters}
    assert copied.new >= len(chapters)
    for path in chapters:
        gone = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
        assert gone == [], path.name


def test_what_a_person_has_changed_is_never_overwritten(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    write(source, "1.ipynb", "one"), write(source, "2.ipynb", "two"), write(source, "README.md", "read")
    assert copy_chapters(source, copy).new == 3
    write(copy, "1.ipynb", "mine")
    write(source, "1.ipynb", "one, newer"), write(source, "2.ipynb", "two, newer")
    assert copy_chapters(source, copy) == (1, 1, 1)
    assert read(copy, "1.ipynb") == "mine"
    assert read(copy, "2.ipynb") == "two, newer"
    assert str(copy_chapters(source, copy)) == "1 that you have changed left as they are"
    (copy / RECORD).write_text("no JSON")
    write(source, "2.ipynb", "two, newest")
    assert copy_chapters(source, copy).kept == 2, "without the record nothing is known to be unchanged"
    (copy / "notebooks" / "1.ipynb").unlink()
    assert copy_chapters(source, copy).new == 1, "what was deleted comes back"


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "notebooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(folder: Path, name: str) -> str:
    return (folder / "notebooks" / name).read_text()


def test_a_folder_that_can_not_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_commands, "find_spec", lambda _: True)
    assert run(["lab", "--to", "/proc/chapters"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "can't be copied to /proc/chapters" in said
    assert "Name a folder with --to" in said


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What would be run in place of this process."""
    found: list[tuple[list[str], dict[str, str]]] = []
    execve: Callable[..., None] = lambda _, arguments, environment: found.append((arguments, environment))  # noqa: E731
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(notebook_commands, "find_spec", lambda _: True)
    return found


def test_lab_hands_other_options_to_jupyterlab(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", "--no-browser", "--port", "8900", "--to", str(tmp_path)]) == 0
    ((arguments, environment),) = started
    assert arguments[:3] == [sys.executable, "-m", "jupyterlab"]
    assert arguments[-3:] == ["--no-browser", "--port", "8900"]
    assert f"--ServerApp.root_dir={tmp_path}" in arguments
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert "files new in" in capsys.readouterr().err


def test_demo_keeps_the_token_and_this_machine_alone(started: list[tuple[list[str], dict[str, str]]]) -> None:
    assert run(["demo", "--port=8900"]) == 0
    ((arguments, environment),) = started
    assert arguments[1:3] == ["-m", "voila"]
    assert Path(arguments[3]).is_file()
    assert "--token" in arguments
    assert "--no-browser" not in arguments
    assert not any("ip=" in each.lower() for each in arguments), "Voilà listens on the loopback interface"
    template = Path(environment["JUPYTER_PATH"].split(os.pathsep)[0], "voila", "templates", "offline")
    assert template.is_dir()


def test_demo_attaches_to_nodes_that_run(started: list[tuple[list[str], dict[str, str]]], tmp_path: Path) -> None:
    assert run(["demo", "--nodes", "tcp://10.0.0.1:5002,tcp://10.0.0.2:5002", "--keys", str(tmp_path)]) == 0
    ((arguments, environment),) = started
    assert environment["ZMQLAB_ATTACH"] == "tcp://10.0.0.1:5002,tcp://10.0.0.2:5002"
    assert environment["ZMQLAB_KEYS"] == str(tmp_path)
    assert not any("5002" in each for each in arguments)
    assert run(["demo", "--nodes", "10.0.0.1"]) == 2
    assert len(started) == 1


@pytest.mark.parametrize("command", ["lab", "demo"])
def test_without_the_extra_both_say_how_to_get_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_commands, "find_spec", lambda name: None if name in NEEDED[:1] else True)
    assert run([command]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "is not installed: pip install 'zmqlab[lab]' brings what is missing (jupyterlab)" in said
