"""York's closed iteration for a straight line with correlated errors (York et al. 2004)."""

from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    intercept: float
    slope: float
    se_intercept: float
    se_slope: float
    cov: float
    chi2: float


def york(x, y, sx, sy, rho=0.0, slope=None, steps=10_000) -> Line:
    """Fit y = intercept + slope * x; no deviation may be 0. Runs to the last bit it can."""
    x, y, sx, sy, rho = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, y, sx, sy, rho)))
    wx, wy = 1 / sx**2, 1 / sy**2
    alpha = np.sqrt(wx * wy)
    b = np.polyfit(x, y, 1)[0] if slope is None else slope
    for _ in range(steps):
        W = wx * wy / (wx + b**2 * wy - 2 * b * rho * alpha)
        x_bar, y_bar = (W * x).sum() / W.sum(), (W * y).sum() / W.sum()
        U, V = x - x_bar, y - y_bar
        beta = W * (U / wy + b * V / wx - (b * U + V) * rho / alpha)
        b, old = (W * beta * V).sum() / (W * beta * U).sum(), b
        if abs(b - old) <= 4e-16 * abs(b):
            break
    a = y_bar - b * x_bar
    adjusted = x_bar + beta
    mean = (W * adjusted).sum() / W.sum()
    var_b = 1 / (W * (adjusted - mean) ** 2).sum()
    var_a = 1 / W.sum() + mean**2 * var_b
    chi2 = (W * (y - b * x - a) ** 2).sum()
    return Line(a, b, float(np.sqrt(var_a)), float(np.sqrt(var_b)), -mean * var_b, chi2)
