"""Short arcs: is what a shape finds from its own start the lowest minimum that there is?

The judge is the general fit of the shape in practitioners' parameters, from fifty random starts.
"""

from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf

POINTS = 30
STARTS = 50
TOGETHER = 20


def circle(x: Any, x0: Any, y0: Any, r: Any) -> Any:
    return ((x[0] - x0) ** 2 + (x[1] - y0) ** 2) / r**2 - 1


def ellipse(x: Any, x0: Any, y0: Any, a: Any, b: Any, angle: Any) -> Any:
    c, s = torch.cos(angle), torch.sin(angle)
    u, v = x[0] - x0, x[1] - y0
    return ((c * u + s * v) / a) ** 2 + ((c * v - s * u) / b) ** 2 - 1


def arcs(n: int, width: float, flattest: float, noise: float, seed: int) -> np.ndarray:
    """Points (2, n, POINTS) along arcs of n ellipses of half axis 1, anywhere on them."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 2 * np.pi, (n, 1)) + width * rng.uniform(-0.5, 0.5, (n, POINTS))
    b = rng.uniform(flattest, 1, (n, 1))
    u, v = np.stack([np.cos(t), b * np.sin(t)]) + noise * rng.normal(size=(2, n, POINTS))
    turn = rng.uniform(-np.pi, np.pi, (n, 1))
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([c * u - s * v, s * u + c * v]) + rng.uniform(-5, 5, (2, n, 1))


def starts(points: np.ndarray, model: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = points.shape[1]
    size = np.hypot(*np.ptp(points, axis=2))[:, None]
    x0, y0 = points.mean(2)[:, :, None] + 0.6 * size * rng.normal(size=(2, n, STARTS))
    a = size * rng.uniform(0.3, 1.5, (n, STARTS))
    given = {"x0": x0, "y0": y0, "r": a}
    if model is ellipse:
        b = a * rng.uniform(0.2, 1, (n, STARTS))
        turn = rng.uniform(-np.pi / 2, np.pi / 2, (n, STARTS))
        given = {"x0": x0, "y0": y0, "a": a, "b": b, "angle": turn}
    return {name: value.ravel() for name, value in given.items()}


def best_of_many_starts(model: Any, points: np.ndarray) -> np.ndarray:
    """Lowest chi-square (n,) of the fits that converged; inf where none did."""
    rng = np.random.default_rng(7)
    best: list[np.ndarray] = []
    for i in range(0, points.shape[1], TOGETHER):
        part = points[:, i : i + TOGETHER]
        n = part.shape[1]
        fits = gf.fit(
            model,
            np.repeat(part, STARTS, axis=1).reshape(2, -1),
            groups=np.repeat(np.arange(n * STARTS), POINTS),
            start=starts(part, model, rng),
            max_steps=100,
        )
        chi2 = np.where(fits.success, fits.chi2, np.inf).reshape(n, STARTS)
        best.append(chi2.min(1))
    return np.concatenate(best)


def shapes(fit: Any, points: np.ndarray) -> Any:
    n = points.shape[1]
    return fit(points.reshape(2, -1), groups=np.repeat(np.arange(n), POINTS))


def share_found(fit: Any, model: Any, points: np.ndarray) -> float:
    """Share of cases in which the shape's own start leads to the best minimum known."""
    own = shapes(fit, points)
    best = best_of_many_starts(model, points)
    return float(np.mean(own.success & (own.chi2 <= best * (1 + 1e-9))))


CASES = [pytest.param(60, 1.0), pytest.param(1000, 0.99, marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize(("n", "share"), CASES)
def test_circles_through_60_degree_arcs_find_the_geometric_minimum(n: int, share: float) -> None:
    points = arcs(n, np.pi / 3, 1, 0.01, seed=1)
    assert share_found(gf.shapes.circle, circle, points) >= share


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize(("n", "share"), CASES)
def test_ellipses_through_half_arcs_find_the_geometric_minimum(n: int, share: float) -> None:
    points = arcs(n, np.pi, 0.3, 0.01, seed=2)
    assert share_found(gf.shapes.ellipse, ellipse, points) >= share


def parabola(x: Any, x0: Any, y0: Any, angle: Any, k: Any) -> Any:
    c, s = torch.cos(angle), torch.sin(angle)
    u, v = x[0] - x0, x[1] - y0
    return c * v - s * u - k * (c * u + s * v) ** 2


def best_parabola(points: np.ndarray) -> np.ndarray:
    """Lowest chi-square (n,) of parabolas, from axes in sixteen directions."""
    n, k = points.shape[1], 16
    centre = np.repeat(points.mean(2), k, axis=1)
    fits = gf.fit(
        parabola,
        np.repeat(points, k, axis=1).reshape(2, -1),
        groups=np.repeat(np.arange(n * k), POINTS),
        start={
            "x0": centre[0],
            "y0": centre[1],
            "angle": np.tile(np.arange(k) * 2 * np.pi / k, n),
            "k": 1.0,
        },
    )
    return np.where(fits.success, fits.chi2, np.inf).reshape(n, k).min(1)


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "share"), [(16, 0.9), pytest.param(200, 0.98, marks=pytest.mark.slow)]
)
def test_quarter_arcs_end_at_the_best_ellipse_or_say_that_parabolas_fit_better(
    n: int, share: float
) -> None:
    points = arcs(n, np.pi / 2, 0.3, 0.02, seed=3)
    own = shapes(gf.shapes.ellipse, points)
    best = best_of_many_starts(ellipse, points)
    good, lost = own.success, own.status == gf.Status.DEGENERATE
    assert (good | lost).all()
    assert 0 < lost.sum() < n / 2
    right = np.where(good, own.chi2 <= best * (1 + 1e-9), best_parabola(points) <= best)
    assert np.mean(right) >= share
