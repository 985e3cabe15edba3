"""Measure anew what a page shows: run the command above each table, and put what it prints in the table's place.

A page marks a table like this. The command stays as it is; what is between the two comments is replaced::

    <!-- figures: python benchmarks/compare.py --rate 5000,30000 -->
    ...
    <!-- end of figures -->

The commands run one after the other. A command that fails leaves its table as it was.

    python benchmarks/fill.py docs/performance.md [--only compare,growth] [--list]
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from targets import TREE, environment

BLOCK = re.compile(r"(<!-- figures: python (?P<command>[^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def output_of(command: str) -> str | None:
    """What the command prints, or None if it failed. Status 1 stands for a figure that is not as it should be."""
    print(f"python {command}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=TREE, env=environment(TREE), stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in (0, 1) or not done.stdout:
        print(f"  failed with status {done.returncode}: the table stays as it was", file=sys.stderr, flush=True)
        return None
    return done.stdout.strip()


def commands_in(text: str) -> list[str]:
    """The commands of a page, in its order."""
    return [match["command"] for match in BLOCK.finditer(text)]


def filled(text: str, command: str, output: str) -> str:
    """The page with what ``command`` printed in its place."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{output}\n\n{match[3]}" if match["command"] == command else match[0]

    return BLOCK.sub(replace, text)


def main() -> int:
    """Fill the page, table by table; fail if a command did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--only", default="", help="words, with commas: commands that contain one of them")
    parser.add_argument("--list", action="store_true", help="say which commands there are, and run none")
    arguments = parser.parse_args()
    words, failed = [word for word in arguments.only.split(",") if word], 0
    for command in commands_in(arguments.page.read_text()):
        if words and not any(word in command for word in words):
            continue
        if arguments.list:
            print(f"python {command}")
        elif (output := output_of(command)) is not None:
            arguments.page.write_text(filled(arguments.page.read_text(), command, output))
        else:
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
