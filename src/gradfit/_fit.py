"""``fit()``: from what a user has and wants to an answer. The only place that builds a result."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._answer import Answer, answer_of, answer_of_work, left_out
from gradfit._asked import choose_cov_type, choose_loss, options_of, other_columns, refuse_unknown
from gradfit._begin import Found, find_start, lower_minimum, refuse_points
from gradfit._conclude import End, conclude, places
from gradfit._conclude_one import conclude_fitted, conclude_work
from gradfit._data import gather
from gradfit._data.checks import shown, to_flag
from gradfit._data.synonyms import understood
from gradfit._dispatch import attempt, choose, device_for, note_of, note_time
from gradfit._dispatch import run as run_native
from gradfit._engine.covariance import spread
from gradfit._engine.determined import judge
from gradfit._engine.loop import Report
from gradfit._engine.loss import Loss
from gradfit._engine.state import Options
from gradfit._model import Model, as_model
from gradfit._native.plan import Fitted, Kernels
from gradfit._problem import Problem, start_of, state_problem
from gradfit._promise import check_model
from gradfit._result import FitResult, FitTable
from gradfit._robust import Ready, by_machine, by_torch, distances_of_work, make_ready, with_errors
from gradfit._solve import name_moved, solve
from gradfit._types import Status
from gradfit._uncertainty.unbias import take_off
from gradfit._unfit import refuse_bad_start, unfit
from gradfit._views.residuals import listed
from gradfit.errors import ConvergenceWarning, GradfitWarning, InputError
from gradfit.graph.surroundings import undisturbed

CovType = Literal["expected", "observed", "propagated", "sandwich", "HC0", "HC3"]


@dataclass(frozen=True)
class FitStep:
    """What ``on_step`` is told after every step.

    Attributes
    ----------
    n_steps : int
        Steps so far, of the fit that has taken most.
    n_running : int
        Fits that have not ended.
    params : dict of str to float or Tensor
        Free parameters now; one value per group in a table of fits.
    chi2 : float or Tensor
        Weighted squared distance now.
    """

    n_steps: int
    n_running: int
    params: dict[str, Any]
    chi2: Any


@understood
@undisturbed
def fit(
    model: Callable[..., Tensor] | str | Model,
    x: Any = None,
    y: Any = None,
    *,
    data: Any = None,
    start: Mapping[str, Any] | Sequence[Any] | None = None,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    cov: Any = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    fix_x: Any = None,
    groups: Any = None,
    shared: Sequence[str] | str | None = None,
    systematic: Any = None,
    cov_joint: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    bias_correction: bool = False,
    nan_policy: Literal["raise", "omit"] = "raise",
    backend: Literal["auto", "eager", "native", "cuda"] = "auto",
    device: str | torch.device | None = None,
    on_step: Callable[[FitStep], None] | None = None,
    max_steps: int = 500,
    gtol: float = 1e-11,
    ftol: float = 0.0,
    xtol: float = 0.0,
) -> FitResult | FitTable:
    r"""Fit a model to points with errors in every variable.

    Minimises the weighted squared distance from the points to the curve,

    .. math::  \chi^2 = \sum_i (\hat z_i - z_i)^T V_i^{-1} (\hat z_i - z_i), \qquad
               \hat y_i = f(\hat x_i;\, a, b, \dots),

    over the parameters and the foot points :math:`\hat z_i = (\hat x_i, \hat y_i)` together, with
    derivatives from the model's own graph.

    Parameters
    ----------
    model : callable, str or Model
        ``f(x, a, b, ...)`` in torch operations, a formula such as ``"a*exp(-b*x) + c"``, or the
        name of a built-in model. Without ``y`` it is implicit: zero on the curve. Of several
        responses there is one formula each, with commas between: ``"a*x, a*x**2 + b"``.
    x, y : array-like, or column names with ``data``
        Observations: x ``(N,)`` or ``(m, N)``, y ``(N,)`` or ``(q, N)``, each in its own unit.
    data : data frame or mapping, optional
        Where ``x``, ``y``, ``sx``, ``sy``, ``rho``, ``groups`` and ``systematic`` name columns.
    start : mapping or sequence, optional
        Start values; left out, they are found by a search, for any model. Of a poor fit with known
        errors ``message`` says if a search ends lower.
    sx, sy : number or array-like, optional
        Standard deviations in the units of x and y; 0 means exact. With neither ``sx``, ``sy``
        nor ``cov`` all are 1; once one is given, what is not given is exact. An infinite ``sy``
        of one of several responses says that this response was not measured at that point.
    rho : number or array-like, optional
        Correlation of the errors of x and y at a point.
    cov : array-like, optional
        Joint covariance of (x, y): ``(k, k)`` or ``(N, k, k)``, ``k = m + q``; may be singular. Of
        a response that was not measured, which an infinite variance tells, the rest is left.
    fixed : mapping, optional
        Parameters that are not fitted, with their values; of all, to evaluate a curve.
    bounds : mapping, optional
        ``{"b": (0, None)}``: limits of parameters.
    fix_x : bool or array-like of bool, optional
        Coordinates of x to take as exact.
    groups : array-like, optional
        Label of the fit that each point belongs to: one fit per label, in one call.
    shared : sequence of str, optional
        Parameters that all groups have in common: one joint fit, whose chi-square, degrees of
        freedom and status all rows of the table share. It leaves no group out: each needs points
        enough for its own parameters.
    systematic : sequence of mappings, optional
        Errors that points share, each ``{"x": ..., "y": ...}`` with one-sigma shifts in the units
        of x and y, a number or one per point: a calibration error, a common offset. Each group has
        its own.
    cov_joint : array-like, optional
        Covariance over all points at once, ``((m+q)*N, (m+q)*N)``: all of ``x[0]``, then ``x[1]``,
        ..., then y. The work grows with the cube of its size.
    loss : str or (str, float)
        ``"linear"``, or a robust loss of the distance in sigmas: ``"huber"``, ``"soft_l1"``,
        ``"cauchy"``, ``"tukey"``, with a scale of your own as ``("huber", 2.0)``. Left out it is
        1.345, 1.0, 2.385 and 4.685 sigmas in this order, which for normal errors keeps 95 % of the
        efficiency of least squares; 92.7 % for ``"soft_l1"``. Where sigmas are relative or not
        given the points tell their scale, 1.4826 times the median distance, together with the fit.
        Standard errors come from the distances.
    absolute_sigma : bool, optional
        True takes sigmas as they are, False scales the covariance by ``mswd``, and of a robust loss
        the distances by their median. Default: True if any of ``sx``, ``sy``, ``rho``, ``cov`` is
        given.
    cov_type : str
        ``"expected"``, ``"observed"``, ``"propagated"``, ``"sandwich"`` (which is HC0, and may be
        called so) or ``"HC3"``. The last two hold the residuals and are never scaled by ``mswd``.
    bias_correction : bool
        Take off the bias of second order that the curvature of the model causes; the result keeps
        it as ``correction``. Foot points and chi-square are then those at the corrected parameters.
    nan_policy : str
        ``"raise"`` tells where NaN or inf stand, ``"omit"`` leaves those rows out; of several
        responses only those that are NaN or inf, and the row if its x is, or no response is left.
    backend : str
        ``"eager"`` runs torch operations. ``"native"`` makes machine code of the model, once, and
        runs that: the same steps and answers, many times faster; where it cannot, ``message`` says
        why. ``"cuda"`` does that on a GPU, for many fits. ``"auto"`` is native, or cuda for data on
        a GPU, when that is there already or worth its while.
    device : str, optional
        Where to compute; default is where the data are.
    on_step : callable, optional
        Called with a :class:`FitStep` after every step; raise ``StopFit`` to stop.
    max_steps : int
        Steps taken or refused before a fit gives up.
    gtol, ftol, xtol : float
        Stop when the step still to come would lower chi-square by less than ``gtol**2`` of it,
        when a step lowered it by less than ``ftol`` of it, when every parameter moves by less than
        ``xtol`` of itself; 0 switches a test off. Rounding error always ends a fit.

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given

    Raises
    ------
    InputError
        An argument is wrong; before the model is evaluated, except for a start where it is NaN.
    ModelError
        The model fails, has the wrong shape, mixes points or breaks its graph.

    Notes
    -----
    Gauss-Newton steps with foot points eliminated point by point [1]_, a trust region, and full
    Newton steps where those crawl; :mod:`gradfit._engine.loop` tells the rest.

    References
    ----------
    .. [1] Boggs, Byrd and Schnabel, SIAM J. Sci. Stat. Comput. 8 (1987) 1052.

    Examples
    --------
    >>> import gradfit as gf
    >>> x = [0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4]
    >>> y = [5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5]
    >>> fit = gf.fit("a + b*x", x, y, start={"a": 5, "b": 0})
    >>> print(f"{fit.params['b']:.6f}")
    -0.545561
    """
    began = time.perf_counter()
    options = options_of(gtol, ftol, xtol, max_steps)
    robust = choose_loss(loss)
    kind = choose_cov_type(cov_type)
    refuse_unknown("backend", backend, ("auto", "eager", "native", "cuda"))
    if on_step is not None and not callable(on_step):
        raise InputError(f"`on_step` must be a function of a FitStep, got {shown(on_step)}.")
    to_flag("`bias_correction`", bias_correction)
    device = device_for(backend, device, x)
    observed = gather(
        x, y, sx, sy, rho, cov, groups, data=data, nan_policy=nan_policy, device=device
    )
    others = other_columns(data, observed.x_names, start, fixed, bounds, shared)
    problem = state_problem(
        observed,
        as_model(model, observed.x_names, others),
        fixed=fixed,
        bounds=bounds,
        fix_x=fix_x,
        absolute_sigma=absolute_sigma,
        shared=shared,
        systematic=systematic,
        cov_joint=cov_joint,
        table=data,
    )
    # Of an implicit model the equations are counted only when it has been called.
    ended = None if problem.data.y is None else unfit(problem)
    with nullcontext() if torch.is_grad_enabled() else torch.enable_grad():
        beta0, searched = start_of(problem, start), None
        if beta0 is None:
            searched = find_start(problem, robust, backend)
            beta0 = searched.beta
        problem = check_model(problem, beta0)
        if problem.data.y is None:
            ended = unfit(problem)
        kernels = choose(problem, beta0, robust, backend, on_step)
        if bias_correction:
            kernels = _refuse_bias(problem, robust)
        task = _Task(problem, beta0, options, robust, kind, ended, began)
        result = kernels if isinstance(kernels, str) else _by_machine(task, kernels, backend)
        if isinstance(result, str):
            note = note_of(result, backend, problem.data.group is None)
            result = _by_torch(task, on_step, bias_correction, note)
        if isinstance(result, FitResult):
            result = _with_words(task, result, searched)
    warn_of(result)
    return result


class _Task(NamedTuple):
    """What is to be fitted, and what is asked of it."""

    problem: Problem
    beta0: Tensor
    options: Options
    loss: Loss | None
    cov_type: str
    ended: Tensor | None
    began: float


def _with_words(task: _Task, result: FitResult, searched: Found | None) -> FitResult:
    """Add to the message what a search has to say: of its own end, or of that of a given start."""
    if task.loss is not None:
        # The minima of a loss are compared at one scale, before the fit has its own.
        return result
    if searched is not None:
        told = searched.words(result.params, result.chi2)
    else:
        told = lower_minimum(task.problem, result.params, result.chi2, result.p_value)
    return replace(result, message=f"{result.message}; {told}") if told else result


def _by_machine(task: _Task, kernels: Kernels, backend: str) -> FitResult | FitTable | str:
    """Fit by machine code; return why that failed, where it was not asked for by name."""
    loss, cov_type, options = task.loss, task.cov_type, task.options

    def run() -> tuple[Fitted, Ready]:
        ready = Ready.plain(task.problem, task.beta0, task.ended)
        if loss is not None:
            by = by_machine(task.problem, options, kernels, loss)
            ready = make_ready(task.problem, task.beta0, loss, by, task.ended)
        return run_native(kernels, ready.problem, ready.beta0, options, loss, ready.ended), ready

    done = attempt(task.problem, backend, run)
    if isinstance(done, str):
        return done
    fitted, ready = done
    problem = ready.problem
    if _has_limits(problem, ready.beta0, fitted.column(0) == Status.BAD_START):
        # Where machine code has no derivative torch's graph may have one, in the limit.
        return _by_torch(task, None, False, "")
    one = conclude_fitted(problem, fitted, loss, cov_type, task.began)
    if one is not None:
        return one
    moved = name_moved(problem, ready.beta0, options, loss, fitted.column(4))
    answer = answer_of(fitted, problem, loss, cov_type, moved, kernels.backend)
    _refuse_bad_start(problem, answer.end)
    return _told(task, answer, ready)


def _refuse_bias(problem: Problem, loss: Loss | None) -> str:
    """Raise unless the bias can be told; return why machine code is of no use for it."""
    if loss is not None:
        raise InputError('`bias_correction` needs loss="linear": no bias is known for others.')
    if problem.shared:
        raise InputError("`bias_correction` cannot be used with `shared`.")
    return "it does not tell the bias"


def _by_torch(
    task: _Task, on_step: Callable[[FitStep], None] | None, bias_correction: bool, note: str
) -> FitResult | FitTable:
    began, problem, correction = time.perf_counter(), task.problem, None
    tell, ready = _teller(problem, on_step), Ready.plain(problem, task.beta0, task.ended)
    if task.loss is not None:
        run = by_torch(problem, task.options, tell)
        ready = make_ready(problem, task.beta0, task.loss, run, task.ended)
        problem = ready.problem
    work, moved = solve(
        problem, ready.beta0, task.options, task.loss, ended=ready.ended, on_step=tell
    )
    limits, kind = problem.limits(), task.cov_type
    found = spread(work, kind, limits, relative=not problem.absolute)
    found = judge(work, found, kind, limits, problem.absolute, work.state.status)
    if task.loss is not None:
        found = with_errors(problem, found, kind, task.loss, distances_of_work(work))
    note_time(problem, time.perf_counter() - began)
    if not (bias_correction or note or task.loss):
        one = conclude_work(problem, work, found, moved, task.cov_type, task.began)
        if one is not None:
            return one
    _refuse_bad_start(problem, End.of(work))
    if bias_correction:
        work, correction = take_off(problem, work)
    return _told(task, answer_of_work(work, found, problem, moved), ready, correction, note)


def _told(
    task: _Task,
    answer: Answer,
    ready: Ready | None,
    correction: Tensor | None = None,
    note: str = "",
) -> FitResult | FitTable:
    if task.cov_type != "expected":
        note = _beside(task.problem, answer, note)
    return conclude(
        task.problem,
        answer.end if ready is None else answer.end.after(ready),
        answer.found,
        answer.arrays,
        moved=answer.moved,
        cov_type=task.cov_type,
        loss=task.loss,
        backend=answer.backend,
        began=task.began,
        correction=correction,
        note=note,
        scale=None if ready is None else ready.scale,
    )


def _beside(problem: Problem, answer: Answer, note: str) -> str:
    """Add to a note, or for a table warn, that second derivatives are missing at some points."""
    lost = left_out(answer, problem)
    if not bool(lost.any()):
        return note
    told = (
        f"{listed(places(problem.data, lost))} without second-order term, because the model has no "
        "finite second derivatives there"
    )
    if problem.data.group is not None:
        warnings.warn(told, GradfitWarning, stacklevel=5)
    return f"{note}; {told}" if note else told


def _teller(
    problem: Problem, on_step: Callable[[FitStep], None] | None
) -> Callable[[Report], None] | None:
    if on_step is None:
        return None
    alone = problem.data.group is None

    def tell(report: Report) -> None:
        columns = report.beta.mT[: len(problem.free)]
        values = [c[0].item() for c in columns] if alone else list(columns)
        on_step(
            FitStep(
                report.n_steps,
                report.n_running,
                dict(zip(problem.free, values, strict=True)),
                report.chi2[0].item() if alone else report.chi2,
            )
        )

    return tell


def _has_limits(problem: Problem, beta: Tensor, bad: Tensor) -> bool:
    """Return whether the model is finite in some fits (G,) that could not begin all the same."""
    if not bool(bad.any()):
        return False
    group = problem.points.group
    columns = problem.unknowns(beta).mT
    columns = columns.expand(-1, problem.points.n) if group is None else columns[:, group]
    with torch.no_grad():
        value = problem.function()(problem.points.x, columns.unbind())
    fine = torch.isfinite(value).reshape(-1, problem.points.n).all(0)
    if group is None:
        return bool(fine.all())
    gaps = torch.zeros_like(bad, dtype=torch.int64).index_add_(0, group, (~fine).long())
    return bool((bad & (gaps == 0)).any())


def _refuse_bad_start(problem: Problem, end: End) -> None:
    """Tell where the model or its derivative is NaN or inf at the start of a fit that is alone."""
    if problem.data.group is None and int(end.status[0]) == Status.BAD_START:
        refuse_points(problem)
        refuse_bad_start(problem, end.beta)


def warn_of(result: FitResult | FitTable) -> None:
    """Give one warning that sums up what did not converge."""
    if isinstance(result, FitResult):
        if not result.success:
            warnings.warn(
                f"{result.status.name}: {result.message}", ConvergenceWarning, stacklevel=4
            )
        return
    found, counts = np.unique(result.status, return_counts=True)
    bad = {s: n for s, n in zip(map(Status, found), counts.tolist(), strict=True) if not s.ok}
    if bad:
        told = ", ".join(f"{n} {s.name}" for s, n in bad.items())
        warnings.warn(
            f"{sum(bad.values())} of {len(result.status)} fits did not converge: {told}. "
            "See `status` of each row.",
            ConvergenceWarning,
            stacklevel=4,
        )
