"""``lab`` and ``demo``: the chapters in JupyterLab, and the panel alone in a browser, also from an installed package.

The chapters are files of the repository, ``notebooks/`` with the pages of ``docs/`` that they lead to. A build copies
them into the package (``setup.py``). So there is one copy to edit, and an installation has them without a checkout.

``lab`` puts a copy where a person may change it. What that person has changed is never overwritten. A file of the copy
records what each file was like when it came, so that a newer zmqlab can renew those that were left alone.

Both commands become the server that they start (``exec``). So Ctrl-C, signals and the exit status are the server's own,
and nothing of this process is left behind. Options that are none of the command's are handed to the server.

Not here: what a server needs of Jupyter's security. A server listens on the loopback interface and asks for a token, as
Jupyter has it by default.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer

from zmqlab.endpoints import parse_endpoints
from zmqlab.errors import ClusterError, SettingsError
from zmqlab.settings import reason_of
from zmqlab.wording import counted

PACKAGE = Path(__file__).parents[1]
BUILT_IN = PACKAGE / "chapters"
"""Where a build has put them; a checkout has none, and ``notebooks`` and ``docs`` stand beside its package."""
NOTEBOOKS, DOCS = "notebooks", "docs"
FIRST = "01_start_a_cluster.ipynb"
PANEL = "panel.ipynb"
DEFAULT_COPY = Path("zmqlab-chapters")
RECORD = ".zmqlab-chapters.json"
"""In the copy: the digest of each file as it came."""
SOURCE_LINK = re.compile(r"\]\((?:\.\./)+zmqlab/([a-z_/]+\.py)\)")
"""A chapter may lead to a module of the package, which is copied, too."""
NEEDED = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget", "bokeh")
"""What the extra ``lab`` brings."""
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands whose other options are the server's."""

_SAID = (
    *("status", "stream", "error", "execute_request", "execute_reply", "execute_input", "execute_result"),
    *("display_data", "update_display_data", "clear_output", "comm_open", "comm_msg", "comm_close"),
)
CULLING = (
    "--MappingKernelManager.cull_idle_timeout=60",
    "--MappingKernelManager.cull_interval=10",
    *(f"--MappingKernelManager.untracked_message_types={kind}" for kind in _SAID),
)
"""A page that is left ends its kernel, and with it its cluster. If its browser died instead, or if it was left before
it had loaded, Voilà ends the kernel when it is a minute old and no page is connected; it looks every ten seconds. The
panel of a page that is gone goes on talking, and that must not count as being in use."""

TO_OPTION = typer.Option(DEFAULT_COPY, "--to", help="Where your copy of the chapters is, or is made.", metavar="DIR")
ATTACH_OPTION = typer.Option(
    None,
    "--nodes",
    help="Attach to nodes that run already, at these client endpoints (base port + 2), and start none.",
    metavar="ENDPOINTS",
)
ATTACH_KEYS_OPTION = typer.Option(
    None, "--keys", envvar="ZMQLAB_KEYS", help="With --nodes: the folder with the key to show to them.", metavar="DIR"
)
NO_BROWSER = typer.Option(False, "--no-browser", help="Open no browser: print the address alone.")


def lab(
    context: typer.Context,
    to: Path = TO_OPTION,
    no_browser: bool = NO_BROWSER,
) -> None:
    """Open JupyterLab with the chapters, in a copy that is yours: what you change is never overwritten.

    Other options, such as --port 8900, are handed to JupyterLab. Needs the extra: pip install 'zmqlab[lab]'.
    """
    _expect_options(context.args, "lab", "--to DIR says where your copy of the chapters is")
    _require("JupyterLab", NEEDED)
    copied = copy_chapters(source_folder(), to)
    typer.echo(f"{copied} in {to}", err=True)
    arguments = [
        *("-m", "jupyterlab", f"--ServerApp.root_dir={to.absolute()}"),
        f"--LabApp.default_url=/lab/tree/{NOTEBOOKS}/{FIRST}",
        *(["--no-browser"] if no_browser else []),
    ]
    _become(arguments + context.args, {})


def demo(
    context: typer.Context,
    nodes: str | None = ATTACH_OPTION,
    keys: Path | None = ATTACH_KEYS_OPTION,
    no_browser: bool = NO_BROWSER,
) -> None:
    """Open the panel alone in a browser, as a page without code: a cluster, its load, and buttons that break it.

    The page loads nothing from the internet. Who opens it needs the token in the address that is printed. Other
    options, such as --port 8900, are handed to Voilà. Needs the extra: pip install 'zmqlab[lab]'.
    """
    _expect_options(context.args, "demo", "it shows the panel, and no other page")
    _require("Voilà", ("voila", *NEEDED))
    notebooks = source_folder() / NOTEBOOKS
    variables = {"JUPYTER_PATH": os.pathsep.join(_paths(notebooks, "JUPYTER_PATH"))}
    if nodes is not None:
        variables["ZMQLAB_ATTACH"] = ",".join(parse_endpoints(nodes))
    if keys is not None:
        variables["ZMQLAB_KEYS"] = str(keys.absolute())
    arguments = [
        *("-m", "voila", str(notebooks / PANEL), "--template=offline", "--token", *CULLING),
        *(["--no-browser"] if no_browser else []),
    ]
    _become(arguments + context.args, variables)


def _expect_options(rest: Sequence[str], command: str, advice: str) -> None:
    """Raise SettingsError if what is to be handed to a server does not begin with an option."""
    if rest and not rest[0].startswith("-"):
        raise SettingsError(f"{command} takes no {rest[0]!r}: {advice}")


def source_folder() -> Path:
    """The folder with ``notebooks`` and ``docs``, of the package or of the checkout.

    Raises:
        ClusterError: neither has them.
    """
    for folder in (BUILT_IN, PACKAGE.parent):
        if (folder / NOTEBOOKS / FIRST).is_file():
            return folder
    raise ClusterError("this installation has no chapters: install a wheel of zmqlab, or work in a checkout of it")


class Copied(NamedTuple):
    """What became of the files of a copy."""

    new: int
    kept: int
    """Those that a person has changed, and that are not what zmqlab has now."""
    same: int

    def __str__(self) -> str:
        said = [f"{counted(self.new, 'file')} new"] if self.new else []
        said += [f"{self.kept} that you have changed left as they are"] if self.kept else []
        return ", ".join(said) or "all files as they are"


def copy_chapters(source: Path, target: Path) -> Copied:
    """Bring the copy in ``target`` up to date, but for what a person has changed there.

    Raises:
        SettingsError: it can't be written.
    """
    new = kept = same = 0
    try:
        known = _record_in(target)
        record = {}
        for name, file in _files(source):
            wanted = file.read_bytes()
            there = target / name
            found = there.read_bytes() if there.is_file() else None
            record[name] = known.get(name, "")
            if found is not None and found != wanted and _digest(found) != known.get(name):
                kept += 1
                continue
            record[name] = _digest(wanted)
            if found == wanted:
                same += 1
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(wanted)
            new += 1
        (target / RECORD).write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise SettingsError(
            f"the chapters can't be copied to {target}: {reason_of(error)}. Name a folder with --to"
        ) from None
    return Copied(new, kept, same)


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """(name in the copy, file) of all that the copy has."""
    chapters = [path for path in sorted((source / NOTEBOOKS).rglob("*.ipynb")) if "checkpoint" not in str(path)]
    pages = sorted([*(source / NOTEBOOKS).rglob("*.md"), *(source / DOCS).rglob("*.*")])
    for file in [*chapters, *pages]:
        yield str(file.relative_to(source)), file
    modules = {name for file in chapters for name in SOURCE_LINK.findall(file.read_text())}
    for name in sorted(modules):
        yield f"zmqlab/{name}", PACKAGE / name


def _record_in(target: Path) -> Mapping[str, str]:
    try:
        record = json.loads((target / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require(what: str, modules: Sequence[str]) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ClusterError(
            f"{what} is not installed: pip install 'zmqlab[lab]' brings what is missing ({', '.join(missing)})"
        )


def _paths(first: Path, variable: str) -> list[str]:
    return [str(first), *filter(None, [os.environ.get(variable)])]


def _become(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Run Python with these arguments in place of this process. Kernels and nodes run the same Python."""
    path = os.pathsep.join(_paths(Path(sys.executable).parent, "PATH"))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "PATH": path, **variables})
