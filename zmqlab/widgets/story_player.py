"""Stories for a class: one click plays one, with captions that are read from the back of a room.

A story is a scenario with a question and captions (:mod:`zmqlab.scenarios.predictions`). With *predict first* a click
on a story asks the question. Each click on a choice counts one hand, and *play* plays: the choices make room for the
live picture of the story's cluster. At the end stand the right answer, why it is right, and how many had it.

A run is that of :class:`~zmqlab.widgets.scenario_runner.ScenarioRunner`: real processes, in a thread of their own.
Rules: only one story runs at a time, and nothing is decided here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from zmqlab.errors import ZmqlabError
from zmqlab.scenarios.predictions import Show, letter
from zmqlab.scenarios.scenario_file import Scenario, stories
from zmqlab.scenarios.scenario_run import Line, ScenarioResult
from zmqlab.tables import html_table
from zmqlab.widgets.cluster_picture import ClusterPicture
from zmqlab.widgets.courier import close_rest

CAPTION = "font-size: 26px; line-height: 1.35; min-height: 2.7em; margin: 10px 0; max-width: 46em"
QUESTION = "font-size: 22px; line-height: 1.35; margin: 10px 0 4px; max-width: 46em"
STYLE = """<style>
.zl-choice { width: auto !important; max-width: 46em; height: auto !important; white-space: normal !important;
  text-align: left !important; font-size: 20px; line-height: 1.4; padding: 4px 14px; }
.zl-play { width: auto !important; height: auto !important; align-self: flex-start; font-size: 20px; line-height: 1.4;
  padding: 4px 28px; }
.zl-choice.mod-success { font-weight: 600; }
</style>"""
"""A choice is read from the back of a room, and begins at the left, as its letter does."""


class Stories(ipywidgets.VBox):
    """A button for each story: ``Stories()`` as a cell's last line.

    Args:
        paths: files or names of scenarios; by default all shipped ones that ask a question.

    Raises:
        SettingsError: one of them is no scenario; the message says what is wrong with it.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        self._open: list[Any] = []
        """What is closed with it."""
        self._stories = {each.name: each for each in map(Scenario.read, paths or stories())}
        self.result: ScenarioResult | None = None
        """Of the last story that has ended."""
        self.show: Show | None = None
        """The hands for the story that was chosen."""
        self._chosen: Scenario | None = None
        self._story: list[Line] = []
        self._buttons = [self._button(name.replace("-", " "), partial(self.choose, name)) for name in self._stories]
        self._first = ipywidgets.Checkbox(value=True, description="predict first", indent=False)
        self._question, self._choices = ipywidgets.HTML(), ipywidgets.VBox()
        self._caption, self._told = ipywidgets.HTML(), ipywidgets.HTML()
        self._picture: ClusterPicture | None = None
        """Of the cluster of the story that is played."""
        self._stage = ipywidgets.VBox()
        bar = ipywidgets.HBox([*self._buttons, self._first])
        parts = [bar, self._question, self._choices, self._caption, self._stage, self._told]
        self._open += [self._first, *parts]
        super().__init__(children=parts)

    def choose(self, name: str) -> None:
        """What a click on a story does: ask its question, or play it."""
        self._chosen = self._stories[name]
        self._caption.value = self._told.value = ""
        self._show(None)
        predict = self._chosen.predict
        if predict is None or not self._first.value:
            self.show, self._question.value = None, ""
            self._offer([])
            self.play()
            return
        self.show = Show(predict)
        self._question.value = f'{STYLE}<div style="{QUESTION}">{escape(predict.ask)}</div>'
        hands = [self._button(self._label(place), partial(self.count, place)) for place in range(len(predict.choices))]
        for hand in hands:
            hand.add_class("zl-choice")
        play = self._button("play", self.play, style="primary")
        play.add_class("zl-play")
        self._offer([*hands, play])

    def count(self, place: int) -> None:
        """One more hand for a choice."""
        assert self.show is not None
        self.show.counts[place] += 1
        self._choices.children[place].description = self._label(place)

    def play(self) -> threading.Thread:
        """Play the story that was chosen, in a thread."""
        assert self._chosen is not None
        self._enable(False)
        self._show(None)
        self._choices.layout.display = "none"
        self._story, self.result = [], None
        thread = threading.Thread(target=self._play, args=(self._chosen,), daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Take it from the page; a story that is played goes on to its end."""
        if self._open:  # empty while it is not whole, as when a file is wrong
            self._offer([])
            self._show(None)
        for part in self._open:
            part.close()
            close_rest(part)
        super().close()
        close_rest(self)

    def _play(self, story: Scenario) -> None:
        try:
            self.result = story.run(self._hear, on_start=lambda cluster: self._show(ClusterPicture(cluster)))
            self._told.value = self.result._repr_html_()
            self._caption.value = self._answer()
            if self.show is not None:
                self._choices.children[self.show.prediction.right].button_style = "success"
        except ZmqlabError as error:
            self._told.value = f"<p>{escape(story.name)} did not run: {escape(str(error))}</p>"
        finally:
            self._show(None)  # all its nodes have ended, and no part of the story killed them
            self._choices.layout.display = ""
            self._enable(True)

    def _show(self, picture: ClusterPicture | None) -> None:
        """Put the picture of a cluster in the place of the last one."""
        before, self._picture = self._picture, picture
        self._stage.children = () if picture is None else (picture,)
        if before is not None:
            before.close()

    def _answer(self) -> str:
        return f'<div style="{CAPTION}">{escape(self.show.result())}</div>' if self.show is not None else ""

    def _hear(self, line: Line) -> None:
        if line.is_caption:
            self._caption.value = f'<div style="{CAPTION}">{escape(line.text)}</div>'
            return
        self._story.append(line)
        self._told.value = html_table(
            ("time, s", "what happened"), [(f"{each.at_s:.2f}", each.text) for each in self._story]
        )

    def _label(self, place: int) -> str:
        assert self.show is not None
        hands = self.show.counts[place]
        counted = f"  \N{EM DASH}  {hands} hand{'s' * (hands != 1)}" if hands else ""
        return f"{letter(place)}:  {self.show.prediction.choices[place]}{counted}"

    def _offer(self, buttons: list[Any]) -> None:
        """Show the choices of another question; those of the last one are closed."""
        before, self._choices.children = self._choices.children, buttons
        for button in before:
            self._open.remove(button)
            button.close()
            close_rest(button)

    def _enable(self, on: bool) -> None:
        for button in (*self._buttons, *self._choices.children, self._first):
            button.disabled = not on

    def _button(self, text: str, act: Any, style: str = "") -> Any:
        button = ipywidgets.Button(description=text, button_style=style)
        button.layout.width = "auto"
        button.on_click(lambda _: act())
        self._open.append(button)
        return button

    def __repr__(self) -> str:
        return f"Stories({', '.join(self._stories)})"
