"""The panel's colours: each means one thing, colour-blind people tell them apart, and light and dark pages show them.

- *Nodes* have :data:`NODE_COLOURS`, nine, and a shape each (:data:`NODE_SHAPES`), which says the same without colour.
  Each colour stands out from white and from a dark page by the 3:1 that WCAG 2.1 asks of graphics (1.4.11). From the
  tenth node on, a dash tells nodes of the same colour apart.
- *Percentiles* are one hue in four steps: the further out in the tail, the stronger.
- *Bids* and *asks* have a pair of their own.
- *Faults* are red, *warnings* amber, what is *well* (an election, an agreement) green, other *changes* grey, and what a
  person can *do* has the ink of the text. No node has one of these colours.

The nine were found by search: farthest apart in OKLab (Ottosson 2020), in full colour and as people without red or
green cones see them (Machado, Oliveira and Fernandes 2009). They stand in the order in which the next one differs most
from all before it, so that small clusters have the clearest colours. ``tests/widgets/test_palette.py`` computes
distances and contrasts anew.

Ink, grid lines, percentiles and paper depend on the page's theme. :func:`themed` lists the properties that a theme
sets, once for each theme, so that a page can change its theme while it is open. A glyph says by a tag (:data:`INK`,
:data:`FAINT`, :data:`BACKED`, one of :data:`PERCENTILES`) that it follows the theme. Tables and buttons get the same
colours as properties of their style sheet (:func:`style_sheet`), and the shapes by :func:`script`.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from bokeh.model import Model
from bokeh.models import Axis, Grid, Legend, Title

ThemeName = Literal["light", "dark"]

NODE_COLOURS = (
    "#0072B2",  # blue
    "#B48700",  # gold
    "#B469FF",  # lilac
    "#875A00",  # brown
    "#7896C3",  # slate
    "#4BA578",  # green
    "#00785A",  # dark green
    "#5A4BE1",  # indigo
    "#C32D96",  # magenta
)
NODE_SHAPES = ("circle", "square", "diamond", "triangle", "inverted_triangle", "hex", "star", "plus", "dash")
"""One for each colour, by bokeh's names for markers."""
SHAPE_PATHS = {
    "circle": "M7 1.8 A5.2 5.2 0 1 1 6.99 1.8 Z",
    "square": "M2.2 2.2 H11.8 V11.8 H2.2 Z",
    "diamond": "M7 0.8 L12.6 7 L7 13.2 L1.4 7 Z",
    "triangle": "M7 1.2 L13.2 12.2 H0.8 Z",
    "inverted_triangle": "M0.8 1.8 H13.2 L7 12.8 Z",
    "hex": "M3.7 1.3 H10.3 L13.6 7 L10.3 12.7 H3.7 L0.4 7 Z",
    "star": "M7 0.5 L8.9 4.9 L13.6 5.3 L10 8.4 L11.1 13 L7 10.5 L2.9 13 L4 8.4 L0.4 5.3 L5.1 4.9 Z",
    "plus": "M4.8 0.8 H9.2 V4.8 H13.2 V9.2 H9.2 V13.2 H4.8 V9.2 H0.8 V4.8 H4.8 Z",
    "dash": "M0.8 4.4 H13.2 V9.6 H0.8 Z",
}
"""The shapes as SVG paths in a square of 14."""
NODE_DASHES = ("solid", "dashed", "dotted")
FAULT_COLOUR = "#CF222E"
WARNING_COLOUR = "#E69F00"
"""As an edge or a tint beside words: as thin lines on white it would be too pale."""
ELECTION_COLOUR = "#2E8B3A"
CHANGE_COLOUR = "#6E7781"
BID_COLOUR = "#0E8A97"
ASK_COLOUR = "#C96A35"
TRADE_COLOUR = "#6E7781"

INK = "ink"
"""A tag: the lines and texts of this model have the theme's ink."""
FAINT = "faint"
"""A tag: the same in a weaker ink."""
BACKED = "backed"
"""A tag: this text has the theme's paper behind it, so that curves shine through only a little."""
PERCENTILES = ("p50", "p99", "p99_9", "max")
"""Tags: the four steps of the percentiles' hue."""
GREY = "#8c8c8c"
"""Lines that belong to no node, on either theme."""

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"

_THEMES: dict[ThemeName, dict[str, str]] = {
    "light": {
        **dict(zip(PERCENTILES, ("#CC79A7", "#A84F80", "#7D3059", "#4A1733"), strict=True)),
        INK: "#1f2328",
        FAINT: "#59636e",
        "grid": "#e6e8eb",
        "paper": "#ffffff",
        BACKED: "#ffffff",
    },
    "dark": {
        **dict(zip(PERCENTILES, ("#95587A", "#BC769F", "#E0A3C4", "#FFDDED"), strict=True)),
        INK: "#e6e8eb",
        FAINT: "#a3abb5",
        "grid": "#3a3f46",
        "paper": "#111111",
        BACKED: "#212121",
    },
}
RESERVED = {
    "fault": FAULT_COLOUR,
    "warning": WARNING_COLOUR,
    "well": ELECTION_COLOUR,
    "change": CHANGE_COLOUR,
    "bid": BID_COLOUR,
    "ask": ASK_COLOUR,
}
"""Colours that mean one thing in both themes, by their names in a style sheet; no node has one of them."""
_SHEET: dict[ThemeName, dict[str, str]] = {
    "light": {"fault-text": "#B31D28", "well-text": "#1F7A2E", "on-ink": "#ffffff"},
    "dark": {"fault-text": "#FF8A85", "well-text": "#5CC46B", "on-ink": "#1a1a1a"},
}
"""What only tables and buttons need: reds and greens that can be read as small text, and text on ink."""


def node_colour(slot: int) -> str:
    """The colour of the node in this slot."""
    return NODE_COLOURS[slot % len(NODE_COLOURS)]


def node_shape(slot: int) -> str:
    """The shape of the node in this slot: a name of :data:`SHAPE_PATHS`."""
    return NODE_SHAPES[slot % len(NODE_SHAPES)]


def node_dash(slot: int) -> str:
    """How the lines of the node in this slot are drawn."""
    return NODE_DASHES[slot // len(NODE_COLOURS) % len(NODE_DASHES)]


def role_colour(role: str, theme: ThemeName) -> str:
    """The colour that a theme gives to a tag."""
    return _THEMES[theme][role]


def style_sheet(scope: str = ".zl-panel, .zl-live, .zl-lab") -> str:
    """The colours as properties of a style sheet: ``--zl-fault``, ``--zl-warning`` and so on.

    A page of JupyterLab says which theme it has, and on others the system's preference counts.
    """
    light, dark = (_properties(RESERVED | _THEMES[theme] | _SHEET[theme]) for theme in ("light", "dark"))
    in_dark, elsewhere = (
        ", ".join(f"{said} {each.strip()}" for each in scope.split(","))
        for said in ('[data-jp-theme-light="false"]', "body:not([data-jp-theme-light])")
    )
    return (
        f"{scope} {{ {light} }}\n{in_dark} {{ {dark} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {elsewhere} {{ {dark} }} }}\n"
    )


def script() -> str:
    """The shapes for the page's scripts: a constant ``NODE_PATHS``, a path by name."""
    return f"const NODE_PATHS = {json.dumps(SHAPE_PATHS)};\n"


def themed(root: Model, theme: ThemeName) -> list[tuple[str, str, str]]:
    """What a theme sets: ``(model id, property, colour)`` for each model below ``root`` that follows the theme."""
    colours = _THEMES[theme]
    found: list[tuple[str, str, str]] = []
    for model in sorted(root.references(), key=lambda each: each.id):
        found += [(model.id, name, colours[role]) for name, role in _roles(model).items()]
    return found


def apply_theme(root: Model, theme: ThemeName) -> None:
    """Give a figure the colours of a theme, paper included; for a report, whose theme does not change."""
    models = {model.id: model for model in root.references()}
    for model_id, name, colour in themed(root, theme):
        setattr(models[model_id], name, colour)
    for model in models.values():
        for name in ("background_fill_color", "border_fill_color"):
            if "Plot" in type(model).__mro__[1].__name__ or type(model).__name__ == "figure":
                setattr(model, name, _THEMES[theme]["paper"])


def _roles(model: Model) -> dict[str, str]:
    """Property -> role in the theme (a key of ``_THEMES``), for one model."""
    if isinstance(model, Axis):
        return {
            "axis_label_text_color": FAINT,
            "major_label_text_color": FAINT,
            "axis_line_color": "grid",
            "major_tick_line_color": "grid",
        }
    if isinstance(model, Grid):
        return {"grid_line_color": "grid"}
    if isinstance(model, Title):
        return {"text_color": FAINT if FAINT in model.tags else INK}
    if isinstance(model, Legend):
        return {"label_text_color": INK}
    backed = {"background_fill_color": BACKED} if BACKED in model.tags else {}
    role = next((tag for tag in model.tags if tag in (INK, FAINT, *PERCENTILES)), None)
    return backed | (dict.fromkeys(_inked(model), role) if role else {})


def _properties(colours: dict[str, str]) -> str:
    return " ".join(f"--zl-{name.replace('_', '-')}: {colour};" for name, colour in colours.items())


def _inked(model: Any) -> list[str]:
    """The colour properties of a tagged model, without those that it does not draw."""
    known = set(model.properties())
    return [name for name in ("line_color", "text_color", "fill_color") if name in known and getattr(model, name)]
