"""Random errors-in-variables problems for the laws: a curve, true parameters, and noisy points."""

import ast
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st
from oracles.refsets import Formula

CURVES: dict[str, tuple[str, dict[str, tuple[float, float]], tuple[float, float]]] = {
    # expression, range of each true parameter, range of x
    "line": ("a + b*x", {"a": (-3, 3), "b": (-2, 2)}, (0, 10)),
    "quadratic": ("a + b*x + c*x**2", {"a": (-3, 3), "b": (-2, 2), "c": (0.1, 0.3)}, (-5, 5)),
    "decay": ("a*exp(-b*x) + c", {"a": (2, 6), "b": (0.3, 0.8), "c": (-1, 1)}, (0, 8)),
    "peak": ("a*exp(-(x-b)**2/(2*c**2))", {"a": (2, 5), "b": (4, 6), "c": (1, 2)}, (0, 10)),
    "saturation": ("a*x/(b+x)", {"a": (2, 5), "b": (0.5, 3)}, (0.3, 9)),
    "wave": ("a*sin(b*x+c)", {"a": (1, 3), "b": (0.8, 1.2), "c": (-0.5, 0.5)}, (0, 9)),
}


@dataclass(frozen=True, kw_only=True)
class Points:
    """Noisy points of a known curve and the errors they have."""

    curve: str
    truth: dict[str, float]
    x: np.ndarray
    y: np.ndarray
    sx: np.ndarray
    sy: np.ndarray
    rho: np.ndarray | None = None

    @cached_property
    def formula(self) -> Formula:
        text, ranges, _ = CURVES[self.curve]
        return Formula((), (ast.parse(text, mode="eval"),), tuple(ranges), 1)

    @property
    def start(self) -> dict[str, float]:
        """Start values a few per cent from the truth."""
        return {k: v * 1.03 + 0.02 for k, v in self.truth.items()}

    @property
    def errors(self) -> dict[str, Any]:
        given = {"sx": self.sx, "sy": self.sy}
        return given if self.rho is None else given | {"rho": self.rho}

    def f(self, x: Any, beta: Any) -> Any:
        """The curve in NumPy, complex numbers included."""
        return self.formula([x], list(beta), np)[0] + 0 * x

    def take(self, rows: Any) -> "Points":
        """The points in `rows`, in that order."""
        parts = {k: getattr(self, k)[rows] for k in ("x", "y", "sx", "sy")}
        return replace(self, **parts, rho=None if self.rho is None else self.rho[rows])


def simulate(
    curve: str, n: int, seed: int, noise: float = 0.02, correlated: bool = False
) -> Points:
    """Points of a random curve; `noise` is the error as a fraction of the range of each axis."""
    rng = np.random.default_rng(seed)
    _, ranges, (low, high) = CURVES[curve]
    truth = {k: float(rng.uniform(*r)) for k, r in ranges.items()}
    x_true = np.sort(rng.uniform(low, high, n))
    points = Points(curve=curve, truth=truth, x=x_true, y=x_true, sx=np.ones(n), sy=np.ones(n))
    y_true = points.f(x_true, truth.values())
    sx = noise * (high - low) * rng.uniform(0.5, 2, n)
    sy = noise * max(np.ptp(y_true), 0.5) * rng.uniform(0.5, 2, n)
    rho = rng.uniform(-0.8, 0.8, n) if correlated else np.zeros(n)
    u, v = rng.standard_normal((2, n))
    return replace(
        points,
        x=x_true + sx * u,
        y=y_true + sy * (rho * u + np.sqrt(1 - rho**2) * v),
        sx=sx,
        sy=sy,
        rho=rho if correlated else None,
    )


@st.composite
def points(
    draw: st.DrawFn, curves: tuple[str, ...] = tuple(CURVES), correlated: bool | None = None
):
    """Points of a random curve, 8 to 40 of them, with errors in x and y, perhaps correlated."""
    return simulate(
        draw(st.sampled_from(curves)),
        draw(st.integers(8, 40)),
        draw(st.integers(0, 2**32 - 1)),
        noise=draw(st.sampled_from([0.005, 0.02, 0.04])),
        correlated=draw(st.booleans()) if correlated is None else correlated,
    )
