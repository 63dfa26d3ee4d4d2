"""How much a small fit asks of torch: counted, since time depends on who else is at work."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gradfit as gf

STEPS = 6
WHOLE, STEP = 470, 56
"""Operations of a whole fit and of each of its steps: a few more than there are."""


class Counting(TorchDispatchMode):
    """Counts every operation that torch carries out, those of backward passes too."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def decay(x, a, b, c):
    return a * torch.exp(-b * x) + c


def fit(model, rng, **given):
    """Fit twenty points; each call of a generator makes others."""
    x = np.linspace(0, 8, 20)
    y = 4 * np.exp(-0.4 * x) + 0.7 + 0.05 * rng.standard_normal(20)
    x = x + 0.05 * rng.standard_normal(20)
    start = {"a": 3.5, "b": 0.35, "c": 0.5}
    return gf.fit(model, x, y, start=start, sx=0.05, sy=0.05, backend="eager", **given)


def operations(seed, **given):
    """Return how many operations a fit takes once its model is known, and the fit."""
    fit(decay, np.random.default_rng(seed), **given)
    with Counting() as mode:
        found = fit(decay, np.random.default_rng(seed), **given)
    return mode.count, found


@pytest.mark.parametrize("seed", range(3))
def test_a_small_fit_takes_few_operations(seed):
    count, found = operations(seed, ftol=1e-12, xtol=1e-12)
    assert found.n_eval == found.n_steps + 1
    assert count <= WHOLE + STEP * (found.n_steps - STEPS)


def test_a_step_takes_few_operations():
    (some, first), (more, second) = (operations(0, ftol=f) for f in (1e-3, 1e-12))
    assert second.n_steps > first.n_steps
    # The later one also measures rounding error, which takes as much as a third of a step.
    assert more - some <= STEP * (second.n_steps - first.n_steps)


def test_the_model_is_asked_once_for_every_evaluation_and_once_for_nearer_feet(rng):
    calls = []

    def counted(x, a, b, c):
        calls.append(len(x))
        return decay(x, a, b, c)

    fit(counted, rng)
    before = len(calls)
    found = fit(counted, rng)
    assert len(calls) - before == found.n_eval + 1
