"""The result of one plain fit: what :mod:`gradfit._conclude` says, on numbers instead of tensors.

Of a fit of twenty points that takes as long as thirty tensor operations, a hundred of them for its
result would be most of the time.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradfit._answer import Answer
from gradfit._conclude import bounds_of, even_weights, named_arrays, observe
from gradfit._distributions import chi2_sf_one
from gradfit._engine.loss import Loss
from gradfit._native.ending import TOLD
from gradfit._native.plan import Fitted
from gradfit._problem import Problem
from gradfit._result import FitResult
from gradfit._types import Status


def conclude_fitted(
    problem: Problem, fitted: Fitted, loss: Loss | None, cov_type: str, began: float
) -> FitResult | None:
    """Build the result of one fit by machine code; None unless it is plain."""
    told = fitted.first
    if not _is_plain(problem, told, cov_type):
        return None
    return _conclude(problem, told, _at_points(problem, fitted), loss, "native", began)


def conclude_work(
    problem: Problem, answer: Answer, loss: Loss | None, cov_type: str, began: float
) -> FitResult | None:
    """Build the result of one fit by torch; None unless it is plain."""
    if not answer.work.field.alone or problem.systematic is not None:
        return None
    told = _tell(answer)
    if not _is_plain(problem, told, cov_type):
        return None
    at_points = named_arrays(problem, answer.work)
    return _conclude(problem, told, at_points, loss, answer.backend, began)


def _is_plain(problem: Problem, told: list[float], cov_type: str) -> bool:
    """Ask for one fit of all rows that has converged and moved no point to a nearer foot."""
    data = problem.data
    if data.group is not None or data.as_torch or data.x.shape[1] != data.n_rows:
        return False
    simple = told[6] == sum(told[-len(problem.free) :]) and told[4] == 0
    return cov_type == "expected" and 0 < told[0] < 10 and simple


def _tell(answer: Answer) -> list[float]:
    """Return what machine code tells of a fit (:func:`gradfit._native.solver.fit_one`)."""
    state, found = answer.work.state, answer.found
    c, free = state.control, found.free[0].double()
    counts = [float(c.status), c.n_steps, c.n_eval, state.sums.cost.item()]
    counts += [float(answer.moved.any()), found.condition.item(), found.rank.item()]
    vectors = state.beta[0], found.cov.flatten(), found.weakest[0], free
    return [*counts, *(v for vector in vectors for v in vector.tolist())]


def _conclude(
    problem: Problem,
    told: list[float],
    at_points: Mapping[str, Any],
    loss: Loss | None,
    backend: str,
    began: float,
) -> FitResult:
    data, p = problem.data, len(problem.free)
    status, chi2, free = Status(int(told[0])), told[3], told[-p:]
    dof = data.n_rows * problem.n_equations - int(sum(free)) + problem.redundant
    mswd = chi2 / dof if dof > 0 else math.nan
    cov, stderr, corr = _spread(problem, told[TOLD + p : TOLD + p + p * p], mswd)
    values = {**problem.fixed, **dict(zip(problem.free, told[TOLD:], strict=False))}
    names, held = problem.model.names, dict(zip(problem.free, free, strict=True))
    given = not (data.sx is data.sy is data.rho is data.cov is None)
    return FitResult(
        names=names,
        params={n: values[n] for n in names},
        stderr=dict(zip(names, stderr, strict=True)),
        cov=np.array(cov),
        corr=np.array(corr),
        chi2=chi2,
        dof=dof,
        mswd=mswd,
        p_value=chi2_sf_one(chi2, dof) if given else math.nan,
        status=status,
        success=True,
        message=status.message,
        n_steps=int(told[1]),
        n_eval=int(told[2]),
        condition=told[5],
        rank=int(told[6]),
        backend=backend,
        absolute_sigma=problem.absolute,
        cov_type="expected",
        loss="linear" if loss is None else loss.name,
        loss_scale=math.nan if loss is None else loss.scale,
        fixed=tuple(problem.fixed),
        bounds=bounds_of(problem),
        shared=(),
        at_bound=tuple(n for n in names if not held.get(n, 1.0)),
        observed=observe(problem),
        model=problem.model,
        **at_points,
        seconds=time.perf_counter() - began,
    )


Matrix = list[list[float]]


def _spread(
    problem: Problem, covariance: list[float], mswd: float
) -> tuple[Matrix, list[float], Matrix]:
    """Return covariance, standard errors and correlation of all parameters, 0 where fixed."""
    names, free, p = problem.model.names, problem.free, len(problem.free)
    scale = 1.0 if problem.absolute else mswd
    rows = [[scale * c for c in covariance[i : i + p]] for i in range(0, p * p, p)]
    if p < len(names):
        at = [free.index(n) if n in free else -1 for n in names]
        rows = [[0.0 if min(i, j) < 0 else rows[i][j] for j in at] for i in at]
    errors = [math.sqrt(row[i]) for i, row in enumerate(rows)]
    correlation = [
        [_ratio(row[j], errors[i] * errors[j]) for j in range(len(errors))]
        for i, row in enumerate(rows)
    ]
    return rows, errors, correlation


def _ratio(c: float, scale: float) -> float:
    ratio = c / scale if c else 0.0
    return ratio if -1.0 <= ratio <= 1.0 else math.copysign(1.0, ratio)


def _at_points(problem: Problem, fitted: Fitted) -> dict[str, Any]:
    """Return what there is at each point, in the user's shapes."""
    data, points, made = problem.data, problem.points, fitted.made.numpy()
    x, m, mu = points.x.numpy(), data.x.shape[0], fitted.spec.mu
    delta, u = made[:mu], made[mu : 2 * mu]
    if mu < len(x):
        delta = np.zeros(x.shape)
        delta[list(points.rows)] = made[:mu]
    # Whitened feet are of no use any more, and a large fit has no room to spare.
    room = u if u.shape == x.shape else None
    x_hat, eps, y_hat = np.add(x, delta, out=room), None, None
    if problem.joined:
        delta, eps, x_hat, y_hat = delta[:m], delta[m:], x_hat[:m], x_hat[m:]
    elif data.y is not None:
        y_hat = made[2 * mu : 2 * mu + fitted.spec.q]
        eps = y_hat - data.y.numpy()

    if data.vector_x:
        delta, x_hat = delta[0], x_hat[0]
    if data.vector_y and eps is not None and y_hat is not None:
        eps, y_hat = eps[0], y_hat[0]
    weights = made[-1] if fitted.spec.robust else even_weights(data)
    return {"delta": delta, "x_hat": x_hat, "eps": eps, "y_hat": y_hat, "weights": weights}
