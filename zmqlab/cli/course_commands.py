"""``grade``: judge a person's solution of a lab."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from zmqlab.cli.output import JSON_OPTION, print_json
from zmqlab.errors import EXIT_OK, SettingsError

FILE_ARGUMENT = typer.Argument(None, help="The file with your code.", metavar="FILE")
PICTURE_OPTION = typer.Option(
    None, "--picture", help="Draw the run that failed there.", metavar="PAGE", show_default="FILE-failed.html"
)


def grade(
    lab: str = typer.Argument("", help="The lab, by number or by name."),
    solution: Path | None = FILE_ARGUMENT,
    picture: Path | None = PICTURE_OPTION,
    as_json: bool = JSON_OPTION,
) -> int:
    """Grade your solution of a lab: run it in the simulator, and tell the story of the first seed that fails.

    Without arguments the labs are listed. The exit status is 0 if it passes, 1 if it fails, and 9 if the code can't be
    run.
    """
    from zmqlab.course.grading import grade_as_dict, grade_file
    from zmqlab.course.labs import LABS, find_lab
    from zmqlab.runs.page_shell import expect_page, write_page

    if not lab:
        typer.echo("\n".join(f"{each.number}  {each.name:8}{each.asks}" for each in LABS))
        return EXIT_OK
    find_lab(lab)
    if solution is None:
        raise SettingsError(f"name the file with your code, as in zmqlab grade {lab} my_{lab}.py")
    if picture is not None:
        expect_page(picture)
    with _bar() as report:
        made = grade_file(lab, solution, report)
    if as_json:
        print_json(grade_as_dict(made))
    else:
        typer.echo(repr(made))
    if made.finding.diagram:
        page = write_page(picture or solution.with_name(f"{solution.stem}-failed.html"), made.finding.diagram)
        typer.echo(f"picture: {page}", err=as_json)
    return made.exit_status


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal; a line for each quarter elsewhere."""
    if not sys.stderr.isatty():
        said: set[int] = set()

        def tell(done: int, of: int) -> None:
            quarter = 4 * done // of
            if quarter not in said and done:
                said.add(quarter)
                print(f"{done} of {of}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    with Progress(BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, of: bar.update(task, completed=done, total=of)
