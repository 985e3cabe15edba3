"""docs/many-machines.md, command by command: a laptop and ten machines, each a network namespace with its own cable.

The blocks marked ``sh`` and ``python`` are one script, in the order of the page, which runs on the laptop as it stands.
Three programs stand in for what is not here. ``ssh`` runs its command on the machine of that address, in the folder
that is its home there; ``scp`` copies into that folder; ``python`` is the interpreter of this test.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.network import ROOT, Machine, Network, environment, needs_namespaces

PAGE = ROOT / "docs" / "many-machines.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MACHINES = 10

SSH = """#!/bin/sh
[ "$1" = -n ] && shift
read -r namespace name home < {known}/"$1" || {{ echo "ssh: no route to host $1" >&2; exit 255; }}
shift
exec env -i HOME="$home" PATH="$PATH" PYTHONPATH="$PYTHONPATH" LANG=C.UTF-8 \\
    ip netns exec "$namespace" unshare --uts sh -c 'hostname "$0"; cd && exec sh -c "$1"' "$name" "$*" < /dev/null
"""
SCP = """#!/bin/sh
set -e
[ "$1" = -pq ] && shift
for last; do :; done
read -r namespace name home < {known}/"${{last%%:*}}"
while [ $# -gt 1 ]; do cp -p "$1" "$home/${{last#*:}}/"; shift; done
"""


def script() -> str:
    """The page's commands as one shell script that ends with the first failure."""
    blocks = BLOCK.findall(PAGE.read_text())
    parts = [text if kind == "sh" else f"python - <<'PYTHON'\n{text}PYTHON\n" for kind, text in blocks]
    return "set -e\n" + "".join(parts)


def test_the_page_has_commands_and_they_parse() -> None:
    kinds = [kind for kind, _ in BLOCK.findall(PAGE.read_text())]
    assert kinds.count("python") == 1
    assert kinds.count("sh") >= 8
    subprocess.run(["bash", "-n"], input=script(), text=True, check=True, timeout=10)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Machine]:
    """A machine that reaches ten others. What it starts there ends with it."""
    network = Network("10.0.0")
    known, programs = tmp_path / "known", tmp_path / "programs"
    known.mkdir()
    programs.mkdir()
    texts = {"ssh": SSH, "scp": SCP, "python": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'}
    for name, text in texts.items():
        (programs / name).write_text(text.format(known=known))
        (programs / name).chmod(0o755)
    try:
        for number in range(1, MACHINES + 1):
            address, home = f"10.0.0.{number}", tmp_path / f"home{number}"
            machine = network.add(Machine, f"machine{number}", address)
            home.mkdir()
            (known / address).write_text(f"{machine.namespace} {machine.name} {home}\n")
        yield network.add(Machine, "laptop", "10.0.0.100")
    finally:
        network.close()


@pytest.mark.long
@pytest.mark.process
@pytest.mark.timeout(900)
@needs_namespaces
def test_every_command_of_the_page_does_what_it_says(laptop: Machine, tmp_path: Path) -> None:
    (tmp_path / "page.sh").write_text(script())
    (tmp_path / "laptop").mkdir()
    variables = environment(TMPDIR=str(tmp_path), HOME=str(tmp_path / "laptop"))
    variables["PATH"] = f"{tmp_path / 'programs'}:{variables['PATH']}"
    out = tmp_path / "out"
    with out.open("wb") as said:
        laptop.run(
            ["bash", "-x", str(tmp_path / "page.sh")], variables, stdout=said, stderr=said, cwd=tmp_path / "laptop"
        )
        status = laptop.wait(800)
    text = out.read_text()
    assert status == 0, text[-4000:]
    assert len(re.findall(r"verdict.*PASSED|PASSED", text)) >= 4, text[-4000:]
    assert "machine10 at 10.0.0.10:5000 is out of the group" in text
