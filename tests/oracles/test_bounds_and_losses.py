"""Bounds and robust losses against SciPy's least_squares, where x is exact and both can."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import Points, points

import gradfit as gf

optimize = pytest.importorskip("scipy.optimize")


def scipy_fit(p: Points, start: np.ndarray, **options):
    """Minimise the same cost with exact derivatives."""

    def residuals(beta):
        return (p.f(p.x, beta) - p.y) / p.sy

    def jacobian(beta):
        steps = beta + 1e-30j * np.eye(len(beta))
        return np.array([p.f(p.x + 0j, b).imag / 1e-30 for b in steps]).T / p.sy[:, None]

    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 3000}
    return optimize.least_squares(residuals, start, jac=jacobian, **tight, **options)


def values(mapping) -> np.ndarray:
    return np.array(list(mapping.values()))


@settings(max_examples=40)
@given(points(("decay", "peak", "saturation"), correlated=False), st.integers(0, 2))
def test_bounded_fit_equals_least_squares(p: Points, which: int) -> None:
    names = list(p.truth)
    name = names[which % len(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        free = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sy=p.sy)
    # Where the points hardly tell a parameter, a bound may lead to another minimum, or to none.
    assume(free.success and free.stderr[name] < 0.3 * abs(free.params[name]))
    # A bound two standard errors inside the free optimum: it must become active.
    limit = free.params[name] - 2 * free.stderr[name]
    start = p.start | {name: limit - 0.5 * free.stderr[name]}
    got = gf.fit(p.formula.model(), p.x, p.y, start=start, sy=p.sy, bounds={name: (None, limit)})
    upper = np.full(len(names), np.inf)
    upper[names.index(name)] = limit
    peer = scipy_fit(p, values(start), bounds=(-np.inf, upper), x_scale="jac")
    assert got.success, got.message
    assert got.at_bound == (name,)
    assert got.params[name] == limit
    assert got.chi2 <= 2 * peer.cost * (1 + 1e-12)
    assert got.chi2 == pytest.approx(2 * peer.cost, rel=1e-6)
    # It is the fit with that parameter held there.
    rest = {k: v for k, v in start.items() if k != name}
    held = gf.fit(p.formula.model(), p.x, p.y, start=rest, sy=p.sy, fixed={name: limit})
    others = [k for k in names if k != name]
    for k in others:
        assert abs(got.params[k] - held.params[k]) <= 1e-8 * held.stderr[k]
        assert got.stderr[k] == pytest.approx(held.stderr[k], rel=1e-7)


@settings(max_examples=10)
@given(points(("decay", "peak"), correlated=False))
def test_bounds_that_do_not_bind_change_nothing(p: Points) -> None:
    wide = {k: (v - 100, v + 100) for k, v in p.start.items()}
    a = gf.fit(p.formula.model(), p.x, p.y, start=p.start, **p.errors, bounds=wide)
    b = gf.fit(p.formula.model(), p.x, p.y, start=p.start, **p.errors)
    assert a.at_bound == ()
    assert (np.abs(values(a.params) - values(b.params)) <= 1e-9 * values(b.stderr)).all()


@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy"])
@settings(max_examples=12)
@given(points(("line", "decay", "quadratic"), correlated=False), st.integers(0, 2**32 - 1))
def test_robust_fit_equals_least_squares(loss: str, p: Points, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bad = rng.choice(len(p.x), size=max(1, len(p.x) // 8), replace=False)
    p.y[bad] += 12 * p.sy[bad] * rng.choice([-1, 1], len(bad))
    got = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sy=p.sy, loss=(loss, 1.5))
    assert got.success, got.message
    u = (p.f(p.x, values(got.params)) - p.y) / p.sy / 1.5
    weights = {
        "huber": 1 / np.maximum(np.abs(u), 1),
        "soft_l1": 1 / np.sqrt(1 + u**2),
        "cauchy": 1 / (1 + u**2),
    }[loss]
    np.testing.assert_allclose(got.weights, weights, rtol=1e-7)
    # The weighted residuals are orthogonal to every column of the Jacobian ...
    steps = values(got.params) + 1e-30j * np.eye(len(p.truth))
    J = np.array([p.f(p.x + 0j, b).imag / 1e-30 for b in steps]).T / p.sy[:, None]
    gradient = (J * (1.5 * u * weights)[:, None]).sum(0)
    assert (np.abs(gradient) * values(got.stderr) <= 1e-9 * np.sqrt(got.chi2)).all()
    # ... and SciPy, started there, finds nothing better.
    peer = scipy_fit(p, values(got.params), loss=loss, f_scale=1.5, x_scale="jac")
    assert got.chi2 == pytest.approx(2 * peer.cost, rel=1e-9)


def test_robust_fit_names_the_outlier() -> None:
    x = np.linspace(0, 10, 30)
    rng = np.random.default_rng(3)
    y = 1 + 2 * x + 0.1 * rng.standard_normal(30)
    y[17] += 5
    for loss in ("huber", "soft_l1", "cauchy", "tukey"):
        got = gf.fit("a + b*x", x, y, start={"a": 0.9, "b": 2.1}, sx=0.05, sy=0.1, loss=loss)
        assert got.success
        assert np.argmin(got.weights) == 17
        assert abs(got.params["b"] - 2) < 5 * got.stderr["b"]
        far = gf.fit("a + b*x", x, y, start={"a": 0.9, "b": 2.1}, sx=0.05, sy=0.1)
        assert abs(got.params["b"] - 2) < abs(far.params["b"] - 2)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("seed", [6, 12, 21])
def test_a_bound_beside_which_the_rest_has_far_to_go(seed: int, backend: str) -> None:
    """Two whose rest, solved anew beside the bound, leads beyond the trust region.

    The third has no minimum in the direction that the bound holds, which is no trouble.
    """
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 5, 12)
    x = at + 0.05 * rng.standard_normal(12)
    y = 1.6 + 2.8 * np.exp(-0.32 * at) + 0.1 * rng.standard_normal(12)
    formula, errors = "a + b*exp(-c*x)", {"sx": 0.05, "sy": 0.1}
    free = gf.fit(formula, x, y, start={"a": 1.6, "b": 2.8, "c": 0.32}, **errors)
    limit = free.params["b"] + 1.5 * free.stderr["b"]
    start = {"a": 1.7, "b": limit + 0.05, "c": 0.35}
    bounds = {"b": (limit, None)}
    got = gf.fit(formula, x, y, start=start, bounds=bounds, backend=backend, **errors)

    def residuals(z: np.ndarray) -> np.ndarray:
        gap = z[0] + limit * np.exp(-z[1] * (x + 0.05 * z[2:])) - y
        return np.append(gap / 0.1, z[2:])

    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    dense = optimize.least_squares(residuals, np.append([1.7, 0.35], 0 * x), **tight)
    assert got.success, got.message
    assert got.at_bound == ("b",)
    assert got.params["b"] == limit
    assert got.chi2 == pytest.approx(2 * dense.cost, rel=1e-12)
    np.testing.assert_allclose(values(got.params)[[0, 2]], dense.x[:2], rtol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_parameter_at_its_bound_has_the_value_of_the_bound(backend: str) -> None:
    x, hits = np.linspace(0, 5, 12), 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = rng.uniform(1, 3) * np.exp(-0.4 * x) + 1 + 0.05 * rng.standard_normal(12)
        limit = round(float(rng.uniform(0.3, 0.9)), 3)
        got = gf.fit(
            "a*exp(-b*x) + c",
            x,
            y,
            start={"a": 2.0, "b": 0.2, "c": 0.1},
            sx=0.05,
            sy=0.05,
            bounds={"c": (None, limit)},
            backend=backend,
        )
        hits += "c" in got.at_bound
        assert "c" not in got.at_bound or got.params["c"] == limit
    assert hits > 25
