"""Profile likelihood: closed forms, where chi-square never rises, bounds, and honesty."""

import math

import made
import numpy as np
import pytest
import scipy.optimize

import gradfit as gf
from gradfit._uncertainty import profile as module
from gradfit.errors import ConvergenceWarning


def york_profile(b: float) -> float:
    """Chi-square of York's line of slope b, minimised over the intercept, in closed form."""
    w = 1 / (made.YORK_SY**2 + b**2 * made.YORK_SX**2)
    rest = made.PEARSON_Y - b * made.PEARSON_X
    return float(np.sum(w * (rest - np.average(rest, weights=w)) ** 2))


@pytest.mark.parametrize(("level", "z"), [(0.682689492137086, 1), (0.954499736103642, 2)])
def test_profile_of_a_line_ends_where_its_closed_form_does(level, z):
    fit = made.york()
    low, high = fit.interval(level, "profile")["b"]
    b = fit.params["b"]

    def rise(slope: float) -> float:
        return york_profile(slope) - york_profile(b) - z**2

    assert low == pytest.approx(scipy.optimize.brentq(rise, b - 1, b), rel=1e-8)
    assert high == pytest.approx(scipy.optimize.brentq(rise, b, b + 1), rel=1e-8)


def test_profile_of_a_linear_model_is_the_t_interval():
    fit = gf.fit("a + b*x", made.PEARSON_X, made.PEARSON_Y, sx=0, sy=1, absolute_sigma=False,
                 start={"a": 5, "b": 0})  # fmt: skip
    profile, t = fit.interval(0.9, "profile"), fit.interval(0.9)
    for n in fit.names:
        assert profile[n] == pytest.approx(t[n], rel=1e-8)


@pytest.mark.parametrize("make", [made.decay, made.circle])
def test_chi2_at_the_ends_has_risen_as_far_as_asked(make):
    fit = make()
    ends = fit.interval(0.95, "profile")
    data = fit.observed
    for n in fit.names:
        others = {k: v for k, v in fit.params.items() if k != n}
        for end in ends[n]:
            held = gf.fit(
                fit.model, data.x, data.y, sx=data.sx, sy=data.sy, start=others, fixed={n: end}
            )
            assert math.sqrt(held.chi2 - fit.chi2) == pytest.approx(1.959963984540054, rel=1e-7)


def test_an_interval_is_open_where_chi2_never_rises_so_far():
    # chi2(b) = (1 - b)^2 / (1 + b^2): 2 at b = -1, and 1 at both infinities.
    fit = gf.fit("b*x", [0.0, 1.0], [0.0, 1.0], sx=1, sy=1, start={"b": 0.5})
    c = 0.5
    low, high = fit.interval(math.erf(math.sqrt(c / 2)), "profile")["b"]
    roots = np.sort(np.roots([1 - c, -2, 1 - c]))
    np.testing.assert_allclose([low, high], roots, rtol=1e-7)
    low, high = fit.interval(math.erf(math.sqrt(1.5 / 2)), "profile")["b"]
    assert low == pytest.approx(np.max(np.roots([1 - 1.5, -2, 1 - 1.5])), rel=1e-7)
    assert high == math.inf


def test_an_interval_ends_at_a_bound():
    fit = made.decay(bounds={"c": (0.97, 5)}, start={"a": 3, "b": 0.3, "c": 1})
    free = made.decay().interval(0.95, "profile")["c"]
    assert free[0] < 0.97 < fit.params["c"]
    low, high = fit.interval(0.95, "profile")["c"]
    assert low == 0.97
    assert high == pytest.approx(free[1], rel=1e-8)


def test_fixed_parameters_have_an_interval_without_width_and_others_of_a_fit_without_them():
    fit = made.decay(fixed={"c": 1.0}, start={"a": 3, "b": 0.3})
    assert fit.interval(0.95, "profile")["c"] == (1.0, 1.0)


def test_profiles_of_robust_and_systematic_fits_are_found():
    for options in ({"loss": "cauchy"}, {"systematic": {"y": 0.05}}):
        fit = made.decay(**options)
        for n, (low, high) in fit.interval(0.68, "profile").items():
            assert low < fit.params[n] < high
            assert 0.7 < (high - low) / (2 * fit.stderr[n]) < 1.3


def test_a_better_minimum_on_the_way_is_told():
    x = np.linspace(0, 10, 60)
    y = np.sin(1.3 * x)
    wrong = gf.fit("sin(w*x) + c", x, y, sy=1.0, start={"w": 2.7, "c": 0.0})
    assert wrong.chi2 > 10
    with pytest.warns(ConvergenceWarning, match="smaller chi-square than the fit"):
        wrong.interval(0.9999, "profile")


def test_ends_that_are_not_found_are_nan_and_told(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 1)
    with pytest.warns(ConvergenceWarning, match="were not found"):
        ends = made.decay().interval(0.95, "profile")
    assert any(math.isnan(end) for pair in ends.values() for end in pair)


def test_many_points_are_followed_in_parts(monkeypatch):
    whole = made.york().interval(0.9, "profile")
    monkeypatch.setattr("gradfit._uncertainty.refit.TOGETHER", 15)
    for n, ends in made.york().interval(0.9, "profile").items():
        assert ends == pytest.approx(whole[n], rel=1e-9)
