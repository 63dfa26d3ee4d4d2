"""The bias of a fit, told or taken off."""

import math

import torch
from torch import Tensor

from gradfit._engine.bias import second_order_bias
from gradfit._engine.covariance import spread
from gradfit._engine.state import Work
from gradfit._problem import Problem
from gradfit._uncertainty.restate import Case

SETTLINGS = 10
"""Times that foot points are put right at parameters that no longer minimise chi-square."""


def bias_of(case: Case, scale: float) -> dict[str, float]:
    """Return the bias of all parameters; ``scale`` is the factor of all variances."""
    p = case.p
    with torch.enable_grad():
        cov = spread(case.work, "expected", case.problem.limits()).cov
        bias = second_order_bias(case.work, cov)[0, :p]
    bias = scale * (case.jacobian @ bias + case.bend(cov[0, :p, :p]))
    return dict(zip(case.problem.model.names, bias.tolist(), strict=True))


def take_off(problem: Problem, work: Work) -> tuple[Work, Tensor]:
    """Move every fit by its own bias, foot points following.

    Returns
    -------
    work : Work
        At the corrected parameters; fits whose bias cannot be told stay where they are.
    bias : Tensor (G, p)
        What was taken off the free parameters.
    """
    found = spread(work, "expected", problem.limits())
    bias = second_order_bias(work, found.cov)
    if not problem.absolute:
        dof = problem.seen_per_fit - found.free.sum(-1) + problem.redundant
        bias = bias * torch.where(dof > 0, work.state.sums.cost / dof, torch.nan)[:, None]
    bias = bias.nan_to_num(0.0, 0.0, 0.0)
    beta, limits = work.state.beta - bias, problem.limits()
    if limits is not None:
        beta = torch.minimum(torch.maximum(beta, limits.lower), limits.upper)
    bias = work.state.beta - beta
    for _ in range(SETTLINGS):
        found = work.field.settle(beta, work.u, work.u)
        state = work.state._replace(beta=beta, sums=found.sums)
        work = Work(work.field, state, found.u, found.kept)
    return work, bias[:, : len(problem.free)]


def unknown_bias(names: tuple[str, ...]) -> dict[str, float]:
    """Return what is said of a bias that cannot be told."""
    return dict.fromkeys(names, math.nan)
