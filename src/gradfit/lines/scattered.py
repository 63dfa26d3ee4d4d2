r"""Lines through points that scatter by more than their errors, as scaling relations do.

The scatter of its own, :math:`\sigma_{int}`, is a parameter found along with the line. Taking the
true x as parameters (as orthogonal distance regression does) or as anywhere alike makes such a line
too steep or too flat; taking them as normally distributed, with mean and width found along, does
not: marginalised normal regression.

Bartlett and Desmond, Open J. Astrophys. 6 (2023) 42.
"""

import math
import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gradfit._data.synonyms import understood
from gradfit._fit import warn_of
from gradfit._format import plural, shown
from gradfit._likelihood import Verdict, judge_scatter, maximise, said_of_scatter
from gradfit._result import FitResult
from gradfit._types import FloatArray, Status
from gradfit.errors import ConvergenceWarning, InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.least_squares import single
from gradfit.lines.models import LINE, RELATION
from gradfit.lines.points import plain_points, refuse_one_value, to_plain
from gradfit.lines.relations import (
    Cloud,
    Dispersion,
    Relation,
    Scatter,
    cloud_of,
    told,
    told_cov,
)
from gradfit.lines.resampling import sample_of
from gradfit.lines.restated import as_line, restate, value_text
from gradfit.lines.result import LineResult
from gradfit.lines.straight import line


@understood
@undisturbed
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
        derivatives of the log-likelihood; chi-square and residuals count the scatter as an error.
        Figures ``log_likelihood``, with a normal prior ``mean_x`` and ``width_x``, and
        ``scatter_limit``: where there may be no scatter, the largest it can be (95 %, from the
        profile likelihood), else NaN. Where the errors explain all, ``scatter`` is 0, at its bound.

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
        raise InputError(f'`direction` must be "y" or "perpendicular", got {shown(direction)}.')
    if prior not in ("normal", "flat"):
        raise InputError(f'`prior` must be "normal" or "flat", got {shown(prior)}.')
    relation = Scatter(direction, prior)
    first, p = _begin(x, y, (sx, sy, rho), 5)
    negative = relation.negative(p)
    verdict = judge_scatter(negative, maximise(negative, relation.start(p)), 2)
    fit, own = _told(first, p, relation, verdict, len(RELATION.names))
    peak = verdict.peak
    dimensions = 2 if prior == "normal" else 1
    constant = 0.5 * dimensions * p.x.shape[1] * math.log(2 * math.pi)
    figures = {"log_likelihood": -float(peak.value[0]) - constant}
    if prior == "normal":
        figures["mean_x"] = float(peak.theta[0, 3] + p.x0)
        figures["width_x"] = abs(float(peak.theta[0, 4]))
    figures["scatter_limit"] = verdict.limit
    kind = "marginalised normal regression" if prior == "normal" else "flat prior of x"
    value = value_text(fit.params["scatter"], fit.stderr["scatter"])
    said = said_of_scatter("scatter", value, verdict.none, verdict.limit)
    return as_line(
        fit,
        f"Line with intrinsic scatter ({kind})",
        f"normal scatter of its own, {'along y' if direction == 'y' else 'across the line'}, "
        "beside the errors given"
        + (", and true x that are normally distributed" if prior == "normal" else ""),
        figures,
        [("intrinsic scatter", said)],
        estimator=relation,
        beyond=own,
    )


def _begin(x: Any, y: Any, errors: tuple[Any, Any, Any], least: int) -> tuple[FitResult, Cloud]:
    """Return a first line through points that were checked, and the points as a cloud."""
    x, y = plain_points(x, y, 1)
    if len(x) < least:
        raise InputError(
            f"{plural(len(x), 'point')} cannot tell a scatter; at least {least} are needed."
        )
    refuse_one_value(x)
    names = ("sx", "sy", "rho")
    sx, sy, rho = (
        None if v is None else to_plain(n, v) for n, v in zip(names, errors, strict=True)
    )
    # Without any errors a line takes plain distances.
    given = (sx, sy) if np.any(sx) or np.any(sy) else (None, None)
    with warnings.catch_warnings():
        # Whether this line converges does not matter; the one with scatter is told.
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = single(line(x, y, *given, rho))
    cloud = cloud_of(sample_of(first))
    _refuse_exact(x, y, cloud)
    return first, cloud


def _refuse_exact(x: FloatArray, y: FloatArray, p: Cloud) -> None:
    """Raise where points without errors lie on a line: any scatter, however small, is too much."""
    if float(p.vx.max()) > 0 or float(p.vy.max()) > 0:
        return
    u, v = p.x.numpy()[0], p.y.numpy()[0]
    left = v - float(u @ v) / float(u @ u) * u
    if float(np.abs(left).max()) <= 1e-13 * (float(np.abs(y).max()) + float(np.abs(v).max())):
        raise InputError(
            "the points lie on a straight line and have no errors: there is no scatter to find; "
            "use gf.line."
        )


def _told(
    first: FitResult, p: Cloud, relation: Relation, verdict: Verdict, k: int
) -> tuple[FitResult, FloatArray]:
    """Say the peak as a fit of ``k`` parameters, and the variance of y beyond the errors."""
    peak = verdict.peak
    slope, intercept, s = told(p, peak.theta)[0].tolist()
    cov = told_cov(p, peak.cov, float(peak.theta[0, 2]))
    own = relation.own(p, peak.theta)[0].numpy().copy()
    base = restate(first, slope, intercept, cov[:2, :2], "observed", own)
    status = Status.GRADIENT if bool(peak.settled[0]) else Status.STALLED
    values = (slope, intercept, s)
    if not all(map(math.isfinite, values)):
        status = Status.SINGULAR
    dof = len(own) - 3
    names, stderr = RELATION.names[:k], np.sqrt(np.maximum(np.diag(cov), 0.0))
    fit = replace(
        base,
        names=names,
        params=dict(zip(names, values, strict=False)),
        stderr=dict(zip(names, stderr.tolist(), strict=False)),
        cov=cov[:k, :k],
        dof=dof,
        mswd=base.chi2 / dof if dof > 0 else math.nan,
        status=status,
        success=status.ok,
        message=status.message if status.ok else NOT_FOUND,
        n_steps=peak.n_steps,
        absolute_sigma=True,
        model=RELATION if k == len(RELATION.names) else LINE,
        bounds={"scatter": (0.0, math.inf)} if k > 2 else {},
        at_bound=("scatter",) if verdict.none and k > 2 else (),
        rank=k,
        condition=_condition(cov[:k, :k]),
        loss="linear",
    )
    warn_of(fit)
    return fit, own


NOT_FOUND = (
    "no line with scatter is most likely: the likelihood has no maximum at which every parameter "
    "is determined; add points, or fit without scatter"
)


def _condition(cov: FloatArray) -> float:
    """Return the ratio of the singular values that a covariance of these parameters stands for."""
    size = np.sqrt(np.maximum(np.diag(cov), 0.0))
    some = size > 0
    corr = cov[np.ix_(some, some)] / np.outer(size[some], size[some])
    if not corr.size or not np.isfinite(corr).all():
        return math.inf
    low, high = np.linalg.eigvalsh(corr)[[0, -1]]
    return math.sqrt(high / low) if low > 0 else math.inf


def disperse(
    x: Any, y: Any, sx: Any, sy: Any, rho: Any, *, along: bool
) -> tuple[FitResult, Dispersion, FloatArray, Verdict, float]:
    r"""Fit York's line with a dispersion ``w`` of intercepts, or of slopes if ``along``.

    .. math::  \ln L = -\tfrac12 \sum_i \left[ \ln S_i + r_i^2/S_i \right], \qquad
               S_i = \sigma_{y,i}^2 + b^2\sigma_{x,i}^2 - 2 b \rho_i \sigma_{x,i}\sigma_{y,i}
                     + w^2 [x_i^2]

    Returns the fit, its estimator, the variance of y beyond the errors, what is said of ``w``, and
    the standard error of ``w``.
    """
    first, p = _begin(x, y, (sx, sy, rho), 4)
    relation = Dispersion(along)
    negative = relation.negative(p)
    verdict = judge_scatter(negative, maximise(negative, relation.start(p)), 2)
    fit, own = _told(first, p, relation, verdict, 2)
    return fit, relation, own, verdict, math.sqrt(max(float(verdict.peak.cov[0, 2, 2]), 0.0))
