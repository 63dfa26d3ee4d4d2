r"""What a robust loss needs besides its minimum: a scale, a start, and errors of its own.

**Scale.** A loss bends at so many sigmas. Where sigmas are relative, or none was given, their size
is the scale :math:`s` of Huber's proposal for regression,

.. math::  s = \operatorname{med}_i \frac{d_i(s)}{\sqrt{m(q_i)}} , \qquad m(1) = 0.6745^2 ,

with the distances :math:`d_i` from the curve that is the best one at this very scale, and the
median :math:`m(q)` of chi-square with as many degrees of freedom as the point has equations: for
one response the median absolute deviation over 0.6745, iterated with the fit, as in ``MASS::rlm``.
The equation is solved by the secant method on its logarithms.

**Start.** A redescending loss gives no weight to points that are far from a poor start. It begins
where Huber's loss, which is convex, has ended, and from there its scale is brought down to the
sigmas.

**Errors** are told by :func:`gradfit._engine.sandwich.moments`.

Huber and Ronchetti, Robust Statistics (2009), section 7.8; Venables and Ripley, Modern
Applied Statistics with S (2002), section 6.5.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._distributions import chi2_quantile
from gradfit._engine.eliminate import eliminate
from gradfit._engine.linearize import derive
from gradfit._engine.loss import SCALES, Loss
from gradfit._engine.points import Function, Grouping, Points, squares
from gradfit._engine.sandwich import equations
from gradfit._types import Status

CONVEX = Loss("huber", SCALES["huber"])
"""The loss with which redescending ones begin."""
REDESCENDING = "cauchy", "tukey"
"""Losses whose far points pull less and less, so that there may be several minima."""
ROUNDS = 40
"""Scales that are tried before the last one is taken as it is."""
CLOSE = 1e-10
"""Relative error of a scale that ends the search."""
ROUGH = 1e-2
"""The same where a better loss is to follow."""
REFITTED = 1e-6
"""The same for refits: a small part of a standard error is enough for any statistic."""
SUBSETS = 20
"""Curves through few points that are tried."""
SPARE = 1
"""Points of each beyond what it needs."""
WIDE = 1e3
"""Scales within which such a curve keeps to all of its points."""
TOGETHER = 1 << 19
"""Points that are looked at together."""
SHRINK = 0.5
"""Factor by which a scale comes down to the sigmas at most, so that the fit can follow."""


class Stage(NamedTuple):
    """Where fits are: parameters (G, p), squared distances (N,), status and counts (G,)."""

    beta: Tensor
    phi: Tensor
    status: Tensor
    n_steps: Tensor
    n_eval: Tensor


Run = Callable[[Points, Tensor, Loss, Tensor | None, bool], Stage]
"""``run(points, beta0, loss, ended, roughly)`` fits every group of points."""


class Question(NamedTuple):
    """Robust fits that want a scale or a start.

    Attributes
    ----------
    points : Points
        With sigmas as given.
    fn : callable
        The model.
    run : callable
        What fits it.
    loss : Loss
    relative : bool
        Whether the scale is to be found.
    joint : bool
        Whether all fits have one scale, for they share parameters.
    extra : int
        Rows of x, the last ones, that are no observations but sizes of errors that points share.
    """

    points: Points
    fn: Function
    run: Run
    loss: Loss
    relative: bool
    joint: bool = False
    extra: int = 0


class Settled(NamedTuple):
    """Where robust fits are to end, one row each.

    Attributes
    ----------
    beta : Tensor (G, p)
        Parameters to begin with.
    scale : Tensor (G,)
        Factor of the sigmas.
    stopped : Tensor (G,) bool
        Fits that were stopped on the way.
    n_steps, n_eval : Tensor (G,) int64
        What it took so far.
    """

    beta: Tensor
    scale: Tensor
    stopped: Tensor
    n_steps: Tensor
    n_eval: Tensor

    @classmethod
    def at(cls, beta: Tensor) -> "Settled":
        """Return fits that have not begun, with sigmas as they are."""
        zero = torch.zeros(len(beta), dtype=torch.int64, device=beta.device)
        return cls(beta, beta.new_ones(len(beta)), zero > 0, zero, zero)


def scaled(points: Points, scale: Tensor, extra: int = 0) -> Points:
    """Return points whose sigmas are ``scale`` (G,) times as large; so is what they share."""
    if bool((scale == 1).all()):
        return points
    s = scale if points.group is None else scale[points.group]
    x, W = points.x, points.weight_y
    if extra:
        x = torch.cat([x[:-extra], x[-extra:] * s])
    weight = None if W is None else W / s
    return Points(x, points.y, points.rows, points.scale_x * s, weight, points.cross, points.group)


def medians(values: Tensor, group: Tensor | None, count: int) -> Tensor:
    """Return the median (G,) of the values (N,) of each group; NaN counts as large."""
    values = torch.where(values.isnan(), torch.inf, values)
    if group is None:
        sorted_, first = values.sort().values, torch.zeros(1, dtype=torch.int64, device="cpu")
        sizes = torch.tensor([len(values)], dtype=torch.int64, device="cpu")
        first, sizes = first.to(values.device), sizes.to(values.device)
    else:
        order = values.argsort(stable=True)
        order = order[group[order].argsort(stable=True)]
        sorted_ = values[order]
        sizes = torch.bincount(group, minlength=count)
        first = sizes.cumsum(0) - sizes
    last = max(0, len(sorted_) - 1)
    low = sorted_[(first + (sizes - 1).clamp(min=0) // 2).clamp(max=last)]
    high = sorted_[(first + sizes // 2).clamp(max=last)]
    return torch.where(sizes > 0, (low + high) / 2, torch.nan)


@lru_cache(maxsize=16)
def typical(q: int) -> float:
    """Return the median squared distance of q normal residuals of unit variance.

    Examples
    --------
    >>> print(f"{typical(1) ** 0.5:.4f}")
    0.6745
    """
    return chi2_quantile(0.5, q)


def typical_of(points: Points, q: int) -> Tensor:
    """Return it (N,) for as many of ``q`` equations as each point has."""
    seen = equations(points, q)
    table = [torch.inf, *(typical(k) for k in range(1, q + 1))]
    return seen.new_tensor(table)[seen.long()]


def distances(points: Points, fn: Function, beta: Tensor) -> tuple[Tensor, int]:
    """Return squared distances (N,) from the tangents next to the points, and the equations."""
    u = points.x.new_zeros(len(points.rows), points.n)
    columns = beta.mT.expand(-1, points.n) if points.group is None else beta.mT[:, points.group]
    d = derive(points, fn, u, columns, beta=False)
    return squares(eliminate(points, u, d).h), len(d.r)


def rescaled(q: Question, at: Settled) -> Settled:
    """Find the scale of fits near their end, of other data from the same source."""
    return _Search(q, at.beta, None).rounds(at, q.loss, REFITTED)


def opening(q: Question, beta0: Tensor) -> Tensor:
    """Return the scale (G,) that the distances from good starts (G, p) show."""
    return _Search(q, beta0, None).near(beta0)


def costs_at(loss: Loss, phi: Tensor, scale: Tensor, points: Points) -> Tensor:
    """Return what a loss makes of squared distances (N,), at a scale (G,), in their own unit."""
    grouping = Grouping(points.group, len(scale))
    square = scale.square()
    return square * grouping.sum(loss.value(phi / grouping.spread(square)))


def settle(q: Question, beta0: Tensor, ended: Tensor | None = None) -> Settled:
    """Find the scale of fits, and where a redescending loss begins; ``ended`` (G,) are left out."""
    search = _Search(q, beta0, ended)
    if q.loss.name in REDESCENDING:
        return search.best(beta0)
    at = Settled.at(beta0)
    if not q.relative:
        return at
    return search.rounds(at._replace(scale=search.first(beta0)), q.loss, CLOSE)


class _Search:
    """The scales of some fits, and how to look for them."""

    def __init__(self, q: Question, beta0: Tensor, ended: Tensor | None) -> None:
        self.q, self.count = q, len(beta0)
        phi, self.equations = distances(q.points, q.fn, beta0)
        self.phi = phi
        everyone = torch.ones(self.count, dtype=torch.bool, device=beta0.device)
        self.asked = everyone if ended is None else ended == 0
        # From where the model does not exist nothing is looked for; the fit itself will say so.
        exists = torch.isfinite(self._grouping(q.points, self.count).sum(phi))
        self.asked = self.asked & (exists.all() if q.joint else exists)
        self.floor = self._rounding()

    def _rounding(self) -> Tensor:
        """Return the scale (G,) of rounding errors of the data."""
        points, eps = self.q.points, 8 * torch.finfo(self.q.points.x.dtype).eps
        parts: list[Tensor] = []
        if points.rows and points.scale_x.ndim == 2:
            parts.append((points.x[list(points.rows)] / points.scale_x).nan_to_num(0.0, 0.0, 0.0))
        if points.y is not None and points.weight_y is not None:
            W = points.weight_y
            W = W if W.ndim == 2 else W.diagonal(dim1=0, dim2=1).mT
            parts.append(W * points.y)
        if not parts:
            return points.x.new_full((self.count,), torch.finfo(points.x.dtype).tiny)
        size = (eps * torch.cat([p.expand(-1, points.n) for p in parts])).square().sum(0)
        grouping = self._grouping(points, self.count)
        mean = grouping.sum(size) / grouping.sum(torch.ones_like(size)).clamp(min=1)
        return self._joined(mean.sqrt(), torch.amax).clamp(min=torch.finfo(size.dtype).tiny)

    def _grouping(self, points: Points, count: int) -> Grouping:
        return Grouping(points.group, count)

    def _joined(self, values: Tensor, by: Callable[[Tensor], Tensor]) -> Tensor:
        return by(values).expand(len(values)) if self.q.joint else values

    def scale_of(self, phi: Tensor, points: Points, count: int) -> Tensor:
        """Return the scale (G,) of squared distances (N,)."""
        size = (phi / typical_of(points, self.equations)).sqrt()
        if self.q.joint:
            return medians(size, None, 1).expand(count)
        return medians(size, points.group, count)

    def near(self, beta0: Tensor) -> Tensor:
        """Return the scale (G,) at the start."""
        found = self.scale_of(self.phi, self.q.points, len(beta0))
        return torch.maximum(found.nan_to_num(1.0, 1.0), self.floor)

    def first(self, beta0: Tensor) -> Tensor:
        """Return a scale (G,) to begin with: where few points are near a poor start, a wide one."""
        points = self.q.points
        size = (self.phi / typical_of(points, self.equations)).sqrt().nan_to_num(0.0, 0.0, 0.0)
        grouping = self._grouping(points, self.count)
        mean = grouping.sum(size) / grouping.sum((size > 0).to(size)).clamp(min=1)
        mean = self._joined(mean, torch.mean) / 2
        found = self.scale_of(self.phi, points, self.count).nan_to_num(0.0, 0.0, 0.0)
        return torch.maximum(torch.maximum(found, mean), self.floor)

    def run(self, rows: Tensor, at: Settled, loss: Loss, roughly: bool) -> tuple[Stage, Tensor]:
        """Fit some groups at their scales; return where they end, and the scales there."""
        q, points, ended, chosen, scale = self.q, self.q.points, None, rows, at.scale
        if len(rows) < self.count and not q.joint:
            place = rows.new_full((self.count,), -1)
            place[rows] = torch.arange(len(rows), device=rows.device, dtype=torch.int64)
            group = rows if points.group is None else place[points.group]
            index = torch.nonzero(group >= 0)[:, 0]
            points = points.take(index)._replace(group=group[index])
        elif len(rows) < self.count:
            ended = torch.where(self.asked, 0, int(Status.STOPPED))
            chosen = torch.arange(self.count, device=rows.device, dtype=torch.int64)
        count = len(chosen)
        seen = scaled(points, scale[chosen], q.extra)
        stage = q.run(seen, at.beta[chosen], loss, ended, roughly)
        found = scale[chosen] * self.scale_of(stage.phi, points, count)
        if count > len(rows):
            stage = stage._replace(
                **{
                    name: getattr(stage, name)[rows]
                    for name in ("beta", "status", "n_steps", "n_eval")
                }
            )
            found = found[rows]
        return stage, torch.maximum(found, self.floor[rows])

    def _went(self, at: Settled, rows: Tensor, stage: Stage, beta: Tensor) -> Settled:
        """Write down where some fits went; those that ran away stay."""
        fine = torch.isfinite(beta).all(1)
        beta = torch.where(fine[:, None], beta, at.beta[rows])
        return at._replace(
            beta=at.beta.index_copy(0, rows, beta),
            stopped=at.stopped.index_copy(0, rows, stage.status == int(Status.STOPPED)),
            n_steps=at.n_steps.index_add(0, rows, stage.n_steps),
            n_eval=at.n_eval.index_add(0, rows, stage.n_eval),
        )

    def rounds(self, at: Settled, loss: Loss, close: float) -> Settled:
        """Fit and look at the distances in turn, until these have the scale of the fit."""
        before = torch.full_like(at.scale, torch.nan)
        missed, open_ = before.clone(), self.asked & ~at.stopped
        for _ in range(ROUNDS):
            rows = torch.nonzero(open_)[:, 0]
            if not len(rows):
                break
            stage, found = self.run(rows, at, loss, close >= ROUGH)
            at = self._went(at, rows, stage, stage.beta)
            here = at.scale[rows].log()
            off = found.log() - here
            more = (off.abs() > close) & torch.isfinite(off) & ~at.stopped[rows]
            # The secant has a slope of -1 where the fit does not depend on its scale.
            slope = (off - missed[rows]) / (here - before[rows])
            slope = torch.where((slope < -0.3) & (slope > -2.0), slope, -1.0)
            before[rows], missed[rows], open_[rows] = here, off, more
            there = torch.where(more, (here - off / slope).exp(), at.scale[rows])
            at = at._replace(scale=at.scale.index_copy(0, rows, there))
        return at

    def best(self, beta0: Tensor) -> Settled:
        """Follow a redescending loss from several places; return where it fits most points best.

        They are the start, where Huber's loss has led from there, and curves through few points,
        some of which hold no outlier.
        """
        wide = Settled.at(beta0)._replace(scale=self.first(beta0))
        convex = self.rounds(wide, CONVEX, ROUGH)
        places = [convex, self.seen_from(convex._replace(beta=beta0)), self.subsets(convex)]
        follow = self.rough if self.q.relative else self.shrunk
        pairs = [follow(at) for at in places]
        starts, ends = [a for a, _ in pairs], [b for _, b in pairs]
        scales = torch.stack([at.scale for at in ends])
        least = scales.amin(0)
        costs = torch.stack([self.cost(at, least) for at in ends])
        # Of equal ones the first, so that rounding decides nothing.
        better = costs < costs[:1] * (1 - ROUGH**2)
        chosen = torch.where(better.any(0), costs.argmin(0), 0)
        rows = torch.arange(self.count, device=chosen.device, dtype=torch.int64)
        # A fit that begins where it ends cannot tell how near its minimum it is.
        beta = torch.stack([at.beta for at in starts])[chosen, rows]
        at = Settled(
            beta,
            scales[chosen, rows],
            torch.stack([at.stopped for at in ends]).any(0),
            ends[0].n_steps + ends[1].n_steps - convex.n_steps + ends[2].n_steps - convex.n_steps,
            ends[0].n_eval + ends[1].n_eval - convex.n_eval + ends[2].n_eval - convex.n_eval,
        )
        return self.rounds(at, self.q.loss, CLOSE) if self.q.relative else at

    def rough(self, at: Settled) -> tuple[Settled, Settled]:
        """Find the scale of the loss itself, roughly."""
        found = self.rounds(at, self.q.loss, ROUGH)
        return found, found

    def seen_from(self, at: Settled) -> Settled:
        """Begin with the scale that the distances show where fits are."""
        phi = distances(self.q.points, self.q.fn, at.beta)[0]
        found = self.scale_of(phi, self.q.points, self.count).nan_to_num(1.0, 1.0)
        return at._replace(scale=torch.maximum(found, self.floor))

    def cost(self, at: Settled, scale: Tensor) -> Tensor:
        """Return the loss (G,) of fits at one and the same scale, wherever they are."""
        phi = distances(self.q.points, self.q.fn, at.beta)[0]
        cost = costs_at(self.q.loss, phi.nan_to_num(torch.inf), scale, self.q.points)
        return self._joined(cost, torch.sum).nan_to_num(torch.inf, torch.inf)

    def subsets(self, at: Settled) -> Settled:
        """Begin with the curves through few points each that have the least median distance.

        Which points these are depends on their places in their own fit alone.
        """
        points, count, p = self.q.points, self.count, at.beta.shape[1]
        k = -(-p // self.equations) + SPARE
        group = points.group
        own = (
            torch.zeros(points.n, dtype=torch.int64, device="cpu") if group is None else group.cpu()
        )
        sizes = torch.bincount(own, minlength=count)
        if self.q.joint or not bool((sizes > k).any()):
            return at
        best, least = at.beta.clone(), torch.full_like(at.scale, torch.inf)
        place = (
            torch.arange(points.n, dtype=torch.int64, device="cpu") - (sizes.cumsum(0) - sizes)[own]
        )
        together = max(1, min(SUBSETS, TOGETHER // points.n))
        for seeds in torch.arange(SUBSETS, dtype=torch.int64, device="cpu").split(together):
            tries = len(seeds)
            drawn = [_first_of(own, place, sizes, k, seed) for seed in seeds.tolist()]
            members = torch.cat([own[each] + t * count for t, each in enumerate(drawn)])
            some = points.take(torch.cat(drawn).to(points.x.device))
            some = some._replace(group=members.to(points.x.device))
            wide = (WIDE * at.scale).repeat(tries)
            beta0 = at.beta.repeat(tries, 1)
            ended = torch.where(self.asked, 0, int(Status.STOPPED)).repeat(tries)
            stage = self.q.run(scaled(some, wide, self.q.extra), beta0, CONVEX, ended, True)
            whole = points.repeat(tries)._replace(
                group=(own + torch.arange(tries, dtype=torch.int64, device="cpu")[:, None] * count)
                .reshape(-1)
                .to(at.beta.device)
            )
            phi = distances(whole, self.q.fn, stage.beta)[0]
            found = self.scale_of(phi, whole, tries * count).nan_to_num(torch.inf)
            found = torch.where(torch.isfinite(stage.beta).all(1), found, torch.inf)
            lowest, which = found.reshape(tries, count).min(0)
            rows = torch.arange(count, device=which.device, dtype=torch.int64)
            there = stage.beta.reshape(tries, count, p)[which, rows]
            best = torch.where((lowest < least)[:, None], there, best)
            least = torch.minimum(lowest, least)
        return self.seen_from(at._replace(beta=best))

    def shrunk(self, at: Settled) -> tuple[Settled, Settled]:
        """Bring scales down to the sigmas, fits following; return where to begin, and the ends."""
        at = at._replace(scale=at.scale.clamp(min=1.0))
        for _ in range(ROUNDS):
            rows = torch.nonzero(self.asked & ~at.stopped & (at.scale > 1))[:, 0]
            if not len(rows):
                break
            stage, found = self.run(rows, at, self.q.loss, True)
            at = self._went(at, rows, stage, stage.beta)
            lower = torch.minimum(found.nan_to_num(torch.inf), SHRINK * at.scale[rows])
            at = at._replace(scale=at.scale.index_copy(0, rows, lower.clamp(min=1.0)))
        rows = torch.nonzero(self.asked & ~at.stopped)[:, 0]
        at = at._replace(scale=torch.ones_like(at.scale))
        if not len(rows):
            return at, at
        stage = self.run(rows, at, self.q.loss, True)[0]
        return at, self._went(at, rows, stage, stage.beta)


def _first_of(own: Tensor, place: Tensor, sizes: Tensor, k: int, seed: int) -> Tensor:
    """Return the points (K,), ascending, that come first by lot: k of every group."""
    dice = torch.rand(
        int(sizes.max()),
        generator=torch.Generator("cpu").manual_seed(seed),
        dtype=torch.float32,
        device="cpu",
    )
    order = torch.argsort(own.to(torch.float64) + 0.999 * dice[place].to(torch.float64))
    rank = torch.arange(len(own), dtype=torch.int64, device="cpu") - (sizes.cumsum(0) - sizes)[own]
    return order[rank < k].sort().values
