"""Records: each has its size and the order of its fields, and unpacking gives what was packed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqlab.market.types import FILL_WIDTH, Command, ExecutionReport, Fill, Report, Side, fills_in, reports_in
from zmqlab.wire import records

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
I64 = st.integers(-(2**63), 2**63 - 1)
COMMANDS = st.tuples(U8, U8, U8, U8, U32, U64, U64, I64, U32, U32)
REPORTS = st.tuples(U8, U8, U16, U32, U32, U32, U64, I64)
FILLS = st.tuples(U64, I64, U32, U32)

COUNTS = [0, 1, 127, 128, 129, 256, 300, 1_024]
"""Around the largest batch of one call (128), twice of it, and the largest request."""


def test_the_sizes_of_the_records() -> None:
    assert (records.COMMAND.size, records.REPORT.size, records.FILL.size) == (40, 32, 24)


def test_a_command_s_bytes() -> None:
    command = Command.limit(Side.SELL, "ACME", 100, 2_500, account=7, post_only=True)
    assert records.pack_commands([command]) == bytes.fromhex(
        "01020101"  # new, sell, limit, good till cancelled
        "64000000"  # quantity
        "0000000000000000"  # order id
        "41434d4500000000"  # ACME
        "c409000000000000"  # price
        "07000000"  # account
        "01000000"  # post-only
    )


def test_the_fields_of_the_records() -> None:
    """Spelled out here: the wire and stored logs depend on them."""
    assert (records.COMMAND_FIELDS, records.REPORT_FIELDS, records.FILL_FIELDS) == ("BBBBIQQqII", "BBHIIIQq", "QqII")
    assert ",".join(Command._fields) == (
        "kind,side,order_type,time_in_force,quantity,order_id,symbol,price,account,flags"
    )
    assert ",".join(Report._fields) == (
        "status,reason,reserved,fill_count,filled_quantity,leaves_quantity,order_id,notional"
    )
    assert ",".join(Fill._fields) == "maker_order_id,price,quantity,maker_leaves_quantity"


def test_a_report_s_bytes_and_a_fill_s() -> None:
    assert records.pack_reports([2, 3, 0, 4, 5, 6, 7, -1]) == struct.pack("<BBHIIIQq", 2, 3, 0, 4, 5, 6, 7, -1)
    assert records.pack_fills([9, 8, 7, 6]) == struct.pack("<QqII", 9, 8, 7, 6)
    assert set(Report._fields) - {"reserved", "fill_count"} < set(ExecutionReport.__slots__)


def test_a_flat_list_gets_its_names_back() -> None:
    assert list(reports_in([*range(8), *range(10, 18)])) == [Report(*range(8)), Report(*range(10, 18))]
    assert list(fills_in(range(8))) == [Fill(0, 1, 2, 3), Fill(4, 5, 6, 7)]
    with pytest.raises(ValueError, match="shorter"):
        list(reports_in(range(9)))


@given(st.lists(COMMANDS, max_size=20), st.integers(0, 64))
def test_commands_come_back(commands: list[records.CommandTuple], offset: int) -> None:
    packed = records.pack_commands(commands)
    assert len(packed) == 40 * len(commands)
    assert list(records.iter_commands(bytes(offset) + packed, offset)) == commands


@given(st.lists(REPORTS, max_size=20), st.lists(FILLS, max_size=20))
def test_reports_and_fills_come_back(reports: list[tuple[int, ...]], fills: list[tuple[int, ...]]) -> None:
    assert records.unpack_reports(records.pack_reports([field for one in reports for field in one])) == reports
    assert records.unpack_fills(records.pack_fills([field for one in fills for field in one])) == fills


@pytest.mark.parametrize("count", COUNTS)
def test_a_batch_of_any_size_is_its_records_in_order(count: int) -> None:
    reports = [(1, 2, 0, number, 4, 5, number << 33, -number) for number in range(count)]
    fills = [(number << 33, -number, number, 6) for number in range(count)]
    assert records.pack_reports([f for one in reports for f in one]) == b"".join(
        records.REPORT.pack(*one) for one in reports
    )
    assert records.pack_fills([f for one in fills for f in one]) == b"".join(records.FILL.pack(*one) for one in fills)


def test_the_caches_of_structs_are_bounded() -> None:
    for count in range(400):
        records.pack_fills([0] * FILL_WIDTH * count)
    assert records._fills_struct.cache_info().currsize <= records.MAX_RECORDS_PER_CALL + 1


@pytest.mark.parametrize(("field", "value"), [(0, 256), (4, 2**32), (5, -1), (7, 2**63), (8, -1)])
def test_a_field_that_does_not_fit_is_refused(field: int, value: int) -> None:
    command = [0] * 10
    command[field] = value
    with pytest.raises(struct.error):
        records.pack_commands([command])
