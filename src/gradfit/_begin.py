"""Start values that nobody gave: a model's own guess, its defaults, or a search of many at once."""

import torch
from torch import Tensor

from gradfit import _start
from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Options
from gradfit._problem import Problem
from gradfit.errors import InputError

STARTS = 64
POINTS = 256
"""Points that a search looks at, evenly chosen, when there are more."""
TRIES = Options(gtol=1e-4, max_steps=40)


def find_start(problem: Problem, loss: Loss | None) -> Tensor:
    """Return start values (G, p) for the free parameters."""
    if problem.model.guess is not None and problem.data.y is not None:
        columns = [problem.model.names.index(n) for n in problem.free]
        return _clip(problem, _start.guess_starts(problem.model, problem.data)[:, columns])
    return _search(problem, loss).expand(problem.n_groups, -1).contiguous()


def _clip(problem: Problem, beta: Tensor) -> Tensor:
    if problem.bounds is None:
        return beta
    return torch.minimum(torch.maximum(beta, problem.bounds.lower), problem.bounds.upper)


def _search(problem: Problem, loss: Loss | None) -> Tensor:
    """Fit many starts as one batch, each a group of its own, and return the best end (1, p)."""
    starts = _start.propose_starts(problem.model, problem.data, STARTS, seed=0)
    index = [problem.model.names.index(n) for n in problem.free]
    beta0 = _clip(problem, starts[:, index].to(problem.data.x))
    points = _sample(problem.points, beta0.shape[0])
    p = beta0.shape[1]
    beta0 = problem.unknowns(beta0)
    field = Field.of(
        points, problem.function(), beta0.shape[0], beta0.shape[1], loss, problem.prior()
    )
    work = run(init(field, beta0), TRIES, problem.limits())
    cost = work.state.sums.cost
    best = int(torch.where(torch.isfinite(cost), cost, torch.inf).argmin())
    if not bool(torch.isfinite(cost[best])):
        names = ", ".join(problem.free)
        raise InputError(
            f"`start` is needed for {problem.model.label!r}: the model is NaN or inf at each of "
            f"{STARTS} starts that were tried. Give values for {names}."
        )
    return work.state.beta[best : best + 1, :p]


def _sample(points: Points, copies: int) -> Points:
    """Repeat some of the points once for each start."""
    n = points.n
    chosen = torch.arange(n, device=points.x.device)
    finite = torch.isfinite(points.x).all(0)
    if points.y is not None:
        finite = finite & torch.isfinite(points.y).all(0)
    chosen = chosen[finite]
    if len(chosen) > POINTS:
        chosen = chosen[torch.linspace(0, len(chosen) - 1, POINTS).round().long()]
    index = chosen.repeat(copies)
    group = torch.arange(copies, device=points.x.device).repeat_interleave(len(chosen))
    return points.take(index)._replace(group=group)
