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

from gradfit._engine.backward import pull_back
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
    params: Sequence[Tensor]
    wanted: list[Tensor]


def leaves_of(points: Points, u: Tensor, columns: Tensor, beta: bool = True) -> Leaves:
    """Make leaves of the graph: the x that carry errors, and if ``beta`` the parameters."""
    spread = columns.expand(-1, points.n).detach()
    wanted = [spread.requires_grad_()] if beta and columns.shape[0] else []
    params = spread.unbind()
    if not points.rows:
        return Leaves(points.x, params, wanted)
    if len(points.rows) == points.x.shape[0]:
        x = torch.add(points.x, points.shift_x(u)).requires_grad_()
        return Leaves(x, params, [x, *wanted])
    rows = list(points.rows)
    moving = (points.x[rows] + points.shift_x(u)).requires_grad_()
    x = points.x.index_copy(0, torch.tensor(rows, device=points.x.device), moving)
    return Leaves(x, params, [moving, *wanted])


def residual(points: Points, value: Tensor, u: Tensor) -> Tensor:
    """Return the whitened residual ``W (f - y) - C u`` (explicit), or ``g`` itself."""
    if points.y is None or points.weight_y is None:
        return value
    r = times(points.weight_y, value - points.y)
    return r if points.cross is None else r - times_vector(points.cross, u)


def evaluate(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Tensor:
    """Return the residual (q, N) alone, without a graph."""
    with torch.no_grad():
        params = columns.expand(-1, points.n).unbind()
        return residual(points, fn(points.x_hat(u), params), u)


def derive(
    points: Points, fn: Function, u: Tensor, columns: Tensor, beta: bool = True
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
    columns : Tensor (p, N) or (p, 1)
        The parameters of every point.
    beta : bool
        Without it only ``J_u`` is formed and ``J_beta`` has no rows.
    """
    leaves = leaves_of(points, u, columns, beta)
    value = fn(leaves.x, leaves.params)
    q = value.shape[0]
    if q == 1:
        grads = [t[None] for t in gradients(value, leaves.wanted)]
    else:
        rows = [gradients(value[j], leaves.wanted, keep=j < q - 1) for j in range(q)]
        grads = [torch.stack(parts) for parts in zip(*rows, strict=True)]
    f_x = grads[0] if points.rows else value.new_zeros(q, 0, points.n)
    has_beta = beta and columns.shape[0]
    f_beta = grads[-1] if has_beta else value.new_zeros(q, 0, points.n)
    return _whiten(points, value.detach(), u, f_x, f_beta)


def gradients(value: Tensor, wanted: Sequence[Tensor], keep: bool = False) -> list[Tensor]:
    """Return the gradient of ``value.sum()`` for each tensor, zeros where nothing flows."""
    if not wanted:
        return []
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in wanted]
    found = pull_back(value, wanted, keep)
    return [torch.zeros_like(w) if t is None else t for t, w in zip(found, wanted, strict=True)]


def _whiten(points: Points, value: Tensor, u: Tensor, f_x: Tensor, f_beta: Tensor) -> Derivatives:
    r = residual(points, value, u)
    J_u, J_beta = f_x, f_beta
    if J_u.shape[1]:
        J_u = rows_times(J_u, points.scale_x)
        if points.weight_y is not None:
            J_u = times_rows(points.weight_y, J_u)
        if points.cross is not None:
            J_u = J_u - points.cross
    if J_beta.shape[1] and points.weight_y is not None:
        J_beta = times_rows(points.weight_y, J_beta)
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


def curve(points: Points, fn: Function, u: Tensor, columns: Tensor, nu: Tensor) -> Curvature:
    """Differentiate ``sum_j nu_j r_j`` twice, at every point at once.

    ``nu`` (q, N) are the multipliers; for an explicit model they are the residuals themselves.
    """
    leaves = leaves_of(points, u, columns)
    wanted = leaves.wanted
    mu, p, n = len(points.rows), len(columns), points.n
    if points.weight_y is not None:
        nu = _transposed_times(points.weight_y, nu)
    field = (fn(leaves.x, leaves.params) * nu).sum()
    first = (
        torch.autograd.grad(field, wanted, create_graph=True, materialize_grads=True)
        if field.requires_grad
        else [torch.zeros_like(t) for t in wanted]
    )
    rows = [row for part in first for row in part]
    H = torch.stack([torch.cat(gradients(row, wanted, keep=True)) for row in rows])
    H_uu = H[:mu, :mu]
    H_ub = H[:mu, mu:]
    if mu:
        H_uu = rows_times(_transposed_rows(points.scale_x, H_uu), points.scale_x)
        H_ub = _transposed_rows(points.scale_x, H_ub)
    return Curvature(H_uu, H_ub.reshape(mu, p, n), H[mu:, mu:])


def _transposed_times(factor: Tensor, v: Tensor) -> Tensor:
    return times(factor if factor.ndim == 2 else factor.transpose(0, 1), v)


def _transposed_rows(factor: Tensor, rows: Tensor) -> Tensor:
    return times_rows(factor if factor.ndim == 2 else factor.transpose(0, 1), rows)
