"""Straight lines against closed forms, York's iteration and the figures that standards print."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import simulate

import gradfit as gf
from gradfit.errors import InputError
from oracles.york import york

N_LINES, N_POINTS = 200, 20


def weak_lines() -> tuple[np.ndarray, np.ndarray]:
    """200 sets of 20 points whose sample correlation is between 0.05 and 0.3, either sign."""
    rng = np.random.default_rng(20)
    xs, ys = [], []
    while len(xs) < N_LINES:
        x, v = rng.standard_normal((2, N_POINTS))
        r = rng.uniform(0.05, 0.3) * rng.choice([-1, 1])
        y = r * x + np.sqrt(1 - r**2) * v
        if 0.05 <= abs(np.corrcoef(x, y)[0, 1]) <= 0.3:
            xs.append(x)
            ys.append(y)
    return np.array(xs), np.array(ys)


def closed_form(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Angle of the line of least squared perpendicular distance."""
    u, v = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    return np.arctan2(2 * (u * v).sum(-1), (u * u - v * v).sum(-1)) / 2


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between two directions, which turn into themselves by half a turn."""
    return np.abs((a - b + np.pi / 2) % np.pi - np.pi / 2)


@pytest.mark.parametrize("swapped", [False, True])
def test_weak_lines_in_one_batch_equal_the_closed_form(swapped: bool) -> None:
    x, y = reversed(weak_lines()) if swapped else weak_lines()
    many = gf.line(x.ravel(), y.ravel(), groups=np.repeat(np.arange(N_LINES), N_POINTS))
    assert np.all(many.success)
    assert apart(np.arctan(many.params["slope"]), closed_form(x, y)).max() < 1e-10


@pytest.mark.parametrize("swapped", [False, True])
def test_weak_lines_one_by_one_equal_the_closed_form(swapped: bool) -> None:
    x, y = (v[::4] for v in (reversed(weak_lines()) if swapped else weak_lines()))
    fits = [gf.line(a, b) for a, b in zip(x, y, strict=True)]
    assert all(f.success for f in fits)
    angles = np.arctan([f.params["slope"] for f in fits])
    assert apart(angles, closed_form(x, y)).max() < 1e-10


@pytest.mark.parametrize("swapped", [False, True])
def test_weak_lines_as_a_formula_equal_the_closed_form(swapped: bool) -> None:
    x, y = reversed(weak_lines()) if swapped else weak_lines()
    ids = np.repeat(np.arange(N_LINES), N_POINTS)
    many = gf.fit("a + b*x", x.ravel(), y.ravel(), start={"a": 0, "b": 0}, groups=ids)
    assert np.all(many.success)
    assert apart(np.arctan(many.params["b"]), closed_form(x, y)).max() < 1e-10
    assert np.max(many.n_steps) < 60  # far from any limit


@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.booleans())
def test_line_equals_yorks_iteration(seed: int, n: int, correlated: bool) -> None:
    p = simulate("line", n, seed, noise=0.02, correlated=correlated)
    expected = york(p.x, p.y, p.sx, p.sy, 0.0 if p.rho is None else p.rho)
    got = gf.line(p.x, p.y, p.sx, p.sy, p.rho)
    assert got.success
    assert got.params["slope"] == pytest.approx(expected.slope, abs=1e-9 * expected.se_slope)
    assert got.params["intercept"] == pytest.approx(
        expected.intercept, abs=1e-9 * expected.se_intercept
    )
    assert got.stderr["slope"] == pytest.approx(expected.se_slope, rel=1e-8)
    assert got.stderr["intercept"] == pytest.approx(expected.se_intercept, rel=1e-8)
    names = list(got.names)
    i, j = names.index("intercept"), names.index("slope")
    assert got.cov[i, j] == pytest.approx(expected.cov, rel=1e-8)
    assert got.chi2 == pytest.approx(expected.chi2, rel=1e-10)


@settings(max_examples=20)
@given(st.floats(-1.55, 1.55), st.integers(0, 2**32 - 1))
def test_line_of_any_direction_equals_the_closed_form(angle: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    along, across = 3 * rng.standard_normal(25), 0.3 * rng.standard_normal(25)
    x = 5 + np.cos(angle) * along - np.sin(angle) * across
    y = -2 + np.sin(angle) * along + np.cos(angle) * across
    got = gf.line(x, y)
    assert got.success
    assert apart(np.arctan(got.params["slope"]), closed_form(x, y)) < 1e-11


def test_vertical_points_give_no_finite_slope_and_no_crash() -> None:
    y = np.arange(6.0)
    with pytest.warns(gf.errors.ConvergenceWarning, match="vertical line, at x = 2"):
        got = gf.line(np.full(6, 2.0), y)
    assert not got.success
    assert np.isinf(got.params["slope"])
    assert not np.isfinite(got.stderr["slope"])
    assert got.chi2 == 0


def test_horizontal_points_give_slope_zero() -> None:
    got = gf.line(np.arange(6.0), np.full(6, 2.0), 0.1, 0.1)
    assert got.success
    assert got.params["slope"] == pytest.approx(0, abs=1e-15)
    assert got.params["intercept"] == pytest.approx(2, rel=1e-15)
    assert got.chi2 == pytest.approx(0, abs=1e-25)


PEARSON_X = [0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4]
PEARSON_Y = [5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5]
YORK_WX = [1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1]
YORK_WY = [1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500]


def test_pearsons_points_with_yorks_weights_give_the_printed_line() -> None:
    sx, sy = np.array(YORK_WX) ** -0.5, np.array(YORK_WY) ** -0.5
    got = gf.line(PEARSON_X, PEARSON_Y, sx, sy)
    # York et al. (2004), as printed by the R package bfsl.
    assert got.params["intercept"] == pytest.approx(5.479910224, abs=5e-10)
    assert got.params["slope"] == pytest.approx(-0.480533407, abs=5e-10)
    assert got.stderr["intercept"] == pytest.approx(0.294970735, abs=5e-10)
    assert got.stderr["slope"] == pytest.approx(0.0579850090, abs=5e-11)
    assert got.mswd == pytest.approx(1.4832941492, abs=1e-10)
    scaled = gf.line(PEARSON_X, PEARSON_Y, sx, sy, absolute_sigma=False)
    # LinearFitXYerrors.jl.
    assert scaled.stderr["intercept"] == pytest.approx(0.35924652255111, abs=5e-14)
    assert scaled.stderr["slope"] == pytest.approx(0.07062026952877, abs=5e-14)


def test_iso_28037_clause_6_prints_these_figures() -> None:
    x, y = np.arange(1.0, 7), [3.3, 5.6, 7.1, 9.3, 10.7, 12.1]
    got = gf.line(x, y, sy=0.5)
    assert round(got.params["intercept"], 3) == 1.867
    assert round(got.params["slope"], 3) == 1.757
    assert round(got.stderr["intercept"], 3) == 0.465
    assert round(got.stderr["slope"], 3) == 0.120
    assert round(got.cov[0, 1], 3) == -0.050
    assert round(got.chi2, 3) == 1.665
    assert got.dof == 4


def test_iso_28037_clause_7_prints_these_figures() -> None:
    x, y = [1.2, 1.9, 2.9, 4.0, 4.7, 5.9], [3.4, 4.4, 7.2, 8.5, 10.8, 13.5]
    got = gf.line(x, y, 0.2, [0.2, 0.2, 0.2, 0.4, 0.4, 0.4])
    assert round(got.params["intercept"], 4) == 0.5788
    assert got.params["slope"] == pytest.approx(2.159, abs=1e-3)  # printed one unit too low
    assert round(got.stderr["intercept"], 4) == 0.4764
    assert round(got.stderr["slope"], 4) == 0.1355
    assert round(got.cov[0, 1], 4) == -0.0577
    assert round(got.chi2, 3) == 2.743


def test_many_lines_by_machine_code_are_york_s(rng):
    """In every direction; asked for, since so few lines would not repay compiling."""
    count, n = 400, 12
    angle = rng.uniform(0, np.pi, count)[:, None]
    along = np.linspace(-5, 5, n)
    sx, sy = rng.uniform(0.05, 0.2, (2, count, n))
    x = 3 + along * np.cos(angle) + sx * rng.standard_normal((count, n))
    y = -1 + along * np.sin(angle) + sy * rng.standard_normal((count, n))
    table = gf.line(
        *(v.ravel() for v in (x, y, sx, sy)),
        groups=np.repeat(np.arange(count), n),
        backend="native",
    )
    assert table.backend == "native"
    for k in range(0, count, 10):
        wanted = york(x[k], y[k], sx[k], sy[k], np.zeros(n))
        np.testing.assert_allclose(table.params["slope"][k], wanted.slope, 1e-9)
        np.testing.assert_allclose(table.params["intercept"][k], wanted.intercept, 1e-9)
        np.testing.assert_allclose(table.chi2[k], wanted.chi2, 1e-10)
        own = slice(k * n, (k + 1) * n)
        at = table.params["intercept"][k] + table.params["slope"][k] * table.x_hat[own]
        size = 1 + np.abs(table.params["slope"][k])
        np.testing.assert_allclose((table.y_hat[own] - at) / size, 0, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("tolerance", ["gtol", "ftol", "xtol"])
def test_tolerances_save_steps_of_york_s_line(backend, tolerance):
    d = gf.datasets.pearson_york
    given = d.x, d.y, d.sx, d.sy
    fine = gf.line(*given, backend=backend)
    rough = gf.line(*given, backend=backend, **{tolerance: 1e-4})
    wanted = york(*given, np.zeros(len(d.x)))
    assert fine.backend == rough.backend == backend
    assert rough.n_steps < fine.n_steps
    assert fine.params["slope"] == pytest.approx(wanted.slope, rel=1e-12)
    assert rough.params["slope"] == pytest.approx(wanted.slope, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": "cuda"}, "`backend` must be one of auto, eager, native; got 'cuda'"),
        ({"ftol": 1.0}, "`ftol` must be at least 0 and below 1"),
        ({"gtol": "small"}, "`gtol` must be one number"),
    ],
)
def test_lines_refuse_what_they_cannot_be_asked(options, told):
    with pytest.raises(InputError, match=told):
        gf.line([0, 1, 2], [0, 1, 3], **options)
