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


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize(
    ("formula", "truth"), [("a + b*x", (1, 2)), ("a*exp(-b*x)", (3, 0.7)), ("a*x/(b + x)", (3, 1))]
)
def test_points_on_the_curve_stay_where_they_are(formula, truth, backend):
    """Their distance is rounding error, in which every curve bends."""
    a, b = truth
    x = np.linspace(0, 4, 9)
    y = {"a + b*x": a + b * x, "a*exp(-b*x)": a * np.exp(-b * x)}.get(formula, a * x / (b + x))
    start = (a * 1.1, b * 0.9)
    got = gf.fit(formula, x, y, start=start, sx=0.1, sy=0.1, backend=backend)
    assert got.success
    assert len(got.moved) == 0
    np.testing.assert_allclose(list(got.params.values()), truth, 1e-12)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize(("seed", "sigma"), [(1, 0.15), (3, 0.3), (15, 0.3), (6, 0.5), (5, 0.5)])
def test_every_foot_is_the_nearest_place_of_a_wave(seed, sigma, backend):
    """Held against a fine walk along the curve that was fitted."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, 8, 100)
    x = at + sigma * rng.standard_normal(100)
    y = 2 * np.sin(3.6 * at) + sigma * rng.standard_normal(100)
    start = {"a": 2.0, "w": 3.6}
    got = gf.fit("a*sin(w*x)", x, y, start=start, sx=sigma, sy=sigma, backend=backend)
    assert got.backend == backend
    t = np.linspace(-4, 12, 400_001)
    curve = got.params["a"] * np.sin(got.params["w"] * t)
    nearest = [np.min((t - u) ** 2 + (curve - v) ** 2) for u, v in zip(x, y, strict=True)]
    found = got.delta**2 + got.eps**2
    assert (found - nearest <= 1e-6 * sigma**2).all()
