r"""From sigmas and covariances to the whitened points of the engine.

Each point's joint covariance :math:`V` is factored as :math:`L L^T`, x first. An explicit model
keeps the factor of x and, for y *given* x, an inverse factor,

.. math::  L_x L_x^T = V_{xx}, \qquad W^T W = (V_{yy} - V_{yx} V_{xx}^{+} V_{xy})^{-1}, \qquad
           C = W V_{yx} L_x^{-T} .

Where y given x is exact at some point that inverse does not exist. Then x and y are moved together,
as the variables of the implicit model :math:`f(x) - y = 0`, for which no inverse is needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._data.arrays import constant
from gradfit._engine.points import Points
from gradfit._format import enumerated, plural
from gradfit.errors import InputError

ROUNDING = 1e-14
"""Share of a variance up to which what others leave of it is rounding error."""
UNSURE = 1e-6
"""The same up to which the order of pivots matters."""


class Whitened(NamedTuple):
    """Points for the engine, and whether y became a variable of an implicit model."""

    points: Points
    joined: bool


def whiten(data: Data, fix_x: Tensor | None) -> Whitened:
    """Build the engine's points from the data; ``fix_x`` (m, N|1) marks exact coordinates."""
    if data.missing is not None:
        return _without(data, data.missing, fix_x)
    if data.cov is not None:
        return _from_covariance(data, data.cov, fix_x)
    sx, sy = _sigmas(data)
    if fix_x is not None:
        sx = torch.where(fix_x, 0.0, sx)
    # What the gate has seen of the numbers need not be looked at again.
    sure = data.definite and fix_x is None
    rows = tuple(range(data.x.shape[0])) if sure and data.sx is not None else _inexact(sx)
    if data.y is None:
        return Whitened(_points(data.x, None, rows, sx, None, None, data.group), False)
    if not (sure and data.sy is not None) and not _all_positive(sy, data.rho):
        return _join_diagonal(data, data.y, sx, sy)
    cross = None
    if data.rho is not None and rows:
        inverse = torch.rsqrt(1 - data.rho * data.rho)
        cross, weight = (data.rho * inverse)[None, None], inverse / sy
        if not sure:
            cross = torch.where(sx > 0, cross, 0.0)
            weight = torch.where(sx > 0, weight, 1 / sy)
    elif sy.numel() == 1 and not sy.requires_grad:
        weight = constant(1 / sy.item(), 1, sy.device)
    else:
        weight = sy.reciprocal()
    return Whitened(_points(data.x, data.y, rows, sx, weight, cross, data.group), False)


def _without(data: Data, gone: Tensor, fix_x: Tensor | None) -> Whitened:
    """Give no weight to responses (q, N) that were not measured.

    Independent of the others, such a row of ``W`` adds nothing to anything that the engine sums.
    """
    points, joined = whiten(data.filled, fix_x)
    W = points.weight_y
    if joined or W is None:
        k, at = gone.nonzero()[0].tolist()
        name = data.y_names[k]
        raise InputError(
            f"{name!r} was not measured at index {int(data.index[at])}, which needs errors of all "
            "responses, but some are exact. Give every response a standard deviation above 0."
        )
    out = gone if W.ndim == 2 else gone | gone[:, None]
    return Whitened(points._replace(weight_y=torch.where(out, 0.0, W)), False)


def refuse_exact(
    data: Data,
    fix_x: Tensor | None,
    equations: int = 1,
    named: Sequence[str] = (),
    shape: str = "",
) -> None:
    """Raise unless every point has as many coordinates with an error as there are equations.

    ``equations`` are those of an implicit model, or of a ``shape``, by its name; ``named`` are the
    arguments that gave the errors, by default those that stand in the data.
    """
    m, q = data.x.shape[0], equations if data.y is None else data.y.shape[0]
    some_y = data.sy is not None or data.sx is None
    most = m if data.y is None else m + q * some_y
    if data.definite and fix_x is None and data.cov is None and q <= most:
        return
    n = data.x.shape[1]
    errors = _sigmas(data) if data.cov is None else [data.cov.diagonal(dim1=0, dim2=1).mT]
    inexact = torch.cat([(error != 0).expand(-1, n) for error in errors])
    wanted = torch.full((n,), q, device=data.x.device, dtype=torch.int64)
    if data.missing is not None:
        inexact = torch.cat([inexact[:m], inexact[m:] & ~data.missing])
        wanted = wanted - data.missing.sum(0)
    if fix_x is not None:
        inexact = torch.cat([inexact[:m] & ~fix_x, inexact[m:]])
    counts = inexact.sum(0)
    few = torch.nonzero(counts < wanted)[:, 0]
    if not len(few):
        return
    at, count = int(data.index[few[0]]), int(counts[few[0]])
    where = f"at {len(few)} of {plural(n, 'point')} (first at index {at})"
    if q > 1 and not shape:
        raise InputError(
            f"`model` has {q} equations for each point, but only {count} of {len(inexact)} "
            f"coordinates have an error {where}. Leave equations out, or give more coordinates a "
            "standard deviation."
        )
    given = named or [k for k in ("sx", "sy", "cov") if getattr(data, k) is not None]
    names = [f"`{k}`" for k in (*given, *(() if fix_x is None else ("fix_x",)))]
    told = f"{enumerated(names)} {'leaves' if len(names) == 1 else 'leave'}"
    if q > 1:
        raise InputError(
            f"{shape} needs an error of {q} coordinates at every point, but {told} only {count} "
            f"of {len(inexact)} {where}. Give more coordinates a standard deviation."
        )
    raise InputError(
        f"{told} no error {where}: such points cannot be fitted. "
        "Give one of their coordinates a standard deviation."
    )


def _inexact(sx: Tensor) -> tuple[int, ...]:
    """Return the variables that have an error at any point."""
    if sx.numel() == 1:
        return (0,) if sx.item() > 0 else ()
    inexact = sx if sx.shape[1] == 1 else (sx > 0).any(1, keepdim=True)
    return tuple([i for i, [v] in enumerate(inexact.tolist()) if v > 0])


def _sigmas(data: Data) -> tuple[Tensor, Tensor]:
    """Return sigmas of x (m, N|1) and y (q, N|1): all ones if none is given, else 0 for missing."""
    q = 0 if data.y is None else data.y.shape[0]
    none = data.sx is None and data.sy is None and data.rho is None
    other = 1.0 if none else 0.0
    sx = data.x.new_full((data.x.shape[0], 1), other) if data.sx is None else data.sx
    sy = data.x.new_full((q, 1), other) if data.sy is None else data.sy
    return sx, sy


def _all_positive(sy: Tensor, rho: Tensor | None) -> bool:
    fine = sy.item() > 0 if sy.numel() == 1 else bool((sy > 0).all())
    return fine and (rho is None or bool((rho.abs() < 1).all()))


def _points(  # noqa: PLR0917 - the fields of Points
    x: Tensor,
    y: Tensor | None,
    rows: tuple[int, ...],
    sx: Tensor,
    weight_y: Tensor | None,
    cross: Tensor | None,
    group: Tensor | None,
) -> Points:
    if len(rows) < x.shape[0]:
        sx = sx[list(rows)]
        cross = None if cross is None else cross[:, list(rows)]
    return Points(x, y, rows, sx, weight_y, cross, group)


def _join_diagonal(data: Data, y: Tensor, sx: Tensor, sy: Tensor) -> Whitened:
    n = data.x.shape[1]
    wide = n if max(sx.shape[1], sy.shape[1]) > 1 or data.rho is not None else 1
    sigma = torch.cat([sx.expand(-1, wide), sy.expand(-1, wide)])
    z = torch.cat([data.x, y])
    if data.rho is None:
        return Whitened(_points(z, None, _inexact(sigma), sigma, None, None, data.group), True)
    rho = data.rho.expand(wide)
    factor = torch.zeros(2, 2, wide, dtype=z.dtype, device=z.device)
    factor[0, 0], factor[1, 0] = sigma[0], rho * sigma[1]
    factor[1, 1] = sigma[1] * (1 - rho * rho).clamp(min=0).sqrt()
    return Whitened(Points(z, None, (0, 1), factor, None, None, data.group), True)


def _from_covariance(data: Data, cov: Tensor, fix_x: Tensor | None) -> Whitened:
    m = data.x.shape[0]
    if fix_x is not None:
        fixed = torch.zeros(cov.shape[0], fix_x.shape[1], dtype=torch.bool, device=cov.device)
        fixed[:m] = fix_x
        cov = torch.where(fixed[None] | fixed[:, None], 0.0, cov)
    rows = [i for i in range(m) if bool((cov[i, i] > 0).any())]
    V = cov.permute(2, 0, 1)
    if data.y is None:
        scale = factor(V[:, rows][:, :, rows])
        return Whitened(_full_points(data.x, None, rows, scale, None, None, data.group), False)
    V_xx, V_yx = V[:, rows][:, :, rows], V[:, m:][:, :, rows]
    L = factor(V_xx)
    # A pseudoinverse drops what is small beside the rest; in units of the errors nothing is.
    sizes = V_xx.diagonal(dim1=1, dim2=2).sqrt()
    sizes = torch.where(sizes > 0, sizes, 1.0)
    L_yx = (V_yx / sizes[:, None, :]) @ torch.linalg.pinv(L / sizes[:, :, None]).mT
    given = V[:, m:, m:] - L_yx @ L_yx.mT
    lower, info = torch.linalg.cholesky_ex(given)
    size = V[:, m:, m:].diagonal(dim1=1, dim2=2)
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    if bool((info != 0).any()) or bool((pivots <= ROUNDING * size).any()):
        z = torch.cat([data.x, data.y])
        moving = [i for i in range(z.shape[0]) if bool((cov[i, i] > 0).any())]
        scale = factor(V[:, moving][:, :, moving])
        return Whitened(_full_points(z, None, moving, scale, None, None, data.group), True)
    W = torch.linalg.inv(lower)
    cross = (W @ L_yx) if rows else None
    return Whitened(_full_points(data.x, data.y, rows, L, W, cross, data.group), False)


def _full_points(  # noqa: PLR0917 - the fields of Points
    x: Tensor,
    y: Tensor | None,
    rows: list[int],
    scale: Tensor,
    weight_y: Tensor | None,
    cross: Tensor | None,
    group: Tensor | None,
) -> Points:
    def last(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.permute(1, 2, 0).contiguous()

    return Points(
        x, y, tuple(rows), scale.permute(1, 2, 0).contiguous(), last(weight_y), last(cross), group
    )


def factor(V: Tensor) -> Tensor:
    """Return L (N, k, k) with ``L L^T = V`` for covariances that may be singular."""
    lower, info = torch.linalg.cholesky_ex(V)
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    # The smaller a pivot is the more rounding error it leaves to those that follow.
    unsure = (info != 0) | (pivots <= UNSURE * V.diagonal(dim1=1, dim2=2)).any(1)
    if bool(unsure.any()):
        lower = lower.clone()
        lower[unsure] = _factor_by_share(V[unsure])
    return lower


def _factor_by_share(V: Tensor) -> Tensor:
    """Return the same by pivots, each the largest share left of a variance, whatever its unit.

    A column stands where its pivot does and is 0 where that coordinate follows from the others, so
    that what is exact stays so: no column is made of rounding errors.
    """
    size, L, rest = V.diagonal(dim1=1, dim2=2), torch.zeros_like(V), V
    done = size <= 0
    each = torch.arange(len(V), device=V.device, dtype=torch.int64)
    for _ in range(V.shape[1]):
        share = torch.where(done, 0.0, rest.diagonal(dim1=1, dim2=2) / size)
        largest, at = share.max(1)
        column = rest[each, :, at] / rest[each, at, at].sqrt()[:, None]
        column = torch.where((largest > ROUNDING)[:, None] & ~done, column, 0.0)
        L[each, :, at] += column
        done = done.index_put((each, at), torch.tensor(True, device=V.device))
        rest = rest - column[:, :, None] * column[:, None, :]
    return L
