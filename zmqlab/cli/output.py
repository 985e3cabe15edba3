"""What commands print: JSON for programs, reports for people; and the options that several commands share.

A report fits the terminal and has its colours there. In a pipe or a file each figure is one line
(:mod:`~zmqlab.cli.final_report`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from zmqlab.cli.styled_lines import STYLES, Line, plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleDimensions
    from rich.text import Text

    from zmqlab.cli.final_report import Block

KEYED_OPTION = typer.Option(
    False,
    "--keys/--insecure",
    help="Encrypt all traffic and keep other processes of this machine out, with keys made for this run; or don't.",
)
JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs, instead of tables.")
PLAIN_OPTION = typer.Option(
    False, "--plain", help="Print a line a second also in a terminal, instead of taking its whole screen."
)

FAIL_IF_OPTION = typer.Option(
    [],
    "--fail-if",
    help="A threshold on the figures, as in p99>10ms, unserved>0.1% or throughput<20k; crossed: exit status 10. Can be "
    "given several times.",
    metavar="THRESHOLD",
    show_default=False,
)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def progress_stream(as_json: bool) -> TextIO:
    """Where a command shows how it goes: beside the JSON document, if one is to come."""
    return sys.stderr if as_json else sys.stdout


def print_report(blocks: Iterable[Block]) -> None:
    """A report on standard output."""
    show_blocks(blocks, sys.stdout)


def show_blocks(blocks: Iterable[Block], stream: TextIO) -> None:
    """A report on any stream."""
    from zmqlab.cli.final_report import lines_of

    show_lines(lines_of(blocks, width_of(stream)), stream)


def table_width() -> int | None:
    """How wide a table on standard output may be; None: as wide as it likes."""
    return width_of(sys.stdout)


def width_of(stream: TextIO) -> int | None:
    """How wide a terminal is, in characters; None: it is none, and lines may be as long as they like."""
    return size_of(stream).width if stream.isatty() else None


def size_of(stream: TextIO) -> ConsoleDimensions:
    """Columns and lines of a terminal now. One that does not know its size, as over some serial lines, has 80 by 24."""
    from rich.console import ConsoleDimensions

    try:
        width, height = os.get_terminal_size(stream.fileno())
    except OSError:
        width = height = 0
    return ConsoleDimensions(width or 80, height or 24)


def show_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Print lines as they are: with colours in a terminal, as plain text anywhere else."""
    if not stream.isatty():
        stream.writelines(f"{plain(line).rstrip()}\n" for line in lines)
        return
    console = console_on(stream)
    for line in lines:
        console.print(rich_text([line]), soft_wrap=True)


def console_on(stream: TextIO) -> Console:
    """A console that takes texts as they are. Without colours if the person wants none (``NO_COLOR``)."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def rich_text(lines: Sequence[Line]) -> Text:
    """The lines with their styles, without a line end behind the last one."""
    from rich.text import Text

    parts: list[Any] = []
    for number, line in enumerate(lines):
        parts += ["\n"] if number else []
        parts += [(span.text, STYLES[span.style]) for span in line]
    return Text.assemble(*parts, no_wrap=True, overflow="crop")
