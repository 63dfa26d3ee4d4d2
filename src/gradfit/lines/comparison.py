"""Two methods of measurement compared, as clinical chemistry does it (CLSI EP09)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradfit._data.checks import to_count, to_finite
from gradfit._data.synonyms import understood
from gradfit._distributions import check_level, t_quantile
from gradfit._format import number, percent, probability
from gradfit._types import FloatArray
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.estimators import PassingBablok
from gradfit.lines.least_squares import single
from gradfit.lines.points import plain_points, positive_number, refuse_one_value, to_plain
from gradfit.lines.ranked import (
    deming_lines,
    in_parts,
    passing_bablok_intervals,
    passing_bablok_lines,
)
from gradfit.lines.resampling import bias_corrected, draws, jackknife, jackknife_cov
from gradfit.lines.restated import as_line, interval_text, restate
from gradfit.lines.result import LineResult, Row
from gradfit.lines.straight import line


@understood
@undisturbed
def deming(
    x: Any,
    y: Any,
    *,
    ratio: float = 1.0,
    level: float = 0.95,
    decision_levels: Sequence[float] = (),
) -> LineResult:
    r"""Compare a test method ``y`` with a reference ``x`` by Deming's regression.

    .. math::  b = \frac{S_{yy} - \lambda S_{xx}
               + \sqrt{(S_{yy} - \lambda S_{xx})^2 + 4 \lambda S_{xy}^2}}{2 S_{xy}},
               \qquad \lambda = \sigma_y^2/\sigma_x^2

    Assumes that both methods have constant errors whose ratio is known. Standard errors and
    intervals are the jackknife's (Linnet), with Student's t of ``N - 2``.

    Parameters
    ----------
    x, y : array-like (N,)
        Reference and test method, in one unit.
    ratio : float
        Variance of the errors of y over that of x. (Some programs ask for its inverse, others for a
        ratio of standard deviations.)
    level : float
        Of the intervals.
    decision_levels : sequence of float
        Values of x at which the systematic difference ``a + (b - 1) x`` is asked for.

    Returns
    -------
    LineResult
        Figures ``slope_low``, ``slope_high``, ``intercept_low``, ``intercept_high``, ``r``, and at
        each decision level ``difference[X]``, ``difference_low[X]``, ``difference_high[X]``.

    References
    ----------
    .. [1] Linnet, Clin. Chem. 39 (1993) 424.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.deming([1, 2, 3, 4, 5], [1.1, 1.9, 3.2, 3.9, 5.2])
    >>> print(f"{fit.params['slope']:.4f} {fit.params['intercept']:.4f}")
    1.0244 -0.0132
    """
    x, y = plain_points(x, y, 4)
    ratio = positive_number("ratio", ratio)
    check_level(level)
    levels = _levels(decision_levels)
    refuse_one_value(x)

    def estimate(a: FloatArray, b: FloatArray) -> FloatArray:
        return deming_lines(a, b, ratio)

    values, left_out = estimate(x[None], y[None])[0], jackknife(estimate, x, y)
    _refuse_none(values, left_out)
    cov = jackknife_cov(left_out)
    fit = single(line(x, y, 1.0, math.sqrt(ratio), absolute_sigma=False))
    fit = restate(fit, float(values[0]), float(values[1]), cov, "jackknife")
    t = t_quantile(0.5 + level / 2, len(x) - 2)

    def interval(weights: FloatArray) -> tuple[float, float]:
        middle, half = float(weights @ values), t * math.sqrt(float(weights @ cov @ weights))
        return middle - half, middle + half

    figures, told = _compared(x, y, values, interval, (level, levels))
    return as_line(
        fit,
        f"Deming's regression, error ratio {number(ratio, 4)}",
        "constant errors of both methods, and that the ratio of their variances is right",
        figures,
        told,
        "comparison",
    )


@understood
@undisturbed
def passing_bablok(
    x: Any,
    y: Any,
    *,
    level: float = 0.95,
    decision_levels: Sequence[float] = (),
    n_resamples: int = 999,
    seed: int = 0,
) -> LineResult:
    r"""Compare two methods by Passing and Bablok's regression.

    The slope is the median of the slopes of all pairs of points, shifted by the number of slopes
    below -1, so that exchanging the methods inverts it; the intercept the median of
    :math:`y_i - b x_i`. Assumes a linear relation and errors of both methods in proportion to the
    slope, of any distribution; outliers hardly matter.

    Parameters
    ----------
    x, y : array-like (N,)
        Two methods, positively related, in one unit.
    level : float
        Of the intervals.
    decision_levels : sequence of float
        Values of x at which the systematic difference ``a + (b - 1) x`` is asked for.
    n_resamples : int
        Bootstrap samples, for standard errors and BCa intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    LineResult
        Figures as of :func:`deming`, with Passing and Bablok's own intervals of slope and
        intercept; ``slope_bca_low`` and so on from the bootstrap; ``linearity_p`` of the cusum
        test.

    References
    ----------
    .. [1] Passing and Bablok, J. Clin. Chem. Clin. Biochem. 21 (1983) 709.
    .. [2] Efron, J. Am. Stat. Assoc. 82 (1987) 171.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.passing_bablok([1, 2, 3, 4, 5, 6], [1.1, 1.9, 3.2, 3.9, 5.2, 20.0])
    >>> print(f"{fit.params['slope']:.3f} {fit.params['intercept']:.3f}")
    1.100 -0.200
    """
    x, y = plain_points(x, y, 5)
    check_level(level)
    levels = _levels(decision_levels)
    if to_count("`n_resamples`", n_resamples) < 100:
        raise InputError(f"`n_resamples` must be at least 100, got {n_resamples!r}.")
    _refuse_falling(x, y)
    values = passing_bablok_lines(x[None], y[None])[0]
    if not np.isfinite(values).all():
        raise InputError(
            "the median of the slopes is infinite: too many points share their x; give values "
            "with more digits."
        )

    def estimate(a: FloatArray, b: FloatArray) -> FloatArray:
        return in_parts(passing_bablok_lines, a, b)

    samples, left_out = draws(estimate, x, y, n_resamples, seed), jackknife(estimate, x, y)
    left_out = left_out[np.isfinite(left_out).all(1)]
    if len(samples) < n_resamples // 2 or len(left_out) < 2:
        raise InputError(
            "most samples of these points have no median slope: too many share their x or y."
        )
    cov = np.cov(samples.T)
    own = passing_bablok_intervals(x, y, level)

    def interval(weights: FloatArray) -> tuple[float, float]:
        if weights[1] == 0.0 or weights[0] == 0.0:
            return own[0] if weights[1] == 0.0 else own[1]
        return bias_corrected(samples @ weights, left_out @ weights, float(values @ weights), level)

    figures, told = _compared(x, y, values, interval, (level, levels))
    for name, k in (("slope", 0), ("intercept", 1)):
        low, high = bias_corrected(samples[:, k], left_out[:, k], float(values[k]), level)
        figures |= {f"{name}_bca_low": low, f"{name}_bca_high": high}
        told.append((f"{name}, BCa interval", interval_text(low, high)))
    figures["linearity_p"] = p = _cusum(x, y, float(values[0]), float(values[1]))
    doubt = "" if p > 0.05 else ": NOT LINEAR"
    told.append(("linearity (cusum test)", f"p {probability(p)}{doubt}"))
    fit = single(line(x, y, 1.0, 1.0, absolute_sigma=False))
    fit = restate(fit, float(values[0]), float(values[1]), cov, "bootstrap")
    return as_line(
        fit,
        "Passing and Bablok's regression",
        "a linear relation, and errors of both methods in proportion to its slope",
        figures,
        told,
        "comparison",
        estimator=PassingBablok(),
    )


def _levels(values: Any) -> list[float]:
    """Return decision levels as numbers."""
    return [to_finite("`decision_levels`", v) for v in to_plain("decision_levels", values).ravel()]


def _refuse_none(values: FloatArray, left_out: FloatArray) -> None:
    """Raise where there is no line, or hangs on one point."""
    if not np.isfinite(values).all():
        raise InputError(
            "these points determine no line of y: they stand upright, or scatter alike in every "
            "direction."
        )
    lost = np.flatnonzero(~np.isfinite(left_out).all(1))
    if lost.size:
        raise InputError(
            f"without point [{lost[0]}] the others determine no line, so that the jackknife tells "
            "no errors; use gf.line."
        )


def _refuse_falling(x: FloatArray, y: FloatArray) -> None:
    """Raise unless two methods rise together."""
    for name, v in (("x", x), ("y", y)):
        if not np.ptp(v) > 0:
            raise InputError(f"`{name}` has one value only; methods compared must rise together.")
    if _correlation(x, y) < 0:
        raise InputError(
            "`x` and `y` fall against each other; methods compared must rise together."
        )


def _correlation(x: FloatArray, y: FloatArray) -> float:
    """Return the correlation; NaN where one of the two is constant."""
    if not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return math.nan
    return float(np.corrcoef(x / np.abs(x).max(), y / np.abs(y).max())[0, 1])


def _cusum(x: FloatArray, y: FloatArray, slope: float, intercept: float) -> float:
    """Return the probability of so long a run of points on one side of the line."""
    left = y - intercept - slope * x
    above, below = int((left > 0).sum()), int((left < 0).sum())
    if not above or not below:
        return 1.0
    score = np.where(left > 0, math.sqrt(below / above), -math.sqrt(above / below))
    # The order along the line, which may be flat.
    order = np.argsort(x + slope * (y - intercept), kind="stable")
    score = np.where(left == 0, 0.0, score)[order]
    H = float(np.abs(np.cumsum(score)).max()) / math.sqrt(above + 1)
    k = np.arange(1, 101)
    tail = 2 * float(((-1.0) ** (k - 1) * np.exp(-2 * (k * H) ** 2)).sum())
    return min(max(tail, 0.0), 1.0) if H > 0.2 else 1.0


def _compared(
    x: FloatArray,
    y: FloatArray,
    values: FloatArray,
    interval: Callable[[FloatArray], tuple[float, float]],
    asked: tuple[float, Sequence[float]],
) -> tuple[dict[str, float], list[Row]]:
    """Figures and words that every comparison of methods has."""
    level, decision_levels = asked
    slope, intercept = interval(np.array([1.0, 0.0])), interval(np.array([0.0, 1.0]))
    figures = {
        "slope_low": slope[0],
        "slope_high": slope[1],
        "intercept_low": intercept[0],
        "intercept_high": intercept[1],
        "r": _correlation(x, y),
    }
    told: list[Row] = [
        (f"slope, {percent(level)} interval", _verdict(*slope, 1.0, "proportional difference")),
        (f"intercept, {percent(level)} interval", _verdict(*intercept, 0.0, "constant difference")),
        ("correlation r", number(figures["r"], 4)),
    ]
    for at in decision_levels:
        weights = np.array([float(at), 1.0])
        difference = float(weights @ values) - at
        low, high = (v - at for v in interval(weights))
        key = number(at, 6)
        figures |= {
            f"difference[{key}]": difference,
            f"difference_low[{key}]": low,
            f"difference_high[{key}]": high,
        }
        share = f", {100 * difference / at:+.2f} %" if at else ""
        told.append(
            (f"difference at {key}", f"{number(difference, 4)}{share} ({interval_text(low, high)})")
        )
    return figures, told


def _verdict(low: float, high: float, none: float, what: str) -> str:
    found = "no" if low <= none <= high else "a"
    return f"{interval_text(low, high)}: {found} {what}"
