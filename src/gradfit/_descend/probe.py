"""Look at the loss away from the way: its curvature at a point, its values on a grid."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradfit._descend.objective import Batches, Loss, Objective
from gradfit._descend.parameters import Parameters
from gradfit._types import FloatArray
from gradfit.errors import ModelError

CURVED = 32
"""The curvature is computed for up to so many numbers."""
FORETOLD = 0.2
"""How far a gradient may be from what the curvature foretells before that is not trusted."""
PATIENCE = 2.0
"""Seconds that it may take."""


@dataclass(frozen=True, eq=False)
class Source:
    """The loss of a finished descent, to be asked again.

    Attributes
    ----------
    loss : callable or None
        ``None`` after a pickle that could not keep it.
    batches : iterable or None
    module : nn.Module or None
    """

    loss: Loss | None
    batches: Batches | None = None
    module: nn.Module | None = None

    def objective(self, params: Mapping[str, Any]) -> Objective:
        """Return the loss with its parameters standing at ``params``.

        Raises
        ------
        ModelError
            The loss did not survive a pickle.
        """
        if self.loss is None:
            raise ModelError(
                "the loss could not be pickled with this result; "
                "define it at the top of a module, or run `descend` again"
            )
        start = params if self.module is None else self.module
        return Objective(self.loss, Parameters(start), self.batches)


def curvature(objective: Objective, seconds: float) -> tuple[FloatArray, FloatArray]:
    """Return gradient and exact second derivatives at the parameters, by differentiating twice.

    Parameters
    ----------
    objective : Objective
    seconds : float
        How long an evaluation of the loss and its gradient takes.

    Returns
    -------
    ndarray (p,), ndarray (p, p)
        NaN where they are too slow, over batches, or not to be had; empty for more than 32 numbers.
    """
    n = objective.parameters.n
    unknown = np.full(n, math.nan), np.full((n, n), math.nan)
    if n > CURVED:
        return np.empty(0), np.empty((0, 0))
    slow = 3 * (n + 2) * seconds > PATIENCE
    if slow or objective.batches is not None or len(objective.parameters.blocks) > 1:
        return unknown
    counted = objective.n_eval
    try:
        gradient, hessian = _twice(objective)
        finite = np.isfinite(hessian).all() and np.isfinite(gradient).all()
        trusted = finite and _holds(objective, gradient, hessian)
    # Double backward is missing in many hand-written functions, each with words of its own.
    except (RuntimeError, NotImplementedError, KeyboardInterrupt):
        return unknown
    finally:
        objective.n_eval = counted
    return (gradient, hessian) if trusted else unknown


def _twice(objective: Objective) -> tuple[FloatArray, FloatArray]:
    """Differentiate, and differentiate the result."""
    leaves = list(objective.parameters)
    first = torch.autograd.grad(
        objective(), leaves, create_graph=True, allow_unused=True, materialize_grads=True
    )
    gradient = torch.cat([g.reshape(-1) for g in first])
    found = _numbers(torch.stack([_row(entry, leaves) for entry in gradient]))
    return _numbers(gradient), 0.5 * (found + found.T)


def _holds(objective: Objective, gradient: FloatArray, hessian: FloatArray) -> bool:
    """Whether the gradient a small step away is what the second derivatives foretell.

    A hand-written backward that leaves torch on its way looks like a constant when it is
    differentiated, and no error is raised.
    """
    here = objective.parameters.blocks[0].values
    size = np.abs(_numbers(here))
    unit = np.sqrt(np.abs(hessian.diagonal()))
    unit = np.where(unit > 0, unit, 1 / np.maximum(size, 1.0))
    small = max(objective.eps, torch.finfo(here.dtype).eps) ** 0.25
    # Of a loss that is large a step of the first kind may change no more than rounding does.
    return any(
        _foretold(objective, gradient, hessian, unit, small * step)
        for step in (1 / unit, np.maximum(size, 1 / unit))
    )


def _foretold(
    objective: Objective,
    gradient: FloatArray,
    hessian: FloatArray,
    unit: FloatArray,
    step: FloatArray,
) -> bool:
    """Whether the gradient changes over a step as the second derivatives say."""
    block = objective.parameters.blocks[0]
    here, grads = block.values.clone(), block.grads.clone()
    try:
        block.values.add_(torch.as_tensor(step, dtype=here.dtype, device=here.device))
        objective.parameters.clear()
        objective.backward()
        moved = (_numbers(block.grads) - gradient) / unit
    finally:
        block.values.copy_(here)
        block.grads.copy_(grads)
    foretold = hessian @ step / unit
    scale = np.linalg.norm(foretold) + np.linalg.norm(moved)
    return not np.linalg.norm(moved - foretold) > FORETOLD * scale


def _numbers(tensor: Tensor) -> FloatArray:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _row(entry: Tensor, leaves: list[Tensor]) -> Tensor:
    if not entry.requires_grad:
        return torch.cat([torch.zeros_like(leaf).reshape(-1) for leaf in leaves])
    second = torch.autograd.grad(
        entry, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.reshape(-1) for g in second])


def losses_at(objective: Objective, points: FloatArray) -> FloatArray:
    """Evaluate the loss at many points, all at once where it lets itself be vectorised.

    Parameters
    ----------
    objective : Objective
    points : ndarray (M, p)
        Parameters in the order of a row.

    Returns
    -------
    ndarray (M,)
    """
    values = vectorised(objective, points)
    if values is None:
        values = np.array([_loss_at(objective, point) for point in points])
    return values


def _loss_at(objective: Objective, point: FloatArray) -> float:
    objective.parameters.put_row(point.tolist())
    return objective.value()


def vectorised(objective: Objective, points: FloatArray) -> FloatArray | None:
    """Evaluate at all points in one call; ``None`` where that fails or gives other values."""
    if objective.parameters.module is not None or objective.batches is not None:
        return None
    many = torch.func.vmap(of_row(objective), chunk_size=256)
    like = objective.parameters.blocks[0].values
    try:
        with torch.no_grad():
            values = many(torch.as_tensor(points, dtype=like.dtype, device=like.device))
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    found = _numbers(values)
    alone = _loss_at(objective, points[len(points) // 2])
    same = math.isclose(alone, found[len(points) // 2], rel_tol=1e-5, abs_tol=1e-300)
    return found if same or not math.isfinite(alone) else None


def of_row(objective: Objective) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of one row of parameters."""
    parameters = objective.parameters
    like = {name: (leaf.device, leaf.dtype) for name, leaf in parameters.leaves.items()}

    def loss(row: Tensor) -> Tensor:
        parts = {
            name: row[slot.start : slot.stop].view(slot.shape).to(*like[name])
            for name, slot in parameters.slots.items()
        }
        args = [parts.pop(name) for name in objective.positional]
        return objective.loss(*args, **parts).reshape(())

    return loss


def time_of(objective: Objective) -> float:
    """Return how long one evaluation takes."""
    began = time.perf_counter()
    objective.value()
    return time.perf_counter() - began
