"""The history of a run is all that its clients did and saw, and says so when something is missing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from tests.client.conftest import MakeNodes
from tests.client.fake_node import FakeLog
from tests.load.test_generator import run_while, settings_for
from zmqlab.errors import NoLeader, SettingsError
from zmqlab.load import history
from zmqlab.load.generator import Generator
from zmqlab.load.history import HistoryWriter, read_history
from zmqlab.load.load_messages import LoadResult
from zmqlab.load.load_report import LoadReport
from zmqlab.load.measurement import Sent
from zmqlab.load.order_flow import OrderFlow
from zmqlab.load.run_record import read_ledger
from zmqlab.load.session_pool import SessionPool
from zmqlab.market.types import Command, CommandKind, OrderType, Reason, Side, Status, TimeInForce, symbol_code
from zmqlab.wire import records
from zmqlab.wire.client import ResponseStatus

pytestmark = pytest.mark.clock


def code_of(codes: type, name: str) -> int:
    return int(codes[name.upper()]) if name else 0  # type: ignore[index]


def commands_of(request: history.Request) -> list[Command]:
    """The commands as they were sent."""
    return [
        Command(
            kind=code_of(CommandKind, each.kind),
            side=code_of(Side, each.side),
            order_type=code_of(OrderType, each.order_type),
            time_in_force=code_of(TimeInForce, each.time_in_force),
            quantity=each.quantity,
            order_id=each.order_id,
            symbol=symbol_code(each.symbol),
            price=each.price,
            account=each.account,
            flags=int(each.post_only),
        )
        for each in request.commands
    ]


def answer_of(request: history.Request) -> tuple[list[int], list[int]]:
    """The answer as it came: flat reports and flat fills."""
    reports, fills = [], []
    for each in request.reports:
        codes = code_of(Status, each.status), code_of(Reason, each.reason)
        amounts = each.filled_quantity, each.leaves_quantity, each.order_id, each.notional
        reports += [*codes, 0, len(each.fills), *amounts]
        for fill in each.fills:
            fills += [fill.maker_order_id, fill.price, fill.quantity, fill.maker_leaves_quantity]
    return reports, fills


def check_against_ledger(read: history.History, result: LoadResult) -> None:
    """Everything in the ledger, and nothing else, was told with the same answer at the same times."""
    answered = {(each.client, each.number): each for each in read.requests if each.outcome == "ok"}
    ledger = read_ledger(result.ledger)
    assert len(answered) == len(ledger) > 0
    endpoints = list(result.orders_by_node)
    for row in ledger:
        each = answered[(int(row["client_id"]), int(row["request_number"]))]
        assert (each.invoked_ns, each.completed_ns, each.log_index) == tuple(
            int(row[name]) for name in ("invoked_ns", "completed_ns", "log_index")
        )
        assert len(each.commands) == len(each.reports) == row["orders"]
        assert each.node == endpoints[row["node"]]
        assert each.replayed == bool(row["flags"])
        reports, fills = answer_of(each)
        crc = crc32(records.pack_fills(fills), crc32(records.pack_reports(reports)))
        assert crc == row["answer_crc"], "to the last bit"


@pytest.mark.parametrize(("name", "fill"), [("run.jsonl", False), ("run.jsonl.gz", True)])
def test_a_history_says_what_the_ledger_says(
    make_nodes: MakeNodes, log: FakeLog, tmp_path: Path, name: str, fill: bool
) -> None:
    log.fill = fill
    path = tmp_path / name
    settings = settings_for(make_nodes(3), clients=3, history=path)
    result = Generator(settings).run()
    read = read_history(path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    check_against_ledger(read, result)
    assert [each.client for each in read.sessions] == result.client_ids
    assert all(0 < each.invoked_ns < each.completed_ns < read.requests[0].completed_ns for each in read.sessions)
    assert read.head.settings["history"] == str(path)
    assert read.end is not None
    assert (read.end.requests, read.end.unknown, read.end.problem) == (len(read.requests), 0, "")
    assert result.history_problem == ""
    for each in read.requests:
        assert records.pack_commands(commands_of(each)) == log.bodies[(each.client, each.number)], "as they were sent"


def test_retries_are_one_operation(make_nodes: MakeNodes, log: FakeLog, tmp_path: Path) -> None:
    nodes = make_nodes(2)
    nodes[0].drop_answers = 3
    result = Generator(settings_for(nodes, duration_s=0.5, timeout_ms=100, history=tmp_path / "h")).run()
    read = read_history(tmp_path / "h")
    check_against_ledger(read, result)
    retried = [each for each in read.requests if each.attempts > 1]
    assert len(retried) >= 3
    assert all(each.replayed for each in retried if each.node == nodes[1].endpoint)
    numbers = [each.number for each in read.requests]
    assert len(set(numbers)) == len(numbers)


def test_what_was_never_answered_says_so(make_nodes: MakeNodes, log: FakeLog, tmp_path: Path) -> None:
    (node,) = make_nodes(1)

    def lose() -> None:
        time.sleep(0.2)
        node.lose_requests = 1_000_000
        time.sleep(0.15)
        node.kill()

    settings = settings_for([node], duration_s=0.6, drain_ms=100, window=6, timeout_ms=60_000, history=tmp_path / "h")
    result = run_while(Generator(settings), lose)
    read = read_history(tmp_path / "h")
    check_against_ledger(read, result)
    without = [each for each in read.requests if each.outcome != "ok"]
    assert {each.outcome for each in without} == {"unknown"}
    assert {each.why for each in without} == {"no_answer"}
    assert len(without) == len(result.open_requests) == 6
    assert all(each.invoked_ns and not each.completed_ns and not each.reports for each in without)
    assert sum(len(each.commands) for each in read.requests) == result.total.sent
    assert read.end is not None
    assert read.end.unknown == 6
    node.start()


def test_what_was_never_sent_says_so(make_nodes: MakeNodes, tmp_path: Path) -> None:
    (node,) = make_nodes(1)
    settings = settings_for([node])
    with SessionPool(settings.nodes, settings.session) as sessions:
        sessions.open(30_000)
        node.kill()
        while sessions.all_connected:
            sessions.poll(5)
        rows = OrderFlow(seed=1).take(3)
        sessions.submit(rows.tobytes(), Sent(rows.tobytes(), np.zeros(3, np.int64)))
        writer = HistoryWriter(str(tmp_path / "h"), settings, sessions.endpoints)
        writer.close(sessions.open_requests(), (), "")
    (request,) = read_history(tmp_path / "h").requests
    assert (request.outcome, request.why, request.invoked_ns, request.attempts) == ("not_sent", "", 0, 0)
    assert len(request.commands) == 3
    node.start()


def test_a_session_that_expired_says_so(make_nodes: MakeNodes, log: FakeLog, tmp_path: Path) -> None:
    (node,) = make_nodes(1)

    def expire() -> None:
        time.sleep(0.3)
        node.refuse_status, node.refuse_count = ResponseStatus.SESSION_EXPIRED, 1

    generator = Generator(settings_for([node], clients=2, duration_s=30, history=tmp_path / "h"))
    run_while(generator, expire)
    read = read_history(tmp_path / "h")
    assert {each.why for each in read.requests if each.outcome == "unknown"} >= {"session_expired"}
    assert read.end is not None
    assert "unknown to the cluster" in read.end.problem


def test_refused_requests_and_sessions_say_so(make_nodes: MakeNodes, log: FakeLog, tmp_path: Path) -> None:
    (node,) = make_nodes(1)

    def refuse() -> None:
        time.sleep(0.2)
        node.refuse_status, node.refuse_count = ResponseStatus.STALE, 2

    result = run_while(Generator(settings_for([node], duration_s=0.4, history=tmp_path / "h")), refuse)
    stale = [each for each in read_history(tmp_path / "h").requests if each.outcome == "stale"]
    assert len(stale) == 2
    assert result.total.failed == sum(len(each.commands) for each in stale)
    node.refuse_status, node.refuse_count = ResponseStatus.BUSY, 1 << 60
    generator = Generator(settings_for([node], history=tmp_path / "h"))
    threading.Timer(0.3, generator.abort).start()
    with pytest.raises(NoLeader):
        generator.run()
    read = read_history(tmp_path / "h")
    assert (read.sessions, read.requests) == ([], [])
    assert read.end is not None
    assert "BUSY" in read.end.problem


def test_a_disk_that_is_full_ends_the_history_and_not_the_run(make_nodes: MakeNodes, log: FakeLog) -> None:
    result = Generator(settings_for(make_nodes(1), duration_s=0.5, history="/dev/full")).run()
    assert result.total.acknowledged == result.total.sent > 500
    assert "not whole" in result.history_problem
    assert result.history_problem in LoadReport(result).warnings


def test_a_file_that_can_not_be_written_stops_the_run_before_it_begins(make_nodes: MakeNodes, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be written"):
        Generator(settings_for(make_nodes(1), history=tmp_path / "no" / "h")).run()
    with pytest.raises(SettingsError, match="must be the path of a file"):
        settings_for(make_nodes(1), history=7)


@pytest.mark.parametrize("name", ["h", "h.gz"])
def test_a_file_that_was_cut_off_is_read_up_to_there(
    make_nodes: MakeNodes, log: FakeLog, tmp_path: Path, name: str
) -> None:
    Generator(settings_for(make_nodes(1), duration_s=0.3, history=tmp_path / name)).run()
    whole = read_history(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    part = read_history(tmp_path / name)
    assert part.end is None
    assert 0 < len(part.requests) < len(whole.requests)
    assert part.requests == whole.requests[: len(part.requests)]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no head"), ('{"type":"end"}\n', "line 1"), ("garbage\n", "line 1"), ('{"type":"nonsense"}\n', "line 1")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "h").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_history(tmp_path / "h")
    with pytest.raises(SettingsError, match="can't be read"):
        read_history(tmp_path / "nothing")


def test_a_later_version_is_refused(make_nodes: MakeNodes, tmp_path: Path) -> None:
    head = '{"type":"history","version":3,"name":"load","time_ns":1,"monotonic_ns":1,"settings":{}}\n'
    (tmp_path / "h").write_text(head)
    with pytest.raises(SettingsError, match="version 3"):
        read_history(tmp_path / "h")
