"""One backward pass, by the shortest way to PyTorch's engine."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


def pull_back(
    value: Tensor, seed: Tensor, wanted: Sequence[Tensor], keep: bool
) -> Sequence[Tensor | None]:
    """Return the gradient of ``(seed * value).sum()`` for each tensor, None where nothing flows.

    ``seed`` broadcasts to ``value`` and is a constant. What :func:`torch.autograd.grad` returns;
    of a small graph that spends more time on looking at its arguments than on the graph.
    """
    run = _shortcut()
    if seed.shape != value.shape:
        seed = seed.expand_as(value)
    if run is None:
        return torch.autograd.grad(value, wanted, seed, retain_graph=keep, allow_unused=True)
    return run((value,), (seed,), keep, False, tuple(wanted), True, False)


@cache
def _shortcut() -> Any:
    """Return the engine's entry, if it is where it has been since PyTorch 1.5; else None."""
    a = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True, device="cpu")
    b = torch.zeros_like(a, requires_grad=True)
    with torch.enable_grad():
        value = a * a
    try:
        engine: Any = getattr(torch.autograd.Variable, "_execution_engine")  # noqa: B009
        found = engine.run_backward(
            (value,), (torch.ones_like(a),), False, False, (a, b), True, False
        )
        fine = found[1] is None and bool((found[0] == 2 * a).all()) and a.grad is None
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return engine.run_backward if fine else None
