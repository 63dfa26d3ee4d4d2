"""Start values that nobody gave: the most promising of a search, fitted side by side."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradfit._data.checks import shown
from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Options
from gradfit._problem import Problem
from gradfit._start import propose_starts
from gradfit.errors import InputError

STARTS = 8
"""Starts that are followed a few steps, as one batch, before one is chosen."""
POINTS = 256
"""Points that they look at, evenly chosen, when there are more."""
PROBES = 64
"""Random parameters for which a point is asked whether the model exists there."""
TRIES = Options(gtol=1e-4, max_steps=40)


def find_start(problem: Problem, loss: Loss | None) -> Tensor:
    """Return start values (G, p) for the free parameters; shared ones are equal in all groups."""
    starts = _propose(problem, problem.fixed)
    if problem.shared:
        starts = _agree(problem, starts)
    best = starts[:, 0] if starts.shape[1] == 1 else _best(problem, loss, starts[0])
    if problem.data.group is None and not _exists(problem, best):
        _refuse_points(problem)
        raise InputError(
            f"`start` is needed for {problem.model.label!r}: the model is NaN or inf wherever it "
            f"was tried. Give values for {', '.join(problem.free)}."
        )
    return best.nan_to_num(0.0, 0.0, 0.0).contiguous()


def _exists(problem: Problem, beta: Tensor) -> bool:
    """Return whether there are start values (1, p), and the model is finite at all points there."""
    if not bool(torch.isfinite(beta).all()):
        return False
    with torch.no_grad():
        value = problem.plain()(problem.data.x, [c.expand(problem.points.n) for c in beta.mT])
    return bool(torch.isfinite(value).all())


def _refuse_points(problem: Problem) -> None:
    """Raise where the model exists at some points, and at others for none of many parameters."""
    data, names = problem.data, problem.model.names
    generator, n = torch.Generator().manual_seed(0), data.x.shape[1]
    size = 10.0 ** torch.empty(PROBES, len(names)).uniform_(-6, 12, generator=generator)
    drawn = size * torch.randn(PROBES, len(names), generator=generator)
    x = data.x[0] if data.vector_x else data.x
    exists = torch.zeros(n, dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for row in drawn.tolist():
            given = {**dict(zip(names, row, strict=True)), **problem.fixed}
            value = problem.model.call(x, [x.new_full((n,), given[name]) for name in names])
            exists |= torch.isfinite(value).reshape(-1, value.shape[-1]).all(0)
    bad = (~exists).nonzero()[:, 0]
    if 0 < len(bad) < n:
        first = int(bad[0])
        at = shown(x[..., first].tolist())
        raise InputError(
            f"the model {problem.model.label!r} is NaN or inf at {len(bad)} of {n} points for all "
            f"parameters that were tried (first at index {int(data.index[first])}, x = {at}). "
            "Leave such points out, or write it otherwise."
        )


def _propose(problem: Problem, known: Mapping[str, float]) -> Tensor:
    """Return starts (G, n, p) inside the bounds, with ``known`` parameters as they are."""
    found = propose_starts(
        problem.model,
        problem.data,
        STARTS if problem.data.group is None else 1,
        known=known,
        bounds=_ranges(problem),
    ).to(problem.data.x)
    columns = [problem.model.names.index(n) for n in problem.free]
    return _clip(problem, found[:, :, columns])


def _agree(problem: Problem, starts: Tensor) -> Tensor:
    """Make shared parameters one, and search the others again beside them.

    They are taken together from the group that stands nearest to the medians of all: medians of
    single parameters could mix two solutions, as of exponentials that have changed places.
    """
    common = [problem.free.index(n) for n in problem.shared]
    found = starts[:, 0, common]
    found = found[torch.isfinite(found).all(1)]
    if not len(found):
        return torch.zeros_like(starts)
    away = (found - found.median(0).values).abs()
    usual = away.median(0).values.clamp(min=torch.finfo(away.dtype).tiny)
    values = found[int((away / usual).sum(1).argmin())]
    if len(common) < len(problem.free):
        chosen = dict(zip(problem.shared, values.tolist(), strict=True))
        starts = _propose(problem, {**problem.fixed, **chosen})
    starts = starts.clone()
    starts[:, :, common] = values
    return starts


def _ranges(problem: Problem) -> dict[str, tuple[float | None, float | None]]:
    if problem.bounds is None:
        return {}
    ends = zip(problem.bounds.lower[0].tolist(), problem.bounds.upper[0].tolist(), strict=True)
    return {
        name: (None if low == -torch.inf else low, None if high == torch.inf else high)
        for name, (low, high) in zip(problem.free, ends, strict=True)
    }


def _clip(problem: Problem, beta: Tensor) -> Tensor:
    if problem.bounds is None:
        return beta
    return torch.minimum(torch.maximum(beta, problem.bounds.lower), problem.bounds.upper)


def _best(problem: Problem, loss: Loss | None, starts: Tensor) -> Tensor:
    """Follow starts (n, p) as so many fits of the same points; return where the best came to."""
    points = _sample(problem.points, len(starts))
    beta0 = problem.unknowns(starts)
    n, p = beta0.shape
    field = Field.of(points, problem.function(), n, p, loss, problem.prior())
    work = run(init(field, beta0), TRIES, problem.limits())
    cost = torch.where(torch.isfinite(work.state.sums.cost), work.state.sums.cost, torch.inf)
    best = int(cost.argmin())
    if not bool(torch.isfinite(cost[best])):
        return torch.full_like(starts[:1], torch.nan)
    return work.state.beta[best : best + 1, : starts.shape[1]]


def _sample(points: Points, copies: int) -> Points:
    """Repeat some of the points once for each start."""
    chosen = torch.arange(points.n, device=points.x.device)
    if points.n > POINTS:
        chosen = torch.linspace(0, points.n - 1, POINTS, device=chosen.device).round().long()
    group = torch.arange(copies, device=chosen.device).repeat_interleave(len(chosen))
    return points.take(chosen.repeat(copies))._replace(group=group)
