"""Parameters that end at a bound: no standard error, but an interval that holds the truth."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

import gradfit as gf

ENGINES = ["eager", "native"]
X = np.linspace(0, 10, 20)


def draw(seed: int, slope: float = -0.01) -> np.ndarray:
    return 1 + slope * X + 0.1 * np.random.default_rng(seed).standard_normal(20)


def fitted(y: np.ndarray, **options: Any) -> Any:
    return gf.fit("a + c*x", X, y, **{"sy": 0.1, "bounds": {"c": (0, None)}} | options)


def end_by_hand(y: np.ndarray, sigma: float, width: float = 1.959963984540054) -> float:
    """Return where chi-square, minimised over ``a``, has risen by ``width**2`` from c = 0."""
    xc, yc = X - X.mean(), y - y.mean()
    A, g = xc @ xc / sigma**2, -(xc @ yc) / sigma**2
    assert g > 0
    return (-g + math.sqrt(g * g + A * width**2)) / A


@pytest.mark.parametrize("backend", ENGINES)
def test_the_interval_at_a_bound_goes_to_where_the_profile_ends(backend: str) -> None:
    y = draw(2)
    got = fitted(y, backend=backend)
    assert got.success
    assert got.at_bound == ("c",)
    for method in ("t", "profile"):
        low, high = got.interval(0.95, method)["c"]
        assert low == 0.0
        assert high == pytest.approx(end_by_hand(y, 0.1), rel=1e-7)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_the_end_follows_the_unit_also_where_the_scatter_tells_the_errors(unit: float) -> None:
    y = draw(2)
    options = {"sy": unit, "absolute_sigma": False}
    got = fitted(unit * y, **options)
    width = (got.interval(0.95)["a"][1] - got.params["a"]) / got.stderr["a"]
    sigma = math.sqrt(((y - y.mean()) ** 2).sum() / 19)
    assert got.interval()["c"][1] == pytest.approx(unit * end_by_hand(y, sigma, width), rel=1e-6)


@pytest.mark.parametrize("backend", ENGINES)
def test_an_upper_bound_is_the_mirror_of_a_lower_one(backend: str) -> None:
    y = draw(2)
    low, high = fitted(y).interval()["c"]
    mirrored = gf.fit("a - c*x", X, y, sy=0.1, bounds={"c": (None, 0)}, backend=backend)
    assert mirrored.interval()["c"] == (pytest.approx(-high, rel=1e-9), low)
    assert "> -" in mirrored.summary()


@pytest.mark.parametrize("backend", ENGINES)
def test_every_door_tells_no_standard_error_at_a_bound(backend: str) -> None:
    y, inside = draw(2), draw(2, 0.1)
    alone = fitted(y, backend=backend)
    many = gf.fit(
        "a + c*x", np.tile(X, 2), np.concatenate([y, inside]), sy=0.1,
        bounds={"c": (0, None)}, groups=np.repeat(["on", "off"], 20), backend=backend,
    )  # fmt: skip
    prepared = gf.prepare("a + c*x", start={"a": 1, "c": 1}, sy=0.1, bounds={"c": (0, None)})(X, y)
    again = gf.FitResult.from_json(alone.to_json())
    for one in (alone, many["on"], prepared.full, again):
        assert math.isnan(one.stderr["c"])
        assert one.stderr["a"] == pytest.approx(0.1 / math.sqrt(20), rel=1e-9)
        assert not np.asarray(one.cov)[1].any()
    assert np.isnan(many.stderr["c"]).tolist() == [True, False]
    end = alone.interval()["c"][1]
    assert many.interval()["c"][1][0] == pytest.approx(end, rel=1e-6)
    assert many.interval()["c"][0][0] == 0.0
    assert f"at its bound, < {end:.2g} (95 %)" in alone.summary()
    assert f"at its bound, &lt; {end:.2g} (95" in alone.report()
    assert np.isfinite(alone.band(X)).all()


def test_intervals_hold_a_truth_near_the_bound() -> None:
    sets, truth = 150, 0.003
    rng = np.random.default_rng(11)
    y = 1 + truth * X + 0.1 * rng.standard_normal((sets, 20))
    many = gf.fit(
        "a + c*x", np.tile(X, sets), y.ravel(), sy=0.1, bounds={"c": (0, None)},
        groups=np.repeat(np.arange(sets), 20), start={"a": 1, "c": 0.01},
    )  # fmt: skip
    assert many.success.all()
    held = many.at_bound[:, 1]
    assert 20 < held.sum() < 100
    low, high = many.interval(0.95)["c"]
    inside = (low <= truth) & (truth <= high)
    # At the bound the interval is longer than the symmetric one that leads beyond it.
    assert inside.mean() > 0.91
    assert inside[held].mean() > 0.95


@pytest.mark.parametrize("backend", ENGINES)
def test_degrees_of_freedom_of_fits_that_share_and_are_bounded(backend: str) -> None:
    # Two fits of 20 points share c; a is free in one and stands at its bound in the other.
    y = np.concatenate([draw(2, 0.1), draw(3, 0.1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = gf.fit(
            "a + c*x", np.tile(X, 2), y, sy=0.1, groups=np.repeat([0, 1], 20), shared="c",
            bounds={"a": (0.99, None)}, backend=backend, start={"a": 1.1, "c": 0.1},
        )  # fmt: skip
    held = int(many.at_bound.sum())
    assert held == many.at_bound[:, 0].sum()
    wanted = 40 - 1 - (2 - held)
    assert many.dof.tolist() == [wanted, wanted]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_degrees_of_freedom_where_a_shared_parameter_is_at_its_bound(at: int) -> None:
    low = (0.2, 0.0, 0.5)[at]
    y = np.concatenate([draw(2, 0.1), draw(3, 0.1), draw(4, 0.1)])
    many = gf.fit(
        "a + c*x", np.tile(X, 3), y, sy=0.1, groups=np.repeat([0, 1, 2], 20), shared="c",
        bounds={"c": (low, None)}, start={"a": 1, "c": low + 0.1},
    )  # fmt: skip
    held = low > 0.15
    assert many.at_bound[:, 1].tolist() == [held] * 3
    assert many.dof.tolist() == [60 - 3 - (not held)] * 3
