"""Random problems of every structure that odrpack knows, against odrpack at tight tolerances.

Several inputs and responses, exact coordinates, parameters held and bounded, and implicit curves.
Where odrpack stops short, ours has to be better by a measure that neither of them took part in.
"""

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit as gf
from oracles.refsets import Formula

odrpack = pytest.importorskip("odrpack")

RANGES = {"a": (1, 2), "b": (2, 5), "c": (0.3, 0.8), "d": (0.2, 0.5), "e": (-1, 1)}
FIRST = {1: "a + b*exp(-c*x)", 2: "a*x1 + b*exp(-c*x2)", 3: "a*x1 + b*exp(-c*x2) + d*x3**2"}
SECOND = {1: "e*x - b*exp(-c*x)", 2: "e + a*x2 - b*sin(c*x1)", 3: "e + a*x2 + b*cos(c*x3)"}
NAMES = {1: ("abc", "abce"), 2: ("abc", "abce"), 3: ("abcd", "abcde")}
"""Parameters of one response and of both, by the number of inputs."""


@dataclass(frozen=True)
class Surface:
    """Noisy points of a random curve or surface, and which coordinates and parameters are known."""

    formula: Formula
    truth: np.ndarray
    x: np.ndarray  # (m, N)
    y: np.ndarray  # (q, N)
    sx: np.ndarray
    sy: np.ndarray
    exact: np.ndarray  # (m, N) bool
    held: np.ndarray  # (p,) bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.formula.params

    @property
    def start(self) -> np.ndarray:
        return np.where(self.held, self.truth, self.truth * 1.05 + 0.02)

    def f(self, x: Any, beta: Any) -> np.ndarray:
        return np.stack([v + 0 * x[0] for v in self.formula(list(x), list(beta), np)])

    def ours(self, start: Any = None, **options: Any) -> Any:
        start = dict(zip(self.names, self.start if start is None else start, strict=True))
        fixed = {k: start.pop(k) for k, held in zip(self.names, self.held, strict=True) if held}
        one = len(self.x) == 1
        return gf.fit(
            self.formula.model(),
            self.x[0] if one else self.x,
            self.y[0] if len(self.y) == 1 else self.y,
            start=start,
            fixed=fixed,
            sx=self.sx[0] if one else self.sx,
            sy=self.sy[0] if len(self.y) == 1 else self.sy,
            fix_x=self.exact[0] if one else self.exact,
            **options,
        )

    def peer(self, beta: Any, delta: Any = None, held: Any = None, **options: Any) -> Any:
        return odrpack_fit(
            self.f,
            self.x,
            self.y,
            np.array(beta),
            delta0=None if delta is None else np.atleast_2d(delta),
            weight_x=self.sx**-2,
            weight_y=self.sy**-2,
            fix_beta=self.held if held is None else held,
            fix_x=self.exact,
            **options,
        )


def odrpack_fit(
    f: Any, x: np.ndarray, y: np.ndarray, beta: np.ndarray, tolerance: float = 1e-15, **options: Any
) -> Any:
    """Fit by odrpack with derivatives to rounding, down to where nothing moves."""
    h, m = 1e-30, len(x)

    def at(x: Any, beta: Any) -> np.ndarray:
        return f(x.reshape(m, -1), beta)  # a single input comes without its axis

    def by_beta(x: Any, beta: Any) -> np.ndarray:
        return np.stack([at(x + 0j, b).imag / h for b in beta + 1j * h * np.eye(len(beta))], 1)

    def by_x(x: Any, beta: Any) -> np.ndarray:
        x = x.reshape(m, -1)
        return np.stack([at(x + 1j * h * e[:, None], beta + 0j).imag / h for e in np.eye(m)], 1)

    return odrpack.odr_fit(
        lambda x, beta: at(x, beta).real,
        x,
        y,
        beta,
        jac_beta=by_beta,
        jac_x=by_x,
        maxit=20_000,
        sstol=tolerance,
        partol=tolerance,
        **options,
    )


@st.composite
def surfaces(draw: st.DrawFn, held: bool = True) -> Surface:
    m, q = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, names = draw(st.integers(12, 30)), NAMES[m][q - 1]
    texts = [FIRST[m], SECOND[m]][:q]
    formula = Formula((), tuple(ast.parse(t, mode="eval") for t in texts), tuple(names), m)
    truth = np.array([rng.uniform(*RANGES[k]) for k in names])
    x = rng.uniform(0, 5, (m, n))
    y = np.stack([v + 0 * x[0] for v in formula(list(x), list(truth), np)])
    sx, sy = 0.05 * rng.uniform(0.5, 2, (m, n)), 0.1 * rng.uniform(0.5, 2, (q, n))
    exact = {
        "none": np.zeros((m, n), bool),
        "points": np.tile(rng.random(n) < 0.3, (m, 1)),
        "single": rng.random((m, n)) < 0.3,
        "variable": np.tile(np.arange(m)[:, None] == m - 1, (1, n)),
    }[draw(st.sampled_from(["none", "points", "single", "variable"]))]
    x += np.where(exact, 0.0, sx * rng.standard_normal((m, n)))
    y += sy * rng.standard_normal((q, n))
    which = draw(st.integers(-1, len(names) - 1)) if held else -1
    return Surface(formula, truth, x, y, sx, sy, exact, np.arange(len(names)) == which)


def values(got: Any) -> np.ndarray:
    return np.array([*got.params.values()])


def deviations(got: Any) -> np.ndarray:
    return np.array([*got.stderr.values()])


def compare(s: Surface, got: Any, held: np.ndarray) -> None:
    """Hold ours against odrpack's, up to what its own chi2 shows that it left undone."""
    assert got.success, got.message
    beta = values(got)
    peer = s.peer(np.where(held, beta, s.start), held=held)
    if peer.sum_square > got.chi2 * (1 + 1e-9):
        # It ended short, or in another valley; from ours it must find nothing better.
        peer = s.peer(beta, got.delta, held=held)
    left = peer.sum_square - got.chi2
    assert -1e-12 * got.chi2 <= left <= 1e-9 * got.chi2
    free, se = ~held, deviations(got)
    # Near its minimum chi2 is a parabola: an excess d is a distance of sqrt(d) standard errors.
    far = np.abs(beta - peer.beta)[free] / se[free]
    assert (far <= 1e-6 + 2 * np.sqrt(max(left, 0.0))).all()
    scale, block = np.outer(se[free], se[free]), np.ix_(free, free)
    # odrpack takes the Jacobians one step before the end.
    ours, theirs = np.asarray(got.cov)[block], peer.cov_beta[block]
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-4)


@settings(max_examples=40)
@given(surfaces())
def test_random_structures_equal_odrpack(s: Surface) -> None:
    compare(s, s.ours(), s.held)


@settings(max_examples=40)
@given(
    surfaces(held=False),
    st.integers(0, 4),
    st.sampled_from([-1, 1]),
    st.floats(0.1, 3) | st.floats(-3, -0.1),
)
def test_random_bounds_equal_odrpack(s: Surface, which: int, side: int, shift: float) -> None:
    """A bound so many standard errors beyond, or this side of, where the free minimum is."""
    free = s.ours()
    k = which % len(s.names)
    name, bound = s.names[k], values(free)[k] + side * shift * deviations(free)[k]
    start = s.start.copy()
    start[k] = bound - side * 0.05
    got = s.ours(start, bounds={name: (None, bound) if side > 0 else (bound, None)})
    held = np.array([n in got.at_bound for n in s.names])
    assert (shift < 0) == bool(held[k])
    compare(s, got, held)
    lower, upper = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    (upper if side > 0 else lower)[k] = bound
    peer = s.peer(start, bounds=(lower, upper))
    assert got.chi2 <= peer.sum_square * (1 + 1e-12)
    if held[k]:
        assert got.params[name] == bound
        inside = values(got)
        inside[k] = bound - side * 0.01 * deviations(free)[k]
        assert s.peer(inside, got.delta, held=held).sum_square > got.chi2


# Implicit curves ----------------------------------------------------------------------------------

CIRCLE = Formula((), (ast.parse("(x1-a)**2 + (x2-b)**2 - c**2", mode="eval"),), ("a", "b", "c"), 2)
ELLIPSE = Formula(
    (),
    (ast.parse("((x1-a)/c)**2 + ((x2-b)/d)**2 - 1", mode="eval"),),
    ("a", "b", "c", "d"),
    2,
)


def distance(beta: np.ndarray, x: np.ndarray, sx: np.ndarray, exact: np.ndarray) -> float:
    """Sum of squared distances, in standard deviations, of points (2, N) from an ellipse.

    Where a coordinate is exact the foot is known; else it is looked for all round, and then by
    Newton's iteration.
    """
    centre, axes = beta[:2, None], np.abs(np.broadcast_to(beta[2:], 2))[:, None]
    w = sx**-2.0

    def gaps(t: np.ndarray) -> np.ndarray:
        return centre[..., None] + axes[..., None] * np.stack([np.cos(t), np.sin(t)]) - x[..., None]

    t = np.linspace(-np.pi, np.pi, 2000)[None]
    at = (w[..., None] * gaps(np.broadcast_to(t, (x.shape[1], 2000))) ** 2).sum(0).argmin(1)
    t = t[0, at][:, None]
    for _ in range(30):
        gap = gaps(t)
        first = axes[..., None] * np.stack([-np.sin(t), np.cos(t)])
        second = -axes[..., None] * np.stack([np.cos(t), np.sin(t)])
        slope = (w[..., None] * gap * first).sum(0)
        bend = (w[..., None] * (first**2 + gap * second)).sum(0)
        t = t - slope / bend
    total = (w[..., None] * gaps(t) ** 2).sum(0)[:, 0]
    for k in range(2):
        other = 1 - k
        reach = axes[other] * np.sqrt((1 - ((x[k] - centre[k]) / axes[k]) ** 2).clip(0))
        near = np.minimum(*(np.abs(centre[other] + side * reach - x[other]) for side in (1, -1)))
        total = np.where(exact[k], near**2 * w[other], total)
    return float(total.sum())


@settings(max_examples=40)
@given(st.sampled_from([CIRCLE, ELLIPSE]), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_random_circles_and_ellipses_equal_odrpack(
    formula: Formula, seed: int, some_exact: bool, one_held: bool
) -> None:
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(12, 30)), len(formula.params)
    truth = np.array([*rng.uniform(-2, 2, 2), *rng.uniform(1.5, 4, p - 2)])
    t = rng.uniform(0, 2 * np.pi, n)
    x = truth[:2, None] + np.broadcast_to(truth[2:], 2)[:, None] * np.stack([np.cos(t), np.sin(t)])
    sx = 0.05 * rng.uniform(0.5, 2, (2, n))
    exact = np.zeros((2, n), bool)
    if some_exact:
        exact[0] = (rng.random(n) < 0.3) & (np.abs(np.cos(t)) < 0.8)
    x += np.where(exact, 0.0, sx * rng.standard_normal((2, n)))
    held = np.arange(p) == (rng.integers(p) if one_held else -1)
    start = np.where(held, truth, truth * 1.03 + 0.02)
    known = dict(zip(formula.params, start, strict=True))
    got = gf.fit(
        formula.model(),
        x,
        start={k: v for k, v, h in zip(known, start, held, strict=True) if not h},
        fixed={k: v for k, v, h in zip(known, start, held, strict=True) if h},
        sx=sx,
        fix_x=exact,
    )
    assert got.success, got.message
    beta = values(got)
    assert got.chi2 == pytest.approx(distance(beta, x, sx, exact), rel=1e-11)
    # Now and then its penalty ends long before, far from the curve; then it goes on from ours.
    for start_of_peer in (start, beta):
        peer = odrpack_fit(
            lambda x, beta: np.stack(formula(list(x), list(beta), np)),
            x,
            np.ones((1, n)),
            start_of_peer,
            tolerance=1e-12,
            task="implicit-ODR",
            weight_x=sx**-2,
            fix_beta=held,
            fix_x=exact,
        )
        left = distance(peer.beta, x, sx, exact) - got.chi2
        if left <= 1e-9 * got.chi2:
            break
    assert -1e-11 * got.chi2 <= left <= 1e-9 * got.chi2
    far = np.abs(beta - peer.beta)[~held] / deviations(got)[~held]
    assert (far <= 1e-6 + 2 * np.sqrt(max(left, 0.0))).all()
