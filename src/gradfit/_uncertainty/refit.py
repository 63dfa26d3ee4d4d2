"""Many fits like one: new points for each, all through the engine as one batch."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._dispatch import attempt, choose
from gradfit._dispatch import run as run_native
from gradfit._engine.covariance import spread
from gradfit._engine.field import Field
from gradfit._engine.loop import init, run
from gradfit._engine.points import Points
from gradfit._engine.robust import Settled, rescaled, scaled
from gradfit._engine.state import Bounds, Options, Work
from gradfit._native.plan import Fitted, Kernels
from gradfit._robust import by_machine, by_torch, question
from gradfit._uncertainty.restate import Case

REFITS = Options(gtol=1e-8)
"""Where a refit ends: a hundred-millionth of a standard error is enough for any statistic."""
TOGETHER = 1 << 17
"""Points of all refits that pass through the engine at once, which bounds the memory."""


class Refits(NamedTuple):
    """Parameters of B refits.

    Attributes
    ----------
    beta : Tensor (B, p)
        Free parameters.
    good : Tensor (B,) bool
        Refits that converged and determined every parameter.
    work : Work
        The engine where they ended.
    """

    beta: Tensor
    good: Tensor
    work: Work


def at_once(n: int) -> int:
    """Return how many refits of n points go through the engine together."""
    return max(1, TOGETHER // n)


def repeat(case: Case, index: Tensor) -> Points:
    """Return the points listed in ``index`` (B, n), one group for each row."""
    count, n = index.shape
    group = torch.arange(count, dtype=torch.int64, device="cpu").repeat_interleave(n)
    return case.problem.points.take(index.reshape(-1))._replace(group=group)


def estimate(
    case: Case, points: Points, u0: Tensor, kernels: Kernels | None
) -> tuple[Tensor, Tensor]:
    """Fit every group of ``points``; return parameters (B, p), and which of them can be used.

    ``kernels`` are those of :func:`machine_for`; torch begins at the foot points ``u0`` (mu, N).
    """
    count = 1 if points.group is None else int(points.group[-1]) + 1
    beta0 = case.beta.expand(count, -1)
    if case.loss is not None and not case.problem.absolute:
        # Such data would have shown another scale.
        run_one = by_torch(case.problem, REFITS)
        if kernels is not None:
            run_one = by_machine(case.problem, REFITS, kernels, case.loss)
        with torch.enable_grad():
            at = rescaled(question(case.problem, case.loss, run_one, points), Settled.at(beta0))
        points, beta0 = scaled(points, at.scale, case.extra), at.beta
        u0 = u0 / (at.scale if points.group is None else at.scale[points.group])
    told: Fitted | str = ""
    if kernels is not None:
        problem = replace(case.problem, points=points)
        told = attempt(
            problem,
            "auto",
            lambda: run_native(kernels, problem, beta0, REFITS, case.loss, feet=0),
        )
    if isinstance(told, str):
        found = refit(case, points, beta0, u0)
        return found.beta, found.good
    status, rank = told.column(0), told.column(6)
    good = (status > 0) & (status < 10) & (rank == told.vector(case.p + 2).sum(1))
    return told.vector(0).clone(), good


def machine_for(case: Case, times: int) -> Kernels | None:
    """Return machine code for so many refits, if there can be any and it is worth its while."""
    with torch.enable_grad():
        kernels = choose(case.problem, case.beta, case.loss, "auto", None, times)
    return None if isinstance(kernels, str) else kernels


def refit(
    case: Case,
    points: Points,
    beta0: Tensor,
    u0: Tensor,
    bounds: Bounds | None = None,
    options: Options = REFITS,
) -> Refits:
    """Fit every group of ``points`` from ``beta0`` (B, p) and foot points ``u0`` (mu, N)."""
    bounds = case.problem.limits() if bounds is None else bounds
    with torch.enable_grad():
        field = Field.of(
            points, case.work.field.fn, len(beta0), beta0.shape[1], case.loss, case.problem.prior()
        )
        work = run(init(field, beta0, u0), options, bounds)
        found = spread(work, "expected", bounds)
    status = work.state.status
    good = (status > 0) & (status < 10) & (found.rank == found.free.sum(-1))
    return Refits(work.state.beta[:, : case.p], good, work)
