"""Simulated points: exact where asked, noise of the stated size and correlation, reproducible."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError

EXAMPLES = Path(__file__).parents[2] / "examples"
X = np.linspace(0.0, 4.0, 5)


def test_without_sigmas_points_lie_on_the_curve():
    x, y = gf.simulate("a*exp(-b*x)", {"a": 2.0, "b": 0.5}, X)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(y, 2 * np.exp(-X / 2), rtol=1e-15)


def test_parameters_come_by_name_in_order_by_default_or_per_point():
    def model(x, a, b=3.0):
        return a * x + b

    expected = 2 * X + 3
    for params in ({"a": 2}, [2, 3.0], {"b": 3, "a": np.full(5, 2.0)}):
        np.testing.assert_allclose(gf.simulate(model, params, X)[1], expected)


def test_the_same_seed_gives_the_same_noise_whatever_its_size():
    one = gf.simulate("line", [0, 0], X, sx=1, sy=1, seed=5)
    again = gf.simulate("line", [0, 0], X, sx=0, sy=10, seed=5)
    other = gf.simulate("line", [0, 0], X, sx=1, sy=1, seed=6)
    np.testing.assert_array_equal(again[0], X)
    np.testing.assert_allclose(again[1], 10 * one[1])
    assert not np.allclose(other[1], one[1])


def test_a_generator_goes_on_from_call_to_call():
    rng = np.random.default_rng(1)
    first, second = (gf.simulate("line", [0, 0], X, sy=1, seed=rng)[1] for _ in range(2))
    assert not np.allclose(first, second)


def test_noise_has_the_stated_covariance():
    n = 200_000
    cov = np.array([[4.0, -1.0, 0.3], [-1.0, 1.0, 0.2], [0.3, 0.2, 0.25]])
    truth = np.zeros((2, n))
    x, y = gf.simulate("a*x[0] + b*x[1]", [0.0, 0.0], truth, cov=cov, seed=2)
    found = np.cov(np.vstack([x, y]))
    # Five standard errors of a sampled covariance.
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)
    assert (np.abs(found - cov) < 5 * error).all()


def test_correlation_of_x_and_y_is_that_of_each_point():
    rho = np.repeat([-0.9, 0.0, 1.0], 50_000)
    x, y = gf.simulate("a + 0*x", [0.0], np.zeros(150_000), sx=2, sy=0.5, rho=rho, seed=3)
    for part, r in ((slice(0, 50_000), -0.9), (slice(50_000, 100_000), 0.0)):
        assert np.corrcoef(x[part], y[part])[0, 1] == pytest.approx(r, abs=5 / np.sqrt(50_000))
    np.testing.assert_allclose(y[100_000:], x[100_000:] / 4)
    assert x.std() == pytest.approx(2, rel=5 / np.sqrt(2 * 150_000))


def test_a_singular_covariance_leaves_a_coordinate_exact():
    x, y = gf.simulate("line", [1, 0], X, cov=[[0, 0], [0, 1]])
    np.testing.assert_allclose(x, X, atol=1e-15)
    assert not np.allclose(y, X)


def test_shapes_and_kinds_are_those_of_the_input():
    x, y = gf.simulate("line", [1, 0], torch.linspace(0, 1, 4), sx=0.1)
    assert isinstance(x, torch.Tensor)
    assert y.dtype == torch.float64
    x, y = gf.simulate(lambda x, a: torch.stack([a * x[0], x[1]]), [2.0], np.ones((2, 3)), sy=1)
    assert x.shape == y.shape == (2, 3)
    x, y = gf.simulate("line", [1, 0], [1, 2, 3])
    assert isinstance(y, np.ndarray)
    assert y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (({"a": 1.0},), r"`params` gives no value for 'b'; the parameters of 'a\*x \+ b' are a, b"),
        (({"a": 1, "b": 1, "c": 1},), r"`params` names 'c', which is no parameter"),
        (([1.0],), r"`params` has 1 values, but 'a\*x \+ b' has 2 parameters: a, b"),
        (({"a": [1, 2], "b": 1},), r"`params` of 'a' must be a number or have shape \(5,\)"),
        (({"a": "1", "b": 1},), r"`params` of 'a' must hold numbers"),
        (({"a": np.inf, "b": 1},), r"NaN or inf at some `x_true`"),
    ],
)
def test_wrong_parameters_are_refused(arguments, reason):
    with pytest.raises(InputError, match=reason):
        gf.simulate("a*x + b", *arguments, X)


def test_wrong_sigmas_are_refused_as_in_a_fit():
    with pytest.raises(InputError, match=r"`sx` must not be negative"):
        gf.simulate("line", [1, 0], X, sx=-1)


def read(name):
    with (EXAMPLES / f"{name}.csv").open() as file:
        header = file.readline().strip().split(",")
        return header, np.loadtxt(file, delimiter=",").T


def test_the_example_of_a_decay_is_simulated():
    header, (time, signal, dt, dv) = read("decay")
    assert header == ["time", "signal", "dt", "dv"]
    truth = {"amplitude": 5.0, "rate": 0.7, "offset": 1.0}
    x, y = gf.simulate("decay", truth, np.linspace(0, 10, 40), sx=dt, sy=dv, seed=7)
    np.testing.assert_allclose(time, x, atol=5.01e-4)
    np.testing.assert_allclose(signal, y, atol=5.01e-4)


@pytest.mark.parametrize("name", ["pearson_york", "isochron"])
def test_examples_are_the_data_sets_to_the_last_digit(name):
    header, columns = read(name)
    points = getattr(gf.datasets, name).points
    assert sorted(header) == sorted(points)
    for key, column in zip(header, columns, strict=True):
        np.testing.assert_array_equal(column, points[key])
