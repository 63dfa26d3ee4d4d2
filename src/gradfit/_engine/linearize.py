r"""Values and derivatives of the model at a set of points, by passes through its graph.

Every point gets its own copy of the parameters, so one forward and, for each response, one
backward pass yield :math:`\partial f/\partial x` and :math:`\partial f/\partial\beta` at every
point of every fit. A second round through the gradient's own graph yields the second derivatives
of :math:`\sum_j \nu_j f_j`, which is all that a Newton step needs.

Everything here expects gradients to be enabled; whoever runs the engine sees to it once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.points import (
    Function,
    Points,
    rows_times,
    times,
    times_rows,
    times_vector,
)


class Derivatives(NamedTuple):
    """The whitened residual and its derivatives at one iterate.

    Attributes
    ----------
    r : Tensor (q, N)
        Residual in units of sigma (explicit) or of the model (implicit).
    J_u : Tensor (q, mu, N)
        ``dr/du``.
    J_beta : Tensor (q, p, N)
        ``dr/dbeta``.
    """

    r: Tensor
    J_u: Tensor
    J_beta: Tensor


class Leaves(NamedTuple):
    """The inputs of one pass: x as the model sees it, what of it moves, and the parameters."""

    x: Tensor
    moving: list[Tensor]
    params: list[Tensor]


def leaves_of(points: Points, u: Tensor, columns: Sequence[Tensor], beta: bool = True) -> Leaves:
    """Make leaves of the graph: the x that carry errors, and one parameter each if ``beta``."""
    n = points.n
    params = [c.expand(n).requires_grad_(beta) for c in columns]
    if not points.rows:
        return Leaves(points.x, [], params)
    if len(points.rows) == points.x.shape[0]:
        x = torch.add(points.x, points.shift_x(u)).requires_grad_()
        return Leaves(x, [x], params)
    rows = list(points.rows)
    moving = (points.x[rows] + points.shift_x(u)).requires_grad_()
    x = points.x.index_copy(0, torch.tensor(rows, device=points.x.device), moving)
    return Leaves(x, [moving], params)


def residual(points: Points, value: Tensor, u: Tensor) -> Tensor:
    """Return the whitened residual ``W (f - y) - C u`` (explicit), or ``g`` itself."""
    if points.y is None or points.weight_y is None:
        return value
    r = times(points.weight_y, value - points.y)
    return r if points.cross is None else r - times_vector(points.cross, u)


def evaluate(points: Points, fn: Function, u: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """Return the residual (q, N) alone, without a graph."""
    with torch.no_grad():
        return residual(points, fn(points.x_hat(u), [c.expand(points.n) for c in columns]), u)


def derive(
    points: Points, fn: Function, u: Tensor, columns: Sequence[Tensor], beta: bool = True
) -> Derivatives:
    """Return the residual and its first derivatives.

    Parameters
    ----------
    points : Points
        The observations.
    fn : callable
        The model.
    u : Tensor (mu, N)
        Whitened foot points.
    columns : sequence of p tensors, (N,) or (1,)
        The parameters, given to every point.
    beta : bool
        Without it only ``J_u`` is formed and ``J_beta`` has no rows.
    """
    leaves = leaves_of(points, u, columns, beta)
    wanted = [*leaves.moving, *(leaves.params if beta else [])]
    value = fn(leaves.x, leaves.params)
    grads = [
        gradients(value[j], wanted, keep=j < value.shape[0] - 1) for j in range(value.shape[0])
    ]
    moving = len(leaves.moving)
    f_x = [g[0] for g in grads] if moving else []
    f_beta = [t for g in grads for t in g[moving:]]
    return _whiten(points, value.detach(), u, f_x, f_beta)


def gradients(value: Tensor, wanted: Sequence[Tensor], keep: bool = False) -> list[Tensor]:
    """Return the gradient of ``value.sum()`` for each tensor, zeros where nothing flows."""
    if not wanted:
        return []
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in wanted]
    found = torch.autograd.grad(value.sum(), wanted, retain_graph=keep, allow_unused=True)
    # torch says tensors; what does not enter the value comes back as None all the same
    parts: list[Tensor | None] = list(found)
    return [torch.zeros_like(w) if t is None else t for t, w in zip(parts, wanted, strict=True)]


def _whiten(
    points: Points, value: Tensor, u: Tensor, f_x: list[Tensor], f_beta: list[Tensor]
) -> Derivatives:
    q, n = value.shape
    r = residual(points, value, u)
    if f_x:
        J_u = rows_times(f_x[0][None] if q == 1 else torch.stack(f_x), points.scale_x)
        if points.weight_y is not None:
            J_u = times_rows(points.weight_y, J_u)
        if points.cross is not None:
            J_u = J_u - points.cross
    else:
        J_u = value.new_zeros(q, 0, n)
    if f_beta:
        J_beta = torch.stack(f_beta).view(q, -1, n)
        if points.weight_y is not None:
            J_beta = times_rows(points.weight_y, J_beta)
    else:
        J_beta = value.new_zeros(q, 0, n)
    return Derivatives(r, J_u, J_beta)


class Curvature(NamedTuple):
    """Second derivatives of ``sum_j nu_j r_j`` per point, in whitened coordinates.

    Attributes
    ----------
    uu : Tensor (mu, mu, N)
    ub : Tensor (mu, p, N)
    bb : Tensor (p, p, N)
    """

    uu: Tensor
    ub: Tensor
    bb: Tensor


def curve(
    points: Points, fn: Function, u: Tensor, columns: Sequence[Tensor], nu: Tensor
) -> Curvature:
    """Differentiate ``sum_j nu_j r_j`` twice, at every point at once.

    ``nu`` (q, N) are the multipliers; for an explicit model they are the residuals themselves.
    """
    leaves = leaves_of(points, u, columns)
    wanted = [*leaves.moving, *leaves.params]
    mu, p, n = len(points.rows), len(columns), points.n
    if points.weight_y is not None:
        nu = _transposed_times(points.weight_y, nu)
    field = (fn(leaves.x, leaves.params) * nu).sum()
    first = (
        torch.autograd.grad(field, wanted, create_graph=True, materialize_grads=True)
        if field.requires_grad
        else [torch.zeros_like(t) for t in wanted]
    )
    rows = [*(first[0] if leaves.moving else []), *first[len(leaves.moving) :]]
    H = torch.stack([_flat(gradients(row, wanted, keep=True), n) for row in rows])
    H_uu = H[:mu, :mu]
    H_ub = H[:mu, mu:]
    if mu:
        H_uu = rows_times(_transposed_rows(points.scale_x, H_uu), points.scale_x)
        H_ub = _transposed_rows(points.scale_x, H_ub)
    return Curvature(H_uu, H_ub.reshape(mu, p, n), H[mu:, mu:])


def _flat(grads: list[Tensor], n: int) -> Tensor:
    return torch.cat([g.reshape(-1, n) for g in grads])


def _transposed_times(factor: Tensor, v: Tensor) -> Tensor:
    return times(factor if factor.ndim == 2 else factor.transpose(0, 1), v)


def _transposed_rows(factor: Tensor, rows: Tensor) -> Tensor:
    return times_rows(factor if factor.ndim == 2 else factor.transpose(0, 1), rows)
