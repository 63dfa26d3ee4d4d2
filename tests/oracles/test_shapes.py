"""Shapes against reference problems, from no start values at all."""

from typing import Any

import numpy as np
import pytest

import gradfit as gf
from oracles import refsets

SAME = {
    "ggs94_circle6": gf.shapes.circle,
    "analytic_circle_kite": gf.shapes.circle,
    "ggs94_ellipse8": gf.shapes.ellipse,
    "odrpack_ex2_ellipse_geometric": gf.shapes.ellipse,
}
"""Problems whose parameters are those of a shape."""


def assert_agrees(got: Any, params: Any, stderr: Any, problem: refsets.RefSet) -> None:
    """Nine digits of every parameter or of its error, eight of the errors."""
    assert got.success, got.message
    limit = 1e-9 * np.maximum(np.abs(problem.beta), problem.expected("sd_gn"))
    assert (np.abs(np.array(params) - problem.beta) <= limit).all()
    np.testing.assert_allclose(stderr, problem.expected("sd_gn"), rtol=1e-8)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-12)
    assert got.dof == problem.dof


def assert_feet(got: Any, problem: refsets.RefSet) -> None:
    np.testing.assert_allclose(got.x_hat, problem.foot_x, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(got.delta, got.x_hat - problem.x, atol=1e-14)


@pytest.mark.parametrize("name", SAME)
def test_shape_agrees_with_the_reference(name: str) -> None:
    problem = refsets.load(name)
    got = SAME[name](problem.x, absolute_sigma=True)
    assert_agrees(got, list(got.params.values()), list(got.stderr.values()), problem)
    assert_feet(got, problem)
    spread = np.outer(problem.expected("sd_gn"), problem.expected("sd_gn"))
    np.testing.assert_allclose(got.cov / spread, problem.expected("cov_gn") / spread, atol=1e-8)


@pytest.mark.parametrize("kind", ["observed", "propagated"])
@pytest.mark.parametrize("name", SAME)
def test_other_kinds_of_errors_agree(name: str, kind: str) -> None:
    problem = refsets.load(name)
    got = SAME[name](problem.x, absolute_sigma=True, cov_type=kind)
    expected = problem.expected({"observed": "sd_hess", "propagated": "sd_propagated"}[kind])
    np.testing.assert_allclose(list(got.stderr.values()), expected, rtol=1e-7)


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
