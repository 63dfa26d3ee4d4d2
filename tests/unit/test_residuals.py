"""Residuals of a result: distances from the curve in standard deviations."""

import made
import numpy as np
import pytest
from made import X_SQUARED, X, Y, two_lines

from gradfit._fit import fit
from gradfit._views.residuals import standardised


@pytest.mark.parametrize(
    "errors",
    [
        {"sy": 0.3},
        {"sx": 0.2},
        {"sx": 0.2, "sy": np.linspace(0.1, 0.5, 7)},
        {"sx": 0.2, "sy": 0.3, "rho": -0.6},
        {"cov": [[0.04, 0.03], [0.03, 0.09]]},
        {"cov": np.linspace(1, 3, 7)[:, None, None] * np.array([[0.04, -0.01], [-0.01, 0.09]])},
        {},
    ],
)
def test_squares_of_residuals_add_up_to_chi2(errors):
    result = fit("a + b*x**2", X, Y, start={"a": 1, "b": 1}, **errors)
    scale = 1 if result.absolute_sigma else result.mswd
    assert np.sum(standardised(result) ** 2) == pytest.approx(result.chi2 / scale, rel=1e-9)


def test_residuals_are_positive_above_the_curve():
    result = made.york()
    above = result.predict(made.PEARSON_X) < made.PEARSON_Y
    assert ((standardised(result)[0] > 0) == above).all()


def test_residuals_of_an_implicit_fit_are_distances_in_sigma():
    result = made.circle()
    u, v, r = result.params.values()
    distance = np.hypot(result.observed.x[0] - u, result.observed.x[1] - v) - r
    np.testing.assert_allclose(standardised(result)[0], distance / 0.1, rtol=1e-7, atol=1e-9)


def test_residuals_of_several_responses_use_the_variance_of_each():
    x, y = np.linspace(0, 1, 8), np.stack([X_SQUARED, -X_SQUARED])
    result = fit(two_lines, x, y, sx=0.1, sy=[0.2, 0.4], start={"a": 1.0, "b": -1.0})
    a, b = result.params.values()
    slope = np.array([[a], [b]])
    off = y - slope * x
    spread = np.sqrt(np.array([[0.2], [0.4]]) ** 2 + slope**2 * 0.1**2)
    np.testing.assert_allclose(standardised(result), off / spread, rtol=1e-9)


def test_rows_left_out_have_no_residual():
    y = Y.copy()
    y[2] = np.nan
    result = fit("a + b*x", X, y, sy=0.3, start={"a": 0, "b": 1}, nan_policy="omit")
    assert np.flatnonzero(np.isnan(standardised(result)[0])).tolist() == [2]
    assert result.observed.n_points == 6


def test_squares_of_residuals_add_up_to_chi2_with_exact_coordinates():
    result = fit("a + b*x**2", X, Y, sx=0.2, sy=0.3, fix_x=np.arange(7) < 3, start={"a": 1, "b": 1})
    assert np.sum(standardised(result) ** 2) == pytest.approx(result.chi2, rel=1e-9)


def test_residuals_of_more_points_than_pass_at_once_are_those_of_each(monkeypatch):
    from gradfit._views import residuals

    results = [
        made.york(),
        made.circle(),
        fit("a + b*x", X, Y, sx=0.2, sy=0.3, rho=np.linspace(-0.5, 0.5, 7), start={"a": 1, "b": 1}),
        fit("a + b*x", X, Y, cov=X[:, None, None] * np.eye(2), start={"a": 1, "b": 1}),
    ]
    whole = [standardised(result) for result in results]
    monkeypatch.setattr(residuals, "CHUNK", 3)
    for result, expected in zip(results, whole, strict=True):
        np.testing.assert_array_equal(standardised(result), expected)


@pytest.mark.parametrize("level", [3.0, 0.1, 1e9])
@pytest.mark.parametrize("errors", [{}, {"sx": 0.1, "sy": 0.1, "absolute_sigma": False}])
def test_points_on_the_curve_are_no_outliers_however_small_the_scatter(level, errors):
    x = np.linspace(0, 6, 15)
    result = fit("a*x + b", x, np.full(15, level), start={"a": 1, "b": 0}, **errors)
    assert result.mswd < 1e-20 * level**2
    assert (standardised(result) == 0).all()
    assert "farther from the curve" not in result.summary()
