r"""Where a shape is fitted: centred, scaled, and turned so that it passes the origin flat.

Coordinates inside are :math:`x' = T (x - o) / L`, a rigid motion and one scale for each fit.
Errors are turned along, so that distances in units of sigma stay what they are.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._engine.points import Grouping

ROUNDING = 64
"""Rounding errors of the coordinates within which a bend, or a width, is none."""


class Cloud(NamedTuple):
    """The points of all fits about their centres, at unit size.

    Attributes
    ----------
    x : Tensor (m, N)
        Centred and scaled points.
    weights : Tensor (N,)
        How much each counts where a start is sought; mean 1 in every fit.
    grouping : Grouping
        To which fit each belongs.
    centre : Tensor (m, G)
        Mean of the points.
    scale : Tensor (G,)
        Root mean square distance from it; 1 where all points are the same.
    blur : Tensor (G,)
        Rounding error of the coordinates, in units of ``scale``.
    floor : Tensor (G,)
        chi-square that the rounding errors of the coordinates alone may make.
    same : Tensor (G,) bool
        Whether all points are the same.
    """

    x: Tensor
    weights: Tensor
    grouping: Grouping
    centre: Tensor
    scale: Tensor
    blur: Tensor
    floor: Tensor
    same: Tensor

    def mean(self, rows: Tensor) -> Tensor:
        """Return the weighted means (k, G) of ``rows`` (k, N)."""
        return self.grouping.sum(rows * self.weights) / self.grouping.sum(self.weights)

    def moments(self, rows: Tensor) -> Tensor:
        """Return the weighted mean products (G, k, k) of ``rows`` (k, N)."""
        half = rows * self.weights.sqrt()
        total = self.grouping.sum(self.weights)
        return (self.grouping.gram(half[None]) / total[:, None, None]).nan_to_num(0.0, 0.0, 0.0)

    def thickness(self) -> Tensor:
        """Return how far (G,) points lie off their principal axis, at most."""
        axis = self.grouping.spread(torch.linalg.eigh(self.moments(self.x))[1][:, :, -1].mT)
        off = self.x - axis * (axis * self.x).sum(0)
        return _largest(off.square().sum(0).sqrt(), self.grouping.group, self.grouping.n_groups)

    def width(self, axis: Tensor) -> Tensor:
        """Return how far (G,) points lie from their centre along ``axis`` (m, G), at most."""
        along = (self.grouping.spread(axis) * self.x).sum(0).abs()
        return _largest(along, self.grouping.group, self.grouping.n_groups)

    def thinned(self, k: int, seed: int) -> "Cloud":
        """Return the cloud with k random points of every fit, and no weight on the others."""
        group = self.grouping.group
        n = self.x.shape[1]
        own = torch.zeros(n, dtype=torch.int64, device="cpu") if group is None else group.cpu()
        dice = torch.rand(
            n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu"
        )
        order = torch.argsort(own.to(dice) + dice)
        first = torch.searchsorted(own, own)
        rank = torch.empty(n, dtype=torch.int64, device="cpu")
        rank[order] = torch.arange(n, dtype=torch.int64, device="cpu") - first
        return self._replace(weights=torch.where((rank < k).to(self.x.device), self.weights, 0.0))

    def first_least(self, values: Tensor) -> Tensor:
        """Return the index (G,) of the first least value (N,) of every fit."""
        group, n_groups = self.grouping.group, self.grouping.n_groups
        if group is None:
            return values.argmin().reshape(1)
        least = values.new_full((n_groups,), torch.inf).scatter_reduce(0, group, values, "amin")
        place = torch.arange(len(values), device=group.device, dtype=torch.int64)
        place = torch.where(values <= least[group], place, len(values) - 1)
        first = torch.full((n_groups,), len(values) - 1, device=group.device, dtype=torch.int64)
        return first.scatter_reduce(0, group, place, "amin")


class Frame(NamedTuple):
    """The coordinates in which each of F fits is made.

    Attributes
    ----------
    origin, centre : Tensor (m, F)
        Where the shape is expected to pass, and the mean of the points, in the units of the data.
    turn : Tensor (m, m, F) or None
        Rows are the axes inside; None where they are those of the data.
    scale : Tensor (F,)
        Unit of length inside.
    """

    origin: Tensor
    centre: Tensor
    turn: Tensor | None
    scale: Tensor

    def place(self, v: Tensor) -> Tensor:
        """Return places (m, F) inside as places in the units of the data."""
        return self.origin + self.scale * self.direction(v)

    def direction(self, v: Tensor) -> Tensor:
        """Return directions (m, F) inside as directions of the data."""
        return v if self.turn is None else (self.turn * v[:, None]).sum(0)

    def middle(self) -> Tensor:
        """Return the mean of the points (m, F) in coordinates inside."""
        away = (self.centre - self.origin) / self.scale
        return away if self.turn is None else (self.turn * away).sum(1)

    def rows(self, index: Tensor) -> "Frame":
        """Return the frames listed."""
        turn = None if self.turn is None else self.turn[..., index]
        return Frame(self.origin[:, index], self.centre[:, index], turn, self.scale[index])


def gather_cloud(data: Data, n_groups: int) -> Cloud:
    """Centre and scale the points of every fit."""
    grouping = Grouping(data.group, n_groups)
    ones = torch.ones_like(data.x[0])
    count = grouping.sum(ones)
    centre = grouping.sum(data.x) / count
    away = data.x - grouping.spread(centre)
    # Squares of tiny or huge coordinates would leave the range of numbers.
    far = _largest(away.abs().amax(0), data.group, n_groups)
    unit = torch.where(far > 0, far, 1.0)
    size = grouping.sum((away / grouping.spread(unit)).square().sum(0)) / count
    scale = unit * torch.where(size > 0, size, 1.0).sqrt()
    big = _largest(data.x.abs().amax(0), data.group, n_groups)
    eps = torch.finfo(scale.dtype).eps
    blur = eps * (1 + big / scale)
    variance = _variance(data)
    total = grouping.sum((1 / variance).expand(data.x.shape[1]))
    return Cloud(
        away / grouping.spread(scale),
        ones if len(variance) == 1 else variance.median() / variance,
        grouping,
        centre,
        scale,
        blur,
        (4 * blur * scale).square() * total,
        far <= 8 * eps * big,
    )


def _largest(values: Tensor, group: Tensor | None, n_groups: int) -> Tensor:
    if group is None:
        return values.max().reshape(1)
    return values.new_zeros(n_groups).scatter_reduce(0, group, values, "amax")


def _variance(data: Data) -> Tensor:
    """Return the mean variance (N|1,) of the coordinates of every point."""
    if data.cov is not None:
        return data.cov.diagonal(dim1=0, dim2=1).mean(-1)
    return data.x.new_ones(1) if data.sx is None else data.sx.square().mean(0)


class Exact(NamedTuple):
    """Directions in which no point has an error, and all are the same.

    Attributes
    ----------
    axis : Tensor (m, G)
        Such a unit vector of every fit.
    there : Tensor (G,) bool
        Whether it is one.
    """

    axis: Tensor
    there: Tensor


def find_exact(data: Data, cloud: Cloud) -> Exact:
    """Look for a direction across which distances have no error to be measured in."""
    m, n = data.x.shape
    if data.cov is not None:
        V = data.cov
    else:
        sx = data.x.new_ones(m, 1) if data.sx is None else data.sx
        V = torch.diag_embed(sx.square().mT).permute(1, 2, 0)
    share = (V / V.diagonal(dim1=0, dim2=1).sum(-1)).expand(-1, -1, n)
    total = cloud.grouping.sum(share.reshape(m * m, n)) / cloud.grouping.sum(cloud.x[:1] * 0 + 1)
    errors = total.mT.reshape(-1, m, m).nan_to_num(0.0, 0.0, 0.0)
    axis = torch.linalg.eigh(errors + cloud.moments(cloud.x))[1][:, :, :1]
    none = (axis.mT @ errors @ axis)[:, 0, 0] <= ROUNDING * torch.finfo(axis.dtype).eps
    axis = axis[..., 0].mT
    return Exact(axis, none & (cloud.width(axis) <= ROUNDING * cloud.blur))


def repeat(data: Data, copies: int, n_groups: int) -> Data:
    """Return all points ``copies`` times, the fits of each copy after those of the last."""
    if copies == 1:
        return data
    n = data.x.shape[1]
    one = torch.zeros(n, dtype=torch.int64, device=data.x.device)
    group = one if data.group is None else data.group
    shift = torch.arange(copies, device=group.device, dtype=torch.int64)[:, None] * n_groups

    def tile(t: Tensor | None) -> Tensor | None:
        if t is None or t.shape[-1] != n or n == 1:
            return t
        return t.repeat(*[1] * (t.ndim - 1), copies)

    return replace(
        data,
        x=data.x.repeat(1, copies),
        sx=tile(data.sx),
        cov=tile(data.cov),
        group=(group + shift).reshape(-1),
        keys=tuple(range(copies * n_groups)),
        sizes=group.new_tensor([n] * copies) if data.sizes is None else data.sizes.repeat(copies),
    )


def enter(data: Data, frame: Frame) -> Data:
    """Return points and errors in the coordinates inside."""
    grouping = Grouping(data.group, frame.scale.shape[0])
    scale = grouping.spread(frame.scale)
    x = (data.x - grouping.spread(frame.origin)) / scale
    m = data.x.shape[0]
    turn = None if frame.turn is None else grouping.spread(frame.turn)
    if turn is not None:
        x = (turn * x).sum(1)
    if data.cov is not None:
        cov = data.cov / scale.square()
    else:
        sx = data.x.new_ones(m, 1) if data.sx is None else data.sx
        sx = sx / scale
        if turn is None or bool((sx == sx[:1]).all()):
            return replace(data, x=x, sx=sx.contiguous(), cov=None, vector_x=False)
        cov = torch.diag_embed(sx.square().mT).permute(1, 2, 0)
    if turn is not None:
        cov = torch.einsum("ijn,jkn,lkn->iln", turn, cov, turn)
    return replace(data, x=x, sx=None, cov=cov.contiguous(), vector_x=False)


def leave(data: Data, frame: Frame, shift: Tensor) -> Tensor:
    """Return shifts (m, N) of points inside as shifts in the units of the data."""
    grouping = Grouping(data.group, frame.scale.shape[0])
    if frame.turn is not None:
        shift = (grouping.spread(frame.turn) * shift[:, None]).sum(0)
    return grouping.spread(frame.scale) * shift
