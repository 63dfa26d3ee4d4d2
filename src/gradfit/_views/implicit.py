"""Implicit models of two variables: the curve is where the model is zero."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradfit._distributions import normal_quantile, t_quantile
from gradfit._tangent import tangent
from gradfit._types import FloatArray
from gradfit._views import marks
from gradfit._views.fitted import Fitted, as_array, rows
from gradfit._views.marks import Cloud
from gradfit._views.palette import Palette
from gradfit._views.residuals import sigmas

GRID = 300


def panel(ax: Axes, fit: Fitted, level: float, colours: Palette) -> None:
    """Draw the points of a plane, the line where the model is zero, and how sure that line is."""
    cloud = _cloud(fit)
    marks.scatter(ax, cloud, colours.point, colours)
    marks.frame(ax, cloud)
    _even(ax)
    drawn = cloud.n > 0 and all(math.isfinite(value) for value in fit.params.values())
    joined = drawn and cloud.n <= marks.FEW
    if drawn:
        _curve(ax, fit, level, colours)
    if joined:
        (x, y), (x_hat, y_hat) = rows(fit.observed.x), rows(fit.x_hat)
        marks.join(ax, x, y, x_hat, y_hat, colours)
    marks.typical(ax, cloud, colours)
    marks.name_axes(ax, *fit.observed.x_names[:2])
    marks.legend(ax, cloud, colours, colours.curve if drawn else None, level, joined)


def _cloud(fit: Fitted) -> Cloud:
    data = fit.observed
    x, y = rows(data.x)
    scale = sigmas(data)[0]
    sx, sy = (marks.bar_lengths(data, scale[k % len(scale)]) for k in (0, 1))
    return Cloud(x, y, sx, sy, marks.hollow(fit)).where(np.isfinite(x) & np.isfinite(y))


def _even(ax: Axes) -> None:
    """Let a circle look like one where both coordinates seem to have the same unit."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    wide, high = right - left, top - bottom
    if not 1 / 4 < wide / high < 4:
        return
    if isinstance(ax.figure, Figure) and (engine := ax.figure.get_layout_engine()):
        engine.execute(ax.figure)
    width, height = ax.get_window_extent().size
    more_x, more_y = max(0.0, high * width / height - wide), max(0.0, wide * height / width - high)
    ax.set_xlim(left - more_x / 2, right + more_x / 2)
    ax.set_ylim(bottom - more_y / 2, top + more_y / 2)
    ax.set_aspect("equal", adjustable="box")


def _curve(ax: Axes, fit: Fitted, level: float, colours: Palette) -> None:
    xs, ys = (np.linspace(*limits, GRID) for limits in (ax.get_xlim(), ax.get_ylim()))
    at = np.stack([each.ravel() for each in np.meshgrid(xs, ys)])
    with np.errstate(all="ignore"):
        here = tangent(fit.model, list(fit.params.values()), torch.from_numpy(at))
        value, sigma = here.value.numpy()[0], _sigma(fit, here.J_beta.numpy()[0])
        surely_off = np.abs(value) / (_width(fit, level) * sigma)
    shape = (GRID, GRID)
    if np.isfinite(surely_off).any():
        ax.contourf(
            xs, ys, surely_off.reshape(shape), levels=[0, 1], colors=[colours.curve], alpha=0.18
        )
    ax.contour(xs, ys, value.reshape(shape), levels=[0], colors=[colours.curve], linewidths=1.8)


def _sigma(fit: Fitted, J: FloatArray) -> FloatArray:
    """Return how sure the value of the model is at each place."""
    variance: Any = np.einsum("pn,pr,rn->n", J, as_array(fit.cov), J)
    return np.sqrt(variance)


def _width(fit: Fitted, level: float) -> float:
    if fit.absolute_sigma:
        return normal_quantile((1 + level) / 2)
    return t_quantile((1 + level) / 2, fit.dof) if fit.dof > 0 else math.nan
