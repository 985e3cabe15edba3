"""The page that explains every setting of a node, made from the settings class: ``python -m zmqlab.node.reference``.

What a setting means stands below its field in :class:`~zmqlab.settings.NodeSettings`, and nowhere else.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from dataclasses import MISSING, fields

from zmqlab import settings
from zmqlab.node.options import PREFIX, SETTINGS

HEAD = """# Every setting of a node

`python -m zmqlab.node.reference` makes this page from `zmqlab/settings.py`; a test holds that it is up to date.

A setting is taken from the first of these places that has it: a flag of `zmqlab node`, the environment, the TOML file
that `--config` (or `ZMQLAB_CONFIG`) names, the default. In the file a setting has the name of its flag, with
underscores in place of dashes, as in `election_ticks = 30`. `peers` and `join` are lists, or one string with commas.

A node that joins (`--join`) needs no name and no port. Its name is then the name of the journal that it finds, or else
the name of the machine; its port is 5000. With `--bind 0.0.0.0` and without `--advertise`, it tells the others the
address from which it reaches the nodes in `--join`.

| flag | environment | default | meaning |
| --- | --- | --- | --- |
"""


def explanations() -> dict[str, str]:
    """Field -> the string below it."""
    tree = ast.parse(inspect.getsource(settings.NodeSettings))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = following.value if isinstance(following, ast.Expr) else None
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                found[statement.target.id] = " ".join(said.value.split()).replace("``", "`")
    return found


def page() -> str:
    """The whole page, as Markdown."""
    said = explanations()
    by_name = {field.name: field for field in fields(settings.NodeSettings)}
    rows = []
    for key, name in SETTINGS.items():
        default = by_name[name].default
        if default is MISSING:
            shown = "the current folder" if name == "run_dir" else "none: must be given"
        else:
            shown = "" if default in ("", ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        flag = "--" + key.replace("_", "-")
        meaning = said[name].replace("|", "\\|")
        rows.append(f"| `{flag}` | `{PREFIX}{key.upper()}` | {shown} | {meaning} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
