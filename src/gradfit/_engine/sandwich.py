r"""What the residuals themselves say about the scatter of the parameters.

Around the inverse information :math:`H^{-1}` stand the outer products of the gradients of the
points, :math:`g_i = \tilde J_i^T w_i h_i` (White, Econometrica 50 (1982) 1): of regression that is
HC0. HC3 puts :math:`(1 - P_i)^{-1} h_i` in the place of each residual, with the point's block
:math:`P_i` of the projection :math:`\tilde J A^{-1} \tilde J^T` of the linearised problem, which is
nearly the jackknife (MacKinnon and White, J. Econometrics 29 (1985) 305). Both hold the size of the
residuals, so that unknown sigmas cancel in them and nothing is left to be scaled.
"""

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
    eye = torch.eye(P.shape[1]).to(P)
    lowest = torch.linalg.eigvalsh((eye - P).nan_to_num(0.0, 0.0, 0.0))[:, 0]
    fixed = lowest <= ALONE
    rest = torch.where(fixed[:, None, None], eye, eye - P)
    pushed = torch.linalg.solve_ex(rest, linear.h.mT[..., None])[0][..., 0].mT
    return torch.where(fixed, 0.0, pushed), fixed, other
