"""Start values that nobody gave: a model's own guess, its defaults, or a search of many at once."""

import torch
from torch import Tensor

from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Bounds, Options
from gradfit._problem import Problem
from gradfit._start import propose_starts
from gradfit.errors import InputError

STARTS = 64
POINTS = 256
"""Points that a search looks at, evenly chosen, when there are more."""
TRIES = Options(gtol=1e-4, max_steps=40)


def find_start(problem: Problem, loss: Loss | None) -> Tensor:
    """Return start values (G, p) for the free parameters."""
    if problem.model.guess is not None and problem.data.y is not None:
        return _clip(problem, _guess(problem))
    return _search(problem, loss).expand(problem.n_groups, -1).contiguous()


def _guess(problem: Problem) -> Tensor:
    """Ask the model for its guess for all groups at once, padded with weight 0 to equal length."""
    data, guess = problem.data, problem.model.guess
    if guess is None or data.y is None:
        raise InputError(f"`start` is needed: {problem.model.label!r} has no guess of its own.")
    if data.x.shape[0] != 1 or data.y.shape[0] != 1:
        raise InputError(
            f"{problem.model.label!r} takes one x and one y; got {data.x.shape[0]} and "
            f"{data.y.shape[0]}."
        )
    x, y = data.x[0], data.y[0]
    if data.group is None:
        found = guess(x[None], y[None], torch.ones_like(x)[None])
    else:
        found = guess(*_padded(x, y, data.group, problem.n_groups))
    columns = [problem.model.names.index(n) for n in problem.free]
    return found[:, columns].to(data.x).nan_to_num(0.0, 0.0, 0.0)


def _padded(x: Tensor, y: Tensor, group: Tensor, n_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    counts = torch.bincount(group, minlength=n_groups)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(x), device=x.device) - first[group]
    shape = (n_groups, int(counts.max()))
    weight = x.new_zeros(shape)
    weight[group, place] = (torch.isfinite(x) & torch.isfinite(y)).to(x.dtype)
    wide_x, wide_y = x.new_zeros(shape), x.new_zeros(shape)
    wide_x[group, place] = x.nan_to_num(0.0, 0.0, 0.0)
    wide_y[group, place] = y.nan_to_num(0.0, 0.0, 0.0)
    return wide_x, wide_y, weight


def _clip(problem: Problem, beta: Tensor) -> Tensor:
    if problem.bounds is None:
        return beta
    return torch.minimum(torch.maximum(beta, problem.bounds.lower), problem.bounds.upper)


def _search(problem: Problem, loss: Loss | None) -> Tensor:
    """Fit many starts as one batch, each a group of its own, and return the best end (1, p)."""
    starts = propose_starts(problem.model, problem.data, STARTS, seed=0)
    index = [problem.model.names.index(n) for n in problem.free]
    beta0 = _clip(problem, starts[:, index].to(problem.data.x))
    points = _sample(problem.points, beta0.shape[0])
    field = Field.of(points, problem.function(), beta0.shape[0], beta0.shape[1], loss)
    bounds = problem.bounds
    if bounds is not None:
        bounds = Bounds(bounds.lower, bounds.upper)
    work = run(init(field, beta0), TRIES, bounds)
    cost = work.state.sums.cost
    best = int(torch.where(torch.isfinite(cost), cost, torch.inf).argmin())
    if not bool(torch.isfinite(cost[best])):
        names = ", ".join(problem.free)
        raise InputError(
            f"`start` is needed for {problem.model.label!r}: the model is NaN or inf at each of "
            f"{STARTS} starts that were tried. Give values for {names}."
        )
    return work.state.beta[best : best + 1]


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
