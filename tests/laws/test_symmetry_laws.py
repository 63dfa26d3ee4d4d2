"""What must not matter does not: order, units, scale, names of the axes; and the limits."""

import ast
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from agreement import assert_same_ends
from hypothesis import given
from hypothesis import strategies as st
from strategies import Points, points

import gradfit as gf
from laws.fits import FEW, assert_same_fit, errors, fit, values


@FEW
@given(points(), st.randoms(use_true_random=False))
def test_order_of_the_points_does_not_matter(p: Points, random: Any) -> None:
    order = list(range(len(p.x)))
    random.shuffle(order)
    a, b = fit(p.take(order)), fit(p)
    assert_same_fit(a, b)
    np.testing.assert_allclose(a.x_hat, b.x_hat[order], rtol=1e-9, atol=1e-9 * np.ptp(p.x))


UNITS = st.sampled_from([1e-9, 1e-3, 0.3048, 1.0, 60.0, 1e6])


@FEW
@given(points(("decay",)), UNITS, UNITS)
def test_change_of_units_transforms_parameters_and_nothing_else(
    p: Points, unit_x: float, unit_y: float
) -> None:
    scale = np.array([unit_y, 1 / unit_x, unit_y])
    moved = replace(
        p,
        x=p.x * unit_x,
        y=p.y * unit_y,
        sx=p.sx * unit_x,
        sy=p.sy * unit_y,
    )
    start = dict(zip(p.start, np.array(list(p.start.values())) * scale, strict=True))
    a, b = fit(moved, start=start), fit(p)
    assert_same_ends(a, b)
    assert (np.abs(values(a) - values(b) * scale) <= 1e-9 * errors(b) * scale).all()
    np.testing.assert_allclose(errors(a), errors(b) * scale, rtol=1e-8)
    assert a.chi2 == pytest.approx(b.chi2, rel=1e-10)
    assert a.condition == pytest.approx(b.condition, rel=1e-4)


@FEW
@given(points(), st.sampled_from([2.0**-20, 0.1, 3.0, 1e4]))
def test_all_errors_times_a_factor_leave_the_parameters(p: Points, factor: float) -> None:
    a = fit(replace(p, sx=p.sx * factor, sy=p.sy * factor))
    b = fit(p)
    assert a.success
    assert_same_ends(a, b)
    assert (np.abs(values(a) - values(b)) <= 1e-9 * errors(b)).all()
    np.testing.assert_allclose(errors(a), errors(b) * factor, rtol=1e-8)
    assert a.chi2 == pytest.approx(b.chi2 / factor**2, rel=1e-10)


@FEW
@given(points(("line",)))
def test_exchanging_x_and_y_inverts_the_slope(p: Points) -> None:
    a = gf.line(p.x, p.y, **p.errors)
    swapped = replace(p, x=p.y, y=p.x, sx=p.sy, sy=p.sx)
    b = gf.line(swapped.x, swapped.y, **swapped.errors)
    slope = a.params["slope"]
    se = a.stderr["slope"]
    assert abs(1 / b.params["slope"] - slope) <= 1e-9 * se
    assert abs(-b.params["intercept"] / b.params["slope"] - a.params["intercept"]) <= (
        1e-9 * a.stderr["intercept"] + 1e-10 * abs(a.params["intercept"])
    )
    assert b.stderr["slope"] == pytest.approx(se / slope**2, rel=1e-8)
    assert a.chi2 == pytest.approx(b.chi2, rel=1e-10)
    np.testing.assert_allclose(b.y_hat, a.x_hat, atol=1e-9 * np.ptp(p.x))


@FEW
@given(points(("decay", "quadratic")), st.floats(-50, 50))
def test_shift_of_y_shifts_the_constant(p: Points, by: float) -> None:
    name = {"decay": "c", "quadratic": "a"}[p.curve]
    moved = replace(p, y=p.y + by)
    start = p.start | {name: p.start[name] + by}
    a, b = fit(moved, start=start), fit(p)
    expected = values(b) + np.array([by * (k == name) for k in b.names])
    assert (np.abs(values(a) - expected) <= 1e-8 * errors(b)).all()
    assert a.chi2 == pytest.approx(b.chi2, rel=1e-9)


@FEW
@given(points(("line", "quadratic")))
def test_exact_x_is_weighted_least_squares(p: Points) -> None:
    n_params = len(p.truth)
    A = np.vander(p.x, n_params, increasing=True) / p.sy[:, None]
    expected = np.linalg.lstsq(A, p.y / p.sy)[0]
    cov = np.linalg.inv(A.T @ A)
    se = np.sqrt(np.diag(cov))
    for sx in (None, 0.0, np.zeros_like(p.x)):
        given_sx = {} if sx is None else {"sx": sx}
        got = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sy=p.sy, **given_sx)
        assert (np.abs(values(got) - expected) <= 1e-10 * se).all()
        np.testing.assert_allclose(got.cov / np.outer(se, se), cov / np.outer(se, se), atol=1e-9)
        np.testing.assert_array_equal(got.x_hat, p.x)


@FEW
@given(points(correlated=False))
def test_errors_of_x_fade_into_weighted_least_squares(p: Points) -> None:
    exact = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sy=p.sy)
    before = np.inf
    for factor in (1e-2, 1e-4, 1e-6):
        near = fit(replace(p, sx=p.sx * factor))
        apart = np.abs((values(near) - values(exact)) / errors(exact)).max()
        assert apart <= 2 * before * 1e-3 + 1e-8  # goes with the square of sx
        before = apart
    assert before < 1e-7


@FEW
@given(points(correlated=True))
def test_correlation_as_covariance_is_the_same_fit(p: Points) -> None:
    V = np.empty((len(p.x), 2, 2))
    V[:, 0, 0], V[:, 1, 1] = p.sx**2, p.sy**2
    V[:, 0, 1] = V[:, 1, 0] = p.rho * p.sx * p.sy
    b = fit(p)
    a = gf.fit(p.formula.model(), p.x, p.y, start=p.start, cov=V)
    assert_same_fit(a, b)
    np.testing.assert_allclose(a.x_hat, b.x_hat, atol=1e-9 * np.ptp(p.x))


@FEW
@given(points(("line", "decay", "peak")))
def test_fixed_parameter_is_a_model_without_it(p: Points) -> None:
    name = list(p.truth)[-1]
    held = p.truth[name] * 1.01
    rest = {k: v for k, v in p.start.items() if k != name}
    a = fit(p, start=rest, fixed={name: held})
    text = ast.parse(repr(held), mode="eval")
    without = replace(p.formula, lets=((name, text),), params=tuple(rest))
    b = fit(p, start=rest, model=without.model())
    assert a.params[name] == held
    assert a.stderr[name] == 0.0
    assert a.dof == b.dof == len(p.x) - len(rest)
    assert a.chi2 == pytest.approx(b.chi2, rel=1e-11)
    keep = [a.names.index(k) for k in rest]
    np.testing.assert_allclose(values(a)[keep], values(b), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(errors(a)[keep], errors(b), rtol=1e-9)


@FEW
@given(points(), st.floats(0.2, 5))
def test_doubling_every_point_halves_the_variance(p: Points, factor: float) -> None:
    twice = p.take(np.r_[np.arange(len(p.x)), np.arange(len(p.x))])
    a, b = fit(twice), fit(p)
    assert (np.abs(values(a) - values(b)) <= 1e-9 * errors(b)).all()
    np.testing.assert_allclose(errors(a), errors(b) / math.sqrt(2), rtol=1e-8)
    assert a.chi2 == pytest.approx(2 * b.chi2, rel=1e-10)
