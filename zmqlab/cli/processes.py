"""``ps`` and ``reap``: what runs on this machine, and ending what a crash left behind."""

from __future__ import annotations

import sys

import typer

from zmqlab.cli.common import JSON_OPTION, print_json
from zmqlab.errors import EXIT_FAILED, EXIT_OK, SettingsError


def ps(as_json: bool = JSON_OPTION) -> int:
    """List the nodes and load clients that run on this machine: which cluster, which ports, whose."""
    from zmqlab.lab import processes

    table = processes.ps()
    if as_json:
        print_json([each.as_dict() for each in table])
    else:
        typer.echo(repr(table))
    return EXIT_OK


def reap(
    everything: bool = typer.Option(
        False, "--all", help="Also end what is in use or was started by hand: every node and load client of yours."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="With --all: don't ask."),
    as_json: bool = JSON_OPTION,
) -> int:
    """End nodes and load clients whose launcher is gone: what a crash left behind.

    Processes that are in use and nodes that you started by hand are left alone, unless you say --all.
    """
    from zmqlab.lab import processes

    found = processes.find()
    chosen = list(found) if everything else [each for each in found if each.orphan]
    if everything and chosen and not yes:
        _confirm(len(chosen))
    ended = processes.reap(chosen)
    if as_json:
        print_json([each.as_dict() for each in ended])
    else:
        for each in ended:
            typer.echo(f"ended {each.kind} {each.name} (pid {each.pid})")
        left = len(found) - len(ended)
        kept = f"; {left} left alone, which `zmqlab ps` lists" if left else ""
        typer.echo(f"{len(ended)} ended{kept}")
    return EXIT_OK if len(ended) == len(chosen) else EXIT_FAILED


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise SettingsError(f"--all would end {count} processes, and there is nobody to ask: add --yes")
    typer.confirm(f"End {count} processes, also those in use?", abort=True, err=True)
