"""What machine code found, in the terms of the engine."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._conclude import PointArrays
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.eliminate import Sums
from gradfit._engine.field import Field
from gradfit._engine.loop import init
from gradfit._engine.loss import Loss
from gradfit._engine.state import Control, State, Work
from gradfit._native.plan import Fitted, spread_of
from gradfit._problem import Problem


class Answer(NamedTuple):
    """What a fit came to, from whatever ran it, as :func:`gradfit._conclude.conclude` takes it."""

    work: Work
    moved: Tensor
    found: Spread
    arrays: PointArrays | None
    backend: str


def answer_of(
    fitted: Fitted,
    problem: Problem,
    loss: Loss | None,
    cov_type: str,
    moved: Tensor,
    backend: str = "native",
) -> Answer:
    """Put what machine code found in the engine's terms; ``moved`` (N,) it only counts."""
    points = problem.points
    beta = fitted.vector(0).clone()
    count, p = beta.shape
    u = fitted.u
    if cov_type != "expected":
        field = Field.of(points, problem.function(), count, p, loss)
        work = init(field, beta, u)
        found = spread(work, cov_type, problem.limits())
    else:
        field = Field(points, problem.function(), count, p, loss, None, None, (), False)
        blank = beta.new_zeros(count)
        sums = Sums(blank, blank, beta.new_zeros(count, p, p), beta)
        work = Work(field, State(beta, sums, beta, Control(*[blank] * 9)), u, [])
        found = spread_of(fitted)
    whole = (fitted.column(k).to(torch.int64) for k in range(3))
    control = Control(*work.state.control[:6], *whole)
    sums = work.state.sums._replace(cost=fitted.column(3))
    state = work.state._replace(sums=sums, control=control)
    return Answer(work._replace(state=state), moved, found, _arrays(fitted, problem), backend)


def _arrays(fitted: Fitted, problem: Problem) -> PointArrays:
    """Return what there is at each point, in the units of the data."""
    data, points = problem.data, problem.points
    delta = fitted.delta
    if len(points.rows) < len(points.x):
        whole = torch.zeros_like(points.x)
        whole[list(points.rows)] = delta
        delta = whole
    x_hat, m = points.x + delta, len(data.x)
    weights = None if fitted.weights is None else fitted.weights[None]
    if problem.joined:
        return PointArrays(delta[:m], delta[m:], x_hat[:m], x_hat[m:], weights)
    if data.y is None:
        return PointArrays(delta, None, x_hat, None, weights)
    y_hat = fitted.value
    return PointArrays(delta, y_hat - data.y, x_hat, y_hat, weights)
