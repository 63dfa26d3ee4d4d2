r"""Errors that points share: calibration errors, common offsets, a covariance over all points.

A shared component shifts every observation by a known vector times one unknown of unit variance,

.. math::  z_i = z_i^{\text{true}} + e_i + \sum_k s_{ik} t_k, \qquad t_k \sim N(0, 1).

The :math:`t_k` are fitted along as parameters that a measurement of 0 with variance 1 pulls back,
so that chi-square gains :math:`\sum_k t_k^2` and equals generalised least squares, while every
point still stands alone. The cost stays linear in the number of points. A full covariance is split
into

.. math::  V = \lambda D + \sum_k s_k s_k^T ,

``D`` its diagonal, as much of it as stays positive, and one component for each direction left:
as many as there are points, in general, which is what a full matrix costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._data.arrays import to_tensor
from gradfit._data.checks import refuse_where, shown, to_list
from gradfit._data.frames import open_frame
from gradfit._data.gate import refuse_text, title
from gradfit._engine.points import Function
from gradfit.errors import InputError

MOST = 2000
"""Coordinates that a full covariance may have: the work grows with their cube."""


class Shift(NamedTuple):
    """One component on one coordinate: where it acts, and the row of x that holds its sizes."""

    component: int
    axis: int
    row: int


@dataclass(frozen=True, eq=False)
class Systematic:
    """Components that points share.

    Attributes
    ----------
    count : int
        How many.
    shifts : tuple of Shift
        Which coordinate each moves; ``axis`` counts x first, then y.
    sizes : Tensor (rows, N)
        One-sigma shifts, rows appended to x as exact variables.
    """

    count: int
    shifts: tuple[Shift, ...]
    sizes: Tensor

    def wrap(self, fn: Function, m: int) -> Function:
        """Return ``fn`` with x ``(m, N)`` and its value moved by the components.

        The last ``count`` parameters of the new function are the ``t_k``.
        """

        def moved(x: Tensor, beta: Sequence[Tensor]) -> Tensor:
            t = beta[len(beta) - self.count :]
            rows, added = list(x[:m]), dict[int, Tensor]()
            for k, axis, row in self.shifts:
                step = t[k] * x[m + row]
                if axis < m:
                    rows[axis] = rows[axis] - step
                else:
                    added[axis - m] = added[axis - m] + step if axis - m in added else step
            value = fn(torch.stack(rows), beta[: len(beta) - self.count])
            if not added:
                return value
            columns = [v + added[j] if j in added else v for j, v in enumerate(value)]
            return torch.stack(columns)

        return moved

    def shift(self, t: Tensor, k: int) -> Tensor:
        """Return the shift (k, N) of the first ``k`` coordinates for ``t`` (count, N|1)."""
        out = self.sizes.new_zeros(k, self.sizes.shape[1])
        for component, axis, row in self.shifts:
            if axis < k:
                out[axis] += t[component] * self.sizes[row]
        return out


def gather_systematic(components: Any, data: Data, table: Any = None) -> Systematic | None:
    """Check ``systematic=``: a sequence of mappings with ``"x"`` and/or ``"y"``.

    ``table`` is where they may name columns.
    """
    if components is None:
        return None
    if isinstance(components, Mapping):
        components = [components]
    components = to_list("`systematic`", components, '[{"x": 0.1}]')
    m, q = data.x.shape[0], 0 if data.y is None else data.y.shape[0]
    shifts: list[Shift] = []
    sizes: list[Tensor] = []
    for k, component in enumerate(components):
        if not isinstance(component, Mapping) or not set(component) <= {"x", "y"} or not component:
            raise InputError(
                f"`systematic[{k}]` must be a mapping with one-sigma shifts for 'x' and/or 'y', "
                f"got {shown(component)}."
            )
        for key, first, count in (("x", 0, m), ("y", m, q)):
            if component.get(key) is None:
                continue
            name = f"systematic[{k}][{key!r}]"
            for j, row in enumerate(_sizes(name, component[key], count, data, table)):
                if bool((row != 0).any()):
                    shifts.append(Shift(k, first + j, len(sizes)))
                    sizes.append(row)
    if not shifts:
        return None
    return Systematic(len(components), tuple(shifts), torch.stack(sizes))


def _sizes(name: str, value: Any, count: int, data: Data, table: Any) -> Tensor:
    """Return one-sigma shifts (count, N) in the order of the points."""
    if count == 0:
        raise InputError(f"`{name}` is given, but the model is implicit: there is no y.")
    columns: tuple[str, ...] = ()
    if table is None:
        refuse_text({name: value})
    else:
        value, columns = open_frame(table).take(name, value)
    called = title(name, {name: columns})
    t = to_tensor(called, value, data.x.device)
    n = data.n_rows
    if t.shape not in ((), (n,), (count,), (count, n)):
        raise InputError(
            f"{called} must be a number or have shape ({n},)"
            f"{'' if count == 1 else f', ({count},) or ({count}, {n})'}, got {tuple(t.shape)}."
        )
    if t.shape == (count,) and count != n:
        t = t[:, None]
    t = t.expand(count, n)
    left_out = torch.ones(n, dtype=torch.bool, device=t.device).index_fill(0, data.index, False)
    parts = {called: t}
    if len(columns) > 1:
        parts = {f"`{name}` (column {c!r})": row for c, row in zip(columns, t, strict=True)}
    for part, values in parts.items():
        bad, advice = ~torch.isfinite(values) & ~left_out, "Give 0 where nothing shifts."
        refuse_where(bad, values, f"{part} must be finite", advice)
    return t[:, data.index]


def split_covariance(cov: Any, data: Data) -> tuple[Data, Systematic | None]:
    """Split ``cov_joint`` over all points into sigmas of each and components that they share.

    The order of its rows is all of ``x[0]``, all of ``x[1]``, ..., then all of ``y[0]``, ...
    """
    z = data.x if data.y is None else torch.cat([data.x, data.y])
    k, n = z.shape
    V = to_tensor("`cov_joint`", cov, z.device)
    _check(V, data, k * data.n_rows)
    rows = (
        data.index + torch.arange(k, device=z.device, dtype=torch.int64)[:, None] * data.n_rows
    ).reshape(-1)
    V = V[rows][:, rows]
    size = V.diagonal().sqrt()
    counts = size > 0
    if data.missing is not None:
        # Of the other coordinates the marginal covariance is left.
        counts[data.x.shape[0] * n :] &= ~data.missing.reshape(-1)
    live = torch.nonzero(counts)[:, 0]
    if not len(live):
        return _with_sigmas(data, z.new_zeros(k, n)), None
    R = V[live][:, live] / (size[live, None] * size[live])
    e, Q = torch.linalg.eigh((R + R.mT) / 2)
    if bool(e[0] < 1e-10):
        raise InputError(
            f"`cov_joint` must be positive definite; its correlations have the eigenvalue "
            f"{float(e[0]):.2g}. Give perfectly shared errors as `systematic`."
        )
    sigma = (size * e[0].sqrt()).reshape(k, n)
    keep = e - e[0] > 1e-12 * e[-1]
    vectors = z.new_zeros(k * n, int(keep.sum()))
    vectors[live] = size[live, None] * Q[:, keep] * (e[keep] - e[0]).sqrt()
    data = _with_sigmas(data, sigma)
    shifts: list[Shift] = []
    sizes: list[Tensor] = []
    for component, vector in enumerate(vectors.mT.reshape(-1, k, n)):
        for axis, row in enumerate(vector):
            if bool((row != 0).any()):
                shifts.append(Shift(component, axis, len(sizes)))
                sizes.append(row)
    if not shifts:
        return data, None
    return data, Systematic(vectors.shape[1], tuple(shifts), torch.stack(sizes))


def _check(V: Tensor, data: Data, size: int) -> None:
    if any(v is not None for v in (data.sx, data.sy, data.rho, data.cov)):
        raise InputError("`cov_joint` holds all errors; leave `sx`, `sy`, `rho` and `cov` out.")
    if data.group is not None:
        raise InputError("`cov_joint` describes one fit; it cannot be used with `groups`.")
    if V.shape != (size, size):
        raise InputError(
            f"`cov_joint` must have shape ({size}, {size}), all x before all y; "
            f"got {tuple(V.shape)}."
        )
    if size > MOST:
        raise InputError(
            f"`cov_joint` may describe at most {MOST} coordinates, got {size}. "
            "Give errors that points share as `systematic`."
        )
    refuse_where(
        ~torch.isfinite(V), V, "`cov_joint` must be finite", "Give all variances and covariances."
    )
    variance, advice = V.diagonal(), "Give variances on the diagonal and covariances beside it."
    refuse_where(variance < 0, variance, "`cov_joint` must have no negative variance", advice)
    skew = (V - V.mT).abs() > 1e-10 * variance.max()
    refuse_where(skew, V, "`cov_joint` must be symmetric", advice)
    exact = variance == 0
    refuse_where(
        (exact | exact[:, None]) & (V != 0),
        V,
        "`cov_joint` must be 0 beside a variance of 0",
        "Exact coordinates have no covariance.",
    )


def _with_sigmas(data: Data, sigma: Tensor) -> Data:
    """Return the data with standard deviations (k, N) of x and y."""
    m = data.x.shape[0]
    sy = None if data.y is None else sigma[m:]
    return replace(data, sx=sigma[:m], sy=sy, definite=False)
