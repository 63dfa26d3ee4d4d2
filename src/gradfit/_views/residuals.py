r"""Standardised perpendicular residuals, and what they say about a fit.

With :math:`h` the distance from the curve's tangent at the foot point and :math:`S = G V G^T` its
variance, :math:`h / \sqrt S` is the distance from the curve in standard deviations, in the metric
of the errors and with a sign: positive above the curve (where an implicit model is positive).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradfit._distributions import normal_quantile
from gradfit._tangent import CHUNK, tangent
from gradfit._types import FloatArray
from gradfit._views.fitted import Fitted, Observations, as_array, rows

RARE = 0.01
"""Share of data sets whose farthest point may lie beyond what is called expected; or closer."""
ROUNDING = 4 * np.finfo(np.float64).eps
"""Share of x and y to which a distance from the curve is known."""


def standardised(fit: Fitted) -> FloatArray:
    """Return the residuals (q, N) in units of sigma; NaN for what was left out or not measured.

    Where sigmas are relative their unit is the scatter of the points. A distance within rounding
    error is 0, whatever the scatter.
    """
    n = fit.observed.x.shape[-1]
    pieces = [_standardised(fit, slice(k, k + CHUNK)) for k in range(0, n, CHUNK)]
    scale = fit.sigma_factor or 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate(pieces, 1) / scale


def _standardised(fit: Fitted, at: slice) -> FloatArray:
    """Return the residuals of some rows, for sigmas as given."""
    data = fit.observed
    x_hat = torch.from_numpy(np.array(as_array(fit.x_hat)[..., at]))
    here = tangent(fit.model, list(fit.params.values()), x_hat)
    J, value = here.J_x.numpy(), here.value.numpy()
    moved = np.einsum("qmn,mn->qn", J, rows(fit.delta)[:, at])
    h = value - moved if data.y is None else moved - rows(fit.eps)[:, at]
    reach = np.einsum("qmn,mn->qn", np.abs(J), np.abs(rows(as_array(fit.x_hat)[..., at])))
    h = np.where(np.abs(h) <= ROUNDING * np.fmax(reach, np.abs(value)), 0.0, h)
    own = fit.beyond()
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.einsum("qqn->qn", scatter(data, J, at))
        return h / np.sqrt(variance if own is None else variance + _part(own[None], at))


def scatter(data: Observations, J: FloatArray, at: Any = slice(None)) -> FloatArray:
    """Return the covariance (q, q, n) that the errors make across a curve of slope J (q, m, n).

    ``at`` says which rows of the data these are.
    """
    q, m, n = J.shape
    if data.cov is not None:
        V = _part(data.cov, at)
        of_x = np.einsum("qin,ijn,rjn->qrn", J, np.broadcast_to(V[:m, :m], (m, m, n)), J)
        if data.y is None:
            return of_x
        mixed = np.einsum("qin,irn->qrn", J, np.broadcast_to(V[:m, m:], (m, q, n)))
        return of_x - mixed - mixed.swapaxes(0, 1) + V[m:, m:]
    sx, sy = (_part(sigma, at) for sigma in sigmas(data))
    of_x = np.einsum("qmn,rmn->qrn", J * np.broadcast_to(sx**2, (m, n)), J)
    if data.y is None:
        return of_x
    total = of_x + np.eye(q)[:, :, None] * sy**2
    if data.rho is None:
        return total
    return total - 2 * _part(np.atleast_1d(data.rho), at) * J * sx * sy


def _part(values: FloatArray, at: Any) -> FloatArray:
    """Return the numbers of some rows; one number for all rows stays one."""
    return values if values.shape[-1] == 1 else values[..., at]


def sigmas(data: Observations) -> tuple[FloatArray, FloatArray]:
    """Return standard deviations of x and y as rows: all 1 if none was given, else 0 if missing."""
    if data.cov is not None:
        m = np.atleast_2d(data.x).shape[0]
        roots = np.sqrt(np.einsum("kkn->kn", data.cov))
        return roots[:m], roots[m:]
    none = data.sx is None and data.sy is None and data.rho is None
    missing = 1.0 if none else 0.0
    sx, sy = (missing if sigma is None else sigma for sigma in (data.sx, data.sy))
    return np.atleast_2d(np.asarray(sx)), np.atleast_2d(np.asarray(sy))


@dataclass(frozen=True)
class Check:
    """One question put to the residuals.

    Attributes
    ----------
    name : str
        What was looked at.
    found : str
        The number found.
    verdict : str
        What it means, in words.
    fine : bool
        Whether it speaks for the fit.
    """

    name: str
    found: str
    verdict: str
    fine: bool


def checks(fit: Fitted) -> list[Check]:
    """Ask the residuals whether model and errors can be right."""
    r = standardised(fit)
    return [_far(fit, r), *([_runs(fit, r)] if r.shape[0] == 1 else [])]


def _far(fit: Fitted, r: FloatArray) -> Check:
    size = np.abs(r[np.isfinite(r)])
    n = size.size
    share = float(np.mean(size < 1)) if n else math.nan
    limit = farthest_expected(n)
    far = outlying(fit, r)
    name = "largest residual"
    if not n:
        return Check(name, "-", "there are no residuals", True)
    found = f"{size.max():.1f} sigma"
    if far.size:
        return Check(name, found, f"beyond {limit:.1f} sigma: {listed(far)}", False)
    if fit.dof <= 0:
        return Check(name, found, "says nothing: as many parameters as points", True)
    if not size.max() > 0:
        return Check(name, found, "no scatter: all points lie on the curve", False)
    # A fit draws the curve to the points, and what is left has only so many degrees of freedom.
    least = least_expected(fit.dof) * math.sqrt(min(fit.dof / n, 1.0))
    if size.max() < least:
        return Check(name, found, f"all within {least:.1f} sigma: closer than expected", False)
    return Check(
        name,
        found,
        f"as expected of {n:,}; {100 * share:.0f} % lie within 1 sigma (normal: 68 %)",
        True,
    )


def outlying(fit: Fitted, r: FloatArray | None = None) -> Any:
    """Return the rows that lie farther off than one in a hundred such data sets would show."""
    r = standardised(fit) if r is None else r
    with np.errstate(invalid="ignore"):
        size = np.nan_to_num(np.abs(r), nan=0.0).max(0)
    return np.flatnonzero(size > farthest_expected(int(np.isfinite(r).sum())))


def outliers(fit: Fitted) -> Any:
    """Return the rows that lie too far off, whatever the loss: the farthest first."""
    r = standardised(fit)
    far = outlying(fit, r)
    with np.errstate(invalid="ignore"):
        size = np.nan_to_num(np.abs(r[:, far]), nan=0.0).max(0)
    return far[np.argsort(-size, kind="stable")]


def farthest_expected(n: int) -> float:
    """Return the distance, in sigmas, that the farthest of n normal residuals exceeds in 1 %."""
    return -normal_quantile(RARE / 2 / max(n, 1))


def least_expected(n: int) -> float:
    """Return the distance, in sigmas, within which all n normal residuals lie in 1 %."""
    return normal_quantile((1 + RARE ** (1 / max(n, 1))) / 2)


def listed(index: Any, most: int = 6) -> str:
    """Name points by their index: ``points [3], [17] and [21]``."""
    shown = [f"[{i}]" for i in index[:most]]
    if len(index) > most:
        return f"points {', '.join(shown)} and {len(index) - most:,} more"
    head, last = ", ".join(shown[:-1]), shown[-1]
    return f"points {head} and {last}" if head else f"point {last}"


def _runs(fit: Fitted, r: FloatArray) -> Check:
    """Count runs of one sign along the first variable (Wald and Wolfowitz 1940)."""
    along = np.argsort(rows(fit.observed.x)[0], kind="stable")
    signs = np.sign(r[0][along])
    signs = signs[np.isfinite(signs) & (signs != 0)]
    above, below = int((signs > 0).sum()), int((signs < 0).sum())
    n = above + below
    name = "runs of one sign"
    if min(above, below) < 4:
        return Check(name, "-", "too few points on one side to tell", True)
    runs = 1 + int((signs[1:] != signs[:-1]).sum())
    expected = 1 + 2 * above * below / n
    z = (runs - expected) / math.sqrt((expected - 1) * (expected - 2) / (n - 1))
    found = f"{runs:,} (expected {expected:,.0f})"
    if z < normal_quantile(0.001):
        return Check(name, found, "too few: the model misses a trend", False)
    if z > normal_quantile(0.999):
        return Check(name, found, "too many: neighbours alternate", False)
    return Check(name, found, "no trend left", True)
