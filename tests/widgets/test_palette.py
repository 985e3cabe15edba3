"""Colours that mean one thing: how far apart they are, also for colour-blind eyes, and how they stand out from a page.

Distances are Euclidean in OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020), times 100: two
colours side by side can just be told apart at about 2. People without red or green cones are simulated by the matrices
for severity 1.0 of Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
Deficiency", IEEE Transactions on Visualization and Computer Graphics 15 (6), 2009, on linear RGB. Contrast is that of
WCAG 2.1.
"""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import numpy as np
import pytest

from zmqlab.widgets import palette
from zmqlab.widgets.palette import (
    ASK_COLOUR,
    BID_COLOUR,
    CHANGE_COLOUR,
    ELECTION_COLOUR,
    FAULT_COLOUR,
    NODE_COLOURS,
    NODE_SHAPES,
    PERCENTILES,
    RESERVED,
    SHAPE_PATHS,
    node_colour,
    node_dash,
    node_shape,
    role_colour,
    style_sheet,
)

FULL = np.eye(3)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> np.ndarray:
    """Red, green and blue as amounts of light, from 0 to 1."""
    shown = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def seen(colour: str, eye: np.ndarray) -> np.ndarray:
    """OKLab, times 100."""
    light = np.clip(eye @ linear(colour), 0.0, 1.0)
    return 100 * TO_OKLAB @ np.cbrt(TO_CONES @ light)


def distance(one: str, other: str, eye: np.ndarray = FULL) -> float:
    return float(np.linalg.norm(seen(one, eye) - seen(other, eye)))


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(each) @ (0.2126, 0.7152, 0.0722)) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_the_measures() -> None:
    """Against values that others have published."""
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
    assert seen("#FF0000", FULL) == pytest.approx((62.796, 22.486, 12.585), abs=0.01)
    assert distance("#FF0000", "#00FF00", DEUTERANOPIA) < distance("#FF0000", "#00FF00") / 2


@pytest.mark.parametrize(("eye", "least"), [(FULL, 13.0), (PROTANOPIA, 7.5), (DEUTERANOPIA, 8.0)])
def test_nine_nodes_are_told_apart_by_colour(eye: np.ndarray, least: float) -> None:
    assert len(NODE_COLOURS) == 9
    apart = {pair: distance(*pair, eye) for pair in combinations(NODE_COLOURS, 2)}
    assert min(apart.values()) >= least, min(apart.items(), key=lambda each: each[1])


@pytest.mark.parametrize("eye", [FULL, PROTANOPIA, DEUTERANOPIA])
def test_small_clusters_have_the_clearest_colours(eye: np.ndarray) -> None:
    for count, least in ((3, 11.5), (5, 9.0)):
        assert min(distance(*pair, eye) for pair in combinations(NODE_COLOURS[:count], 2)) >= least


@pytest.mark.parametrize(
    "colour", [*NODE_COLOURS, FAULT_COLOUR, ELECTION_COLOUR, CHANGE_COLOUR, BID_COLOUR, ASK_COLOUR]
)
def test_lines_stand_out_from_light_and_dark_pages(colour: str) -> None:
    assert contrast(colour, role_colour("paper", "light")) >= 3.0
    assert contrast(colour, role_colour("paper", "dark")) >= 3.0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_percentiles_are_one_hue_in_steps(theme: palette.ThemeName) -> None:
    steps = [role_colour(role, theme) for role in PERCENTILES]
    contrasts = [contrast(step, role_colour("paper", theme)) for step in steps]
    assert contrasts == sorted(contrasts)
    assert contrasts[0] >= 3.0
    for eye in (FULL, PROTANOPIA, DEUTERANOPIA):
        assert min(distance(*pair, eye) for pair in pairwise(steps)) >= 10.0
    hues = [np.degrees(np.arctan2(*seen(step, FULL)[[2, 1]])) for step in steps]
    assert max(hues) - min(hues) < 15


@pytest.mark.parametrize("name", RESERVED)
def test_what_is_no_node_has_no_nodes_colour(name: str) -> None:
    assert min(distance(RESERVED[name], node) for node in NODE_COLOURS) >= 8.0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_percentiles_have_no_nodes_colour(theme: palette.ThemeName) -> None:
    for role in PERCENTILES:
        assert min(distance(role_colour(role, theme), node) for node in NODE_COLOURS) >= 8.0


@pytest.mark.parametrize("eye", [FULL, PROTANOPIA, DEUTERANOPIA])
def test_bids_and_asks_are_told_apart(eye: np.ndarray) -> None:
    assert distance(BID_COLOUR, ASK_COLOUR, eye) >= 13.0


def test_small_text_can_be_read() -> None:
    """WCAG 2.1, 1.4.3: 4.5 for small text."""
    for theme in ("light", "dark"):
        sheet = dict(re.findall(r"--zl-([\w-]+): (#\w+);", style_sheet().splitlines()[0 if theme == "light" else 1]))
        paper = sheet["paper"]
        for name in ("ink", "faint", "fault-text", "well-text"):
            assert contrast(sheet[name], paper) >= 4.5, (theme, name)
        assert contrast(sheet["on-ink"], sheet["ink"]) >= 4.5


def test_each_of_nine_nodes_has_a_shape_and_fifteen_differ() -> None:
    assert len(set(NODE_SHAPES)) == len(NODE_COLOURS) == len({node_shape(slot) for slot in range(9)})
    assert set(NODE_SHAPES) == set(SHAPE_PATHS)
    assert len({(node_colour(slot), node_dash(slot)) for slot in range(15)}) == 15
