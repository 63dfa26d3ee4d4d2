"""The question behind a result, put to the engine once more."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._data import gather
from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Options, Work
from gradfit._problem import Problem, state_problem
from gradfit._promise import check_model
from gradfit._robust import at_scale, distances_of_work, factors
from gradfit._types import FloatArray
from gradfit._views.fitted import Fitted, rows
from gradfit.errors import InputError


@dataclass(frozen=True, eq=False)
class Case:
    """A fit that can be done again.

    Attributes
    ----------
    problem : Problem
        Data and model, in the engine's terms; of a robust fit at its scale.
    loss : Loss or None
        Robust loss.
    beta : Tensor (1, p)
        All unknowns at the solution.
    work : Work
        The engine at the solution.
    scale : Tensor (1,)
        Factor of the sigmas that the problem has already: that of a robust fit, else 1.
    """

    problem: Problem
    loss: Loss | None
    beta: Tensor
    work: Work
    scale: Tensor

    @property
    def p(self) -> int:
        """Number of free parameters."""
        return len(self.problem.free)

    def told(self, beta: Tensor) -> Tensor:
        """Return all parameters (B, P) as they are told, from free ones (B, p)."""
        problem, free = self.problem, dict(zip(self.problem.free, beta.mT, strict=True))
        columns = [
            free[n] if n in free else beta.new_full((len(beta),), problem.fixed[n])
            for n in problem.model.names
        ]
        ties = problem.model.ties
        if ties is not None:
            columns = ties.settle(columns, problem.data.x.mean(1))
        return torch.stack(columns, 1)

    @cached_property
    def jacobian(self) -> Tensor:
        """Derivatives (P, p) of the parameters that are told by the free ones."""
        with torch.enable_grad():
            J = torch.autograd.functional.jacobian(self._tell, self.beta[0, : self.p])
        return cast(Tensor, J)

    def size(self, fit: Fitted, kind: str) -> float:
        """Return by how much an inverse information of that kind is to be multiplied."""
        if self.loss is None:
            return 1.0 if fit.absolute_sigma else fit.mswd
        free = torch.ones(1, self.p + self.problem.n_hidden, dtype=torch.bool, device="cpu")
        free[0, : self.p] = torch.tensor(
            [n not in fit.at_bound for n in self.problem.free], dtype=torch.bool, device="cpu"
        )
        phi = distances_of_work(self.work)
        return float(factors(self.problem, free, kind, self.loss, phi))

    def bend(self, cov: Tensor) -> Tensor:
        """Return what the curvature of :meth:`told` adds to the mean (P,) for such a covariance."""
        at = self.beta[0, : self.p]
        if self.problem.model.ties is None:
            return at.new_zeros(len(self.problem.model.names))
        with torch.enable_grad():
            H = [
                torch.autograd.functional.hessian(lambda b, j=j: self._tell(b)[j], at)
                for j in range(len(self.problem.model.names))
            ]
        return (torch.stack(cast(list[Tensor], H)) * cov).sum((1, 2)) / 2

    def _tell(self, beta: Tensor) -> Tensor:
        return self.told(beta[None])[0]

    @property
    def extra(self) -> int:
        """Rows of x that are sizes of errors which points share."""
        errors = self.problem.systematic
        return 0 if errors is None else len(errors.sizes)

    @property
    def n(self) -> int:
        """Number of points."""
        return self.problem.points.n

    @cached_property
    def measured(self) -> Tensor:
        """Equations (q, N) that count: False where a response was not measured."""
        gone = self.problem.data.missing
        if gone is None:
            return torch.ones(self.problem.n_equations, self.n, dtype=torch.bool, device="cpu")
        return ~gone


def restate(fit: Fitted, asked: str, determined: bool = True) -> Case:
    """Return the fit as the engine sees it, settled once more at its solution.

    Parameters
    ----------
    fit : FitResult
    asked : str
        What needs it, for errors.
    determined : bool
        Whether every parameter must be.

    Raises
    ------
    InputError
        The fit has no solution, is a part of a joint one, or leaves parameters open.
    """
    _refuse(fit, asked, determined)
    known = 1.0 if fit.loss == "linear" else fit.sigma_factor
    scale = torch.tensor([known], dtype=torch.float64, device="cpu")
    problem = at_scale(_problem(fit), scale)
    free = [fit.params[n] for n in problem.free]
    beta = torch.tensor([free], dtype=torch.float64, device="cpu")
    loss = None if fit.loss == "linear" else Loss(fit.loss, fit.loss_scale)
    with torch.enable_grad():
        problem = check_model(problem, beta)
        beta = problem.unknowns(beta)
        field = Field.of(
            problem.points, problem.function(), 1, beta.shape[1], loss, problem.prior()
        )
        work = run(init(field, beta, _feet(fit, problem)), Options(), problem.limits())
    return Case(problem, loss, work.state.beta, work, scale)


def _refuse(fit: Fitted, asked: str, determined: bool) -> None:
    if fit.shared:
        raise InputError(
            f"{asked} needs a fit of its own; this one shares {', '.join(fit.shared)} with others."
        )
    if fit.correction:
        raise InputError(
            f"{asked} describes the minimum of chi-square, and bias_correction moved this fit off "
            "it. Fit without."
        )
    if not all(math.isfinite(value) for value in (*fit.params.values(), fit.chi2)):
        raise InputError(f"{asked} needs a solution; this fit ended with {fit.status.name}.")
    free = len(fit.names) - len(fit.fixed) - len(_held(fit)) - len(fit.at_bound)
    if fit.rank < free and not fit.success and determined:
        raise InputError(f"{asked} needs data that determine every parameter: {fit.message}.")


def _held(fit: Fitted) -> tuple[str, ...]:
    """Return parameters that are held because they follow from others."""
    return () if fit.model.ties is None else fit.model.ties.held(fit.params)


def _problem(fit: Fitted) -> Problem:
    seen = fit.observed
    keep = np.flatnonzero(np.isfinite(rows(fit.x_hat)).all(0))
    n = seen.x.shape[-1]

    def part(values: Any, axis: int = -1) -> Any:
        of_points = isinstance(values, np.ndarray) and values.shape[axis] == n
        return np.take(values, keep, axis) if of_points else values

    V = None if seen.cov is None else np.moveaxis(part(seen.cov), -1, 0)
    if V is not None and len(V) == 1:
        V = V[0]
    x, y, sx, sy, rho = map(part, (seen.x, seen.y, seen.sx, seen.sy, seen.rho))
    # Responses that were not measured are NaN, and are left out again.
    data = gather(x, y, sx, sy, rho, V, nan_policy="omit")
    data = replace(data, x_names=seen.x_names, y_names=seen.y_names)
    problem = state_problem(
        data,
        fit.model,
        fixed={name: fit.params[name] for name in (*fit.fixed, *_held(fit))},
        bounds=fit.bounds,
        fix_x=None,
        absolute_sigma=fit.absolute_sigma,
        systematic=_components(part(seen.systematic), data.x.shape[0], seen.y is not None),
    )
    kept = None if len(keep) == n else torch.from_numpy(keep)
    return replace(problem, data=replace(data, kept=kept, n_rows=n))


def _components(shifts: FloatArray | None, m: int, explicit: bool) -> list[dict[str, Any]] | None:
    if shifts is None:
        return None
    return [{"x": s[:m], "y": s[m:]} if explicit else {"x": s} for s in shifts]


def _feet(fit: Fitted, problem: Problem) -> Tensor | None:
    """Return the whitened foot points (mu, N) of a result, so that none is looked for again."""
    points = problem.points
    if problem.systematic is not None or not points.rows:
        return None
    moved = rows(fit.delta) if fit.eps is None else np.concatenate([rows(fit.delta), rows(fit.eps)])
    wanted = torch.tensor(points.rows, dtype=torch.int64, device="cpu"), problem.data.index
    delta = torch.from_numpy(np.array(moved))[wanted[0]][:, wanted[1]]
    return unscaled(points, delta)


def unscaled(points: Points, delta: Tensor) -> Tensor:
    """Return ``u`` (mu, N) with ``L_x u = delta``, the shortest one."""
    scale = points.scale_x
    if scale.ndim == 2:
        return torch.where(scale > 0, delta / scale, 0.0)
    inverse = torch.linalg.pinv(scale.permute(2, 0, 1))
    return (inverse @ delta.mT[..., None])[..., 0].mT
