"""When a page may be sent more: at most ten times a second, less when it is slow, nothing when nobody sees it.

Only news, a fault or an election, does not wait for its tenth of a second.

A page says that it is there, that it has painted a push, that it is hidden, that it is gone. What it says reaches this
process only while the kernel is free: a cell that runs for a minute delivers all of it a minute late. So silence means
two things, and the rules are

- a view that is hidden gets nothing, and a key frame when it is seen again;
- a view that is ``MAX_BEHIND`` pushes behind is slow, or the kernel is busy: a push every ``SLOW_S``;
- a view that has been silent for ``FORGET_S`` while the kernel was free is gone;
- before any view has spoken, one is taken to be there: the notebook may be in the middle of *Run All*. It is sent a key
  frame every ``KEY_S``, for it may come at any moment. ``NEWBORN_S`` bounds that, too.

The clock is handed in. Not thread-safe: its owner has a lock.
"""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL_S = 0.1
SLOW_S = 0.5
MAX_BEHIND = 12
"""Pushes; a page tells what it has painted twice a second, so five are ordinary."""
FORGET_S = 60.0
NEWBORN_S = 60.0
KEY_S = 2.0
EARLY_S = 0.02
"""The sampler's turns jitter: one that comes so much early is not put off to the next."""


@dataclass(slots=True)
class View:
    """One page, or one of several outputs, that shows a widget."""

    acknowledged: int
    """The last push that it has painted."""
    heard_s: float
    visible: bool = True


class Flow:
    """The state of all views of one widget."""

    def __init__(self, now_s: float) -> None:
        self.views: dict[str, View] = {}
        self._born_s = now_s
        self._spoken = False
        self._pushed_s = float("-inf")
        self._key_s = float("-inf")
        self._key_wanted = True

    def heard(self, view: str, what: str, sequence: int, now_s: float) -> None:
        """A view says ``ready``, ``painted``, ``gap``, ``hidden``, ``visible`` or ``gone``."""
        self._spoken = True
        if what == "gone":
            self.views.pop(view, None)
            return
        known = self.views.setdefault(view, View(sequence, now_s))
        known.heard_s = now_s
        known.acknowledged = max(known.acknowledged, sequence)
        if what in ("hidden", "visible"):
            known.visible = what == "visible"
        if what in ("ready", "visible", "gap"):
            known.acknowledged = sequence
            self._key_wanted = True

    def may_push(self, sequence: int, now_s: float, kernel_busy: bool, news: bool = False) -> bool:
        """Whether push number ``sequence`` may go out now."""
        since_s = now_s - self._pushed_s + EARLY_S
        if since_s < INTERVAL_S and not news:
            return False
        if not self._spoken:
            return kernel_busy or now_s - self._born_s < NEWBORN_S
        if not kernel_busy:
            self.views = {name: view for name, view in self.views.items() if now_s - view.heard_s < FORGET_S}
        seen = [view for view in self.views.values() if view.visible]
        if not seen:
            return False
        behind = sequence - min(view.acknowledged for view in seen)
        return behind <= MAX_BEHIND or since_s >= SLOW_S

    def pushed(self, now_s: float) -> bool:
        """A push goes out now: whether it has to be a key frame, whole and not just what is new."""
        self._pushed_s = now_s
        key = self._key_wanted or (not self._spoken and now_s - self._key_s >= KEY_S)
        if key:
            self._key_s = now_s
            self._key_wanted = False
        return key

    def want_key(self) -> None:
        """What is pushed has changed its shape."""
        self._key_wanted = True
