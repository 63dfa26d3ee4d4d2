"""The result of one fit by machine code: what :mod:`gradfit._conclude` says, on plain numbers.

Of a fit of twenty points that takes as long as thirty tensor operations, a hundred of them for its
result would be most of the time.
"""

import math
import time
from typing import Any

import numpy as np
import torch

from gradfit._conclude import bounds_of, even_weights, observe
from gradfit._distributions import chi2_sf
from gradfit._native.cpu import Fitted
from gradfit._native.ending import TOLD
from gradfit._problem import Problem
from gradfit._result import FitResult
from gradfit._types import FloatArray, Status

FEW = 40
"""Degrees of freedom up to which a tail probability is a short sum."""


def is_plain(problem: Problem, fitted: Fitted, cov_type: str) -> bool:
    """Return whether a result can be made here: one fit of all rows, converged, no point moved."""
    data, told = problem.data, fitted.told[0]
    whole = data.group is None and data.x.shape[1] == data.n_rows and not data.as_torch
    rank, free = told[6], told[-fitted.p :].sum()
    simple = rank == free and told[4] == 0
    return whole and cov_type == "expected" and 0 < told[0] < 10 and simple


def conclude_one(
    problem: Problem, fitted: Fitted, loss: str, loss_scale: float, began: float
) -> FitResult:
    """Build the result of one fit of which :func:`is_plain` holds."""
    data, p = problem.data, fitted.p
    told = fitted.told[0].tolist()
    status, chi2, free = Status(int(told[0])), told[3], told[-p:]
    dof = data.n_rows * problem.n_equations - int(sum(free)) + problem.redundant
    mswd = chi2 / dof if dof > 0 else math.nan
    cov = _widen(problem, fitted.cov[0])
    cov = cov if problem.absolute else cov * mswd
    stderr = np.sqrt(cov.diagonal())
    values = {**problem.fixed, **dict(zip(problem.free, told[TOLD:], strict=False))}
    names, held = problem.model.names, dict(zip(problem.free, free, strict=True))
    given = any(v is not None for v in (data.sx, data.sy, data.rho, data.cov))
    return FitResult(
        names=names,
        params={n: values[n] for n in names},
        stderr=dict(zip(names, stderr.tolist(), strict=True)),
        cov=cov,
        corr=_correlation(cov, stderr),
        chi2=chi2,
        dof=dof,
        mswd=mswd,
        p_value=_tail(chi2, dof) if given else math.nan,
        status=status,
        success=True,
        message=status.message,
        n_steps=int(told[1]),
        n_eval=int(told[2]),
        condition=told[5],
        rank=int(told[6]),
        backend="native",
        absolute_sigma=problem.absolute,
        cov_type="expected",
        loss=loss,
        loss_scale=loss_scale,
        fixed=tuple(problem.fixed),
        bounds=bounds_of(problem),
        shared=(),
        at_bound=tuple(n for n in names if not held.get(n, 1.0)),
        observed=observe(problem),
        model=problem.model,
        **_at_points(problem, fitted),
        seconds=time.perf_counter() - began,
    )


def _widen(problem: Problem, cov: FloatArray) -> FloatArray:
    """Write a covariance of free parameters into one of all, 0 where fixed."""
    names = problem.model.names
    if not problem.fixed:
        return cov.copy()
    at = [names.index(n) for n in problem.free]
    wide = np.zeros((len(names), len(names)))
    wide[np.ix_(at, at)] = cov
    return wide


def _correlation(cov: FloatArray, stderr: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        corr = cov / (stderr[:, None] * stderr)
    corr[cov == 0.0] = 0.0
    return np.minimum(np.maximum(corr, -1.0), 1.0)


def _tail(chi2: float, dof: int) -> float:
    """Return the probability of a larger chi-square: a finite sum of Poisson's terms for few."""
    if not (0 < dof <= FEW and 0 <= chi2 < math.inf):
        numbers = torch.tensor([[chi2], [dof]], dtype=torch.float64)
        return float(chi2_sf(numbers[0], numbers[1])[0])
    half = chi2 / 2
    if dof % 2:
        total, k, term = 0.0, 0.5, math.exp(-half) * 2 * math.sqrt(half / math.pi)
    else:
        total, k, term = 0.0, 0.0, math.exp(-half)
    while k < dof / 2:
        total += term
        k += 1
        term *= half / k
    return total + (math.erfc(math.sqrt(half)) if dof % 2 else 0.0)


def _at_points(problem: Problem, fitted: Fitted) -> dict[str, Any]:
    """Return what there is at each point, in the user's shapes."""
    data, points, delta = problem.data, problem.points, fitted.delta
    x, m = points.x.numpy(), len(data.x)
    if len(points.rows) < len(x):
        delta = np.zeros(x.shape)
        delta[list(points.rows)] = fitted.delta
    x_hat, eps, y_hat = x + delta, None, None
    if problem.joined:
        delta, eps, x_hat, y_hat = delta[:m], delta[m:], x_hat[:m], x_hat[m:]
    elif data.y is not None:
        y_hat = fitted.value
        eps = y_hat - data.y.numpy()

    def give(values: Any, vector: bool) -> Any:
        return values if values is None or not vector else values[0]

    return {
        "delta": give(delta, data.vector_x),
        "x_hat": give(x_hat, data.vector_x),
        "eps": give(eps, data.vector_y),
        "y_hat": give(y_hat, data.vector_y),
        "weights": even_weights(data) if fitted.weights is None else fitted.weights,
    }
