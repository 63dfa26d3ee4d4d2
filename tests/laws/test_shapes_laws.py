"""A shape does not care where it lies, how it is turned, and in which unit it is measured."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit as gf

ANGLES = st.floats(-3, 3)
SHIFTS = st.floats(-1e3, 1e3)
SCALES = st.floats(-6, 6).map(lambda e: 10.0**e)
SEEDS = st.integers(0, 10_000)
CLOSE = 1e-7
"""Of a standard error: a fit may stop that far from the minimum it approaches."""


def turn2(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def turn3(seed: int) -> np.ndarray:
    Q, R = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    Q = Q * np.sign(np.diag(R))
    return Q * np.sign(np.linalg.det(Q))


def arc(seed: int) -> np.ndarray:
    """Points along two thirds of an ellipse."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4, 14)
    return np.stack([2 * np.cos(t), np.sin(t)]) + 0.02 * rng.normal(size=(2, 14))


def values(fit: Any) -> np.ndarray:
    return np.array(list(fit.params.values()))


def errors(fit: Any) -> np.ndarray:
    return np.array(list(fit.stderr.values()))


def assert_moved(before: Any, after: Any, scale: float) -> None:
    """The same distances, in another unit."""
    assert after.success, after.message
    assert np.isclose(after.chi2, before.chi2 * scale**2, rtol=1e-7)


def slack(shift: float, scale: float) -> float:
    """Rounding of coordinates: they are known to eps of the largest."""
    return 1e-13 * (abs(shift) + scale)


@settings(max_examples=6)
@given(SEEDS, ANGLES, SHIFTS, SCALES)
def test_ellipse_moves_turns_and_grows_with_its_points(
    seed: int, angle: float, shift: float, scale: float
) -> None:
    points, R = arc(seed), turn2(angle)
    before = gf.shapes.ellipse(points)
    after = gf.shapes.ellipse(scale * (R @ points) + shift * scale)
    assert_moved(before, after, scale)
    a, b = values(before), values(after)
    tolerance = (CLOSE * errors(before).max() + slack(shift, 1)) * scale
    np.testing.assert_allclose(b[:2], scale * (R @ a[:2]) + shift * scale, atol=tolerance)
    np.testing.assert_allclose(b[2:4], scale * a[2:4], atol=tolerance)
    # A direction without sense comes back after half a turn.
    assert abs(np.sin(b[4] - a[4] - angle)) < CLOSE + slack(shift, 1)
    moved = scale**2 * R @ np.asarray(before.cov)[:2, :2] @ R.T
    np.testing.assert_allclose(after.cov[:2, :2], moved, rtol=1e-5, atol=1e-6 * moved.max())


@settings(max_examples=8)
@given(SEEDS, ANGLES, SHIFTS, SCALES)
def test_circle_moves_turns_and_grows_with_its_points(
    seed: int, angle: float, shift: float, scale: float
) -> None:
    points, R = arc(seed)[:, :7], turn2(angle)
    before = gf.shapes.circle(points)
    after = gf.shapes.circle(scale * (R @ points) + shift * scale)
    assert_moved(before, after, scale)
    a, b = values(before), values(after)
    tolerance = (CLOSE * errors(before).max() + slack(shift, 1)) * scale
    np.testing.assert_allclose(b[:2], scale * (R @ a[:2]) + shift * scale, atol=tolerance)
    assert abs(b[2] - scale * a[2]) < tolerance
    assert np.isclose(after.stderr["radius"], scale * before.stderr["radius"], rtol=1e-6)


@settings(max_examples=10)
@given(SEEDS, ANGLES, SHIFTS, SCALES)
def test_line_moves_turns_and_grows_with_its_points(
    seed: int, angle: float, shift: float, scale: float
) -> None:
    points = np.stack([np.arange(6.0), 0.1 * np.random.default_rng(seed).normal(size=6)])
    before = gf.shapes.line2d(points)
    after = gf.shapes.line2d(scale * (turn2(angle) @ points) + shift * scale)
    assert_moved(before, after, scale)
    assert abs(np.sin(after.params["angle"] - before.params["angle"] - angle)) < 1e-9
    assert np.isclose(after.stderr["angle"], before.stderr["angle"], rtol=1e-7)


def solid(name: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t, h = np.linspace(0, 11, 24), np.linspace(1, 3, 24)
    grown = 0.5 * h if name == "cone" else np.ones_like(h)
    if name == "sphere":
        z = np.linspace(-0.9, 0.9, 24)
        rho = np.sqrt(1 - z**2)
        points = np.stack([rho * np.cos(t), rho * np.sin(t), z])
    elif name == "plane":
        points = np.stack([t, h * np.cos(t), 0 * t])
    elif name == "line3d":
        points = np.stack([t, 0 * t, 0 * t])
    else:
        points = np.stack([grown * np.cos(t), grown * np.sin(t), h])
    return points + 0.01 * rng.normal(size=points.shape)


PLACES = {"line3d": True, "sphere": True, "cylinder": True, "cone": True, "plane": False}
"""Whether a shape is told by a point, which moves along."""


@settings(max_examples=15)
@given(st.sampled_from(sorted(PLACES)), SEEDS, SEEDS, SHIFTS, SCALES)
def test_shape_in_space_moves_turns_and_grows_with_its_points(
    name: str, seed: int, turn: int, shift: float, scale: float
) -> None:
    points, R, fit = solid(name, seed), turn3(turn), getattr(gf.shapes, name)
    before, after = fit(points), fit(scale * (R @ points) + shift * scale)
    assert_moved(before, after, scale)
    a, b = values(before), values(after)
    if PLACES[name]:
        tolerance = (CLOSE * errors(before).max() + slack(shift, 1)) * scale
        np.testing.assert_allclose(b[:3], scale * (R @ a[:3]) + shift * scale, atol=tolerance)
    if name != "sphere":
        at = slice(0, 3) if name == "plane" else slice(3, 6)
        away = np.cross(R @ a[at], b[at])
        np.testing.assert_allclose(away, 0, atol=1e-8 + slack(shift, 1))
    if name in ("sphere", "cylinder"):
        assert np.isclose(b[-1], scale * a[-1], rtol=1e-8 + slack(shift, 1))
        assert np.isclose(errors(after)[-1], scale * errors(before)[-1], rtol=1e-5)
