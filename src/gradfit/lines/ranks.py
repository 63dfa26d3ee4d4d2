"""Lines by the ranks of slopes: no error model, and outliers hardly matter."""

import math
from typing import Any

import numpy as np

from gradfit._data.synonyms import understood
from gradfit._distributions import check_level, normal_quantile
from gradfit._format import percent
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.estimators import TheilSen
from gradfit.lines.least_squares import single
from gradfit.lines.points import plain_points, refuse_one_value
from gradfit.lines.ranked import sen_interval, theil_sen_lines
from gradfit.lines.restated import as_line, interval_text, restate
from gradfit.lines.result import LineResult
from gradfit.lines.straight import line


@understood
@undisturbed
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
    refuse_one_value(x)
    slope, intercept = theil_sen_lines(x[None], y[None])[0].tolist()
    low, high = sen_interval(x, y, level)
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
        estimator=TheilSen(),
    )
