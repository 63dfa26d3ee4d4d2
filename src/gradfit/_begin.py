"""Start values that nobody gave: the most promising of a search, fitted side by side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._data.checks import shown
from gradfit._dispatch import attempt, choose
from gradfit._dispatch import run as run_native
from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points, row_squares
from gradfit._engine.robust import CONVEX, costs_at, opening, scaled
from gradfit._engine.state import Options
from gradfit._native.plan import Fitted
from gradfit._problem import Problem
from gradfit._robust import by_torch, distances_of_work, question
from gradfit._start import Rate, propose
from gradfit._unfit import refuse_steep
from gradfit.errors import InputError

STARTS = 8
"""Starts of each fit that are followed a few steps, as one batch, before one is chosen."""
POINTS = 256
"""Points that they look at, evenly chosen, when there are more."""
TOGETHER = 1 << 18
"""Points, those of all starts counted, that are followed at once."""
PROBES = 64
"""Random parameters for which a point is asked whether the model exists there."""
TRIES = Options(gtol=1e-4, max_steps=40)
SIMILAR = 4.0
"""Difference of chi-square up to which two minima fit about as well: two standard deviations."""
SAME = 1e-6
"""Part of chi-square by which two minima differ at least; others are one curve written twice."""
POOR = 1e-3
"""p-value below which one asks whether a fit ended in the wrong minimum."""
LOOKED_AT = 4096
"""Points up to which that is asked."""


@dataclass(frozen=True)
class Found:
    """Start values, and what the search has to say about them.

    Attributes
    ----------
    beta : Tensor (G, p)
        Start values of the free parameters.
    rates : mapping of str to Rate
        The fastest oscillation that the points can show, by parameter.
    others : tuple of (float, dict)
        Other minima of one fit that are about as good: chi-square and parameters.
    """

    beta: Tensor
    rates: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    others: tuple[tuple[float, dict[str, float]], ...] = ()

    def words(self, params: Mapping[str, float], chi2: float) -> str:
        """Return what is to be said of a fit that began here and came to ``params``; or nothing."""
        told: list[str] = []
        for name, (power, fastest) in self.rates.items():
            limit = float(fastest[0])
            if name in params and not abs(params[name]) ** power <= limit * (1 + 1e-6):
                end = limit ** (1 / power)
                told.append(
                    f"{name} = {params[name]:.4g} turns faster than these points can show, by "
                    f"half a turn per spacing at {end:.4g}"
                )
        apart = [o for o in self.others if abs(o[0] - chi2) > SAME * chi2]
        if apart:
            more = f", one of {len(apart)} others" if len(apart) > 1 else ""
            told.append(
                f"another minimum fits about as well{more}: chi-square {apart[0][0]:.5g} at "
                f"{_listed(apart[0][1])}"
            )
        return "; ".join(told)


class Ends(NamedTuple):
    """Where n starts of G fits came to.

    ``beta`` (G, n, p) and ``cost`` (G, n), inf where there is none. ``score`` (G, n) is what the
    best of them has least of: minus twice the logarithm of the likelihood of y, the true x left
    open, so that a curve that is steep within the errors of x is not taken for a good one.
    ``ended`` says whether a minimum was reached.
    """

    beta: Tensor
    cost: Tensor
    score: Tensor
    ended: Tensor


def find_start(problem: Problem, loss: Loss | None, backend: str = "eager") -> Found:
    """Return start values (G, p) for the free parameters; shared ones are equal in all groups."""
    if not problem.free:
        return Found(problem.data.x.new_zeros(problem.n_groups, 0))
    starts, rates = _propose(problem, problem.fixed)
    if problem.shared:
        starts = _agree(problem, starts)[:, :1]
    others = ()
    if starts.shape[1] == 1:
        best = starts[:, 0]
    else:
        ends = follow(problem, loss, starts, TRIES, backend)
        chosen = _choose(problem, ends, rates)
        at = chosen[:, None, None].expand(-1, 1, ends.beta.shape[2])
        best = ends.beta.gather(1, at)[:, 0]
        gone = ~torch.isfinite(ends.cost.gather(1, chosen[:, None]))
        best = torch.where(gone, torch.nan, best)
        if problem.data.group is None:
            others = _others(problem, ends, int(chosen[0]), rates)
    if problem.data.group is None and not _exists(problem, best):
        refuse_points(problem)
        refuse_steep(problem, starts[0, :1])
        refuse_start(problem, starts.shape[1])
    best = best.nan_to_num(0.0, 0.0, 0.0).contiguous()
    return Found(best, rates, others)


def refuse_start(problem: Problem, count: int) -> None:
    """Raise because of no start tried the model exists at all points; say what was tried."""
    way = f"from the {count} best of a search" if count > 1 else "at the best values of a search"
    forgotten = ""
    if problem.data.y is None:
        forgotten = " Without `y` the model is implicit, 0 on the curve; give `y` if it is not."
    raise InputError(
        f"`start` is needed for {problem.model.label!r}: no fit got under way {way}, because the "
        f"model or a derivative is NaN or inf there. Give values for {', '.join(problem.free)}."
        f"{forgotten}"
    )


def lower_minimum(
    problem: Problem, params: Mapping[str, float], chi2: float, p_value: float
) -> str:
    """Return where a search ends lower than a fit from given start values did; or nothing.

    That is asked of one least-squares fit with known errors that is poor.
    """
    poor = p_value < POOR and math.isfinite(chi2)
    alone = problem.data.group is None and problem.systematic is None
    if not (poor and alone and problem.absolute and problem.free):
        return ""
    if problem.points.n > LOOKED_AT:
        return ""
    starts, rates = _propose(problem, problem.fixed)
    here = starts.new_tensor([[[params[n] for n in problem.free]]])
    if starts.shape[1] > 1:
        ends = follow(problem, None, starts, TRIES)
        chosen = int(_choose(problem, ends, rates)[0])
        starts = ends.beta[:, chosen : chosen + 1]
    ends = follow(problem, None, torch.cat([here, starts], 1), Options(max_steps=100), whole=True)
    there, score = float(ends.cost[0, 1]), ends.score[0]
    if not (there < chi2 - SIMILAR and bool(score[1] < score[0] - SIMILAR)):
        return ""
    found = dict(zip(problem.free, ends.beta[0, 1].tolist(), strict=True))
    return (
        f"a search without `start` finds a lower minimum, chi-square {there:.5g} at "
        f"{_listed(found)}: leave `start` out, or start there"
    )


def _listed(params: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in params.items())


def _choose(problem: Problem, ends: Ends, rates: Mapping[str, Rate]) -> Tensor:
    """Return which start (G,) came to the best end, of those no faster than the points show."""
    inside = _within(problem, ends.beta, rates) & torch.isfinite(ends.cost)
    score = torch.where(inside | ~inside.any(1, keepdim=True), ends.score, torch.inf)
    return score.argmin(1)


def _within(problem: Problem, beta: Tensor, rates: Mapping[str, Rate]) -> Tensor:
    """Return whether parameters (G, n, p) turn no faster than the points can show."""
    inside = torch.ones_like(beta[..., 0], dtype=torch.bool)
    for name, (power, fastest) in rates.items():
        if name in problem.free:
            turns = beta[..., problem.free.index(name)].abs() ** power
            inside &= turns <= fastest[:, None].to(beta) * (1 + 1e-6)
    return inside


def _others(
    problem: Problem, ends: Ends, chosen: int, rates: Mapping[str, Rate]
) -> tuple[tuple[float, dict[str, float]], ...]:
    """Return minima of one fit that are about as good as the chosen one, each once."""
    n, p = problem.n_seen, len(problem.free)
    if problem.points.n > POINTS or n <= p:
        return ()
    cost, best = ends.cost[0], float(ends.cost[0, chosen])
    limit = best + SIMILAR if problem.absolute else best * math.exp(SIMILAR / n)
    fine = ends.ended[0] & (cost <= limit) & _within(problem, ends.beta, rates)[0]
    seen, found = [best], list[tuple[float, dict[str, float]]]()
    for k in cost.argsort().tolist():
        value = float(cost[k])
        if fine[k] and all(abs(value - s) > SAME * s for s in seen) and value > 0:
            seen.append(value)
            row = ends.beta[0, k].tolist()
            found.append((value, dict(zip(problem.free, row, strict=True))))
    return tuple(found)


def _exists(problem: Problem, beta: Tensor) -> bool:
    """Return whether there are start values (1, p), and the model is finite at all points there."""
    if not bool(torch.isfinite(beta).all()):
        return False
    with torch.no_grad():
        value = problem.plain()(problem.data.x, [c.expand(problem.points.n) for c in beta.mT])
    return bool(torch.isfinite(value).all())


def refuse_points(problem: Problem) -> None:
    """Raise where the model exists at some points, and at others for none of many parameters."""
    data, names = problem.data, problem.model.names
    generator, n = torch.Generator().manual_seed(0), data.x.shape[1]
    size = 10.0 ** torch.empty(PROBES, len(names), dtype=torch.float32, device="cpu").uniform_(
        -6, 12, generator=generator
    )
    drawn = size * torch.randn(
        PROBES, len(names), generator=generator, dtype=torch.float32, device="cpu"
    )
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


def _propose(problem: Problem, known: Mapping[str, float]) -> tuple[Tensor, dict[str, Rate]]:
    """Return starts (G, n, p) inside the bounds, with ``known`` parameters as they are."""
    found, rates = propose(
        problem.model, problem.data, STARTS, known=known, bounds=_ranges(problem)
    )
    columns = [problem.model.names.index(n) for n in problem.free]
    return _clip(problem, found.to(problem.data.x)[:, :, columns]), rates


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
        starts = _propose(problem, {**problem.fixed, **chosen})[0]
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


def follow(
    problem: Problem,
    loss: Loss | None,
    starts: Tensor,
    options: Options,
    backend: str = "eager",
    *,
    whole: bool = False,
) -> Ends:
    """Follow starts (G, n, p) as so many fits of the same points; of some of them unless ``whole``.

    Machine code runs them where it is there, or worth its while for so many.
    """
    G, n, _ = starts.shape
    index, there = _some(problem, whole=whole)
    step = max(1, TOGETHER // (n * index.shape[1]))
    parts: list[Ends] = []
    for i in range(0, G, step):
        some = index[i : i + step], there[i : i + step]
        parts.append(_follow(problem, loss, starts[i : i + step], some, options, backend))
    return Ends(*(torch.cat(rows) for rows in zip(*parts, strict=True)))


def _some(problem: Problem, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Return the index (G, k) of points that starts look at, and which of them are meant."""
    data, device = problem.data, problem.points.x.device
    if data.group is None or data.sizes is None:
        size = torch.tensor([problem.points.n], device=device, dtype=torch.int64)
    else:
        size = data.sizes.to(device)
    most = int(size.max())
    k = most if whole else min(most, POINTS)
    rank = torch.arange(k, device=device, dtype=torch.int64)
    count, first = size[:, None], (size.cumsum(0) - size)[:, None]
    evenly = (rank * (count - 1) / max(k - 1, 1)).round().long()
    chosen = torch.where(count > k, evenly, rank)
    there = chosen < count
    return (first + chosen).clamp(max=problem.points.n - 1), there


def _follow(
    problem: Problem,
    loss: Loss | None,
    starts: Tensor,
    some: tuple[Tensor, Tensor],
    options: Options,
    backend: str,
) -> Ends:
    G, n, p = starts.shape
    index, there = (t[:, None].expand(-1, n, -1) for t in some)
    row = (
        torch.arange(G * n, device=index.device, dtype=torch.int64)
        .reshape(G, n, 1)
        .expand(index.shape)
    )
    points = problem.points.take(index[there])._replace(group=row[there])
    beta0 = problem.unknowns(starts.reshape(G * n, p))
    if loss is None:
        beta, cost, status, field, u = _run(problem, None, points, beta0, options, backend)
    else:
        how = loss, options, backend
        beta, cost, status, field, u = _robustly(problem, points, beta0, n, how)
    cost = torch.where(torch.isfinite(cost) & (cost >= 0), cost, torch.inf)
    score = cost
    if not problem.absolute:
        count = there.sum(2).reshape(-1) * problem.n_equations
        score = count * cost.clamp(min=1e-300).log()
    if points.rows and points.slack and points.y is not None and len(points.y) == 1:
        work = init(field, beta, u)
        score = score.clone()
        for s, linear in field.linears(work.state.beta, work.u, work.kept):
            steep = -torch.log1p(-row_squares(linear.K)[0, 0])
            score = s.grouping.add(score, s.grouping.sum(steep))
    return Ends(
        beta[:, :p].reshape(G, n, p),
        cost.reshape(G, n),
        torch.where(torch.isfinite(score), score, torch.inf).reshape(G, n),
        ((status > 0) & (status < 10)).reshape(G, n),
    )


def _robustly(
    problem: Problem,
    points: Points,
    beta0: Tensor,
    n: int,
    how: tuple[Loss, Options, str],
) -> tuple[Tensor, Tensor, Tensor, Field, Tensor]:
    """Do as :func:`_run` by Huber's loss, each start at the scale that the points show there.

    The loss itself is told where they come to, at the least scale of the ``n`` starts of each fit,
    or at the sigmas if these are known and larger.
    """
    loss, options, backend = how
    asks = question(problem, loss, by_torch(problem, options), points)
    scale = opening(asks, beta0)
    seen = scaled(points, scale, asks.extra)
    beta, _, status, field, u = _run(problem, CONVEX, seen, beta0, options, backend)
    group = 0 if points.group is None else points.group
    phi = distances_of_work(init(field, beta, u)) * scale[group].square()
    fine = torch.where(torch.isfinite(beta), beta, beta0)
    least = opening(asks, fine).reshape(-1, n).amin(1)
    least = least.clamp(min=1.0) if problem.absolute else least
    cost = costs_at(loss, phi, least.repeat_interleave(n), points)
    return beta, cost, status, field, u


def _run(
    problem: Problem,
    loss: Loss | None,
    points: Points,
    beta0: Tensor,
    options: Options,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Field, Tensor]:
    """Return parameters, chi-square and status of fits from ``beta0`` (R, p), and their feet."""
    count, p = beta0.shape
    field = Field.of(points, problem.function(), count, p, loss, problem.prior())
    these = replace(problem, points=points)
    if problem.data.group is not None and backend != "eager":
        kernels = choose(these, beta0, loss, backend, None)
        fitted = kernels
        if not isinstance(kernels, str):
            fitted = attempt(
                these, backend, lambda: run_native(kernels, these, beta0, options, loss, feet=0)
            )
        if isinstance(fitted, Fitted):
            return fitted.vector(0), fitted.column(3), fitted.column(0).long(), field, fitted.u
    work = run(init(field, beta0), options, problem.limits())
    return work.state.beta, work.state.sums.cost, work.state.status, field, work.u
