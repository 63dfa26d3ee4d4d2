"""What must hold of fits in which single responses were not measured."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit as gf
from laws.fits import assert_same_fit, errors, values

TRUTH = {"a": 2.0, "b": 0.8, "c": 0.5}
START = {"a": 1.8, "b": 0.7, "c": 0.4}
ERRORS = {"sx": 0.05, "sy": 0.1}


def curve(x: Any, a: Any, b: Any, c: Any) -> Any:
    return a * torch.exp(-b * x) + c


def twice(x: Any, a: Any, b: Any, c: Any) -> Any:
    return curve(x, a, b, c).expand(2, -1)


def model(x: Any, a: Any, b: Any, c: Any) -> Any:
    return torch.stack([curve(x, a, b, c), a - b * x + c * x**2])


def measured(law: Any, seed: int, n: int = 24) -> tuple[Any, Any]:
    return gf.simulate(law, TRUTH, np.linspace(0, 3, n), **ERRORS, seed=seed)


def gaps(seed: int, n: int) -> Any:
    """Return which of two responses (2, n) are missing: never both, of both some."""
    rng = np.random.default_rng(seed)
    gone = (rng.integers(0, 2, n) == np.arange(2)[:, None]) & (rng.random(n) < 0.4)
    gone[:, :2] = np.eye(2, dtype=bool)
    return gone


def assert_same(got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    assert_same_fit(got, wanted, tolerance)
    assert got.dof == wanted.dof
    np.testing.assert_allclose(got.cov, wanted.cov, rtol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), backend=st.sampled_from(["eager", "native"]))
def test_leaving_a_response_out_is_the_limit_of_a_large_error(seed: int, backend: str) -> None:
    x, y = measured(model, seed)
    gone = gaps(seed, len(x))
    asked: dict[str, Any] = {"sx": 0.05, "start": START, "backend": backend}
    without = gf.fit(model, x, y, sy=np.where(gone, np.inf, 0.1), **asked)
    limit = gf.fit(model, x, y, sy=np.where(gone, 1e9, 0.1), **asked)
    assert without.dof == limit.dof - gone.sum()
    np.testing.assert_allclose(values(without), values(limit), rtol=1e-8)
    np.testing.assert_allclose(without.cov, limit.cov, rtol=1e-6)
    assert without.chi2 == pytest.approx(limit.chi2, rel=1e-8)
    np.testing.assert_allclose(without.y_hat, limit.y_hat, rtol=1e-8)
    assert np.array_equal(np.isnan(without.eps), gone)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), backend=st.sampled_from(["eager", "native"]))
def test_a_response_that_nobody_measured_is_as_if_the_model_had_it_not(
    seed: int, backend: str
) -> None:
    x, y = measured(model, seed)
    asked: dict[str, Any] = {"sx": 0.05, "start": START, "backend": backend}
    alone = gf.fit(curve, x, y[0], sy=0.1, **asked)
    for y_k, sy, policy in (
        (np.full_like(x, np.nan), 0.1, "omit"),
        (y[1], np.array([[0.1], [np.inf]]), "raise"),
    ):
        both = np.stack([y[0], y_k])
        assert_same(gf.fit(model, x, both, sy=sy, nan_policy=policy, **asked), alone)


def apart(seed: int = 3, **asked: Any) -> tuple[Any, Any, Any]:
    """Fit points that have one of two equal responses, and the same points as those of one."""
    x, y = measured(curve, seed, 30)
    first = np.random.default_rng(seed).random(len(x)) < 0.5
    two = np.where(np.stack([first, ~first]), y, np.nan)
    one = gf.fit(curve, x, y, start=START, **ERRORS, **asked)
    return gf.fit(twice, x, two, start=START, nan_policy="omit", **ERRORS, **asked), one, first


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("cov_type", ["expected", "observed", "propagated", "sandwich"])
def test_one_response_a_point_is_a_fit_of_one_response(backend: str, cov_type: str) -> None:
    for more in ({}, {"absolute_sigma": False}, {"loss": "huber"}, {"loss": "cauchy"}):
        two, one, _ = apart(backend=backend, cov_type=cov_type, **more)
        assert_same(two, one)
        np.testing.assert_allclose(two.weights, one.weights, rtol=1e-8)
        np.testing.assert_allclose(two.x_hat, one.x_hat, rtol=1e-9)
        np.testing.assert_allclose(np.nansum(two.eps, 0), one.eps, atol=1e-9)
        assert two.p_value == pytest.approx(one.p_value, rel=1e-8, nan_ok=True)


def test_everything_that_is_asked_of_it_is_that_of_one_response() -> None:
    two, one, first = apart()

    def same(got: Any, wanted: Any, rtol: float = 1e-6) -> None:
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=1e-9)

    for level in (0.68, 0.95):
        same([*two.interval(level, "profile").values()], [*one.interval(level, "profile").values()])
    same(errors(two.jackknife()), errors(one.jackknife()))
    same([*two.bias.values()], [*one.bias.values()])
    pairs = [fit.bootstrap(200, "pairs", seed=1) for fit in (two, one)]
    same([*pairs[0].samples.values()], [*pairs[1].samples.values()], 1e-4)
    same([*pairs[0].acceleration.values()], [*pairs[1].acceleration.values()], 1e-4)
    mine, his = two.diagnostics(), one.diagnostics()
    same(mine.leverage, his.leverage)
    same(mine.cook, his.cook)
    same(np.where(first, *mine.residual), his.residual)
    assert np.isfinite(mine.residual).sum() == len(first)
    moves, wanted = two.influence(), one.influence()
    for name in TRUTH:
        same(moves.x[name], wanted.x[name])
        same(np.where(first, *moves.y[name]), wanted.y[name])
        same(np.where(first, *moves.y[name][::-1]), 0)
    assert float(two.graph().result) == pytest.approx(one.chi2, rel=1e-9)


def test_start_values_are_found_from_what_was_measured() -> None:
    x, y = measured(model, 5)
    # Every point lacks a response.
    y[np.arange(len(x)) % 2, np.arange(len(x))] = np.nan
    given = gf.fit(model, x, y, start=START, nan_policy="omit", **ERRORS)
    assert_same(gf.fit(model, x, y, nan_policy="omit", **ERRORS), given, 1e-8)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_fit_in_a_batch_is_the_fit_alone(backend: str) -> None:
    groups = np.repeat([7, 3, 5], [20, 30, 24])
    order = np.random.default_rng(0).permutation(len(groups))
    x, y = measured(model, 6, len(groups))
    x, y, groups = x[order], np.where(gaps(6, len(x)), np.nan, y)[:, order], groups[order]
    asked: dict[str, Any] = {**ERRORS, "start": START, "nan_policy": "omit", "backend": backend}
    many = gf.fit(model, x, y, groups=groups, **asked)
    for key in (7, 3, 5):
        alone = gf.fit(model, x[groups == key], y[:, groups == key], **asked)
        assert_same(many[key], alone)
        np.testing.assert_array_equal(np.isnan(many[key].eps), np.isnan(alone.eps))
    joint = gf.fit(
        model, x, y, groups=groups, shared=["a", "b", "c"], **{**asked, "backend": "auto"}
    )
    whole = gf.fit(model, x, y, **asked)
    np.testing.assert_allclose(joint[3].params["a"], whole.params["a"], rtol=1e-8)
    assert joint[3].dof == whole.dof


def test_an_infinite_sigma_and_nan_say_the_same_whatever_stands_there() -> None:
    x, y = measured(model, 8)
    gone = gaps(8, len(x))
    asked: dict[str, Any] = {"sx": 0.05, "start": START, "backend": "eager"}
    by_nan = gf.fit(model, x, np.where(gone, np.nan, y), sy=0.1, nan_policy="omit", **asked)
    sy = np.where(gone, np.inf, 0.1)
    for dummy in (0.0, -999.0, 1e300, np.nan, np.inf):
        by_inf = gf.fit(model, x, np.where(gone, dummy, y), sy=sy, **asked)
        assert by_inf.params == by_nan.params
        assert by_inf.chi2 == by_nan.chi2
        np.testing.assert_array_equal(by_inf.eps, by_nan.eps)
    unknown = np.where(gone, np.nan, 0.1)
    assert gf.fit(model, x, y, sy=unknown, nan_policy="omit", **asked).params == by_nan.params
