"""The wire's fixed-width records as numpy types, byte for byte.

They are made from the fields in :mod:`zmqlab.market.types`; a test compares them with :mod:`zmqlab.wire.records`. An
array of ``COMMAND`` rows is a request's body through ``tobytes()``, and a response's body is an array of ``REPORT``
rows through ``np.frombuffer``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zmqlab.market.types import Command, Fill, Report, record_fields

Rows: TypeAlias = NDArray[np.void]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]

_TYPES = {"B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8"}
"""numpy's names of the widths, by their codes in a ``struct`` format."""

COMMAND, REPORT, FILL = (
    np.dtype([(name, _TYPES[code]) for name, code in record_fields(record)]) for record in (Command, Report, Fill)
)
