"""What a fit came to, from whatever ran it, as :func:`gradfit._conclude.conclude` takes it."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._conclude import End, PointArrays, give_back
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.determined import judge
from gradfit._engine.field import Field
from gradfit._engine.linearize import curve
from gradfit._engine.loop import init
from gradfit._engine.loss import Loss
from gradfit._engine.state import Work
from gradfit._native.plan import Fitted, spread_of
from gradfit._problem import Problem
from gradfit._robust import distances_of_machine, with_errors


class Answer(NamedTuple):
    """Where fits ended, what the data say there, and what there is at each point.

    ``moved`` (N,) marks points that found a nearer foot in the search at the end.
    """

    end: End
    found: Spread
    arrays: PointArrays
    moved: Tensor
    backend: str


def answer_of_work(work: Work, found: Spread, problem: Problem, moved: Tensor) -> Answer:
    """Return what the engine found."""
    return Answer(End.of(work), found, give_back(problem, work), moved, "eager")


def answer_of(
    fitted: Fitted,
    problem: Problem,
    loss: Loss | None,
    cov_type: str,
    moved: Tensor,
    backend: str = "native",
) -> Answer:
    """Return what machine code found; ``moved`` (N,) it only counts."""
    end, found = end_of(fitted, problem, loss, cov_type)
    return Answer(end, found, _arrays(fitted, problem), moved, backend)


def left_out(answer: Answer, problem: Problem) -> Tensor:
    """Return the points (N,) at which the model has no finite second derivatives."""
    points, arrays = problem.points, answer.arrays
    lost = torch.zeros(points.n, dtype=torch.bool, device=points.x.device)
    if problem.systematic is not None:
        return lost
    x = arrays.x_hat
    if problem.joined and arrays.y_hat is not None:
        x = torch.cat([x, arrays.y_hat])
    beta = answer.end.beta.mT
    columns = beta if points.group is None else beta[:, points.group]
    with torch.enable_grad():
        none = x.new_zeros(len(points.rows), points.n)
        one = x.new_ones(problem.n_equations, points.n)
        found = curve(points._replace(x=x), problem.function(), none, columns, one).lost
    return lost if found is None else found


def end_of(
    fitted: Fitted, problem: Problem, loss: Loss | None, cov_type: str
) -> tuple[End, Spread]:
    """Return where machine code came to, and what the data say there."""
    beta = fitted.vector(0)
    if cov_type == "expected":
        found = spread_of(fitted)
    else:
        count, p = beta.shape
        field = Field.of(problem.points, problem.function(), count, p, loss)
        work, limits = init(field, beta, fitted.u), problem.limits()
        found = spread(work, cov_type, limits, relative=not problem.absolute)
        found = judge(work, found, cov_type, limits, problem.absolute, fitted.column(0))
    status, n_steps, n_eval = (fitted.column(k).to(torch.int64) for k in range(3))
    if loss is not None:
        found = with_errors(
            problem, found, cov_type, loss, distances_of_machine(problem.points, fitted)
        )
    return End(beta, fitted.column(3), status, n_steps, n_eval), found


def _arrays(fitted: Fitted, problem: Problem) -> PointArrays:
    """Return what there is at each point, in the units of the data."""
    data, points = problem.data, problem.points
    delta, m = fitted.delta, len(data.x)
    if len(points.rows) < len(points.x):
        whole = torch.zeros_like(points.x)
        whole[list(points.rows)] = delta
        delta = whole
        x_hat = points.x + delta
    else:
        # Whitened feet are of no use any more, and many fits have no room to spare.
        x_hat = torch.add(points.x, delta, out=fitted.u)
    weights = None if fitted.weights is None else fitted.weights[None]
    if problem.joined:
        return PointArrays(delta[:m], delta[m:], x_hat[:m], x_hat[m:], weights)
    if data.y is None:
        return PointArrays(delta, None, x_hat, None, weights)
    y_hat = fitted.value
    return PointArrays(delta, y_hat - data.y, x_hat, y_hat, weights)
