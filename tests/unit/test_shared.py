"""Parameters that groups share are one from the start, and a joint fit leaves no group out."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

import gradfit as gf
from gradfit.errors import InputError

IDS = np.repeat([0, 1], 20)
X = np.tile(np.linspace(0, 6, 20), 2)
Y = np.array([4, 3])[IDS] * np.exp(-np.array([0.5, 0.6])[IDS] * X) + 1


def test_columns_of_shared_errors_are_taken_in_the_order_of_the_groups_and_without_rows_omitted():
    """Rows out of order, and one of them with no y: as arrays of what is left, one by one."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(X))
    table = {"t": X[order], "v": Y[order], "who": IDS[order], "off": rng.uniform(0.01, 0.1, len(X))}
    table["v"][7] = np.nan
    both = gf.fit(
        "a*exp(-b*x) + 1",
        data=table,
        x="t",
        y="v",
        sy=0.05,
        groups="who",
        start=[4, 0.5],
        systematic={"y": "off"},
        nan_policy="omit",
    )
    for key in (0, 1):
        rows = np.flatnonzero((table["who"] == key) & np.isfinite(table["v"]))
        x, y, off = (table[name][rows] for name in ("t", "v", "off"))
        V = 0.05**2 * np.eye(len(rows)) + np.outer(off, off)
        best = least_squares(
            lambda b, L, x, y: L @ (b[0] * np.exp(-b[1] * x) + 1 - y),
            [4, 0.5],
            args=(np.linalg.cholesky(np.linalg.inv(V)).T, x, y),
            xtol=1e-15,
        )
        assert both.chi2[both.keys.index(key)] == pytest.approx(2 * best.cost, rel=1e-9)


def line(x: Any, a: Any, b: Any) -> Any:
    return a * x + b


def test_a_start_that_is_searched_is_one_for_what_groups_share():
    def gap(v: np.ndarray) -> np.ndarray:
        b, (p, q) = v[0], v[1:5].reshape(2, 2)
        x = v[5:]
        return np.r_[(p[IDS] * np.exp(-b * x) + q[IDS] - Y) / 0.05, (x - X) / 0.1]

    full = least_squares(gap, np.r_[0.5, 4, 3, 1, 1, X], xtol=1e-15, ftol=1e-15, gtol=1e-14)
    table = gf.fit("a*exp(-b*x)+c", X, Y, sx=0.1, sy=0.05, groups=IDS, shared=["b"])
    assert table.success.all()
    assert table.params["b"][0] == table.params["b"][1]
    found = np.r_[table.params["b"][0], table.params["a"], table.params["c"]]
    np.testing.assert_allclose(found, full.x[:5], rtol=1e-6)
    np.testing.assert_allclose(table.chi2, 2 * full.cost, rtol=1e-8)


@pytest.mark.parametrize("names", [["slope"], "slope", ["slope", "intercept"]])
def test_lines_share_what_they_are_told_to(names):
    design = [X] if names != ["slope", "intercept"] else [X, np.ones_like(X)]
    own = [] if len(design) == 2 else [IDS == 0, IDS == 1]
    expected = np.linalg.lstsq(np.array([*design, *own], dtype=float).T, Y, rcond=None)[0]
    table = gf.fit("line", X, Y, sy=0.05, groups=IDS, shared=names)
    assert table.success.all()
    np.testing.assert_allclose(table.params["slope"], expected[0], rtol=1e-9)
    np.testing.assert_allclose(table.params["intercept"], np.resize(expected[1:], 2), rtol=1e-9)


def test_shared_values_that_are_searched_come_from_one_solution():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(6), 60)
    x = np.tile(np.linspace(0, 8, 60), 6)
    height = rng.uniform(1, 5, (2, 6))[:, group]
    y = height[0] * np.exp(-0.3 * x) + height[1] * np.exp(-2 * x) + 0.002 * rng.normal(size=x.size)
    model = "a*exp(-b*x) + c*exp(-d*x)"
    table = gf.fit(model, x, y, sy=0.002, groups=group, shared=["b", "d"])
    assert table.success.all()
    rates = [table.params["b"], table.params["d"]]
    assert np.ptp(rates, axis=1).max() == 0
    np.testing.assert_allclose(np.sort([r[0] for r in rates]), [0.3, 2], rtol=1e-2)


@pytest.mark.parametrize("bounds", [None, {"b": (0, 5)}])
def test_start_values_of_a_shared_parameter_must_not_differ(bounds):
    asked: dict[str, Any] = {"groups": IDS, "shared": ["b"], "bounds": bounds}
    with pytest.raises(
        InputError, match=r"`start` of 'b' must be one number.*0\.6 for group 1"
    ) as e:
        gf.fit("a*exp(-b*x)+c", X, Y, start={"a": [4, 3], "b": [0.5, 0.6], "c": 1}, **asked)
    assert "\n" not in str(e.value)
    alike = gf.fit("a*exp(-b*x)+c", X, Y, start={"a": [4, 3], "b": [0.5, 0.5], "c": 1}, **asked)
    assert np.ptp(alike.params["b"]) == 0


def test_a_group_needs_points_for_its_own_parameters_alone():
    group = np.r_[9, np.repeat([0, 1], 4)]
    x = np.r_[0, np.linspace(0, 5, 8)]
    y = 2 * x + 1 + 0.1 * np.cos(5 * x)
    design = np.array([x, group == 9, group == 0, group == 1], dtype=float).T
    expected = np.linalg.lstsq(design, y, rcond=None)
    table = gf.fit(line, x, y, start=[2, 1], sy=0.1, groups=group, shared=["a"])
    assert table.success.all()
    np.testing.assert_allclose(table.params["a"], expected[0][0], rtol=1e-12)
    np.testing.assert_allclose(table.params["b"], expected[0][1:], rtol=1e-12)
    np.testing.assert_allclose(table.chi2, expected[1][0] / 0.01, rtol=1e-10)
    assert table.dof.tolist() == [5, 5, 5]
    cov = 0.01 * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(table.stderr["b"], np.sqrt(np.diag(cov))[1:], rtol=1e-9)


def test_a_group_that_is_too_small_for_a_joint_fit_is_named():
    group = np.array(["left", "right", "right", "right"])
    x, y = np.array([0.0, 0, 1, 2]), np.array([1.0, 1, 3, 6])
    model = "a + b*x + c*x**2"
    with pytest.raises(
        InputError, match=r"group 'left' has 1 point, too few for its own a, b"
    ) as e:
        gf.fit(model, x, y, groups=group, shared="c", start=[1, 1, 1])
    assert "\n" not in str(e.value)
    model = "a + b*x + c*x**2 + d*x**3"
    with pytest.raises(InputError, match="4 points in 2 groups .* cannot determine 5 parameters"):
        gf.fit(model, x, y, groups=[3, 3, 4, 4], shared=["a", "b", "c"], start=[1, 1, 1, 1])


@pytest.mark.parametrize("implicit", [False, True])
def test_a_group_that_holds_nan_is_named_and_can_be_cleaned(implicit):
    y = Y.copy()
    y[25] = np.nan
    asked: dict[str, Any] = {"groups": IDS, "shared": ["b"], "start": {"a": 4, "b": 0.5}}
    model, given = (
        (lambda z, a, b: a * (-b * z[0]).exp() + 1 - z[1], (np.stack([X, y]),))
        if implicit
        else ("a*exp(-b*x) + 1", (X, y))
    )
    with pytest.raises(InputError, match=r'group 1 holds NaN or inf.*nan_policy="omit"') as e:
        gf.fit(model, *given, **asked)
    assert "\n" not in str(e.value)
    table = gf.fit(model, *given, nan_policy="omit", **asked)
    assert table.success.all()
    assert np.ptp(table.params["b"]) == 0
