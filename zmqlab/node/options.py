"""A node's settings from where a person puts them: flags, environment, a file, defaults. The first that says wins.

===========  ==========================  =============================================
from         as in                       for
===========  ==========================  =============================================
a flag       ``--election-ticks 30``     one start
environment  ``ZMQLAB_ELECTION_TICKS``   containers and supervisors
a file       ``election_ticks = 30``     a node's own ``node.toml``, named by ``--config``
a default    of the settings class
===========  ==========================  =============================================

Names are those of :class:`~zmqlab.settings.NodeSettings`, but that its ``name`` is ``node`` to people. Lists of
endpoints are one string with commas, or a list in TOML. What is not known is an error that names what is, in a file; in
the environment it belongs to another program.

A node that joins finds the rest by itself. Its name is that of the journal that is there, so that a container that was
made anew around its old volume is the same member; else the machine's name. Its port is 5000. If a node listens on all
addresses, it tells the others the one from which it reaches those that it joins, or founds a cluster with. Its own
endpoint may be among those, so that one file with all machines is the same on each.

Only ``zmqlab node`` reads the environment. A launcher starts ``python -m zmqlab.node``, with flags alone, so that what
it asks for is what it gets.

``python -m zmqlab.node.options`` writes the page that explains every setting. What a setting means stands below its
field in :class:`~zmqlab.settings.NodeSettings`, and nowhere else.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import socket
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from zmqlab.endpoints import is_loopback, parse_endpoint, parse_endpoints, spelled
from zmqlab.errors import SettingsError
from zmqlab.names import LOOK_UP_S, look_up
from zmqlab.settings import NodeSettings, is_node_name, journals_in, reason_of

PREFIX = "ZMQLAB_"
CONFIG_VARIABLE = "ZMQLAB_CONFIG"
DEFAULT_PORT = 5_000
"""Of a node that joins, in a container or on a machine of its own."""
LAUNCHERS_ONLY = ("owner", "watch_stdin")
WILDCARDS = ("0.0.0.0", "*", "::", "[::]")

KINDS: dict[str, str] = {field.name: str(field.type) for field in fields(NodeSettings)}
"""Setting -> its type, as written."""
SETTINGS: dict[str, str] = {("node" if name == "name" else name): name for name in KINDS if name not in LAUNCHERS_ONLY}
"""What people write, with underscores -> the setting's name in the class."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


def node_settings(flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None = None) -> NodeSettings:
    """The settings that these add up to.

    Args:
        flags: by the class' names; those that were not given are None or missing.
        environ: variables, as of the process.
        config: a TOML file; else the one that ``ZMQLAB_CONFIG`` names, if it does.

    Raises:
        SettingsError: a value does not fit, the file can't be read, or the name or the port is missing.
    """
    file = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    values = _from_file(file) if file else {}
    values |= _from_environment(environ)
    values |= {name: value for name, value in flags.items() if value is not None}
    return NodeSettings(**_found_by_itself(values))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"the settings in {path} can't be read: {reason_of(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    unknown = sorted(set(table) - set(SETTINGS))
    if unknown:
        raise SettingsError(f"{path}: no setting is called {unknown[0]!r}; there are {', '.join(SETTINGS)}")
    return {SETTINGS[key]: _convert(value, SETTINGS[key], f"{key} in {path}") for key, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    variables = {PREFIX + key.upper(): name for key, name in SETTINGS.items()}
    return {
        name: _convert(environ[variable], name, variable) for variable, name in variables.items() if variable in environ
    }


def _convert(value: Any, name: str, where: str) -> Any:
    """``value``, text or of a TOML type, as the setting's type."""
    kind = KINDS[name]
    if kind == "bool":
        return _to_bool(value, where)
    if kind == "int":
        if isinstance(value, str) and re.fullmatch(r"-?\d[\d_]*", value.strip()):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise SettingsError(f"{where} is {value!r}: it must be a whole number")
    if kind.startswith("tuple"):
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) for part in parts):
            raise SettingsError(f"{where} is {value!r}: it must be endpoints, as in tcp://localhost:5000")
        return parse_endpoints(",".join(parts))
    if not isinstance(value, str):
        raise SettingsError(f"{where} is {value!r}: it must be text")
    return Path(value) if kind.startswith("Path") else value


def _to_bool(value: Any, where: str) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise SettingsError(f"{where} is {value!r}: it must be true or false")


def _found_by_itself(values: dict[str, Any]) -> dict[str, Any]:
    """A name, a port and an address where none was given and one can be found."""
    if values.get("join"):
        if "name" not in values:
            values["name"] = _own_name(values.get("run_dir", Path()))
        values.setdefault("port", DEFAULT_PORT)
    for name, flag in (("name", "--node"), ("port", "--port")):
        if name not in values:
            raise SettingsError(f"Missing option '{flag}'; only a node that joins (--join) finds it by itself")
    for named in ("join", "peers"):
        if not values.get(named):
            continue
        if values.get("bind") in WILDCARDS and not values.get("advertise"):
            values["advertise"] = _own_address(values[named])
        itself = f"tcp://{spelled(values.get('advertise') or values.get('bind') or '')}:{values['port']}"
        others = tuple(endpoint for endpoint in values[named] if endpoint != itself)
        values[named] = others or values[named]
    return values


def _own_name(run_dir: Path) -> str:
    """The name of the one journal that is there, else the machine's."""
    place = journals_in(run_dir)
    journals = [folder.name for folder in sorted(place.glob("*/")) if is_node_name(folder.name)]
    if len(journals) > 1:
        raise SettingsError(f"{place} has journals of {', '.join(journals)}: say which with --node")
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return journals[0] if journals else host[:32].strip("-._")


def _own_address(join: tuple[str, ...]) -> str:
    """The address from which this machine reaches those it joins, else the one that its own name stands for."""
    hosts = [parse_endpoint(endpoint)[0] for endpoint in join]
    for addresses in look_up(hosts, LOOK_UP_S).values():
        for address in addresses:
            if (own := _source_towards(address)) and not is_loopback(own):
                return own
    host = socket.gethostname()
    return next((address for address in look_up([host], LOOK_UP_S)[host] if not is_loopback(address)), host)


def _source_towards(address: str) -> str:
    """The address that packets to ``address`` would come from; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address.strip("[]"), DEFAULT_PORT))
            return spelled(str(probe.getsockname()[0]).partition("%")[0])
    except OSError:
        return ""


# The page of all settings.

PAGE_HEAD = """# Every setting of a node

`python -m zmqlab.node.options` makes this page from `zmqlab/settings.py`; a test holds that it is up to date.

A setting is taken from the first of these places that has it: a flag of `zmqlab node`, the environment, the TOML file
that `--config` (or `ZMQLAB_CONFIG`) names, the default. In the file a setting has the name of its flag, with
underscores in place of dashes, as in `election_ticks = 30`. `peers` and `join` are lists, or one string with commas.

A node that joins (`--join`) needs no name and no port. Its name is then the name of the journal that it finds, or else
the name of the machine; its port is 5000. With `--bind 0.0.0.0` and without `--advertise`, a node tells the others the
address from which it reaches the nodes in `--join` or `--peers`. It may be one of these itself, so that one file fits
all machines.

| flag | environment | default | meaning |
| --- | --- | --- | --- |
"""


def explanations() -> dict[str, str]:
    """Field -> the string below it."""
    tree = ast.parse(inspect.getsource(NodeSettings))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = following.value if isinstance(following, ast.Expr) else None
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                found[statement.target.id] = " ".join(said.value.split()).replace("``", "`")
    return found


def settings_page() -> str:
    """The whole page, as Markdown."""
    said = explanations()
    by_name = {field.name: field for field in fields(NodeSettings)}
    rows = []
    for key, name in SETTINGS.items():
        default = by_name[name].default
        if default is MISSING:
            shown = "the current folder" if name == "run_dir" else "none: must be given"
        else:
            word = str(default).lower() if isinstance(default, bool) else default
            shown = "" if default in ("", (), None) else f"`{word}`"
        flag = "--" + key.replace("_", "-")
        meaning = said[name].replace("|", "\\|")
        rows.append(f"| `{flag}` | `{PREFIX}{key.upper()}` | {shown} | {meaning} |")
    return PAGE_HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
