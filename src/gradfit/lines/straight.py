r"""Straight lines through points with errors in both coordinates, in any direction.

A line is fitted as :math:`v = c + t\,u` where ``u`` is the coordinate along which the points lie
and ``v`` the other, both measured from the centre of the points. So the fitted slope ``t`` is never
large, a vertical line is as safe as a horizontal one, exchanging x and y changes nothing, and a
large common offset costs no digits. Only at the end is it told as a slope and an intercept.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gradfit._answer import Answer, answer_of, answer_of_work
from gradfit._conclude import End, PointArrays, conclude
from gradfit._data import Data, gather
from gradfit._dispatch import choose, note_time
from gradfit._dispatch import run as run_native
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.points import Grouping
from gradfit._engine.state import Options
from gradfit._fit import unfit, warn_of
from gradfit._model import Model
from gradfit._problem import Problem, state_problem
from gradfit._result import FitResult, FitTable
from gradfit._solve import solve
from gradfit.errors import InputError


def line(
    x: Any = None,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    *,
    data: Any = None,
    cov: Any = None,
    groups: Any = None,
    absolute_sigma: bool | None = None,
    cov_type: Literal["expected", "observed", "propagated", "sandwich"] = "expected",
    nan_policy: Literal["raise", "omit"] = "raise",
    max_steps: int = 500,
) -> FitResult | FitTable:
    r"""Fit a straight line ``y = intercept + slope*x``, with errors in x and y.

    .. math::  \chi^2 = \min_{\hat x} \sum_i
               \begin{pmatrix} \hat x_i - x_i \\ a + b \hat x_i - y_i \end{pmatrix}^T V_i^{-1}
               \begin{pmatrix} \hat x_i - x_i \\ a + b \hat x_i - y_i \end{pmatrix}

    No start values are needed. With errors in y alone this is least squares, with errors in x alone
    inverse least squares, with equal errors the orthogonal (total least squares) line, with a
    constant ratio Deming's, in general York's.

    Parameters
    ----------
    x, y : array-like (N,), or column names with ``data``
        Observations, each in its own unit.
    sx, sy : number or array-like, optional
        Standard deviations; 0 means exact. Neither given: perpendicular distance in the units as
        they are, covariance scaled by the scatter.
    rho : number or array-like, optional
        Correlation of the errors of x and y at a point.
    data, cov, groups, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`.

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the parameters ``slope`` (unit of y per unit of x) and ``intercept`` (unit of y). A
        vertical line has ``slope = inf`` and no intercept.

    References
    ----------
    .. [1] York, Evensen, Martinez and De Basabe Delgado, Am. J. Phys. 72 (2004) 367.

    Examples
    --------
    Pearson's data with York's weights:

    >>> import gradfit as gf
    >>> d = gf.datasets.pearson_york
    >>> fit = gf.line(d.x, d.y, d.sx, d.sy)
    >>> print(f"{fit.params['slope']:.9f} {fit.params['intercept']:.9f}")
    -0.480533407 5.479910224
    """
    began = time.perf_counter()
    given = _simplify(gather(x, y, sx, sy, rho, cov, groups, data=data, nan_policy=nan_policy))
    problem = _problem(given, absolute_sigma)
    frame = _frame(given, problem.n_groups)
    turned = _problem(frame.data, absolute_sigma)
    with torch.enable_grad():
        answer = _run(turned, frame.start, Options(max_steps=max_steps), unfit(problem), cov_type)
    end, told = _tell(frame, answer.end, answer.found)
    result = conclude(
        problem,
        end,
        told,
        _arrays(frame, answer.arrays),
        moved=answer.moved,
        cov_type=cov_type,
        loss=None,
        backend=answer.backend,
        began=began,
    )
    upright = _upright(frame, answer.end, answer.found)
    if upright and isinstance(result, FitResult):
        result = replace(result, message=result.message + upright)
    warn_of(result)
    return result


def _run(
    problem: Problem, start: Tensor, options: Options, ended: Tensor | None, cov_type: str
) -> Answer:
    """Fit by machine code where it is worth its while; a line has only one foot for each point."""
    kernels = choose(problem, start, None, "auto", None)
    began, moved = time.perf_counter(), problem.points.x.new_zeros(problem.points.n) > 0
    if not isinstance(kernels, str):
        fitted = run_native(kernels, problem, start, options, None, ended, feet=0)
        return answer_of(fitted, problem, None, cov_type, moved, kernels.backend)
    work, moved = solve(problem, start, options, ended=ended, feet=0)
    found = spread(work, cov_type)
    note_time(problem, time.perf_counter() - began)
    return answer_of_work(work, found, problem, moved)


def straight(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Return ``intercept + slope*x``."""
    return slope * x + intercept


LINE = Model(fn=straight, names=("slope", "intercept"), label="line")


def _problem(data: Data, absolute_sigma: bool | None) -> Problem:
    return state_problem(
        data,
        LINE,
        fixed=None,
        bounds=None,
        fix_x=None,
        absolute_sigma=absolute_sigma,
    )


def _simplify(data: Data) -> Data:
    """Write a joint covariance as two sigmas and a correlation, so that axes can be exchanged."""
    if data.y is None or data.x.shape[0] != 1 or data.y.shape[0] != 1:
        raise InputError("a line needs one `x` and one `y`, each with one value per point.")
    if data.cov is None:
        return data
    sx, sy = data.cov[0, 0].sqrt(), data.cov[1, 1].sqrt()
    rho = torch.where(sx * sy > 0, data.cov[0, 1] / (sx * sy), 0.0).clamp(-1, 1)
    return replace(data, sx=sx[None], sy=sy[None], rho=rho, cov=None)


@dataclass(frozen=True, eq=False)
class Frame:
    """The points seen from their centre, along the direction in which they lie.

    Attributes
    ----------
    data : Data
        Centred points; x and y exchanged where the line is steep.
    steep : Tensor (G,) bool
        Where they are.
    centre : Tensor (2, G)
        Mean of x and of y.
    start : Tensor (G, 2)
        Slope and intercept in this frame, to begin with.
    """

    data: Data
    steep: Tensor
    centre: Tensor
    start: Tensor

    def exchange(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange two (1, N) tensors where the points are turned."""
        return _exchange(Grouping(self.data.group, len(self.steep)).spread(self.steep), a, b)


def _frame(data: Data, n_groups: int) -> Frame:
    """Centre each group, turn steep ones on their side, and guess the slope from moments."""
    grouping = Grouping(data.group, n_groups)
    y = data.x if data.y is None else data.y
    count = grouping.sum(torch.ones_like(data.x[0]))
    centre = torch.stack([grouping.sum(v[0]) for v in (data.x, y)]) / count
    away = grouping.spread(centre)
    dx, dy = data.x - away[:1], y - away[1:]
    sxx, syy, sxy = (grouping.sum((a * b)[0]) / count for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    vx, vy = _mean_variances(data, grouping, count)
    # One unit of each coordinate is one typical error; a coordinate without errors has no scale,
    # and the points then lie along it.
    both = (vx > 0) & (vy > 0)
    scale = torch.where(both, (vx / vy).sqrt(), 1.0)
    angle = 0.5 * torch.atan2(2 * sxy * scale, sxx - syy * scale * scale)
    steep = torch.where(both, angle.abs() > 0.25 * torch.pi, (vy == 0) & (vx > 0))
    orthogonal = torch.where(steep, scale / torch.tan(angle), torch.tan(angle) / scale)
    regression = sxy / torch.where(steep, syy, sxx)
    slope = torch.where(both, orthogonal, regression).nan_to_num(0.0, 0.0, 0.0)
    start = torch.stack([slope, torch.zeros_like(slope)], 1)
    return Frame(_turn(data, grouping.spread(steep), dx, dy), steep, centre, start)


def _mean_variances(data: Data, grouping: Grouping, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared sigma (G,) of x and of y; 1 and 1 where nothing is given."""
    if data.sx is None and data.sy is None:
        return torch.ones_like(count), torch.ones_like(count)

    def mean(sigma: Tensor | None) -> Tensor:
        if sigma is None:
            return torch.zeros_like(count)
        return grouping.sum((sigma[0] * sigma[0]).expand(data.x.shape[1])) / count

    return mean(data.sx), mean(data.sy)


def _turn(data: Data, flip: Tensor, dx: Tensor, dy: Tensor) -> Data:
    """Return centred data, x and y exchanged where ``flip`` (N,) or (1,)."""
    sx, sy = data.sx, data.sy
    if sx is not None or sy is not None:
        zero = dx.new_zeros(1, 1)
        sx, sy = _exchange(flip, zero if sx is None else sx, zero if sy is None else sy)
    x, y = _exchange(flip, dx, dy)
    return replace(data, x=x, y=y, sx=sx, sy=sy)


def _exchange(flip: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange two (1, N) tensors where ``flip`` (N,) or (1,); nothing is copied for one fit."""
    if len(flip) == 1:
        return (b, a) if bool(flip) else (a, b)
    return torch.where(flip, b, a), torch.where(flip, a, b)


def _tell(frame: Frame, end: End, found: Spread) -> tuple[End, Spread]:
    r"""Say the line in the user's coordinates, and carry its covariance there.

    With centre :math:`(x_0, y_0)`: flat, :math:`b = t,\ a = y_0 + c - t x_0`; steep,
    :math:`b = 1/t,\ a = y_0 - (x_0 + c)/t`.
    """
    t, c = end.beta.mT
    x0, y0 = frame.centre
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    slope = torch.where(frame.steep, 1 / t, t)
    intercept = y0 + torch.where(frame.steep, -(x0 + c) / t, c - t * x0)
    flat = torch.stack([torch.stack([one, zero], -1), torch.stack([-x0, one], -1)], -2)
    turned = torch.stack(
        [
            torch.stack([-1 / (t * t), zero], -1),
            torch.stack([(x0 + c) / (t * t), -1 / t], -1),
        ],
        -2,
    )
    J = torch.where(frame.steep[:, None, None], turned, flat)
    vertical = frame.steep & (t.abs() <= 1e-12 * found.cov[:, 0, 0].sqrt())
    beta = torch.stack([slope, torch.where(vertical, torch.nan, intercept)], 1)
    lost = torch.tensor([[torch.inf, torch.nan], [torch.nan, torch.inf]]).to(t)
    cov = torch.where(vertical[:, None, None], lost, J @ found.cov @ J.mT)
    return end._replace(beta=beta), found._replace(cov=cov)


def _upright(frame: Frame, end: End, found: Spread) -> str:
    """Say so where a single line cannot be told from a vertical one, and where it stands."""
    t, c = end.beta[0]
    if len(frame.steep) > 1 or not bool(frame.steep[0]) or not end.status[0] < 10:
        return ""
    if bool(t.abs() > 2 * found.cov[0, 0, 0].sqrt()):
        return ""
    return f"; vertical within its uncertainty, at x = {float(frame.centre[0, 0] + c):.6g}"


def _arrays(frame: Frame, found: PointArrays) -> PointArrays:
    """Foot points and corrections, turned back."""
    if found.eps is None or found.y_hat is None:
        return found
    delta, eps = frame.exchange(found.delta, found.eps)
    centre = Grouping(frame.data.group, len(frame.steep)).spread(frame.centre)
    x, y = frame.exchange(found.x_hat, found.y_hat)
    return PointArrays(delta, eps, x + centre[:1], y + centre[1:])
