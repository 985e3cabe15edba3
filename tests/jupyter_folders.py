"""Jupyter with folders of its own, so that a test neither sees nor changes what its user has."""

from __future__ import annotations

import os
from pathlib import Path


def own_folders(folder: Path, **more: str) -> dict[str, str]:
    """This process' environment, but for folders below ``folder``, which are made; ``more``: variable -> its folder."""
    own = {
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
    }
    folders = {variable: folder / name for variable, name in (own | more).items()}
    for each in folders.values():
        each.mkdir(exist_ok=True)
    return os.environ | {variable: str(each) for variable, each in folders.items()}
