"""Robust fits: at the scale that the points show, from where the loss holds, with errors to match.

What is found is a problem whose sigmas are as large as the points say
(:mod:`gradfit._engine.robust`),
so that whatever runs it needs to know nothing of scales.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._dispatch import kernels_for
from gradfit._dispatch import run as run_native
from gradfit._engine.covariance import Spread
from gradfit._engine.field import Field
from gradfit._engine.linearize import residual
from gradfit._engine.loop import Report, init
from gradfit._engine.loop import run as run_loop
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points, squares
from gradfit._engine.robust import Question, Run, Settled, Stage, scaled, settle
from gradfit._engine.sandwich import FROM_RESIDUALS, moments
from gradfit._engine.state import Options, Work
from gradfit._native.plan import Fitted, Kernels
from gradfit._problem import Problem
from gradfit._types import Status

ROUGH = Options(gtol=1e-4, max_steps=40)
"""Where fits end that are only on the way to others."""


class Ready(NamedTuple):
    """A robust problem that is ready to be fitted.

    Attributes
    ----------
    problem : Problem
        With sigmas times ``scale``.
    beta0 : Tensor (G, p)
        Where to begin.
    ended : Tensor (G,) or None
        Status of fits that are not to be made.
    scale : Tensor (G,)
        Factor of the sigmas; 1 where they are as given.
    n_steps, n_eval : Tensor (G,) int64
        What it took so far.
    """

    problem: Problem
    beta0: Tensor
    ended: Tensor | None
    scale: Tensor
    n_steps: Tensor
    n_eval: Tensor

    @classmethod
    def plain(cls, problem: Problem, beta0: Tensor, ended: Tensor | None) -> "Ready":
        """Return a problem of least squares, which is ready as it is."""
        at = Settled.at(beta0)
        return cls(problem, beta0, ended, at.scale, at.n_steps, at.n_eval)


def make_ready(
    problem: Problem, beta0: Tensor, loss: Loss, run: Run, ended: Tensor | None = None
) -> Ready:
    """Find the scale of a robust fit if its sigmas are relative, and a start that the loss sees."""
    found = settle(question(problem, loss, run), problem.unknowns(beta0), ended)
    if bool(found.stopped.any()):
        known = torch.zeros_like(found.n_steps) if ended is None else ended
        ended = torch.where(found.stopped, int(Status.STOPPED), known)
    beta = found.beta[:, : beta0.shape[1]].contiguous()
    problem = at_scale(problem, found.scale)
    return Ready(problem, beta, ended, found.scale, found.n_steps, found.n_eval)


def question(problem: Problem, loss: Loss, run: Run, points: Points | None = None) -> Question:
    """Return what the engine is to find, for these points or those of the problem."""
    return Question(
        problem.points if points is None else points,
        problem.function(),
        run,
        loss,
        not problem.absolute,
        bool(problem.shared),
        0 if problem.systematic is None else len(problem.systematic.sizes),
    )


def at_scale(problem: Problem, scale: Tensor) -> Problem:
    """Return the problem with sigmas, and errors that points share, times ``scale`` (G,)."""
    if bool((scale == 1).all()):
        return problem
    errors, extra = problem.systematic, 0
    if errors is not None:
        group = problem.points.group
        each = scale if group is None else scale[group]
        errors, extra = replace(errors, sizes=errors.sizes * each), len(errors.sizes)
    return replace(problem, points=scaled(problem.points, scale, extra), systematic=errors)


def _rough(options: Options) -> Options:
    """Return when fits end that are only on the way."""
    return options._replace(
        gtol=max(options.gtol, ROUGH.gtol), max_steps=min(options.max_steps, ROUGH.max_steps)
    )


def by_torch(
    problem: Problem, options: Options, on_step: Callable[[Report], None] | None = None
) -> Run:
    """Return what fits groups of points by torch."""
    fn, prior, common = problem.function(), problem.prior(), problem.common()
    bounds = problem.limits()

    def run(
        points: Points, beta0: Tensor, loss: Loss, ended: Tensor | None, roughly: bool
    ) -> Stage:
        count, p = beta0.shape
        field = Field.of(points, fn, count, p, loss, prior, common)
        until = _rough(options) if roughly else options
        work = run_loop(init(field, beta0, None, ended), until, bounds, on_step)
        s = work.state
        return Stage(s.beta, distances_of_work(work), s.status, s.n_steps, s.n_eval)

    return run


def by_machine(problem: Problem, options: Options, kernels: Kernels, loss: Loss) -> Run:
    """Return what fits groups of points by machine code; ``kernels`` are those of ``loss``."""

    def run(points: Points, beta0: Tensor, own: Loss, ended: Tensor | None, roughly: bool) -> Stage:
        suited: Kernels | str = kernels
        if own.name != loss.name:
            suited = kernels_for(problem, beta0, own, kernels.block)
        if isinstance(suited, str):
            return by_torch(problem, options)(points, beta0, own, ended, roughly)
        part = replace(problem, points=points)
        until = _rough(options) if roughly else options
        fitted = run_native(suited, part, beta0, until, own, ended, feet=0)
        counts = (fitted.column(k).to(torch.int64) for k in range(3))
        return Stage(fitted.vector(0).clone(), distances_of_machine(points, fitted), *counts)

    return run


def distances_of_work(work: Work) -> Tensor:
    """Return the squared distance (N,) of every point."""
    parts = work.field.linears(work.state.beta, work.u, work.kept)
    return torch.cat([linear.phi for _, linear in parts])


def distances_of_machine(points: Points, fitted: Fitted) -> Tensor:
    """Return the squared distance (N,) of every point."""
    phi = squares(fitted.u) if len(fitted.u) else points.x.new_zeros(points.n)
    return phi if points.y is None else phi + squares(residual(points, fitted.value, fitted.u))


def with_errors(
    problem: Problem, found: Spread, kind: str, loss: Loss | None, phi: Tensor
) -> Spread:
    """Give a robust fit the errors that the distances ``phi`` (N,) show, at the scale found."""
    if loss is None or kind in FROM_RESIDUALS:
        return found
    factor = factors(problem, found.free, kind, loss, phi)
    cov = torch.where(found.cov == 0, 0.0, found.cov * factor[:, None, None])
    return found._replace(cov=cov)


def factors(problem: Problem, free: Tensor, kind: str, loss: Loss, phi: Tensor) -> Tensor:
    """Return by how much the inverse information (G, p, p) of robust fits is to be multiplied.

    A fit without degrees of freedom has no distances to tell it; then sigmas hold as given.
    """
    unknowns, count, joint = free.sum(-1), len(free), bool(problem.shared)
    if joint:
        common = problem.common()
        shared = free if common is None else free & common
        unknowns = (unknowns.sum() - shared.sum() + shared.any(0).sum()).expand(count)
    unknowns = unknowns - problem.n_hidden * (count if joint else 1)
    seen = moments(loss, phi, problem.points, problem.n_equations, unknowns, joint)
    factor = seen.factor(kind)
    return torch.where(seen.square.isnan(), 1.0, factor) if problem.absolute else factor
