"""Standard errors and intervals by leaving points out and by drawing them anew."""

from collections.abc import Callable

import numpy as np

from gradfit._types import FloatArray
from gradfit._uncertainty.bootstrap import bca_share

Estimate = Callable[[FloatArray, FloatArray], FloatArray]


def jackknife(estimate: Estimate, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the estimates (N, k) with each point left out in turn."""
    n = len(x)
    keep = np.array([[j for j in range(n) if j != i] for i in range(n)])
    return estimate(x[keep], y[keep])


def draws(estimate: Estimate, x: FloatArray, y: FloatArray, count: int, seed: int) -> FloatArray:
    """Return the estimates (B, k) of points drawn with replacement, where there is one."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(x), (count, len(x)))
    found = estimate(x[index], y[index])
    return found[np.isfinite(found).all(1)]


def bias_corrected(
    samples: FloatArray, left_out: FloatArray, value: float, level: float
) -> tuple[float, float]:
    r"""Return Efron's interval (BCa): percentiles, shifted for bias and skewness.

    Parameters
    ----------
    samples : (B,)
        Bootstrap estimates.
    left_out : (N,)
        Jackknife estimates.
    value : float
        The estimate itself.
    level : float
        Of the interval.

    References
    ----------
    .. [1] Efron, J. Am. Stat. Assoc. 82 (1987) 171.
    """
    share = float(
        np.clip(np.mean(samples < value) + 0.5 * np.mean(samples == value), 1e-6, 1 - 1e-6)
    )
    away = left_out.mean() - left_out
    total = float((away**2).sum())
    skew = float((away**3).sum()) / (6 * total**1.5) if total > 0 else 0.0
    ends = [bca_share(share, skew, tail) for tail in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(samples, ends)
    return float(low), float(high)
