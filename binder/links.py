"""The links to this repository, and to its hosted sessions: one setting, and a check of every place that holds it.

``[tool.zmqlab.hosting]`` in ``pyproject.toml`` says where the repository is. As long as it is :data:`PLACEHOLDER`, no
real name was chosen yet, and links that hold it lead nowhere.

    python binder/links.py            say where links stand, and which of them hold the placeholder or another name
    python binder/links.py --write    write the setting into all of them
    python binder/links.py --release  fail while any link holds the placeholder

``make links`` is the first of them. Only the standard library is used, so that it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PLACEHOLDER = "zmqlab/zmqlab"
FILES = (
    *("README.md", "CHANGELOG.md", "pyproject.toml", "Makefile", "binder/README.md", "notebooks/README.md"),
    *("docs/*.md", "notebooks/*.ipynb", "notebooks/labs/*.ipynb", "deploy/**/*", ".github/**/*"),
)
LINK = re.compile(r"(?:mybinder\.org/v2/gh|github\.com|ghcr\.io)/([\w.-]+/zmqlab)\b(?:/(?!blob|tree|raw)([\w.-]+)\?)?")
"""A host, owner and name of the repository, and of a hosted session its branch."""


class Place(NamedTuple):
    """One link."""

    path: Path
    line: int
    repository: str
    branch: str
    """Empty: the link names none."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.repository}"


class Hosting(NamedTuple):
    """The setting."""

    repository: str
    branch: str


def hosting() -> Hosting:
    """What ``pyproject.toml`` says."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return Hosting(**tools["zmqlab"]["hosting"])


def places() -> Iterator[Place]:
    """Every link to the repository."""
    for path in _files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for found in LINK.finditer(line):
                yield Place(path, number, found[1], found[2] or "")


def others(chosen: Hosting) -> list[Place]:
    """The links that do not hold the setting."""
    return [
        place
        for place in places()
        if place.repository != chosen.repository or place.branch not in ("", chosen.branch)
    ]


def write(chosen: Hosting) -> None:
    """Put the setting into every link."""
    for path in {place.path for place in others(chosen)}:
        text = path.read_text(encoding="utf-8")
        path.write_text(LINK.sub(lambda found: _replaced(found, chosen), text), encoding="utf-8")


def _replaced(found: re.Match[str], chosen: Hosting) -> str:
    text = found[0].replace(found[1], chosen.repository)
    return text.replace(f"/{found[2]}?", f"/{chosen.branch}?") if found[2] else text


def _files() -> list[Path]:
    found = {path for pattern in FILES for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.suffix not in (".png", ".gif", ".webp"))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Where links to the repository stand.")
    parser.add_argument("--write", action="store_true", help="write the setting into all of them")
    parser.add_argument("--release", action="store_true", help="fail while any holds the placeholder")
    wanted = parser.parse_args(arguments)
    chosen = hosting()
    if wanted.write:
        write(chosen)
    wrong, is_placeholder = others(chosen), chosen.repository == PLACEHOLDER
    for place in places():
        print(f"{place}{' (a placeholder)' if place.repository == PLACEHOLDER else ''}")
    if wrong:
        print("these differ from the setting in pyproject.toml, run python binder/links.py --write:")
        print("\n".join(map(str, wrong)))
    if is_placeholder:
        print("no real name is chosen: set [tool.zmqlab.hosting] in pyproject.toml, then run the same with --write")
    return 1 if wrong or (wanted.release and is_placeholder) else 0


if __name__ == "__main__":
    sys.exit(main())
