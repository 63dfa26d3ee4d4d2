"""A fit in a batch is the fit alone, whatever its neighbours do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import simulate

import gradfit as gf
from gradfit import Status
from gradfit._engine import field
from gradfit._engine.points import Grouping
from laws.fits import errors, fit, quiet, values


@settings(max_examples=15)
@given(st.sampled_from(["decay", "peak", "wave"]), st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_fit_in_a_batch_equals_the_fit_alone(curve: str, seed: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [simulate(curve, int(rng.integers(8, 40)), int(seed + k)) for k in range(n_groups)]
    start = {k: np.array([p.start[k] for p in parts]) for k in parts[0].start}
    ids = np.concatenate([np.full(len(p.x), k) for k, p in enumerate(parts)])
    flat = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("x", "y", "sx", "sy")}

    with quiet():
        many = gf.fit(parts[0].formula.model(), start=start, groups=ids, **flat)
        for k, p in enumerate(parts):
            one = fit(p)
            assert many[k].success == one.success
            if one.success:
                scale = np.maximum(np.abs(values(one)), errors(one))
                assert (np.abs(values(many[k]) - values(one)) <= 1e-10 * scale).all()
                np.testing.assert_allclose(errors(many[k]), errors(one), rtol=1e-9)
                assert many[k].chi2 == pytest.approx(one.chi2, rel=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("column", ["x", "y"])
def test_nan_in_one_group_leaves_the_others(bad: float, column: str) -> None:
    parts = [simulate("decay", 12, seed=k) for k in range(5)]
    ids = np.repeat(np.arange(5), 12)
    flat = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("x", "y", "sx", "sy")}
    start = parts[0].start
    clean = gf.fit(parts[0].formula.model(), start=start, groups=ids, **flat)
    flat[column] = flat[column].copy()
    flat[column][2 * 12 + 3] = bad
    with pytest.warns(gf.errors.ConvergenceWarning):
        spoiled = gf.fit(parts[0].formula.model(), start=start, groups=ids, **flat)
    assert spoiled[2].status == Status.BAD_DATA
    for k in (0, 1, 3, 4):
        assert (np.abs(values(spoiled[k]) - values(clean[k])) <= 1e-10 * errors(clean[k])).all()
        assert spoiled[k].chi2 == pytest.approx(clean[k].chi2, rel=1e-12)


def test_overflow_in_one_group_leaves_the_others() -> None:
    good = simulate("decay", 20, seed=2)
    x = np.concatenate([good.x, 1e5 * (1 + np.arange(20.0))])
    y = np.concatenate([good.y, np.full(20, 1e300)])
    start = {"a": 2.0, "b": 0.5, "c": 0.0}

    with quiet():
        many = gf.fit(
            good.formula.model(),
            x,
            y,
            sy=0.1,
            start=start,
            groups=np.repeat([0, 1], 20),
        )
        one = gf.fit(good.formula.model(), good.x, good.y, sy=0.1, start=start)
    assert many[0].success
    np.testing.assert_allclose(values(many[0]), values(one), rtol=1e-10)


def test_keys_of_groups_are_the_users() -> None:
    p = simulate("line", 24, seed=4)
    ids = np.array(["north", "south", "east"] * 8)
    many = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sx=p.sx, sy=p.sy, groups=ids)
    assert list(many) == ["north", "south", "east"]
    for key in many:
        one = fit(p.take(ids == key))
        np.testing.assert_allclose(values(many[key]), values(one), rtol=1e-10)


def test_sums_of_a_stretch_are_as_many_as_its_fits(monkeypatch):
    """Otherwise the work of a batch grows with the square of the number of fits."""
    monkeypatch.setattr(field, "STRETCH", 1024)
    sizes = []
    whole = Grouping.sum

    def counted(self, values):
        found = whole(self, values)
        sizes.append(found.shape[-1])
        return found

    monkeypatch.setattr(Grouping, "sum", counted)
    count, n = 4000, 3
    x = np.tile([0.0, 1.0, 2.0], count)
    y = 1 + 2 * x + np.tile([0.1, -0.2, 0.1], count)
    found = gf.fit(
        "a + b*x",
        x,
        y,
        sx=0.1,
        sy=0.1,
        start={"a": 0.5, "b": 1.5},
        groups=np.repeat(np.arange(count), n),
        backend="eager",
    )
    np.testing.assert_allclose(found.params["b"], found.params["b"][0], 1e-12)
    sxx, syy, sxy = np.var(x[:n]), np.var(y[:n]), np.cov(x[:n], y[:n], ddof=0)[0, 1]
    perpendicular = np.tan(np.arctan2(2 * sxy, sxx - syy) / 2)
    np.testing.assert_allclose(found.params["b"][0], perpendicular, 1e-9)
    assert max(sizes) < count
