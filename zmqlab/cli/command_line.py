"""All commands together, and what becomes of their errors: one line on standard error, and an exit status."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

import typer

from zmqlab.cli import (
    EXIT_INTERRUPTED,
    course_commands,
    fault_commands,
    load_commands,
    node_commands,
    notebook_commands,
    run_commands,
    sweep_command,
    trace_commands,
)
from zmqlab.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, ZmqlabError
from zmqlab.settings import reason_of

_CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "ClickException"
)
"""The root of typer's own errors, wherever the installed version keeps it."""

app = typer.Typer(
    name="zmqlab",
    help="A lab for distributed systems: a replicated order-matching cluster that you run, load, break and check.",
    epilog="Start here: zmqlab quick",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

OF_OUTPUT = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
"""What a write to a pipe, a file or a terminal fails with."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"zmqlab {version('zmqlab')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and end."
    ),
) -> None:
    pass


for _command in (
    load_commands.quick,
    node_commands.node,
    node_commands.keys,
    load_commands.client,
    sweep_command.sweep,
    node_commands.status,
    node_commands.book,
    trace_commands.trace,
    node_commands.scale,
    node_commands.remove,
    node_commands.ps,
    node_commands.reap,
    run_commands.runs,
    run_commands.report,
    run_commands.compare,
    run_commands.judge,
    fault_commands.run,
    fault_commands.sim,
    fault_commands.torture,
    course_commands.grade,
):
    app.command(_command.__name__)(_command)
for _server in (notebook_commands.lab, notebook_commands.demo):
    app.command(_server.__name__, context_settings=notebook_commands.PASSED_ON)(_server)


def carry_out(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit status."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    prefix = f"zmqlab {command}".rstrip()
    try:
        status = app(args=list(arguments) or ["--help"], standalone_mode=False)
    except typer.Abort:
        print(f"{prefix}: given up", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print(f"{prefix}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ZmqlabError as error:
        print(f"{prefix}: {_one_line(error)}", file=sys.stderr)
        return error.exit_status
    except _CommandLineError as error:
        print(f"{prefix}: {_one_line(error)} ({_that_explains(command)} --help explains)", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"{prefix}: {_what_failed(error)}", file=sys.stderr)
        return EXIT_FAILED
    return status if isinstance(status, int) else EXIT_OK


def _what_failed(error: OSError) -> str:
    """An error without a file's name: the output can't be written (:data:`OF_OUTPUT`), or the system has no more of
    something, as of processes or descriptors."""
    reason = reason_of(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno not in OF_OUTPUT:
        return f"the system refuses what this needs: {reason}"
    _drop_output()
    return f"what it has to say can't be written to standard output: {reason}"


def _drop_output() -> None:
    """Have what is still in the buffer of standard output lost, else the interpreter complains of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # under a test, standard output has no descriptor
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _that_explains(command: str) -> str:
    """What a person asks for help: the command, or all of it if there is no such command."""
    known = {each.name for each in app.registered_commands}
    return f"zmqlab {command}" if command in known else "zmqlab"


_PLAIN_WORDS = (
    (r"Input should be a valid integer\b.*", "it must be a whole number"),
    (r"Input should be a valid number\b.*", "it must be a number"),
    (r"Input should be greater than or equal to (\S+)", r"it must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"it must be at most \1"),
)
"""What typer's validation says, for people. What is not listed stays as it is."""


def _one_line(error: Exception) -> str:
    text = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split())
    for said, plain in _PLAIN_WORDS:
        text = re.sub(said, plain, text)
    return text


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that takes any text in any locale; one that the shell has closed (``>&-``) loses it."""
    if stream is None:
        return open(os.devnull, "w")  # until the process ends
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _flushed() -> int:
    """Write what is still in the buffer of standard output: a full disk may show only here."""
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"zmqlab: {_what_failed(error)}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def carry_out_and_flush(arguments: Sequence[str]) -> int:
    """:func:`carry_out` for a process that ends with it: its streams take any text, and nothing stays in them."""
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _usable(sys.stderr)
    return carry_out(arguments) or _flushed()
