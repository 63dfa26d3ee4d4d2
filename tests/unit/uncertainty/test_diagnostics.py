"""Leverage, Cook's distance and runs: textbook formulas, enumeration, and what is said of them."""

import itertools
import warnings

import made
import numpy as np
import pytest

import gradfit as gf
from gradfit._uncertainty.diagnostics import few_runs
from gradfit.errors import ConvergenceWarning, InputError


def test_leverage_and_cook_of_least_squares_are_those_of_the_hat_matrix():
    fit = gf.fit(
        "a + b*x + c*x**2", made.PEARSON_X, made.PEARSON_Y, sx=0, sy=1, absolute_sigma=False,
        start={"a": 5, "b": 0, "c": 0},
    )  # fmt: skip
    X = np.stack([made.PEARSON_X**k for k in range(3)], 1)
    H = X @ np.linalg.solve(X.T @ X, X.T)
    e = made.PEARSON_Y - H @ made.PEARSON_Y
    s2 = e @ e / (10 - 3)
    h = np.diag(H)
    found = fit.diagnostics()
    np.testing.assert_allclose(found.leverage, h, rtol=1e-9)
    np.testing.assert_allclose(found.cook, e**2 * h / (3 * s2 * (1 - h) ** 2), rtol=1e-8)
    np.testing.assert_allclose(found.studentised, e / np.sqrt(s2 * (1 - h)), rtol=1e-8)


@pytest.mark.parametrize("make", [made.york, made.decay, made.circle])
def test_leverages_add_up_to_the_number_of_parameters(make):
    fit = make()
    assert fit.diagnostics().leverage.sum() == pytest.approx(len(fit.names), rel=1e-9)


def test_cook_is_what_leaving_a_point_out_does():
    fit = made.york()
    found = fit.diagnostics()
    keep = np.arange(10) != 4
    less = gf.fit(
        "a + b*x", made.PEARSON_X[keep], made.PEARSON_Y[keep], sx=made.YORK_SX[keep],
        sy=made.YORK_SY[keep], start={"a": 5, "b": 0},
    )  # fmt: skip
    moved = np.array([less.params[n] - fit.params[n] for n in fit.names])
    exact = moved @ np.linalg.solve(fit.cov, moved) / 2
    assert found.cook[4] == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize(("above", "below"), [(1, 1), (2, 3), (4, 4), (5, 3)])
def test_probability_of_few_runs_is_that_of_all_orders_counted(above, below):
    orders = set(itertools.permutations([1] * above + [0] * below))
    runs = [1 + sum(a != b for a, b in itertools.pairwise(order)) for order in orders]
    for most in range(1, above + below + 1):
        share = sum(r <= most for r in runs) / len(orders)
        assert few_runs(most, above, below) == pytest.approx(share, rel=1e-14)


def test_probability_of_few_runs_goes_over_to_the_normal_one():
    assert few_runs(490, 500, 500) == pytest.approx(few_runs(490, 501, 500), rel=0.1)
    assert few_runs(490, 501, 500) == pytest.approx(0.2453, abs=2e-3)


def test_a_missed_trend_is_said():
    x = np.linspace(0, 4, 40)
    fit = gf.fit("a + b*x", x, np.exp(x), sy=1.0, start={"a": 0, "b": 1})
    found = fit.diagnostics()
    assert found.runs == 3
    assert "too few" in found.summary()
    assert "misses a trend" in str(found)


def test_an_undetermined_combination_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = gf.fit(
            "a*b*x + c", made.PEARSON_X, made.PEARSON_Y, sy=0.2, start={"a": 1, "b": -1, "c": 5}
        )
    text = fit.diagnostics().summary()
    assert "2 of 3 combinations; undetermined:" in text
    assert "*a" in text
    assert "*b" in text
    assert "*c" not in text


def test_a_weak_combination_is_named_where_the_condition_is_large():
    x = np.linspace(100, 101, 20)
    fit = gf.fit("a + b*x", x, x + 0.01 * np.cos(9 * x), sy=0.01, start={"a": 0, "b": 1})
    assert "least: 0.71*a -0.71*b" in fit.diagnostics().summary()
    assert "least" not in made.york().diagnostics().summary()


def test_a_point_that_holds_the_curve_is_named():
    x, y = [0, 1, 2, 3, 90], [1.1, 2.0, 2.9, 4.1, 95.0]
    found = gf.fit("a + b*x", x, y, sx=0.1, sy=0.1, start={"a": 0, "b": 1}).diagnostics()
    assert "far more than others: point [4]" in found.summary()
    assert "without point" in found.summary()


def test_rows_left_out_have_no_diagnostics_and_several_responses_keep_their_shape():
    y = made.PEARSON_Y.copy()
    y[2] = np.nan
    found = gf.fit(
        "a + b*x", made.PEARSON_X, y, sy=0.3, start={"a": 5, "b": 0}, nan_policy="omit"
    ).diagnostics()
    for values in (found.leverage, found.cook, found.residual, found.studentised):
        assert np.flatnonzero(np.isnan(values)).tolist() == [2]
    circle = made.circle().diagnostics()
    assert np.isnan(circle.runs_p_value)
    assert "one x, one y" in circle.summary()


def test_leverages_of_an_undetermined_fit_add_up_to_its_rank():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = gf.fit(
            "a*b*x + c", made.PEARSON_X, made.PEARSON_Y, sy=0.2, start={"a": 1, "b": -1, "c": 5}
        )
    assert fit.diagnostics().leverage.sum() == pytest.approx(2, rel=1e-8)
    with pytest.raises(InputError, match="needs data that determine every parameter: the data do"):
        fit.bootstrap()
    assert np.isnan(fit.bias["a"])
