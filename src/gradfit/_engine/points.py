r"""What the engine sees: one flat list of points, whitened, and the fit each belongs to.

Every observation is a point :math:`z` with joint covariance :math:`V = L L^T`. The engine
moves in whitened coordinates :math:`u`, where one unit is one standard deviation:

.. math::  \hat z = z + L u .

An implicit model asks for :math:`r(u, \beta) = g(x + L_x u; \beta) = 0`. An explicit model is
the same with a *slack* of unit variance in each equation, so that its residual
:math:`r = W (f(x + L_x u; \beta) - y) - C u` need not vanish but is paid for:

.. math::  \chi^2 = \sum_i |u_i|^2 + s\,|r_i|^2, \qquad
           s = 1 \text{ (explicit)},\ 0 \text{ (implicit)}.

With this single letter :math:`s`, explicit, implicit, multi-response, correlated and ordinary
least-squares problems share every line of the engine. Points are the last axis of every tensor.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""``fn(x, beta)``: x (m, N), p tensors of shape (N,) -> (q, N). Pointwise.

One variable may also come as x (N,); one response is (N,) then, too.
"""


class Observations(NamedTuple):
    """The observations of all fits as tensors, nothing else.

    Attributes
    ----------
    x : Tensor (m, N)
        Observed x.
    y : Tensor (q, N) or None
        Observed y; None for an implicit model.
    rows : tuple of int
        The variables of x that carry errors; ``mu`` of them.
    scale_x : Tensor (mu, N|1) or (mu, mu, N|1)
        ``L_x``: standard deviations, or a factor of the covariance of x.
    weight_y : Tensor (q, N|1) or (q, q, N|1) or None
        ``W``: inverse standard deviations of y given x, or an inverse factor.
    cross : Tensor (q, mu, N|1) or None
        ``C = W L_yx``: what an error of x tells about the error of y.
    group : Tensor (N,) or None
        Row of the fit a point belongs to, ascending; None when there is one fit.
    """

    x: Tensor
    y: Tensor | None
    rows: tuple[int, ...]
    scale_x: Tensor
    weight_y: Tensor | None
    cross: Tensor | None
    group: Tensor | None


class Points(Observations):
    """Observations, and what follows from them alone, once."""

    @cached_property
    def n(self) -> int:
        """Number of points."""
        return self.x.shape[-1]

    @cached_property
    def slack(self) -> float:
        """1 for explicit models, 0 for implicit ones."""
        return 0.0 if self.y is None else 1.0

    @cached_property
    def seeds(self) -> tuple[Tensor, ...]:
        """Rows of ``W`` at every point: (N,) each where it is diagonal, else (q, N).

        With such a row begins the backward pass that is to bring whitened derivatives.
        """
        W = self.weight_y
        if W is None:
            return ()
        if W.shape[0] == 1:
            return (W.reshape(-1).expand(self.n),)
        return W.expand(*W.shape[:-1], self.n).unbind()

    def part(self, start: int, stop: int) -> "Points":
        """Return the points from ``start`` to ``stop`` as views."""
        return self._map(lambda t: t[..., start:stop])

    def take(self, index: Tensor) -> "Points":
        """Return the points listed in ``index``."""
        return self._map(lambda t: t[..., index])

    def repeat(self, times: int) -> "Points":
        """Return all points so many times, one copy behind the other."""
        return self._map(lambda t: torch.cat([t] * times, -1))

    def _map(self, pick: Callable[[Tensor], Tensor]) -> "Points":
        def per_point(t: Tensor | None) -> Tensor | None:
            return t if t is None or t.shape[-1] != self.n or self.n == 1 else pick(t)

        return Points(
            pick(self.x),
            None if self.y is None else pick(self.y),
            self.rows,
            self.scale_x if self.scale_x.shape[-1] == 1 else pick(self.scale_x),
            per_point(self.weight_y),
            per_point(self.cross),
            None if self.group is None else pick(self.group),
        )

    def shift_x(self, u: Tensor) -> Tensor:
        """Return ``delta = L_x u`` (mu, N), in units of x."""
        return times(self.scale_x, u)

    def x_hat(self, u: Tensor) -> Tensor:
        """Return ``x + L_x u`` (m, N)."""
        if not self.rows:
            return self.x
        if len(self.rows) == self.x.shape[0]:
            if self.scale_x.ndim == 2:
                return torch.addcmul(self.x, self.scale_x, u)
            return self.x + self.shift_x(u)
        moved = self.x.clone()
        moved[list(self.rows)] += self.shift_x(u)
        return moved


class Grouping:
    """Sum over the points of each fit: the only reduction over points in the engine.

    Parameters
    ----------
    group : Tensor (N,) or None
        Row of the fit a point belongs to, ascending; None for one fit.
    n_groups : int
        Number of fits.
    size : int
        Points in each fit, when all have the same number and the points are those of whole fits.
    part : bool
        Whether the points are some of all: sums then have a row for each fit from that of the first
        point to that of the last, ``count`` of them, which :meth:`add` adds to those of all.
    """

    def __init__(
        self, group: Tensor | None, n_groups: int, size: int = 0, part: bool = False
    ) -> None:
        self.n_groups = n_groups
        self.group = group
        self.first, self.count = 0, n_groups
        self._size = size
        if part and group is not None:
            self.first = int(group[0])
            self.count = int(group[-1]) + 1 - self.first
            self.group = group - self.first if self.first else group

    def add(self, total: Tensor | None, part: Tensor) -> Tensor:
        """Add the sums (count, ...) of these points to those of all, (G, ...), in place."""
        if self.count == self.n_groups:
            return part if total is None else total.add_(part)
        if total is None:
            total = part.new_zeros(self.n_groups, *part.shape[1:])
        total[self.first : self.first + self.count] += part
        return total

    def sum(self, values: Tensor) -> Tensor:
        """Sum ``values`` (..., N) to (..., count)."""
        if self.group is None:
            return values.sum(-1, keepdim=True)
        lead = values.shape[:-1]
        if self._size:
            return values.reshape(*lead, -1, self._size).sum(-1)
        # index_add is a tight loop on one axis and slow on several, so go row by row.
        flat = values.reshape(-1, values.shape[-1])
        out = flat.new_zeros(flat.shape[0], self.count)
        for row, value in zip(out, flat, strict=True):
            row.index_add_(0, self.group, value)
        return out.reshape(*lead, self.count)

    def gram(self, rows: Tensor, apart: int = 0) -> Tensor:
        """Sum the outer products of ``rows`` (q, r, N) to (count, r, r).

        Of as many rows at the end as are ``apart`` only the squares are asked for.
        """
        if self.group is None:
            return _products(rows, rows)
        q, r, _ = rows.shape
        out = rows.new_zeros(self.count, r, r)
        for i in range(r):
            for j in [i] if i >= r - apart else range(i, r - apart):
                products = (rows[m, i] * rows[m, j] for m in range(1, q))
                sums = self.sum(sum(products, rows[0, i] * rows[0, j]))
                out[:, i, j] = sums
                out[:, j, i] = sums
        return out

    def cross(self, a: Tensor, b: Tensor) -> Tensor:
        """Sum ``a^T b`` of per-point matrices (k, r, N) and (k, c, N) to (count, r, c)."""
        if self.group is None:
            return _products(a, b)
        (k, r, _), c = a.shape, b.shape[1]
        products = [
            sum((a[m, i] * b[m, j] for m in range(1, k)), a[0, i] * b[0, j])
            for i in range(r)
            for j in range(c)
        ]
        return self.sum(torch.stack(products)).mT.reshape(-1, r, c)

    def along(self, rows: Tensor, values: Tensor) -> Tensor:
        """Multiply per point matrices (q, c, N) by ``values`` (G, c) of their fits: (q, 1, N)."""
        if self.group is None:
            return torch.bmm(values.expand(rows.shape[0], 1, -1), rows)
        return times_vector(rows, self.spread(values.mT))[:, None]

    def spread(self, values: Tensor) -> Tensor:
        """Give every point the value (..., G) of its fit: (..., N), or (..., 1) for one fit."""
        if self.group is None:
            return values
        if self.count < self.n_groups:
            values = values[..., self.first : self.first + self.count]
        if not self._size:
            return values[..., self.group]
        whole = values[..., None].expand(*values.shape, self._size)
        return whole.flatten(-2)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Sum the products (1, r, c) of the rows of ``a`` (k, r, n) and ``b`` (k, c, n)."""
    found = torch.bmm(a, b.mT)
    return found if a.shape[0] == 1 else found.sum(0, keepdim=True)


def times(factor: Tensor, v: Tensor) -> Tensor:
    """Multiply per point: a diagonal (a, N|1) or a matrix (a, b, N|1) by ``v`` (b, N)."""
    if factor.ndim == 2:
        return factor * v
    return (factor * v[None]).sum(1)


def times_rows(factor: Tensor, rows: Tensor) -> Tensor:
    """Multiply per point a factor (a, N|1) or (a, b, N|1) by matrices ``rows`` (b, c, N)."""
    if factor.ndim == 2:
        return factor[:, None] * rows
    return (factor[:, :, None] * rows[None]).sum(1)


def rows_times(rows: Tensor, factor: Tensor) -> Tensor:
    """Multiply per point matrices ``rows`` (a, b, N) by a factor (b, N|1) or (b, c, N|1)."""
    if factor.ndim == 2:
        return rows * factor
    return (rows[:, :, None] * factor[None]).sum(1)


def even_size(group: Tensor | None, n_groups: int) -> int:
    """Return the number of points in each fit if all have the same, else 0."""
    if group is None or not n_groups or group.shape[0] % n_groups:
        return 0
    size = group.shape[0] // n_groups
    even = torch.arange(n_groups, device=group.device, dtype=torch.int64).repeat_interleave(size)
    return size if torch.equal(group, even) else 0


# Sums over the few variables, responses or parameters of a point. Written out term by term: a
# reduction over a short leading axis of a long tensor is several times slower.

SMALL = 1 << 15
"""Products up to which one reduction is faster all the same."""


def times_vector(rows: Tensor, v: Tensor) -> Tensor:
    """Multiply per point matrices ``rows`` (a, b, N|1) by vectors ``v`` (b, N|1): (a, N)."""
    if rows.shape[1] == 1:
        return rows.squeeze(1) * v
    if rows.numel() <= SMALL:
        return (rows * v).sum(1)
    out = rows[:, 0] * v[0]
    for j in range(1, v.shape[0]):
        out = torch.addcmul(out, rows[:, j], v[j])
    return out


def minus_times(start: Tensor, rows: Tensor, v: Tensor) -> Tensor:
    """Take ``rows`` (a, b, N) times ``v`` (b, ..., N) off ``start`` (a, ..., N): (a, ..., N).

    What stands for ``...`` may be left out where there is one row, but in the result it is there.
    """
    if rows.shape[1] == 1:
        return torch.addcmul(start, rows, v, value=-1)
    for j in range(rows.shape[1]):
        start = torch.addcmul(start, rows[:, j : j + 1], v[j], value=-1)
    return start


def vector_times(v: Tensor, rows: Tensor) -> Tensor:
    """Multiply per point ``v`` (a, N|1) or (a, 1, N) by matrices ``rows`` (a, b, N): (b, N)."""
    if v.shape[0] == 1:
        return (rows * v)[0]
    out = v[0] * rows[0]
    for i in range(1, v.shape[0]):
        out = torch.addcmul(out, v[i], rows[i])
    return out


def squares(v: Tensor) -> Tensor:
    """Squared length (N,) of vectors ``v`` (a, N)."""
    if v.shape[0] == 1:
        return (v * v)[0]
    if v.numel() <= SMALL:
        return (v * v).sum(0)
    out = v[0] * v[0]
    for i in range(1, v.shape[0]):
        out = torch.addcmul(out, v[i], v[i])
    return out


def row_squares(rows: Tensor) -> Tensor:
    """Squared length (a, 1, N) of the rows of per point matrices (a, b, N)."""
    if rows.shape[1] == 1:
        return rows * rows
    out = rows[:, :1] * rows[:, :1]
    for j in range(1, rows.shape[1]):
        out = torch.addcmul(out, rows[:, j : j + 1], rows[:, j : j + 1])
    return out
