"""A second look at what machine code came to, where its numbers alone do not settle it."""

import math

import torch
from torch import Tensor

from gradfit._engine.determined import (
    LOST,
    doubtful,
    is_minimum,
    part_of,
    variance_of_one,
    without_lost,
)
from gradfit._engine.field import Field
from gradfit._engine.loss import Loss
from gradfit._native.ending import DOUBTFUL, TOLD
from gradfit._native.plan import Fitted
from gradfit._problem import Problem
from gradfit._types import Status


def is_clear(told: list[float], p: int, n: int, absolute: bool) -> bool:
    """Return whether what is told of one fit of ``n`` equations leaves nothing to look at."""
    if told[0] > DOUBTFUL or not (absolute or told[0] == Status.GRADIENT):
        return False
    unit = 1.0 if absolute else told[3] / max(1, n - p)
    for j in range(p):
        variance, beta = unit * told[TOLD + p + j * (p + 1)], LOST * told[TOLD + j]
        if not variance <= beta * beta and variance < math.inf:
            return False
    return True


def look_again(fitted: Fitted, problem: Problem, loss: Loss | None, sizes: Tensor) -> Fitted:
    """Settle ends that may be no minimum, and take back what slopes say of nothing.

    ``sizes`` (G,) are the points of each fit. What is told of those fits is written anew.
    """
    told, p = fitted.told, fitted.p
    if p == 0:
        return fitted
    status, points = told[:, 0].clone(), problem.points
    dof = sizes.to(told) * fitted.spec.q - p
    unit = variance_of_one(told[:, 3], dof, points, problem.absolute)
    doubt, good = status > DOUBTFUL, (status > 0) & (status < 10)
    open_ = doubtful(fitted.vector(0), fitted.cov, unit).any(-1) & good
    rows = torch.nonzero(open_ | doubt)[:, 0]
    if not len(rows):
        return fitted
    limits = problem.limits()
    with torch.enable_grad():
        field = Field.of(points, problem.function(), len(told), p, loss)
        work = part_of(field, fitted.vector(0), fitted.u, rows)
        fine = is_minimum(work, limits)
        found = without_lost(work, "expected", limits, unit[rows])
    was = status[rows] - DOUBTFUL * doubt[rows]
    told[rows, 0] = torch.where(doubt[rows] & ~fine, float(Status.SINGULAR), was)
    lost = found.rank < told[rows, 6]
    rows, at = rows[lost], torch.nonzero(lost)[:, 0]
    told[rows, 5], told[rows, 6] = torch.inf, found.rank[at].to(told)
    told[rows, TOLD + p : TOLD + p + p * p] = found.cov[at].flatten(1)
    told[rows, TOLD + p + p * p : TOLD + 2 * p + p * p] = found.weakest[at]
    return fitted
