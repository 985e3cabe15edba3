"""What the chapters in ``notebooks/`` need beside the lab itself.

A chapter runs in less than a minute. Under ``ZMQLAB_QUICK=1``, which continuous integration sets, its figures are
smaller, so that all of them together take a few minutes; what is claimed and checked stays the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from zmqlab.cluster.cluster import Cluster
    from zmqlab.cluster.load_client import LoadClient

T = TypeVar("T")

QUICK_VARIABLE = "ZMQLAB_QUICK"


def is_quick() -> bool:
    """Whether ``ZMQLAB_QUICK`` is set to anything but nothing and 0."""
    return os.environ.get(QUICK_VARIABLE, "") not in ("", "0")


def pick(full: T, *, quick: T) -> T:
    """``full`` for a person, ``quick`` for a machine that only checks that it works."""
    return quick if is_quick() else full


def finish(cluster: Cluster, load: LoadClient | None = None) -> None:
    """End a chapter: load and nodes stop, the charts stay as they are.

    Raises:
        Exception: what a thread behind the charts died of. It passes unseen otherwise.
    """
    from zmqlab.widgets.sampler import problem_of  # a chapter without widgets needs none of them

    problem = problem_of(cluster)
    if load is not None:
        load.close()
    cluster.stop()
    if problem is not None:
        raise problem
