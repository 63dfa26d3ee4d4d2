"""Shapes against reference problems, from no start values at all."""

from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from oracles import refsets

SAME = {
    "ggs94_circle6": gf.shapes.circle,
    "analytic_circle_kite": gf.shapes.circle,
    "ggs94_ellipse8": gf.shapes.ellipse,
    "odrpack_ex2_ellipse_geometric": gf.shapes.ellipse,
}
"""Problems whose parameters are those of a shape."""


FINE = 0.01
"""Standard deviations at which half axes differ by many of theirs, and an ellipse has an angle."""


def assert_agrees(
    got: Any, params: Any, stderr: Any, problem: refsets.RefSet, unit: float = 1
) -> None:
    """Nine digits of every parameter or of its error, eight of the errors, which are in `unit`."""
    assert got.success, got.message
    limit = 1e-9 * np.maximum(np.abs(problem.beta), problem.expected("sd_gn"))
    assert (np.abs(np.array(params) - problem.beta) <= limit).all()
    np.testing.assert_allclose(np.array(stderr) / unit, problem.expected("sd_gn"), rtol=1e-8)
    assert got.chi2 * unit**2 == pytest.approx(problem.chi2, rel=1e-12)
    assert got.dof == problem.dof


def assert_feet(got: Any, problem: refsets.RefSet) -> None:
    np.testing.assert_allclose(got.x_hat, problem.foot_x, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(got.delta, got.x_hat - problem.x, atol=1e-14)


@pytest.mark.parametrize("name", SAME)
def test_shape_agrees_with_the_reference(name: str) -> None:
    problem = refsets.load(name)
    got = SAME[name](problem.x, sx=FINE)
    assert_agrees(got, list(got.params.values()), list(got.stderr.values()), problem, FINE)
    assert_feet(got, problem)
    spread = FINE**2 * np.outer(problem.expected("sd_gn"), problem.expected("sd_gn"))
    expected = FINE**2 * problem.expected("cov_gn")
    np.testing.assert_allclose(got.cov / spread, expected / spread, atol=1e-8)


@pytest.mark.parametrize("kind", ["observed", "propagated"])
@pytest.mark.parametrize("name", SAME)
def test_other_kinds_of_errors_agree(name: str, kind: str) -> None:
    problem = refsets.load(name)
    got = SAME[name](problem.x, sx=FINE, cov_type=kind)
    expected = problem.expected({"observed": "sd_hess", "propagated": "sd_propagated"}[kind])
    np.testing.assert_allclose(np.array(list(got.stderr.values())) / FINE, expected, rtol=1e-7)


def test_scaled_errors_agree() -> None:
    problem = refsets.load("ggs94_circle6")
    got = gf.shapes.circle(problem.x[0], problem.x[1])
    expected = problem.expected("sd_gn_scaled")
    np.testing.assert_allclose(list(got.stderr.values()), expected, rtol=1e-8)


def test_general_conic_is_the_ellipse_of_odrpacks_second_example() -> None:
    problem = refsets.load("odrpack_ex2_ellipse")
    got = gf.shapes.conic(problem.x, absolute_sigma=True)

    def centred(coefficients: np.ndarray) -> np.ndarray:
        A, B, C, D, E, F = coefficients
        x0, y0 = np.linalg.solve([[2 * A, B], [B, 2 * C]], [-D, -E])
        level = -(F + (D * x0 + E * y0) / 2)
        return np.array([x0, y0, A / level, B / 2 / level, C / level])

    at = np.array(list(got.params.values()))
    J = jacobian(centred, at)
    assert_agrees(got, centred(at), np.sqrt(np.diag(J @ got.cov @ J.T)), problem)
    assert_feet(got, problem)


def jacobian(fn: Any, at: np.ndarray) -> np.ndarray:
    """Derivatives by differences of fourth order, with steps of 1e-3 of the size."""
    columns = []
    for k, size in enumerate(np.abs(at)):
        h = np.zeros_like(at)
        h[k] = 1e-3 * max(size, 0.1)
        near, far = fn(at + h) - fn(at - h), fn(at + 2 * h) - fn(at - 2 * h)
        columns.append((8 * near - far) / (12 * h[k]))
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", ["pearson_unit", "pearson_york", "mahon96_rho0", "analytic_tls3"])
def test_line_in_any_direction_agrees_with_the_explicit_line(name: str) -> None:
    problem = refsets.load(name)
    sx, sy = problem.sx, problem.sy
    got = gf.shapes.line2d(problem.x[0], problem.y[0], sx, sy, absolute_sigma=True)

    def explicit(at: np.ndarray) -> np.ndarray:
        return np.array([at[1] / np.cos(at[0]), np.tan(at[0])])

    at = np.array(list(got.params.values()))
    J = jacobian(explicit, at)
    assert_agrees(got, explicit(at), np.sqrt(np.diag(J @ got.cov @ J.T)), problem)


def test_line_with_correlated_errors_agrees() -> None:
    problem = refsets.load("isochron_york_rho08")
    got = gf.shapes.line2d(
        problem.x[0], problem.y[0], cov=problem.covariance(), absolute_sigma=True
    )
    assert np.tan(got.params["angle"]) == pytest.approx(problem.beta[1], rel=1e-9)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-11)


def test_best_line_of_a_square_is_no_line() -> None:
    problem = refsets.load("analytic_square4")
    with pytest.warns(gf.errors.ConvergenceWarning, match="SINGULAR"):
        got = gf.shapes.line2d(problem.x[0], problem.y[0])
    assert not got.success
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-12)


def test_circle_in_space_is_no_shape_here_but_its_plane_and_sphere_agree_with_svd() -> None:
    problem = refsets.load("geo_circle3d")
    got = gf.shapes.plane(problem.x)
    centre = problem.x.mean(1, keepdims=True)
    U, singular, _ = np.linalg.svd(problem.x - centre)
    n = U[:, 2] * np.sign(U[np.abs(U[:, 2]).argmax(), 2])
    np.testing.assert_allclose(list(got.params.values())[:3], n, rtol=1e-12)
    assert got.params["offset"] == pytest.approx(n @ centre[:, 0], rel=1e-12)
    assert got.chi2 == pytest.approx(singular[2] ** 2, rel=1e-12)


def explicit_line(at: np.ndarray) -> np.ndarray:
    """Where a line in space passes z = 0, and its slopes."""
    p, u = at[:3], at[3:]
    return np.array(
        [p[0] - u[0] / u[2] * p[2], u[0] / u[2], p[1] - u[1] / u[2] * p[2], u[1] / u[2]]
    )


def explicit_axis(at: np.ndarray) -> np.ndarray:
    b1, b3, b2, b4 = explicit_line(at[:6])
    return np.array([b1, b2, b3, b4, at[6]])


SPATIAL = {
    "geo_line3d": (gf.shapes.line3d, explicit_line),
    "geo_plane12": (gf.shapes.plane, lambda at: at[:3] / at[3]),
    "geo_sphere20": (gf.shapes.sphere, lambda at: at),
    "geo_cylinder30": (gf.shapes.cylinder, explicit_axis),
}
"""Problems in space, with what makes their parameters of those of the shape."""


@pytest.mark.parametrize("name", SPATIAL)
def test_shape_in_space_agrees_with_the_reference(name: str) -> None:
    problem = refsets.load(name)
    fit, explicit = SPATIAL[name]
    got = fit(problem.x, absolute_sigma=True)
    at = np.array(list(got.params.values()))
    J = jacobian(explicit, at)
    assert_agrees(got, explicit(at), np.sqrt(np.diag(J @ got.cov @ J.T)), problem)
    assert_feet(got, problem)


@pytest.mark.parametrize("kind", ["observed", "propagated"])
@pytest.mark.parametrize("name", SPATIAL)
def test_other_kinds_of_errors_agree_in_space(name: str, kind: str) -> None:
    problem = refsets.load(name)
    fit, explicit = SPATIAL[name]
    got = fit(problem.x, absolute_sigma=True, cov_type=kind)
    J = jacobian(explicit, np.array(list(got.params.values())))
    expected = problem.expected({"observed": "sd_hess", "propagated": "sd_propagated"}[kind])
    np.testing.assert_allclose(np.sqrt(np.diag(J @ got.cov @ J.T)), expected, rtol=1e-7)


def test_cone_is_the_cone_that_least_squares_of_distances_finds() -> None:
    """Against SciPy, from the true parameters: there is no published set."""
    from scipy.optimize import least_squares

    rng = np.random.default_rng(5)
    h, t = rng.uniform(1, 3, 40), rng.uniform(0, 2 * np.pi, 40)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = Q @ np.stack([h * 0.5 * np.cos(t), h * 0.5 * np.sin(t), h])
    points += np.array([[4.0], [5.0], [-6.0]]) + 0.01 * rng.normal(size=(3, 40))
    got = gf.shapes.cone(points)

    def distance(b: np.ndarray) -> np.ndarray:
        u = np.array([np.cos(b[3]) * np.cos(b[4]), np.cos(b[3]) * np.sin(b[4]), np.sin(b[3])])
        away = points - b[:3, None]
        along = u @ away
        across = np.linalg.norm(away - np.outer(u, along), axis=0)
        return np.cos(b[5]) * across - np.sin(b[5]) * along

    u = Q[:, 2]
    start = [4, 5, -6, np.arcsin(u[2]), np.arctan2(u[1], u[0]), np.arctan(0.5)]
    best = least_squares(distance, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert got.chi2 == pytest.approx(2 * best.cost, rel=1e-10)
    found = np.array(list(got.params.values()))
    np.testing.assert_allclose(found[:3], best.x[:3], rtol=1e-6)
    assert found[6] == pytest.approx(best.x[5], rel=1e-6)
    cov = np.linalg.inv(best.jac.T @ best.jac) * 2 * best.cost / (40 - 6)
    expected = np.sqrt(np.diag(cov))
    # SciPy's Jacobian is one of differences.
    np.testing.assert_allclose(list(got.stderr.values())[:3], expected[:3], rtol=1e-4)
    assert got.stderr["half_angle"] == pytest.approx(expected[5], rel=1e-4)
    assert got.dof == 40 - 6


def two_nappes(seed: int, noise: float, share: float, n: int = 30) -> tuple[Any, Any]:
    """Points of a cone of random pose, a share of them beyond its apex, and its chi-square."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(0.2, 1.2)
    h = rng.uniform(0.3, 2, n) * np.where(np.arange(n) < share * n, -1, 1)
    t = rng.uniform(0, 2 * np.pi, n)
    points = np.stack([h * np.tan(half) * np.cos(t), h * np.tan(half) * np.sin(t), h])
    points += noise * rng.normal(size=points.shape)
    # Distances from the nearer nappe, each of which is a cone of lines at the angle `half`.
    across, along = np.hypot(points[0], points[1]), np.abs(points[2])
    chi2 = np.sum((np.cos(half) * across - np.sin(half) * along) ** 2)
    Q, apex = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.uniform(-5, 5, 3)
    return Q @ points + apex[:, None], (*apex, *Q[:, 2], half, chi2)


@pytest.mark.parametrize("n", [12, 30])
@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_cone_of_two_nappes_is_found_in_any_pose(noise: float, share: float, n: int) -> None:
    made = [two_nappes(seed, noise, share, n) for seed in range(20)]
    points = np.concatenate([each for each, _ in made], axis=1)
    got = gf.shapes.cone(points, groups=np.repeat(np.arange(20), n))
    truth = np.array([each for _, each in made]).T
    assert got.success.all()
    assert (got.chi2 <= truth[-1] + 1e-20).all()
    if noise == 0:
        found = np.stack(list(got.params.values()))
        np.testing.assert_allclose(found[:3], truth[:3], atol=1e-11)
        np.testing.assert_allclose(np.abs((found[3:6] * truth[3:6]).sum(0)), 1, rtol=1e-14)
        np.testing.assert_allclose(found[6], truth[6], atol=1e-11)


def test_foot_points_on_both_nappes_lie_on_the_cone_that_is_told() -> None:
    """What asks a fit again, as bias and bootstrap do, asks the cone in these parameters."""
    points, _ = two_nappes(3, 0.01, 0.5)
    got = gf.shapes.cone(points, sx=0.01)
    values = [torch.tensor(v, dtype=torch.float64) for v in got.params.values()]
    off = got.model.call(torch.tensor(got.x_hat), values)
    np.testing.assert_allclose(off, 0, atol=1e-13)
    assert all(abs(got.bias[n]) < e for n, e in got.stderr.items())


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("apart", [0, 2, 4, 8])
@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
def test_angle_of_nearly_a_circle_is_covered_or_open(apart: float, absolute: bool) -> None:
    """Half axes that differ by some standard errors of their difference, from full ellipses.

    Where errors of the two components of ``(a - b) exp(2 i angle)`` are normal and equal, linear
    intervals beyond three standard errors hold the truth, or are open, in 94.2 % at least.
    """
    G, n, sigma = 300, 20, 0.02
    rng = np.random.default_rng(5)
    b = 1 - apart * sigma * np.sqrt(4 / n)
    t = np.arange(n) * 2 * np.pi / n + rng.uniform(0, 6, (G, 1))
    turn = rng.uniform(-1.5, 1.5, (G, 1))
    z = (np.cos(t) + 1j * b * np.sin(t)) * np.exp(1j * turn)
    x, y = z.real + sigma * rng.normal(size=z.shape), z.imag + sigma * rng.normal(size=z.shape)
    ids = np.repeat(np.arange(G), n)
    got = gf.shapes.ellipse(x.ravel(), y.ravel(), sigma, sigma, groups=ids, absolute_sigma=absolute)
    error = np.asarray(got.stderr["angle"])
    away = np.abs(np.arcsin(np.sin(np.asarray(got.params["angle"]) - turn[:, 0])))
    quantile = 1.959964 if absolute else 2.131450
    assert got.success.all()
    assert np.isfinite(np.stack([got.stderr[k] for k in ("x0", "y0", "a", "b")])).all()
    assert np.mean(away <= quantile * error) >= 0.942 - 3 * np.sqrt(0.942 * 0.058 / G)
    share_open = np.mean(np.isinf(error))
    assert share_open > 0.95 if apart == 0 else (share_open < 0.02 if apart == 8 else True)
