"""Converged means converged, and an ended fit costs nothing more."""

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Points, points, simulate

import gradfit as gf
from gradfit import Status
from laws.fits import FEW, errors, fit, quiet

MP = mpmath.mp.clone()
MP.dps = 50


def independent_gradient(p: Points, result: Any) -> np.ndarray:
    """Gradient of chi2 by the parameters, feet held, and what is left in the feet; 50 digits.

    At the foot points the gradient of the profile is the gradient with the feet held. Both are
    measured in chi2 per standard error (of a parameter, of x).
    """
    beta = [MP.mpf(float(v)) for v in result.params.values()]
    h, names = MP.mpf(10) ** -20, range(len(beta))
    by_beta, by_foot = [MP.mpf(0) for _ in names], MP.mpf(0)
    rho = np.zeros_like(p.x) if p.rho is None else p.rho

    def f(x: Any, shifted: list[Any]) -> Any:
        return p.formula([x], shifted, MP)[0]

    for i, x_hat in enumerate(map(float, result.x_hat)):
        x_hat, sx, sy, r = (MP.mpf(float(v)) for v in (x_hat, p.sx[i], p.sy[i], rho[i]))
        u = (x_hat - MP.mpf(float(p.x[i]))) / sx
        v = (f(x_hat, beta) - MP.mpf(float(p.y[i]))) / sy
        pull_u, pull_v = (u - r * v) / (1 - r**2), (v - r * u) / (1 - r**2)
        slope = (f(x_hat + h, beta) - f(x_hat - h, beta)) / (2 * h)
        by_foot = max(by_foot, abs(2 * (pull_u + pull_v * slope * sx / sy)))
        for j in names:
            up, down = ([b + s * h * (j == k) for k, b in enumerate(beta)] for s in (1, -1))
            by_beta[j] += 2 * pull_v / sy * (f(x_hat, up) - f(x_hat, down)) / (2 * h)
    scaled = [g * MP.mpf(se) for g, se in zip(by_beta, errors(result).tolist(), strict=True)]
    return np.array([float(abs(g)) for g in [*scaled, by_foot]])


@FEW
@given(points())
def test_gradient_computed_elsewhere_vanishes_at_convergence(p: Points) -> None:
    result = fit(p)
    assert result.success
    # Rounding alone leaves eps * |z / sigma| in every pull.
    size = np.abs(p.y / p.sy).max() + np.abs(p.x / p.sx).max()
    limit = 1e-9 * math.sqrt(result.chi2) + 1e-14 * size
    assert (independent_gradient(p, result) <= limit).all()


WILD = {
    "decay": {"a": (-8, 8), "b": (-1, 4), "c": (-4, 4)},
    "peak": {"a": (-5, 10), "b": (-2, 12), "c": (0.1, 6)},
    "saturation": {"a": (-5, 10), "b": (0.01, 20)},
    "wave": {"a": (-4, 4), "b": (0.2, 3), "c": (-3, 3)},
}


@settings(max_examples=20)
@given(points(tuple(WILD)), st.integers(0, 2**32 - 1))
def test_whatever_the_start_success_means_a_vanished_gradient(p: Points, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = {k: float(rng.uniform(*r)) for k, r in WILD[p.curve].items()}

    with quiet():
        result = fit(p, start=start)
    if not result.success or not np.isfinite(errors(result)).all():
        return
    size = np.abs(p.y / p.sy).max() + np.abs(p.x / p.sx).max()
    limit = 1e-7 * math.sqrt(result.chi2) + 1e-12 * size
    assert (independent_gradient(p, result) <= limit).all()


class _Turncoat(torch.autograd.Function):
    """The identity, whose backward pass changes sign once `lies` is set."""

    lies = False

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return -grad if _Turncoat.lies else grad.clone()


def test_rejected_step_is_not_convergence() -> None:
    p = simulate("decay", 20, seed=1)
    chi2: list[float] = []

    def model(x, a, b, c):
        a, b, c = (_Turncoat.apply(v) for v in (a, b, c))
        return a * torch.exp(-b * x) + c

    def turn(state: Any) -> None:
        chi2.append(float(np.max(state.chi2)))
        _Turncoat.lies = True  # from now on every step leads uphill and must be refused

    start = {"a": 1.0, "b": 2.0, "c": 3.0}
    try:
        with pytest.warns(gf.errors.ConvergenceWarning):
            result = gf.fit(model, p.x, p.y, start=start, sy=p.sy, on_step=turn)
    finally:
        _Turncoat.lies = False
    assert not result.success
    assert result.status in {Status.STALLED, Status.NONFINITE, Status.MAX_STEPS}
    assert result.chi2 <= chi2[0] * (1 + 1e-12)
    honest = fit(p, start=start, sx=0.0)
    assert result.chi2 > honest.chi2 * 1.01


def test_chi2_never_rises_from_step_to_step() -> None:
    p = simulate("peak", 30, seed=3)
    seen: list[float] = []
    start = {"a": 1.0, "b": 3.0, "c": 4.0}
    result = fit(p, start=start, on_step=lambda state: seen.append(float(np.max(state.chi2))))
    assert result.success
    assert len(seen) >= 5
    assert all(b <= a * (1 + 1e-11) for a, b in itertools.pairwise(seen))


def counted(p: Points) -> tuple[Any, list[int]]:
    """A model that notes how many points each call asks for."""
    calls: list[int] = []
    inner = p.formula.model()

    def fn(x, a, b, c):
        calls.append(x.shape[-1])
        return inner(x, a, b, c)

    return fn, calls


def test_model_is_not_called_after_every_fit_has_ended() -> None:
    p = simulate("decay", 20, seed=6)
    seen = []
    for limit in (200, 2000):
        fn, calls = counted(p)
        result = fit(p, model=fn, max_steps=limit)
        assert result.success
        seen.append(len(calls))
    assert seen[0] == seen[1]


def test_fits_that_have_ended_cost_nothing_more() -> None:
    easy = [simulate("decay", 20, seed=k) for k in range(200)]
    flat = {k: np.concatenate([getattr(p, k) for p in easy]) for k in ("x", "y", "sy")}
    ids = np.repeat(np.arange(200), 20)
    base = {k: float(np.mean([p.truth[k] for p in easy])) for k in easy[0].truth}
    fn, calls = counted(easy[0])

    with quiet():
        many = gf.fit(fn, start=base, groups=ids, **flat)
    steps = np.array(many.n_eval)
    # Every call on all points would be max(n_eval) times 4000 points.
    assert sum(calls) < 0.8 * max(steps) * 4000 + 10 * 4000
    assert sum(calls) <= 4 * steps.sum() * 20


def test_running_again_gives_the_same_bits() -> None:
    p = simulate("wave", 30, seed=8)
    a, b = fit(p), fit(p)
    assert a.params == b.params
    assert a.chi2 == b.chi2
    np.testing.assert_array_equal(a.cov, b.cov)
    np.testing.assert_array_equal(a.x_hat, b.x_hat)
