"""Feet of many points are the nearest there are, as a fine grid along the whole curve says."""

import numpy as np
import pytest

import gradfit as gf

N = 600
"""More points than are searched without asking where."""
SIGMA = 0.15

EXPLICIT = {
    "a*sin(3*x)": lambda t, a: (t, a * np.sin(3 * t)),
    "a*exp(-(2*x - 5)**2)": lambda t, a: (t, a * np.exp(-((2 * t - 5) ** 2))),
    "a*x**2": lambda t, a: (t, a * t**2),
    "a*x/5": lambda t, a: (t, a * t / 5),
}
IMPLICIT = {
    "(x[0]/a)**2 + (2*x[1])**2 - 1": lambda t, a: (a * np.cos(t), 0.5 * np.sin(t)),
    "x[0]*x[1] - a": lambda t, a: (a**0.5 * np.exp(t - 3), a**0.5 * np.exp(3 - t)),
    "x[1] - a*sin(2*x[0])": lambda t, a: (t, a * np.sin(2 * t)),
}
FINE = np.linspace(-2, 2 * np.pi + 2, 400_001)


def nearest(z: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return the squared distance, in sigmas, of each point (2, N) to points of a curve (2, T)."""
    return np.array([((curve - p[:, None]) ** 2).sum(0).min() for p in z.T]) / SIGMA**2


def drawn(curve: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inner = curve[:, 100_000:-100_000]
    return inner[:, rng.integers(0, inner.shape[1], N)] + SIGMA * rng.standard_normal((2, N))


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("formula", EXPLICIT)
def test_feet_on_a_graph(formula: str, backend: str) -> None:
    x, y = drawn(np.stack(EXPLICIT[formula](FINE, 1.5)), 1)
    fit = gf.fit(formula, x, y, sx=SIGMA, sy=SIGMA, start={"a": 1.5}, backend=backend)
    curve = np.stack(EXPLICIT[formula](FINE, fit.params["a"]))
    found = (fit.delta**2 + fit.eps**2) / SIGMA**2
    assert (found <= nearest(np.stack([x, y]), curve) * (1 + 1e-7)).all()


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("formula", IMPLICIT)
def test_feet_on_an_implicit_curve(formula: str, backend: str) -> None:
    z = drawn(np.stack(IMPLICIT[formula](FINE, 1.5)), 2)
    fit = gf.fit(formula, z, sx=SIGMA, start={"a": 1.5}, backend=backend)
    curve = np.stack(IMPLICIT[formula](FINE, fit.params["a"]))
    found = (fit.delta**2).sum(0) / SIGMA**2
    assert (found <= nearest(z, curve) * (1 + 1e-7)).all()
