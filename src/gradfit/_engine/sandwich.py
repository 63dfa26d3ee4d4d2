r"""What the residuals themselves say about the scatter of the parameters.

Around the inverse information :math:`H^{-1}` stand the outer products of the gradients of the
points, :math:`g_i = \tilde J_i^T w_i h_i` (White, Econometrica 50 (1982) 1): of regression that is
HC0. HC3 puts :math:`(1 - P_i)^{-1} h_i` in the place of each residual, with the point's block
:math:`P_i` of the projection :math:`\tilde J A^{-1} \tilde J^T` of the linearised problem, which is
nearly the jackknife (MacKinnon and White, J. Econometrics 29 (1985) 305). Both hold the size of the
residuals, so that unknown sigmas cancel in them and nothing is left to be scaled.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.arrow import pooled
from gradfit._engine.eliminate import Linear
from gradfit._engine.field import columns_along
from gradfit._engine.loss import Loss
from gradfit._engine.points import Grouping, Points, times_vector
from gradfit._engine.state import Work

FROM_RESIDUALS = "sandwich", "HC3"
"""Kinds of covariance that hold the size of the residuals."""
ALONE = 1e-10
"""Distance of a leverage from 1 within which a point has no residual of its own."""


def equations(points: Points, q: int) -> Tensor:
    """Return how many of ``q`` equations each point (N,) has: those that were measured."""
    W = points.weight_y
    if W is None:
        return points.x.new_full((points.n,), float(q))
    seen = (W != 0) if W.ndim == 2 else (W.diagonal(dim1=0, dim2=1).mT != 0)
    return seen.sum(0).to(points.x).expand(points.n)


def scatter(w: Work) -> Tensor:
    """Return the cost of each fit (G,) over its degrees of freedom; NaN where it has none."""
    s, field = w.state, w.field
    total = s.beta.new_zeros(len(s.beta))
    for part, linear in field.linears(s.beta, w.u, w.kept):
        total = part.grouping.add(total, part.grouping.sum(equations(part.points, len(linear.h))))
    unknowns = s.beta.shape[1]
    if field.prior is not None:
        unknowns -= int((field.prior > 0).sum())
    cost, dof = s.sums.cost, total - unknowns
    if field.shared is not None:
        repeated = int(field.shared.sum()) * (len(s.beta) - 1)
        cost, dof = pooled(cost), pooled(dof) + repeated
    return torch.where(dof > 0, cost / dof, torch.nan)


def meat(
    w: Work, kind: str, T: Tensor, relative: bool, inverse: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum the outer products (G, p, p) of the gradients of the points along the columns of ``T``.

    ``T`` (G, p, p) makes the Gauss-Newton information the unit matrix; if it does not, ``inverse``
    (G, p, p) is the inverse of what that is along ``T``. An error that points share has no
    residuals to tell its size, and counts as large as given; with ``relative`` sigmas, as much
    larger as the points scatter.

    Returns as well how far the points that have no residual of their own move each parameter
    (G, p), squared: for those the residuals tell nothing.
    """
    s, loss = w.state, w.field.loss
    total, alone = torch.zeros_like(s.sums.A), torch.zeros_like(s.beta)
    if kind == "HC3" and inverse is None and loss is not None:
        inverse = _inverse_pull(w, T)
    for part, linear in w.field.linears(s.beta, w.u, w.kept):
        along = part.grouping.spread(T.permute(1, 2, 0))
        rows, h = columns_along(linear.J, along), linear.h
        if kind == "HC3":
            h, fixed, moved = _apart(part.grouping, linear, rows, loss, inverse)
            far = sum(times_vector(along, row).square() for row in moved)
            alone = part.grouping.add(alone, part.grouping.sum(far * fixed).mT)
        g = (rows * h[:, None]).sum(0)
        if loss is not None:
            g = g * loss.weight(linear.phi)
        total = part.grouping.add(total, part.grouping.gram(g[None]))
    if w.field.prior is not None:
        size = scatter(w)[:, None, None] if relative else 1.0
        total = total + T.mT @ torch.diag(w.field.prior) @ T * size
    return total, alone


def _slope(loss: Loss, linear: Linear) -> Tensor:
    """Return the mean derivative (N,) of a robust residual by itself, where it rises."""
    q = len(linear.h)
    return (loss.weight(linear.phi) + 2 / q * loss.bend(linear.phi) * linear.phi).clamp(min=0)


def _inverse_pull(w: Work, T: Tensor) -> Tensor:
    """Return the inverse (G, p, p), along ``T``, of what the points of a robust fit pull with."""
    loss, total = w.field.loss, torch.zeros_like(w.state.sums.A)
    for part, linear in w.field.linears(w.state.beta, w.u, w.kept):
        rows = columns_along(linear.J, part.grouping.spread(T.permute(1, 2, 0)))
        root = 1.0 if loss is None else _slope(loss, linear).sqrt()
        total = part.grouping.add(total, part.grouping.gram(rows * root))
    if w.field.prior is not None:
        total = total + T.mT @ torch.diag(w.field.prior) @ T
    return torch.linalg.pinv(total.nan_to_num(0.0, 0.0, 0.0), hermitian=True)


def _apart(
    grouping: Grouping, linear: Linear, rows: Tensor, loss: Loss | None, inverse: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(1 - P)^-1 h`` (q, N), the residuals that points have for the fits without them.

    Returns as well which points (N,) have none, for the fit passes through them, and where such a
    point moves the parameters (q, p, N).
    """
    other = rows
    if inverse is not None:
        other = columns_along(rows, grouping.spread(inverse.permute(1, 2, 0)))
    slope = torch.ones_like(linear.phi) if loss is None else _slope(loss, linear)
    P = torch.einsum("apn,bpn->nab", other, rows) * slope[:, None, None]
    eye = torch.eye(P.shape[1], dtype=torch.float64, device="cpu").to(P)
    lowest = torch.linalg.eigvalsh((eye - P).nan_to_num(0.0, 0.0, 0.0))[:, 0]
    fixed = lowest <= ALONE
    rest = torch.where(fixed[:, None, None], eye, eye - P)
    pushed = torch.linalg.solve_ex(rest, linear.h.mT[..., None])[0][..., 0].mT
    return torch.where(fixed, 0.0, pushed), fixed, other


class Moments(NamedTuple):
    r"""What a robust loss has made of the distances, one row per fit, for errors to match.

    With :math:`\psi` the weighted distance, :math:`N` equations and :math:`p` parameters,

    .. math::  \operatorname{cov} = K^2\,
               \frac{\frac{1}{N-p} \sum \psi^2}{\left(\frac1N \sum \psi'\right)^2}\,
               \left(\tilde J^T \tilde J\right)^{-1} , \qquad
               K = 1 + \frac pN\,
               \frac{\operatorname{var} \psi'}{\left(\frac1N \sum \psi'\right)^2} ,

    where :math:`\tilde J^T \tilde J` is that of the points which the loss believes: the weighted
    one over the mean weight. It holds whether or not the sigmas do, and errors need not be normal.
    With exact second derivatives :math:`K` and :math:`1/K` take the place of :math:`K^2` (Huber
    and Ronchetti, Robust Statistics (2009), section 7.6).

    Attributes
    ----------
    square, slope, weight : Tensor (G,)
        :math:`\sum\psi^2/(N-p)`, :math:`\sum\psi'/N`, :math:`\sum w/N`.
    K : Tensor (G,)
        Correction for few points.
    """

    square: Tensor
    slope: Tensor
    weight: Tensor
    K: Tensor

    def factor(self, kind: str) -> Tensor:
        """Return by how much a covariance (G,) of that kind is to be multiplied."""
        if kind == "expected":
            return self.K**2 * self.square * self.weight / self.slope**2
        if kind == "observed":
            return self.K * self.square / self.slope
        if kind == "propagated":
            return self.square / (self.weight * self.K)
        return torch.ones_like(self.K)


def moments(
    loss: Loss, phi: Tensor, points: Points, q: int, unknowns: Tensor, joint: bool = False
) -> Moments:
    """Return the moments of squared distances ``phi`` (N,) of fits with ``unknowns`` (G,) each.

    With ``joint`` those of all fits together, whose unknowns are counted once.
    """
    count = len(unknowns)
    grouping, seen = Grouping(points.group, count), equations(points, q)
    weight, there = loss.weight(phi), seen > 0
    slope = torch.where(there, seen * weight + 2 * loss.bend(phi) * phi, 0.0)
    bent, believed = slope**2 / seen.clamp(min=1), seen * (weight > 0)
    rows = [seen, weight**2 * phi, slope, bent, seen * weight, believed]
    sums = [grouping.sum(row) for row in rows]
    if joint:
        sums = [t.sum().expand(count) for t in sums]
    n, square, slope, bent, weight, believed = sums
    dof, slope = n - unknowns, slope / n
    K = 1 + unknowns / n * (bent / n - slope**2) / slope**2
    # Where points only push a parameter away, or no more are believed than it takes to fit them,
    # there is nothing to tell an error by.
    told = (slope > 0) & ((believed > unknowns) | (dof <= 0))
    slope = torch.where(told, slope, torch.nan)
    square = torch.where(dof > 0, square / dof, torch.nan)
    return Moments(square, slope, weight / n, K)
