"""Summaries as a reader sees them: whole texts in tests/golden, and every warning once."""

import dataclasses
import math
import warnings

import made
import numpy as np
import pytest
import torch

from gradfit._fit import fit
from gradfit._types import Status
from gradfit._views.residuals import checks, farthest_expected, listed
from gradfit._views.words import warnings as warned
from gradfit.errors import ConvergenceWarning


def polynomial(x, a, b, c, d, e, f, g):
    return a + x * (b + x * (c + x * (d + x * (e + x * (f + x * g)))))


def many_parameters():
    rng = np.random.default_rng(7)
    x = np.linspace(-1, 1, 60)
    y = np.cos(2 * x) + rng.normal(0, 0.02, 60)
    start = dict.fromkeys("abcdefg", 0.1)
    return fit(polynomial, x, y, sy=0.02, start=start, cov_type="sandwich")


def limited():
    return fit(
        "a + b*x + c*x**2 + d", made.PEARSON_X, made.PEARSON_Y,
        start={"a": 5, "b": 0, "c": 1}, fixed={"d": 0.25}, bounds={"c": (0.1, None)},
    )  # fmt: skip


def undetermined():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = {"a": 1, "b": -1, "c": 5}
        return fit("a*b*x + c", made.PEARSON_X, made.PEARSON_Y, sy=0.2, start=start)


def outlying():
    y = made.PEARSON_Y.copy()
    y[[4, 8]] = 7.5, 0.2
    given = {"sx": 0.1, "sy": 0.2, "rho": 0.3, "start": {"a": 5, "b": 0}}
    return fit("a + b*x", made.PEARSON_X, y, **given), fit(
        "a + b*x", made.PEARSON_X, y, loss="tukey", **given
    )


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("york", made.york),
        ("decay", made.decay),
        ("limited", limited),
        ("many_parameters", many_parameters),
        ("outlying", lambda: outlying()[0]),
        ("robust", lambda: outlying()[1]),
        ("implicit", made.circle),
        ("failed", made.failed),
        ("bad_data", lambda: made.runs(8)[2]),
        ("two_points", lambda: made.straight([1, 2], [1, 3], 0.1, chi2=0.0)),
        ("table", lambda: made.runs(15)),
    ],
)
def test_summary_reads_as_it_did(name, make, golden):
    text = made.settled(make()).summary()
    assert max(map(len, text.splitlines())) <= 80
    golden(f"summary_{name}.txt", text)


def test_summary_of_york_has_his_published_numbers():
    # York, Canadian Journal of Physics 44 (1966) 1079; standard errors as reprinted by Reed (1989).
    text = made.york().summary()
    assert "a           5.48 ± 0.29" in text
    assert "b          -0.48 ± 0.06" in text
    assert "chi2     11.866 for 8 degrees of freedom" in text
    assert "MSWD     1.483" in text


def test_column_names_stay_as_given():
    assert "Fit of signal [mV] = a*exp(-b*x) + c" in made.decay().summary()


def test_a_function_shows_its_arguments():
    assert "Fit of round_curve(x[0], x[1], u, v, r) = 0" in made.circle().summary()


# -- warnings --------------------------------------------------------------------------------------

BASE = made.straight(np.arange(8.0), np.array([0, 1.2, 1.8, 3.1, 3.9, 5.2, 5.9, 7.0]), 0.15)


def test_a_sound_fit_has_no_warnings():
    assert warned(BASE) == []
    assert "!" not in BASE.summary()


def test_parameters_that_run_away_together_are_named():
    x = np.linspace(0, 10, 20)
    y = 2 * x + 1 + 0.1 * np.cos(7 * x)
    with pytest.warns(ConvergenceWarning, match="bound parameters that run away"):
        lost = fit("a*exp(-b*x) + c", x, y, sx=0.1, sy=0.1, start={"a": -10, "b": 0.1, "c": 10},
                   max_steps=100)  # fmt: skip
    said = "a, b and c make up for each other, and the best fit may lie at infinity"
    assert said in " ".join(lost.summary().split())
    early = fit("a*x + b", x, y, sx=0.1, sy=0.1, start={"a": 9, "b": -9})
    assert "at infinity" not in early.summary()


def test_x_far_from_zero_is_told_where_a_fit_fails_for_it():
    x = 1.7e9 + np.linspace(0, 600, 40)
    y = 5 * np.exp(-0.01 * (x - 1.7e9)) + 1
    with pytest.warns(ConvergenceWarning):
        lost = fit("a*exp(-b*x) + c", x, y, sy=0.05)
    assert "fit x - 1700000300 in the place of x" in " ".join(lost.summary().split())
    near = fit("a*exp(-b*(x - 1.7e9)) + c", x, y, sy=0.05)
    assert near.params == pytest.approx({"a": 5, "b": 0.01, "c": 1}, rel=1e-9)
    assert "first point" not in near.summary()


def test_units_that_leave_distances_to_x_alone_are_told():
    x, y = np.arange(9.0), 1e6 * np.arange(9.0) + 1e5 * np.cos(np.arange(9.0))
    start = {"a": 1e6, "b": 0}
    said = "no errors given, and y spans 1e6 times as much as x"
    assert said in " ".join(fit("a*x + b", x, y, start=start).summary().split())
    assert said not in " ".join(fit("a*x + b", x, y, sy=1e5, start=start).summary().split())
    assert "spans" not in fit("a*x + b", x, y / 1e6, start={"a": 1, "b": 0}).summary()


def test_a_long_formula_is_broken_between_its_terms():
    x = np.linspace(0, 1, 9)
    rate = "rate_of_the_decay_of_the_signal"
    text = f"height_of_the_signal*exp(-{rate}*x) + offset_of_the_amplifier_when_warm"
    lines = fit(text, x, np.exp(-x) + 0.01 * np.cos(9 * x)).summary().splitlines()
    assert lines[0] == f"Fit of y = height_of_the_signal*exp(-{rate}*x)"
    assert lines[1] == "  + offset_of_the_amplifier_when_warm"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition": 3e9}, "ill-conditioned (3e9)"),
        ({"at_bound": ("b",)}, "b ended at a bound: the other errors hold for b kept there"),
        ({"dof": 0, "p_value": math.nan}, "as many parameters as points"),
        ({"dof": 1}, "only 1 degree of freedom"),
        ({"dof": 2, "absolute_sigma": False}, "only 2 degrees of freedom; the errors are rough"),
        ({"p_value": 1e-5, "mswd": 4.0}, "the points scatter more than their sigmas allow"),
        ({"p_value": 1e-5, "mswd": 4.0}, "with sigmas 2 times as large they would agree"),
        ({"p_value": 0.0}, "(p < 1e-300)"),
        ({"p_value": 0.9995}, "the points agree better than their sigmas allow (p = 0.9995)"),
    ],
)
def test_warning(changes, said):
    found = warned(dataclasses.replace(BASE, **changes))
    assert len(found) == 1
    assert said in found[0]


def test_an_outlier_is_named():
    plain, robust = outlying()
    assert any("[4], [8], [2] and [0] lie farther" in text for text in warned(plain))
    told = "points [4] and [8] lie farther from the curve than errors explain, and count less"
    assert f"{told} (weight 0, 0)" in warned(robust)


def test_a_fit_without_numbers_warns_of_nothing_but_its_status():
    lost = dataclasses.replace(
        BASE, params={"a": math.nan, "b": math.nan}, condition=1e9, status=Status.BAD_DATA,
        success=False,
    )  # fmt: skip
    assert warned(lost) == []
    assert "FAILED (BAD_DATA)" in lost.summary()
    assert "nan" not in lost.summary()


def test_undetermined_parameters_have_no_error():
    text = undetermined().summary()
    assert "FAILED (SINGULAR): the data do not determine every parameter" in text
    assert [line.split()[-1] for line in text.splitlines() if line[:1] in {"a", "b"}][:2] == [
        "undetermined",
        "undetermined",
    ]


def test_many_points_are_listed_briefly():
    assert listed(np.arange(3)) == "points [0], [1] and [2]"
    assert listed(np.arange(1000)) == "points [0], [1], [2], [3], [4], [5] and 994 more"


# -- checks of residuals ---------------------------------------------------------------------------


def test_farthest_residual_is_exceeded_in_one_of_a_hundred_data_sets():
    rng = np.random.default_rng(3)
    far = np.abs(rng.normal(size=(20_000, 50))).max(1) > farthest_expected(50)
    # 200 expected; their own scatter is 14.
    assert 155 < far.sum() < 245


def test_a_trend_that_the_model_misses_shows_in_the_runs():
    x = np.linspace(0, 4, 40)
    found = {check.name: check for check in checks(made.straight(x, x**2, 1.0))}
    assert not found["runs of one sign"].fine
    assert found["runs of one sign"].verdict == "too few: the model misses a trend"
    assert found["runs of one sign"].found == "3 (expected 20)"


def test_alternating_residuals_show_in_the_runs():
    x = np.arange(40.0)
    found = checks(made.straight(x, np.where(x % 2, 1.0, -1.0), 1.0))[1]
    assert found.verdict == "too many: neighbours alternate"


def test_a_perfect_fit_is_not_called_as_expected():
    found = checks(made.straight([1, 2, 3], [1, 2, 3], 0.1))
    assert [check.fine for check in found] == [False, True]
    assert found[0].verdict == "no scatter: all points lie on the curve"


def test_summary_of_tensors_equals_that_of_arrays():
    x, y = torch.tensor(made.PEARSON_X), torch.tensor(made.PEARSON_Y)
    tensors = fit("a + b*x", x, y, sy=0.3, start={"a": 5, "b": 0})
    arrays = fit("a + b*x", made.PEARSON_X, made.PEARSON_Y, sy=0.3, start={"a": 5, "b": 0})
    assert made.settled(tensors).summary() == made.settled(arrays).summary()


def test_an_error_that_nothing_tells_is_called_unknown():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two = fit("a*x + b", [1, 2], [2, 4.0], start={"a": 1, "b": 1})
    text = two.summary()
    assert text.count("error unknown") == 2
    assert "nan" not in text
    assert "nan" not in two.plot().axes[0].get_title(loc="left")
