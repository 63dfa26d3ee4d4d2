"""Foot points at fixed parameters: back onto a curve, and down to the nearest foot."""

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear, advance_alone, eliminate, multipliers, solve_bordered
from gradfit._engine.linearize import Derivatives, curve, derive
from gradfit._engine.points import Function, Points, vector_times

RESTORE = 40
"""Corrections that bring a foot point back onto an implicit curve, at most."""
RIGHT = 1e-20
"""Part of its distance that a foot on its way by second-order steps may still have to go."""
SLOW = 0.1
"""Part of its tangential distance from which on what a foot keeps after a step is too much."""


def linearize(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Linear:
    """Linearise at ``u``, brought onto the curve first if the model is implicit."""
    if not points.slack:
        u = restore(points, fn, u, columns)
    return eliminate(points, u, derive(points, fn, u, columns))


def descend(points: Points, fn: Function, linear: Linear, columns: Tensor, rounds: int) -> Linear:
    """Follow foot points down at fixed parameters, each with a step length of its own.

    A point that has arrived stays, so that none depends on which others go along with it. One that
    a first-order step does not bring much nearer takes second-order ones: at a crest these lead to
    the foot, where the others go to and fro.
    """
    share = torch.ones_like(linear.tangent)
    going = torch.ones_like(share, dtype=torch.bool)
    slow = ~going
    for _ in range(rounds):
        there = advance_alone(linear, share)
        if bool(slow.any()):
            there = torch.where(slow, _to_foot(points, fn, linear, columns, share, there), there)
        trial = linearize(points, fn, there, columns)
        good = trial.phi < linear.phi
        far = linear.tangent > RIGHT * linear.phi
        slow = slow | (going & far & ~(trial.tangent <= SLOW * linear.tangent))
        near = linear.tangent <= torch.where(slow, RIGHT, 1e-6) * linear.phi
        settled = near | (share < 1e-3)
        linear = nearer(trial, linear, going)
        going = going & ~settled
        if not bool(going.any()):
            break
        share = torch.where(good, (2 * share).clamp(max=1), share / 4)
    return linear


def _to_foot(
    points: Points,
    fn: Function,
    linear: Linear,
    columns: Tensor,
    share: Tensor,
    there: Tensor,
) -> Tensor:
    """Return foot points after a second-order step, or ``there`` where that does not lead down."""
    u = linear.u
    d = derive(points, fn, u, columns, beta=False)
    nu = d.r if points.slack else multipliers(points, linear, d.J_u)
    curvature = curve(points, fn, u, columns, nu, beta=False)
    way = solve_bordered(points, u, d, curvature)[: len(u), 0]
    slope = u + vector_times(nu, d.J_u)
    return torch.where((way * slope).sum(0) > 0, u - share * way, there)


def nearer(a: Linear, b: Linear, among: Tensor | None = None) -> Linear:
    """Take of every point the linearisation with the shorter distance; NaN is never shorter."""
    mask = ~(a.phi >= b.phi) & ~a.phi.isnan()
    mask = mask if among is None else mask & among
    return Linear(*(torch.where(mask, x, y) for x, y in zip(a, b, strict=True)))


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
