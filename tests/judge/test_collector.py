"""The log is collected while a run goes on: without a gap, from any node that has it; contradictions are found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.judge.run_history import FakeNode, History, failed, small_run
from tests.waiting import wait_for
from zmqlab import Cluster, LoadClient
from zmqlab.judge import log_collector as module
from zmqlab.judge.log_collector import CollectedLog, LogCollector, LogPrefix
from zmqlab.judge.replay import LogEntry
from zmqlab.judge.verdict import judge


@pytest.fixture(autouse=True)
def _small_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes of these tests give ten entries at a time."""
    monkeypatch.setattr(module, "OVERLAP", 4)


@dataclass
class Watched:
    living_endpoints: Sequence[str] = field(default_factory=list)


def endpoints(nodes: Sequence[FakeNode]) -> list[str]:
    return [node.endpoint for node in nodes]


def test_a_log_in_a_file_gives_back_what_was_put_in(run: History) -> None:
    log = CollectedLog()
    for entry in run.entries:
        assert log.append([entry])
    prefix = LogPrefix(log, len(run.entries))
    assert list(prefix) == run.entries
    assert (prefix[0], prefix[-1], prefix[3:6]) == (run.entries[0], run.entries[-1], run.entries[3:6])
    assert list(LogPrefix(log, 4)) == run.entries[:4]
    with pytest.raises(IndexError):
        LogPrefix(log, 4)[4]
    with pytest.raises(AssertionError, match="does not follow"):
        log.append([run.entries[0]])
    log.close()


def test_entries_come_and_are_read_together(run: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of the system for each entry was a third of the collector's work."""
    calls: list[str] = []
    for name in ("pread", "pwrite"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *told, real=real, name=name: calls.append(name) or real(*told))
    collector = LogCollector(Watched())
    assert collector.take(run.entries[:9], "node0")
    assert collector.take([*run.entries[4:12], *run.entries[13:15]], "node1"), "it has compacted entry 13"
    assert calls == ["pwrite", "pread", "pwrite"]
    assert (len(collector.log), collector.compared, collector.conflicts) == (12, 5, [])
    assert collector.log.between(3, 11) == run.entries[2:10]
    assert collector.log.between(1, 1) == []
    assert not collector.take(run.entries[:6], "node2")
    other = LogEntry(2, 7, run.entries[1].kind, b"other")
    assert not collector.take([run.entries[0], other], "node2")
    assert [conflict.known for conflict in collector.conflicts] == [run.entries[1]]
    collector.close()


def test_few_entries_are_asked_for_again_if_they_are_large(run: History) -> None:
    log = CollectedLog()
    assert log.index_before_end(5, 1_000) == 1
    for entry in run.entries:
        log.append([entry])
    count = len(run.entries)
    assert log.index_before_end(5, 10_000) == count - 4
    assert log.index_before_end(count + 5, 10_000) == 1
    assert log.index_before_end(5, 250) == count - 1, "two entries of 112 bytes fit"
    assert log.index_before_end(5, 10) == count + 1
    log.close()


def test_a_thread_collects_from_nodes_that_come_and_go(run: History, nodes: list[FakeNode]) -> None:
    whole = list(nodes[0].entries)
    nodes[0].entries, nodes[1].entries = whole[:12], whole[:7]
    nodes[2].entries, nodes[2].first_index = whole[20:], 21
    watched = Watched(["tcp://127.0.0.1:1"])
    with LogCollector(watched, poll_s=0.01) as collector:
        assert len(collector.log) == 0
        watched.living_endpoints = endpoints(nodes)
        assert wait_for(lambda: len(collector.log) == 12), "node 2 has compacted what comes next"
        nodes[1].entries = whole
        assert wait_for(lambda: len(collector.log) == len(whole))
        assert list(LogPrefix(collector.log, len(whole))) == whole
        assert wait_for(lambda: collector.compared > 30)
        assert not collector.conflicts


@pytest.mark.parametrize(
    "other",
    [lambda entry: entry._replace(term=2), lambda entry: entry._replace(data=entry.data[:-1] + b"?")],
    ids=["term", "data"],
)
def test_nodes_that_say_different_things_of_one_index_are_found(run: History, nodes: list[FakeNode], other) -> None:  # type: ignore[no-untyped-def]
    nodes[1].entries[25] = other(nodes[1].entries[25])
    collector = LogCollector(Watched(endpoints(nodes)))
    verdict = judge(endpoints(nodes), run.acknowledgements, settle_s=0.2, collector=collector)
    assert failed(verdict) == {"one log"}
    assert "index 26" in repr(verdict)
    collector.close()


def test_the_verdict_has_the_whole_log_though_every_journal_lost_its_beginning(
    run: History, nodes: list[FakeNode]
) -> None:
    whole = list(nodes[0].entries)
    collector = LogCollector(Watched())
    assert collector.take(whole[:20], "while it was there")
    for node in nodes:
        node.entries, node.first_index = whole[10:], 11
    assert failed(judge(endpoints(nodes), run.acknowledgements, settle_s=0.2)) == {"log complete"}
    verdict = judge(endpoints(nodes), run.acknowledgements, settle_s=0.2, collector=collector)
    assert verdict.ok, verdict
    assert "one log" in [check.name for check in verdict.checks]
    collector.close()


def test_what_was_collected_and_is_in_no_journal_any_more_fails_the_verdict(
    run: History, nodes: list[FakeNode]
) -> None:
    """A committed entry that a client was told of, and that the nodes replaced later, all of them alike."""
    collector = LogCollector(Watched())
    collector.take(nodes[0].entries, "before")
    last = nodes[0].entries[-1]
    for node in nodes:
        node.entries[-1] = LogEntry(last.log_index, 2, last.kind, b"")
    assert "one log" in failed(judge(endpoints(nodes), run.acknowledgements, settle_s=0.2, collector=collector))
    collector.close()


def test_a_full_file_is_no_complete_log(run: History, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.first_index, node.entries = 11, node.entries[10:]
    collector = LogCollector(Watched(), max_bytes=500)
    collector.take(run.entries, "all")
    assert collector.full
    assert 0 < len(collector.log) < len(run.entries)
    assert "log complete" in failed(judge(endpoints(nodes), run.acknowledgements, settle_s=0.2, collector=collector))
    collector.close()


def test_a_disk_without_room_ends_collecting_and_is_told(
    run: History, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was an error in the collector's thread, and the verdict knew of nothing."""

    def no_room(*_: object) -> int:
        raise OSError(28, "No space left on device")

    collector = LogCollector(Watched())
    collector.take(run.entries[:5], "while there was room")
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", no_room)
        collector.take(run.entries[5:], "then")
    assert collector.full
    for node in nodes:
        node.first_index, node.entries = 11, node.entries[10:]
    verdict = judge(endpoints(nodes), run.acknowledgements, settle_s=0.2, collector=collector)
    assert verdict.outcome == "not judged"
    assert "could not be collected any further: [Errno 28] No space left on device" in repr(verdict)
    collector.close()


def later_run(nodes: list[FakeNode]) -> History:
    """A client opens a session on nodes whose log is old already."""
    history = small_run(60)
    for node in nodes:
        node.entries, node.first_index = history.entries[10:40], 11
    return history


def test_a_log_whose_beginning_was_gone_is_collected_from_where_it_begins(run: History, nodes: list[FakeNode]) -> None:
    """It was not collected at all: a long run on old nodes could not be judged even with --allow-compacted."""
    history = later_run(nodes)
    watched = Watched(endpoints(nodes))
    with LogCollector(watched, poll_s=0.01) as collector:
        assert wait_for(lambda: collector.log.next_index == 41)
        assert list(LogPrefix(collector.log, 30)) == history.entries[10:40]
        assert LogPrefix(collector.log, 30)[-1] == history.entries[39]
        for node in nodes:
            node.entries, node.first_index = history.entries[35:], 36
            node.index, node.status.applied_index = len(history.entries), len(history.entries)
        assert wait_for(lambda: collector.log.next_index == len(history.entries) + 1)
        verdict = judge(
            endpoints(nodes), history.acknowledgements, settle_s=0.2, collector=collector, allow_compacted=True
        )
        assert "below index 11 are compacted away" in repr(verdict)
        assert "in the replicated log: 52 of 60 acknowledged requests; the others lie before the log" in repr(verdict)


def test_a_node_is_asked_again_at_once_only_if_there_is_more(
    run: History, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load there is always something new: it asked eight times in a row, each time for old entries as well."""
    asked: list[str] = []
    honest = module.ask_for_log
    monkeypatch.setattr(module, "ask_for_log", lambda *arguments: asked.append("") or honest(*arguments))
    collector = LogCollector(Watched(endpoints(nodes)))
    collector._look()
    assert len(asked) == 1
    monkeypatch.setattr(module, "PIECE_BYTES", 1_000)
    collector._look()
    assert len(asked) > 2
    collector.close()


def test_a_node_is_asked_on_one_connection_as_long_as_it_runs(run: History, nodes: list[FakeNode]) -> None:
    """Each question made a connection, which costs the node and this process more than the question does."""
    watched = Watched(endpoints(nodes))
    collector = LogCollector(watched)
    for _ in range(2 * len(nodes)):
        collector._look()
    assert [len(node.callers) > 1 for node in nodes] == [True] * len(nodes)
    assert [len(set(node.callers)) for node in nodes] == [1] * len(nodes)
    watched.living_endpoints = endpoints(nodes[1:])
    collector._look()
    assert len(collector._lines) == len(nodes) - 1, "libzmq would try to reach a node that has ended, for ever"
    collector.close()
    assert len(collector._lines) == 0


def test_a_collector_that_fell_behind_asks_seldom(run: History, nodes: list[FakeNode]) -> None:
    """Each question costs a node a piece of its log, although that is of no use."""
    collector = LogCollector(Watched(endpoints(nodes)))
    collector.take(run.entries[:5], "before")
    for node in nodes:
        node.first_index = 20
    assert not collector._look()
    nodes[1].first_index = 1
    assert collector._look()
    collector.close()


@pytest.mark.process
def test_every_node_is_wiped_in_turn_and_the_log_is_still_whole() -> None:
    with Cluster(3) as cluster, LogCollector(cluster) as collector:
        with LoadClient(cluster, rate=1_000, duration=None, collector=collector) as load:
            load.start()
            for name in cluster.nodes:
                cluster.wipe(name)
            load.stop()
            result = load.wait()
        assert result.verdict.ok, result.verdict
        assert {"one log", "nothing twice"} <= {check.name for check in result.verdict.checks}
        assert collector.compared > 0
