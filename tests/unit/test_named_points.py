"""Points that stand out, and points whose foot had to move, are named in the result."""

from typing import Any

import numpy as np
import pytest

import gradfit as gf

X = np.linspace(0, 10, 21)
Y = 1 + 2 * X
BAD = [3, 12, 17]


@pytest.fixture
def spoilt() -> np.ndarray:
    y = Y + 0.05 * np.cos(7 * X)
    y[BAD] += [3.0, -9.0, 0.4]
    return y


def test_outliers_of_a_robust_loss_are_named_farthest_first(spoilt: np.ndarray) -> None:
    fit = gf.fit("a + b*x", X, spoilt, sx=0.05, sy=0.05, loss="cauchy", start={"a": 1, "b": 2})
    assert fit.outliers.tolist() == [12, 3]
    assert (np.diff(fit.weights[fit.outliers]) > 0).all()
    assert "[12] and [3]" in " ".join(fit.summary().split())


def test_outliers_of_least_squares_are_those_too_far_off(spoilt: np.ndarray) -> None:
    fit = gf.fit("a + b*x", X, spoilt, sy=0.5, start={"a": 1, "b": 2})
    assert fit.outliers.tolist() == [12, 3]
    assert gf.fit("a + b*x", X, Y, sy=0.5, start={"a": 1, "b": 2}).outliers.size == 0


def wave() -> tuple[np.ndarray, np.ndarray]:
    """Points of a steep wave, the x of some of them off by nearly a period."""
    t = np.linspace(0, 6, 25)
    x = t.copy()
    x[[5, 11]] += [0.55, -0.6]
    return x, 3 * np.sin(10 * t)


def options(backend: str) -> dict[str, Any]:
    return {"start": {"a": 3, "w": 10}, "sx": 0.1, "sy": 0.1, "loss": "tukey", "backend": backend}


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_points_that_moved_to_a_nearer_foot_are_named(backend: str) -> None:
    x, y = wave()
    fit = gf.fit("a*sin(w*x)", x, y, **options(backend))
    assert all(f"[{i}]" in fit.message for i in fit.moved[:2])
    assert "moved to a nearer foot" in fit.message
    assert fit.moved.tolist() == [5, 11]


def test_prepared_fit_names_the_points_too() -> None:
    x, y = wave()
    given = {k: v for k, v in options("native").items() if k != "backend"}
    fit = gf.prepare("a*sin(w*x)", **given)(x, y).full
    assert fit.moved.tolist() == [5, 11]


def test_no_point_moves_on_a_straight_line() -> None:
    fit = gf.fit("a + b*x", X, Y + 0.1 * np.cos(X), start={"a": 1, "b": 2})
    assert fit.moved.size == 0
    assert "moved" not in fit.message


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_moved_points_of_a_table_are_rows_and_of_one_group_its_own(backend: str) -> None:
    x, y = wave()
    alone = gf.fit("a*sin(w*x)", x, y, **options(backend))
    ids = np.repeat(["line", "wave"], [10, 25])
    both = gf.fit(
        "a*sin(w*x)",
        np.append(np.linspace(0, 0.1, 10), x),
        np.append(3 * np.sin(np.linspace(0, 1, 10)), y),
        groups=ids,
        **options(backend),
    )
    assert (both.moved - 10).tolist() == alone.moved.tolist()
    assert both["wave"].moved.tolist() == alone.moved.tolist()
    assert both["line"].moved.size == 0


def test_moved_points_are_kept_in_json() -> None:
    x, y = wave()
    fit = gf.fit("a*sin(w*x)", x, y, **options("auto"))
    again = gf.FitResult.from_json(fit.to_json())
    assert again.moved.tolist() == fit.moved.tolist()
    assert again.outliers.tolist() == fit.outliers.tolist()
