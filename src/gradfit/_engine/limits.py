r"""Derivatives where the graph gives none: limits of those near by.

At the edge of its domain, or where 0/0 is guarded, a model may be finite and smooth while its graph
multiplies 0 by infinity: :math:`x^b` at 0 in its second derivatives, or ``where(x == 0, a, f/x)``,
which differentiates both of its values. There the derivatives are those in the limit of points that
come nearer along a straight line, towards the middle of the data or, if there is none, from it.

Two sequences of steps are looked at. Halved ones are extrapolated by Wynn's epsilon algorithm,
which is exact for sums of powers of the step, whole or not. Steps far below rounding of the data
give powers and roots at 0 to the last digit, but differences of nearly equal numbers lose all of
theirs, so that these values are only taken where the others lead to them. What grows without bound,
or belongs to a value that jumps, has no limit.

Wynn, Math. Tables Aids Comput. 10 (1956) 91.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gradfit._engine.points import Points

HALVINGS = 20
"""Steps that are halved from one to the next."""
TINY = (1e-20, 1e-40, 1e-60, 1e-80, 1e-100)
"""Steps that are far below rounding, in parts of the first."""
WINDOWS = (8, 12, 16, HALVINGS)
"""Steps that are extrapolated together: rounding errors grow as steps shrink."""
GOOD = 1e-5
"""Error of a limit, in parts of the values that lead to it, up to which it is one."""
MOST = 1 << 12
"""Points at the edge of which derivatives are looked for, at most."""

Rows = Callable[[Points, Tensor, Tensor, Tensor], Tensor]
"""``rows(points, u, columns, index)``: the residual (q), then derivatives, of points: (k, n)."""


def mended(
    rows: Rows, points: Points, u: Tensor, columns: Tensor, found: Tensor, q: int
) -> tuple[Tensor, Tensor | None]:
    """Put limits in the place of derivatives that are not finite where the residual is.

    Parameters
    ----------
    rows : callable
        What ``found`` was made by, for any points.
    points : Points
        The observations.
    u : Tensor (mu, N)
        Foot points.
    columns : Tensor (p, N) or (p, 1)
        Parameters of every point.
    found : Tensor (k, N)
        The residual, ``q`` rows of it, then derivatives.
    q : int
        Equations.

    Returns
    -------
    found : Tensor (k, N)
    lost : Tensor (N,) bool or None
        Points of which some derivative is still not finite; None if there is none.
    """
    fine = torch.isfinite(found)
    bad = fine[:q].all(0) & ~fine[q:].all(0)
    index = bad.nonzero()[:MOST, 0]
    if not len(index):
        return found, None
    here, first = found[:, index], reach(points)[:, index]
    wide = columns.expand(-1, points.n)
    for sign in (1.0, -1.0):
        near = _near(rows, points, u, wide, index, sign * first)
        limits = _limits(near, here[:q], q)
        here = torch.where(torch.isfinite(here), here, limits)
        if bool(torch.isfinite(here).all()):
            break
    lost = bad.clone()
    lost[index] = ~torch.isfinite(here).all(0)
    return found.index_copy(1, index, here), lost if bool(lost.any()) else None


def reach(points: Points) -> Tensor:
    """Return a first step (m, N) for each point: towards the mean of its fit, of its width."""
    x = points.x
    if points.group is None:
        mean = x.mean(1, keepdim=True)
        width = (x - mean).abs().mean(1, keepdim=True)
    else:
        group = points.group - points.group[0]
        count = torch.bincount(group).to(x)
        blank = x.new_zeros(len(x), len(count))
        mean = (blank.index_add(1, group, x) / count)[:, group]
        width = (blank.index_add(1, group, (x - mean).abs()) / count)[:, group]
    width = torch.where(width > 0, width, x.abs())
    width = torch.where(width > 0, width, 1.0) / 4
    return torch.where(mean >= x, width, -width).nan_to_num()


def _near(
    rows: Rows, points: Points, u: Tensor, columns: Tensor, index: Tensor, first: Tensor
) -> Tensor:
    """Return what ``rows`` gives near points, (steps, k, n), in parts of a first step (m, n)."""
    steps = [0.5**k for k in range(HALVINGS)] + list(TINY)
    many, n = len(steps), len(index)
    share = first.new_tensor(steps).repeat_interleave(n)
    again = index.repeat(many)
    moved = points.take(again) if points.n > 1 else points.repeat(many)
    moved = moved._replace(x=moved.x + share * first.repeat(1, many))
    found = rows(moved, u[:, again], columns[:, again], again)
    return found.reshape(-1, many, n).transpose(0, 1)


def _limits(near: Tensor, value: Tensor, q: int) -> Tensor:
    """Return the limits (k, n) of sequences (steps, k, n), NaN where there is none.

    ``value`` (q, n) is what the first of them must lead to.
    """
    halved, tiny = near[:HALVINGS], near[HALVINGS:]
    size = halved.abs().amax(0)
    limit, error = _extrapolated(halved)
    gaps = halved.diff(dim=0).abs()
    # Among steps that are neither too long for a limit nor so short that rounding errors rule.
    falls = (gaps[8] <= 0.9 * gaps[2]) | (gaps[13] <= 0.9 * gaps[7]) | (gaps[8] <= 1e-9 * size)
    sure = falls & (error <= GOOD * size)
    end, rest = _wynn(tiny)
    settled = (rest <= 1e-9 * size) & torch.isfinite(tiny).all(0)
    led = sure & ((end - limit).abs() <= 10 * error + 1e-6 * size)
    led = led | (~sure & ((halved[-1] - end).abs() <= 0.9 * (halved[9] - end).abs()))
    out = torch.where(settled & led, end, torch.where(sure, limit, torch.nan))
    # A value that jumps has no derivative, though those on either side may have limits.
    gap = (out[:q] - value).abs() <= 1e-6 * (size[:q] + value.abs())
    return torch.where(gap.all(0), out, torch.nan)


def _extrapolated(halved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the limit of a sequence, and its error: those of the best of some windows."""
    limit, error = _wynn(halved)
    for window in WINDOWS:
        other, gap = _wynn(halved[:window])
        better = gap < error
        limit, error = torch.where(better, other, limit), torch.where(better, gap, error)
    return limit, error


def _wynn(sequence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the limit of a sequence (steps, ...) by the epsilon algorithm, and its error."""
    limit, error = sequence[-1], _range(sequence).nan_to_num(torch.inf)
    older, newer = torch.zeros_like(torch.cat([sequence, sequence[:1]])), sequence
    for column in range(1, len(sequence) - 2):
        older, newer = newer, older[1:-1] + 1 / newer.diff(dim=0)
        if column % 2 == 0:
            gap = _range(newer)
            better = gap < error
            limit, error = torch.where(better, newer[-1], limit), torch.where(better, gap, error)
    return limit, error


def _range(values: Tensor) -> Tensor:
    """Return by how much the last three differ: two may be equal by chance."""
    last = values[-3:]
    return last.amax(0) - last.amin(0)
