r"""Nearer foot points: a search at the end, since descent finds only the nearest valley.

On a strongly curved or periodic model a point may have several feet. Any foot nearer than the one
found, at distance :math:`d`, lies within :math:`|u| \le d`, so trial points are laid over that
ball, the most promising are followed down at fixed parameters, and what is nearest is kept.

Nothing is tried where the curve is almost straight across the ball. Let its normal turn there by
less than :math:`c`. From a foot at :math:`u_0` to another point of the curve in the ball, the way
:math:`w` is across the normal up to :math:`c|w|`, and the ball lies more than :math:`|w|^2/2d`
behind its tangent plane, so that :math:`|w| < 2cd`: a nearer foot would be close by, and the curve
would bend as much as the ball within that way, which turns its normal by more than it may.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from gradfit._engine.control import EXACT
from gradfit._engine.eliminate import Linear
from gradfit._engine.field import Stretch, descend, linearize, restore, rounding
from gradfit._engine.linearize import derive, evaluate
from gradfit._engine.points import Function, Points, minus_times, row_squares, squares
from gradfit._engine.state import Work

FARTHEST = 1 << 16
"""Points that are searched, the farthest ones, when there are more."""
TOGETHER = 1 << 16
"""Trial points that are evaluated at once."""
FOOT_ROUNDS = 20
"""Times that nearer feet are searched and the fit goes on from them, at most."""
TRIALS = 32
WELLS = 4
"""Places that are followed down for each point, where they are ordered along a line."""
BENT = 1 / 16
"""Part of the distance by which a curve may leave its tangent and still be called straight."""
STRAIGHT = 1e-9
"""The same, in parts of what it is the difference of: rounding errors stay below."""
DESCENTS = 30


def search(w: Work) -> tuple[Tensor, Tensor] | None:
    """Look for nearer feet of all points; None where there is nothing to look for.

    Returns
    -------
    u : Tensor (mu, N)
        Foot points, some of them moved.
    moved : Tensor (N,) bool
        Points that found a nearer foot.
    """
    if not w.field.points.rows:
        return None
    u, moved, ended = w.u, None, None
    for s, linear in w.field.linears(w.state.beta, w.u, w.kept):
        columns = w.field.columns(s, w.state.beta)
        index = _candidates(s, linear, columns, w)
        if index is None:
            continue
        ended = w.state.status if ended is None else ended
        fine = s.grouping.spread((ended < 10) & (ended > 0)).expand(s.points.n)
        index = index[fine[index]]
        if not index.shape[0]:
            continue
        here, better = _nearer(s, linear, columns, index, w)
        u = u.index_copy(1, s.start + index, here)
        if moved is None:
            moved = torch.zeros(w.field.points.n, dtype=torch.bool, device=u.device)
        moved[s.start + index] = better
    return None if moved is None else (u, moved)


def _candidates(s: Stretch, linear: Linear, columns: Tensor, w: Work) -> Tensor | None:
    """Return the index of points whose residual bends across the ball, the farthest first."""
    d, r0 = linear.phi.sqrt(), linear.r
    bent: Tensor | None = None
    J_u, steep = _slopes(s, linear, columns, w)
    q, mu, n = J_u.shape
    # Where several equations meet, their curve may bend although each is almost straight.
    share = BENT if s.points.slack or q == 1 else STRAIGHT
    least = (steep * (share * d))[:, None]
    places, many = _places(mu, d.dtype, d.device), max(1, TOGETHER // n)
    for first in range(0, places.shape[1], many):
        step = places[:, first : first + many] * d
        count = step.shape[1]
        u = (linear.u[:, None] + step).flatten(1)
        points = s.points if count == 1 else s.points.repeat(count)
        there = columns if columns.shape[1] == 1 else columns.repeat(1, count)
        r = evaluate(points, w.field.fn, u, there).view(q, count, n)
        gap = (minus_times(r, J_u, step) - r0[:, None]).abs()
        if bool((gap <= least).all()):
            continue
        rise = (J_u[:, :, None] * step).abs().sum(1)
        slack = STRAIGHT * (r.abs() + r0.abs()[:, None] + rise)
        here = ~(gap <= torch.maximum(least, slack)).all(0).all(0)
        bent = here if bent is None else bent | here
    if bent is None:
        return None
    # A distance that is no more than rounding error tells nothing.
    far = linear.phi > EXACT * rounding(s.points, linear, columns)
    index = torch.nonzero(bent & far)[:, 0]
    limit = max(1, FARTHEST // len(w.field.stretches))
    if index.shape[0] > limit:
        index = index[torch.topk(d[index], limit).indices].sort().values
    return index


def _slopes(s: Stretch, linear: Linear, columns: Tensor, w: Work) -> tuple[Tensor, Tensor]:
    """Return ``J_u`` (q, mu, N) and how steep each residual is (q, N), as a graph over ``u``."""
    if s.points.slack and linear.r.shape[0] == 1:
        # Elimination has divided the slope by the length of the normal; NaN where that is all.
        normal = row_squares(linear.K).neg_().add_(1.0).rsqrt_()
        return linear.K * normal, normal[0]
    J_u = derive(s.points, w.field.fn, linear.u, columns, beta=False).J_u
    return J_u, (J_u.square().sum(1) + s.points.slack).sqrt()


def offsets(mu: int, like: Tensor) -> Tensor:
    """Return trial points (T, mu) in the unit ball: a grid on a line, else quasi-random."""
    if mu == 1:
        return torch.linspace(-1, 1, TRIALS + 1, dtype=like.dtype, device=like.device)[:, None]
    draws = torch.quasirandom.SobolEngine(mu + 1).draw(4 * TRIALS).to(like)
    direction = torch.erfinv((2 * draws[:, :mu] - 1).clamp(-0.999999, 0.999999))
    direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return direction * draws[:, mu:] ** (1 / mu)


@lru_cache(maxsize=16)
def around(mu: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return places (P, mu) around a foot: along axes and, lest they cancel, between two."""
    one = torch.eye(mu, dtype=dtype, device=device)
    if mu == 1:
        return torch.cat([one, -one, one / 2, -one / 2])
    i, j = torch.triu_indices(mu, mu, 1, device=device)
    between = torch.cat([one[i] + one[j], one[i] - one[j]]) / math.sqrt(2)
    return torch.cat([one, -one, between, -between])


@lru_cache(maxsize=16)
def _places(mu: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the same as (mu, P, 1)."""
    return around(mu, dtype, device).mT[:, :, None]


def _nearer(
    s: Stretch, linear: Linear, columns: Tensor, index: Tensor, w: Work
) -> tuple[Tensor, Tensor]:
    """Return the feet of the points in ``index``, and which of them are nearer than before."""
    fn, phi0 = w.field.fn, linear.phi[index]
    best_u, best = linear.u[:, index], phi0
    points, own = s.points.take(index), _of(columns, index)
    for u, phi in zip(*_wells(points, fn, own, phi0), strict=True):
        promising = torch.nonzero(torch.isfinite(phi))[:, 0]
        if not len(promising):
            continue
        chosen, there = points.take(promising), _of(own, promising)
        start = linearize(chosen, fn, u[:, promising], there)
        found = descend(chosen, fn, start, there, DESCENTS)
        near = found.phi < best[promising]
        u = torch.where(near, found.u, best_u[:, promising])
        best_u = best_u.index_copy(1, promising, u)
        best = best.index_copy(0, promising, torch.where(near, found.phi, best[promising]))
    better = best < phi0 * (1 - 1e-9)
    return torch.where(better, best_u, linear.u[:, index]), better


def _wells(
    points: Points, fn: Function, columns: Tensor, phi0: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return places (mu, N) to follow down, a few for each point, and squared distances there.

    On a line the lowest of those lower than their neighbours, where each may lead to a foot of its
    own; elsewhere the lowest of all. The distance is inf where there is none.
    """
    mu = len(points.rows)
    ball = offsets(mu, phi0)
    us: list[Tensor] = []
    phis: list[Tensor] = []
    for part in ball.split(max(1, TOGETHER // points.n)):
        u = (part.mT[:, :, None] * phi0.sqrt()).reshape(mu, -1)
        tiled = columns if columns.shape[1] == 1 else columns.repeat(1, len(part))
        u, phi = _try(points.repeat(len(part)), fn, u, tiled)
        u, phi = u.reshape(mu, len(part), -1), phi.reshape(len(part), -1).nan_to_num(torch.inf)
        if mu > 1:
            k = phi.argmin(0, keepdim=True)
            u, phi = u.gather(1, k.expand(mu, 1, -1)), phi.gather(0, k)
        us.append(u)
        phis.append(phi)
    u, phi = torch.cat(us, 1), torch.cat(phis)
    if mu == 1:
        wall = phi.new_full((1, points.n), torch.inf)
        low = (phi <= torch.cat([wall, phi[:-1]])) & (phi <= torch.cat([phi[1:], wall]))
        phi = torch.where(low, phi, torch.inf)
    lowest, k = phi.topk(WELLS if mu == 1 else 1, 0, largest=False)
    return list(u.gather(1, k.expand(mu, -1, -1)).unbind(1)), list(lowest)


def _of(columns: Tensor, index: Tensor) -> Tensor:
    """Return the parameters of the points in ``index``; one fit has the same for all."""
    return columns if columns.shape[1] == 1 else columns[:, index]


def _try(points: Points, fn: Function, u: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return trial feet and their squared distances (N,), on the curve if it is implicit."""
    if not points.slack:
        u = restore(points, fn, u, columns)
        return u, squares(u)
    r = evaluate(points, fn, u, columns)
    return u, squares(u) + squares(r)
