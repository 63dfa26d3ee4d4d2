"""The result of one plain fit: what :mod:`gradfit._conclude` says, on numbers instead of tensors.

Of a fit of twenty points that takes as long as thirty tensor operations, a hundred of them for its
result would be most of the time.
"""

import math
import time
from typing import Any

import numpy as np
from torch import Tensor

from gradfit._conclude import bounds_of, even_weights, give_back, has_p_value, named_arrays
from gradfit._distributions import chi2_sf_one
from gradfit._engine.covariance import Spread
from gradfit._engine.loss import Loss
from gradfit._engine.state import Work
from gradfit._frozen import freeze
from gradfit._native.ending import TOLD
from gradfit._native.plan import Fitted
from gradfit._observe import observe
from gradfit._problem import Problem
from gradfit._result import FitResult
from gradfit._types import STATUSES, FloatArray

_NONE_MOVED = np.empty(0, np.int64)


def conclude_fitted(
    problem: Problem, fitted: Fitted, loss: Loss | None, cov_type: str, began: float
) -> FitResult | None:
    """Build the result of one fit by machine code; None unless it is plain."""
    told = fitted.first
    if loss is not None or not _is_plain(problem, told, cov_type):
        return None
    return _conclude(problem, told, _at_points(problem, fitted), "native", began)


def conclude_work(
    problem: Problem, work: Work, found: Spread, moved: Tensor, cov_type: str, began: float
) -> FitResult | None:
    """Build the result of one fit by torch; None unless it is plain."""
    least_squares = work.field.loss is None
    if not (work.field.alone and least_squares and problem.free) or problem.systematic is not None:
        return None
    told = _tell(work, found, moved)
    if not _is_plain(problem, told, cov_type):
        return None
    arrays = named_arrays(problem.data, give_back(problem, work))
    at_points = {"observed": observe(problem), **arrays}
    return _conclude(problem, told, at_points, "eager", began)


def _is_plain(problem: Problem, told: list[float], cov_type: str) -> bool:
    """Ask for one fit of all rows that has converged and moved no point to a nearer foot."""
    data = problem.data
    if data.group is not None or data.as_torch or data.kept is not None:
        return False
    simple = told[6] == sum(told[-len(problem.free) :]) and told[4] == 0
    finite = all(map(math.isfinite, told[TOLD : TOLD + len(problem.free)]))
    return cov_type == "expected" and 0 < told[0] < 10 and simple and finite


def _tell(work: Work, found: Spread, moved: Tensor) -> list[float]:
    """Return what machine code tells of a fit (:func:`gradfit._native.solver.fit_one`)."""
    state, c = work.state, work.state.control
    told = [float(c.status), c.n_steps, c.n_eval, state.sums.numbers.cost]
    told += [float(moved.any()), found.condition.item(), found.rank.item()]
    for rows in (state.beta, found.cov[0], found.weakest, found.free):
        for row in rows.tolist():
            told += row
    return told


def _conclude(
    problem: Problem,
    told: list[float],
    at_points: dict[str, Any],
    backend: str,
    began: float,
) -> FitResult:
    names, p = problem.model.names, len(problem.free)
    status, chi2, free = STATUSES[told[0]], told[3], told[-p:]
    count = int(sum(free))
    dof = problem.n_seen - count + problem.redundant
    mswd = chi2 / dof if dof > 0 else math.nan
    cov, stderr = _spread(problem, told[TOLD + p : TOLD + p + p * p], free, mswd)
    params = dict(zip(problem.free, told[TOLD : TOLD + p], strict=True))
    if problem.fixed:
        params = {n: problem.fixed[n] if n in problem.fixed else params[n] for n in names}
    held = [n for n, f in zip(problem.free, free, strict=True) if not f] if count < p else ()
    fields: dict[str, Any] = {
        "names": names,
        "params": params,
        "stderr": dict(zip(names, stderr, strict=True)),
        "cov": cov,
        "chi2": chi2,
        "dof": dof,
        "mswd": mswd,
        "p_value": chi2_sf_one(chi2, dof) if has_p_value(problem, None) else math.nan,
        "status": status,
        "success": True,
        "message": status.message,
        "n_steps": int(told[1]),
        "n_eval": int(told[2]),
        "condition": told[5],
        "rank": int(told[6]),
        "backend": backend,
        "absolute_sigma": problem.absolute,
        "cov_type": "expected",
        "loss": "linear",
        "loss_scale": math.nan,
        "scale": math.nan,
        "fixed": tuple(problem.fixed),
        "bounds": bounds_of(problem) if problem.bounds is not None else {},
        "shared": (),
        "at_bound": tuple(held),
        "correction": {},
        "moved": _NONE_MOVED,
        "model": problem.model,
        **at_points,
        "seconds": time.perf_counter() - began,
    }
    return freeze(FitResult, fields)


def _spread(
    problem: Problem, covariance: list[float], free: list[float], mswd: float
) -> tuple[FloatArray, list[float]]:
    """Return covariance and standard errors of all parameters, 0 where fixed, NaN at a bound."""
    names, p = problem.model.names, len(problem.free)
    scale = 1.0 if problem.absolute else mswd
    errors = [
        math.sqrt(scale * v) if f else math.nan
        for v, f in zip(covariance[:: p + 1], free, strict=True)
    ]
    cov = np.array(covariance).reshape(p, p)
    if not problem.absolute:
        cov *= scale
    if p == len(names):
        return cov, errors
    at = [names.index(n) for n in problem.free]
    wide, all_errors = np.zeros((len(names), len(names))), [0.0] * len(names)
    wide[np.ix_(at, at)] = cov
    for k, error in zip(at, errors, strict=True):
        all_errors[k] = error
    return wide, all_errors


def _at_points(problem: Problem, fitted: Fitted) -> dict[str, Any]:
    """Return what was seen and what was found at each point, in the user's shapes."""
    data, made, s = problem.data, fitted.made.numpy(), fitted.spec
    seen = observe(problem)
    m, mu = data.x.shape[0], s.mu
    rows, feet = made[:mu], made[mu : 2 * mu]
    if mu < s.m:
        rows = np.zeros((s.m, s.n))
        rows[list(problem.points.rows)] = made[:mu]
    delta = rows[0] if data.vector_x else rows[:m]
    # Whitened feet are of no use any more, and a large fit has no room to spare.
    room = None if mu < s.m else feet[0] if data.vector_x else feet[:m]
    x_hat, y, eps, y_hat = np.add(seen.x, delta, out=room), seen.y, None, None
    if y is not None and problem.joined:
        eps = rows[m] if data.vector_y else rows[m:]
        y_hat = y + eps
    elif y is not None:
        y_hat = made[2 * mu] if data.vector_y else made[2 * mu : 2 * mu + s.q]
        eps = y_hat - y
    weights = made[-1] if s.robust else even_weights(data)
    return {
        "observed": seen,
        "delta": delta,
        "x_hat": x_hat,
        "eps": eps,
        "y_hat": y_hat,
        "weights": weights,
    }
