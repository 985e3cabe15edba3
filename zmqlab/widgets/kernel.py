"""Whether the notebook's kernel is in the middle of a cell, so that what pages say can't be heard.

IPython calls back before and after each cell. Outside of IPython, and before the first cell, nothing runs.
"""

from __future__ import annotations

import sys
from typing import Any

_state: dict[str, Any] = {"shell": None, "busy": False}


def kernel_is_busy() -> bool:
    """Whether a cell runs now; the first call in a kernel, which a cell makes, starts watching."""
    shell = _shell()
    if shell is not None and _state["shell"] is not shell:
        _state["shell"] = shell
        _state["busy"] = bool(getattr(shell, "kernel", None))
        shell.events.register("pre_execute", _begin)
        shell.events.register("post_execute", _end)
    return bool(_state["busy"])


def _shell() -> Any:
    """IPython's shell, if this process is one; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _begin() -> None:
    _state["busy"] = True


def _end() -> None:
    _state["busy"] = False
