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
from gradfit._engine.linearize import misfit
from gradfit._engine.loss import Loss
from gradfit._engine.sandwich import FROM_RESIDUALS
from gradfit._engine.state import Work
from gradfit._observe import as_numpy, give_array, give_tensor, observe
from gradfit._problem import Problem
from gradfit._result import FitResult, FitTable
from gradfit._robust import Ready
from gradfit._types import Status, message_of
from gradfit._views.residuals import listed
from gradfit._views.words import weightless


class End(NamedTuple):
    """Where fits ended, one row each.

    Attributes
    ----------
    beta : Tensor (G, p)
        Parameters; unknowns that are not told follow the free ones.
    chi2 : Tensor (G,)
        chi-square, or the robust loss.
    status, n_steps, n_eval : Tensor (G,) int64
    """

    beta: Tensor
    chi2: Tensor
    status: Tensor
    n_steps: Tensor
    n_eval: Tensor

    @classmethod
    def of(cls, work: Work) -> "End":
        """Return where the engine came to."""
        s = work.state
        return cls(s.beta, s.sums.cost, s.status, s.n_steps, s.n_eval)

    def after(self, ready: Ready) -> "End":
        """Return the end of robust fits in the sigmas that were given, all steps counted."""
        return self._replace(
            chi2=self.chi2 * ready.scale.square(),
            n_steps=self.n_steps + ready.n_steps,
            n_eval=self.n_eval + ready.n_eval,
        )


class Rows(NamedTuple):
    """Everything that has one row per fit; all tensors."""

    params: Tensor
    stderr: Tensor
    cov: Tensor
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
    end: End,
    found: Spread,
    arrays: PointArrays,
    *,
    moved: Tensor,
    cov_type: str,
    loss: Loss | None,
    backend: str,
    began: float,
    correction: Tensor | None = None,
    note: str = "",
    scale: Tensor | None = None,
) -> FitResult | FitTable:
    """Build the result of one fit, or the table of many.

    ``moved`` (N,) marks points that found a nearer foot in the search at the end; ``correction``
    (G, p) was taken off the free parameters; ``note`` is added to the message; ``scale`` (G,) is
    the factor of the sigmas with which a robust loss was minimised.
    """
    found = _visible(problem, found)
    rows = _rows(problem, end, found, cov_type, loss)
    shared: dict[str, Any] = {
        "names": problem.model.names,
        "backend": backend,
        "absolute_sigma": problem.absolute,
        "cov_type": cov_type,
        "loss": "linear" if loss is None else loss.name,
        "fixed": tuple(problem.fixed),
        "loss_scale": math.nan if loss is None else loss.scale,
        "scale": _scale(problem, len(end.chi2), scale),
        "bounds": bounds_of(problem),
        "shared": problem.shared,
        "correction": _correction(problem, correction),
        "moved": places(problem.data, moved),
        "observed": observe(problem),
        "model": problem.model,
        **named_arrays(problem.data, arrays),
    }
    if problem.data.group is None:
        single = _single(problem, end, found, rows, shared, began)
        return replace(single, message=f"{single.message}; {note}") if note else single
    return _table(problem, end, found, rows, shared, began)


def _scale(problem: Problem, count: int, scale: Tensor | None) -> Any:
    """Return the scale of robust fits whose sigmas are relative; NaN of all others."""
    known = scale is not None and not problem.absolute
    if problem.data.group is None:
        return float(scale[0]) if known and scale is not None else math.nan
    found = problem.data.x.new_full((count,), math.nan)
    found = scale if known and scale is not None else found
    return found if problem.data.as_torch else found.cpu().numpy()


def places(data: Data, marked: Tensor) -> NDArray[np.int64]:
    """Return the rows of the user, ascending, of points that are marked."""
    found = marked.nonzero()[:, 0]
    if data.kept is not None:
        found = data.kept[found].sort().values
    return found.cpu().numpy()


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


def _rows(problem: Problem, end: End, found: Spread, cov_type: str, loss: Loss | None) -> Rows:
    chi2 = end.chi2
    dof = _degrees(problem, found)
    if problem.shared:
        chi2 = pooled(chi2)
    mswd = torch.where(dof > 0, chi2 / dof, torch.nan)
    cov = _widen(problem, found.cov)
    if not problem.absolute and cov_type not in FROM_RESIDUALS and loss is None:
        cov = cov * mswd[:, None, None]
    held = _held(problem, found)
    stderr = cov.diagonal(dim1=-2, dim2=-1).sqrt().masked_fill(held, torch.nan)
    p_value = torch.full_like(chi2, torch.nan)
    if has_p_value(problem, loss):
        p_value = chi2_sf(chi2, dof.to(chi2))
    return Rows(
        _parameters(problem, end.beta[:, : len(problem.free)]),
        stderr,
        cov,
        chi2,
        dof,
        mswd,
        p_value,
        _status(problem, end, found),
        held,
    )


def has_p_value(problem: Problem, loss: Loss | None) -> bool:
    """Return whether chi-square can tell if model and sigmas are right.

    It cannot where the residuals had to tell how large the sigmas are, and a sum of robust losses
    follows another law.
    """
    data = problem.data
    given = not (data.sx is data.sy is data.rho is data.cov is None)
    return given and problem.absolute and loss is None


def _sought(problem: Problem, found: Spread) -> Any:
    """Return how many parameters are sought, of each fit where bounds may hold some."""
    count = len(problem.free) if problem.bounds is None else found.free.sum(-1)
    return count - problem.redundant


def _degrees(problem: Problem, found: Spread) -> Tensor:
    """Degrees of freedom (G,); fits that share parameters have them together."""
    dof = problem.seen_per_fit - _sought(problem, found)
    if not problem.shared:
        return dof
    common = torch.tensor(
        [n in problem.shared for n in problem.free], device=dof.device, dtype=torch.bool
    )
    repeated = (found.free & common).sum() - (found.free & common).any(0).sum()
    return (dof.sum() + repeated).expand(len(dof))


def _status(problem: Problem, end: End, found: Spread) -> Tensor:
    """Call a fit singular that ended well but leaves a combination of parameters open.

    One whose parameters are not all finite, as of a vertical line, has no best fit.
    """
    short = (found.rank < _sought(problem, found)) & (end.status < 10)
    status = torch.where(short, int(Status.SINGULAR), end.status)
    lost = ~torch.isfinite(end.beta).all(-1) & (status > 0) & (status < 10)
    return torch.where(lost, int(Status.DEGENERATE), status)


def _positions(problem: Problem) -> list[int]:
    return [problem.model.names.index(n) for n in problem.free]


def _widen(problem: Problem, cov: Tensor) -> Tensor:
    """Write a covariance of free parameters into one of all, 0 where fixed."""
    if not problem.fixed:
        return cov
    p, at = len(problem.model.names), _positions(problem)
    wide = cov.new_zeros(cov.shape[0], p, p)
    index = torch.tensor(at, dtype=torch.int64, device="cpu")
    wide[:, index[:, None], index] = cov
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


def _held(problem: Problem, found: Spread) -> Tensor:
    """Parameters (G, p of all) that ended at a bound."""
    held = found.free.new_zeros(found.free.shape[0], len(problem.model.names))
    if problem.bounds is not None:
        held[:, _positions(problem)] = ~found.free
    return held


def give_back(problem: Problem, work: Work) -> PointArrays:
    """Return foot points and corrections in the units of the data."""
    data, points = problem.data, problem.points
    m = data.x.shape[0]
    q = 0 if data.y is None or not problem.joined else data.y.shape[0]
    if len(points.rows) == m + q:
        delta = points.shift_x(work.u)
    else:
        delta = torch.zeros_like(points.x[: m + q])
        delta[list(points.rows)] = points.shift_x(work.u)
    if problem.systematic is not None:
        t = torch.stack(_columns(work)[len(problem.free) :])
        delta -= problem.systematic.shift(t, m + q)
    x_hat = points.x[: m + q] + delta
    weights = _weights(work)
    if problem.joined:
        return PointArrays(delta[:m], delta[m:], x_hat[:m], x_hat[m:], weights)
    if data.y is None:
        return PointArrays(delta, None, x_hat, None, weights)
    # A residual of weight 0 does not tell the value that it came from.
    if work.kept and problem.systematic is None and data.finite and data.missing is None:
        parts = work.field.linears(work.state.beta, work.u, work.kept)
        off = [misfit(s.points, at.r, at.u) for s, at in parts]
        y_hat = data.y + (off[0] if len(off) == 1 else torch.cat(off, 1))
    else:
        with torch.no_grad():
            y_hat = problem.plain()(x_hat, _columns(work)[: len(problem.free)])
    return PointArrays(delta, y_hat - data.y, x_hat, y_hat, weights)


def _columns(work: Work) -> list[Tensor]:
    """Return every unknown at each point (N,)."""
    points, beta = work.field.points, work.state.beta.mT
    return [c.expand(points.n) if points.group is None else c[points.group] for c in beta]


def named_arrays(data: Data, arrays: PointArrays) -> dict[str, Any]:
    """Return arrays per point in the user's shapes and order, by name."""
    give = give_tensor if data.as_torch else give_array
    eps, y_hat, weights = arrays.eps, arrays.y_hat, arrays.weights
    return {
        "delta": give(data, arrays.delta, data.vector_x),
        "x_hat": give(data, arrays.x_hat, data.vector_x),
        "eps": None if eps is None else give(data, eps, data.vector_y),
        "y_hat": None if y_hat is None else give(data, y_hat, data.vector_y),
        "weights": even_weights(data) if weights is None else give(data, weights, True),
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


def _message(status: Status, problem: Problem, found: Spread, moved: NDArray[np.int64]) -> str:
    told = message_of(status, sought=bool(problem.free))
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
    end: End,
    found: Spread,
    rows: Rows,
    shared: dict[str, Any],
    began: float,
) -> FitResult:
    names = problem.model.names
    status = Status(int(rows.status[0]))
    given_up = ""
    if status == Status.SINGULAR:
        given_up = weightless(shared["loss"], shared["loss_scale"], shared["weights"])
    keep = problem.data.as_torch
    held = rows.held[0].tolist()
    return FitResult(
        params=dict(zip(names, rows.params[0].tolist(), strict=True)),
        stderr=dict(zip(names, rows.stderr[0].tolist(), strict=True)),
        cov=rows.cov[0] if keep else rows.cov[0].cpu().numpy(),
        chi2=float(rows.chi2[0]),
        dof=int(rows.dof[0]),
        mswd=float(rows.mswd[0]),
        p_value=float(rows.p_value[0]),
        status=status,
        success=status.ok,
        message=given_up or _message(status, problem, found, shared["moved"]),
        n_steps=int(end.n_steps[0]),
        n_eval=int(end.n_eval[0]),
        condition=float(found.condition[0]),
        rank=int(found.rank[0]),
        at_bound=tuple(n for n, h in zip(names, held, strict=True) if h),
        seconds=time.perf_counter() - began,
        **shared,
    )


def _table(
    problem: Problem,
    end: End,
    found: Spread,
    rows: Rows,
    shared: dict[str, Any],
    began: float,
) -> FitTable:
    data, names = problem.data, problem.model.names

    def give(t: Tensor) -> Any:
        return t if data.as_torch else t.cpu().numpy()

    bad = (rows.status == Status.TOO_FEW_POINTS) | (rows.status == Status.BAD_DATA)
    any_bad = bool(bad.any())

    def blank(t: Tensor) -> Tensor:
        """Write NaN for groups that were never fitted."""
        return torch.where(bad.reshape(-1, *[1] * (t.ndim - 1)), torch.nan, t) if any_bad else t

    status = rows.status.cpu().numpy()
    if any_bad:
        shared = {
            **shared,
            "scale": give(
                blank(torch.as_tensor(shared["scale"], dtype=torch.float64, device="cpu"))
            ),
        }
    return FitTable(
        keys=data.keys,
        group=_groups(data),
        params={n: give(c) for n, c in zip(names, blank(rows.params).mT, strict=True)},
        stderr={n: give(c) for n, c in zip(names, blank(rows.stderr).mT, strict=True)},
        cov=give(blank(rows.cov)),
        chi2=give(blank(rows.chi2)),
        dof=rows.dof.cpu().numpy(),
        mswd=give(blank(rows.mswd)),
        p_value=give(blank(rows.p_value)),
        status=status,
        success=(status > 0) & (status < 10),
        n_steps=end.n_steps.cpu().numpy(),
        n_eval=end.n_eval.cpu().numpy(),
        condition=give(found.condition),
        rank=found.rank.cpu().numpy(),
        at_bound=rows.held.cpu().numpy(),
        seconds=time.perf_counter() - began,
        **shared,
    )


def _groups(data: Data) -> NDArray[np.int64]:
    """Return the group of every row of the user, -1 for rows left out."""
    if data.group is not None and data.kept is None:
        return as_numpy(data.group).copy()
    group = np.full(data.n_rows, -1, dtype=np.int64)
    if data.group is not None:
        group[as_numpy(data.index)] = as_numpy(data.group)
    return group
