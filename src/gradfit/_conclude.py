"""From the engine's tensors to a result: scales, names, shapes and order as the user knows them."""

import math
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit._data import Data
from gradfit._distributions import chi2_sf
from gradfit._engine.arrow import pooled
from gradfit._engine.covariance import Spread
from gradfit._engine.state import Work
from gradfit._problem import Problem
from gradfit._result import FitResult, FitTable, Observed
from gradfit._types import Status
from gradfit._views.residuals import listed


class Rows(NamedTuple):
    """Everything that has one row per fit; all tensors."""

    params: Tensor
    stderr: Tensor
    cov: Tensor
    corr: Tensor
    chi2: Tensor
    dof: Tensor
    mswd: Tensor
    p_value: Tensor
    status: Tensor
    held: Tensor


class PointArrays(NamedTuple):
    """Everything that has one value per point, (m, N) or (q, N), in the engine's order.

    ``weights`` (1, N) are those of a robust loss, None where every point counts.
    """

    delta: Tensor
    eps: Tensor | None
    x_hat: Tensor
    y_hat: Tensor | None
    weights: Tensor | None = None


def conclude(
    problem: Problem,
    work: Work,
    found: Spread,
    *,
    moved: Tensor,
    cov_type: str,
    loss: str,
    backend: str,
    began: float,
    arrays: PointArrays | None = None,
    correction: Tensor | None = None,
    note: str = "",
) -> FitResult | FitTable:
    """Build the result of one fit, or the table of many.

    ``moved`` (N,) marks points that found a nearer foot in the search at the end. ``arrays`` are
    given by whoever has them already, or fitted other points than those of the
    problem; ``correction`` (G, p) was taken off the free parameters; ``note`` is added to the
    message.
    """
    found = _visible(problem, found)
    rows = _rows(problem, work, found)
    shared: dict[str, Any] = {
        "names": problem.model.names,
        "backend": backend,
        "absolute_sigma": problem.absolute,
        "cov_type": cov_type,
        "loss": loss,
        "fixed": tuple(problem.fixed),
        "loss_scale": work.field.loss.scale if work.field.loss is not None else math.nan,
        "bounds": bounds_of(problem),
        "shared": problem.shared,
        "correction": _correction(problem, correction),
        "moved": problem.data.index[moved].sort().values.cpu().numpy(),
        "observed": observe(problem),
        "model": problem.model,
        **named_arrays(problem, work, arrays),
    }
    if problem.data.group is None:
        single = _single(problem, work, found, rows, shared, began)
        return replace(single, message=f"{single.message}; {note}") if note else single
    return _table(problem, work, found, rows, shared, began)


def _visible(problem: Problem, found: Spread) -> Spread:
    """Leave the unknowns out that were fitted along: shared errors, which priors determine."""
    p = len(problem.free)
    if not problem.n_hidden:
        return found
    return Spread(
        found.cov[:, :p, :p],
        found.rank - problem.n_hidden,
        found.condition,
        found.weakest[:, :p],
        found.free[:, :p],
    )


def _rows(problem: Problem, work: Work, found: Spread) -> Rows:
    data, chi2 = problem.data, work.state.sums.cost
    dof = _degrees(problem, found)
    if problem.shared:
        chi2 = pooled(chi2)
    mswd = torch.where(dof > 0, chi2 / dof, torch.nan)
    cov = _widen(problem, found.cov)
    if not problem.absolute:
        cov = cov * mswd[:, None, None]
    stderr = cov.diagonal(dim1=-2, dim2=-1).sqrt()
    given = any(v is not None for v in (data.sx, data.sy, data.rho, data.cov))
    p_value = chi2_sf(chi2, dof.to(chi2)) if given else torch.full_like(chi2, torch.nan)
    return Rows(
        _parameters(problem, work.state.beta[:, : len(problem.free)]),
        stderr,
        cov,
        _correlation(cov, stderr),
        chi2,
        dof,
        mswd,
        p_value,
        _status(problem, work, found),
        _held(problem, found),
    )


def _degrees(problem: Problem, found: Spread) -> Tensor:
    """Degrees of freedom (G,); fits that share parameters have them together."""
    determined = found.free.sum(-1) - problem.redundant
    dof = _points_per_fit(problem) * problem.n_equations - determined
    if not problem.shared:
        return dof
    common = torch.tensor([n in problem.shared for n in problem.free], device=dof.device)
    repeated = (found.free & common).sum() - (found.free & common).any(0).sum()
    return (dof.sum() + repeated).expand(len(dof))


def _points_per_fit(problem: Problem) -> Tensor:
    group = problem.data.group
    if group is None:
        return torch.tensor([problem.points.n], device=problem.points.x.device)
    return torch.bincount(group, minlength=problem.n_groups)


def _status(problem: Problem, work: Work, found: Spread) -> Tensor:
    """Call a fit singular that ended well but leaves a combination of parameters open."""
    status = work.state.status
    short = (found.rank < found.free.sum(-1) - problem.redundant) & (status < 10)
    return torch.where(short, int(Status.SINGULAR), status)


def _positions(problem: Problem) -> list[int]:
    return [problem.model.names.index(n) for n in problem.free]


def _widen(problem: Problem, cov: Tensor) -> Tensor:
    """Write a covariance of free parameters into one of all, 0 where fixed."""
    if not problem.fixed:
        return cov
    p, at = len(problem.model.names), _positions(problem)
    wide = cov.new_zeros(cov.shape[0], p, p)
    wide[:, torch.tensor(at)[:, None], torch.tensor(at)] = cov
    return wide


def _parameters(problem: Problem, beta: Tensor) -> Tensor:
    if not problem.fixed:
        return beta
    values = [
        beta[:, problem.free.index(n)]
        if n in problem.free
        else beta.new_full((beta.shape[0],), problem.fixed[n])
        for n in problem.model.names
    ]
    return torch.stack(values, 1)


def _correlation(cov: Tensor, stderr: Tensor) -> Tensor:
    corr = cov / (stderr[:, :, None] * stderr[:, None, :])
    return torch.where(cov == 0, 0.0, corr).clamp(-1, 1)


def _held(problem: Problem, found: Spread) -> Tensor:
    """Parameters (G, p of all) that ended at a bound."""
    held = found.free.new_zeros(found.free.shape[0], len(problem.model.names))
    held[:, _positions(problem)] = ~found.free
    return held


def give_back(problem: Problem, work: Work) -> PointArrays:
    """Return foot points and corrections in the units of the data."""
    data, points = problem.data, problem.points
    m, beta = data.x.shape[0], work.state.beta.mT
    q = 0 if data.y is None or not problem.joined else data.y.shape[0]
    columns = [c.expand(points.n) if data.group is None else c[data.group] for c in beta]
    if len(points.rows) == m + q:
        delta = points.shift_x(work.u)
    else:
        delta = torch.zeros_like(points.x[: m + q])
        delta[list(points.rows)] = points.shift_x(work.u)
    if problem.systematic is not None:
        t = torch.stack(columns[len(problem.free) :])
        delta -= problem.systematic.shift(t, m + q)
    x_hat = points.x[: m + q] + delta
    weights = _weights(work)
    if problem.joined:
        return PointArrays(delta[:m], delta[m:], x_hat[:m], x_hat[m:], weights)
    if data.y is None:
        return PointArrays(delta, None, x_hat, None, weights)
    with torch.no_grad():
        y_hat = problem.plain()(x_hat, columns[: len(problem.free)])
    return PointArrays(delta, y_hat - data.y, x_hat, y_hat, weights)


def named_arrays(problem: Problem, work: Work, arrays: PointArrays | None = None) -> dict[str, Any]:
    """Return arrays per point in the user's shapes and order, by name."""
    data = problem.data
    arrays = give_back(problem, work) if arrays is None else arrays
    give = _Giver(data)

    def y_like(values: Tensor | None) -> Any:
        return None if values is None else give(values, data.vector_y)

    return {
        "delta": give(arrays.delta, data.vector_x),
        "x_hat": give(arrays.x_hat, data.vector_x),
        "eps": y_like(arrays.eps),
        "y_hat": y_like(arrays.y_hat),
        "weights": even_weights(data) if arrays.weights is None else give(arrays.weights, True),
    }


def even_weights(data: Data) -> Any:
    """Return weights of 1, which take no memory."""
    if data.as_torch:
        return data.x.new_ones(1).expand(data.n_rows)
    return _ones(data.n_rows)


@lru_cache(maxsize=8)
def _ones(n: int) -> Any:
    return np.broadcast_to(np.float64(1.0), (n,))


def _weights(work: Work) -> Tensor | None:
    """Return the weights (1, N) that a robust loss gives the points; None for least squares."""
    loss = work.field.loss
    if loss is None:
        return None
    parts = work.field.linears(work.state.beta, work.u, work.kept)
    return torch.cat([loss.weight(linear.phi) for _, linear in parts])[None]


class _Giver:
    """Hand per-point tensors back: the user's order, kind and shape; NaN for rows left out."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.whole = data.group is None and data.x.shape[1] == data.n_rows

    def __call__(self, values: Tensor, vector: bool) -> Any:
        data = self.data
        if self.whole and not data.as_torch and values.device.type == "cpu":
            found = (values.detach() if values.requires_grad else values).numpy()
            return found[0] if vector else found
        if not self.whole:
            out = values.new_full((values.shape[0], data.n_rows), torch.nan)
            out[:, data.index] = values
            values = out
        if vector:
            values = values[0]
        values = values.detach()
        return values if data.as_torch else values.cpu().numpy()


def _correction(problem: Problem, taken: Tensor | None) -> dict[str, Any]:
    """Return what was taken off each parameter, by name; empty if nothing was."""
    if taken is None:
        return {}
    columns = dict(zip(problem.free, taken.mT, strict=True))
    zero = taken.new_zeros(len(taken))
    found = {n: columns.get(n, zero) for n in problem.model.names}
    if problem.data.group is None:
        return {n: float(t[0]) for n, t in found.items()}
    return found if problem.data.as_torch else {n: t.cpu().numpy() for n, t in found.items()}


def bounds_of(problem: Problem) -> dict[str, tuple[float, float]]:
    """Return the limits of the free parameters that have any."""
    if problem.bounds is None:
        return {}
    pairs = zip(problem.bounds.lower[0].tolist(), problem.bounds.upper[0].tolist(), strict=True)
    return {
        name: pair
        for name, pair in zip(problem.free, pairs, strict=True)
        if pair != (-math.inf, math.inf)
    }


def _held_exact(data: Data, exact: Tensor | None) -> Data:
    """Write 0 for the errors of the coordinates that ``fix_x`` made exact."""
    if exact is None:
        return data
    if data.cov is not None:
        held = torch.zeros(data.cov.shape[0], exact.shape[1], dtype=torch.bool)
        held[: len(exact)] = exact.cpu()
        held = held.to(data.cov.device)
        return replace(data, cov=torch.where(held[None] | held[:, None], 0.0, data.cov))
    none = data.sx is None and data.sy is None
    sx = data.x.new_full((data.x.shape[0], 1), 1.0 if none else 0.0)
    sx = torch.where(exact, 0.0, sx if data.sx is None else data.sx)
    ones = None if data.y is None else data.y.new_ones(data.y.shape[0], 1)
    return replace(data, sx=sx, sy=ones if none else data.sy)


def observe(problem: Problem) -> Observed:
    """Return the data as NumPy arrays in the user's rows."""
    data = _held_exact(problem.data, problem.fix_x)
    give = _Giver(data)

    def array(values: Tensor, vector: bool) -> Any:
        found = give(values, vector)
        return found if isinstance(found, np.ndarray) else found.cpu().numpy()

    def sigma(values: Tensor | None, vector: bool) -> Any:
        if values is None:
            return None
        if values.shape[-1] == 1 and data.x.shape[1] != 1:
            return values.item() if values.shape[0] == 1 else values.cpu().numpy()
        return array(values, vector)

    cov = data.cov
    if cov is not None and cov.shape[-1] > 1:
        k = cov.shape[0]
        cov = torch.as_tensor(array(cov.reshape(k * k, -1), False)).reshape(k, k, -1)
    shifts = None
    if problem.systematic is not None:
        k = data.x.shape[0] + (0 if data.y is None else data.y.shape[0])
        unit = torch.eye(problem.systematic.count).to(data.x)[..., None]
        shifts = np.stack([array(problem.systematic.shift(t, k), False) for t in unit])
    return Observed(
        x=array(data.x, data.vector_x),
        y=None if data.y is None else array(data.y, data.vector_y),
        sx=sigma(data.sx, data.vector_x),
        sy=sigma(data.sy, data.vector_y),
        rho=None if data.rho is None else sigma(data.rho[None], True),
        cov=None if cov is None else cov.cpu().numpy(),
        systematic=shifts,
        x_names=data.x_names,
        y_names=data.y_names,
    )


def _message(status: Status, problem: Problem, found: Spread, moved: NDArray[np.int64]) -> str:
    told = status.message
    if status == Status.SINGULAR:
        told = f"{told} (undetermined: {_combination(problem, found)})"
    if moved.size:
        told += f"; {listed(moved)} moved to a nearer foot"
    return told


def _combination(problem: Problem, found: Spread) -> str:
    """Say in words which combination of parameters the data leave open."""
    weights = found.weakest[0]
    parts = [
        f"{w:+.2g}*{n}"
        for n, w in zip(problem.free, weights.tolist(), strict=True)
        if abs(w) > 0.05
    ]
    return " ".join(parts).removeprefix("+") + ", each in its own scale"


def _single(
    problem: Problem,
    work: Work,
    found: Spread,
    rows: Rows,
    shared: dict[str, Any],
    began: float,
) -> FitResult:
    names = problem.model.names
    status = Status(int(rows.status[0]))
    keep = problem.data.as_torch
    held = rows.held[0].tolist()
    return FitResult(
        params=dict(zip(names, rows.params[0].tolist(), strict=True)),
        stderr=dict(zip(names, rows.stderr[0].tolist(), strict=True)),
        cov=rows.cov[0] if keep else rows.cov[0].cpu().numpy(),
        corr=rows.corr[0] if keep else rows.corr[0].cpu().numpy(),
        chi2=float(rows.chi2[0]),
        dof=int(rows.dof[0]),
        mswd=float(rows.mswd[0]),
        p_value=float(rows.p_value[0]),
        status=status,
        success=status.ok,
        message=_message(status, problem, found, shared["moved"]),
        n_steps=int(work.state.n_steps[0]),
        n_eval=int(work.state.n_eval[0]),
        condition=float(found.condition[0]),
        rank=int(found.rank[0]),
        at_bound=tuple(n for n, h in zip(names, held, strict=True) if h),
        seconds=time.perf_counter() - began,
        **shared,
    )


def _table(
    problem: Problem,
    work: Work,
    found: Spread,
    rows: Rows,
    shared: dict[str, Any],
    began: float,
) -> FitTable:
    data, names = problem.data, problem.model.names

    def give(t: Tensor) -> Any:
        return t if data.as_torch else t.cpu().numpy()

    def blank(t: Tensor) -> Tensor:
        """Write NaN for groups that were never fitted."""
        bad = (rows.status == Status.TOO_FEW_POINTS) | (rows.status == Status.BAD_DATA)
        return torch.where(bad.reshape(-1, *[1] * (t.ndim - 1)), torch.nan, t)

    group = np.full(data.n_rows, -1, dtype=np.int64)
    if data.group is not None:
        group[data.index.cpu().numpy()] = data.group.cpu().numpy()
    ok = np.array([0 < s < 10 for s in rows.status.tolist()])
    return FitTable(
        keys=data.keys,
        group=group,
        params={n: give(c) for n, c in zip(names, blank(rows.params).mT, strict=True)},
        stderr={n: give(c) for n, c in zip(names, blank(rows.stderr).mT, strict=True)},
        cov=give(blank(rows.cov)),
        corr=give(blank(rows.corr)),
        chi2=give(blank(rows.chi2)),
        dof=rows.dof.cpu().numpy(),
        mswd=give(blank(rows.mswd)),
        p_value=give(blank(rows.p_value)),
        status=rows.status.cpu().numpy(),
        success=ok,
        n_steps=work.state.n_steps.cpu().numpy(),
        n_eval=work.state.n_eval.cpu().numpy(),
        condition=give(found.condition),
        rank=found.rank.cpu().numpy(),
        at_bound=rows.held.cpu().numpy(),
        seconds=time.perf_counter() - began,
        **shared,
    )
