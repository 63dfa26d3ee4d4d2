"""Explicit models of one variable: points, curve, band, and the way of each point to the curve."""

import math
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from gradfit._views import marks
from gradfit._views.fitted import Fitted, rows
from gradfit._views.marks import Cloud
from gradfit._views.palette import Palette
from gradfit._views.residuals import sigmas

SAMPLES = 500
"""Points at which a curve is evaluated, besides the foot points."""


class Drawable(Fitted, Protocol):
    """A fit that can be asked for its curve."""

    def predict(self, x: Any) -> Any:
        """Return the fitted model at x."""
        ...

    def band(self, x: Any, level: float = 0.95) -> tuple[Any, Any]:
        """Return the edges of a confidence band."""
        ...


def panel(
    ax: Axes, fit: Drawable, level: float, colours: Palette, k: int = 0, colour: str | None = None
) -> None:
    """Draw response ``k`` against the variable, with curve, band and feet."""
    colour = colour or colours.curve
    cloud = cloud_of(fit, k)
    marks.scatter(ax, cloud, colours.point, colours)
    drawn = cloud.n > 0 and all(math.isfinite(value) for value in fit.params.values())
    joined = drawn and cloud.n <= marks.FEW and cloud.sx is not None
    marks.frame(ax, cloud)
    if drawn:
        lines(ax, fit, level, colour, colours, k)
    if joined:
        x_hat, y_hat = rows(fit.x_hat)[0], rows(fit.y_hat)[k]
        marks.join(ax, rows(fit.observed.x)[0], rows(fit.observed.y)[k], x_hat, y_hat, colours)
    marks.typical(ax, cloud, colours)
    marks.name_axes(ax, fit.observed.x_names[0], fit.observed.y_names[k])
    if k == 0:
        marks.legend(ax, cloud, colours, colour if drawn else None, level, joined)


def cloud_of(fit: Fitted, k: int = 0) -> Cloud:
    """Return the points of response ``k`` over the first variable, without those left out."""
    data = fit.observed
    x, y = rows(data.x)[0], rows(data.y)[k]
    sx, sy = marks.bar_lengths(data, sigmas(data)[0][0]), marks.bar_lengths(data, _row(fit, k))
    return Cloud(x, y, sx, sy, marks.hollow(fit)).where(np.isfinite(x) & np.isfinite(y))


def _row(fit: Fitted, k: int) -> Any:
    sy = sigmas(fit.observed)[1]
    return sy[k % len(sy)]


def lines(ax: Axes, fit: Drawable, level: float, colour: str, colours: Palette, k: int = 0) -> None:
    """Draw the curve of response ``k`` and its confidence band over the width of the axes."""
    low, high = ax.get_xlim()
    xs = np.linspace(low, high, SAMPLES)
    feet = rows(fit.x_hat)[0]
    if feet.size <= marks.MANY:
        # Narrow peaks lie between samples, but not between points.
        xs = np.union1d(xs, feet[(feet > low) & (feet < high)])
    at = xs if fit.observed.x.ndim == 1 else xs[None]
    with np.errstate(all="ignore"):
        ys = rows(fit.predict(at))[k]
        lower, upper = (rows(edge)[k] for edge in fit.band(at, level))
    known = np.isfinite(lower) & np.isfinite(upper)
    ax.fill_between(
        xs, lower, upper, where=known.tolist(), color=colour, alpha=0.18, lw=0, zorder=1
    )
    if feet.size > marks.SOME:
        ax.plot(xs, ys, color=colours.paper, lw=3.4, alpha=0.8, zorder=4.8)
    ax.plot(xs, ys, color=colour, lw=1.8, zorder=5)
