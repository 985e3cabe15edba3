"""The pictures of the terminal in README and docs, as SVG: a run as ``zmqlab quick`` shows it, of which a leader dies.

    python benchmarks/screens.py docs/images

Everything in them happened: real nodes, a real load, a real SIGKILL. Three pictures are written: some seconds after the
leader was killed; three seconds after a second node was killed, so that no majority is left; and the report at the end,
when both are back. The size is that of a small terminal.
"""

from __future__ import annotations

import argparse
import io
import re
import time
from collections.abc import Sequence
from pathlib import Path

from machine import unwind_at_sigterm
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from zmqlab import Cluster, LoadClient
from zmqlab.cli.final_report import lines_of, of_load
from zmqlab.cli.live_view import screen
from zmqlab.cli.output import rich_text
from zmqlab.cli.styled_lines import Line
from zmqlab.cli.terminal import LiveRun

WIDTH, HEIGHT = 100, 26
RATE = 5_000
CALM_S, AFTER_KILL_S, OUTAGE_S, BACK_S = 26.0, 4.0, 3.0, 4.0
COLOURS = [(59, 66, 82), (224, 92, 92), (94, 190, 110), (226, 176, 72), (92, 152, 232), (190, 130, 210), (86, 190, 200)]
PAPER, INK = (16, 20, 28), (216, 222, 233)
DARK = TerminalTheme(PAPER, INK, [*COLOURS, INK])
"""One for the light and for the dark page: terminals are dark."""
WEB_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def write_svg(lines: Sequence[Line], path: Path, title: str) -> None:
    """A picture that loads nothing from the internet."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(rich_text(lines))
    svg = console.export_svg(title=title, theme=DARK)
    path.write_text(WEB_FONT.sub("", svg).replace("Fira Code, monospace", "monospace").rstrip() + "\n")
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    unwind_at_sigterm()
    with Cluster(3) as cluster, LoadClient(cluster, rate=RATE, duration=None) as load:
        about = ["3 nodes", f"{RATE:,} orders/s", "seed 1"]
        with LiveRun(
            "zmqlab quick", about, io.StringIO(), duration_s=60.0, advice="Ctrl-C ends the load early"
        ) as live:
            live.watch(cluster.feed, cluster)
            load.start()
            live.so_far = lambda: load.so_far
            live.begin()

            def picture(name: str) -> None:
                write_svg(screen(live.readings(), WIDTH, HEIGHT), folder / f"terminal-{name}.svg", "zmqlab quick")

            time.sleep(CALM_S)
            cluster.kill(cluster.leader)
            time.sleep(AFTER_KILL_S)
            picture("kill")
            cluster.kill(cluster.leader)
            time.sleep(OUTAGE_S)
            picture("unserved")
            for name in cluster.nodes:
                if name not in cluster.running:
                    cluster.restart(name)
            time.sleep(BACK_S)
            load.stop()
            result = load.wait()
        write_svg(lines_of(of_load(result), WIDTH), folder / "terminal-report.svg", "zmqlab quick")


if __name__ == "__main__":
    main()
