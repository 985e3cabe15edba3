"""The tables of codes and fields in the documents, made from the source.

A table stands between two comments, of which the first names its class::

    <!-- codes of Reason -->
    | code | name | meaning |
    ...
    <!-- end -->

The meaning of a member, or of a field, is the string below it in the source. ``python -m tests.wire.code_tables``
writes all tables anew; ``tests/wire/test_docs.py`` holds that they are up to date, and that no meaning is missing.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import msgspec

from zmqlab.market.types import CommandKind, OrderType, Reason, Side, Status, TimeInForce
from zmqlab.raft.messages import EntryKind
from zmqlab.wire.client import ResponseStatus
from zmqlab.wire.control import ErrorCode, Event, EventKind, TradeEvent
from zmqlab.wire.node_status import GroupBrief, Member, NodeStatus
from zmqlab.wire.traces import Direction, Trace, TraceKind, TraceRecord

FOLDER = Path(__file__).parents[2] / "docs"
CODES: tuple[type[Enum], ...] = (
    CommandKind, Side, OrderType, TimeInForce, Status, Reason, ResponseStatus, ErrorCode, EventKind, EntryKind,
    TraceKind,
)  # fmt: skip
STRUCTS = (NodeStatus, Member, GroupBrief, TradeEvent, Event, Trace, TraceRecord)
BLOCK = re.compile(r"(<!-- (?:codes|fields) of (\w+) -->\n).*?(<!-- end -->)", re.S)


def meanings(described: type) -> dict[str, str]:
    """Member or field -> the string below it, as Markdown; empty if there is none."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(described)).body if isinstance(node, ast.ClassDef))
    found = {}
    for statement, following in itertools.pairwise([*body, ast.Pass()]):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name):
            said = following.value if isinstance(following, ast.Expr) else None
            text = said.value if isinstance(said, ast.Constant) else ""
            found[target.id] = _markdown(str(text))
    return found


def _markdown(docstring: str) -> str:
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", " ".join(docstring.split()))
    return text.replace("``", "`").replace("|", "\\|")


def table_of(name: str) -> str:
    """The whole table of the class with this name."""
    codes = {each.__name__: each for each in CODES}
    if name in codes:
        rows = _rows_of_codes(codes[name])
    else:
        (struct,) = (each for each in STRUCTS if each.__name__ == name)
        rows = _rows_of_fields(struct)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows_of_codes(codes: type[Enum]) -> Iterator[tuple[str, ...]]:
    said = meanings(codes)
    if isinstance(next(iter(codes)).value, str):
        yield from [("code", "meaning"), ("---", "---")]
        yield from ((f"`{code.value}`", said[code.name]) for code in codes)
    else:
        yield from [("code", "name", "meaning"), ("---", "---", "---")]
        yield from ((str(code.value), code.name, said[code.name]) for code in codes)


def _rows_of_fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    said = meanings(struct)
    yield from [("field", "type", "meaning"), ("---", "---", "---")]
    for field in msgspec.structs.fields(struct):
        yield f"`{field.name}`", _type_name(field.type), said[field.name]


def _type_name(annotation: object) -> str:
    """What it is in msgpack."""
    names: dict[object, str] = {
        int: "int",
        float: "float",
        str: "str",
        bool: "bool",
        TraceKind: "int",
        Direction: "int",
        dict[str, int]: "map of str to int",
        list[TraceRecord]: "array of arrays",
    }
    return names.get(annotation, "array of maps")


def with_tables(page: str) -> str:
    """``page`` with every table as it should be."""
    return BLOCK.sub(lambda block: block[1] + table_of(block[2]) + block[3], page)


def pages() -> list[Path]:
    """All documents."""
    return sorted(FOLDER.glob("*.md"))


if __name__ == "__main__":
    for path in pages():
        path.write_text(with_tables(path.read_text()))
