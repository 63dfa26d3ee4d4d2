"""Shapes of which some parameters follow from others, asked like every other fit."""

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

import gradfit as gf
from gradfit.errors import InputError, ModelError

N = 24
T = np.linspace(0, 4, N)
H = np.tile([1.0, 2.0, 2.5], N // 3)


def shaken(seed: int, *rows: np.ndarray) -> np.ndarray:
    """Points with errors of 0.01, turned so that nothing lies along an axis."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(len(rows), len(rows))))[0]
    return turn @ (np.stack(rows) + 0.01 * np.random.default_rng(seed).normal(size=(len(rows), N)))


POINTS = {
    "plane": shaken(1, T, np.cos(3 * T), 0 * T + 2),
    "line3d": shaken(2, T, 0 * T + 1, 0 * T - 2),
    "cylinder": shaken(3, np.cos(5 * T), np.sin(5 * T), H),
    "cone": shaken(4, H * np.cos(5 * T), H * np.sin(5 * T), H),
    "conic": shaken(5, 2 * np.cos(T), np.sin(T)),
}


def fit(name: str, points: np.ndarray, **options: Any) -> Any:
    return getattr(gf.shapes, name)(points, **options)


def principal(points: np.ndarray, like: np.ndarray, k: int) -> np.ndarray:
    """Principal axis ``k`` of points, that of most spread first, on the side of ``like``."""
    U = np.linalg.svd(points - points.mean(1, keepdims=True))[0]
    return U[:, k] * np.sign(U[:, k] @ like)


def plane_by_svd(points: np.ndarray, like: np.ndarray) -> np.ndarray:
    n = principal(points, like[:3], 2)
    return np.append(n, n @ points.mean(1))


def line_by_svd(points: np.ndarray, like: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The point of the line nearest to a given centre, and its direction."""
    u, mean = principal(points, like[3:], 0), points.mean(1)
    return np.concatenate([mean + u * (u @ (centre - mean)), u])


def by_svd(name: str, points: np.ndarray, got: Any) -> np.ndarray:
    like, centre = np.array(list(got.params.values())), POINTS[name].mean(1)
    if name == "plane":
        return plane_by_svd(points, like)
    return line_by_svd(points, like, centre)


def samples(drawn: Any) -> np.ndarray:
    return np.stack(list(drawn.samples.values()))


@pytest.mark.parametrize("name", ["plane", "line3d"])
def test_refits_without_a_point_and_of_drawn_points_are_those_by_singular_values(name: str) -> None:
    points = POINTS[name]
    got = fit(name, points)
    every = [by_svd(name, np.delete(points, i, 1), got) for i in range(N)]
    np.testing.assert_allclose(samples(got.jackknife()).T, every, atol=1e-9)
    picked = np.random.default_rng(3).integers(0, N, (40, N))
    every = [by_svd(name, points[:, row], got) for row in picked]
    np.testing.assert_allclose(samples(got.bootstrap(40, seed=3)).T, every, atol=1e-9)


def solid(name: str, b: np.ndarray, points: np.ndarray, centre: np.ndarray) -> tuple[Any, Any]:
    """Distances from a cylinder or a cone, and its parameters as they are told."""
    u = b[3:6] / np.linalg.norm(b[3:6])
    away = points - b[:3, None]
    along = u @ away
    across = np.linalg.norm(away - np.outer(u, along), axis=0)
    if name == "cone":
        told = np.concatenate([b[:3], u, b[6:]])
        return np.cos(b[6]) * across - np.sin(b[6]) * along, told
    u = u * np.sign(u[np.abs(u).argmax()])  # as is told; SciPy may end at the other end
    told = np.concatenate([b[:3] + u * (u @ (centre - b[:3])), u, b[6:]])
    return across - b[6], told


@pytest.mark.parametrize("name", ["cylinder", "cone"])
def test_refits_without_a_point_are_those_of_scipy(name: str) -> None:
    points, got = POINTS[name], fit(name, POINTS[name])
    start, centre = np.array(list(got.params.values())), points.mean(1)
    every = []
    for i in range(N):
        rest = np.delete(points, i, 1)
        best = least_squares(
            lambda b, rest=rest: solid(name, b, rest, centre)[0], start, xtol=1e-15, ftol=1e-15
        )
        every.append(solid(name, best.x, rest, centre)[1])
    np.testing.assert_allclose(samples(got.jackknife()).T, every, atol=1e-8)


@pytest.mark.parametrize("name", POINTS)
def test_spread_of_refits_is_the_covariance(name: str) -> None:
    """To four standard errors of a spread of 400 refits, in the directions that have any."""
    got = fit(name, POINTS[name], sx=0.01)
    drawn = got.bootstrap(400, "parametric")
    assert drawn.n_failed < 8
    p = got.rank
    e, V = np.linalg.eigh(got.corr)
    assert (e[:-p] < 1e-9).all()
    size = np.sqrt(np.diag(got.cov))
    W = V[:, -p:] / np.sqrt(e[-p:]) / size[:, None]
    np.testing.assert_allclose(np.diag(W.T @ drawn.cov @ W), 1, atol=4 * np.sqrt(2 / 400))


@pytest.mark.parametrize("name", POINTS)
def test_influence_is_that_of_refits(name: str) -> None:
    points, h = POINTS[name], 1e-4
    got = fit(name, points, sx=0.01)
    centre = points.mean(1)
    moved = got.influence()
    for at in ((0, 2), (1, 17)):
        found = []
        for step in (h, -h, 2 * h, -2 * h):
            changed = points.copy()
            changed[at] += step
            b = np.array(list(fit(name, changed, sx=0.01).params.values()))
            if name in ("line3d", "cylinder"):  # told at the point nearest to another centre
                b[:3] += b[3:6] * (b[3:6] @ (centre - b[:3]))
            found.append(b)
        slope = (8 * (found[0] - found[1]) - found[2] + found[3]) / (12 * h)
        ours = [moved.x[n][at] for n in got.names]
        np.testing.assert_allclose(ours, slope, atol=1e-7 * max(1, np.abs(slope).max()))


def test_leverage_of_a_plane_is_that_of_a_regression_on_coordinates_in_it() -> None:
    points = POINTS["plane"]
    found = fit("plane", points).diagnostics()
    centred = points - points.mean(1, keepdims=True)
    inside = np.linalg.svd(centred)[0][:, :2].T @ centred
    X = np.column_stack([np.ones(N), *inside])
    hat = np.diag(X @ np.linalg.solve(X.T @ X, X.T))
    np.testing.assert_allclose(found.leverage, hat, rtol=1e-9)


def test_bias_of_a_unit_vector_is_what_its_spread_takes_off_its_length() -> None:
    """Of ``|u| = 1`` the mean is ``1 - trace(C) / 2`` long, to second order."""
    got = fit("line3d", POINTS["line3d"], sx=0.01)
    u = np.array([got.params[n] for n in ("ux", "uy", "uz")])
    off = np.array([got.bias[n] for n in ("ux", "uy", "uz")])
    np.testing.assert_allclose(u @ off, -np.trace(got.cov[3:, 3:]) / 2, rtol=1e-6)
    assert "bias" not in got.summary()


@pytest.mark.parametrize("name", POINTS)
def test_profiles_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match=f"in '{name}' .* hang together. Use \"bootstrap\"") as e:
        fit(name, POINTS[name]).interval(method="profile")
    assert "\n" not in str(e.value)


def test_intervals_by_refits_hold_the_estimate() -> None:
    got = fit("cylinder", POINTS["cylinder"])
    for method in ("jackknife", "t"):
        low, high = got.interval(0.9, method)["radius"]
        assert low < got.params["radius"] < high


def test_a_pickled_shape_answers_and_one_from_json_says_that_its_model_is_lost() -> None:
    got = fit("cylinder", POINTS["cylinder"])
    again = pickle.loads(pickle.dumps(got))
    np.testing.assert_array_equal(samples(again.jackknife()), samples(got.jackknife()))
    with pytest.raises(ModelError, match="'cylinder' was code when its fit was written as text"):
        gf.FitResult.from_json(got.to_json()).jackknife()
