"""The model at points, with its tangent: how its value moves with x and with each parameter."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._model import Model

CHUNK = 1 << 17
"""Points that pass through the graph at once, so that memory stays small for any number."""


class Tangent(NamedTuple):
    """Value and first derivatives of a model at N points.

    Attributes
    ----------
    value : Tensor (q, N)
    J_x : Tensor (q, m, N)
        Derivative with respect to each variable.
    J_beta : Tensor (q, p, N)
        Derivative with respect to each parameter.
    """

    value: Tensor
    J_x: Tensor
    J_beta: Tensor


def evaluate(model: Model, params: Sequence[float], x: Tensor) -> Tensor:
    """Return the model at x (N,) or (m, N), as (N,) or (q, N)."""
    value = model.fn(x, *(x.new_full(x.shape[-1:], value) for value in params))
    return value.expand(*value.shape[:-1], x.shape[-1])


def tangent(model: Model, params: Sequence[float], x: Tensor) -> Tangent:
    """Return the model at x (N,) or (m, N) and its derivatives, by one backward pass per response.

    The model is pointwise: with a copy of the parameters for every point, the gradient of the sum
    over points holds the derivative at each.
    """
    pieces = [_tangent(model, params, piece) for piece in x.detach().split(CHUNK, -1)]
    if len(pieces) == 1:
        return pieces[0]
    return Tangent(*(torch.cat(parts, -1) for parts in zip(*pieces, strict=True)))


def _tangent(model: Model, params: Sequence[float], x: Tensor) -> Tangent:
    n = x.shape[-1]
    leaves = [x.clone(), *(x.new_full((n,), value) for value in params)]
    with torch.enable_grad():
        for leaf in leaves:
            leaf.requires_grad_()
        value = model.fn(*leaves)
        rows = value.expand(*value.shape[:-1], n).reshape(-1, n)
        grads = [_pull(row.sum(), leaves) for row in rows]
    return Tangent(
        rows.detach(),
        torch.stack([grad[0].reshape(-1, n) for grad in grads]),
        torch.stack([torch.stack(grad[1:]) for grad in grads]),
    )


def _pull(total: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    # Zeros for what the value does not depend on.
    return list(torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True))
