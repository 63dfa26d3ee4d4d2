"""A model that can be differentiated where its graph cannot: by its Taylor series there."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.limits import reach
from gradfit._engine.linearize import curve, derive
from gradfit._engine.points import Function, Points


class Tame(NamedTuple):
    """A model with derivatives of first and second order at every point.

    Attributes
    ----------
    fn : callable
        The model; at some points its series of second order, about where they are.
    steep : Tensor (m, N) bool or None
        Variables of x by which the derivative is infinite; the series leaves them out. None if
        there are none.
    """

    fn: Function
    steep: Tensor | None


def tame(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Tame:
    """Write a series for the model at points where a derivative of its graph is not finite.

    Its coefficients are the derivatives in the limit (:mod:`gradfit._engine.limits`).
    """
    columns = columns.expand(-1, points.n)
    index = _untamed(points, fn, u, columns)
    if not len(index):
        return Tame(fn, None)
    x0, b0 = points.x_hat(u)[:, index].detach(), columns[:, index].detach()
    bare = _bare(points.take(index) if points.n > 1 else points, x0)
    none = torch.zeros_like(x0)
    d = derive(bare, fn, none, b0)
    q = len(d.r)
    F1 = torch.cat([d.J_u, d.J_beta], 1)
    rows: list[Tensor] = []
    for j in range(q):
        one = torch.zeros_like(d.r)
        one[j] = 1.0
        H = curve(bare, fn, none, b0, one)
        rows.append(_square(H.uu, H.ub, H.bb))
    F2 = torch.stack(rows)
    f0 = d.r if bare.y is None else d.r + bare.y
    wild = ~torch.isfinite(F1)
    steep = torch.zeros_like(points.x, dtype=torch.bool)
    steep[:, index] = wild[:, : len(x0)].any(0)
    F1 = torch.where(wild, 0.0, F1)
    near = x0 + reach(points)[:, index]

    def call(x: Tensor, params: Sequence[Tensor]) -> Tensor:
        P = torch.stack([p.expand(x.shape[-1]) for p in params])
        X = x[None] if x.ndim == 1 else x
        elsewhere = X.index_copy(1, index, near)
        value = fn(elsewhere[0] if x.ndim == 1 else elsewhere, P.index_copy(1, index, b0).unbind())
        z = torch.cat([X[:, index] - x0, P[:, index] - b0])
        series = f0 + (F1 * z).sum(1) + (F2 * z[:, None] * z).sum((1, 2)) / 2
        wide = value[None] if value.ndim == 1 else value
        out = wide.expand(q, x.shape[-1]).index_copy(1, index, series)
        return out[0] if value.ndim == 1 else out

    return Tame(call, steep if bool(steep.any()) else None)


def _square(uu: Tensor, ub: Tensor, bb: Tensor) -> Tensor:
    """Put the parts of a symmetric matrix per point together."""
    upper = torch.cat([uu, ub], 1)
    lower = torch.cat([ub.transpose(0, 1), bb], 1)
    return torch.cat([upper, lower])


def _untamed(points: Points, fn: Function, u: Tensor, columns: Tensor) -> Tensor:
    """Return the indices of points where the model is finite and its graph is not."""
    x = points.x_hat(u).detach().requires_grad_()
    params = [c.detach().clone().requires_grad_() for c in columns]
    value = fn(x if len(x) > 1 else x[0], params)
    fine = torch.isfinite(value.detach()).reshape(-1, points.n).all(0)
    if not value.requires_grad:
        return fine.nonzero()[:0, 0]
    leaves = [x, *params]
    first = torch.autograd.grad(value.sum(), leaves, create_graph=True, materialize_grads=True)
    total = torch.cat([first[0], torch.stack(first[1:])]).detach().sum(0)
    rows = [row for part in first for row in (part if part.ndim == 2 else [part])]
    for row in rows:
        if row.requires_grad:
            second = torch.autograd.grad(
                row.sum(), leaves, retain_graph=True, materialize_grads=True
            )
            total = total + second[0].sum(0) + torch.stack(second[1:]).sum(0)
    return (fine & ~torch.isfinite(total)).nonzero()[:, 0]


def _bare(points: Points, x: Tensor) -> Points:
    """Return points in which coordinates are those of x, and weights are 1."""
    q = 1 if points.y is None else points.y.shape[0]
    return Points(
        x,
        points.y,
        tuple(range(len(x))),
        x.new_ones(len(x), 1),
        None if points.y is None else x.new_ones(q, 1),
        None,
        points.group,
    )
