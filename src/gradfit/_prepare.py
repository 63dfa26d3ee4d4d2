"""Fits of one kind, again and again: all that is the same for each is done once."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._answer import answer_of, answer_of_work
from gradfit._asked import choose_loss, options_of
from gradfit._conclude import conclude
from gradfit._conclude_one import conclude_fitted
from gradfit._data import gather
from gradfit._data.arrays import to_rows
from gradfit._data.checks import refuse_nonfinite
from gradfit._data.synonyms import understood
from gradfit._dispatch import alone, choose, make_plan
from gradfit._engine.covariance import spread
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Options
from gradfit._formula import Formula
from gradfit._frozen import freeze
from gradfit._model import Model, as_model
from gradfit._native.cpu import fit
from gradfit._native.ending import TOLD
from gradfit._native.plan import Fitted, Plan
from gradfit._problem import Problem, start_of, state_problem
from gradfit._promise import check_model
from gradfit._result import FitResult, FitTable
from gradfit._robust import Ready, by_machine, make_ready
from gradfit._solve import name_moved, solve
from gradfit._types import STATUSES, FloatArray, Status
from gradfit._unfit import unfit
from gradfit._verdict import is_clear, look_again
from gradfit.errors import InputError, ModelError
from gradfit.graph.surroundings import undisturbed, undisturbed_methods


@undisturbed_methods
@dataclass(frozen=True, eq=False)
class PreparedFit:
    """One of many fits, with what is asked for most; :attr:`full` has the rest.

    Attributes
    ----------
    params : dict of str to float
        All parameters, the fixed ones too.
    chi2 : float
        Weighted squared distance.
    dof : int
        Degrees of freedom.
    status : Status
        How the fit ended.
    n_steps : int
        Steps tried.
    """

    params: dict[str, float]
    chi2: float
    dof: int
    status: Status
    n_steps: int
    _kind: "_Kind" = field(repr=False)
    _fitted: Fitted | None = field(repr=False)
    _x: Tensor = field(repr=False)
    _y: Tensor | None = field(repr=False)
    _as_torch: bool = field(repr=False)
    _ready: Ready | None = field(repr=False, default=None)

    @property
    def success(self) -> bool:
        """Whether the fit converged."""
        return self.status.ok

    @cached_property
    def full(self) -> FitResult | FitTable:
        """The result as :func:`gradfit.fit` gives it."""
        kind, fitted, began = self._kind, self._fitted, time.perf_counter()
        problem, loss = kind.with_data(self._x, self._y, self._as_torch), kind.loss
        if fitted is None:
            return kind.evaluated(problem, began)
        one = conclude_fitted(problem, fitted, loss, "expected", began)
        if one is not None:
            return one
        ready, scaled, beta0 = self._ready, problem, kind.beta0
        if ready is not None:
            scaled, beta0 = replace(problem, points=ready.problem.points), ready.beta0
        moved = name_moved(scaled, beta0, kind.options, loss, fitted.column(4))
        answer = answer_of(fitted, scaled, loss, "expected", moved)
        return conclude(
            problem,
            answer.end if ready is None else answer.end.after(ready),
            answer.found,
            answer.arrays,
            moved=answer.moved,
            cov_type="expected",
            loss=loss,
            backend=answer.backend,
            began=began,
            scale=None if ready is None else ready.scale,
        )

    @property
    def cov(self) -> FloatArray:
        """Covariance of all parameters."""
        return np.asarray(self.full.cov)

    @property
    def stderr(self) -> Mapping[str, Any]:
        """Standard errors of all parameters."""
        return self.full.stderr


class Fitter:
    """A model with its errors and options, ready for data; made by :func:`prepare`."""

    def __init__(
        self,
        model: Callable[..., Tensor] | str | Model,
        start: Any,
        given: Mapping[str, Any],
        asked: Mapping[str, Any],
        loss: Loss | None,
    ) -> None:
        self.model = model
        self._start, self._given, self._loss = start, given, loss
        self._asked = dict(asked)
        self._options = options_of(**{k: self._asked.pop(k) for k in _TOLERANCES})
        self._kinds: dict[Any, _Kind] = {}

    @undisturbed
    def __call__(self, x: Any, y: Any = None) -> PreparedFit:
        """Fit the model to points, from the start values that were prepared.

        Parameters
        ----------
        x : array-like (N,) or (m, N)
            Observed x.
        y : array-like (N,) or (q, N), optional
            Observed y; left out for an implicit model.
        """
        # The rest of the result is made when it is asked for; by then x and y may hold other data.
        at_x, vector_x, finite_x = to_rows("`x`", _copy(x), None)
        at_y, vector_y, finite_y = _NO_ROWS if y is None else to_rows("`y`", _copy(y), None)
        of_y = () if at_y is None else (at_y.shape, vector_y, at_y.is_cpu)
        key = at_x.shape, vector_x, at_x.is_cpu, of_y
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._look(x, y)
        if not (finite_x and finite_y):
            for name, values in (("`x`", at_x), ("`y`", kind.filled(at_y))):
                if values is not None:
                    refuse_nonfinite(name, values, "Leave such points out.")
        at = at_x, at_y, isinstance(x, Tensor) or isinstance(y, Tensor)
        if kind.plan is None:
            return kind.evaluate(*at)
        points, ready = kind.points(at_x, at_y), None
        if kind.loss is None:
            fitted = fit(kind.plan, points, alone(at_x.shape[-1]), kind.beta0)
        else:
            ready, fitted = kind.robust(kind.plan, points, kind.loss)
        told = fitted.first
        problem, p, n = kind.problem, fitted.p, at_x.shape[-1]
        if not is_clear(told, p, n * fitted.spec.q, problem.absolute):
            seen = kind.with_data(at_x, at_y, False)
            told = look_again(
                fitted, seen, kind.loss, torch.tensor([n], dtype=torch.int64, device="cpu")
            ).first
        sought = int(sum(told[-p:])) - problem.redundant
        values = dict(zip(problem.free, told[TOLD : TOLD + p], strict=True))
        if problem.fixed:
            values = {n: problem.fixed[n] if n in problem.fixed else values[n] for n in kind.names}
        fields: dict[str, Any] = {
            "params": values,
            "chi2": told[3] if ready is None else told[3] * float(ready.scale) ** 2,
            "dof": problem.n_seen - sought,
            "status": Status.SINGULAR if told[0] < 10 and told[6] < sought else STATUSES[told[0]],
            "n_steps": int(told[1]) if ready is None else int(told[1] + ready.n_steps),
            "_kind": kind,
            "_fitted": fitted,
            **dict(zip(_GIVEN, at, strict=True)),
            "_ready": ready,
        }
        return freeze(PreparedFit, fields)

    def _look(self, x: Any, y: Any) -> "_Kind":
        """Do once for data of one shape what does not depend on them."""
        observed = gather(x, y, *(self._given[k] for k in ("sx", "sy", "rho", "cov")))
        # Of a formula only the data tell how many variables there are.
        model = as_model(self.model, observed.x_names)
        problem = state_problem(replace(observed, as_torch=False), model, **self._asked)
        with torch.enable_grad():
            beta0 = start_of(problem, self._start if problem.free else {})
            if beta0 is None:
                raise InputError("`start` must be given: it is the same for all fits.")
            problem = check_model(problem, beta0)
            unfit(problem)
            if not problem.free:
                return _Kind(problem, beta0, None, self._options, self._loss)
            kernels = choose(problem, beta0, self._loss, "native", None)
        if isinstance(kernels, str):
            raise ModelError(
                f"the model {model.label!r} cannot be prepared: {kernels}. Use gradfit.fit."
            )
        plan = make_plan(kernels, problem, self._options, self._loss)
        return _Kind(problem, beta0, plan, self._options, self._loss)


@dataclass(frozen=True, eq=False)
class _Kind:
    """What fits of data of one shape have in common."""

    problem: Problem
    beta0: Tensor
    plan: Plan | None
    options: Options
    loss: Loss | None

    def evaluate(self, x: Tensor, y: Tensor | None, as_torch: bool) -> PreparedFit:
        """Return what the points say of a model of which nothing is left to fit."""
        result = self.evaluated(self.with_data(x, y, as_torch), time.perf_counter())
        fields: dict[str, Any] = {
            **{k: getattr(result, k) for k in ("params", "chi2", "dof", "status", "n_steps")},
            "_kind": self,
            "_fitted": None,
            **dict(zip(_GIVEN, (x, y, as_torch), strict=True)),
        }
        return freeze(PreparedFit, fields)

    def evaluated(self, problem: Problem, began: float) -> FitResult | FitTable:
        """Return the same as a whole result."""
        with torch.enable_grad():
            work, moved = solve(problem, self.beta0, self.options, self.loss)
            found = spread(work, "expected", problem.limits())
            answer = answer_of_work(work, found, problem, moved)
        return conclude(
            problem,
            answer.end,
            answer.found,
            answer.arrays,
            moved=moved,
            cov_type="expected",
            loss=self.loss,
            backend=answer.backend,
            began=began,
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        return self.problem.model.names

    def robust(self, plan: Plan, points: Points, loss: Loss) -> tuple[Ready, Fitted]:
        """Fit points by a robust loss, at their own scale."""
        problem, kernels = replace(self.problem, points=points), plan.kernels
        run = by_machine(problem, self.options, kernels, loss)
        with torch.enable_grad():
            ready = make_ready(problem, self.beta0, loss, run)
        return ready, fit(plan, ready.problem.points, alone(points.n), ready.beta0)

    def points(self, x: Tensor, y: Tensor | None) -> Points:
        """Return points at x (m, N) and y (q, N)."""
        _, _, rows, scale, weight, cross, group = self.problem.points
        y = self.filled(y)
        if self.problem.joined and y is not None:
            return Points(torch.cat([x, y]), None, rows, scale, weight, cross, group)
        return Points(x, y, rows, scale, weight, cross, group)

    def filled(self, y: Tensor | None) -> Tensor | None:
        """Return y with 0 where an infinite ``sy`` says that nothing was measured."""
        gone = self.problem.data.missing
        return y if gone is None or y is None else torch.where(gone, 0.0, y)

    def with_data(self, x: Tensor, y: Tensor | None, as_torch: bool) -> Problem:
        """Return the problem with other data."""
        gone = self.problem.data.missing
        if gone is not None and y is not None:
            y = torch.where(gone, torch.nan, y)
        data = replace(self.problem.data, x=x, y=y, as_torch=as_torch)
        return replace(self.problem, data=data, points=self.points(x, y))


_NO_ROWS = None, True, True


def _copy(value: Any) -> Any:
    """Return what does not change when the user's arrays do."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {name: _copy(each) for name, each in value.items()}
    if value is None or isinstance(value, int | float | str):
        return value
    try:
        return copy.copy(value) if isinstance(value, np.ndarray) else copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - what cannot be copied is refused as what it is
        return value


_GIVEN = ("_x", "_y", "_as_torch")
_TOLERANCES = ("gtol", "ftol", "xtol", "max_steps")


@understood
@undisturbed
def prepare(
    model: Callable[..., Tensor] | str | Model,
    *,
    start: Any,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    cov: Any = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    fix_x: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    max_steps: int = 500,
    gtol: float = 1e-11,
    ftol: float = 0.0,
    xtol: float = 0.0,
) -> Fitter:
    """Prepare fits of one model to many data of the same shape, one after the other.

    The model is compiled, and checked, with the first data; a model that reads what changes later
    is taken as it was then. The arguments are those of :func:`gradfit.fit`.

    Returns
    -------
    Fitter
        ``fitter(x, y)`` gives a :class:`PreparedFit`.

    Raises
    ------
    InputError
        An argument is wrong.
    ModelError
        When first called: the model cannot become machine code.

    Examples
    --------
    >>> import gradfit as gf
    >>> fitter = gf.prepare("a + b*x", start={"a": 5, "b": 0})
    >>> x = [0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4]
    >>> fit = fitter(x, [5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
    >>> print(f"{fit.params['b']:.6f} {fit.stderr['b']:.4f}")
    -0.545561 0.0422
    """
    robust = choose_loss(loss)
    start, fixed, bounds, fix_x = (_copy(each) for each in (start, fixed, bounds, fix_x))
    given = {k: _copy(v) for k, v in {"sx": sx, "sy": sy, "rho": rho, "cov": cov}.items()}
    asked = {"fixed": fixed, "bounds": bounds, "fix_x": fix_x, "absolute_sigma": absolute_sigma}
    tolerances = {"gtol": gtol, "ftol": ftol, "xtol": xtol, "max_steps": max_steps}
    if isinstance(model, str) and not model.strip().isidentifier():
        Formula(model)
    else:
        model = as_model(model)
    return Fitter(model, start, given, {**asked, **tolerances}, robust)
