"""From points and a shape to a result: candidates side by side, the best one to its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._asked import choose_loss, refuse_unknown
from gradfit._conclude import End, PointArrays, conclude, give_back
from gradfit._data import Data
from gradfit._data.checks import to_count
from gradfit._engine.covariance import Spread, spread
from gradfit._engine.loss import Loss
from gradfit._engine.state import Options, Work
from gradfit._fit import warn_of
from gradfit._format import plural
from gradfit._model import Model
from gradfit._problem import Problem, state_problem
from gradfit._result import FitResult, FitTable
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
from gradfit.shapes._starts import Seed, Seeder
from gradfit.shapes._tell import Told, carry

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


@dataclass(frozen=True, eq=False)
class Limit:
    """Something that must not vanish in a shape.

    Attributes
    ----------
    of : callable
        Its value (F,) from the parameters inside.
    what : str
        What the shape is where it vanishes.
    positive : bool
        Whether it must be positive, and not merely differ from 0.
    """

    of: Callable[[Sequence[Tensor]], Tensor]
    what: str
    positive: bool = False


@dataclass(frozen=True, eq=False)
class Brink:
    """The shapes between two kinds: parabolas, between ellipses and hyperbolas.

    Attributes
    ----------
    chart : Model
        Such shapes, in parameters of their own.
    enter, leave : callable
        From the parameters (F, p) of the shape to those of the nearest shape here, and back.
    """

    chart: Model
    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Shape:
    """One kind of shape.

    Attributes
    ----------
    model : Model
        Zero on the shape, in practitioners' parameters.
    chart : Model
        The same in the parameters in which it is fitted.
    seed : callable
        Candidates to begin with.
    tell : callable
        Practitioners' parameters from those of the chart.
    limits : tuple of Limit
        Where it degenerates.
    equations : int
        Equations per point.
    wide : bool
        Whether points on one straight line leave it open.
    brink : Brink or None
        Where it is about to become another shape.
    """

    model: Model
    chart: Model
    seed: Seeder
    tell: Told
    limits: tuple[Limit, ...] = ()
    equations: int = 1
    wide: bool = False
    brink: "Brink | None" = None

    @property
    def redundant(self) -> int:
        """Parameters of the model that follow from the others."""
        return len(self.model.names) - len(self.chart.names)


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
    refuse_unknown("cov_type", asked.cov_type, ("expected", "observed", "propagated", "sandwich"))
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
        ended = torch.where(start.exact & (ended == 0), int(Status.COST), ended)
        work, moved = solve(inner, start.beta, options, loss, ended=ended, u0=start.u)
        moved = moved & cloud.grouping.spread(work.state.sums.cost > cloud.floor)
        found = spread(work, asked.cov_type)
    judged = _judge(shape, work, found, cloud, problem.absolute)
    end, told = _tell(shape, frame, judged.work, found, judged.lost)
    result = conclude(
        problem,
        end,
        told,
        _arrays(data, frame, inner, work),
        moved=moved,
        cov_type=asked.cov_type,
        loss=loss,
        backend="eager",
        began=began,
    )
    if isinstance(result, FitResult):
        why = "" if exact is None or not bool(exact.there[0]) else _pinned(shape, data, exact)
        result = _say(result, replace(judged, why=why or judged.why), cloud)
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
    cost, beta, u = _follow(shape.chart, every, frame, beta, (shape, asked, loss, ended))
    table = torch.maximum(cost.reshape(len(seeds), G), cloud.floor)
    proper = _proper(shape, beta).reshape(len(seeds), G)
    fits = torch.arange(G, device=cost.device)
    kept = torch.where(proper, table, torch.inf).argmin(0) * G + fits
    best = table.argmin(0) * G + fits
    cost = table.reshape(-1)
    lowest = torch.where(proper.reshape(-1)[kept], cost[kept], torch.inf)
    chosen = torch.where(lowest < torch.inf, kept, best)
    exact = cost[chosen] <= cloud.floor
    n = data.x.shape[1]
    place = torch.arange(n, device=cost.device)
    u = u[:, cloud.grouping.spread(chosen // G) * n + place] if len(u) == len(data.x) else None
    rivals = cost[best] < lowest
    if shape.brink is None or not bool(rivals.any()):
        return Start(frame.rows(chosen), beta[chosen], u, exact)
    # Another kind of shape fits better. If the shapes between the two do as well, the way there
    # leads downhill, and the fit must end at its brink.
    brink = shape.brink
    edge, between, feet = _follow(
        brink.chart,
        data,
        frame.rows(best),
        brink.enter(beta[best]),
        (shape, asked, loss, ended),
    )
    over = rivals & (edge < lowest)
    return Start(
        frame.rows(torch.where(over, best, chosen)),
        torch.where(over[:, None], brink.leave(between), beta[chosen]),
        None if u is None else torch.where(cloud.grouping.spread(over), feet, u),
        exact,
    )


def _follow(
    chart: Model,
    data: Data,
    frame: Frame,
    beta: Tensor,
    how: tuple[Shape, Asked, Loss | None, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow starts (F, p) some steps; return cost (F,), inf where there is none, ends and feet."""
    shape, asked, loss, ended = how
    inner = _problem(chart, enter(data, frame), asked, shape)
    ended = ended.repeat(len(beta) // len(ended))
    work, _ = solve(inner, beta, TRIES, loss, ended=ended, feet=0)
    return work.state.sums.cost.nan_to_num(torch.inf, torch.inf), work.state.beta, work.u


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
    why : str
        Why the first fit is none; "" if it is one.
    hardly : str
        What would fit the points of the first fit as well.
    """

    work: Work
    lost: Tensor
    why: str
    hardly: str


def _judge(shape: Shape, work: Work, found: Spread, cloud: Cloud, absolute: bool) -> Judged:
    """Ask whether any of what makes the shape vanishes."""
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
    if not absolute:
        counts = cloud.grouping.sum(torch.ones_like(cloud.x[0])) * shape.equations
        scatter = (s.sums.cost / (counts - s.beta.shape[1]).clamp(min=1)).sqrt()
    for limit in shape.limits:
        value, J = carry(lambda b, limit=limit: [limit.of(b)], s.beta)
        value, J = value[:, 0], J[:, 0]
        sigma = (J[:, None] @ found.cov @ J[..., None])[:, 0, 0].clamp(min=0).sqrt() * scatter
        size = value if limit.positive else value.abs()
        gone = ~(size > ROUNDING * cloud.blur + SETTLED * sigma.nan_to_num(0.0, 0.0, 0.0))
        if bool(gone[0]):
            why = why or f"the best {name} is {limit.what}; choose a simpler shape"
        elif bool(size[0] < SURE * sigma[0]):
            hardly = hardly or limit.what
        lost = lost | (gone & fitted)
    control = s.control
    told = torch.where(lost, int(Status.DEGENERATE), status)
    control = control._replace(status=int(told[0]) if work.field.alone else told)
    return Judged(work._replace(state=s._replace(control=control)), lost, why, hardly)


def _tell(
    shape: Shape, frame: Frame, work: Work, found: Spread, lost: Tensor
) -> tuple[End, Spread]:
    """Say the shape in practitioners' parameters, NaN where it degenerates."""
    values, J = carry(lambda b: shape.tell(b, frame), work.state.beta)
    known = torch.isfinite(J).all(-1) & torch.isfinite(values)
    J = torch.where(known[..., None], J, 0.0)
    cov = J @ found.cov @ J.mT
    cov = torch.where(known[:, :, None] & known[:, None, :], cov, torch.nan)
    diagonal = torch.where(known, cov.diagonal(dim1=-2, dim2=-1), torch.inf)
    cov = torch.diagonal_scatter(cov, diagonal, dim1=-2, dim2=-1)
    values = torch.where(lost[:, None], torch.nan, values)
    cov = torch.where(lost[:, None, None], torch.nan, cov)
    weakest = (J @ found.weakest[..., None])[..., 0]
    free = torch.ones_like(values, dtype=torch.bool)
    return End.of(work)._replace(beta=values), Spread(
        cov, found.rank, found.condition, weakest, free
    )


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


def _say(result: FitResult, judged: Judged, cloud: Cloud) -> FitResult:
    """Add in words what the shape came near to."""
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
        return replace(result, message=told)
    return result
