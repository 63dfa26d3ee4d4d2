"""One fit as a picture: what was measured, the curve, how sure it is, and what is left over."""

import math
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradfit._distributions import check_level
from gradfit._format import folded, measured, number, probability
from gradfit._views import curves, implicit, marks, overview, residuals
from gradfit._views.curves import Drawable
from gradfit._views.figure import drawing
from gradfit._views.fitted import Fitted, equation, rows
from gradfit._views.marks import Cloud
from gradfit._views.palette import Palette, palette, style
from gradfit.errors import InputError

PANELS = 4
"""Responses that get a panel each."""
LINE = 92
"""Characters of small type across a figure."""
WIDTH = 7.4
"""Inches: a figure over both columns of a page, with type that is not shrunk."""


def plot_fit(
    fit: Drawable, ax: Axes | None, level: float, theme: str, titled: bool = True
) -> Figure | Any:
    """Draw a fit on a new figure, or its main panel on given axes."""
    check_level(level)
    colours = palette(theme)
    data = fit.observed
    m, q = len(rows(data.x)), 0 if data.y is None else len(rows(data.y))
    flat = (m, q) == (1, 1) or (m, q) == (2, 0)
    if ax is not None:
        if not flat:
            raise InputError("`ax` is one panel; a fit of several variables needs its own figure.")
        _main(ax, fit, level, colours)
        return ax.figure
    with rc_context(style(colours)):
        if flat:
            figure = _flat(fit, level, colours)
        elif m == 1 and 1 < q <= PANELS:
            figure = _stacked(fit, level, colours)
        else:
            figure = _overview(fit, colours)
        if titled:
            head(figure.axes[0], fit, colours)
        return figure


def _main(ax: Axes, fit: Drawable, level: float, colours: Palette) -> None:
    (implicit if fit.observed.y is None else curves).panel(ax, fit, level, colours)


def _flat(fit: Drawable, level: float, colours: Palette) -> Figure:
    plane = fit.observed.y is None
    figure = drawing(WIDTH, 7.2 if plane else 5.6)
    grid = figure.add_gridspec(2, 1, height_ratios=(4.6 if plane else 3.2, 1))
    main = figure.add_subplot(grid[0])
    _main(main, fit, level, colours)
    lower = figure.add_subplot(grid[1], sharex=None if plane else main)
    residual_panel(lower, fit, colours)
    if not plane:
        main.tick_params(labelbottom=False)
        main.set_xlabel("")
    return figure


def _stacked(fit: Drawable, level: float, colours: Palette) -> Figure:
    q = len(rows(fit.observed.y))
    figure = drawing(WIDTH, 2.2 + 2.1 * q)
    grid = figure.add_gridspec(q + 1, 1, height_ratios=(*([2.0] * q), 1))
    first = figure.add_subplot(grid[0])
    panels = [first, *(figure.add_subplot(grid[k], sharex=first) for k in range(1, q))]
    for k, panel in enumerate(panels):
        curves.panel(panel, fit, level, colours, k, colours.groups[k])
        panel.tick_params(labelbottom=False)
        panel.set_xlabel("")
    residual_panel(figure.add_subplot(grid[q], sharex=first), fit, colours)
    return figure


def _overview(fit: Drawable, colours: Palette) -> Figure:
    """Draw what needs no picture of the model: predicted against observed, and residuals."""
    figure = drawing(WIDTH, 5.6)
    grid = figure.add_gridspec(2, 1, height_ratios=(2.6, 1))
    main, lower = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    (overview.spread if fit.observed.y is None else overview.against)(main, fit, colours)
    residual_panel(lower, fit, colours)
    return figure


def residual_panel(ax: Axes, fit: Fitted, colours: Palette) -> None:
    """Draw perpendicular residuals in units of sigma, against x or in the order of the data."""
    r = residuals.standardised(fit)
    data = fit.observed
    alone = len(rows(data.x)) == 1
    x = rows(data.x)[0] if alone else np.arange(r.shape[1], dtype=np.float64)
    top = max(2.6, 1.12 * float(np.abs(r[np.isfinite(r)]).max(initial=0.0)))
    ax.axhspan(-2, 2, color=colours.faint, alpha=0.45, lw=0, zorder=0)
    ax.axhspan(-1, 1, color=colours.faint, alpha=0.75, lw=0, zorder=0)
    ax.axhline(0, color=colours.curve if len(r) == 1 else colours.muted, lw=1.4, zorder=2)
    for k, row in enumerate(r):
        cloud = Cloud(x, row, None, None, marks.hollow(fit))
        cloud = cloud.where(np.isfinite(row) & np.isfinite(x))
        colour = colours.point if len(r) == 1 else colours.groups[k % len(colours.groups)]
        if cloud.n <= marks.FEW and len(r) == 1:
            ax.vlines(cloud.x, 0, cloud.y, color=colours.foot, lw=1.1, zorder=3)
        if cloud.n:
            marks.scatter(ax, cloud, colour, colours)
    ax.set_ylim(-top, top)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if not alone:
        ax.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    said = f"residual / {'σ' if fit.absolute_sigma else 'scatter'}"
    marks.name_axes(ax, data.x_names[0] if alone else "row", said)


def head(ax: Axes, fit: Fitted, colours: Palette, name: str = "") -> None:
    """Write the model, or its name, above the topmost panel and, below it, what came out."""
    below = ax.set_title("\n".join(_outcome(fit)), color=colours.muted, pad=8, linespacing=1.4)
    title = folded(marks.plain(name or equation(fit.model, fit.observed)), 62)
    if len(title) > 2:
        title = [title[0], f"{title[1]} ..."]
    ax.annotate(
        "\n".join(title),
        (0, 1),
        (0, 7),
        xycoords=below,
        textcoords="offset points",
        fontsize=11.5,
        fontweight="bold",
    )


def _outcome(fit: Fitted) -> list[str]:
    if not fit.success:
        return [f"FAILED: {fit.status.name}"]
    values = [
        f"{n} = {number(fit.params[n], 10)} (fixed)"
        if n in fit.fixed
        else f"{n} = {number(fit.params[n])}"
        if math.isnan(fit.stderr[n])
        else f"{n} = {measured(fit.params[n], fit.stderr[n])}"
        for n in fit.names
    ]
    digits = max(4, len(str(fit.dof)))
    quality = [
        f"χ²/dof = {number(fit.chi2, digits)}/{fit.dof}"
        if fit.dof
        else f"χ² = {number(fit.chi2, digits)}, no degrees of freedom"
    ]
    if math.isfinite(fit.p_value):
        quality.append(f"p = {probability(fit.p_value)}".replace("= <", "<"))
    shown = values if len(values) <= 6 else [f"{len(values)} parameters"]
    # Lines break between quantities only; a minus is longer than a hyphen.
    first, last = ("    ".join(p.replace(" ", "\u00a0") for p in each) for each in (shown, quality))
    together = f"{first}    {last}"
    lines = [together] if len(together) <= LINE else [*wrap(first, LINE), last]
    return [line.replace("-", "\u2212") for line in lines]
