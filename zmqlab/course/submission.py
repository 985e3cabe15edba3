"""A person's code: loaded from its text, called, and stopped when it does not return.

Whatever is wrong with the code as code ends in :class:`Unusable`: it does not compile, lacks the name that the lab asks
for, raises, returns something else than it should, or does not come back. Its text names the line. It is a
BaseException, because the simulator takes each Exception for a failure of the code that it tests.

Theory of operation of :class:`Watch`. A timer counts the CPU time of this process, so that a busy machine makes no
false alarm. At each alarm the outermost frame of the person's code is looked for on the stack. The same frame at
:data:`ALARMS` alarms in a row has used that much time without returning.

Left out on purpose: protection against code that means harm. A person runs their own code on their own machine.
"""

from __future__ import annotations

import inspect
import linecache
import signal
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from zmqlab.sim.checkers import Violation

ALARM_S = 0.5
ALARMS = 4
"""Two seconds of CPU time. A call takes microseconds, and a whole run a tenth of a second."""


class Unusable(BaseException):  # noqa: N818, RUF100
    """The code can't be graded; the text says why, with the line."""


class Submission:
    """The code of one person."""

    def __init__(self, source: str, label: str) -> None:
        """Compile and run the text, whose lines are told as those of ``label``. Raises Unusable."""
        self.label = label
        self.source = source
        linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
        self._names: dict[str, Any] = {"__name__": "submission", "__file__": label}
        try:
            code = compile(source, label, "exec")
        except (SyntaxError, ValueError) as error:
            raise Unusable(_of_syntax(error)) from None
        self.call(exec, code, self._names)

    def find(self, name: str, kind: str) -> Any:
        """What the code calls ``name``. Raises Unusable."""
        if name not in self._names:
            own = [key for key, value in self._names.items() if getattr(value, "__module__", "") == "submission"]
            raise Unusable(f"there is no {kind} {name}: the grader looks for it{_instead(own)}")
        found = self._names[name]
        is_right = inspect.isclass(found) if kind == "class" else callable(found)
        if not is_right:
            raise Unusable(f"{name} is no {kind}: it is {found!r:.60}")
        return found

    def expect_parameters(self, name: str, function: Callable[..., Any], wanted: tuple[str, ...]) -> None:
        """Raise Unusable unless ``function`` can be called with so many arguments."""
        try:
            inspect.signature(function).bind(*wanted)
        except TypeError:
            has = inspect.signature(function)
            raise Unusable(f"{name}{has} can't be called as {name}({', '.join(wanted)})") from None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a part of the code. What the checkers object to passes; all else that it raises is Unusable."""
        try:
            return function(*arguments)
        except Violation:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise Unusable(self._place_of(error)) from None

    def returned(self, name: str, value: object, wanted: type) -> Any:
        """``value`` if it is of the type ``wanted``. Raises Unusable."""
        if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
            return value
        if value is None:
            raise Unusable(f"{name} returns nothing: it has to return {_a(wanted)}. Is it written yet?")
        raise Unusable(f"{name} returns {value!r:.60}: it has to return {_a(wanted)}")

    def _place_of(self, error: BaseException) -> str:
        """Line, function, error and the line's text, of the last frame that is the person's own."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.label]
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        if not frames:
            return said
        last = frames[-1]
        where = "" if last.name == "<module>" else f", in {last.name}"
        return f"line {last.lineno}{where}: {said}\n    {last.line}"


def _of_syntax(error: SyntaxError | ValueError) -> str:
    if not isinstance(error, SyntaxError):
        return f"it is no Python: {error}"
    text = (error.text or "").strip()
    return f"line {error.lineno}: {error.msg}" + (f"\n    {text}" if text else "")


def _instead(names: list[str]) -> str:
    return f", and finds {', '.join(names)}" if names else ""


def _a(wanted: type) -> str:
    return {bool: "True or False", int: "a whole number", list: "a list"}.get(wanted, wanted.__name__)


class Watch:
    """While it is open, code that does not return is stopped; only in the main thread of a process."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._seen: FrameType | None = None
        self._times = 0

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGVTALRM, self._look)
        signal.setitimer(signal.ITIMER_VIRTUAL, ALARM_S, ALARM_S)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self._before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        own = [each for each, _ in traceback.walk_stack(frame) if each.f_code.co_filename == self._label]
        outermost = own[-1] if own else None
        self._times = self._times + 1 if outermost is self._seen and outermost is not None else 1
        self._seen = outermost
        if outermost is not None and self._times >= ALARMS:
            line, name = own[0].f_lineno, own[0].f_code.co_name
            text = linecache.getline(self._label, line).strip()
            where = "" if name == "<module>" else f", in {name}"
            raise Unusable(f"line {line}{where}: it does not come back. Is it a loop without an end?\n    {text}")
