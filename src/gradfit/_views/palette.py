"""Colours and type of every picture; safe for colour-blind readers, one set for paper, one dark."""

from typing import Any, NamedTuple

from gradfit.errors import InputError


class Palette(NamedTuple):
    """Colours by what they stand for, as hexadecimal RGB."""

    paper: str
    ink: str
    muted: str
    faint: str
    point: str
    curve: str
    foot: str
    groups: tuple[str, ...]


# Distinct for every common kind of colour blindness: Okabe and Ito (2008), slightly darker or
# lighter so that thin lines keep their contrast on paper.
LIGHT = Palette(
    paper="#ffffff",
    ink="#1b2430",
    muted="#5b6675",
    faint="#e2e6eb",
    point="#33414f",
    curve="#0b65c2",
    foot="#c8500a",
    groups=("#0b65c2", "#c8500a", "#00805c", "#a8497f", "#8a6d00", "#2f8fbf", "#5b6675", "#7a4bc2"),
)
DARK = Palette(
    paper="#11161d",
    ink="#e8edf2",
    muted="#9aa6b2",
    faint="#2b343f",
    point="#c5d0da",
    curve="#5fb0ff",
    foot="#ff9a4d",
    groups=("#5fb0ff", "#ff9a4d", "#3ccf9f", "#ee93c6", "#dcc04a", "#8fd6f5", "#9aa6b2", "#b996ff"),
)


def palette(theme: str) -> Palette:
    """Return the colours of a theme.

    Raises
    ------
    InputError
        Neither ``"light"`` nor ``"dark"``.
    """
    themes = {"light": LIGHT, "dark": DARK}
    if theme not in themes:
        raise InputError(f'`theme` must be "light" or "dark", got {theme!r}.')
    return themes[theme]


def style(colours: Palette) -> dict[Any, Any]:
    """Return the settings under which a figure is built."""
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "figure.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "axes.edgecolor": colours.muted,
        "axes.labelcolor": colours.ink,
        "axes.titlecolor": colours.muted,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.formatter.limits": (-4, 5),
        "axes.prop_cycle": _cycle(colours),
        "text.color": colours.ink,
        "xtick.color": colours.muted,
        "ytick.color": colours.muted,
        "xtick.labelcolor": colours.ink,
        "ytick.labelcolor": colours.ink,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 1.6,
        "legend.borderaxespad": 0.3,
        "savefig.facecolor": colours.paper,
    }


def _cycle(colours: Palette) -> object:
    from cycler import cycler

    return cycler(color=colours.groups)
