r"""Whether the end of a fit is a minimum, and whether its parameters are determined.

A standard error believes the slopes of the curve at the solution. Where a parameter runs away to
where the curve no longer depends on it, slopes vanish, and standard errors become as large as one
likes: in one way of writing the formula the end looks singular, in another fine. So where a
standard error is far larger than the parameter itself, the slopes are looked at again a thousandth
of it away, either way, the other parameters following. If even there they are quite different they
say nothing of the parameter, and it is not determined:

.. math::  |\tilde J(\hat\beta \pm h v)\,v|^2 \approx |\tilde J(\hat\beta)\,v|^2 = 1 , \qquad
           h = 10^{-3}, \quad v = C_{\cdot j} / \sqrt{C_{jj}} ,

which is to say that the curvature of the model along ``v`` (Bates and Watts, J. R. Stat. Soc. B 42
(1980) 1) is below ``1/h`` per standard error. The answer does not depend on units.
"""

import torch
from torch import Tensor

from gradfit._engine.covariance import (
    Spread,
    basis_at,
    clear,
    exact_along,
    free_at,
    spread,
    spread_along,
)
from gradfit._engine.field import Field
from gradfit._engine.loop import init
from gradfit._engine.points import Points, squares, times
from gradfit._engine.propose import back_of
from gradfit._engine.state import Bounds, Work

LOST = 1e3
"""Standard errors, in units of the parameter itself, from which on slopes are looked at again."""
AWAY = 1e-3
"""How far away that is, in standard errors."""
ALIKE = 0.25, 4.0
"""Square of the slopes there, over that at the solution, which still says the same."""
HOLLOW = 1e-8
"""Share of the expected curvature below which an end is no minimum."""
FINE = 1e-24
"""Square of the relative size of the data below which chi-square may be rounding error."""
SOME = 1 << 12
"""Points that tell how large the data are."""
TOGETHER = 1 << 17
"""Points that are looked at once more at a time, which bounds the memory."""


def is_minimum(w: Work, bounds: Bounds | None) -> Tensor:
    """Return for every fit (G,) whether chi-square curves upwards wherever no bound holds it.

    It is asked in units of the expected information, in which nothing cancels however
    ill-conditioned a fit is.
    """
    free = free_at(w, bounds)
    _, dead, sums = exact_along(w, free, basis_at(w, free))
    return torch.linalg.eigvalsh((sums.H + dead).nan_to_num())[:, 0] > HOLLOW


def variance_of_one(cost: Tensor, dof: Tensor, points: Points, absolute: bool) -> Tensor:
    """Return the rise (G,) of the cost by which a standard error is defined, above rounding."""
    unit = torch.ones_like(cost) if absolute else cost / dof.clamp(min=1)
    some = points if points.n <= SOME else points.part(0, SOME)
    if absolute or some.y is None or some.weight_y is None:
        return unit
    size = squares(times(some.weight_y, some.y)).mean()
    return unit.clamp(min=FINE * float(size))


def doubtful(beta: Tensor, cov: Tensor, unit: Tensor) -> Tensor:
    """Return parameters (G, p) whose standard errors are far larger than they are themselves."""
    variance = cov.diagonal(dim1=-2, dim2=-1) * unit[:, None]
    return torch.isfinite(variance) & (variance > (LOST * beta).square())


def judge(
    w: Work, found: Spread, kind: str, bounds: Bounds | None, absolute: bool, status: Tensor
) -> Spread:
    """Return what is known of fits that ended well, without what is known of nothing.

    Parameters
    ----------
    w : Work
        At the end.
    found : Spread
        What the slopes say there, of this ``kind``.
    absolute : bool
        Whether sigmas are known, or the scatter of the points tells them.
    status : Tensor (G,)
        How the fits ended.
    """
    s, field = w.state, w.field
    if field.shared is not None or not s.beta.shape[1]:
        return found
    plain = found if kind == "expected" else spread(w, "expected", bounds)
    dof = field.sizes * _equations(field.points, w) - s.beta.shape[1]
    unit = variance_of_one(s.sums.cost, dof, field.points, absolute)
    good = (status > 0) & (status < 10)
    asked = doubtful(s.beta, plain.cov, unit) & good[:, None]
    rows = torch.nonzero(asked.any(-1))[:, 0]
    if not len(rows):
        return found
    part, of_rows = part_of(field, s.beta, w.u, rows), _bounds_of(bounds, rows)
    less = without_lost(part, kind, of_rows, unit[rows], not absolute)
    return Spread(*(a.index_copy(0, rows, b) for a, b in zip(found, less, strict=True)))


def _equations(points: Points, w: Work) -> int:
    if points.y is not None:
        return points.y.shape[0]
    return w.kept[0].r.shape[0] if w.kept else 1


def _bounds_of(bounds: Bounds | None, rows: Tensor) -> Bounds | None:
    if bounds is None or len(bounds.lower) == 1:
        return bounds
    return Bounds(bounds.lower[rows], bounds.upper[rows])


def part_of(field: Field, beta: Tensor, u: Tensor, rows: Tensor) -> Work:
    """Return the fits ``rows`` alone, evaluated where they are."""
    if field.alone:
        return init(field, beta, u)
    part, index = field.select(rows)
    return init(part, beta[rows], u[:, index])


def are_lost(w: Work, cov: Tensor, unit: Tensor, asked: Tensor) -> Tensor:
    """Return which parameters (G, p), of those ``asked`` for, slopes say nothing of.

    ``cov`` (G, p, p) is what they say, ``unit`` (G,) its scale.
    """
    pairs = torch.nonzero(asked)
    many = max(1, TOGETHER // (2 * max(1, int(w.field.sizes.max()))))
    lost = asked.clone()
    for some in pairs.split(many) if len(pairs) else ():
        row, which = some.unbind(1)
        lost[row, which] = ~_are_alike(w, row, cov[row, which], cov[row, which, which], unit[row])
    return lost


def _are_alike(w: Work, row: Tensor, cov: Tensor, own: Tensor, unit: Tensor) -> Tensor:
    """Return whether slopes (K,) are the same a little way down and up a direction (K, p)."""
    v = cov / own.sqrt()[:, None]
    down_up = torch.cat([-v, v]) * (AWAY * unit.sqrt()).repeat(2)[:, None]
    both = row.repeat(2)
    points, index = _copies(w.field, both)
    field = Field.of(points, w.field.fn, len(both), cov.shape[1], w.field.loss, w.field.prior)
    beta, u = w.state.beta[both], w.u[:, index]
    kept = field.linearize(beta, u).kept
    there = field.attempt(beta, u, kept, down_up, back_of(down_up)).sums.A
    v = v.repeat(2, 1)
    slope = (v * (there @ v[..., None])[..., 0]).sum(-1)
    return ((slope > ALIKE[0]) & (slope < ALIKE[1])).reshape(2, -1).all(0)


def _copies(field: Field, row: Tensor) -> tuple[Points, Tensor]:
    """Return the points of the fits ``row``, one group for each, and their index."""
    sizes = field.sizes
    first = (sizes.cumsum(0) - sizes)[row]
    group = torch.arange(len(row), device=row.device, dtype=torch.int64).repeat_interleave(
        sizes[row]
    )
    start = sizes[row].cumsum(0) - sizes[row]
    index = (
        torch.arange(len(group), device=row.device, dtype=torch.int64) - start[group] + first[group]
    )
    return field.points.take(index)._replace(group=group), index


def without_lost(
    w: Work, kind: str, bounds: Bounds | None, unit: Tensor, relative: bool = False
) -> Spread:
    """Return what is known of fits, but for parameters of which slopes say nothing.

    Of these as many are held as it takes, the worst first, for the errors of all others.
    """
    free = free_at(w, bounds)
    basis = basis_at(w, free)
    found = whole = spread_along(w, "expected", free, basis)
    lost = held = torch.zeros_like(free)
    for _ in range(free.shape[1]):
        asked = doubtful(w.state.beta, found.cov, unit) & found.free
        now = are_lost(w, found.cov, unit, asked)
        some = now.any(-1, keepdim=True)
        if not bool(some.any()):
            break
        lost = lost | now
        size = found.cov.diagonal(dim1=-2, dim2=-1) / w.state.beta.square()
        worst = torch.where(now, size.nan_to_num(torch.inf), -1.0).argmax(-1)
        held = held | (torch.nn.functional.one_hot(worst, free.shape[1]).bool() & some)
        found = spread_along(w, "expected", free & ~held, basis_at(w, free & ~held))
    if kind != "expected":
        rest = free & ~held
        found = spread_along(w, kind, rest, basis_at(w, rest), relative)
    open_ = lost.any(-1)
    share = torch.where(basis.e > 0, 1 / basis.e, 0.0)[:, None, :] * basis.V.square()
    most = torch.where(held[..., None], share, -1.0).amax(1).argmax(-1)
    weakest = basis.V.gather(2, most[:, None, None].expand(-1, free.shape[1], 1))[..., 0]
    return Spread(
        clear(found.cov, free, (lost | found.cov.diagonal(dim1=-2, dim2=-1).isinf()) & free),
        found.rank,
        torch.where(open_, torch.inf, found.condition),
        torch.where(open_[:, None], weakest, whole.weakest),
        free,
    )
