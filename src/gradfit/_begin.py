"""Start values that nobody gave: the best of a search, for one fit by a race of several."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Options
from gradfit._problem import Problem
from gradfit._start import propose_starts
from gradfit.errors import InputError

STARTS = 8
POINTS = 256
"""Points that a race runs on, evenly chosen, when there are more."""
TRIES = Options(gtol=1e-4, max_steps=40)


def find_start(problem: Problem, loss: Loss | None) -> Tensor:
    """Return start values (G, p) for the free parameters."""
    single = problem.n_groups == 1
    starts = _propose(problem, STARTS if single else 1, problem.fixed)
    if problem.shared:
        # What all groups have in common must be one value before the rest is put right for it.
        middle = starts[:, 0].nanmedian(0)[0]
        common = {n: float(middle[problem.free.index(n)]) for n in problem.shared}
        starts = _propose(problem, 1, {**problem.fixed, **common})
    if not single or starts.shape[1] == 1:
        return starts[:, 0]
    return _race(problem, loss, starts[0])


def _propose(problem: Problem, n: int, known: Mapping[str, float]) -> Tensor:
    """Return starts (G, n, p) of the free parameters, within their bounds."""
    bounds = {}
    if problem.bounds is not None:
        pairs = zip(problem.bounds.lower[0].tolist(), problem.bounds.upper[0].tolist(), strict=True)
        bounds = {
            name: (None if math.isinf(low) else low, None if math.isinf(high) else high)
            for name, (low, high) in zip(problem.free, pairs, strict=True)
        }
    starts = propose_starts(problem.model, problem.data, n, known=known, bounds=bounds)
    index = [problem.model.names.index(name) for name in problem.free]
    return _clip(problem, starts[..., index].to(problem.data.x))


def _clip(problem: Problem, beta: Tensor) -> Tensor:
    if problem.bounds is None:
        return beta
    return torch.minimum(torch.maximum(beta, problem.bounds.lower), problem.bounds.upper)


def _race(problem: Problem, loss: Loss | None, beta0: Tensor) -> Tensor:
    """Fit all starts (n, p) as one batch, each a group of its own; return the best end (1, p)."""
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
            f"`start` is needed for {problem.model.label!r}: the model is NaN or inf wherever it "
            f"was tried. Give values for {names}."
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
