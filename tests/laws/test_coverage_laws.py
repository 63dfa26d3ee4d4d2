"""Uncertainties are what they say: simulated intervals cover the truth as often as they should."""

import math

import numpy as np
import pytest

import gradfit as gf


@pytest.mark.slow
@pytest.mark.parametrize("correlated", [False, True])
def test_intervals_of_one_standard_error_cover_68_per_cent(correlated: bool) -> None:
    n_sets, n = 4000, 25
    rng = np.random.default_rng(31)
    truth = {"a": 4.0, "b": 0.5, "c": 0.5}
    t = np.tile(np.linspace(0, 7, n), n_sets)
    sx, sy, rho = 0.02, 0.03, 0.6 if correlated else 0.0
    u, v = rng.standard_normal((2, t.size))
    x = t + sx * u
    y = 4.0 * np.exp(-0.5 * t) + 0.5 + sy * (rho * u + math.sqrt(1 - rho**2) * v)
    many = gf.fit(
        "a*exp(-b*x) + c",
        x,
        y,
        start=truth,
        sx=sx,
        sy=sy,
        rho=rho,
        groups=np.repeat(np.arange(n_sets), n),
    )
    assert np.all(many.success)
    half_width = 3.5 * math.sqrt(0.6827 * 0.3173 / n_sets)
    for name, value in truth.items():
        inside = np.abs(np.asarray(many.params[name]) - value) < np.asarray(many.stderr[name])
        assert abs(inside.mean() - 0.6827) < half_width
    # chi2 has the mean and variance of its degrees of freedom.
    chi2 = np.asarray(many.chi2)
    dof = n - 3
    assert abs(chi2.mean() - dof) < 4 * math.sqrt(2 * dof / n_sets)
    assert abs(chi2.var() / (2 * dof) - 1) < 0.15


@pytest.mark.slow
def test_scaled_intervals_cover_where_only_the_ratio_is_known() -> None:
    n_sets, n = 4000, 30
    rng = np.random.default_rng(32)
    t = np.tile(np.linspace(0, 10, n), n_sets)
    x, y = t + 0.1 * rng.standard_normal(t.size), 1 + 2 * t + 0.1 * rng.standard_normal(t.size)
    many = gf.line(x, y, groups=np.repeat(np.arange(n_sets), n))
    inside = np.abs(np.asarray(many.params["slope"]) - 2) < np.asarray(many.stderr["slope"])
    # Student's t with 28 degrees of freedom covers 67.4 % within one standard error.
    assert abs(inside.mean() - 0.674) < 3.5 * math.sqrt(0.674 * 0.326 / n_sets)
