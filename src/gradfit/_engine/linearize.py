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
from gradfit._engine.limits import mended
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
    """Make leaves of the graph: the x that carry errors, and if ``beta`` the parameters.

    A single x is a leaf of shape (N,), which spares the graph a view on the way in and out.
    """
    spread = columns.expand(-1, points.n)
    wanted = [spread.requires_grad_()] if beta and columns.shape[0] else []
    params = spread.unbind()
    if not points.rows:
        return Leaves(_flat(points.x), params, wanted)
    if len(points.rows) == points.x.shape[0]:
        x = _flat(points.x_hat(u)).requires_grad_()
        return Leaves(x, params, [x, *wanted])
    rows = list(points.rows)
    moving = (points.x[rows] + points.shift_x(u)).requires_grad_()
    x = points.x.index_copy(
        0, torch.tensor(rows, device=points.x.device, dtype=torch.int64), moving
    )
    return Leaves(x, params, [moving, *wanted])


def _flat(x: Tensor) -> Tensor:
    return x.squeeze(0) if x.shape[0] == 1 else x


def residual(points: Points, value: Tensor, u: Tensor) -> Tensor:
    """Return the whitened residual ``W (f - y) - C u`` (explicit), or ``g`` itself."""
    if points.y is None or points.weight_y is None:
        return value if value.ndim == 2 else value[None]
    r = times(points.weight_y, value - points.y)
    return r if points.cross is None else r - times_vector(points.cross, u)


def misfit(points: Points, r: Tensor, u: Tensor) -> Tensor:
    """Return ``f - y`` (q, N) of an explicit model, of which :func:`residual` made ``r``."""
    W = points.weight_y
    if W is None:
        raise ValueError("an implicit model has no y")
    r = r if points.cross is None else r + times_vector(points.cross, u)
    if W.ndim == 2:
        return r / W
    return torch.linalg.solve(W.permute(2, 0, 1), r.mT[..., None])[..., 0].mT


def evaluate(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Tensor:
    """Return the residual (q, N) alone, without a graph."""
    with torch.no_grad():
        params = columns.expand(-1, points.n).unbind()
        return residual(points, fn(_flat(points.x_hat(u)), params), u)


def derive(
    points: Points, fn: Function, u: Tensor, columns: Tensor, beta: bool = True
) -> Derivatives:
    """Return the residual and its first derivatives, in the limit where the graph gives none.

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
    d = _derive(points, fn, u, columns, beta)
    if bool(torch.isfinite(d.J_u.sum() + d.J_beta.sum())):
        return d
    q, mu, n = d.J_u.shape

    def rows(points: Points, u: Tensor, columns: Tensor, _: Tensor) -> Tensor:
        near = _derive(points, fn, u, columns, beta)
        return torch.cat([near.r, near.J_u.flatten(0, 1), near.J_beta.flatten(0, 1)])

    whole = torch.cat([d.r, d.J_u.flatten(0, 1), d.J_beta.flatten(0, 1)])
    found, _ = mended(rows, points, u, columns, whole, q)
    r, J_u, J_beta = found.split((q, q * mu, q * d.J_beta.shape[1]))
    return Derivatives(r, J_u.view(q, mu, n), J_beta.view(q, -1, n))


def _derive(points: Points, fn: Function, u: Tensor, columns: Tensor, beta: bool) -> Derivatives:
    leaves = leaves_of(points, u, columns, beta)
    value = fn(leaves.x, leaves.params)
    found = _white_gradients(points, value, leaves.wanted)
    r = residual(points, value.detach(), u)
    q = r.shape[0]
    J_beta = found.pop() if beta and columns.shape[0] else r.new_zeros(q, 0, points.n)
    if not points.rows:
        return Derivatives(r, r.new_zeros(q, 0, points.n), J_beta)
    J_u = rows_times(found[0], points.scale_x)
    return Derivatives(r, J_u if points.cross is None else J_u - points.cross, J_beta)


def _white_gradients(points: Points, value: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivatives (q, rows, N) of ``W value`` by each of the leaves.

    A backward pass begins with a row of ``W``, which costs nothing, and whitens all that it brings.
    """
    q = value.shape[0] if value.ndim == 2 else 1
    seeds = points.seeds or [value.new_ones(1)] * q
    if q == 1:
        return [t.view(1, -1, points.n) for t in gradients(value, seeds[0], wanted)]
    rows = [
        gradients(value if seed.ndim == 2 else value[j], seed, wanted, keep=j < q - 1)
        for j, seed in enumerate(seeds)
    ]
    return [torch.stack(parts).view(q, -1, points.n) for parts in zip(*rows, strict=True)]


def gradients(
    value: Tensor, seed: Tensor, wanted: Sequence[Tensor], keep: bool = False
) -> list[Tensor]:
    """Return the gradient of ``(seed * value).sum()`` by each leaf, zeros where nothing flows."""
    if not wanted:
        return []
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in wanted]
    found = pull_back(value, seed, wanted, keep)
    return [torch.zeros_like(w) if t is None else t for t, w in zip(found, wanted, strict=True)]


class Curvature(NamedTuple):
    """Second derivatives of ``sum_j nu_j r_j`` per point, in whitened coordinates.

    Attributes
    ----------
    nu : Tensor (q, N)
        The multipliers.
    uu : Tensor (mu, mu, N)
    ub : Tensor (mu, p, N)
    bb : Tensor (p, p, N)
    lost : Tensor (N,) bool or None
        Points that have no finite second derivatives, whose rows are 0; None if there is none.
    """

    nu: Tensor
    uu: Tensor
    ub: Tensor
    bb: Tensor
    lost: Tensor | None = None


def curve(points: Points, fn: Function, u: Tensor, columns: Tensor, nu: Tensor) -> Curvature:
    """Differentiate ``sum_j nu_j r_j`` twice, at every point at once.

    ``nu`` (q, N) are the multipliers.
    Where the graph gives no second derivatives they are those in the limit.
    """
    found = _curve(points, fn, u, columns, nu)
    if bool(torch.isfinite(found.uu.sum() + found.ub.sum() + found.bb.sum())):
        return found

    def rows(points: Points, u: Tensor, columns: Tensor, index: Tensor) -> Tensor:
        near = _curve(points, fn, u, columns, nu[:, index])
        return _flat_curvature(evaluate(points, fn, u, columns), near)

    r = evaluate(points, fn, u, columns)
    whole, lost = mended(rows, points, u, columns, _flat_curvature(r, found), len(r))
    if lost is not None:
        whole = torch.where(lost, 0.0, whole)
    mu, p, n = found.ub.shape
    _, uu, ub, bb = whole.split((len(r), mu * mu, mu * p, p * p))
    return Curvature(nu, uu.view(mu, mu, n), ub.view(mu, p, n), bb.view(p, p, n), lost)


def _flat_curvature(r: Tensor, c: Curvature) -> Tensor:
    return torch.cat([r, c.uu.flatten(0, 1), c.ub.flatten(0, 1), c.bb.flatten(0, 1)])


def _curve(points: Points, fn: Function, u: Tensor, columns: Tensor, nu: Tensor) -> Curvature:
    leaves = leaves_of(points, u, columns)
    wanted = leaves.wanted
    mu, p, n = len(points.rows), len(columns), points.n
    seeds = nu if points.weight_y is None else _transposed_times(points.weight_y, nu)
    field = (fn(leaves.x, leaves.params) * seeds).sum()
    first = (
        torch.autograd.grad(field, wanted, create_graph=True, materialize_grads=True)
        if field.requires_grad
        else [torch.zeros_like(t) for t in wanted]
    )
    one = nu.new_ones(1)
    rows = [row for part in first for row in (part if part.ndim == 2 else [part])]
    second = [[t.view(-1, n) for t in gradients(row, one, wanted, keep=True)] for row in rows]
    H = torch.stack([torch.cat(parts) for parts in second])
    H_uu = H[:mu, :mu]
    H_ub = H[:mu, mu:]
    if mu:
        H_uu = rows_times(_transposed_rows(points.scale_x, H_uu), points.scale_x)
        H_ub = _transposed_rows(points.scale_x, H_ub)
    return Curvature(nu, H_uu, H_ub.reshape(mu, p, n), H[mu:, mu:])


def _transposed_times(factor: Tensor, v: Tensor) -> Tensor:
    return times(factor if factor.ndim == 2 else factor.transpose(0, 1), v)


def _transposed_rows(factor: Tensor, rows: Tensor) -> Tensor:
    return times_rows(factor if factor.ndim == 2 else factor.transpose(0, 1), rows)
