"""Values as a person wrote them, each with its place: the file, the line, and the way to it.

A scenario is a small file that people write, and they make mistakes. So every value is looked at through a
:class:`Written`, which knows where it stands. An error is one line: the place, what is wrong there, and what is
possible instead.

YAML is read with PyYAML's safe loader: no tag makes an object of Python. Two things that YAML allows are refused.
A key that stands twice in one mapping would silently hide the first. An alias (``*name``) would make a small file large
without end.

Left out on purpose: what the values mean (:mod:`zmqlab.scenarios.scenario_file`).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from zmqlab.errors import SettingsError
from zmqlab.settings import parse_duration

Way = tuple[str | int, ...]
"""The keys and the positions that lead to a value."""
PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, slots=True)
class Source:
    """Where values come from."""

    name: str
    """Of the file, or of what stands for one."""
    lines: Mapping[Way, int]
    """The line of each value, from 1 on; empty for values that no text holds."""


@dataclass(frozen=True, slots=True)
class Written:
    """A plain value, and where it stands."""

    value: Any
    source: Source
    path: Way = ()

    @property
    def place(self) -> str:
        """For people, as in ``kill.yaml, line 12, step 3, fault``."""
        line = self.source.lines.get(self.path)
        return ", ".join([self.source.name, *([f"line {line}"] if line else []), *_way(self.path)])

    def wrong(self, why: object) -> SettingsError:
        """The error that says what is wrong here."""
        return SettingsError(f"{self.place}: {why}")

    def unknown(self, what: str, known: Collection[str]) -> SettingsError:
        """The error for a value that is none of ``known``; ``what`` is as in "no fault is called"."""
        return self.wrong(f"{what} {self.value!r}: {choices(str(self.value), known)}")

    def entries(self, known: Collection[str] = ()) -> dict[str, Written]:
        """The values of a mapping by key. Raises SettingsError unless it is one, and its keys are among ``known``."""
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"it is {_shown(self.value)}: write keys and values, of {', '.join(known)}")
        found = {}
        for key, value in self.value.items():
            entry = Written(value, self.source, (*self.path, str(key)))
            if known and key not in known:
                raise entry.wrong(f"there is no {key!r}: {choices(str(key), known)}")
            found[str(key)] = entry
        return found

    def items(self) -> list[Written]:
        """The values of a list. Raises SettingsError unless it is one."""
        if not isinstance(self.value, list | tuple):
            raise self.wrong(f"it is {_shown(self.value)}: write a list")
        return [Written(value, self.source, (*self.path, index)) for index, value in enumerate(self.value)]

    def text(self) -> str:
        """A line of text, without the space around it. Raises SettingsError unless it is text."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong(f"it is {_shown(self.value)}: write text")
        return " ".join(self.value.split())

    def duration_s(self) -> float:
        """Seconds. Raises SettingsError unless it is a duration or 0."""
        if self.value in (0, "0", "0s") and not isinstance(self.value, bool):
            return 0.0
        try:
            return parse_duration(self.value)
        except SettingsError as error:
            raise self.wrong(error) from None

    def number(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``. Raises SettingsError."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not low <= self.value <= high:
            raise self.wrong(f"it is {_shown(self.value)}: write a number from {low:g} to {high:g}")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``. Raises SettingsError."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.wrong(f"it is {_shown(self.value)}: write a whole number from {low} to {high}")
        return self.value


def choices(wanted: str, known: Collection[str]) -> str:
    """What is possible, with the nearest first if there is one that is meant."""
    near = difflib.get_close_matches(wanted, known, 1)
    meant = f"{near[0]!r} perhaps; " if near else ""
    return f"{meant}there is {', '.join(known)}"


def read_yaml(text: str, name: str) -> Written:
    """The values of a YAML document. Raises SettingsError if it is none."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SettingsError(_not_yaml(name, error)) from None
    if root is None:
        raise SettingsError(f"{name}: the file is empty")
    lines: dict[Way, int] = {}
    loader = yaml.SafeLoader("")
    try:
        value = _value(root, (), loader, lines, name, set())
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(_not_yaml(name, error)) from None
    finally:
        loader.dispose()
    return Written(value, Source(name, lines))


def _value(
    node: yaml.Node, path: Way, loader: yaml.SafeLoader, lines: dict[Way, int], name: str, seen: set[int]
) -> Any:
    """The plain value of a node; the lines of all that is in it go to ``lines``."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in seen:
        raise SettingsError(f"{name}, line {line}: an alias stands for another part of the file: write it out")
    seen.add(id(node))
    if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN_TAGS:
        raise SettingsError(f"{name}, line {line}: {node.tag!r} makes no plain value: leave the tag away")
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            line = key_node.start_mark.line + 1
            if key in values:
                raise SettingsError(f"{name}, line {line}: {key!r} stands twice in one place: leave one of them")
            lines[(*path, key)] = line
            values[key] = _value(value_node, (*path, key), loader, lines, name, seen)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*path, index), loader, lines, name, seen) for index, each in enumerate(node.value)]
    return loader.construct_object(node)


def _not_yaml(name: str, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}, line {mark.line + 1}" if mark is not None else name
    return f"{place}: it is not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"


def _way(path: Way) -> Sequence[str]:
    """``("steps", 2, "fault")`` as people count: step 3, fault."""
    words: list[str] = []
    for part in path:
        if isinstance(part, int):
            words[-1] = f"{words[-1].removesuffix('s')} {part + 1}"
        else:
            words.append(part)
    return words


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
