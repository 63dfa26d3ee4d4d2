"""A Matplotlib figure as SVG inside a page, in whatever colours the page has at the moment."""

import re
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from gradfit._views.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = {colour: f"var(--group{k})" for k, colour in enumerate(LIGHT.groups)} | {
    getattr(LIGHT, name): f"var(--{name})"
    for name in ("paper", "ink", "muted", "faint", "point", "curve", "foot")
}
"""Some colours of groups have a name of their own, and that counts."""


def inline(figure: "Figure", key: str) -> str:
    """Return a figure drawn in light colours as an ``svg`` element that follows the page.

    Parameters
    ----------
    figure : Figure
    key : str
        Names the picture; identifiers in it begin with this word, as those of a page must differ.
    """
    out = StringIO()
    figure.savefig(out, format="svg")
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Inside HTML an svg element needs no namespaces; its size is for the page to say.
    text = re.sub(r'\s(xmlns|xmlns:xlink|version|width|height)="[^"]*"', "", text, count=5)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", text)
    # A hundredth of a point is finer than any screen.
    text = re.sub(r'\bd="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m.group()), text)
    return re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match.group()), text)


def _variable(colour: str) -> str:
    """Return a colour in terms of the page's: one of them, or a tint of the curve's."""
    if colour in NAMED:
        return NAMED[colour]
    here, curve = _rgb(colour), _rgb(LIGHT.curve)
    for pale in ("paper", "faint"):
        base = _rgb(getattr(LIGHT, pale))
        way = curve - base
        share = float((here - base) @ way / (way @ way))
        if np.abs(base + share * way - here).max() <= 1:
            return f"color-mix(in srgb,var(--curve) {100 * share:.3g}%,var(--{pale}))"
    return colour


def _rgb(colour: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], dtype=np.float64)
