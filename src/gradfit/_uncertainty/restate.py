"""The question behind a result, put to the engine once more."""

import math
from dataclasses import dataclass, replace
from typing import Any

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
from gradfit._types import FloatArray
from gradfit._views.fitted import Fitted, rows
from gradfit.errors import InputError


@dataclass(frozen=True, eq=False)
class Case:
    """A fit that can be done again.

    Attributes
    ----------
    problem : Problem
        Data and model, in the engine's terms.
    loss : Loss or None
        Robust loss.
    beta : Tensor (1, p)
        All unknowns at the solution.
    work : Work
        The engine at the solution.
    at : tuple of int
        Places of the free parameters among all.
    """

    problem: Problem
    loss: Loss | None
    beta: Tensor
    work: Work
    at: tuple[int, ...]

    @property
    def p(self) -> int:
        """Number of free parameters."""
        return len(self.at)

    @property
    def n(self) -> int:
        """Number of points."""
        return self.problem.points.n


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
    problem = _problem(fit)
    free = [fit.params[n] for n in problem.free]
    beta = torch.tensor([free], dtype=torch.float64)
    loss = None if fit.loss == "linear" else Loss(fit.loss, fit.loss_scale)
    with torch.enable_grad():
        problem = check_model(problem, beta)
        beta = problem.unknowns(beta)
        field = Field.of(
            problem.points, problem.function(), 1, beta.shape[1], loss, problem.prior()
        )
        work = run(init(field, beta, _feet(fit, problem)), Options(), problem.limits())
    at = tuple(problem.model.names.index(n) for n in problem.free)
    return Case(problem, loss, work.state.beta, work, at)


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
    free = len(fit.names) - len(fit.fixed) - len(fit.at_bound)
    if fit.rank < free and fit.success:
        raise InputError(
            f"{asked} needs parameters that stand on their own; in {fit.model.label!r} some follow "
            "from the others."
        )
    if fit.rank < free and determined:
        raise InputError(f"{asked} needs data that determine every parameter: {fit.message}.")


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
    data = gather(part(seen.x), part(seen.y), part(seen.sx), part(seen.sy), part(seen.rho), V)
    data = replace(data, x_names=seen.x_names, y_names=seen.y_names)
    problem = state_problem(
        data,
        fit.model,
        fixed={name: fit.params[name] for name in fit.fixed},
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
    wanted = torch.tensor(points.rows), problem.data.index
    delta = torch.from_numpy(np.array(moved))[wanted[0]][:, wanted[1]]
    return unscaled(points, delta)


def unscaled(points: Points, delta: Tensor) -> Tensor:
    """Return ``u`` (mu, N) with ``L_x u = delta``, the shortest one."""
    scale = points.scale_x
    if scale.ndim == 2:
        return torch.where(scale > 0, delta / scale, 0.0)
    inverse = torch.linalg.pinv(scale.permute(2, 0, 1))
    return (inverse @ delta.mT[..., None])[..., 0].mT
