"""The loss of the story, its derivative by hand, its loop as printed, and its closed form.

These functions are shown as they stand here, so what is read is what ran.
"""

import numpy as np
import torch
from torch import Tensor

from gradfit._types import FloatArray


def loss(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared perpendicular distance of points from ``y = a*x + b``."""
    return torch.mean((a * x - y + b) ** 2 / (a**2 + 1))


def by_hand(a: float, b: float, x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the derivatives of the loss by ``a`` and ``b``, worked out on paper."""
    r = a * x - y + b
    da = np.mean(2 * r * x / (a**2 + 1) - 2 * a * r**2 / (a**2 + 1) ** 2)
    db = np.mean(2 * r / (a**2 + 1))
    return float(da), float(db)


def as_printed(
    a: Tensor, b: Tensor, x: Tensor, y: Tensor, *, lr: float = 1e-5, epochs: int = 1000
) -> list[float]:
    """Descend as the printed loop does, and return the losses on the way."""
    losses: list[float] = []
    for _ in range(epochs):
        value = loss(a, b, x, y)
        losses.append(value.item())
        value.backward()
        with torch.no_grad():
            a -= lr * a.grad  # type: ignore[operator]
            b -= lr * b.grad  # type: ignore[operator]
    return losses


def total_least_squares(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return slope and intercept of the line along which the points scatter most."""
    _, directions = np.linalg.eigh(np.cov(x, y))
    slope = directions[1, 1] / directions[0, 1]
    return float(slope), float(y.mean() - slope * x.mean())


def lowest_loss(b: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the lowest loss that any slope reaches, for each intercept.

    A line through (0, b) has the smallest mean squared distance in the direction in which the
    points scatter least about (0, b): the smallest eigenvalue of their second moments.
    """
    shifted = y - b[:, None]
    xx, xy, yy = np.mean(x * x), np.mean(x * shifted, axis=1), np.mean(shifted**2, axis=1)
    return (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
