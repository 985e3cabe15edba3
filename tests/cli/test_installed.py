"""A wheel that is built from this tree and installed elsewhere: it carries the chapters, and both servers come up.

The environment is new, and so is the package in it; what the package depends on is this environment's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytest.importorskip("jupyterlab", reason="JupyterLab shows the chapters: pip install 'zmqlab[lab]'")
pytest.importorskip("voila", reason="Voilà shows the panel: pip install 'zmqlab[lab]'")

from tests.jupyter_folders import own_folders
from zmqlab.lab.hosts import free_base_ports

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PARTS = ("zmqlab", "notebooks", "docs", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
"""What a build needs of the repository."""
BUILT = shutil.ignore_patterns("*.so", "__pycache__")
TOKEN = "of-this-test"
START_S = 180


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, without a compiler: another test compiles."""
    tree, built = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("built")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=BUILT)
        else:
            shutil.copy(ROOT / name, tree / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--disable-pip-version-check", "--wheel-dir", str(built), str(tree)]
    done = subprocess.run(command, env={**os.environ, "CC": "false"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = built.glob("zmqlab-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the new environment."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "what_it_depends_on.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "zmqlab"


def surroundings(folder: Path) -> dict[str, str]:
    """Of a new user, who has this environment's JupyterLab and no checkout."""
    own = own_folders(folder, TMPDIR="temporary")
    share = str(Path(sys.prefix, "share", "jupyter"))
    return {**own, "PYTHONPATH": "", "JUPYTER_PATH": share, "JUPYTERLAB_DIR": f"{share}/lab"}


@contextmanager
def server(command: Path, folder: Path, *arguments: str) -> Iterator[str]:
    """The address of a server that such a command becomes; Ctrl-C ends it and all that it started."""
    (port,), log = free_base_ports(1), folder / "server.log"
    with log.open("w") as out:
        line = [str(command), *arguments, "--no-browser", f"--port={port}"]
        process = subprocess.Popen(line, cwd=folder, env=surroundings(folder), stdout=out, stderr=out)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        everything = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([*everything, psutil.Process(process.pid)] if everything else [], timeout=20)
        for each in alive:
            each.kill()
        process.kill()
        process.wait()


def fetched(url: str, log: Path) -> str:
    """What the server answers, as soon as it does."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_S) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-2_000:]
            time.sleep(0.2)


def test_a_wheel_carries_the_chapters_the_pages_and_the_template(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "notebooks"
    there = [path.relative_to(folder) for path in folder.rglob("*.ipynb") if "checkpoint" not in str(path)]
    chapters = {f"zmqlab/chapters/notebooks/{path}" for path in there}
    assert chapters <= names
    assert "zmqlab/chapters/docs/glossary.md" in names
    assert "zmqlab/chapters/notebooks/voila/templates/offline/conf.json" in names
    assert not [name for name in names if "checkpoint" in name or name.endswith(".pyc")]


def test_lab_opens_the_chapters_of_an_installed_package(installed: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with server(installed, tmp_path, "lab", "--allow-root", f"--IdentityProvider.token={TOKEN}") as url:
        listed = json.loads(fetched(f"{url}/api/contents/notebooks?token={TOKEN}", log))
        names = {each["name"] for each in listed["content"]}
        assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} <= names
        assert "jupyter-config-data" in fetched(f"{url}/lab/tree/notebooks/01_start_a_cluster.ipynb?token={TOKEN}", log)
    assert (tmp_path / "zmqlab-chapters" / "docs" / "glossary.md").is_file()


def test_demo_opens_the_panel_of_an_installed_package(installed: Path, tmp_path: Path) -> None:
    """The page is whole when its one cell has run: a cluster and its load are up then."""
    log = tmp_path / "server.log"
    with server(installed, tmp_path, "demo", f"--Voila.token={TOKEN}") as url:
        assert "login" in fetched(url, log).lower(), "without the token there is no panel"
        page = fetched(f"{url}/?token={TOKEN}", log)
        assert "application/vnd.jupyter.widget-view+json" in page
        assert "Traceback" not in page
