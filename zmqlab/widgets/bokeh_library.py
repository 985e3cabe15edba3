"""BokehJS, which a page needs before it can draw a figure: sent once, and by the kernel itself, so that no page has to
load it from elsewhere."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import anywidget
import bokeh
import traitlets


class BokehLibrary(anywidget.AnyWidget):
    """BokehJS, compressed, once for all figures of a kernel. Shows nothing."""

    _esm = "export default { render() {} }"
    version = traitlets.Unicode(bokeh.__version__).tag(sync=True)
    code = traitlets.Bytes().tag(sync=True)

    def __repr__(self) -> str:
        return "BokehLibrary()"


_library: BokehLibrary | None = None


def bokeh_library() -> BokehLibrary:
    """The kernel's one library; a new one if all widgets were closed meanwhile."""
    global _library
    if _library is None or _library.comm is None:
        _library = BokehLibrary(code=_bokeh_code())
    return _library


@cache
def _bokeh_code() -> bytes:
    """1.4 MB of script, compressed to 0.4 MB."""
    script = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
    return gzip.compress(script.read_bytes(), 6)
