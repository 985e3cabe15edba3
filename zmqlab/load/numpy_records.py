"""The wire's fixed-width records as numpy types, byte for byte.

:mod:`zmqlab.wire.records` defines the records; a test compares these types with it. The ``tobytes()`` of an array of
``COMMAND`` rows is the body of a request, and ``np.frombuffer`` makes ``REPORT`` rows from the body of a response.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.void]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]

COMMAND = np.dtype(
    [
        ("kind", "u1"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("quantity", "<u4"),
        ("order_id", "<u8"),
        ("symbol", "<u8"),
        ("price", "<i8"),
        ("account", "<u4"),
        ("flags", "<u4"),
    ]
)

REPORT = np.dtype(
    [
        ("status", "u1"),
        ("reason", "u1"),
        ("reserved", "<u2"),
        ("fill_count", "<u4"),
        ("filled_quantity", "<u4"),
        ("leaves_quantity", "<u4"),
        ("order_id", "<u8"),
        ("notional", "<i8"),
    ]
)

FILL = np.dtype([("maker_order_id", "<u8"), ("price", "<i8"), ("quantity", "<u4"), ("maker_leaves_quantity", "<u4")])
