"""The panel's colours: told apart by colour-blind people, readable on light and on dark pages.

Nodes have six colours of Okabe and Ito's palette, and a grey. From the eighth node on, a dash tells nodes of the same
colour apart. Vermilion is for faults and for nothing else.

Ink, grid lines and paper depend on the page's theme. :func:`themed` lists the properties that a theme sets, once for
each theme, so that a page can change its theme while it is open. A glyph says by a tag (:data:`INK`, :data:`FAINT`,
:data:`BACKED`) that it follows the theme.
"""

from __future__ import annotations

from typing import Any, Literal

from bokeh.model import Model
from bokeh.models import Axis, Grid, Legend, Title

ThemeName = Literal["light", "dark"]

NODE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#B59B00", "#8C8C8C")
"""Blue, orange, bluish green, reddish purple, sky blue, yellow (darker than theirs: it must show on white), grey."""
NODE_DASHES = ("solid", "dashed", "dotted")
FAULT_COLOUR = "#D55E00"
ELECTION_COLOUR = "#009E73"
CHANGE_COLOUR = "#2B83C6"
"""Between their two blues: as small text it must be read on white and on black."""
BID_COLOUR = "#0072B2"
ASK_COLOUR = "#E69F00"

INK = "ink"
"""A tag: the lines and texts of this model have the theme's ink."""
FAINT = "faint"
"""A tag: the same in a weaker ink."""
BACKED = "backed"
"""A tag: this text has the theme's paper behind it, so that curves shine through only a little."""
GREY = "#8c8c8c"
"""Lines that belong to no node, on either theme."""

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"

_THEMES: dict[ThemeName, dict[str, str]] = {
    "light": {INK: "#1f2328", FAINT: "#59636e", "grid": "#e6e8eb", "paper": "#ffffff", BACKED: "#ffffff"},
    "dark": {INK: "#e6e8eb", FAINT: "#a3abb5", "grid": "#3a3f46", "paper": "#111111", BACKED: "#212121"},
}


def node_colour(slot: int) -> str:
    """The colour of the node in this slot."""
    return NODE_COLOURS[slot % len(NODE_COLOURS)]


def node_dash(slot: int) -> str:
    """How the lines of the node in this slot are drawn."""
    return NODE_DASHES[slot // len(NODE_COLOURS) % len(NODE_DASHES)]


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
    if BACKED in model.tags:
        return {"background_fill_color": BACKED}
    role = next((tag for tag in model.tags if tag in (INK, FAINT)), None)
    return dict.fromkeys(_inked(model), role) if role else {}


def _inked(model: Any) -> list[str]:
    """The colour properties of a tagged model, without those that it does not draw."""
    known = set(model.properties())
    return [name for name in ("line_color", "text_color", "fill_color") if name in known and getattr(model, name)]
