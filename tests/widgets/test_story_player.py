"""Stories for a class: the question, the hands, the captions, and the answer at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances as all_widgets

from tests.widgets.fake_cluster import FakeCluster
from zmqlab.errors import SettingsError
from zmqlab.scenarios.expectations import Met
from zmqlab.scenarios.predictions import Show
from zmqlab.scenarios.scenario_file import Scenario, stories
from zmqlab.scenarios.scenario_run import Line, ScenarioResult
from zmqlab.widgets import Stories


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(scenario: Scenario, tell: Any, on_start: Any) -> ScenarioResult:
        cluster = FakeCluster()
        on_start(cluster)
        cluster.stop()
        tell(Line(1.0, "the <network> breaks", is_caption=True))
        tell(Line(1.1, "partition leader cut off"))
        return ScenarioResult(scenario.name, scenario.teaches, 1, [], [Met("gap < 1s", True, "gap 3 ms")], {})

    monkeypatch.setattr(Scenario, "run", run)


def test_there_are_four_stories_and_each_has_captions() -> None:
    assert stories() == ["lost-disk", "slow-follower", "split-brain", "unlucky-leader"]
    for name in stories():
        assert sum(bool(step.caption) for step in Scenario.read(name).steps) >= 3


@pytest.mark.usefixtures("played")
def test_a_question_is_asked_hands_are_counted_and_the_answer_stands_at_the_end() -> None:
    player = Stories()
    player.choose("split-brain")
    assert player.show is not None
    assert player.result is None  # it is not played yet
    assert "Who can promise an order" in player._question.value
    for place in (0, 1, 1):
        player.count(place)
    said = [button.description.partition("\N{EM DASH}")[2].strip() for button in player._choices.children[:4]]
    assert said == ["1 hand", "2 hands", "", ""]
    shown: list[str] = []
    player._stage.observe(lambda change: shown.append(", ".join(map(repr, change["new"]))), "children")
    player.play().join(60)
    assert player.result is not None
    assert shown == ["ClusterPicture()", ""], "its cluster is to be seen while it is played"
    assert [button.button_style for button in player._choices.children[:4]] == ["", "success", "", ""]
    assert "B: only a leader that the two others elect. 2 of 3 said so." in player._caption.value
    assert not player._buttons[0].disabled
    player.close()


@pytest.mark.usefixtures("played")
def test_a_story_may_have_shards(tmp_path: Path) -> None:
    """Its steps name groups, and its picture is that of any cluster with several."""
    file = tmp_path / "one-of-four.yaml"
    file.write_text(
        "teaches: A group.\ncluster: {nodes: 3, shards: 4}\nload: {rate: 100, duration: 5s}\n"
        "predict: {ask: Who waits, choices: [all clients, those of group 3], right: 2, because: Others lead.}\n"
        "steps:\n  - {at: 1s, caption: Group 3 loses its leader., fault: kill leader, group: 3, for: 1s}\n"
        "expect: [group3.gap < 2s]\n"
    )
    player = Stories([file])
    player.choose("one-of-four")
    player.play().join(10)
    assert player.result is not None
    assert "B: those of group 3." in player._caption.value
    player.close()


@pytest.mark.usefixtures("played")
def test_without_a_question_one_click_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    player = Stories(["unlucky-leader"])
    player._first.value = False
    player._caption.observe(lambda change: seen.append(change["new"]), "value")
    threads: list[Any] = []
    play = player.play
    monkeypatch.setattr(player, "play", lambda: threads.append(play()))
    player._buttons[0].click()
    threads[0].join(60)
    assert player.result is not None
    assert player._choices.children == ()
    assert any("the &lt;network&gt; breaks" in value for value in seen)
    player.close()


@pytest.mark.usefixtures("played")
def test_what_is_closed_leaves_no_widget_open() -> None:
    before = dict(all_widgets)
    player = Stories(["split-brain"])
    player.choose("split-brain")
    player.choose("split-brain")
    player.close()
    assert all_widgets == before


def test_a_show_without_hands_tells_what_is_right() -> None:
    prediction = Scenario.read("lost-disk").predict
    assert prediction is not None
    assert Show(prediction).result().startswith("B: no, it has forgotten")
    assert "said so" not in Show(prediction).result()


def test_a_file_that_is_wrong_leaves_nothing_half_made(tmp_path: Path) -> None:
    """The widget that was being made was closed later on, and failed for want of its parts: an error of no cause."""
    file = tmp_path / "wrong.yaml"
    file.write_text("teaches: [")
    made = Stories.__new__(Stories)
    with pytest.raises(SettingsError, match="it is not YAML"):
        Stories.__init__(made, [file])
    made.close()
