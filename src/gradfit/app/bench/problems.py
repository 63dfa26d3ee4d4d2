"""What is fitted, in the words of each solver: formulas, curves, starts, and simulated points."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradfit._types import FloatArray

SIGMA = 0.05
"""Standard deviation of every coordinate."""
SEED = 20


class Problem(NamedTuple):
    """A model in the words of each solver.

    Attributes
    ----------
    formula : str or callable
        For gradfit.
    plain : callable
        The same of parameters and x, as NumPy arrays, for the others.
    curve : callable
        Points without errors: ``curve(n)`` gives x and y; no y for an implicit curve.
    start : mapping
        Start values by name.
    """

    formula: Any
    plain: Callable[[FloatArray, FloatArray], FloatArray]
    curve: Callable[[int], tuple[FloatArray, Any]]
    start: Mapping[str, float]

    @property
    def implicit(self) -> bool:
        """Whether the model is zero on the curve."""
        return self.curve(1)[1] is None

    @property
    def errors(self) -> dict[str, Any]:
        """Standard deviations as gradfit takes them."""
        return {"sx": SIGMA} if self.implicit else {"sx": SIGMA, "sy": SIGMA}


class Points(NamedTuple):
    """Points of one fit, (N,) or (m, N), or of many, (G, N)."""

    x: FloatArray
    y: Any


def simulate(problem: Problem, n: int, fits: int = 0) -> Points:
    """Return noisy points of one fit, or of so many, row by row."""
    rng = np.random.default_rng(SEED + n + fits)
    x, y = problem.curve(n)
    if fits:
        x, y = np.tile(x, (fits, 1)), np.tile(y, (fits, 1))
    x = x + SIGMA * rng.standard_normal(x.shape)
    return Points(x, None if y is None else y + SIGMA * rng.standard_normal(y.shape))


def _decay(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.linspace(0.0, 8.0, n)
    return x, 4.0 * np.exp(-0.4 * x) + 0.7


def _line(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.linspace(0.0, 10.0, n)
    return x, 1.0 + 0.5 * x


def _surface(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.stack([np.linspace(0.0, 3.0, n), np.sin(np.arange(n)) + 1.0])
    return x, 3.0 * np.exp(-0.7 * x[0]) + 0.5 * x[1]


def _pair(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.linspace(0.0, 3.0, n)
    return x, np.stack([3.0 * np.exp(-0.7 * x), 2.1 * x])


def _circle(n: int) -> tuple[FloatArray, None]:
    angle = np.linspace(0.0, 6.0, n)
    return np.stack([2.0 + 3.0 * np.cos(angle), 1.0 + 3.0 * np.sin(angle)]), None


def _both(x: Any, a: Any, b: Any) -> Any:
    import torch

    return torch.stack([a * torch.exp(-b * x), a * b * x])


DECAY = Problem(
    "a*exp(-b*x) + c",
    lambda b, x: b[0] * np.exp(-b[1] * x) + b[2],
    _decay,
    {"a": 3.5, "b": 0.35, "c": 0.5},
)
LINE = Problem("a + b*x", lambda b, x: b[0] + b[1] * x, _line, {"a": 0.8, "b": 0.6})
SURFACE = Problem(
    "a*exp(-b*x[0]) + c*x[1]",
    lambda b, x: b[0] * np.exp(-b[1] * x[0]) + b[2] * x[1],
    _surface,
    {"a": 2.5, "b": 0.6, "c": 0.7},
)
PAIR = Problem(
    _both,
    lambda b, x: np.stack([b[0] * np.exp(-b[1] * x), b[0] * b[1] * x]),
    _pair,
    {"a": 2.5, "b": 0.6},
)
CIRCLE = Problem(
    "(x[0] - a)**2 + (x[1] - b)**2 - r**2",
    lambda b, x: (x[0] - b[0]) ** 2 + (x[1] - b[1]) ** 2 - b[2] ** 2,
    _circle,
    {"a": 1.5, "b": 0.5, "r": 2.5},
)
