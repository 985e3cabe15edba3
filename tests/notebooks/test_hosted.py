"""What hosts read: Binder's recipe and links, and the workflow for forks. Read as text; nothing is built."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.test_saved import NOTEBOOKS, ROOT, dead_links, prose


def binder_links() -> Any:
    """The script, which stands beside the recipe and in no package."""
    spec = spec_from_file_location("binder_links", ROOT / "binder" / "links.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


links = binder_links()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def versions(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, found.split("."))) for found in re.findall(r"\b3\.\d+\b", text)]


def test_binder_has_a_python_that_is_supported_and_installs_the_lab() -> None:
    (runtime,) = versions((ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8"))
    assert runtime >= OLDEST
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["--editable .[lab]"]
    assert "lab" in PROJECT["optional-dependencies"]


def test_binders_build_fails_if_a_step_of_it_does() -> None:
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "set -eu" in lines


def test_all_links_hold_the_one_setting_of_where_the_repository_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert [str(place) for place in links.others(links.hosting())] == []
    assert len(list(links.places())) >= 2
    assert links.main([]) == 0
    said = capsys.readouterr().out
    is_placeholder = links.hosting().repository == links.PLACEHOLDER
    assert ("no real name is chosen" in said) == is_placeholder
    assert links.main(["--release"]) == is_placeholder


def test_a_link_with_another_name_is_found_and_can_be_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("[a](https://mybinder.org/v2/gh/ann/zmqlab/main?urlpath=x) [b](https://github.com/etcd-io/raft)\n")
    chosen = links.Hosting("bob/zmqlab", "HEAD")
    assert [str(place) for place in links.others(chosen)] == ["README.md:1: ann/zmqlab"]
    links.write(chosen)
    assert "gh/bob/zmqlab/HEAD?urlpath=x" in page.read_text()
    assert "etcd-io/raft" in page.read_text()
    assert links.others(chosen) == []


def test_binders_links_open_notebooks_that_are_there() -> None:
    paths = re.findall(r"urlpath=(lab/tree|voila/render)/(\S+?\.ipynb)", README)
    assert {way for way, _ in paths} == {"lab/tree", "voila/render"}
    assert [path for _, path in paths if not (ROOT / path).is_file()] == []
    assert dead_links(prose(ROOT / "binder" / "README.md"), ROOT / "binder") == []


def test_the_workflow_runs_ci_and_nothing_else_from_the_oldest_python_on() -> None:
    assert re.findall(r"^\s*(?:- )?run: (.*)$", WORKFLOW, re.MULTILINE) == ["bash .ci/run"]
    (matrix,) = re.findall(r"python: \[(.*)\]", WORKFLOW)
    assert min(versions(matrix)) == OLDEST
    assert len(versions(matrix)) >= 2


def test_make_opens_a_notebook_that_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^lab:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    (notebook,) = re.findall(r"notebooks/(\S+\.ipynb)", recipe)
    assert (NOTEBOOKS / notebook).is_file()
