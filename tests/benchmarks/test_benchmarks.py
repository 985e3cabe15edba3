"""Every benchmark still runs and prints its table. Nothing here looks at a time: those belong to the reader."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from zmqlab.lab import run_folders

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "benchmarks"
TIMEOUT_S = 240.0
SHORT = ("--rate", "1000", "--seconds", "0.2", "--rounds", "1", "--highest", "0")


def run(name: str, *arguments: object, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """One benchmark, to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({} if path is None else {"PATH": path})
    command = [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)


def rows(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The cells of all tables in what was printed, heads included."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_does_and_how_to_run_it(path: Path) -> None:
    opening = path.read_text().split('"""')[1]
    is_part_of_others = path.stem in {"targets", "tables", "windows", "rival_servers"}
    assert is_part_of_others or re.search(rf"python (-m benchmarks\.|benchmarks/){path.stem}", opening)


@pytest.mark.long
@pytest.mark.process
def test_compare_takes_turns_and_writes_what_the_chart_draws(tmp_path: Path) -> None:
    """A checkout can be compared with itself: that takes the way of an old one."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("zmqlab", "benchmarks"):
        (other / name).symlink_to(ROOT / name)
    written = tmp_path / "compare.json"
    options = ("--rate", "1000", "--seconds", "1", "--rounds", "1", "--json", written, "--against", other)
    done = run("compare", "--targets", "echo,pipeline:1", *options)
    assert done.returncode == 0, done.stderr
    names = [row[0] for row in rows(done)]
    assert names[2:6] == ["echo", "echo, other tree", "pipeline:1", "pipeline:1, other tree"]
    assert names[-1] == "pipeline:1, saturation"
    measured = json.loads(written.read_text())
    assert {each["target"] for each in measured["candidates"]} == {"echo", "pipeline:1"}
    assert all(each["rounds"][0]["flooded"]["orders"] for each in measured["candidates"])
    drawn = tmp_path / "compare.svg"
    assert run("chart", written, drawn).returncode == 0
    bars = ElementTree.parse(drawn).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 3 * 4, "three panels, four candidates"


def test_a_step_of_the_timeline_that_ends_after_the_answer_is_counted() -> None:
    """A node on a busy core may lose it to the client that it has just answered."""
    sys.path.insert(0, str(FOLDER))
    try:
        timeline = importlib.import_module("timeline")
    finally:
        sys.path.remove(str(FOLDER))
    stamps = [
        (0, "wait", False),
        (10_000, "wait", True),
        (11_000, "answer", False),
        (12_000, "status", False),
        (12_500, "status", True),  # it found nothing to do
        (40_000, "answer", True),
    ]
    assert timeline.rows_of({"leader": timeline.steps_of(stamps)}, [(5_000, 20_000)]) == [
        ["leader, 1", "woken", "5", ""],
        ["leader, 1", "answer", "6", "29"],
    ]


@pytest.mark.long
@pytest.mark.process
def test_the_timeline_has_the_steps_of_both_ways() -> None:
    done = run("timeline", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    steps = {(row[0].split(",")[0], row[1]) for row in rows(done)}
    assert {("leader", "store"), ("leader", "publish"), ("follower", "store"), ("follower", "send to a peer")} <= steps
    assert {("leader", "answer"), ("follower", "answer")} <= steps, "through the leader, and through a follower"


@pytest.mark.long
@pytest.mark.process
def test_growth_with_the_depth_fills_the_books_first() -> None:
    done = run("growth", "depth", "--values", "3000", "--rounds", "1", "--seconds", "0.3", "--rate", "1000")
    assert done.returncode == 0, done.stderr
    assert rows(done)[-1][0] == "3,000"


@pytest.mark.long
@pytest.mark.process
def test_shards_are_compared_with_queues_of_one_length() -> None:
    sizes = ("--sizes", "1/1/0,1/2/0", "--outstanding", "2,4", "--rounds", "1", "--seconds", "0.3", "--rate", "500")
    done = run("shards", *sizes)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [row[0] for row in rows(done) if row[0].startswith("1 nodes")]
    assert names == [
        *(f"1 nodes, {groups}; {queue} requests" for queue in (2, 4) for groups in ("1 group", "2 groups")),
        *(f"1 nodes, {groups}" for groups in ("1 group", "2 groups")),
    ]


@pytest.mark.long
@pytest.mark.process
def test_endurance_ends_with_a_verdict_and_the_memory_of_each_process() -> None:
    done = run("endurance", "--rate", "1000", "--seconds", "2", "--nodes", "1", "--retain-mib", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 MiB of log retained" in done.stdout
    assert ["verdict", "passed"] in rows(done)
    told = {"node0", "load process", "mapped pages of files, all nodes", "journals of all nodes"}
    assert {row[0] for row in rows(done)[-4:]} == told


@pytest.mark.long
@pytest.mark.process
def test_the_ceiling_says_when_no_rate_is_good() -> None:
    done = run("ceiling", "--p99", "0.001", "--seconds", "0.3", "--nodes", "1", "--first", "1000")
    assert done.returncode == 1, done.stderr
    assert "none of these" in done.stdout
    assert [row[0][:2] for row in rows(done)[2:]] == ["no", "no"], "tried twice"


def test_a_rate_of_which_nothing_was_measured_is_not_good() -> None:
    """A search that saw no answer in its 0.3 s would have taken 0 for p99, and gone up for ever."""
    program = """
import ceiling
from argparse import Namespace
from targets import figures_of
search = ceiling.Search(Namespace(p99=10.0))
figures = dict.fromkeys(("orders", "offered_per_s", "unserved", "requests", "throughput", "cpu_s"), 0)
figures |= dict.fromkeys(("p50_ms", "p99_ms", "max_ms"), None) | {"late": False}
print(search.is_good(figures_of(figures, 1000.0, 0.0, 0)))
figures |= {"orders": 300, "requests": 300, "offered_per_s": 1000, "throughput": 1000, "p99_ms": 5.0}
print(search.is_good(figures_of(figures, 1000.0, 0.0, 0)))
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{FOLDER}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["False", "True"]


@pytest.mark.long
@pytest.mark.process
def test_one_order_alone_is_compared_with_a_bare_round_trip() -> None:
    done = run("one_order", "--rounds", "1", "--nodes", "1")
    assert done.returncode == 0, done.stderr
    assert rows(done)[2][::2] == ["bare round trip", "1.0"]


def test_rivals_that_are_not_installed_are_left_out_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    program = """
import sys, rival_servers, rivals
rival_servers.SBIN, sys.argv = "", ["rivals", "--only", "redis,nats"]
rivals.main()
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{FOLDER}", "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "Redis, WAIT 1 is left out: redis-server is not installed (apt-get install redis-server)." in done.stdout
    assert "NATS JetStream R3 is left out: nats-server is not installed (apt-get install nats-server)." in done.stdout


@pytest.mark.long
@pytest.mark.process
def test_rivals_run_this_project_by_its_promises() -> None:
    """The others run where they are installed; this one always is."""
    done = run("rivals", "--only", "zmqlab pipeline", *SHORT)
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(done)].count("zmqlab pipeline") == 2, "in both tables"


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_rivals_leave_nothing_behind(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed one left its folder for ever; now `zmqlab reap` removes it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, str(FOLDER / "rivals.py"), "--only", "zmqlab", "--seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        own = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(children := own.children(recursive=True)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(60)
    assert len(children) >= 4, "three nodes and a load"
    _, alive = psutil.wait_procs(children, 60)
    assert alive == []
    left = list(tmp_path.iterdir())
    assert left == run_folders.abandoned()
    assert len(left) == (number == signal.SIGKILL)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_that_starts_nodes_unwinds_when_it_is_told_to_end(path: Path) -> None:
    """At SIGTERM Python ends at once: folders of nodes stayed in the temporary folder."""
    source = path.read_text()
    starts_nodes = '__name__ == "__main__"' in source and re.search(r"(?<!def )\b(Cluster|running|members)\(", source)
    assert not starts_nodes or "unwind_at_sigterm()" in source


def test_the_pipeline_gives_each_order_an_id_of_its_own() -> None:
    """Batches of unlike sizes got overlapping ids, and the pool of the load client counted orders that it had not."""
    program = """
import bare_node
from zmqlab.wire import records
exchange = bare_node.NullExchange()
for count in (5, 3, 1):
    reports, _, _ = exchange.execute_packed(bytes(count * records.COMMAND.size), 0, 1)
    print([report.order_id for report in records.unpack_reports(reports)])
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{FOLDER}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["[1, 2, 3, 4, 5]", "[6, 7, 8]", "[9]"]


def test_a_sample_belongs_to_the_innermost_function_of_this_package(tmp_path: Path) -> None:
    program = """
import flames, pathlib, sys
path = pathlib.Path(sys.argv[1])
print(dict(flames.samples_by_part(path, False)))
print(dict(flames.samples_by_part(path, True)))
"""
    stacks = tmp_path / "node0.txt"
    stacks.write_text(
        "main (zmqlab/node/__main__.py:5);Node.turn (/x/zmqlab/node/loop.py:10);send (zmq/sugar/socket.py:7) 3\n"
        "main (zmqlab/node/__main__.py:5);<module> (runpy.py:1) 1\n<module> (runpy.py:1) 2\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{FOLDER}"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(stacks)], capture_output=True, text=True, env=environment, check=True
    )
    by_module, by_function = done.stdout.splitlines()
    assert by_module == "{'node.loop': 3, 'node.__main__': 1, 'interpreter, other libraries': 2}"
    assert by_function.startswith("{'node.loop: Node.turn': 3,")


def test_a_page_is_filled_with_what_its_commands_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- figures: python -c 'print(6 * 7)' -->", "<!-- end of figures -->"
    broken = "<!-- figures: python -c 'raise SystemExit(3)' -->"
    page.write_text(f"Above.\n{begin}\nold\n{end}\nBetween.\n{broken}\nold\n{end}\nBelow.\n")
    assert run("fill", page).returncode == 1, "one of them failed"
    assert page.read_text() == f"Above.\n{begin}\n\n42\n\n{end}\nBetween.\n{broken}\nold\n{end}\nBelow.\n"


def test_the_commands_of_the_page_on_performance_are_there() -> None:
    listed = run("fill", ROOT / "docs" / "performance.md", "--list").stdout.splitlines()
    assert len(listed) > 10
    for command in listed:
        assert (ROOT / command.split()[1]).is_file(), command
        assert f"`{command}`" in (ROOT / "docs" / "performance.md").read_text(), "the page shows it to its readers"


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("name", ["PySyncObj", "Redis", "etcd, no fsync", "NATS"])
def test_a_rival_runs_where_it_is_installed(name: str) -> None:
    done = run("rivals", "--only", name.partition(",")[0], *SHORT)
    if "is left out" in done.stdout:
        pytest.skip(done.stdout.partition("\n")[2].partition("\n")[0])
    assert done.returncode == 0, done.stderr
    assert any(row[0].startswith(name) for row in rows(done))
