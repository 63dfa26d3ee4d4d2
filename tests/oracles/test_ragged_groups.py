"""A thousand fits of any size in one call: each is the fit it would be alone."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import gradfit as gf
from gradfit import Status

MODEL = "a*exp(-b*x) + c"
START = {"a": 2.0, "b": 0.5, "c": 0.0}
N_GROUPS = 1000


@dataclass(frozen=True)
class Batch:
    """Flat points of all groups, and what each group was made to be."""

    x: np.ndarray
    y: np.ndarray
    sx: np.ndarray
    sy: np.ndarray
    ids: np.ndarray
    kind: tuple[str, ...]

    def group(self, g: int) -> dict[str, np.ndarray]:
        rows = self.ids == g
        return {k: getattr(self, k)[rows] for k in ("x", "y", "sx", "sy")}


def kind_of(g: int) -> str:
    """One group in 20 is bad in one of four ways."""
    return {7: "nan", 27: "two points", 47: "one point", 67: "one place"}.get(g % 80, "good")


@cache
def batch() -> Batch:
    rng = np.random.default_rng(7)
    parts: list[np.ndarray] = []
    kinds = tuple(kind_of(g) for g in range(N_GROUPS))
    for g, kind in enumerate(kinds):
        n = {"two points": 2, "one point": 1}.get(kind) or int(rng.integers(3, 201))
        n = max(n, 6) if kind == "good" and rng.random() < 0.9 else n
        a, b, c = rng.uniform(1, 4), rng.uniform(0.3, 1), rng.uniform(-1, 1)
        t = np.linspace(0, 6, n) if kind != "one place" else np.full(n, 1.5)
        x = t + 0.03 * rng.standard_normal(n) * (kind != "one place")
        y = a * np.exp(-b * t) + c + 0.02 * rng.standard_normal(n)
        if kind == "nan":
            y[rng.integers(n)] = np.nan
        sigma = rng.uniform(0.5, 1.5, (2, n)) * [[0.03], [0.02]]
        parts.append(np.vstack([x, y, sigma, np.full(n, g)]))
    flat = np.hstack(parts)
    order = rng.permutation(flat.shape[1])  # rows of a group need not lie together
    x, y, sx, sy, ids = flat[:, order]
    return Batch(x, y, sx, sy, ids.astype(int), kinds)


@cache
def together() -> Any:
    b = batch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.GradfitWarning)  # asked for in a test of its own
        return gf.fit(MODEL, b.x, b.y, start=START, sx=b.sx, sy=b.sy, groups=b.ids)


def assert_same(many: Any, one: Any) -> None:
    """The row of a batch is the fit alone, to 1e-10 of a standard error or of the value."""
    assert many.success == one.success
    assert many.success or many.status == one.status
    assert many.dof == one.dof
    if not one.success:
        return
    for name in one.names:
        scale = max(abs(one.params[name]), one.stderr[name])
        assert abs(many.params[name] - one.params[name]) <= 1e-10 * scale
        assert many.stderr[name] == pytest.approx(one.stderr[name], rel=1e-9)
    assert many.chi2 == pytest.approx(one.chi2, rel=1e-10, abs=1e-18)
    np.testing.assert_allclose(many.x_hat, one.x_hat, rtol=1e-10, atol=1e-10)


def alone(g: int) -> Any:
    points = batch().group(g)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.GradfitWarning)
        return gf.fit(MODEL, start=START, **points)


GOOD = [g for g in range(N_GROUPS) if kind_of(g) == "good"]


def test_sample_of_groups_equals_the_fit_alone() -> None:
    for g in GOOD[::25]:
        assert_same(together()[g], alone(g))


@pytest.mark.slow
def test_every_group_equals_the_fit_alone() -> None:
    for g in GOOD:
        assert_same(together()[g], alone(g))


def test_bad_groups_have_a_status_of_their_own() -> None:
    many, kinds = together(), np.array(batch().kind)
    status = np.array([many[g].status for g in range(N_GROUPS)])
    assert (status[kinds == "nan"] == Status.BAD_DATA).all()
    assert (status[kinds == "two points"] == Status.TOO_FEW_POINTS).all()
    assert (status[kinds == "one point"] == Status.TOO_FEW_POINTS).all()
    place = [many[g] for g in np.flatnonzero(kinds == "one place")]
    assert not any(f.success for f in place)
    # A steep curve comes as near to points of one x as it likes: nothing is known of it.
    assert all(s > 1e6 * abs(f.params[k]) for f in place for k, s in f.stderr.items())
    good = status[kinds == "good"]
    assert np.mean([Status(s).ok for s in good]) > 0.99


def test_bad_groups_say_nothing_they_do_not_know() -> None:
    many, kinds = together(), np.array(batch().kind)
    for g in np.flatnonzero((kinds == "nan") | (kinds == "one point"))[::5]:
        assert all(np.isnan(v) for v in many[g].stderr.values())
        assert np.isnan(many[g].chi2)


def test_one_warning_sums_up_the_groups_that_failed() -> None:
    b = batch()
    rows = b.ids < 80
    with pytest.warns(gf.errors.ConvergenceWarning) as caught:
        gf.fit(
            MODEL,
            b.x[rows],
            b.y[rows],
            start=START,
            sx=b.sx[rows],
            sy=b.sy[rows],
            groups=b.ids[rows],
        )
    assert len([w for w in caught if w.category is gf.errors.ConvergenceWarning]) == 1


def test_bad_groups_leave_the_others_as_they_are() -> None:
    b, many = batch(), together()
    rows = np.isin(b.ids, GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.GradfitWarning)
        clean = gf.fit(
            MODEL,
            b.x[rows],
            b.y[rows],
            start=START,
            sx=b.sx[rows],
            sy=b.sy[rows],
            groups=b.ids[rows],
        )
    for g in GOOD[::5]:
        assert clean[g].success == many[g].success
        for name in clean.names:
            scale = max(abs(many[g].params[name]), many[g].stderr[name])
            if clean[g].success:
                assert abs(clean[g].params[name] - many[g].params[name]) <= 1e-10 * scale
