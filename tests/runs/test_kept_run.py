"""Runs that are kept: written whole or not at all, for their user alone, read with suspicion, judged again."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from tests.judge.run_history import small_run
from tests.judge.test_group_verdict import evidence_of, judged
from tests.runs.recorded import MONOTONIC_NS, MS, START_NS, S, judged_run
from zmqlab import Run
from zmqlab.errors import ClusterError, RunUnreadable, SettingsError
from zmqlab.judge.evidence import LogPiece
from zmqlab.judge.promises import NodeEvidence
from zmqlab.lab.cluster import Cluster
from zmqlab.lab.load_client import LoadClient
from zmqlab.load.load_messages import OpenOutcome
from zmqlab.load.run_record import read_ledger
from zmqlab.runs import kept_files
from zmqlab.runs.kept_files import of_fields
from zmqlab.runs.kept_list import kept_in
from zmqlab.runs.kept_run import expect_room
from zmqlab.runs.run_bands import silences_of
from zmqlab.runs.run_pages import verdict_table


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Run.keep(judged_run(), tmp_path_factory.mktemp("original"), "test").folder


@pytest.fixture
def kept(original: Path, tmp_path: Path) -> Run:
    """A kept run that a test may damage."""
    runs = tmp_path / "runs"
    runs.mkdir(0o700)
    return Run.read(shutil.copytree(original, runs / original.name))


def test_a_run_is_read_as_it_was_kept(kept: Run, tmp_path: Path) -> None:
    run = Run.read(kept.folder)
    [repetition] = run.repetitions
    assert run.outcome == "passed", repetition.verdict
    assert run.folder.parent == tmp_path / "runs"
    assert run.about.cluster == {"nodes": 3, "durability": "os", "keys": False}
    assert run.settings["load.rate"] == 500
    assert run.about.machine["cores"] >= 1
    assert {"python", "zmqlab", "libzmq", "pyzmq"} <= run.about.versions.keys()
    assert repetition.report.throughput == 10, "60 orders in six seconds"
    assert repetition.elections == 2
    assert [each.ok for each in repetition.thresholds] == [True]
    assert [each.acknowledged for each in repetition.seconds] == [500, 500, 250, 500, 500, 500]
    assert repetition.seconds[2].response_p99_ms > repetition.seconds[1].response_p99_ms  # type: ignore[operator]
    assert [event.label for event in repetition.events if event.label] == [
        "node0 leads, term 1",
        "node0 killed",
        "node1 leads, term 2",
        "node0 restarted",
    ]
    [card] = repetition.faults.cards
    assert (card.title, card.led, card.new_leader, card.lost) == ("node0 killed", True, "node1", "0")
    assert card.elected_ms == pytest.approx(220)
    [silence] = [band for band in repetition.faults.bands if band.label == "no answer"]
    assert silence.end_ns is not None
    assert (silence.end_ns - silence.start_ns) / 1e9 == pytest.approx(0.5, abs=0.1)
    assert "verdict: PASSED" in repr(run)


@pytest.mark.parametrize("groups", [[], [0, 1]])
def test_a_silence_that_never_ends_reaches_to_the_end_of_the_run(groups: list[int]) -> None:
    outcome = judged_run(kill_at_s=None).result.report.result
    outcome.client_groups = groups
    answered = [row for row in read_ledger(outcome.ledger) if row["completed_ns"] < MONOTONIC_NS + 2 * S]
    outcome.ledger = b"".join(row.tobytes() for row in answered)
    assert [span for span in silences_of(outcome) if span.start_ns > START_NS + S] == []
    last_ns = int(answered[-1]["completed_ns"])
    outcome.open_requests = [OpenOutcome(2, 99, 2, last_ns + 100 * MS), OpenOutcome(2, 98, 2, last_ns - 10 * MS)]
    [silence] = [span for span in silences_of(outcome) if span.start_ns > START_NS + S]
    assert silence.start_ns == last_ns + START_NS - MONOTONIC_NS
    assert silence.end_ns == START_NS + 6 * S
    outcome.ledger = b""
    [silence] = silences_of(outcome)
    assert (silence.label, silence.end_ns) == ("no answer of group 0" if groups else "no answer", START_NS + 6 * S)


def test_other_tools_read_the_series_and_the_histograms(kept: Run) -> None:
    folder = kept.folder / "1"
    with open(folder / "seconds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (folder / "seconds.jsonl").read_text().splitlines()]
    assert [float(row["response_p99_ms"]) for row in rows] == [line["response_p99_ms"] for line in lines]
    whole = HdrHistogram(1, 2**42, 2)
    reader = HistogramLogReader(str(folder / "latency.hlog"), HdrHistogram(1, 2**42, 2))
    while (interval := reader.get_next_interval_histogram()) is not None:
        if interval.tag == "response_time":
            whole.add(interval)
    reader.close()
    assert whole.total_count == kept.response_histogram.count
    assert whole.get_value_at_percentile(99) == pytest.approx(kept.response_histogram.percentile(99), rel=0.02)


def test_a_kept_folder_is_for_its_user_alone(kept: Run) -> None:
    paths = [kept.folder.parent, *kept.folder.parent.rglob("*")]
    assert {path.name: path.stat().st_mode & 0o077 for path in paths if path.stat().st_mode & 0o077} == {}


def test_the_verdict_is_passed_again_on_what_was_kept(kept: Run) -> None:
    [repetition] = kept.repetitions
    assert repetition.judge().as_dict() == repetition.verdict.as_dict()


def test_the_verdict_of_an_older_version_is_read_without_what_it_did_not_know() -> None:
    told = NodeEvidence("node0", 7, "a", "b", 30)
    assert of_fields(NodeEvidence, {name: value for name, value in told._asdict().items() if name != "voters"}) == told
    with pytest.raises(RunUnreadable, match="no NodeEvidence"):
        of_fields(NodeEvidence, {"name": "node0"})


def test_the_verdict_on_each_of_several_groups_is_kept_and_shown(tmp_path: Path) -> None:
    histories = {group: small_run(seed=group + 1) for group in range(3)}
    del histories[2].entries[20]
    verdict = judged(histories)
    run = judged_run()
    run.result.verdict = verdict
    [repetition] = Run.keep(run, tmp_path).repetitions
    again = repetition.verdict
    assert again == verdict
    assert (again.commands, list(again.groups)) == (verdict.commands, [0, 1, 2])
    assert "\n  groups: 1 failed (2), 2 passed\n" in repr(again)
    page = verdict_table(again)
    assert "Groups: 1 failed (2), 2 passed." in page
    for group, each in verdict.groups.items():
        assert f"group {group}: {each.outcome}" in page
        assert f"<td>{group}</td><td>node0</td><td>{each.nodes[0].log_index}</td>" in page


def test_a_verdict_that_was_kept_without_groups_is_read(kept: Run) -> None:
    result = kept.folder / "1" / "result.json"
    told = json.loads(result.read_text())
    del told["verdict"]["groups"], told["verdict"]["commands"]
    result.write_text(json.dumps(told))
    contents = json.loads((result.parent / "contents.json").read_text())
    contents["result.json"] = {"bytes": result.stat().st_size, "crc32": crc32(result.read_bytes())}
    (result.parent / "contents.json").write_text(json.dumps(contents))
    assert Run.read(kept.folder).repetitions[0].verdict.outcome == "passed"


def test_a_lost_order_is_found_again(tmp_path: Path) -> None:
    history = small_run()
    del history.entries[20]
    run = Run.keep(judged_run(history=history), tmp_path)
    assert run.outcome == run.repetitions[0].judge().outcome == "failed"


def test_a_log_that_is_too_large_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "LOG_BYTES_MAX", 1_000)
    run = Run.keep(judged_run(), tmp_path)
    assert run.outcome == "passed", "the verdict that was passed stays"
    assert not (run.folder / "1" / "log.gz").exists()
    again = run.repetitions[0].judge()
    assert again.outcome == "not judged"
    assert "the log was not kept" in repr(again)


def test_the_logs_of_several_groups_share_one_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with more than an even share of the orders has more than an even share of the room."""
    groups = {number: evidence_of(small_run(seed=number + 1), number) for number in (0, 1)}
    groups[1] = replace(groups[1], log=LogPiece(1, groups[1].log.entries[:3]))  # type: ignore[union-attr]
    sizes = [sum(len(entry.data) for entry in each.log.entries) for each in groups.values()]  # type: ignore[union-attr]
    run = judged_run()
    run = replace(run, evidence=replace(run.evidence, log=None, groups=groups))
    assert sizes[0] > sum(sizes) // 2
    monkeypatch.setattr(kept_files, "LOG_BYTES_MAX", sum(sizes))
    folder = Run.keep(run, tmp_path).folder / "1"
    assert {path.name for path in folder.glob("log*.gz")} == {"log-0.gz", "log-1.gz"}
    monkeypatch.setattr(kept_files, "LOG_BYTES_MAX", sum(sizes) - 1)
    folder = Run.keep(run, tmp_path).folder / "1"
    assert {path.name for path in folder.glob("log*.gz")} == {"log-0.gz"}
    assert "the groups' logs together would be larger" in (folder / "evidence-1.json").read_text()


def test_repetitions_come_into_one_folder(kept: Run) -> None:
    kept.add(judged_run(slow=3, seed=2))
    kept.add(judged_run(slow=2, seed=3))
    run = Run.read(kept.folder)
    assert [each.number for each in run.repetitions] == [1, 2, 3]
    middle, low, high = run.spread(lambda each: each.report.response_time.p50_ms)
    assert low == run.repetitions[0].report.response_time.p50_ms
    assert low < middle == run.repetitions[2].report.response_time.p50_ms < high
    assert run.response_histogram.count == 3 * 6 * 200
    assert "3 repetitions" in run.title


def test_runs_are_listed_and_what_is_damaged_is_named(kept: Run) -> None:
    parent = kept.folder.parent
    other = Run.keep(judged_run(), parent, "test")
    assert other.folder != kept.folder, "two runs of one second"
    (other.folder / "1" / "result.json").write_text("{}")
    (parent / "something else").mkdir()
    (parent / ".new-left-by-a-crash").mkdir()
    found = kept_in(parent)
    assert [run.folder for run in found] == [kept.folder]
    [problem] = found.problems
    assert "result.json is not as it was written" in problem
    assert str(kept.folder) in repr(found)
    with pytest.raises(SettingsError, match="is no folder"):
        kept_in(parent / "nowhere")


def read_all(folder: Path) -> None:
    for each in Run.read(folder).repetitions:
        assert each.seconds
        assert each.events
        assert each.faults
        each.judge()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize(
    "name", ["result.json", "seconds.jsonl", "events.jsonl", "faults.json", "evidence.json", "ledger.gz", "log.gz"]
)
def test_damage_is_one_clear_line(kept: Run, name: str, damage: Callable[[Path], None]) -> None:
    path = kept.folder / "1" / name
    damage(path)
    with pytest.raises(RunUnreadable) as raised:
        read_all(kept.folder)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (None, "is no kept run: it has no run.json"),
        ("hello", "no file of a kept run, or is damaged"),
        ('{"name": "another tool"}', "no file of a kept run, or is damaged"),
        ('{"format": 2}', "no file of a kept run, or is damaged"),
    ],
)
def test_a_foreign_folder_is_one_clear_line(tmp_path: Path, about: str | None, message: str) -> None:
    if about is not None:
        (tmp_path / "run.json").write_text(about)
    with pytest.raises(RunUnreadable, match=message):
        Run.read(tmp_path)


def test_a_newer_format_says_so(kept: Run) -> None:
    about = json.loads((kept.folder / "run.json").read_text())
    (kept.folder / "run.json").write_text(json.dumps(about | {"format": 9}))
    with pytest.raises(RunUnreadable, match="newer zmqlab: its format is 9"):
        Run.read(kept.folder)


def test_evidence_that_is_cut_inside_its_wrapping_is_damaged(kept: Run) -> None:
    """Its checksum fits, as after a mistake of a writer."""
    folder = kept.folder / "1"
    for name in ("ledger.gz", "log.gz"):
        whole = (folder / name).read_bytes()
        data = gzip.compress(gzip.decompress(whole)[:-3])
        (folder / name).write_bytes(data)
        contents = json.loads((folder / "contents.json").read_text())
        contents[name] = {"bytes": len(data), "crc32": crc32(data)}
        (folder / "contents.json").write_text(json.dumps(contents))
        with pytest.raises(RunUnreadable, match=f"{name} is damaged: its last .* is cut"):
            Run.read(kept.folder).repetitions[0].judge()
        (folder / name).write_bytes(whole)
        contents[name] = {"bytes": len(whole), "crc32": crc32(whole)}
        (folder / "contents.json").write_text(json.dumps(contents))


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_crash_while_it_is_written_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip.GzipFile, "write", full)
    with pytest.raises(SettingsError, match=r"can't be kept in .*No space left on device"):
        Run.keep(judged_run(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_noticed_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder can still be made there, and so a run of an hour ended without having been kept."""
    expect_room(tmp_path / "runs")
    assert os.listdir(tmp_path / "runs") == []
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingsError, match=r"can't be kept in .*No space left on device"):
        expect_room(tmp_path / "runs")
    assert os.listdir(tmp_path / "runs") == []


def test_what_can_not_be_kept_says_why(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"load\.wait\(\) ends with its verdict"):
        Run.keep(LoadClient(Cluster(1)), tmp_path)
    with pytest.raises(SettingsError, match="name it with letters"):
        Run.keep(judged_run(), tmp_path, "../elsewhere")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="Name another folder"):
        Run.keep(judged_run(), tmp_path / "file")
