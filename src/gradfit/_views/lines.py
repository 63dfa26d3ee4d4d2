"""Pictures of straight lines as their trades draw them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradfit._distributions import chi2_quantile
from gradfit._types import FloatArray
from gradfit._views import marks
from gradfit._views.curves import Drawable
from gradfit._views.figure import drawing
from gradfit._views.palette import Palette, palette, style
from gradfit._views.plot import WIDTH, head, residual_panel


class Line(Drawable, Protocol):
    """What a line of a trade shows besides a fit."""

    @property
    def figures(self) -> Mapping[str, float]: ...
    @property
    def method(self) -> str: ...
    @property
    def picture(self) -> str: ...
    @property
    def left_out(self) -> FloatArray: ...


def plot_line(
    fit: Line, ax: Axes | None, level: float, theme: str, titled: bool = True
) -> Figure | Any:
    """Draw a line with error ellipses, or two methods compared."""
    colours = palette(theme)
    if ax is not None:
        _main(ax, fit, level, colours)
        return ax.figure
    with rc_context(style(colours)):
        figure = drawing(WIDTH, 5.6 if fit.picture == "ellipses" else 6.4)
        ratios = (3.2, 1) if fit.picture == "ellipses" else (2.4, 1.4)
        grid = figure.add_gridspec(2, 1, height_ratios=ratios)
        main = figure.add_subplot(grid[0])
        _main(main, fit, level, colours)
        if fit.picture == "ellipses":
            residual_panel(figure.add_subplot(grid[1], sharex=main), fit, colours)
            main.tick_params(labelbottom=False)
            main.set_xlabel("")
        else:
            _bland_altman(figure.add_subplot(grid[1]), fit, colours)
        if titled:
            head(main, fit, colours, fit.method)
        return figure


def _main(ax: Axes, fit: Line, level: float, colours: Palette) -> None:
    if fit.picture == "comparison":
        _methods(ax, fit, level, colours)
    else:
        _ellipses(ax, fit, level, colours)
    marks.name_axes(ax, fit.observed.x_names[0], fit.observed.y_names[0])


def _methods(ax: Axes, fit: Line, level: float, colours: Palette) -> None:
    """Draw one method against the other, with the line on which they would agree."""
    x, y = np.asarray(fit.observed.x), np.asarray(fit.observed.y)
    _band(ax, fit, level, colours, (x, x))
    ends = ax.get_xlim()
    dashes = (0, (5, 4))
    ax.plot(ends, ends, color=colours.muted, lw=1.1, ls=dashes, zorder=1, label="identity")
    ax.plot(x, y, "o", ms=3.6, color=colours.point, zorder=3)
    ax.legend(loc="upper left", frameon=False)


def _ellipses(ax: Axes, fit: Line, level: float, colours: Palette) -> None:
    """Draw each point as the ellipse that holds the truth with probability ``level``."""
    data = fit.observed
    x, y = np.asarray(data.x), np.asarray(data.y)
    sx, sy, rho = (
        np.broadcast_to(0.0 if v is None else v, x.shape) for v in (data.sx, data.sy, data.rho)
    )
    size = float(np.sqrt(chi2_quantile(level, 2)))
    cov = np.stack([np.stack([sx**2, rho * sx * sy], -1), np.stack([rho * sx * sy, sy**2], -1)], -2)
    _band(ax, fit, level, colours, (x - size * sx, x + size * sx))
    turn = np.linspace(0, 2 * np.pi, 73)
    root = np.linalg.cholesky(cov + 1e-24 * np.eye(2) * cov.max()) if cov.max() > 0 else cov
    rim = size * root @ np.stack([np.cos(turn), np.sin(turn)])
    for i in range(len(x)):
        ax.fill(
            x[i] + rim[i, 0], y[i] + rim[i, 1], facecolor=colours.curve, alpha=0.18, lw=0, zorder=3
        )
        ax.plot(x[i] + rim[i, 0], y[i] + rim[i, 1], color=colours.point, lw=0.9, zorder=4)
    ax.plot(x, y, "o", ms=2.2, color=colours.point, zorder=5)
    if len(fit.left_out):
        ax.plot(
            *fit.left_out.T, "o", ms=6, mfc="none", mec=colours.muted, mew=1.1, zorder=5,
            label="left out",
        )  # fmt: skip
        ax.legend(loc="best", frameon=False)


def _band(
    ax: Axes, fit: Line, level: float, colours: Palette, reach: tuple[FloatArray, FloatArray]
) -> None:
    low, high = float(np.min(reach[0])), float(np.max(reach[1]))
    if len(fit.left_out):
        low, high = min(low, fit.left_out[:, 0].min()), max(high, fit.left_out[:, 0].max())
    margin = 0.04 * (high - low)
    at = np.linspace(low - margin, high + margin, 200)
    low_edge, high_edge = fit.band(at, level=level)
    ax.fill_between(at, low_edge, high_edge, color=colours.curve, alpha=0.15, lw=0, zorder=1)
    ax.plot(at, np.asarray(fit.predict(at)), color=colours.curve, lw=1.6, zorder=2)
    ax.set_xlim(at[0], at[-1])


def _bland_altman(ax: Axes, fit: Line, colours: Palette) -> None:
    """Draw differences against means, with their mean and limits of agreement."""
    data = fit.observed
    x, y = np.asarray(data.x), np.asarray(data.y)
    mean, difference = (x + y) / 2, y - x
    middle, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    ax.axhspan(middle - spread, middle + spread, color=colours.faint, alpha=0.6, lw=0, zorder=0)
    ax.axhline(middle, color=colours.curve, lw=1.4, zorder=2)
    ax.axhline(0, color=colours.muted, lw=1.0, ls=(0, (5, 4)), zorder=1)
    ax.plot(mean, difference, "o", ms=3.6, color=colours.point, zorder=3)
    top = 1.15 * float(np.abs(difference).max(initial=spread))
    ax.set_ylim(min(middle - 1.3 * spread, -top), max(middle + 1.3 * spread, top))
    marks.name_axes(ax, f"mean of {data.x_names[0]} and {data.y_names[0]}", "difference")
