"""How often machine code evaluates a model: work that is counted, not timed."""

from collections import Counter

import numpy as np
import pytest
from agreement import assert_same_ends

import gradfit as gf
from gradfit._native import feet, newton, pointer, pointwise, sweep
from gradfit._native.lower import BLOCK


@pytest.fixture
def calls(monkeypatch):
    """Kernels as Python, counted by name."""
    monkeypatch.setenv("GRADFIT_JIT", "0")
    counted = Counter()
    call = pointer.call

    def counting(function, *args):
        counted[function.__name__] += 1
        call(function, *args)

    for module in (sweep, feet, newton):
        monkeypatch.setattr(module, "call", counting)
    return counted


@pytest.mark.parametrize("n", [20, BLOCK, BLOCK + 1])
def test_a_plain_fit_calls_one_kernel_for_each_step_and_block(calls, n, rng):
    x = np.linspace(0, 8, n)
    y = 4 * np.exp(-0.4 * x) + 0.7 + 0.05 * rng.standard_normal(n)
    x = x + 0.05 * rng.standard_normal(n)
    start = {"a": 3.5, "b": 0.35, "c": 0.6}
    fit = gf.fit("a*exp(-b*x) + c", x, y, start=start, sx=0.05, sy=0.05, backend="native")
    assert fit.backend == "native"
    assert fit.success
    blocks = -(-n // BLOCK)
    assert calls == {
        "look": blocks,
        "advance": blocks * fit.n_steps,
        "noise": blocks,
        "bends": blocks,
        "probe": blocks,
    }


def test_places_that_take_several_looks_are_those_of_one(monkeypatch):
    """Long models look at fewer places in one go; what they find is the same."""
    x = np.linspace(0, 10, 60)
    rng = np.random.default_rng(5)
    y = 2 * np.sin(2 * x + 0.3) + 0.1 * rng.standard_normal(60)
    x = x + 0.3 * rng.standard_normal(60)

    def moved(places):
        monkeypatch.setattr(pointwise, "PLACES", places)

        def wave(x, a, w, p):
            return a * (w * x + p).sin()

        start = {"a": 1.5, "w": 1.9, "p": 0.0}
        fit = gf.fit(wave, x, y, start=start, sx=0.3, sy=0.1, backend="native")
        assert fit.backend == "native"
        return fit

    many, three, one = moved(8), moved(3), moved(1)
    assert len(many.moved)
    for other in (three, one):
        np.testing.assert_array_equal(other.moved, many.moved)
        np.testing.assert_allclose(list(other.params.values()), list(many.params.values()), 1e-12)


@pytest.mark.parametrize("grouped", [False, True])
def test_lanes_without_a_point_of_their_own_stay_where_the_model_is_defined(grouped, rng):
    """An arcsine has nothing beyond 1, close to which a fit passes by."""
    sizes = 20 - np.arange(12) % 7 if grouped else [20]
    x = np.concatenate([np.linspace(0.5, 3, k) for k in sizes])
    y = 2 + 0.5 * x + 0.03 * rng.standard_normal(x.size)
    x = x + 0.03 * rng.standard_normal(x.size)
    options = {"start": {"a": 1.9, "b": 0.6}, "sx": 0.03, "sy": 0.03}
    if grouped:
        options["groups"] = np.repeat(np.arange(len(sizes)), sizes)
    wanted, found = (
        gf.fit("a + arcsin(0.2*b*x)", x, y, backend=backend, **options)
        for backend in ("eager", "native")
    )
    assert found.backend == "native"
    assert np.all(wanted.success)
    assert_same_ends(found, wanted)
    np.testing.assert_allclose(found.params["b"], wanted.params["b"], 1e-9)


def test_a_foot_that_has_arrived_does_not_wait_for_those_of_other_blocks():
    """From far away many steps are refused, and feet put right at fixed parameters."""
    for n in (BLOCK + 1, 3 * BLOCK, 507, 860):
        rng = np.random.default_rng(n)
        x = rng.uniform(0.2, 6, n)
        y = 4 * np.exp(-0.9 * x) + 0.7 + 0.3 * rng.standard_normal(n)
        start = {"a": 30.0, "b": 4.0, "c": -5.0}
        wanted, found = (
            gf.fit("a*exp(-b*x) + c", x, y, start=start, sx=0.3, sy=0.3, backend=backend)
            for backend in ("eager", "native")
        )
        assert_same_ends(found, wanted)
        assert found.params == pytest.approx(wanted.params, rel=1e-9)
