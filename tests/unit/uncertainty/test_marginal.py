"""Intrinsic scatter: closed forms, an independent likelihood, and truth recovered."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import gradfit as gf
from gradfit.errors import InputError


def scattered(n=3000, seed=0, sx=1.0, sy=1.0):
    """Points of y = x with x of width 2 and intrinsic scatter 1.5."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, n)
    y = true + rng.normal(0, 1.5, n) + rng.normal(0, sy, n)
    return true + rng.normal(0, sx, n), y


def test_a_line_with_equal_errors_has_its_closed_form():
    x, y = scattered()
    fit = gf.mnr("a + b*x", x, y, sx=1.0, sy=1.0)
    S = np.cov(x, y, bias=True)
    b = S[0, 1] / (S[0, 0] - 1)
    assert fit.params["b"] == pytest.approx(b, rel=1e-9)
    assert fit.params["a"] == pytest.approx(y.mean() - b * x.mean(), abs=1e-9)
    assert fit.sigma_int**2 == pytest.approx(S[1, 1] - b * S[0, 1] - 1, rel=1e-9)
    assert fit.x_width**2 == pytest.approx(S[0, 0] - 1, rel=1e-9)
    assert fit.x_mean == pytest.approx(x.mean(), abs=1e-9)
    likelihood = scipy.stats.multivariate_normal(np.mean([x, y], 1), S).logpdf(np.stack([x, y], 1))
    assert fit.log_likelihood == pytest.approx(likelihood.sum(), rel=1e-10)


def test_slope_is_right_where_plain_distances_make_it_too_steep():
    x, y = scattered(10_000)
    fit = gf.mnr("a + b*x", x, y, sx=1.0, sy=1.0)
    assert abs(fit.params["b"] - 1) < 2 * fit.stderr["b"]
    assert abs(fit.sigma_int - 1.5) < 2 * fit.sigma_int_stderr
    plain = gf.fit("a + b*x", x, y, sx=1.0, sy=1.0, start={"a": 0, "b": 1})
    assert plain.params["b"] == pytest.approx(1.34, abs=0.03)


def test_unequal_correlated_errors_agree_with_an_independent_likelihood():
    rng = np.random.default_rng(1)
    n = 60
    sx, sy, rho = rng.uniform(0.2, 1, n), rng.uniform(0.2, 1, n), rng.uniform(-0.8, 0.8, n)
    true = rng.normal(1, 2, n)
    e = rng.standard_normal((2, n))
    x = true + sx * e[0]
    y = 0.5 + 2 * true + rng.normal(0, 0.7, n) + sy * (rho * e[0] + np.sqrt(1 - rho**2) * e[1])

    def deviance(u):
        a, b, s, m, w = u
        total = 0.0
        for k in range(n):
            C = np.array([[w**2, b * w**2], [b * w**2, b**2 * w**2 + s**2]])
            C += [[sx[k] ** 2, rho[k] * sx[k] * sy[k]], [rho[k] * sx[k] * sy[k], sy[k] ** 2]]
            d = np.array([x[k] - m, y[k] - a - b * m])
            total += d @ np.linalg.solve(C, d) + np.log(np.linalg.det(C))
        return total

    fit = gf.mnr("a + b*x", x, y, sx=sx, sy=sy, rho=rho)
    at = [*fit.params.values(), fit.sigma_int, fit.x_mean, fit.x_width]
    tight = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    best = scipy.optimize.minimize(deviance, at, method="Nelder-Mead", options=tight)
    assert best.fun == pytest.approx(deviance(at), rel=1e-11)
    np.testing.assert_allclose(at, best.x, rtol=1e-4)
    assert -2 * fit.log_likelihood == pytest.approx(best.fun + 2 * n * np.log(2 * np.pi), rel=1e-11)


def test_curves_with_scatter_are_recovered():
    rng = np.random.default_rng(0)
    true = rng.normal(2, 1, 4000)
    x = true + rng.normal(0, 0.3, 4000)
    y = 3 * np.exp(0.5 * true) + rng.normal(0, 1, 4000) + rng.normal(0, 0.2, 4000)
    fit = gf.mnr("a*exp(b*x)", x, y, sx=0.3, sy=0.2)
    assert fit.params["a"] == pytest.approx(3, rel=0.03)
    assert fit.params["b"] == pytest.approx(0.5, rel=0.02)
    assert fit.sigma_int == pytest.approx(1, rel=0.05)
    plain = gf.fit("a*exp(b*x)", x, y, sx=0.3, sy=0.2, start={"a": 3, "b": 0.5})
    assert abs(plain.params["b"] - 0.5) > 4 * abs(fit.params["b"] - 0.5)


def test_standard_errors_are_those_of_repetitions():
    given = {"sx": 1.0, "sy": 1.0, "start": {"a": 0, "b": 1}}
    found = [gf.mnr("a + b*x", *scattered(200, seed), **given) for seed in range(40)]
    seen = np.std([f.params["b"] for f in found], ddof=1)
    assert np.mean([f.stderr["b"] for f in found]) == pytest.approx(seen, rel=0.25)


def test_without_scatter_the_line_is_that_of_plain_distances():
    rng = np.random.default_rng(5)
    true = rng.normal(0, 50, 400)
    x, y = true + rng.normal(0, 1, 400), 2 * true + rng.normal(0, 1, 400)
    fit = gf.mnr("a + b*x", x, y, sx=1.0, sy=1.0)
    plain = gf.fit("a + b*x", x, y, sx=1.0, sy=1.0, start={"a": 0, "b": 1})
    assert fit.success
    assert abs(fit.params["b"] - plain.params["b"]) < 0.3 * plain.stderr["b"]


def test_fixed_parameters_stay_and_columns_are_named():
    x, y = scattered(300)
    fit = gf.mnr("a + b*t", data={"t": x, "v": y}, x="t", y="v", sx=1.0, sy=1.0, fixed={"a": 0.0})
    assert (fit.params["a"], fit.stderr["a"]) == (0.0, 0.0)
    assert fit.cov[0].tolist() == [0, 0]
    assert fit.predict(2.0) == pytest.approx(2 * fit.params["b"])
    assert repr(fit).startswith("<MarginalFit a=0, b=")


def test_summary_reads_as_it_did(golden):
    golden("uncertainty_mnr.txt", gf.mnr("a + b*x", *scattered(300), sx=1.0, sy=1.0).summary())


def test_what_it_is_not_for_is_refused():
    x, y = scattered(20)
    with pytest.raises(InputError, match="one `x` and one `y`"):
        gf.mnr("x[0] - a*x[1]", np.stack([x, y]), sx=1.0)
    with pytest.raises(InputError, match="`sx` is missing"):
        gf.mnr("a + b*x", x, y, sy=1.0)
