"""What is around every page and every part of a notebook that shows a run: the style sheet, the shell, the file.

A page has no script and loads nothing. Its colours follow the system's preference, and in a notebook the notebook's
theme. A picture that is there in two widths (``w1040``, ``w700``) is shown in the one that fits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from zmqlab.errors import SettingsError
from zmqlab.runs.run_charts import STYLE, WIDTHS_PX, colours
from zmqlab.settings import reason_of, require_path

ROOM_BYTES = 100_000
"""A page needs about as much; a disk that has less is full."""
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"

_WIDE, _NARROW = WIDTHS_PX
_STYLE = (
    """
.zr { container-type: inline-size; color: var(--ink); font: 14px/1.5 FONT; text-align: left; }
.zr h1 { font-size: 22px; line-height: 1.3; margin: 0; font-weight: 650; }
.zr h2 { font-size: 16px; margin: 34px 0 8px; font-weight: 650; }
.zr p { margin: 6px 0; }
.zr .faint, .zr th, .zr dt { color: var(--faint); }
.zr .head { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: baseline; }
.zr .badge { font-weight: 700; font-size: 15px; letter-spacing: 0.03em; padding: 2px 11px; border-radius: 6px;
  color: var(--paper); background: var(--own); }
.zr .ok { --own: var(--ok); } .zr .bad { --own: var(--bad); } .zr .unsure { --own: var(--unsure); }
.zr td.sign { color: var(--own); font-weight: 700; width: 1.2em; }
.zr .note { border-left: 3px solid var(--own); padding: 2px 0 2px 11px; margin: 8px 0; }
.zr .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 10px; margin: 16px 0 0; }
.zr .tile, .zr .card { background: var(--panel); border: 1px solid var(--grid); border-radius: 8px; padding: 9px 13px; }
.zr .tile b { display: block; font-size: 21px; line-height: 1.25; font-weight: 650; white-space: nowrap; }
.zr .tile span { font-size: 12px; }
.zr .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 10px; }
.zr h1 + .cards { margin-top: 14px; }
.zr .card h3 { margin: 0 0 4px; font-size: 14px; display: flex; justify-content: space-between; gap: 10px; }
.zr .card h3 span { font-weight: 400; }
.zr i.key { display: inline-block; width: 18px; border-top: 3px solid var(--own); margin: 0 8px 4px 0; }
.zr .card.fault h3 { color: var(--fault); }
.zr .card dl { display: grid; grid-template-columns: auto 1fr; gap: 1px 12px; margin: 0; font-size: 13px; }
.zr dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
.zr figure { margin: 0; }
.zr figcaption { display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; margin: 30px 0 4px; }
.zr figcaption b { font-size: 16px; font-weight: 650; margin-right: 6px; }
.zr figcaption i { font-style: normal; font-size: 12.5px; display: inline-flex; align-items: center; gap: 6px; }
.zr figcaption i::before { content: ""; width: 18px; height: 0; border-top: 2.5px solid var(--own, var(--faint)); }
.zr figcaption i.offered::before, .zr figcaption i.dashed::before { border-top-style: dashed; }
.zr figcaption i.band::before, .zr figcaption i.silent::before { height: 11px; border: 0; background: var(--fault);
  opacity: 0.28; }
.zr figcaption i.silent::before { background: var(--bad); opacity: 0.45; }
.zr .scroll { overflow-x: auto; }
.zr table { border-collapse: collapse; width: 100%; font-size: 13px; margin: 0; }
.zr th, .zr td { text-align: left !important; vertical-align: top; padding: 4px 14px 4px 0; background: none;
  border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }
.zr th { font-weight: 500; white-space: nowrap; }
.zr .numbers td + td, .zr .numbers th + th { text-align: right !important; font-variant-numeric: tabular-nums; }
.zr td b, .zr .card h3 b { font-weight: 650; white-space: nowrap; }
.zr td:first-child { white-space: nowrap; } .zr td.sign + td { width: 11em; }
.zr .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 36px; align-items: start; }
.zr details { margin: 14px 0 0; } .zr summary { cursor: pointer; font-weight: 600; }
.zr .wNARROW { display: none; }
@container (max-width: 899px) { .zr .wWIDE { display: none; } .zr .wNARROW { display: block; }
  .zr .pair { grid-template-columns: 1fr; } .zr .tiles { grid-template-columns: repeat(3, 1fr); } }
@media print { .zr .card, .zr figure { break-inside: avoid; } }
""".replace("FONT", FONT)
    .replace("NARROW", str(_NARROW))
    .replace("WIDE", str(_WIDE))
    + STYLE
)


def in_notebook(body: str) -> str:
    """``body`` as a part of a notebook's page, in the colours of its theme."""
    dark = f'[data-jp-theme-light="false"] .zr {{ {colours(dark=True)} }}'
    return f'<style>.zr {{ {colours(dark=False)} }} {dark} {_STYLE}</style><div class="zr">{body}</div>'


def page(title: str, body: str) -> str:
    """A whole HTML page around ``body``."""
    themes = (
        f":root {{ color-scheme: light dark; {colours(dark=False)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {colours(dark=True)} }} }}\n"
        "body { margin: 0; background: var(--paper); } main { max-width: 1104px; margin: 0 auto; padding: 24px; }\n"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{themes}{_STYLE}</style></head>\n"
        f'<body><main><div class="zr">\n{body}\n</div></main></body></html>\n'
    )


def write_page(out: str | Path, text: str) -> Path:
    """Write a page in one step; it may be read by others as any file of this user may. Raises SettingsError."""
    path = require_path("out", out)
    with _written_beside(path, text) as new:
        new.replace(path)
    return path


def expect_page(out: str | Path) -> Path:
    """``out``, where a page is to be written later; its folder is made if it is missing.

    Raises:
        SettingsError: no page can be written there: said before minutes of work end in that.
    """
    path = require_path("out", out)
    with _written_beside(path, " " * ROOM_BYTES):
        return path


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    """A new file in the folder of ``path``; if it is there at the end, it is removed. Raises SettingsError."""
    new: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".page-", dir=path.parent)
        new = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield new
    except OSError as error:
        raise SettingsError(f"the page can't be written to {path}: {reason_of(error)}. Name another file") from None
    finally:
        if new is not None:
            with contextlib.suppress(OSError):
                new.unlink()
