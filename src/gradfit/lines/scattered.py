r"""Lines through points that scatter by more than their errors, as scaling relations do.

The scatter of its own, :math:`\sigma_{int}`, is a parameter found along with the line. Taking the
true x as parameters (as orthogonal distance regression does) or as anywhere alike makes such a line
too steep or too flat; taking them as normally distributed, with mean and width found along, does
not: marginalised normal regression.

Bartlett and Desmond, Open J. Astrophys. 6 (2023) 42.
"""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gradfit._format import plural
from gradfit._model import Model
from gradfit._result import FitResult
from gradfit._types import FloatArray, Status
from gradfit.errors import InputError
from gradfit.lines.least_squares import single
from gradfit.lines.likelihood import Peak, maximise
from gradfit.lines.result import LineResult, as_line, restate, value_text
from gradfit.lines.straight import line


def with_scatter(x: Tensor, slope: Tensor, intercept: Tensor, scatter: Tensor) -> Tensor:
    """Return the middle of the relation, which its scatter does not move."""
    return slope * x + intercept + 0 * scatter


RELATION = Model(
    fn=with_scatter,
    names=("slope", "intercept", "scatter"),
    label="line with scatter",
    correctable=False,
)


def scatter(
    x: Any,
    y: Any,
    sx: Any = 0.0,
    sy: Any = 0.0,
    rho: Any = None,
    *,
    direction: Literal["y", "perpendicular"] = "y",
    prior: Literal["normal", "flat"] = "normal",
) -> LineResult:
    r"""Fit a line with intrinsic scatter, by maximum likelihood.

    With a normal prior of the true x (mean :math:`\mu`, width :math:`w`, found along) every point
    is drawn from a normal distribution of two variables:

    .. math::  \begin{pmatrix} x_i \\ y_i \end{pmatrix} \sim N\left[
               \begin{pmatrix} \mu \\ a + b\mu \end{pmatrix},\
               w^2 \begin{pmatrix} 1 & b \\ b & b^2 \end{pmatrix} + V_i
               + \sigma_{int}^2\, d d^T \right],

    :math:`V_i` being its errors and :math:`d` the direction of the scatter: along y, or
    perpendicular to the line. With a flat prior only the distance from the line counts,
    :math:`\ln L = \tfrac12 \sum_i [\ln((1 + b^2)/S_i) - r_i^2/S_i]`, as in hyperfit; where errors
    of x are not small beside the spread of x, that is biased.

    Parameters
    ----------
    x, y : array-like (N,)
        Observations.
    sx, sy : number or array-like (N,)
        Standard deviations; 0 means exact.
    rho : number or array-like (N,), optional
        Correlation of the errors at each point.
    direction : "y" or "perpendicular"
        Along which the points scatter.
    prior : "normal" or "flat"
        What is taken of the true x.

    Returns
    -------
    LineResult
        Parameters ``slope``, ``intercept`` and ``scatter`` with standard errors from the second
        derivatives of the log-likelihood; chi-square counts the scatter as an error. Figures
        ``log_likelihood`` and, with a normal prior, ``mean_x`` and ``width_x``.

    References
    ----------
    .. [1] Bartlett and Desmond, Open J. Astrophys. 6 (2023) 42.
    .. [2] Robotham and Obreschkow, Publ. Astron. Soc. Aust. 32 (2015) e033.

    Examples
    --------
    >>> import numpy as np, gradfit as gf
    >>> rng = np.random.default_rng(0)
    >>> t = rng.normal(0, 3, 400)
    >>> x = t + rng.normal(0, 1, 400)
    >>> y = 1 + 0.5 * t + rng.normal(0, 0.7, 400) + rng.normal(0, 0.3, 400)
    >>> fit = gf.lines.scatter(x, y, 1.0, 0.3)
    >>> print(f"{fit.params['slope']:.2f} {fit.params['scatter']:.2f}")
    0.50 0.64
    """
    if direction not in ("y", "perpendicular"):
        raise InputError(f'`direction` must be "y" or "perpendicular", got {direction!r}.')
    if prior not in ("normal", "flat"):
        raise InputError(f'`prior` must be "normal" or "flat", got {prior!r}.')
    # Without any errors a line takes plain distances.
    errors = (sx, sy) if np.any(sx) or np.any(sy) else (None, None)
    first = single(line(x, y, *errors, rho))
    points = _Points.of(first, least=5)
    relation = _Relation(points, direction == "perpendicular", prior == "normal")
    peak = maximise(relation.negative, relation.start())
    fit = _told(first, points, relation, peak)
    dimensions = 2 if prior == "normal" else 1
    constant = 0.5 * dimensions * len(points.x) * math.log(2 * math.pi)
    figures = {"log_likelihood": -peak.value - constant}
    if prior == "normal":
        figures["mean_x"] = float(peak.theta[3]) + points.centre[0]
        figures["width_x"] = abs(float(peak.theta[4]))
    kind = "marginalised normal regression" if prior == "normal" else "flat prior of x"
    return as_line(
        fit,
        f"Line with intrinsic scatter ({kind})",
        f"normal scatter of its own, {'along y' if direction == 'y' else 'across the line'}, "
        "beside the errors given"
        + (", and true x that are normally distributed" if prior == "normal" else ""),
        figures,
        [("intrinsic scatter", value_text(fit.params["scatter"], fit.stderr["scatter"]))],
    )


class _Points:
    """Centred points with their error variances, as tensors."""

    def __init__(self, x: FloatArray, y: FloatArray, variances: tuple[Any, Any, Any]) -> None:
        self.centre = (float(x.mean()), float(y.mean()))
        self.x = torch.from_numpy(x - self.centre[0])
        self.y = torch.from_numpy(y - self.centre[1])
        shape = self.x.shape
        self.vx, self.vy, self.c = (
            torch.from_numpy(np.broadcast_to(v, shape).astype(np.float64)) for v in variances
        )

    @classmethod
    def of(cls, fit: FitResult, least: int) -> "_Points":
        """Take the points of a line that was fitted to them, and checked."""
        data = fit.observed
        x, y = np.asarray(data.x), np.asarray(data.y)
        if len(x) < least:
            raise InputError(
                f"{plural(len(x), 'point')} cannot tell a scatter; at least {least} are needed."
            )
        sx, sy, rho = (np.asarray(0.0 if v is None else v) for v in (data.sx, data.sy, data.rho))
        return cls(x, y, (sx**2, sy**2, rho * sx * sy))


class _Relation:
    """The likelihood of a line with scatter: slope, intercept, scatter and, normal, mean, width."""

    def __init__(self, points: _Points, across: bool, normal: bool) -> None:
        self.points, self.across, self.normal = points, across, normal

    def start(self) -> Tensor:
        """Begin with the line of the moments, half of its scatter taken as intrinsic."""
        p = self.points
        sxx, syy, sxy = p.x.square().mean(), p.y.square().mean(), (p.x * p.y).mean()
        real = (sxx - p.vx.mean()).clamp(min=0.1 * sxx)
        slope = (sxy - p.c.mean()) / real
        left = (syy - slope * sxy).clamp(min=0.01 * syy)
        intrinsic = (left / 2).sqrt()
        if self.across:
            intrinsic = intrinsic / (1 + slope * slope).sqrt()
        zero = torch.zeros_like(slope)
        parts = (
            [slope, zero, intrinsic, zero, real.sqrt()] if self.normal else [slope, zero, intrinsic]
        )
        return torch.stack(parts)

    def spread(self, b: Tensor, s: Tensor) -> Tensor:
        """Variance (N,) of ``y - a - b x`` about 0."""
        p = self.points
        own = s * s * (1 + b * b) if self.across else s * s
        return p.vy + b * b * p.vx - 2 * b * p.c + own

    def negative(self, theta: Tensor) -> Tensor:
        """Return the negative log-likelihood, without its constant."""
        p = self.points
        b, a, s = theta[0], theta[1], theta[2]
        if not self.normal:
            S = self.spread(b, s)
            return 0.5 * ((S / (1 + b * b)).log() + (p.y - a - b * p.x) ** 2 / S).sum()
        m, w2 = theta[3], theta[4] ** 2
        share = s * s / (1 + b * b)
        one = torch.ones_like(s)
        dxx, dxy, dyy = (
            (share * b * b, -share * b, share) if self.across else (0 * one, 0 * one, s * s)
        )
        xx, xy, yy = w2 + p.vx + dxx, b * w2 + p.c + dxy, b * b * w2 + p.vy + dyy
        det = xx * yy - xy * xy
        u, v = p.x - m, p.y - a - b * m
        return 0.5 * (det.log() + (yy * u * u - 2 * xy * u * v + xx * v * v) / det).sum()


def _told(first: FitResult, points: _Points, relation: _Relation, peak: Peak) -> FitResult:
    """Say the peak as a fit: off the centre, with the scatter counted as an error."""
    b, a, s = peak.theta[:3].tolist()
    x0, y0 = points.centre
    J = np.array([[1.0, 0, 0], [-x0, 1, 0], [0, 0, 1 if s >= 0 else -1]])
    cov = J @ peak.cov[:3, :3].numpy() @ J.T
    stderr = np.sqrt(np.diag(cov))
    intercept = y0 + a - b * x0
    S = relation.spread(peak.theta[0], peak.theta[2]).numpy()
    chi2 = float((((points.y.numpy() - a - b * points.x.numpy()) ** 2) / S).sum())
    dof = len(S) - 3
    base = restate(first, b, intercept, cov[:2, :2], "observed")
    status = Status.GRADIENT if peak.settled else Status.MAX_STEPS
    names = ("slope", "intercept", "scatter")
    return replace(
        base,
        names=names,
        params={"slope": b, "intercept": intercept, "scatter": abs(s)},
        stderr=dict(zip(names, stderr.tolist(), strict=True)),
        cov=cov,
        chi2=chi2,
        dof=dof,
        mswd=chi2 / dof,
        p_value=math.nan,
        status=status,
        success=status.ok,
        message=status.message,
        n_steps=peak.n_steps,
        absolute_sigma=True,
        cov_type="observed",
        model=RELATION,
        rank=3,
    )


def disperse(
    x: Any, y: Any, sx: Any, sy: Any, rho: Any, *, along: bool
) -> tuple[FitResult, float, float]:
    r"""Fit York's line with a dispersion ``w`` of intercepts, or of slopes if ``along``.

    .. math::  \ln L = -\tfrac12 \sum_i \left[ \ln S_i + r_i^2/S_i \right], \qquad
               S_i = \sigma_{y,i}^2 + b^2\sigma_{x,i}^2 - 2 b \rho_i \sigma_{x,i}\sigma_{y,i}
                     + w^2 [x_i^2]

    Returns the fit, ``w`` and its standard error.
    """
    first = single(line(x, y, sx, sy, rho))
    points = _Points.of(first, least=4)
    x0, y0 = points.centre
    factor = (points.x + x0) ** 2 if along else torch.ones_like(points.x)

    def variance(theta: Tensor) -> Tensor:
        b = theta[0]
        return points.vy + b * b * points.vx - 2 * b * points.c + theta[2] ** 2 * factor

    def negative(theta: Tensor) -> Tensor:
        S = variance(theta)
        left = points.y - theta[1] - theta[0] * points.x
        return 0.5 * (S.log() + left * left / S).sum()

    b = first.params["slope"]
    a = first.params["intercept"] + b * x0 - y0
    zero = torch.tensor([b, a, 0.0], dtype=torch.float64)
    left = points.y - a - b * points.x
    extra = ((left.square() - variance(zero)).clamp(min=0).mean() / factor.mean()).sqrt()
    typical = (variance(zero).mean() / factor.mean()).sqrt()
    zero[2] = torch.maximum(extra, 0.1 * typical)
    peak = maximise(negative, zero)
    J = np.array([[1.0, 0, 0], [-x0, 1, 0], [0, 0, 1]])
    cov = J @ peak.cov.numpy() @ J.T
    slope, level, w = peak.theta.tolist()
    fit = restate(first, slope, y0 + level - slope * x0, cov[:2, :2], "observed")
    S = variance(peak.theta)
    chi2 = float(((points.y - level - slope * points.x) ** 2 / S).sum())
    dof = len(points.x) - 3
    fit = replace(
        fit, chi2=chi2, dof=dof, mswd=chi2 / dof if dof else math.nan, cov_type="observed"
    )
    return fit, abs(w), math.sqrt(max(cov[2, 2], 0.0))
