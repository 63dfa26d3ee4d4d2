"""From points and a shape to a result: candidates side by side, the best one to its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._asked import choose_cov_type, choose_loss
from gradfit._conclude import End, PointArrays, conclude, give_back
from gradfit._data import Data
from gradfit._data.checks import to_count
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.loss import Loss
from gradfit._engine.points import Grouping
from gradfit._engine.robust import costs_at, opening
from gradfit._engine.sandwich import FROM_RESIDUALS
from gradfit._engine.state import Options, Work
from gradfit._fit import warn_of
from gradfit._format import plural
from gradfit._model import Model
from gradfit._problem import Problem, state_problem
from gradfit._result import FitResult, FitTable
from gradfit._robust import (
    Ready,
    at_scale,
    by_torch,
    distances_of_work,
    make_ready,
    question,
    with_errors,
)
from gradfit._solve import solve
from gradfit._types import Status
from gradfit._unfit import unfit
from gradfit.errors import InputError
from gradfit.shapes._frame import (
    ROUNDING,
    Cloud,
    Exact,
    Frame,
    enter,
    find_exact,
    gather_cloud,
    leave,
    repeat,
)
from gradfit.shapes._kinds import Limit, Shape, Vague
from gradfit.shapes._starts import Seed
from gradfit.shapes._tell import carry

TRIES = Options(gtol=3e-2, max_steps=25)
"""How far candidates are followed before the best is chosen."""
SUBSETS = 24
"""Random subsets of the points from which a robust fit begins as well: some hold no outlier."""
SPARE = 1
"""Points in each of them beyond what the shape needs."""
SURE = 2.0
"""Standard errors within which a bend may as well be none."""
SETTLED = 1e-8
"""Standard errors within which a fit knows its own minimum."""
CLEAR = 3.0
"""Standard errors by which half axes must differ for a direction: of circles 1 % seem to."""
FAR = 1.0
"""Root mean square distances of the points within which a base point stays beside them."""


@dataclass(frozen=True)
class Asked:
    """How to fit, as the user asked."""

    loss: str | tuple[str, float]
    absolute_sigma: bool | None
    cov_type: str
    max_steps: int


def fit_shape(shape: Shape, data: Data, asked: Asked) -> FitResult | FitTable:
    """Fit a shape to the points, geometrically."""
    began = time.perf_counter()
    kind = choose_cov_type(asked.cov_type)
    options = Options(max_steps=to_count("`max_steps`", asked.max_steps))
    loss = choose_loss(asked.loss)
    _refuse_few(shape, data)
    problem = _problem(shape.model, data, asked, shape)
    cloud = gather_cloud(data, problem.n_groups)
    exact = None if shape.limits else find_exact(data, cloud)
    with torch.enable_grad():
        ended = _ended(shape, data, cloud, asked, exact)
        start = _best(shape, data, cloud, asked, loss, ended)
        frame = start.frame
        inner = _problem(shape.chart, enter(data, frame), asked, shape)
        inner = replace(inner, absolute=problem.absolute)
        ended = torch.where(start.exact & (ended == 0), int(Status.COST), ended)
        ready = Ready.plain(inner, start.beta, ended)
        if loss is not None:
            run = by_torch(inner, options)
            ready = make_ready(inner, start.beta, loss, run, ended)
        u0 = None if start.u is None else start.u / cloud.grouping.spread(ready.scale)
        inner = ready.problem
        work, moved = solve(inner, ready.beta0, options, loss, ended=ready.ended, u0=u0)
        moved = moved & cloud.grouping.spread(work.state.sums.cost > cloud.floor)
        found = spread(work, kind, relative=not problem.absolute)
        found = with_errors(inner, found, kind, loss, distances_of_work(work))
    sized = problem.absolute or loss is not None or kind in FROM_RESIDUALS
    judged = _judge(shape, work, found, cloud, sized)
    end, told, vague = _tell(shape, frame, judged, found, cloud)
    result = conclude(
        problem,
        end.after(ready),
        told,
        _arrays(data, frame, inner, work),
        moved=moved,
        cov_type=kind,
        loss=loss,
        backend="eager",
        began=began,
        scale=ready.scale,
    )
    if isinstance(result, FitResult):
        why = "" if exact is None or not bool(exact.there[0]) else _pinned(shape, data, exact)
        judged = replace(judged, why=why or judged.why)
        result = _say(result, judged, cloud, shape.vague if bool(vague[0]) else None)
    warn_of(result)
    return result


def _refuse_few(shape: Shape, data: Data) -> None:
    n, p = data.x.shape[1], len(shape.chart.names)
    if data.group is None and n * shape.equations < p:
        least = -(-p // shape.equations)
        raise InputError(
            f"{plural(n, 'point')} cannot determine {_a(shape.model.label)}: give at least {least}."
        )


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _problem(model: Model, data: Data, asked: Asked, shape: Shape) -> Problem:
    stated = state_problem(
        data, model, fixed=None, bounds=None, fix_x=None, absolute_sigma=asked.absolute_sigma
    )
    redundant = shape.redundant if model is shape.model else 0
    return replace(stated, implicit_equations=shape.equations, redundant=redundant)


def _ended(shape: Shape, data: Data, cloud: Cloud, asked: Asked, exact: Exact | None) -> Tensor:
    """Return the status (G,) of fits that cannot be made, 0 for the others."""
    found = unfit(_problem(shape.chart, data, asked, shape))
    open_ = cloud.same if exact is None else cloud.same | exact.there
    same = torch.where(open_, int(Status.DEGENERATE), 0)
    return same if found is None else torch.where(found > 0, found, same)


class Start(NamedTuple):
    """Where the fits go on from.

    Attributes
    ----------
    frame : Frame
    beta : Tensor (G, p)
    u : Tensor (m, N) or None
        Foot points; None where they are to be found anew.
    exact : Tensor (G,) bool
        Fits that have met all points but for rounding errors.
    """

    frame: Frame
    beta: Tensor
    u: Tensor | None
    exact: Tensor


def _best(
    shape: Shape, data: Data, cloud: Cloud, asked: Asked, loss: Loss | None, ended: Tensor
) -> Start:
    """Follow all candidates some steps as one batch; return the best of every fit."""
    seeds = shape.seed(cloud)
    if loss is not None:
        k = -(-len(shape.chart.names) // shape.equations) + SPARE
        seeds += [shape.seed(cloud.thinned(k, seed))[0] for seed in range(SUBSETS)]
    frame, beta = _frames(cloud, seeds)
    G = len(cloud.scale)
    every = repeat(data, len(seeds), G)
    how = shape, asked, loss, ended
    cost, beta, u, scale = _follow(shape.chart, every, frame, beta, how)
    table = torch.maximum(cost.reshape(len(seeds), G), cloud.floor)
    proper = _proper(shape, beta).reshape(len(seeds), G)
    fits = torch.arange(G, device=cost.device, dtype=torch.int64)
    kept = torch.where(proper, table, torch.inf).argmin(0) * G + fits
    best = table.argmin(0) * G + fits
    cost = table.reshape(-1)
    lowest = torch.where(proper.reshape(-1)[kept], cost[kept], torch.inf)
    chosen = torch.where(lowest < torch.inf, kept, best)
    exact = cost[chosen] <= cloud.floor
    n = data.x.shape[1]
    place = torch.arange(n, device=cost.device, dtype=torch.int64)
    u = u[:, cloud.grouping.spread(chosen // G) * n + place] if len(u) == len(data.x) else None
    rivals = cost[best] < lowest
    if shape.brink is None or not bool(rivals.any()):
        return _reseated(shape, cloud, Start(frame.rows(chosen), beta[chosen], u, exact))
    # Another kind of shape fits better. If the shapes between the two do as well, the way there
    # leads downhill, and the fit must end at its brink.
    brink = shape.brink
    edge, between, feet, _ = _follow(
        brink.chart, data, frame.rows(best), brink.enter(beta[best]), how, scale
    )
    over = rivals & (edge < lowest)
    start = Start(
        frame.rows(torch.where(over, best, chosen)),
        torch.where(over[:, None], brink.leave(between), beta[chosen]),
        None if u is None else torch.where(cloud.grouping.spread(over), feet, u),
        exact,
    )
    return _reseated(shape, cloud, start)


def _reseated(shape: Shape, cloud: Cloud, start: Start) -> Start:
    """See shapes anew whose base point ran away, as that of an ellipse between parallel lines.

    Its vertex goes to infinity there, and a fit that follows it never ends. Seen from beside the
    points nothing runs away, and the fit goes on through two lines to whatever lies beyond.
    """
    far = start.beta[:, 0].abs() > FAR
    if shape.reseat is None or not bool(far.any()):
        return start
    old, centre = start.frame, cloud.centre
    seed = shape.reseat(cloud, (old.origin - centre) / cloud.scale, start.beta)
    origin = torch.where(far, centre + cloud.scale * seed.base, old.origin)
    shift = cloud.grouping.spread((old.origin - origin) / cloud.scale)
    return start._replace(
        frame=old._replace(origin=origin),
        beta=torch.where(far[:, None], seed.beta, start.beta),
        u=None if start.u is None else start.u + shift,
    )


def _follow(
    chart: Model,
    data: Data,
    frame: Frame,
    beta: Tensor,
    how: tuple[Shape, Asked, Loss | None, Tensor],
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Follow starts (F, p) some steps; return cost (F,), inf where there is none, ends and feet.

    Of a robust loss without a scale each start has the one that the points show there. Costs are
    compared at the least of them, or at one that is ``known`` (G,), which is returned as well.
    """
    shape, asked, loss, ended = how
    inner, G = _problem(chart, enter(data, frame), asked, shape), len(ended)
    ended = ended.repeat(len(beta) // G)
    if loss is None or _problem(shape.model, data, asked, shape).absolute:
        work, _ = solve(inner, beta, TRIES, loss, ended=ended, feet=0)
        cost = work.state.sums.cost.nan_to_num(torch.inf, torch.inf)
        return cost, work.state.beta, work.u, None
    asks = question(inner, loss, by_torch(inner, TRIES))
    scale = opening(asks, beta)
    scaled = at_scale(inner, scale)
    work, _ = solve(scaled, beta, TRIES, loss, ended=ended, feet=0)
    each = Grouping(inner.points.group, len(beta)).spread(scale)
    phi = distances_of_work(work) * each.square()
    if known is None:
        known = opening(asks, work.state.beta).reshape(-1, G).amin(0)
    cost = costs_at(loss, phi, known.repeat(len(beta) // G), inner.points)
    return cost.nan_to_num(torch.inf, torch.inf), work.state.beta, work.u * each, known


def _proper(shape: Shape, beta: Tensor) -> Tensor:
    """Return which parameters (F, p) are of the shape asked for, and of no other kind."""
    fine = torch.ones_like(beta[:, 0], dtype=torch.bool)
    for limit in shape.limits:
        if limit.positive:
            fine = fine & (limit.of(list(beta.mT)) > 0)
    return fine


def _frames(cloud: Cloud, seeds: Sequence[Seed]) -> tuple[Frame, Tensor]:
    base = torch.cat([s.base for s in seeds], 1).nan_to_num(0.0, 0.0, 0.0)
    turns = [s.turn for s in seeds if s.turn is not None]
    turn = torch.cat(turns, -1) if turns else None
    centre, scale = cloud.centre.repeat(1, len(seeds)), cloud.scale.repeat(len(seeds))
    beta = torch.cat([s.beta for s in seeds]).nan_to_num(0.0, 0.0, 0.0)
    return Frame(centre + scale * base, centre, turn, scale), beta


@dataclass(frozen=True, eq=False)
class Judged:
    """A fit after its shape was looked at.

    Attributes
    ----------
    work : Work
        With the status of shapes that degenerate.
    lost : Tensor (G,) bool
        Fits that do.
    scatter : Tensor (G,)
        By which standard errors are to be multiplied.
    why : str
        Why the first fit is none; "" if it is one.
    hardly : str
        What would fit the points of the first fit as well.
    """

    work: Work
    lost: Tensor
    scatter: Tensor
    why: str
    hardly: str


def _judge(shape: Shape, work: Work, found: Spread, cloud: Cloud, sized: bool) -> Judged:
    """Ask whether any of what makes the shape vanishes; ``sized`` covariances need no scatter."""
    s = work.state
    status = s.status
    lost = status == int(Status.DEGENERATE)
    fitted = (status != int(Status.TOO_FEW_POINTS)) & (status != int(Status.BAD_DATA))
    name, why, hardly = shape.model.label, "", ""
    if shape.wide:
        thin = ~(cloud.thickness() > ROUNDING * cloud.blur)
        lost = lost | (thin & fitted)
        if bool(thin[0]):
            why = f"the points lie on one straight line, which leaves {_a(name)} open; add others"
    stuck = status == int(Status.BAD_START)
    lost = lost | stuck
    if bool(stuck[0]):
        why = f"some points have no error across the best {name}, which fixes it; give them one"
    scatter = torch.ones_like(s.sums.cost)
    if not sized:
        counts = cloud.grouping.sum(torch.ones_like(cloud.x[0])) * shape.equations
        scatter = (s.sums.cost / (counts - s.beta.shape[1]).clamp(min=1)).sqrt()
    for limit in shape.limits:
        size, sigma = _size(limit, s.beta, found.cov, scatter)
        gone = ~(size > ROUNDING * cloud.blur + SETTLED * sigma.nan_to_num(0.0, 0.0, 0.0))
        if bool(gone[0]):
            why = why or _instead(shape, limit, s.beta, found.cov, scatter, cloud)
        elif bool(size[0] < SURE * sigma[0]):
            hardly = hardly or limit.what
        lost = lost | (gone & fitted)
    control = s.control
    told = torch.where(lost, int(Status.DEGENERATE), status)
    control = control._replace(status=int(told[0]) if work.field.alone else told)
    return Judged(work._replace(state=s._replace(control=control)), lost, scatter, why, hardly)


def _size(limit: Limit, beta: Tensor, cov: Tensor, scatter: Tensor) -> tuple[Tensor, Tensor]:
    """Return what must not vanish (G,), and its standard error."""
    value, J = carry(lambda b: [limit.of(b)], beta)
    value, J = value[:, 0], J[:, 0]
    sigma = (J[:, None] @ cov @ J[..., None])[:, 0, 0].clamp(min=0).sqrt() * scatter
    return value if limit.positive else value.abs(), sigma


def _instead(
    shape: Shape, limit: Limit, beta: Tensor, cov: Tensor, scatter: Tensor, cloud: Cloud
) -> str:
    """Say what the best shape is of the first fit, which is beyond a limit."""
    name, other = shape.model.label, limit.instead
    if other is not None:
        size, sigma = _size(other, beta, cov, scatter)
        if bool((size <= ROUNDING * cloud.blur + SURE * sigma.nan_to_num(0.0, 0.0, 0.0))[0]):
            best = shape.chart.label
            return f"the best {best} is {other.what} and no {name}; choose a simpler shape"
    return f"the best {name} is {limit.what}; choose a simpler shape"


def _tell(
    shape: Shape, frame: Frame, judged: Judged, found: Spread, cloud: Cloud
) -> tuple[End, Spread, Tensor]:
    """Say the shape in practitioners' parameters, NaN where it degenerates.

    Returns as well in which fits (G,) one of them has no meaning.
    """
    work, lost = judged.work, judged.lost
    values, J = carry(lambda b: shape.tell(b, frame), work.state.beta)
    known = torch.isfinite(J).all(-1) & torch.isfinite(values)
    vague = torch.zeros_like(lost)
    if shape.vague is not None:
        v = shape.vague
        across = J[:, v.larger] - J[:, v.smaller]
        gap = values[:, v.larger] - values[:, v.smaller]
        sigma = (across[:, None] @ found.cov @ across[..., None])[:, 0, 0].clamp(min=0).sqrt()
        rounding = ROUNDING * cloud.blur * cloud.scale
        vague = ~(gap > rounding + CLEAR * (judged.scatter * sigma).nan_to_num(0.0, 0.0, 0.0))
        known[:, v.index] &= ~vague
    J = torch.where(known[..., None], J, 0.0)
    cov = J @ found.cov @ J.mT
    cov = torch.where(known[:, :, None] & known[:, None, :], cov, torch.nan)
    diagonal = torch.where(known, cov.diagonal(dim1=-2, dim2=-1), torch.inf)
    cov = torch.diagonal_scatter(cov, diagonal, dim1=-2, dim2=-1)
    values = torch.where(lost[:, None], torch.nan, values)
    cov = torch.where(lost[:, None, None], torch.nan, cov)
    weakest = (J @ found.weakest[..., None])[..., 0]
    free = torch.ones_like(values, dtype=torch.bool)
    told = Spread(cov, found.rank, found.condition, weakest, free)
    return End.of(work)._replace(beta=values), told, vague


def _arrays(data: Data, frame: Frame, problem: Problem, work: Work) -> PointArrays:
    """Foot points, corrections and weights, as the data know them."""
    inside = give_back(problem, work)
    delta = leave(data, frame, inside.delta)
    return PointArrays(delta, None, data.x + delta, None, inside.weights)


def _pinned(shape: Shape, data: Data, exact: Exact) -> str:
    """Say that coordinates without errors leave nothing, or less, to fit."""
    axis, name = exact.axis[:, 0].tolist(), shape.model.label
    if max(map(abs, axis)) < 1 - ROUNDING * torch.finfo(torch.float64).eps:
        told = ", ".join(f"{v:.3g}" for v in axis)
        return f"no point has an error along ({told}), and none lies apart there; give it one"
    k = max(range(len(axis)), key=lambda i: abs(axis[i]))
    x, value = data.x_names[k], f"{data.x_names[k]} = {float(data.x[k, 0]):g}"
    if shape.equations > 1:
        rest = f"lies in {value}: fit the other coordinates as a line2d"
    else:
        rest = f"is {value}, and nothing is left to fit: leave it at that"
    return (
        f"{x} is exact and the same at every point, so that the {name} {rest}, or give {x} a "
        "standard deviation"
    )


def _say(result: FitResult, judged: Judged, cloud: Cloud, vague: Vague | None) -> FitResult:
    """Add in words what the shape came near to, and which parameter has no meaning there."""
    if bool(cloud.same[0]):
        return replace(result, message="all points are the same: they have no shape; add others")
    if judged.why:
        return replace(result, message=judged.why)
    if result.status == Status.SINGULAR:
        name = _a(result.model.label)
        told = f"the points leave {name} open: others fit as well; add points elsewhere"
        return replace(result, message=told)
    if judged.hardly and result.success:
        told = f"{result.message}; {judged.hardly} fits as well within the errors"
        result = replace(result, message=told)
    if vague is not None and result.success:
        one, other, this = (result.names[k] for k in (vague.larger, vague.smaller, vague.index))
        told = f"{result.message}; {one} and {other} hardly differ, which leaves {this} open"
        result = replace(result, message=told)
    return result
