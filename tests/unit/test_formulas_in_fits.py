"""Formulas in fits: several responses in one, and columns that are no parameters."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.optimize import least_squares

import gradfit as gf
from gradfit.errors import InputError

T = np.linspace(0, 6, 15)
FED = "a*exp(-k*t) + c, b*(1 - exp(-k*t))"


@pytest.fixture
def measured() -> np.ndarray:
    rng = np.random.default_rng(0)
    truth = np.stack([3 * np.exp(-0.7 * T) + 0.2, 2 * (1 - np.exp(-0.7 * T))])
    return truth + 0.05 * rng.standard_normal((2, 15))


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_formula_of_two_values_is_fitted_to_two_responses(measured, backend):
    def off(params):
        a, k, c, b = params
        fades = np.exp(-k * T)
        return np.concatenate([a * fades + c - measured[0], b * (1 - fades) - measured[1]])

    best = least_squares(off, [1, 1, 0, 1], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    fit = gf.fit(FED, data={"t": T, "y": measured[0], "z": measured[1]}, x="t", y=["y", "z"],
                 sy=1.0, backend=backend)  # fmt: skip
    assert list(fit.params.values()) == pytest.approx(best.x, rel=1e-7)
    assert fit.chi2 == pytest.approx(2 * best.cost, rel=1e-12)
    assert fit.dof == 2 * 15 - 4
    assert fit.names == ("a", "k", "c", "b")


def test_a_formula_of_two_values_is_kept_predicts_and_is_shown(measured):
    fit = gf.fit(FED, data={"t": T, "y": measured[0], "z": measured[1]}, x="t", y=["y", "z"], sy=1)
    again = gf.FitResult.from_json(fit.to_json())
    np.testing.assert_array_equal(again.predict([1.0, 2.0]), fit.predict([1.0, 2.0]))
    assert fit.summary().startswith(f"Fit of y, z = {FED}\n")
    x, y = gf.simulate(FED.replace("t", "x"), fit.params, T, sx=0, sy=0)
    np.testing.assert_allclose(y, fit.predict(x), rtol=1e-14)


@pytest.mark.parametrize("start", [None, {"a": 1, "b": 1}])
def test_one_formula_for_two_responses_is_told_as_such(measured, start):
    with pytest.raises(gf.errors.ModelError, match="each of y, z; it returned .*formula for each"):
        gf.fit("a*x + b", data={"x": T, "y": measured[0], "z": measured[1]}, x="x", y=["y", "z"],
               start=start)  # fmt: skip


FRAMES = {"dict": dict, "pandas": pd.DataFrame, "polars": pl.DataFrame}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_a_column_that_is_not_x_is_never_taken_for_a_parameter(make):
    frame = make({"time": T, "z": T**2, "y": 2 * T})
    with pytest.raises(InputError, match=r"uses 'z', a column of the data .* as `x` \(time\)"):
        gf.fit("a*time + b*z", data=frame, x="time", y="y")
    with pytest.raises(InputError, match=r"uses 'y', a column of the data"):
        gf.fit("a*time + y", data=frame, x="time", y="y")
    fit = gf.fit("a*time + b*z", data=frame, x=["time", "z"], y="y", sy=1)
    assert fit.params == pytest.approx({"a": 2, "b": 0}, abs=1e-12)


def test_x_means_the_column_of_that_name_where_there_is_one():
    frame = {"time": T, "x": T**2, "y": 2 * T}
    with pytest.raises(InputError, match="Write 'time' for the variable, or give 'x'"):
        gf.fit("a*x", data=frame, x="time", y="y")
    assert gf.fit("a*x", data=frame, x="x", y="y", sy=1).names == ("a",)


@pytest.mark.parametrize(
    "said", [{"start": {"z": 1.0}}, {"fixed": {"b": 1.0, "z": 2.0}, "start": {"a": 0.0}}]
)
def test_what_is_called_a_parameter_is_one_whatever_columns_are_called(said):
    formula = "a*time + b + z" if "fixed" in said else "z*time"
    frame = {"time": T, "z": T**2, "y": 2 * T + 3}
    fit = gf.fit(formula, data=frame, x="time", y="y", sy=1, **said)
    assert "z" in fit.names


def test_a_curve_with_scatter_does_not_take_a_column_for_a_parameter():
    frame = {"u": T, "z": T**2, "v": 2 * T + np.cos(9 * T)}
    with pytest.raises(InputError, match="'z', a column"):
        gf.mnr("a*u + z", data=frame, x="u", y="v", sx=0.1, sy=0.1)
