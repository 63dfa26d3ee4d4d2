"""One verdict on what the data leave open, in every parametrisation, unit and door."""

import re
import warnings
from typing import Any

import numpy as np
import pytest

import gradfit as gf
from gradfit import Status

ENGINES = ["eager", "native"]

# Zero up to x = 15, and on another level from x = 16 (SciPy, issue 5980).
STEP_X = np.arange(27.0)
STEP_Y = np.array([
    0, 0, 0, 0, 0, 0.27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0.76, 1.22, 1.04, 0.77, 1.28, 1.44, 1.44, 1.28, 0.93, 0.70, 0.91,
])  # fmt: skip
LOGISTIC = ["b/(1+exp(-(c+d*x)))", "b/(1+exp(-d*(x-x0)))", "b/(1+exp(-(x-x0)/w))", "logistic"]


def quiet(*args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        return gf.fit(*args, **options)


def noise(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("formula", LOGISTIC)
def test_a_jump_between_two_points_determines_no_rate(formula: str, backend: str) -> None:
    got = quiet(formula, STEP_X, STEP_Y, sy=1, absolute_sigma=False, backend=backend)
    assert got.status == Status.SINGULAR
    assert not got.success
    assert "undetermined" in got.message
    height = got.stderr[got.names[0]]
    assert np.isfinite(height)
    assert sum(np.isinf(list(got.stderr.values()))) == 2


def test_errors_beside_a_lost_rate_do_not_depend_on_how_it_is_written() -> None:
    heights = [
        quiet(f, STEP_X, STEP_Y, sy=1, absolute_sigma=False, backend="eager").stderr["b"]
        for f in LOGISTIC[:2]
    ]
    assert heights[0] == pytest.approx(heights[1], rel=1e-8)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e9])
def test_the_verdict_on_a_jump_does_not_depend_on_units(unit: float) -> None:
    formula, options = LOGISTIC[1], {"absolute_sigma": False, "backend": "native"}
    for x, y, sy in ((unit * STEP_X, STEP_Y, 1.0), (STEP_X, unit * STEP_Y, unit)):
        got = quiet(formula, x, y, sy=sy, **options)
        assert not got.success, (unit, got.stderr)


_x = np.linspace(0, 10, 21)
OPEN = {
    "jump with errors in x": (
        "a*tanh(k*(x-m))+c", _x, np.sign(_x - 4.7) + 0.02 * noise(21), {"sx": 0.01, "sy": 0.02},
    ),
    "an amplitude of nothing": (
        "a*exp(-b*x)+c*exp(-d*x)", _x, 3 * np.exp(-0.5 * _x),
        {"sy": 0.02, "start": {"a": 3, "b": 0.5, "c": 0, "d": 0.14}},
    ),
    "a square that wants to be negative": (
        "a**2*x", _x, -_x + 0.1 * noise(21), {"sy": 0.1, "start": {"a": 1}},
    ),
    "the same with errors in x": (
        "a**2*x", _x, -_x + 0.1 * noise(21), {"sx": 0.1, "sy": 0.1, "start": {"a": 1}},
    ),
    "a cube at its turning point": (
        "(a*x)**3", _x, 1 + 0.1 * noise(21), {"sy": 0.1, "start": {"a": 0.0}},
    ),
    "a product": ("a*w*exp(-(x-5)**2/2)", _x, 3 * np.exp(-((_x - 5) ** 2) / 2) + 0.02 * noise(21),
                  {"sy": 0.02}),
}  # fmt: skip


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", OPEN)
def test_what_nothing_holds_is_no_success(name: str, backend: str) -> None:
    formula, x, y, options = OPEN[name]
    got = quiet(formula, x, y, backend=backend, **options)
    assert not got.success, got.stderr


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", OPEN)
def test_in_a_batch_as_alone(name: str, backend: str) -> None:
    formula, x, y, options = OPEN[name]
    groups = np.repeat([0, 1], len(x))
    many = quiet(formula, np.tile(x, 2), np.tile(y, 2), groups=groups, backend=backend, **options)
    assert not many.success.any()
    assert (many.status == Status.SINGULAR).all()
    for error in many.stderr.values():
        assert not (np.isfinite(error) & (error > 1e6)).any()


def test_prepared_fits_give_the_same_verdict() -> None:
    fitter = gf.prepare(LOGISTIC[1], start={"b": 1, "d": 2, "x0": 15.5}, sy=1, absolute_sigma=False)
    got = fitter(STEP_X, STEP_Y)
    assert got.status == Status.SINGULAR
    assert not got.success
    assert np.isinf(got.stderr["d"])


@pytest.mark.parametrize("kind", ["observed", "propagated", "sandwich"])
@pytest.mark.parametrize("backend", ENGINES)
def test_every_kind_of_error_gives_the_same_verdict(kind: str, backend: str) -> None:
    formula, x, y, options = OPEN["jump with errors in x"]
    got = quiet(formula, x, y, backend=backend, cov_type=kind, **options)
    assert not got.success
    assert np.isinf([got.stderr["k"], got.stderr["m"]]).all()
    assert np.isfinite([got.stderr["a"], got.stderr["c"]]).all()


HELD = {
    "an intercept of exactly 0": ("a + b*x", _x - 5, 2 * (_x - 5), {"sy": 0.1}),
    "a slope of nearly 0": ("a + b*x", _x, 1 + 1e-7 * _x, {"sx": 0.1, "sy": 0.1}),
    "a peak at exactly 0": ("a*exp(-(x-m)**2/2)", _x - 5, 3 * np.exp(-((_x - 5) ** 2) / 2),
                            {"sy": 0.5}),
    "a weak curve": ("t*x/(h+x)", _x, 4 * _x / (8 + _x) + 0.3 * noise(21), {"sy": 0.3}),
    "exact data": ("a*exp(-b*x)", _x, 3 * np.exp(-0.5 * _x), {}),
    "exact data on a line through 0": ("a + b*x", _x, 2 * _x, {}),
}  # fmt: skip


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", HELD)
def test_a_value_of_nothing_with_an_error_is_a_success(name: str, backend: str) -> None:
    formula, x, y, options = HELD[name]
    got = gf.fit(formula, x, y, backend=backend, **options)
    assert got.success, got.message
    assert np.isfinite(list(got.stderr.values())).all()


# Ill-conditioned, and right all the same ---------------------------------------------------------


def polynomial(degree: int) -> str:
    return "+".join(["c0", *(f"c{k}*x**{k}" for k in range(1, degree + 1))])


FAR = {
    "cubic over calendar years": (3, 2004.5, 29.0, 30, 0.01),
    "quadratic over calendar years": (2, 2004.5, 29.0, 30, 0.0),
    "line over Julian dates": (1, 2459000.6, 0.3, 60, 1e-4),
    "line over unix seconds": (1, 1.7e9, 3600.0, 40, 0.0),
}


def far(name: str) -> tuple[str, np.ndarray, np.ndarray, float, dict[str, float]]:
    degree, centre, span, n, sx = FAR[name]
    rng = np.random.default_rng(330)
    u = np.linspace(-1, 1, n) * span / 2
    x = centre + u + sx * rng.standard_normal(n)
    y = np.polyval([0.7, -1.0, 1.5, 2.0][-degree - 1 :], u / (span / 2))
    y = y + 0.05 * rng.standard_normal(n)
    return polynomial(degree), x, y, centre, {"sx": sx, "sy": 0.05}


def shifted(params: dict[str, float], centre: float) -> np.ndarray:
    """Return the coefficients around ``centre`` of a polynomial in x, in exact arithmetic."""
    from fractions import Fraction

    c = [Fraction(v) for v in params.values()]
    out: list[Fraction] = []
    for _ in range(len(c)):
        for k in range(len(c) - 2, len(out) - 1, -1):
            c[k] += Fraction(centre) * c[k + 1]
        out.append(c[len(out)])
    return np.array([float(v) for v in out])


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", FAR)
def test_far_from_zero_the_numbers_are_those_of_centred_data(name: str, backend: str) -> None:
    formula, x, y, centre, errors = far(name)
    got = gf.fit(formula, x, y, backend=backend, **errors)
    ref = gf.fit(formula, x - centre, y, backend="eager", **errors)
    last = got.names[-1]
    assert got.success
    assert got.rank == len(got.names)
    assert got.chi2 == pytest.approx(ref.chi2, rel=1e-6)
    assert got.params[last] == pytest.approx(ref.params[last], rel=1e-5)
    assert got.stderr[last] == pytest.approx(ref.stderr[last], rel=1e-5)
    around, centred = shifted(got.params, centre), list(ref.params.values())
    assert np.abs((around - centred) / list(ref.stderr.values())).max() < 1e-3


@pytest.mark.parametrize("backend", ENGINES)
def test_far_from_zero_in_a_batch_prepared_and_resampled(backend: str) -> None:
    formula, x, y, _, errors = far("cubic over calendar years")
    alone = gf.fit(formula, x, y, backend=backend, **errors)
    groups = np.repeat(np.arange(9), len(x))
    many = gf.fit(formula, np.tile(x, 9), np.tile(y, 9), groups=groups, backend=backend, **errors)
    assert many.success.all()
    np.testing.assert_allclose(many.stderr["c3"], alone.stderr["c3"], rtol=1e-6)
    prepared = gf.prepare(formula, start=alone.params, **errors)(x, y)
    assert prepared.success
    assert prepared.stderr["c3"] == pytest.approx(alone.stderr["c3"], rel=1e-6)
    drawn = alone.bootstrap(50, "parametric")
    assert len(drawn.samples["c3"]) == 50


def test_where_digits_are_lost_the_remedy_has_its_number() -> None:
    formula, x, y, _, errors = far("cubic over calendar years")
    said = " ".join(gf.fit(formula, x, y, **errors).summary().split())
    assert re.search("fit x - 200[45] in the place of x", said)
    t = np.linspace(0, 3e5, 40)
    decay = quiet("a*exp(-x/tau)", 1.6e9 + t, 5 * np.exp(-t / 1e5), sy=0.05)
    assert not decay.success
    said = " ".join(decay.summary().split())
    assert "fit x - 1600150000 in the place of x" in said
