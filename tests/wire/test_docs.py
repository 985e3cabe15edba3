"""``docs/wire-format.md`` says what the code does: sizes, offsets, types, codes and bounds."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tests.wire import code_tables
from zmqlab.client import retries, session
from zmqlab.engine.answers import MAX_LEVELS, MAX_LOG_BYTES
from zmqlab.histogram import bucket_high, bucket_low
from zmqlab.node import transport
from zmqlab.replica import ReplicaSettings
from zmqlab.settings import NodeSettings, SessionLimits
from zmqlab.wire import client, control, frames, records

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
SECTIONS = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S))
WIDTHS = {"2 bytes": 2, "8 bytes": 8, "u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8}
LAYOUTS: list[tuple[str, struct.Struct]] = [
    ("The header, 8 bytes", frames.HEADER),
    ("A command, 40 bytes", records.COMMAND),
    ("A response, 32 bytes + reports + fills", client._BODY),
    ("A report, 32 bytes", records.REPORT),
    ("A fill, 24 bytes", records.FILL),
]


def rows(section: str) -> list[list[str]]:
    """The cells of the rows of a section's table, without the table's head."""
    lines = [line for line in SECTIONS[section].splitlines() if re.match(r"\| *[\w0]", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("section", "layout"), LAYOUTS, ids=[section for section, _ in LAYOUTS])
def test_a_table_has_the_widths_and_the_size_of_its_struct(section: str, layout: struct.Struct) -> None:
    fields = [row for row in rows(section) if row[0].isdigit() and row[1] in WIDTHS]
    offset = 0
    for row in fields:
        assert int(row[0]) == offset, row
        offset += WIDTHS[row[1]]
    assert offset == layout.size == int(re.findall(r"(\d+) bytes", section)[0])
    assert len(fields) == len(re.sub(r"\d+s", "s", layout.format).lstrip("<"))


def test_open_session_and_request_have_the_sizes_of_their_headings() -> None:
    (open_session,) = [int(size) for size in re.findall(r"## OPEN_SESSION: header \+ (\d+) bytes", PAGE)]
    (request,) = [int(size) for size in re.findall(r"## REQUEST: header \+ (\d+) bytes", PAGE)]
    assert len(client.encode_open_session(1)) == frames.HEADER_BYTES + open_session
    assert len(client.encode_request(1, 1, 1, b"")) == frames.HEADER_BYTES + request


def test_the_types_of_frames() -> None:
    listed = re.findall(r"^\| 0x([0-9A-F]{2}) \| ([A-Z_]+) \|", PAGE, re.M)
    assert len(listed) == 9
    assert [(int(code, 16), name) for code, name in listed] == [(getattr(frames, name), name) for _, name in listed]
    assert (frames.APPEND_ENTRIES, frames.BUNDLE) == (0x10, 0x1C)
    assert "`5A 4C 01 20` is metrics" in PAGE
    assert frames.topic(frames.METRICS).hex(" ").upper() == "5A 4C 01 20"


@pytest.mark.parametrize("path", code_tables.pages(), ids=lambda path: path.name)
def test_the_tables_of_codes_and_fields(path: Path) -> None:
    page = path.read_text()
    assert page == code_tables.with_tables(page), "python -m tests.wire.code_tables"


def test_each_code_and_field_has_one_table_and_a_meaning() -> None:
    shown = [block[2] for path in code_tables.pages() for block in code_tables.BLOCK.finditer(path.read_text())]
    described = [*code_tables.CODES, *code_tables.STRUCTS]
    assert sorted(shown) == sorted(each.__name__ for each in described)
    for each in described:
        for name, said in code_tables.meanings(each).items():
            assert said, f"say below {each.__name__}.{name} what it means"


def test_an_error_answer_has_a_code_of_the_table() -> None:
    source = [path.read_text() for path in Path(client.__file__).parents[1].rglob("*.py")]
    assert [code for text in source for code in re.findall(r'ErrorAnswer\([^,()]+, "(\w*)"', text)] == []


def test_the_bounds() -> None:
    limits = SessionLimits()
    said = [
        f"more than {frames.MAX_CLIENT_FRAME_BYTES:,} bytes from a client",
        f"({frames.MAX_PEER_FRAME_BYTES:,} from a peer)",
        f"more than {transport.HARD_LIMIT_FACTOR * frames.MAX_CLIENT_FRAME_BYTES:,} bytes from a client",
        f"({transport.HARD_LIMIT_FACTOR * frames.MAX_PEER_FRAME_BYTES:,} from a peer)",
        f"at most {transport.QUEUE_MESSAGES} messages for a client that does not read",
        f"has {len(client.encode_request(1, 1, 1, bytes(40) * client.MAX_COMMANDS_PER_REQUEST)):,} bytes",
        f"1 to {client.MAX_COMMANDS_PER_REQUEST:,} commands",
        f"{frames.MAX_ANSWER_BYTES:,} bytes in one message",
        f"keeps {limits.max_sessions:,} sessions, and {limits.total_bytes >> 20} MiB",
        f"a window of {limits.window_requests:,} numbers",
        f"up to {limits.session_bytes >> 20} MiB of them",
        f"at most {limits.answer_fills:,} fills",
        f"`levels` counts from 1 to {MAX_LEVELS:,}",
        f"`max_bytes` = {control.LogQuery(1, 1).max_bytes}",
    ]
    page = " ".join(PAGE.split())
    assert [each for each in said if each not in page] == []
    assert control.LogQuery(1, 1).max_bytes == MAX_LOG_BYTES


def test_how_long_to_wait() -> None:
    said = [
        f"WINDOW_FULL*: {session.WINDOW_FULL_MS} ms",
        f"up to {session.WINDOW_FULL_MS << session.WINDOW_FULL_DOUBLINGS_MAX} ms",
        f"OPEN_SESSION without an answer*: {session.OPEN_TRY_MS} ms",
        f"up to {(session.OPEN_TRY_MS << session.OPEN_DOUBLINGS_MAX) // 1_000} s",
        f"wait for {retries.BUSY_MS} ms",
        f"at least 1 s and at most {retries.TIMEOUT_GROWTH} s",
        f"no more than {session.WINDOW_BYTES >> 20} MiB of commands",
        f"after {ReplicaSettings().read_ticks * NodeSettings(name='a', port=1).tick_ms // 1_000} s at the latest",
    ]
    page = " ".join(PAGE.split())
    assert [each for each in said if each not in page] == []


def test_the_buckets_of_service_times() -> None:
    (said,) = re.findall(r"^With `s = (.*?)`, bucket `i` begins\s+at `(.*?)` and\s+holds `(.*?)` values", PAGE, re.M)
    for i in (0, 100, 255, 256, 300, 511, 512, 2_000):
        shift = eval(said[0], {"i": i, "max": max})
        begins, width = (eval(each, {"i": i, "s": shift}) for each in said[1:])
        assert (begins, begins + width - 1) == (bucket_low(i), bucket_high(i))


def test_the_queries() -> None:
    section = SECTIONS["QUERY and ANSWER: header + one msgpack map"].partition("<!--")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.M)
    queries = [query.__struct_config__.tag for query in control.Query.__args__]
    assert listed == queries
