"""What a search for start values keeps to, and what it says of the minima that it saw."""

import warnings

import numpy as np
import pytest

import gradfit as gf

SINE = "A*sin(2*pi*f*x + phi)"
TRUE = {"A": 2.0, "f": 1.1, "phi": 0.5}


def waves(count, uneven):
    """Return x, y and labels of ``count`` data sets with errors in x of a hundredth of a turn."""
    rng = np.random.default_rng(12)
    at = (
        np.sort(rng.uniform(0, 3, (count, 25))) if uneven else np.tile(np.linspace(0, 3, 25), count)
    )
    at = at.ravel()
    y = 2 * np.sin(2 * np.pi * 1.1 * at + 0.5) + rng.normal(0, 0.1, at.size)
    return at + rng.normal(0, 0.01, at.size), y, np.repeat(np.arange(count), 25)


@pytest.mark.parametrize("uneven", [False, True])
def test_no_steep_curve_is_bought_with_errors_of_x(uneven):
    x, y, label = waves(50, uneven)
    many = gf.fit(SINE, x, y, sx=0.01, sy=0.1, groups=label)
    led = gf.fit(SINE, x, y, sx=0.01, sy=0.1, groups=label, start=TRUE)
    np.testing.assert_allclose(np.abs(many.params["f"]), 1.1, atol=0.1)
    np.testing.assert_allclose(many.chi2, led.chi2, rtol=1e-6)
    for k in range(3):
        one = gf.fit(SINE, x[label == k], y[label == k], sx=0.01, sy=0.1)
        assert one.chi2 == pytest.approx(many.chi2[k], rel=1e-6)
        assert one.message == many[k].message


def test_what_turns_faster_than_points_can_show_is_told():
    x, y, _ = waves(1, uneven=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        fit = gf.fit(SINE, x, y, sx=0.01, sy=0.1, bounds={"f": (12, 20)})
    assert "turns faster than these points can show" in fit.message
    assert "turns faster" not in gf.fit(SINE, x, y, sx=0.01, sy=0.1).message


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_start_in_the_wrong_basin_is_told_of_the_lower_minimum(backend):
    rng = np.random.default_rng(1)
    x = np.linspace(0, 10, 60)
    y = 2 * np.sin(1.3 * x + 0.5) + rng.normal(0, 0.1, 60)
    given = {"sx": 0.02, "sy": 0.1, "backend": backend}
    far = gf.fit("a*sin(w*x + p)", x, y, start={"a": 2, "w": 3.1, "p": 0}, **given)
    free = gf.fit("a*sin(w*x + p)", x, y, **given)
    near = gf.fit("a*sin(w*x + p)", x, y, start={"a": 2, "w": 1.2, "p": 0.3}, **given)
    assert far.chi2 > 100 * free.chi2
    assert f"lower minimum, chi-square {free.chi2:.5g} at a = " in far.message
    assert "leave `start` out" in " ".join(str(far).split())
    assert "leave `start` out" in far.report()
    assert gf.FitResult.from_json(far.to_json()).message == far.message
    assert "minimum" not in near.message
    assert "minimum" not in free.message


def test_a_poor_fit_that_is_the_best_there_is_says_nothing_of_others():
    x = np.linspace(0, 4, 30)
    fit = gf.fit("a*exp(-b*x)", x, np.exp(-x) + 0.3 * np.sin(9 * x), sy=0.01, start=[1, 1])
    assert fit.p_value < 1e-9
    assert "minimum" not in fit.message


def test_two_minima_that_fit_about_as_well_are_told():
    x = np.linspace(0, 10, 60)
    y = 1.02 * np.exp(-((x - 3) ** 2)) + np.exp(-((x - 7) ** 2))
    fit = gf.fit("a*exp(-(x - m)**2)", x, y, sy=0.4)
    assert fit.params["m"] == pytest.approx(3, abs=0.1)
    assert "another minimum fits about as well: chi-square" in fit.message
    assert "m = 7" in fit.message or "m = 6.9" in fit.message
    # One curve written twice is one minimum.
    wave = gf.fit("a*sin(w*x + p)", x, 2 * np.sin(1.3 * x) + 0.1 * np.cos(40 * x), sy=0.1)
    assert "minimum" not in wave.message


def test_what_was_tried_is_told_and_a_forgotten_y_is_thought_of():
    x = np.linspace(1, 2, 9)
    with pytest.raises(gf.errors.InputError, match="no fit got under way .* NaN or inf there"):
        gf.fit("a*log(0*x) + b", x, x, sy=1)
    with pytest.raises(gf.errors.InputError, match="give `y` if it is not"):
        gf.fit("a*exp(-b*x) + c", x)


def test_an_implicit_search_keeps_to_bounds_and_to_the_scale_of_each_parameter():
    volt = np.array([0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.52, 0.54, 0.56, 0.58])
    ripple = 0.004 * np.cos(11 * np.arange(12))
    amp = 3.0 - 2e-8 * (np.exp(volt / 0.031) - 1) - 0.004 * volt + ripple
    cell = "il - i0*1e-8*(exp((x[0] + x[1]*rs)/(n*0.026)) - 1) - (x[0] + x[1]*rs)*g - x[1]"
    bounds = {"rs": (0, 1), "g": (0, 1), "i0": (0, 100), "n": (0.8, 2), "il": (0, 10)}
    fit = gf.fit(cell, np.stack([volt, amp]), sx=[0.002, 0.01], bounds=bounds)
    assert fit.chi2 < 0.6
    assert all(low <= fit.params[k] <= high for k, (low, high) in bounds.items())


def test_groups_are_searched_as_well_as_each_alone():
    rng = np.random.default_rng(4)
    label = np.repeat(np.arange(12), 40)
    rate = rng.uniform(0.5, 8, 12)[label]
    x = np.tile(np.linspace(0, 10, 40), 12)
    y = 2 * np.sin(rate * x + 0.5) + rng.normal(0, 0.3, x.size)
    many = gf.fit("a*sin(w*x + p)", x, y, sx=0.02, sy=0.3, groups=label)
    for k in range(12):
        one = gf.fit("a*sin(w*x + p)", x[label == k], y[label == k], sx=0.02, sy=0.3)
        assert many.chi2[k] == pytest.approx(one.chi2, rel=1e-9)
