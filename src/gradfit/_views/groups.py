"""Many fits on one figure: together while they are few, else in small panels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradfit._format import count
from gradfit._views import curves, implicit, marks, overview
from gradfit._views.curves import Drawable
from gradfit._views.figure import drawing
from gradfit._views.fitted import equation, rows
from gradfit._views.palette import Palette, palette, style

TOGETHER = 6
"""Groups that one panel holds."""
SHOWN = 24
"""Groups that are drawn at all."""
ACROSS = 4


def plot_groups(
    fits: Sequence[Drawable], labels: Sequence[str], total: int, level: float, theme: str
) -> Figure:
    """Draw the first groups of ``total``."""
    colours = palette(theme)
    data = fits[0].observed
    m, q = len(rows(data.x)), 0 if data.y is None else len(rows(data.y))
    with rc_context(style(colours)):
        if len(fits) <= TOGETHER and (m, q) == (1, 1):
            return _together(fits, labels, level, colours)
        return _apart(fits, labels, total, level, colours)


def _together(
    fits: Sequence[Drawable], labels: Sequence[str], level: float, colours: Palette
) -> Figure:
    figure = drawing(7.4, 5.0)
    ax = figure.add_subplot()
    clouds = [curves.cloud_of(fit) for fit in fits]
    for cloud, colour in zip(clouds, colours.groups, strict=False):
        marks.scatter(ax, cloud, colour, colours)
    everything = marks.Cloud(
        *(np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("x", "y")),
        sx=None,
        sy=None,
        hollow=np.zeros(0, dtype=bool),
    )
    marks.frame(ax, everything)
    for fit, cloud, colour in zip(fits, clouds, colours.groups, strict=False):
        if fit.success and cloud.n:
            curves.lines(ax, fit, level, colour, colours)
    for fit, label, colour in zip(fits, labels, colours.groups, strict=False):
        label = marks.plain(label)
        name = label if fit.success else f"{label}: {fit.status.name}"
        ax.plot([], [], color=colour, marker="o", ms=4.6, label=name)
    ax.legend(loc=marks.vacant(ax, everything)[0])
    marks.name_axes(ax, fits[0].observed.x_names[0], fits[0].observed.y_names[0])
    ax.set_title(
        marks.plain(equation(fits[0].model, fits[0].observed)), color=colours.ink, fontweight="bold"
    )
    return figure


def _apart(
    fits: Sequence[Drawable], labels: Sequence[str], total: int, level: float, colours: Palette
) -> Figure:
    down = -(-len(fits) // ACROSS)
    figure = drawing(9.2, 0.7 + 1.75 * down)
    for k, (fit, label) in enumerate(zip(fits, labels, strict=True)):
        ax = figure.add_subplot(down, ACROSS, k + 1)
        _small(ax, fit, label, level, colours)
        if k + ACROSS < len(fits):
            ax.set_xlabel("")
        if k % ACROSS:
            ax.set_ylabel("")
    more = f", first {len(fits)} of {count(total)} groups" if total > len(fits) else ""
    title = f"{marks.plain(equation(fits[0].model, fits[0].observed))}{more}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _small(ax: Axes, fit: Drawable, label: str, level: float, colours: Palette) -> None:
    panel: Any = _panel_of(fit)
    panel(ax, fit, level, colours)
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    ax.tick_params(labelsize=7.5)
    label = marks.plain(label)
    said = label if fit.success else f"{label}: {fit.status.name}"
    ax.set_title(said, color=colours.muted if fit.success else colours.foot, fontsize=8.5)


def _panel_of(fit: Drawable) -> Any:
    data = fit.observed
    m = len(rows(data.x))
    if data.y is None:
        if m == 2:
            return implicit.panel
        return lambda ax, fit, _, colours: overview.spread(ax, fit, colours)
    if m == 1:
        return curves.panel
    return lambda ax, fit, _, colours: overview.against(ax, fit, colours)
