"""The compiled exchange against the one in Python, where the books are large; and what is done where it is missing.

The other tests of this folder run on both. Their books are small. Here they are as large as it takes for every
structure of the compiled one to grow, to be split and to shrink again: chunks of 256 orders, blocks of 256 levels, a
table of 1,024 buckets.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market.exchanges import COMPILED, needs_compiled
from tests.market.test_equivalence import flows, limits
from zmqlab.errors import SettingsError
from zmqlab.market import Command, Exchange, MarketLimits, fills_in, reports_in, symbol_code
from zmqlab.market import types as market
from zmqlab.market.canonical import Pieces
from zmqlab.replica import execution
from zmqlab.wire import records

ROOT = Path(__file__).parents[2]
CODES = [symbol_code(f"S{number}") for number in range(40)]
WIDE, NARROW = range(1, 3_000), range(1_400, 1_600)
"""Prices: thousands of levels of few orders, and few levels of many."""


def make_compiled(limits: MarketLimits | None = None) -> execution.AnyExchange:
    assert not isinstance(COMPILED, str)
    return COMPILED(limits)


class LongFlow:
    """Commands that fill the books, then change them, then empty them."""

    def __init__(self, seed: int, prices: range) -> None:
        self.draw = random.Random(seed)
        self.prices = prices
        self.known: dict[int, tuple[int, int]] = {}
        """order_id -> (symbol, account)."""

    def batch(self, size: int, changes: float) -> list[Command]:
        """``changes``: the share of cancels and replaces."""
        return [self._change() if self.known and self.draw.random() < changes else self._new() for _ in range(size)]

    def _new(self) -> Command:
        draw = self.draw
        side, middle = draw.choice((1, 2)), (self.prices.start + self.prices.stop) // 2
        price = (
            draw.randrange(self.prices.start, middle + 20) if side == 1 else draw.randrange(middle, self.prices.stop)
        )
        symbol = draw.choice(CODES) if draw.random() < 0.1 else CODES[0]
        return Command(1, side, 1, draw.choice((1, 1, 1, 1, 1, 2, 3)), draw.randint(1, 90), 0, symbol, price,
                       draw.randint(1, 900), 0)  # fmt: skip

    def _change(self) -> Command:
        draw = self.draw
        order_id = draw.choice(list(self.known)) if draw.random() < 0.01 else next(iter(self.known))
        symbol, account = self.known.pop(order_id)
        if draw.random() < 0.8:
            return Command(2, order_id=order_id, symbol=symbol, account=account)
        return Command(3, 0, 0, 0, draw.randint(1, 90), order_id, symbol, draw.choice(self.prices), account, 0)

    def hear(self, commands: list[Command], reports: list[int], fills: list[int]) -> None:
        for command, report in zip(commands, reports_in(reports), strict=True):
            if report.leaves_quantity:
                self.known[report.order_id] = command.symbol, command.account
        for fill in fills_in(fills):
            if not fill.maker_leaves_quantity:
                self.known.pop(fill.maker_order_id, None)


@needs_compiled
@pytest.mark.parametrize("prices", [WIDE, NARROW], ids=["many levels", "long queues"])
def test_large_books_are_alike_while_they_grow_and_shrink(prices: range) -> None:
    flow, fast, compiled = LongFlow(5, prices), Exchange(), make_compiled()
    most = 0
    for number in range(90):
        commands = flow.batch(400, changes=(0.1, 0.5, 0.97)[number // 30])
        reports, fills = fast.execute(commands, number % 7)
        assert compiled.execute(commands, number % 7) == (reports, fills)
        flow.hear(commands, reports, fills)
        most = max(most, fast.open_orders)
        if number % 10 == 9:
            compiled.check_invariants()
            assert compiled.snapshot() == fast.snapshot()
            assert compiled.depth("S0", 5_000) == fast.depth("S0", 5_000)
    assert most > 4_000
    assert fast.open_orders < most / 3


@needs_compiled
def test_a_full_block_of_levels_is_split_wherever_the_next_level_goes() -> None:
    """A block holds 256 levels, at even prices here. The next one goes to each odd price in turn."""
    for odd in range(1, 515, 2):
        compiled = make_compiled()
        for price in [*range(2, 514, 2), odd]:
            compiled.execute_packed(records.COMMAND.pack(1, 2, 1, 1, 1, 0, CODES[0], price, 1, 0), 0, 1)
        compiled.check_invariants()
        prices = [price for price, _, _ in compiled.depth("S0", 999).asks]
        assert prices == sorted([*range(2, 514, 2), odd])


@needs_compiled
def test_a_large_frozen_state_stays_as_it_was_and_each_restores_the_others() -> None:
    """Commands go on between the slices, in chunks of orders that the frozen state shares."""
    flow, compiled = LongFlow(6, WIDE), make_compiled()
    for _ in range(20):
        commands = flow.batch(400, changes=0.1)
        flow.hear(commands, *compiled.execute(commands))
    expected, pieces = compiled.snapshot(), Pieces()
    frozen, other = compiled.freeze(rows=64), make_compiled()
    restoring = other.restoring(pieces)
    for piece in frozen:
        commands = flow.batch(20, changes=0.8)
        flow.hear(commands, *compiled.execute(commands))
        assert next(restoring, None) is None
        pieces.feed(piece)
    assert list(restoring) == []
    assert other.snapshot() == expected != compiled.snapshot()
    for one in (compiled, other):
        python = Exchange()
        python.restore(one.snapshot())
        one.check_invariants()
        commands = flow.batch(400, changes=0.5)
        assert python.execute(commands) == one.execute(commands)
        one.restore(python.snapshot())
        assert one.snapshot() == python.snapshot()


@needs_compiled
@settings(max_examples=100, deadline=None)
@given(flows, flows, limits, st.booleans())
def test_each_goes_on_from_a_snapshot_of_the_other(
    before: list[tuple[int, ...]], after: list[tuple[int, ...]], limits: MarketLimits, compiled_first: bool
) -> None:
    first, then = (make_compiled, Exchange) if compiled_first else (Exchange, make_compiled)
    original, restored = first(limits), then(limits)
    original.execute(before)
    restored.restore(original.snapshot())
    assert restored.execute(after) == original.execute(after)
    assert restored.snapshot() == original.snapshot()
    restored.check_invariants()


@needs_compiled
def test_the_layouts_are_those_of_the_records() -> None:
    """A command with another value in each field, and what a replace reports of it, in bytes."""
    assert [record.size for record in (records.COMMAND, records.REPORT, records.FILL)] == [40, 32, 24]
    compiled = make_compiled()
    maker = Command(1, 2, 1, 1, 2_000_000_000, 0, CODES[0], 2_000_000_000, 0xFFFFFFFF, 0)
    taker = Command(1, 1, 1, 1, 7, 0, CODES[0], 2_000_000_000, 0x80000001, 0)
    frame = b"head" + records.pack_commands([maker, taker, Command(9)])
    reports, fills, rejected = compiled.execute_packed(frame, 4, 2**64 - 1)
    assert records.unpack_reports(reports) == [
        market.Report(1, 0, 0, 0, 0, 2_000_000_000, 1, 0),
        market.Report(3, 0, 0, 1, 7, 0, 2, 14_000_000_000),
        market.Report(6, 13, 0, 0, 0, 0, 0, 0),
    ]
    assert records.unpack_fills(fills) == [market.Fill(1, 2_000_000_000, 7, 1_999_999_993)]
    assert rejected == 1
    assert compiled.execute_packed(b"head", 4, 1) == (b"", b"", 0)


@needs_compiled
@pytest.mark.parametrize("call", [
    ("execute_packed", b"12345", 0, 1), ("execute_packed", b"1", 2, 1), ("execute_packed", b"", -1, 1),
    ("execute_packed", b"", 0, -1), ("execute_packed", b"", 0, 2**64), ("execute_packed", "", 0, 1),
    ("execute_packed", b"", 0), ("freeze", 0), ("restore_orders", b"1"), ("restore_orders", bytes(36)),
    ("restore_symbol", 5, 0, 0, True), ("restore_tape", 5, b""), ("swap", None),
], ids=str)  # fmt: skip
def test_the_extension_refuses_what_makes_no_sense(call: tuple[object, ...]) -> None:
    name, *arguments = call
    compiled = make_compiled()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        getattr(compiled, str(name))(*arguments)
    compiled.check_invariants()


# When memory runs out.

FAILING = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>
long allocations_left = -1; /* -1: as many as there are */
static int fails(void) { return allocations_left == 0 || (allocations_left > 0 && !allocations_left--); }
static void *failing_malloc(size_t n) { return fails() ? NULL : malloc(n); }
static void *failing_calloc(size_t n, size_t size) { return fails() ? NULL : calloc(n, size); }
static void *failing_realloc(void *p, size_t n) { return fails() ? NULL : realloc(p, n); }
#define malloc failing_malloc
#define calloc failing_calloc
#define realloc failing_realloc
"""


def built_in(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build the extension in ``folder``. Only this package's build is run: no environment, no network."""
    (folder / "zmqlab" / "market").mkdir(parents=True)
    for name in ("setup.py", "zmqlab/market/_matching.c"):
        shutil.copy(ROOT / name, folder / name)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = os.environ | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def commands_of(draw: random.Random, count: int, prices: range) -> bytes:
    """Packed commands of all kinds, in more symbols than the exchange may list."""
    rows = []
    for _ in range(count):
        kind, place = draw.choice((1, 1, 1, 2, 3)), (draw.choice(CODES), draw.choice(prices), draw.randint(1, 300), 0)
        symbol, price, *rest = place
        if kind == 1:
            rows.append((1, draw.choice((1, 2)), 1, draw.choice((1, 1, 2)), draw.randint(1, 50), 0, *place))
        else:
            rows.append((kind, 0, 0, 0, (kind - 2) * 7, draw.randint(1, 900), symbol, (kind - 2) * price, *rest))
    return records.pack_commands(rows)


def runs_out(call: Callable[..., object], *arguments: object) -> bool:
    """Whether memory runs out in a call."""
    try:
        call(*arguments)
    except MemoryError:
        return True
    return False


@needs_compiled
def test_running_out_of_memory_anywhere_leaves_sound_books(tmp_path: Path) -> None:
    """The extension is built anew, with allocations that fail when the test wants it."""
    (tmp_path / "failing.h").write_text(FAILING)
    built = built_in(tmp_path, CFLAGS=f"-O0 -include {tmp_path / 'failing.h'}")
    (path,) = (tmp_path / "zmqlab" / "market").glob("_matching.*.so")
    assert built.returncode == 0
    spec = importlib.util.spec_from_file_location("zmqlab.market._matching", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    left = ctypes.c_long.in_dll(ctypes.CDLL(str(path)), "allocations_left")
    failures = 0
    for seed in range(60):
        draw, core, frozen = random.Random(seed), module.Core(9_000, 9_000, 9_000, 8, 100, 100), []
        for _ in range(8):
            data = commands_of(draw, draw.choice((1, 5, 300)), draw.choice((WIDE, NARROW)))
            left.value = draw.choice((-1, 0, 1, 2, 3, 5, 8, 13, 20, 40))
            failures += runs_out(core.execute_packed, data, 0, draw.randint(1, 3))
            failures += runs_out(frozen.extend, map(core.freeze, [draw.randint(1, 200)]))
            failures += bool(frozen) and runs_out(next, draw.choice(frozen), None)
            left.value = -1
            core.check_invariants()
            del frozen[2:]
    assert failures > 200


# Where it is missing.


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The extension can't be imported."""
    monkeypatch.setitem(sys.modules, "zmqlab.market._matching", None)
    monkeypatch.delitem(sys.modules, "zmqlab.market.compiled_exchange", raising=False)
    monkeypatch.delattr("zmqlab.market._matching", raising=False)
    execution.compiled.cache_clear()
    yield
    execution.compiled.cache_clear()


@pytest.mark.usefixtures("without")
def test_without_the_extension_python_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(execution.VARIABLE, raising=False)
    assert execution.new_exchange().name == "python"
    monkeypatch.setenv(execution.VARIABLE, "compiled")
    with pytest.raises(SettingsError, match=r"there is no compiled exchange .*; choose python"):
        execution.new_exchange()


@pytest.mark.parametrize("name", ["python", pytest.param("compiled", marks=needs_compiled)])
def test_the_variable_chooses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(execution.VARIABLE, name)
    assert execution.new_exchange().name == name


def test_a_choice_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(execution.VARIABLE, "fortran")
    with pytest.raises(SettingsError, match="is 'fortran': it must be compiled or python"):
        execution.new_exchange()


@needs_compiled
def test_a_build_of_another_source_is_not_used(tmp_path: Path) -> None:
    module = importlib.import_module("zmqlab.market.compiled_exchange")
    module._expect_build_of(tmp_path / "it_is_not_there.c")
    module._expect_build_of(ROOT / "zmqlab" / "market" / "_matching.c")
    (tmp_path / "_matching.c").write_text("int main;")
    with pytest.raises(ImportError, match="install zmqlab again"):
        module._expect_build_of(tmp_path / "_matching.c")


def test_a_build_without_a_compiler_succeeds_without_the_extension(tmp_path: Path) -> None:
    """``pip install`` builds a wheel like this."""
    built = built_in(tmp_path, CC="/nowhere/cc")
    assert built.returncode == 0, built.stderr
    assert "_matching" in built.stderr
    assert not list(tmp_path.rglob("*.so"))
