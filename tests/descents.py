"""The tutorial's line with noise in both coordinates: its loss, its loop by hand, its solution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

START = {"a": 0.0, "b": 0.0}


def bowl(a: Any, b: Any) -> Any:
    """A quadratic with curvatures 2 and 20, least at (1, -2)."""
    return (a - 1) ** 2 + 10 * (b + 2) ** 2


class Line(NamedTuple):
    """Points, the mean squared perpendicular distance from y = a*x + b, and where it is least."""

    x: Tensor
    y: Tensor
    loss: Callable[..., Tensor]
    a: float
    b: float


def line(seed: int = 0) -> Line:
    """Points from x = 0 to 100 on 2.5*x + 1, noise of 2 in both coordinates."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 100, 100)
    x = t + 2 * rng.standard_normal(100)
    y = 2.5 * t + 1 + 2 * rng.standard_normal(100)
    # Total least squares: the direction of largest scatter, through the centre.
    _, directions = np.linalg.eigh(np.cov(x, y))
    a = directions[1, 1] / directions[0, 1]
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return torch.mean((a * tx - ty + b) ** 2 / (a**2 + 1))

    return Line(tx, ty, loss, float(a), float(y.mean() - a * x.mean()))


def by_hand(
    loss: Callable[..., Tensor], lr: float, epochs: int, clear: bool
) -> tuple[list[float], list[tuple[float, float]]]:
    """The loop as a tutorial prints it; returns losses and the way, the start included."""
    a = torch.zeros((), dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    losses, way = [], []
    for _ in range(epochs + 1):
        value = loss(a, b)
        losses.append(value.item())
        way.append((a.item(), b.item()))
        value.backward()
        with torch.no_grad():
            a -= lr * a.grad
            b -= lr * b.grad
            if clear:
                a.grad.zero_()
                b.grad.zero_()
    return losses, way
