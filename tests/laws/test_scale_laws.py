"""Laws of units: nothing that a fit says may depend on the unit in which y, or x, is written."""

import numpy as np
import pytest

import gradfit as gf

KINDS = ["expected", "observed", "propagated", "sandwich", "HC3"]
FACTORS = [1e-15, 1e-6, 1e9]


def points(seed=7, n=24):
    rng = np.random.default_rng(seed)
    x = np.linspace(0.5, 9.5, n)
    return x, 3.0 + 2.0 * x + 0.3 * (1 + x) * rng.standard_normal(n)


def by_fit(backend, **asked):
    def door(x, y, kind):
        start = {"a": float(np.mean(y)), "b": float(np.ptp(y) / np.ptp(x))}
        return gf.fit("a+b*x", x, y, start=start, cov_type=kind, backend=backend, **asked)

    return door


def by_groups(x, y, kind):
    pair = np.r_[x, x], np.r_[y, y[::-1]]
    start = {"a": float(np.mean(y)), "b": float(np.ptp(y) / np.ptp(x))}
    many = gf.fit(
        "a+b*x", *pair, start=start, fix_x=True, groups=np.repeat([0, 1], len(x)), cov_type=kind
    )
    return many[0]


def by_shared(x, y, kind):
    pair = np.r_[x, x], np.r_[y, y + y.std()]
    start = {"a": float(np.mean(y)), "b": float(np.ptp(y) / np.ptp(x))}
    groups = np.repeat([0, 1], len(x))
    many = gf.fit("a+b*x", *pair, start=start, fix_x=True, groups=groups, shared="b", cov_type=kind)
    return many[0]


DOORS = {
    "eager": by_fit("eager", fix_x=True),
    "native": by_fit("native", fix_x=True),
    "relative sigmas": by_fit("eager", sy=1.0, absolute_sigma=False),
    "groups": by_groups,
    "shared": by_shared,
    "line": lambda x, y, kind: gf.line(x, y, 0.0, 1.0, absolute_sigma=False, cov_type=kind),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_another_unit_of_y_scales_every_standard_error(door, kind):
    x, y = points()
    plain = DOORS[door](x, y, kind)
    for c in FACTORS:
        scaled = DOORS[door](x, c * y, kind)
        assert scaled.status.ok is plain.status.ok is True
        for name in plain.names:
            assert scaled.params[name] == pytest.approx(c * plain.params[name], rel=1e-9)
            assert scaled.stderr[name] == pytest.approx(c * plain.stderr[name], rel=1e-7)
        assert np.isnan(plain.p_value)
        assert np.isnan(scaled.p_value)
        told = [[s for s in fit.summary().splitlines() if s[:1] == "!"] for fit in (plain, scaled)]
        assert told[0] == told[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["line2d", "circle"])
def test_another_unit_scales_every_length_of_a_shape_and_its_error(shape, kind):
    rng = np.random.default_rng(3)
    t = np.linspace(0, 5.5, 30)
    x, y = 4 + 3 * np.cos(t), -2 + 3 * np.sin(t)
    if shape == "line2d":
        x, y = t, 1 - 0.4 * t
    x, y = x + 0.05 * rng.standard_normal(30), y + 0.05 * rng.standard_normal(30)
    make = getattr(gf.shapes, shape)
    plain = make(x, y, cov_type=kind)
    for c in FACTORS:
        scaled = make(c * x, c * y, cov_type=kind)
        assert scaled.status.ok
        for name in plain.names:
            size = 1.0 if name == "angle" else c
            assert scaled.params[name] == pytest.approx(size * plain.params[name], rel=1e-7)
            assert scaled.stderr[name] == pytest.approx(size * plain.stderr[name], rel=1e-6)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("noise", [0.01, 50.0])
@pytest.mark.parametrize("sigmas", [{"fix_x": True}, {"sy": 1.0}, {"sy": 7.0}])
def test_a_sandwich_of_a_line_is_hc0_and_hc3_whatever_the_sigmas(backend, noise, sigmas):
    """By hand: White (1980), MacKinnon and White (1985)."""
    x = np.linspace(0, 10, 60)
    y = 1 + 2 * x + noise * np.random.default_rng(0).standard_normal(60)
    X = np.c_[np.ones(60), x]
    C = np.linalg.inv(X.T @ X)
    e, h = y - X @ (C @ X.T @ y), np.einsum("ij,jk,ik->i", X, C, X)
    for kind, left in (("sandwich", e), ("HC0", e), ("HC3", e / (1 - h))):
        cov = C @ (X.T * left**2) @ X @ C
        fit = gf.fit("a+b*x", x, y, cov_type=kind, backend=backend, start=[0, 0], **sigmas)
        assert fit.cov == pytest.approx(cov, rel=1e-8)
        assert fit.cov_type == ("HC3" if kind == "HC3" else "sandwich")


@pytest.mark.parametrize("kind", KINDS)
def test_fits_that_share_a_slope_have_the_covariance_of_the_dense_problem(kind):
    rng = np.random.default_rng(5)
    x, g = np.linspace(0, 10, 60), np.repeat(np.arange(4), 15)
    y = 1 + g + 2 * x + 0.5 * rng.standard_normal(60) * (1 + x)
    X = np.c_[g[:, None] == np.arange(4), x].astype(float)
    C = np.linalg.inv(X.T @ X)
    e, h = y - X @ (C @ X.T @ y), np.einsum("ij,jk,ik->i", X, C, X)
    cov = C * (e @ e) / 55
    if kind in {"sandwich", "HC3"}:
        left = e if kind == "sandwich" else e / (1 - h)
        cov = C @ (X.T * left**2) @ X @ C
    many = gf.fit("a+b*x", x, y, fix_x=True, groups=g, shared="b", cov_type=kind, start=[0, 0])
    for k in range(4):
        at = np.ix_([k, 4], [k, 4])
        assert many.cov[k] == pytest.approx(cov[at], rel=1e-8)


@pytest.mark.parametrize("kind", ["sandwich", "HC3"])
@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_an_error_that_points_share_stays_in_a_sandwich(kind, size):
    """A common offset of known size moves the intercept and nothing else."""
    x, y = points()
    alone = gf.fit("a+b*x", x, size * y, sy=size, cov_type=kind, start=[0, 0])
    offset = [{"y": 2.0 * size}]
    both = gf.fit("a+b*x", x, size * y, sy=size, systematic=offset, cov_type=kind, start=[0, 0])
    assert both.stderr["b"] == pytest.approx(alone.stderr["b"], rel=1e-6)
    apart = np.hypot(alone.stderr["a"], 2.0 * size)
    assert both.stderr["a"] == pytest.approx(apart, rel=1e-6)


def test_a_point_without_a_residual_of_its_own_tells_hc3_nothing():
    x, y = [0.0, 0, 0, 0, 1], [0.1, -0.2, 0.3, 0.0, 3.0]
    fit = gf.fit("a+b*x", x, y, sy=1.0, cov_type="HC3", start=[0, 0])
    assert fit.stderr["b"] == np.inf
    assert np.isfinite(fit.stderr["a"])
