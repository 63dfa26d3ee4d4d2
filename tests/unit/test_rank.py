"""Fits whose data leave a combination of parameters open: found soon, called by its name."""

import warnings

import numpy as np
import pytest

import gradfit as gf
from gradfit import Status

X = np.array([0.0, 1.0, 2.0, 3.0])
Y = np.array([1.0, 2.9, 5.1, 7.0])


@pytest.mark.parametrize("start", [None, (1, 1, 0), (2, 3, 1), (-1, -5, 10), (1e-3, 1e3, 0)])
def test_a_product_of_parameters_is_singular_at_the_best_line(start) -> None:
    with pytest.warns(gf.errors.ConvergenceWarning, match="SINGULAR"):
        got = gf.fit("a*b*x + c", X, Y, sx=0.1, sy=0.1, start=start)
    line = gf.line(X, Y, 0.1, 0.1)
    assert got.status == Status.SINGULAR
    assert got.chi2 == pytest.approx(line.chi2, rel=1e-12)
    assert got.params["a"] * got.params["b"] == pytest.approx(line.params["slope"], rel=1e-9)
    assert got.params["c"] == pytest.approx(line.params["intercept"], rel=1e-9)
    assert got.stderr["c"] == pytest.approx(line.stderr["intercept"], rel=1e-9)
    assert np.isinf([got.stderr["a"], got.stderr["b"]]).all()
    assert got.rank == 2
    assert got.n_steps <= 60


def test_parameters_on_scales_far_apart_are_not_taken_for_open_ones() -> None:
    rng = np.random.default_rng(3)
    x = np.linspace(0, 10, 60)
    y = 1e9 * np.exp(-((x - 4) ** 2) / 2) + 1e9 * 1e-6 * np.exp(-0.2 * x)
    y = y + 1e2 * rng.standard_normal(60)
    start = {"a": 0.9e9, "b": 4.1, "c": 1.1, "d": 2e3, "k": 0.3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = gf.fit("a*exp(-(x-b)**2/(2*c**2)) + d*exp(-k*x)", x, y, sy=1e2, start=start)
    assert got.success
    assert got.rank == 5
