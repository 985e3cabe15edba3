"""Which exchange carries out the requests of the log, from packed commands to packed reports and fills.

There are two, and they are the same function of their commands (:mod:`zmqlab.market.compiled_exchange`). A node takes
the compiled one if it was built, and the one in Python otherwise. The nodes of a cluster may differ in that. The
variable ``ZMQLAB_EXCHANGE`` (``compiled`` or ``python``) chooses for a process and for those that it starts. It is no
setting of a node: it changes how fast a node is, and nothing that it does.

The state machine hands over the frame of a request and gets back bytes. What the Python exchange adds to that is here:
the rules know no bytes (:mod:`zmqlab.market`).
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from zmqlab.errors import SettingsError
from zmqlab.market.exchange import Exchange
from zmqlab.market.types import REPORT_STATUS, REPORT_WIDTH, MarketLimits, Status
from zmqlab.wire.records import iter_commands, pack_fills, pack_reports

if TYPE_CHECKING:
    from zmqlab.market.compiled_exchange import CompiledExchange

VARIABLE = "ZMQLAB_EXCHANGE"
_REJECTED = int(Status.REJECTED)  # a plain integer: compared once a report


class PythonExchange(Exchange):
    """The exchange in Python, from bytes to bytes."""

    name = "python"

    def execute_packed(self, frame: bytes, offset: int, session: int) -> tuple[bytes, bytes, int]:
        """Execute the packed commands of ``frame`` from ``offset`` to its end, which are of ``session``.

        Returns:
            The packed reports, the packed fills, and how many commands were rejected.
        """
        reports, fills = self.execute(iter_commands(frame, offset), session)
        rejected = reports[REPORT_STATUS::REPORT_WIDTH].count(_REJECTED)
        return pack_reports(reports), pack_fills(fills), rejected


AnyExchange: TypeAlias = "PythonExchange | CompiledExchange"


@cache
def compiled() -> type[CompiledExchange] | str:
    """The compiled exchange, or why there is none."""
    try:
        from zmqlab.market.compiled_exchange import CompiledExchange
    except ImportError as error:
        return str(error)
    return CompiledExchange


def new_exchange(limits: MarketLimits | None = None) -> AnyExchange:
    """An empty exchange of the kind that this process uses.

    Raises:
        SettingsError: ``ZMQLAB_EXCHANGE`` is neither ``compiled`` nor ``python``, or the compiled one is not there.
    """
    wanted, found = os.environ.get(VARIABLE, ""), compiled()
    if wanted not in ("", "compiled", "python"):
        raise SettingsError(f"{VARIABLE} is {wanted!r}: it must be compiled or python")
    if wanted == "python" or (isinstance(found, str) and not wanted):
        return PythonExchange(limits)
    if isinstance(found, str):
        raise SettingsError(f"{VARIABLE} is compiled, but there is no compiled exchange ({found}); choose python")
    return found(limits)
