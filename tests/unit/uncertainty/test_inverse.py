"""Inverse prediction: published figures, closed forms, and which root."""

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError


def iso_line():
    """ISO/TS 28037:2010, clause 6.3, first example."""
    x, y = [1.0, 2, 3, 4, 5, 6], [3.3, 5.6, 7.1, 9.3, 10.7, 12.1]
    return gf.fit("a + b*x", x, y, sy=0.5, start={"a": 0, "b": 1})


def test_inverse_prediction_has_the_figures_of_iso_28037():
    x, error = iso_line().invert(10.5, sy=0.5)
    assert x == pytest.approx(4.913, abs=5e-4)
    assert error == pytest.approx(0.322, abs=5e-4)


def test_inverse_prediction_of_a_line_has_its_closed_form():
    fit = iso_line()
    a, b = fit.params.values()
    y, sy = np.array([4.0, 10.5]), np.array([0.5, 0.1])
    x, error = fit.invert(y, sy)
    np.testing.assert_allclose(x, (y - a) / b, rtol=1e-14)
    J = np.stack([np.ones(2), (y - a) / b])
    np.testing.assert_allclose(
        error, np.sqrt(np.einsum("pn,pr,rn->n", J, fit.cov, J) + sy**2) / b, rtol=1e-12
    )


def test_error_of_a_reading_is_that_of_the_fit_unless_told():
    fit = iso_line()
    assert fit.invert(8.0) == fit.invert(8.0, sy=0.5)
    scaled = gf.fit("a + b*x", [1, 2, 3, 4], [1.0, 2.2, 2.8, 4.1], start={"a": 0, "b": 1})
    assert scaled.invert(2.5) == scaled.invert(2.5, sy=np.sqrt(scaled.mswd))


def parabola():
    x = np.linspace(-2, 3, 11)
    return gf.fit("a*x**2", x, 2 * x**2 + 0.01 * np.cos(9 * x), sy=0.01, start={"a": 1})


def test_several_roots_are_refused_until_one_is_chosen():
    fit = parabola()
    with pytest.raises(InputError, match=r"y = 2 at 2 x, near -1\.\d+, 0?\.?\d+.*`near`"):
        fit.invert(2.0)
    assert fit.invert(2.0, near=-0.7).x == pytest.approx(-np.sqrt(2 / fit.params["a"]), rel=1e-14)
    assert fit.invert(2.0, between=(0, 3)).x == pytest.approx(np.sqrt(2 / fit.params["a"]))


def test_no_root_is_told_with_the_range_that_was_searched():
    with pytest.raises(InputError, match="nowhere y = -1 for x between -2 and 3. Give `between`"):
        parabola().invert(-1.0)
    assert parabola().invert(50.0, between=(0, 10)).x == pytest.approx(5.0, abs=0.01)


def test_roots_at_the_ends_of_the_range_are_found():
    fit = gf.fit("a*x", [0.0, 1, 2], [0.0, 2, 4], sy=0.1, start={"a": 1})
    ends = np.array([fit.predict(0.0), fit.predict(2.0)])
    np.testing.assert_allclose(fit.invert(ends, between=(0, 2)).x, [0, 2], atol=1e-15)


def test_tensors_come_back_as_tensors_and_numbers_as_numbers():
    fit = iso_line()
    x, error = fit.invert(torch.tensor([5.0, 8.0], dtype=torch.float64))
    assert isinstance(x, torch.Tensor)
    assert x.shape == error.shape == (2,)
    assert isinstance(fit.invert(5.0).x, float)


def test_wrong_questions_are_refused():
    fit = iso_line()
    with pytest.raises(InputError, match="`between` must rise"):
        fit.invert(5.0, between=(3, 1))
    with pytest.raises(InputError, match=r"`y` must be a finite number or have shape \(K,\)"):
        fit.invert(np.nan)
    with pytest.raises(InputError, match=r"`sy` must be a number or have shape \(2,\)"):
        fit.invert([5.0, 6.0], sy=[0.1, 0.1, 0.1])
    with pytest.raises(InputError, match="`sy` must not be negative"):
        fit.invert(5.0, sy=-1.0)
    plane = gf.fit(
        "a*x[0] + b*x[1]", np.array([[0.0, 1, 2], [1, 0, 1]]), [1.0, 2, 3], start={"a": 1, "b": 1}
    )
    with pytest.raises(InputError, match="one x and one y"):
        plane.invert(1.0)
