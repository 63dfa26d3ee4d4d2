"""``descend``: check what came, run the loop, and put the result together."""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gradfit._data.synonyms import understood
from gradfit._descend.automatic import IDLE
from gradfit._descend.checkpoint import Checkpoint, random_devices, resume_from
from gradfit._descend.diagnose import Evidence, diagnose
from gradfit._descend.loop import DescentStep, Limits, Run
from gradfit._descend.objective import Batches, Loss, Objective
from gradfit._descend.parameters import Parameters
from gradfit._descend.plan import Plan, Setup, checked_plan, checked_start, set_up, whole
from gradfit._descend.probe import Source, curvature
from gradfit._descend.record import as_table
from gradfit._descend.result import Descent
from gradfit._descend.rules import MakeOptimizer, MakeSchedule
from gradfit._descend.status import DescentStatus
from gradfit._descend.valley import Valley, survey
from gradfit._format import count, number
from gradfit._types import FloatArray
from gradfit.graph.surroundings import undisturbed_in_place

TOLERANCE = 1e-10
NO_MINIMUM = {
    "saddle": DescentStatus.SADDLE,
    "flat": DescentStatus.SINGULAR,
    "stalled": DescentStatus.STALLED,
}
"""Where a gradient vanished without having arrived."""


@understood
@undisturbed_in_place
def descend(
    loss: Loss,
    start: Mapping[str, Any] | nn.Module,
    *,
    lr: float | None = None,
    epochs: int = 1000,
    optimizer: MakeOptimizer = "sgd",
    schedule: MakeSchedule | None = None,
    clip: float | None = None,
    tol: float = TOLERANCE,
    patience: int | None = None,
    data: Batches | None = None,
    clear_grad: bool = True,
    seed: int | None = None,
    progress: bool = False,
    on_step: Callable[[DescentStep], object] | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    record: int = 2000,
) -> Descent:
    r"""Minimise a loss by gradient descent on its own computational graph.

    Every epoch evaluates the loss, walks its graph backwards for the gradient, and steps against
    it, plainly :math:`p \leftarrow p - \mathrm{lr} \cdot \partial L / \partial p`. The best step is
    kept, not the last, and the result says in words how it went and why.

    Parameters
    ----------
    loss : callable
        Returns a tensor with one number, written in torch operations. With a mapping as ``start``
        it takes the parameters by name, ``loss(a, b)``; with a module it takes nothing. With
        ``data`` the batch comes first: ``loss(batch, a, b)``, ``loss(batch)``.
    start : mapping of str to number, array or tensor; or nn.Module
        Where to begin, in the units of the parameters. Numbers become float64; what is given is not
        changed. A module is moved in place and left at its best step; its parameters that require a
        gradient are the ones to find.
    lr : float, optional
        Step size, in units of a parameter squared per unit of the loss. Without it, ``"sgd"`` takes
        automatic steps and other optimizers their own default.
    epochs : int
        How many steps at most; over batches, passes over all of them.
    optimizer : str, class, callable or Optimizer
        A name (``"sgd"``, ``"momentum"``, ``"nesterov"``, ``"adam"``, ``"lbfgs"`` and every other
        of ``torch.optim``), its class, a function ``(params[, lr])`` that makes one, or, for a
        module, an optimizer of its parameters.
    schedule : str or callable, optional
        How ``lr`` changes: ``"constant"``; ``"step"`` (a tenth after each third of the epochs);
        ``"exponential"`` (to 1 % in the end); ``"cosine"`` (to 0); ``"plateau"`` (halved when the
        loss did not improve for 10 epochs); a function of the optimizer that makes a scheduler of
        ``torch.optim.lr_scheduler``. ``"auto"`` needs no ``lr``: nonlinear conjugate gradients with
        a line search [1]_, that is descent with momentum, both numbers found anew at each step.
    clip : float, optional
        Gradients with a larger norm are shortened to this norm.
    tol : float
        Converged when the norm of the gradient has fallen to this share of the largest one on the
        way; with automatic steps, when several in a row promise to lower the loss by less than
        ``tol**2`` of it, or many did not lower it at all. Either way the curvature must agree that
        nothing is left to gain, where it can be had. Not asked over batches.
    patience : int, optional
        Stop when the best loss did not improve for so many epochs.
    data : DataLoader or list of batches, optional
        One update per batch. The loss of an epoch is then evaluated at its end over all batches, as
        their mean by rows.
    clear_grad : bool
        False leaves out clearing the gradients, so that they add up from step to step: a mistake
        worth seeing once.
    seed : int, optional
        Seed of torch's random numbers for this descent; those outside it stay as they are.
    progress : bool
        Show a progress bar on standard error.
    on_step : callable, optional
        Called with a :class:`DescentStep` at every step; may raise :class:`~gradfit.errors.StopFit`
        to end.
    checkpoint : path, optional
        Save the state there every few seconds and at the end.
    resume : path, optional
        Go on from a checkpoint, to the same result bit for bit as without the interruption.
    record : int
        How many steps to record at most; a longer way is thinned evenly.

    Returns
    -------
    Descent

    Raises
    ------
    InputError
        An argument is wrong; says which and why, before anything is evaluated.
    ModelError
        The loss fails at the start, is no scalar, or its graph never reaches the parameters.

    Notes
    -----
    A loss that becomes NaN or inf, or grows without end, stops the descent; so does Ctrl-C. The
    best step so far is kept in every case, and ``status`` and ``message`` say what happened.

    References
    ----------
    .. [1] Hager and Zhang, SIAM Journal on Optimization 16 (2005) 170.

    Examples
    --------
    >>> import torch
    >>> import gradfit as gf
    >>> x = torch.linspace(0, 1, 11, dtype=torch.float64)
    >>> def loss(a, b):
    ...     return torch.mean((a * x + b - (3 * x + 1)) ** 2)
    >>> run = gf.descend(loss, {"a": 0.0, "b": 0.0}, lr=0.5, epochs=50)
    >>> round(run.params["a"], 2), round(run.params["b"], 2), run.verdict
    (2.97, 1.02, 'improving')
    >>> run = gf.descend(loss, {"a": 0.0, "b": 0.0})  # automatic steps
    >>> round(run.params["a"], 12), round(run.params["b"], 12), run.verdict, run.n_steps
    (3.0, 1.0, 'converged', 4)
    """
    plan = checked_plan(Plan(lr, optimizer, schedule, clip, tol, clear_grad, epochs))
    limits = Limits(
        plan.epochs,
        None if patience is None else whole("patience", patience, 1),
        whole("record", record, 2),
        IDLE if plan.automatic else None,
    )
    parameters = Parameters(checked_start(start))
    try:
        objective = Objective(loss, parameters, data)
        setup = set_up(objective, plan)
        run = Run(objective, setup.stepper, limits, lambda: _look(objective))
        save = None if checkpoint is None else Checkpoint(checkpoint, setup.words)
        with _random(parameters, seed, resume), _watched(run, save, progress, on_step):
            if resume is not None:
                resume_from(run, resume, setup.words)
            run.go()
            if save is not None and run.settled:
                save.write(run)
            return _conclude(run, plan, setup)
    finally:
        parameters.release()


# -- around --------------------------------------------------------------------------------------


@contextmanager
def _random(parameters: Parameters, seed: int | None, resume: Any) -> Generator[None]:
    """Keep the random numbers of this descent and those of the world apart, if they are set."""
    if seed is None and resume is None:
        yield
        return
    with torch.random.fork_rng(devices=[d.index or 0 for d in random_devices(parameters)]):
        if seed is not None:
            torch.manual_seed(whole("seed", seed, 0))
        yield


@contextmanager
def _watched(
    run: Run,
    save: Checkpoint | None,
    progress: bool,
    on_step: Callable[[DescentStep], object] | None,
) -> Generator[None]:
    bar = None
    if save is not None:
        run.watchers.append(save)
    if progress:
        from gradfit._descend.progress import Bar

        bar = Bar(run.limits.epochs)
        run.watchers.append(bar)
    if on_step is not None:
        run.watchers.append(lambda run: on_step(run.told()))
    try:
        yield
    finally:
        if bar is not None:
            bar.close()


# -- after ---------------------------------------------------------------------------------------


def _conclude(run: Run, plan: Plan, setup: Setup) -> Descent:
    """Put the result together, with the parameters at the best step."""
    if run.best is None:
        raise RuntimeError("a descent without a step")
    kept = run.best.kept
    parameters = run.parameters
    if run.best.values is None:
        parameters.put_row(kept.point.row or [])
    else:
        parameters.put(run.best.values)
    n_eval = run.objective.n_eval
    gradient, hessian = curvature(run.objective, run.seconds / max(n_eval, 1))
    columns = parameters.columns
    valley = survey(hessian, gradient, columns, run.objective.eps)
    rows = run.record.with_steps(kept, run.tail[-1] if run.tail else None)
    evidence = Evidence(
        run.status,
        rows,
        run.tail,
        kept,
        valley,
        columns,
        setup.lr if plan.plain and plan.lr is not None else math.nan,
        plan.automatic,
        plan.clear,
        run.objective.batches is not None,
        run.reason,
        run.negligible(valley, kept.point),
    )
    verdict, diagnosis = diagnose(evidence)
    if run.status is DescentStatus.CONVERGED:
        run.status = NO_MINIMUM.get(verdict, run.status)
    table = as_table(rows, parameters.n)
    module = parameters.module
    return Descent(
        names=parameters.names,
        params=parameters.as_given(),
        loss=kept.point.loss,
        best_step=kept.step,
        steps=table[:, 0].astype(np.int64),
        lrs=table[:, 1],
        losses=table[:, 2],
        grad_norms=table[:, 3],
        path=_by_name(parameters, table[:, 4 : 4 + parameters.n]),
        grads=_by_name(parameters, table[:, 4 + parameters.n :]),
        status=run.status,
        success=run.status.ok,
        message=_message(run),
        verdict=verdict,
        diagnosis=diagnosis,
        n_steps=run.step,
        n_eval=n_eval,
        lr=setup.lr,
        optimizer=setup.optimizer,
        schedule=setup.schedule,
        gradient=gradient,
        hessian=hessian,
        columns=columns,
        valley=valley,
        seconds=run.seconds,
        source=Source(run.objective.loss, run.objective.batches, module),
    )


def _look(objective: Objective) -> Valley:
    """Return the valley where the parameters stand."""
    gradient, hessian = curvature(objective, 0.0)
    return survey(hessian, gradient, objective.parameters.columns, objective.eps)


def _by_name(parameters: Parameters, table: FloatArray) -> dict[str, FloatArray]:
    if not parameters.listed:
        return {}
    return {
        name: table[:, slot.start : slot.stop].reshape(len(table), *slot.shape)
        for name, slot in parameters.slots.items()
    }


def _message(run: Run) -> str:
    best = run.best.kept if run.best is not None else None
    said = run.status.message + (f" ({run.reason})" if run.reason else "")
    where = f"step {count(run.step)}"
    if best is not None and best.step != run.step:
        where += f", best at step {count(best.step)} with loss {number(best.point.loss, 6)}"
    return f"{said}; {where}"
