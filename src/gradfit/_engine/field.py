"""The points of all fits in stretches that stay in cache, and what can be asked of them.

A :class:`Field` evaluates and linearises stretch by stretch and adds up. While the data are small
the linearisation of every stretch is kept from one step to the next; when they are large it is
formed again, so that memory beyond the data and the foot points does not grow with N.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.eliminate import (
    Linear,
    Newton,
    NewtonSums,
    Sums,
    add_up,
    advance,
    advance_alone,
    advance_exactly,
    eliminate,
    eliminate_exactly,
    multipliers,
)
from gradfit._engine.linearize import Derivatives, curve, derive
from gradfit._engine.loss import Loss
from gradfit._engine.points import (
    Function,
    Grouping,
    Points,
    even_size,
    squares,
    times_vector,
)

STRETCH = 1 << 16
"""Points in a stretch: large enough for all cores, small enough for their caches."""
KEEP = 1 << 24
"""Numbers that may be kept between steps (128 MiB in float64)."""
SETTLE = 5
"""Steps of foot points alone before a trial is judged again."""
RESTORE = 40
"""Corrections that bring a foot point back onto an implicit curve, at most."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some of the points, and how to add them up."""

    start: int
    stop: int
    points: Points
    grouping: Grouping


class Trial(NamedTuple):
    """All points linearised at the same parameters.

    Attributes
    ----------
    beta : Tensor (G, p)
    u : Tensor (mu, N)
        Foot points.
    kept : list of Linear
        The linearisation of every stretch; empty when they are not kept.
    sums : Sums
    """

    beta: Tensor
    u: Tensor
    kept: list[Linear]
    sums: Sums


@dataclass(frozen=True, eq=False)
class Field:
    """All points, their model and its robust loss.

    Attributes
    ----------
    points : Points
        The observations.
    fn : callable
        The model, ``fn(x, beta)``.
    n_groups, p : int
        Number of fits, number of parameters.
    loss : Loss or None
        Robust loss; None is least squares.
    prior : Tensor (p,) or None
        Weights that pull parameters to 0, as a measurement of 0 with variance ``1/prior`` would:
        how errors that points share are fitted along.
    shared : Tensor (p,) bool or None
        Parameters that all fits have in common.
    stretches : tuple of Stretch
        The points, cut up.
    keep : bool
        Whether linearisations are kept between steps.
    """

    points: Points
    fn: Function
    n_groups: int
    p: int
    loss: Loss | None
    prior: Tensor | None
    shared: Tensor | None
    stretches: tuple[Stretch, ...]
    keep: bool

    @cached_property
    def alone(self) -> bool:
        """Whether there is one fit only."""
        return self.points.group is None

    @classmethod
    def of(
        cls,
        points: Points,
        fn: Function,
        n_groups: int,
        p: int,
        loss: Loss | None = None,
        prior: Tensor | None = None,
        shared: Tensor | None = None,
    ) -> "Field":
        """Cut the points into stretches."""
        q = 1 if points.y is None else points.y.shape[0]
        width = q * (p + len(points.rows) + 2)
        length = max(1024, 8 * STRETCH // max(8, width))
        size = even_size(points.group, n_groups)
        if size:
            length = max(size, length // size * size)
        stretches = tuple(
            Stretch(i, stop, part, Grouping(part.group, n_groups, size, part=True))
            for i in range(0, points.n, length)
            for stop in [min(i + length, points.n)]
            for part in [points if stop - i == points.n else points.part(i, stop)]
        )
        keep = points.n * width <= KEEP
        return cls(points, fn, n_groups, p, loss, prior, shared, stretches, keep)

    def select(self, rows: Tensor) -> tuple["Field", Tensor]:
        """Return the field of the fits ``rows`` (ascending) alone, and the index of its points."""
        if self.points.group is None:
            return self, torch.arange(self.points.n, device=self.points.x.device, dtype=torch.int64)
        place = torch.full((self.n_groups,), -1, dtype=torch.int64, device=rows.device)
        place[rows] = torch.arange(rows.shape[0], device=rows.device, dtype=torch.int64)
        moved = place[self.points.group]
        index = torch.nonzero(moved >= 0)[:, 0]
        points = self.points.take(index)._replace(group=moved[index])
        part = Field.of(points, self.fn, rows.shape[0], self.p, self.loss, self.prior)
        return part, index

    @property
    def sizes(self) -> Tensor:
        """Number of points of every fit (G,)."""
        if self.points.group is None:
            return torch.tensor([self.points.n], device=self.points.x.device, dtype=torch.int64)
        return torch.bincount(self.points.group, minlength=self.n_groups)

    def columns(self, stretch: Stretch, beta: Tensor) -> Tensor:
        """Return the parameters (G, p) of every point: (p, N), or (p, 1) for one fit."""
        return stretch.grouping.spread(beta.mT)

    def linearize(self, beta: Tensor, u: Tensor) -> Trial:
        """Linearise everywhere; implicit foot points are first brought onto the curve."""
        return self._walk(
            beta, u, lambda _, s: self._linear(s, self.columns(s, beta), self._own(u, s))
        )

    def attempt(
        self, beta: Tensor, u: Tensor, kept: list[Linear], db: Tensor, back: Tensor
    ) -> Trial:
        """Take a Gauss-Newton step ``db`` (G, p) from ``beta`` and linearise where it leads.

        ``back`` (G, p + 2) is minus the step, then -1 and 0: by it heads become what is left of
        ``h``, turned round.
        """
        new = beta + db

        def move(k: int, s: Stretch) -> Linear:
            there = advance(self._kept(k, s, kept, beta, u), s.grouping, back)
            return self._linear(s, self.columns(s, new), there)

        return self._walk(new, u, move)

    def settle(self, beta: Tensor, u: Tensor, before: Tensor) -> Trial:
        """Put the foot points right at ``beta`` (G, p): of each point the better of two, then down.

        A step follows the curve to first order only. Where it is refused its foot points may be to
        blame, so each takes the nearer of where the step put it and where it was ``before``, and
        moves on alone as far as its own distance shrinks.
        """

        def settled(_: int, s: Stretch) -> Linear:
            columns = self.columns(s, beta)
            best = _nearer(
                self._linear(s, columns, self._own(u, s)),
                self._linear(s, columns, self._own(before, s)),
            )
            return descend(s.points, self.fn, best, columns, SETTLE)

        return self._walk(beta, u, settled)

    def attempt_exactly(
        self, beta: Tensor, u: Tensor, kept: list[Linear], db: Tensor, newton: list[Newton]
    ) -> Trial:
        """Take a Newton step ``db`` (G, p) from ``beta`` and linearise where it leads."""
        new = beta + db

        def move(k: int, s: Stretch) -> Linear:
            linear = self._kept(k, s, kept, beta, u)
            exact = newton[k] if newton else self._exactly(s, beta, linear)[0]
            there = advance_exactly(linear, exact, s.grouping.spread(db.mT))
            return self._linear(s, self.columns(s, new), there)

        return self._walk(new, u, move)

    def exactly(
        self, beta: Tensor, u: Tensor, kept: list[Linear], basis: Tensor | None = None
    ) -> tuple[list[Newton], NewtonSums]:
        """Form the reduced Newton system with exact second derivatives.

        With ``basis`` (G, p, p) it is formed for the parameters along its columns, point by point,
        so that no digits are lost where they are nearly dependent.
        """
        exact: list[Newton] = []
        total: list[Tensor | None] = [None] * len(NewtonSums._fields)
        for s, linear in self.linears(beta, u, kept):
            newton, part = self._exactly(s, beta, linear, basis)
            total = [s.grouping.add(t, own) for t, own in zip(total, part, strict=True)]
            if self.keep:
                exact.append(newton)
        sums = NewtonSums(*_all(total))
        if self.prior is not None:
            weight, pull = torch.diag(self.prior), self.prior * beta
            if basis is not None:
                weight, pull = basis.mT @ weight @ basis, (basis.mT @ pull[..., None])[..., 0]
            sums = sums._replace(
                H=sums.H + weight, b=sums.b - pull, d=sums.d - pull, M=sums.M + weight
            )
        return exact, sums

    def linears(
        self, beta: Tensor, u: Tensor, kept: list[Linear]
    ) -> Iterator[tuple[Stretch, Linear]]:
        """Walk through the stretches with their linearisations."""
        for k, s in enumerate(self.stretches):
            yield s, self._kept(k, s, kept, beta, u)

    def factor(self, beta: Tensor, u: Tensor, kept: list[Linear], row: int) -> Tensor:
        """Return the triangular factor (p+1, p+1) of ``[J | h]`` of one fit, stretch by stretch."""
        R = u.new_zeros(0, self.p + 1)
        if self.prior is not None:
            R = self._prior_rows(self.prior, beta[row : row + 1])[0]
        for s, linear in self.linears(beta, u, kept):
            rows = linear.heads[:, :-1]
            if self.loss is not None:
                rows = rows * self.loss.weight(linear.phi).sqrt()
            if s.points.group is not None:
                rows = rows[..., s.points.group == row]
            flat = rows.permute(0, 2, 1).reshape(-1, self.p + 1)
            R = torch.linalg.qr(torch.cat([R, flat]), mode="r")[1]
        short = self.p + 1 - R.shape[0]
        return torch.cat([R, R.new_zeros(short, self.p + 1)]) if short > 0 else R

    def noise(self, beta: Tensor, u: Tensor, kept: list[Linear]) -> Tensor:
        """Return chi-square (G,) of the rounding errors of the data: nothing below it has meaning.

        Coordinates and parameters are known to a relative rounding error each; seen through the
        model they shift the residuals by ``eps |y| / sy``, ``eps |dr/du| |x| / sx`` and
        ``eps |dr/dbeta| |beta|``.
        """
        total: Tensor | None = None
        for s, linear in self.linears(beta, u, kept):
            part = s.grouping.sum(rounding(s.points, linear, self.columns(s, beta)))
            total = s.grouping.add(total, part)
        return _all([total])[0]

    def _kept(self, k: int, s: Stretch, kept: list[Linear], beta: Tensor, u: Tensor) -> Linear:
        if kept:
            return kept[k]
        here = self._own(u, s)
        d = derive(s.points, self.fn, here, self.columns(s, beta))
        return eliminate(s.points, here, d)

    def _own(self, u: Tensor, s: Stretch) -> Tensor:
        return u if len(self.stretches) == 1 else u[:, s.start : s.stop]

    def _walk(self, beta: Tensor, like: Tensor, at: Callable[[int, Stretch], Linear]) -> Trial:
        """Add up the stretches one after the other; only what is kept outlives its turn."""
        u = like if len(self.stretches) == 1 else torch.empty_like(like)
        kept: list[Linear] = []
        gram: Tensor | None = None
        for k, s in enumerate(self.stretches):
            linear = at(k, s)
            gram = s.grouping.add(gram, add_up(linear, s.grouping, self.loss).gram)
            if len(self.stretches) == 1:
                u = linear.u
            else:
                u[:, s.start : s.stop] = linear.u
            if self.keep:
                kept.append(linear)
        [gram] = _all([gram])
        if self.prior is not None:
            rows = self._prior_rows(self.prior, beta)
            gram[:, :-1, :-1] += rows.mT @ rows
        return Trial(beta, u, kept, Sums(gram))

    def _prior_rows(self, prior: Tensor, beta: Tensor) -> Tensor:
        """Return the rows (G, p, p + 1) of ``[J | h]`` by which priors pull ``beta`` (G, p)."""
        root = prior.sqrt()
        return torch.cat([torch.diag(root).expand(len(beta), -1, -1), (root * beta)[..., None]], 2)

    def _linear(self, s: Stretch, columns: Tensor, u: Tensor) -> Linear:
        return linearize(s.points, self.fn, u, columns)

    def _exactly(
        self, s: Stretch, beta: Tensor, linear: Linear, basis: Tensor | None = None
    ) -> tuple[Newton, NewtonSums]:
        columns = self.columns(s, beta)
        d = derive(s.points, self.fn, linear.u, columns)
        nu = multipliers(s.points, linear, d.J_u)
        curvature = curve(s.points, self.fn, linear.u, columns, nu)
        if basis is not None:
            T = s.grouping.spread(basis.permute(1, 2, 0))
            d = d._replace(J_beta=columns_along(d.J_beta, T))
            heads = torch.cat([columns_along(linear.J, T), linear.heads[:, -2:]], 1)
            linear = linear._replace(heads=heads)
            bb = columns_along(columns_along(curvature.bb, T).transpose(0, 1), T)
            curvature = curvature._replace(ub=columns_along(curvature.ub, T), bb=bb)
        return eliminate_exactly(s.points, linear, d, curvature, s.grouping, self.loss)


def _all(sums: list[Tensor | None]) -> list[Tensor]:
    found = [t for t in sums if t is not None]
    if len(found) < len(sums):
        raise ValueError("a field without points")
    return found


def linearize(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Linear:
    """Linearise at ``u``, brought onto the curve first if the model is implicit."""
    if not points.slack:
        u = restore(points, fn, u, columns)
    return eliminate(points, u, derive(points, fn, u, columns))


def descend(points: Points, fn: Function, linear: Linear, columns: Tensor, rounds: int) -> Linear:
    """Follow foot points down at fixed parameters, each with a step length of its own.

    A point that has arrived stays, so that none depends on which others go along with it.
    """
    share = torch.ones_like(linear.tangent)
    going = torch.ones_like(share, dtype=torch.bool)
    for _ in range(rounds):
        trial = linearize(points, fn, advance_alone(linear, share), columns)
        good = trial.phi < linear.phi
        settled = (linear.tangent <= 1e-6 * linear.phi) | (share < 1e-3)
        linear = _nearer(trial, linear, going)
        going = going & ~settled
        if not bool(going.any()):
            break
        share = torch.where(good, (2 * share).clamp(max=1), share / 4)
    return linear


def _nearer(a: Linear, b: Linear, among: Tensor | None = None) -> Linear:
    """Take of every point the linearisation with the shorter distance; NaN is never shorter."""
    mask = ~(a.phi >= b.phi) & ~a.phi.isnan()
    mask = mask if among is None else mask & among
    return Linear(*(torch.where(mask, x, y) for x, y in zip(a, b, strict=True)))


def columns_along(rows: Tensor, T: Tensor) -> Tensor:
    """Multiply per point matrices ``rows`` (a, p, N) by ``T`` (p, p, N|1)."""
    return torch.stack([times_vector(rows, T[:, j]) for j in range(T.shape[1])], 1)


def restore(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Tensor:
    """Bring foot points back onto an implicit curve, each along its own normal.

    Newton's iteration ``u - J^T (J J^T)^-1 g``; a point that finds no curve becomes NaN, so that
    the step which led there is refused.
    """
    size = last = torch.full_like(u[0], torch.inf)
    for _ in range(RESTORE):
        d = derive(points, fn, u, columns, beta=False)
        du = normal_step(d)
        size = (du * du).sum(0).sqrt()
        open_ = (size > 1e-14 * (1 + (u * u).sum(0).sqrt())) & (size < 0.9 * last)
        if not bool(open_.any()):
            break
        u = torch.where(open_ | (size.isnan()), u + du, u)
        last = torch.where(open_, size, last)
    lost = ~(size <= 1e-6 * (1 + (u * u).sum(0).sqrt()))
    return torch.where(lost, torch.nan, u)


def normal_step(d: Derivatives) -> Tensor:
    """Return the shortest ``du`` (mu, N) that solves ``r + J_u du = 0``."""
    J = d.J_u
    if J.shape[0] == 1:
        return -J[0] * (d.r / (J * J).sum(1))
    S = (J[:, None] * J[None]).sum(2).permute(2, 0, 1)
    nu = torch.linalg.solve_ex(S, d.r.mT[..., None])[0][..., 0].mT
    return -(J * nu[:, None]).sum(0)


def rounding(points: Points, linear: Linear, columns: Tensor) -> Tensor:
    """Square (N,) of what rounding errors of data and parameters do to the whitened residual."""
    parts = [(linear.J * columns).flatten(0, 1)]
    if points.rows:
        x = points.x if len(points.rows) == len(points.x) else points.x[list(points.rows)]
        scale = points.scale_x
        scale = scale if scale.ndim == 2 else scale.diagonal(dim1=0, dim2=1).mT.abs()
        size = (x / scale).nan_to_num_(0.0, 0.0, 0.0)
        parts.append(times_vector(linear.K, size))
    if points.y is not None and points.weight_y is not None:
        if points.weight_y.ndim == 2:
            parts.append(points.weight_y * points.y)
        else:
            parts.append(times_vector(points.weight_y, points.y))
    return (4 * torch.finfo(linear.r.dtype).eps) ** 2 * squares(torch.cat(parts))
