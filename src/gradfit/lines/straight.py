r"""Straight lines through points with errors in both coordinates, in any direction.

A line is fitted as :math:`v = c + t\,u` where ``u`` is the coordinate along which the points lie
and ``v`` the other, both measured from the centre of the points. So the fitted slope ``t`` is never
large, a vertical line is as safe as a horizontal one, exchanging x and y changes nothing, and a
large common offset costs no digits. Only at the end is it told as a slope and an intercept.
"""

import math
import time
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gradfit._answer import Answer, answer_of, answer_of_work
from gradfit._asked import choose_cov_type, choose_loss, options_of, refuse_unknown
from gradfit._conclude import End, PointArrays, conclude
from gradfit._data import Data, gather
from gradfit._data.synonyms import understood
from gradfit._dispatch import attempt, choose, note_of, note_time
from gradfit._dispatch import run as run_native
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.loss import Loss
from gradfit._engine.sandwich import FROM_RESIDUALS
from gradfit._engine.state import Options
from gradfit._fit import CovType, warn_of
from gradfit._native.plan import Fitted
from gradfit._problem import Problem, state_problem
from gradfit._result import FitResult, FitTable
from gradfit._robust import (
    Ready,
    by_machine,
    by_torch,
    distances_of_work,
    make_ready,
    with_errors,
)
from gradfit._solve import solve
from gradfit._unfit import unfit
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.frames import Frame, frame_of, tell, upright
from gradfit.lines.many import first_points, fit_many
from gradfit.lines.models import LINE

MANY = 1 << 15
"""Points of many lines from which they go through piece by piece."""


@understood
@undisturbed
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
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    nan_policy: Literal["raise", "omit"] = "raise",
    backend: Literal["auto", "eager", "native"] = "auto",
    max_steps: int = 500,
    gtol: float = 1e-11,
    ftol: float = 0.0,
    xtol: float = 0.0,
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
    loss : str or (str, float)
        ``"linear"``, or a robust loss of the distance in sigmas, as in :func:`gradfit.fit`; where
        none are known, in units of the scatter.
    data, cov, groups, absolute_sigma, cov_type, nan_policy, backend, max_steps, gtol, ftol, xtol
        As in :func:`gradfit.fit`; no GPU is used.

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the parameters ``slope`` (unit of y per unit of x) and ``intercept`` (unit of y). A
        vertical line has ``slope = inf`` and no intercept, and is no success.

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
    options = options_of(gtol, ftol, xtol, max_steps)
    refuse_unknown("backend", backend, ("auto", "eager", "native"))
    given = _simplify(gather(x, y, sx, sy, rho, cov, groups, data=data, nan_policy=nan_policy))
    kind = choose_cov_type(cov_type)
    robust = choose_loss(loss)
    asked = _Asked(given, absolute_sigma, options, kind, backend, robust)
    with torch.enable_grad():
        solved = _solve_many(asked) if asked.are_many else None
        if solved is None:
            solved = _solve(asked)
    result = conclude(
        solved.problem,
        solved.end,
        solved.found,
        solved.arrays,
        moved=solved.moved,
        cov_type=kind,
        loss=robust,
        backend=solved.backend,
        began=began,
        scale=solved.scale,
    )
    if (solved.stands or solved.note) and isinstance(result, FitResult):
        ended = "" if solved.stands and not result.success else result.message
        said = "; ".join(part for part in (ended, solved.stands, solved.note) if part)
        result = replace(result, message=said)
    warn_of(result)
    return result


class Solved(NamedTuple):
    """Lines in the user's coordinates, as :func:`gradfit._conclude.conclude` takes them.

    ``moved`` marks points that found another foot: a line has only one for each. ``stands``
    says that a single line is vertical, or may be, and ``note`` why torch fitted it; both are added
    to its message. ``scale`` is that of robust lines.
    """

    problem: Problem
    end: End
    found: Spread
    arrays: PointArrays
    moved: Tensor
    backend: str
    stands: str = ""
    note: str = ""
    scale: Tensor | None = None


class _Asked(NamedTuple):
    """What is fitted, and how."""

    data: Data
    absolute_sigma: bool | None
    options: Options
    cov_type: str
    backend: str
    loss: Loss | None

    @property
    def are_many(self) -> bool:
        """Whether so many lines are asked for that they had better not go through as one."""
        data, x = self.data, self.data.x
        given = (data.sx is None) is (data.sy is None)
        plain = data.group is not None and data.definite and given and x.is_cpu
        simple = self.loss is None and self.cov_type == "expected"
        return plain and simple and x.shape[1] > MANY

    def problem(self, data: Data) -> Problem:
        """Return the problem that data as they are seen from somewhere pose."""
        return state_problem(
            data,
            LINE,
            fixed=None,
            bounds=None,
            fix_x=None,
            absolute_sigma=self.absolute_sigma,
        )


def _solve_many(asked: _Asked) -> Solved | None:
    """Fit by machine code piece by piece; None where it is not worth its while."""
    data = asked.data
    frame = frame_of(first_points(data), 1)
    seen = asked.problem(frame.data)
    size = {"n": data.x.shape[1], "count": len(data.keys)}
    kernels = choose(seen, frame.start, None, asked.backend, None, **size)
    if isinstance(kernels, str):
        return None
    problem = replace(seen, data=data)
    ended = unfit(problem)
    done = attempt(seen, asked.backend, lambda: fit_many(problem, kernels, asked.options, ended))
    if isinstance(done, str):
        return None
    end, found, arrays = done
    return Solved(problem, end, found, arrays, _NONE_MOVED, kernels.backend)


def _solve(asked: _Asked) -> Solved:
    """Fit by machine code where it is worth its while, else by torch."""
    data, options, cov_type = asked.data, asked.options, asked.cov_type
    frame = frame_of(data, max(1, len(data.keys)))
    turned = asked.problem(frame.data)
    problem = replace(turned, data=data)
    ended, why, loss = unfit(problem), "", asked.loss
    done = _by_machine(turned, frame.start, ended, asked)
    if isinstance(done, str):
        why = note_of(done, asked.backend, data.group is None)
        began = time.perf_counter()
        ready = Ready.plain(turned, frame.start, ended)
        if loss is not None:
            ready = make_ready(turned, frame.start, loss, by_torch(turned, options), ended)
        work, moved = solve(ready.problem, ready.beta0, options, loss, ended=ready.ended, feet=0)
        found = spread(work, cov_type)
        note_time(turned, time.perf_counter() - began)
        if loss is not None:
            found = with_errors(ready.problem, found, cov_type, loss, distances_of_work(work))
        answer = answer_of_work(work, found, ready.problem, moved)
    else:
        answer, ready = done
    end, found = tell(frame.view, answer.end.after(ready), answer.found)
    size = _scale(problem, answer.end, sized=loss is not None or cov_type in FROM_RESIDUALS)
    stands = upright(frame.view, answer.end, answer.found, size)
    arrays = _given_back(data, frame, answer.arrays)
    return Solved(
        problem, end, found, arrays, answer.moved, answer.backend, stands, why, ready.scale
    )


def _by_machine(
    problem: Problem, beta0: Tensor, ended: Tensor | None, asked: _Asked
) -> tuple[Answer, Ready] | str:
    """Return what machine code finds, or why torch has to fit."""
    loss, options = asked.loss, asked.options
    kernels = choose(problem, beta0, loss, asked.backend, None)
    if isinstance(kernels, str):
        return kernels

    def run() -> tuple[Fitted, Ready]:
        ready = Ready.plain(problem, beta0, ended)
        if loss is not None:
            by = by_machine(problem, options, kernels, loss)
            ready = make_ready(problem, beta0, loss, by, ended)
        at = ready.problem, ready.beta0, options, loss, ready.ended
        return run_native(kernels, *at, feet=0), ready

    done = attempt(problem, asked.backend, run)
    if isinstance(done, str):
        return done
    fitted, ready = done
    kind = asked.cov_type
    answer = answer_of(fitted, ready.problem, loss, kind, _NONE_MOVED, kernels.backend)
    return answer, ready


def _scale(problem: Problem, end: End, *, sized: bool) -> float:
    """Return the factor of all variances of a single line; ``sized`` ones have theirs."""
    if problem.absolute or sized:
        return 1.0
    dof = problem.n_seen - len(LINE.names)
    return float(end.chi2[0]) / dof if dof > 0 else math.nan


def _given_back(data: Data, frame: Frame, found: PointArrays) -> PointArrays:
    """Return foot points and corrections, turned back."""
    if found.eps is None or data.y is None:
        return found
    delta, eps = frame.exchange(found.delta, found.eps)
    return PointArrays(delta, eps, data.x + delta, data.y + eps, found.weights)


_NONE_MOVED = torch.zeros(0, dtype=torch.bool, device="cpu")


def _simplify(data: Data) -> Data:
    """Write a joint covariance as two sigmas and a correlation, so that axes can be exchanged."""
    if data.y is None or data.x.shape[0] != 1 or data.y.shape[0] != 1:
        raise InputError("a line needs one `x` and one `y`, each with one value per point.")
    if data.cov is None:
        return data
    sx, sy = data.cov[0, 0].sqrt(), data.cov[1, 1].sqrt()
    rho = torch.where(sx * sy > 0, data.cov[0, 1] / (sx * sy), 0.0).clamp(-1, 1)
    return replace(data, sx=sx[None], sy=sy[None], rho=rho, cov=None, definite=False)
