"""Lines by the ranks of slopes: no error model, and outliers hardly matter."""

import math
from typing import Any

import numpy as np

from gradfit._distributions import check_level, normal_quantile
from gradfit._format import percent
from gradfit._types import FloatArray
from gradfit.errors import InputError
from gradfit.lines.least_squares import plain_points, single
from gradfit.lines.result import LineResult, as_line, interval_text, restate
from gradfit.lines.straight import line


def pair_slopes(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x and y differences (N(N-1)/2,) of all pairs of points."""
    i, j = np.triu_indices(len(x), 1)
    return x[j] - x[i], y[j] - y[i]


def theil_sen(x: Any, y: Any, *, level: float = 0.95) -> LineResult:
    r"""Fit the line of Theil and Sen: the median slope of all pairs of points.

    .. math::  b = \operatorname{med}_{i<j} \frac{y_j - y_i}{x_j - x_i}, \qquad
               a = \operatorname{med}_i\,(y_i - b x_i)

    Assumes that x is exact; the errors of y may have any distribution, and up to 29 % of the points
    may be wrong. The interval of the slope is Sen's, from Kendall's rank correlation.

    Parameters
    ----------
    x, y : array-like (N,)
        Observations.
    level : float
        Of the interval.

    Returns
    -------
    LineResult
        Figures ``slope_low``, ``slope_high``. The standard error of the slope is the half-width of
        its interval by the normal quantile; the intercept's follows with the slope about the
        median x.

    References
    ----------
    .. [1] Sen, J. Am. Stat. Assoc. 63 (1968) 1379.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.theil_sen([0, 1, 2, 3, 4], [1, 3, 5, 7, 90])
    >>> print(fit.params)
    {'slope': 2.0, 'intercept': 1.0}
    """
    x, y = plain_points(x, y, 3)
    check_level(level)
    dx, dy = pair_slopes(x, y)
    slopes = np.sort((dy / np.where(dx == 0, np.nan, dx))[dx != 0])
    if not slopes.size:
        raise InputError("`x` has one value only; a line of y needs two.")
    slope = float(np.median(slopes))
    intercept = float(np.median(y - slope * x))
    low, high = _sen_interval(slopes, x, y, level)
    z = normal_quantile(0.5 + level / 2)
    u_slope = (high - low) / (2 * z)
    left = y - intercept - slope * x
    u_level = 1.2533 * 1.4826 * float(np.median(np.abs(left))) / math.sqrt(len(x))
    middle = float(np.median(x))
    cov = np.array(
        [
            [u_slope**2, -middle * u_slope**2],
            [-middle * u_slope**2, u_level**2 + (middle * u_slope) ** 2],
        ]
    )
    fit = restate(
        single(line(x, y, 0.0, 1.0, absolute_sigma=False)), slope, intercept, cov, "ranks"
    )
    return as_line(
        fit,
        "Theil and Sen's line",
        "that x is exact; any errors of y, and outliers",
        {"slope_low": low, "slope_high": high},
        [(f"{percent(level)} interval of the slope", interval_text(low, high))],
    )


def _sen_interval(
    slopes: FloatArray, x: FloatArray, y: FloatArray, level: float
) -> tuple[float, float]:
    """Return the slopes between whose ranks the true one lies."""
    n, count = len(x), len(slopes)
    ties = [
        float(c * (c - 1) * (2 * c + 5))
        for v in (x, y)
        for c in np.unique(v, return_counts=True)[1]
        if c > 1
    ]
    variance = (n * (n - 1) * (2 * n + 5) - sum(ties)) / 18
    half = normal_quantile(0.5 + level / 2) * math.sqrt(max(variance, 0.0))
    upper = min(int(np.round((count + half) / 2)), count - 1)
    lower = max(int(np.round((count - half) / 2)) - 1, 0)
    return float(slopes[lower]), float(slopes[upper])
