"""Models of which nothing is left to fit: what the data say of a published curve."""

import numpy as np
import pytest
from scipy import stats

import gradfit as gf

RNG = np.random.default_rng(8)
X = np.linspace(0.2, 5, 20)
CURVE, LINE = {"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 2.0}
Y_CURVE = 3 * np.exp(-X) + RNG.normal(0, 0.1, 20)
Y_LINE = 1 + 2 * X + RNG.normal(0, 0.2, 20)


def brute_force():
    """Return chi-square of the curve with feet from a fine grid."""
    grid = np.linspace(-2, 8, 400_001)
    feet = 3 * np.exp(-grid)
    return sum(
        (((x - grid) / 0.3) ** 2 + ((y - feet) / 0.1) ** 2).min()
        for x, y in zip(X, Y_CURVE, strict=True)
    )


@pytest.mark.parametrize("backend", ["eager", "native", "auto"])
def test_a_curve_without_a_free_parameter_is_evaluated(backend):
    fit = gf.fit("a*exp(-b*x)", X, Y_CURVE, sx=0.3, sy=0.1, fixed=CURVE, backend=backend)
    assert fit.success
    assert fit.chi2 == pytest.approx(brute_force(), rel=1e-6)
    assert (fit.dof, fit.params) == (20, CURVE)
    assert set(fit.stderr.values()) == {0.0}
    assert fit.p_value == pytest.approx(stats.chi2.sf(fit.chi2, 20), rel=1e-9)
    assert fit.message.startswith("evaluated: every parameter is fixed")
    np.testing.assert_allclose(fit.y_hat, 3 * np.exp(-fit.x_hat), rtol=1e-12)


@pytest.mark.parametrize("cov_type", ["expected", "observed", "propagated", "sandwich"])
def test_a_line_without_a_free_parameter_has_the_effective_variance(cov_type):
    fit = gf.fit("a + b*x", X, Y_LINE, sx=0.1, sy=0.2, fixed=LINE, cov_type=cov_type)
    want = ((Y_LINE - 1 - 2 * X) ** 2).sum() / (0.2**2 + 4 * 0.1**2)
    assert fit.chi2 == pytest.approx(want, rel=1e-12)
    assert not np.asarray(fit.cov).any()


def test_groups_prepared_fits_and_start_values_come_to_the_same():
    labels = np.repeat(["u", "v"], 10)
    given = {"sx": 0.1, "sy": 0.2, "fixed": LINE}
    for backend in ("eager", "native"):
        many = gf.fit("a + b*x", X, Y_LINE, groups=labels, backend=backend, **given)
        for k, key in enumerate(("u", "v")):
            one = gf.fit("a + b*x", X[labels == key], Y_LINE[labels == key], **given)
            assert many.chi2[k] == pytest.approx(one.chi2, rel=1e-12)
            assert (many.dof[k], many[key].message) == (10, one.message)
    assert "evaluated: every parameter is fixed" in str(many)
    one = gf.fit("a + b*x", X, Y_LINE, start={"a": 5, "b": 5}, bounds={"a": (0, 9)}, **given)
    prepared = gf.prepare("a + b*x", start=None, **given)(X, Y_LINE)
    assert prepared.chi2 == prepared.full.chi2 == pytest.approx(one.chi2, rel=1e-12)
    assert (prepared.dof, prepared.stderr) == (20, {"a": 0.0, "b": 0.0})


def test_an_implicit_curve_is_evaluated():
    angle = np.linspace(0, 6, 30)
    xy = np.stack([np.cos(angle), np.sin(angle)]) + RNG.normal(0, 0.05, (2, 30))
    fit = gf.fit("x[0]**2 + x[1]**2 - r**2", xy, sx=0.05, fixed={"r": 1.0})
    want = ((np.hypot(*xy) - 1) ** 2).sum() / 0.05**2
    assert (fit.chi2, fit.dof) == (pytest.approx(want, rel=1e-9), 30)


def test_what_follows_from_an_evaluated_curve_is_exact():
    fit = gf.fit("a + b*x", X, Y_LINE, sx=0.1, sy=0.2, fixed=LINE)
    for method in ("t", "profile", "bootstrap"):
        assert fit.interval(method=method) == {"a": (1.0, 1.0), "b": (2.0, 2.0)}
    band = fit.band([1.0, 2.0])
    np.testing.assert_array_equal([band.lower, band.upper], [[3, 5], [3, 5]])
    assert "every parameter is fixed" in str(fit.diagnostics())
    assert "one standard deviation" not in str(fit)
    assert "fixed" in str(fit)
