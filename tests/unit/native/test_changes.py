"""Machine code is that of the model as it is now, and of nothing that cannot be seen."""

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agreement import assert_same_ends

import gradfit as gf
from gradfit import _dispatch
from gradfit._native import kernel, machine
from gradfit.errors import InputError

SIGMAS = {"sx": 0.03, "sy": 0.03}
START = [1.0, 1.0]


@pytest.fixture
def points(rng):
    x = np.linspace(0.5, 6, 25)
    y = 2 + 0.5 * np.minimum(x, 5)
    return x + 0.03 * rng.standard_normal(25), y + 0.03 * rng.standard_normal(25)


def assert_runs_as_torch_does(model, points):
    wanted, found = (
        gf.fit(model, *points, start=START, backend=backend, **SIGMAS)
        for backend in ("eager", "native")
    )
    assert found.backend == "native", found.message
    assert_same_ends(found, wanted)
    assert found.params == pytest.approx(wanted.params, rel=1e-9)
    return found


def in_a_closure():
    at = [0.0]

    def model(x, a, b):
        return a + b * x.clamp(max=at[0])

    return model, lambda value: at.__setitem__(0, value)


def in_an_object():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("at", torch.zeros((), dtype=torch.float64))

        def forward(self, x, a, b):
            return a + b * torch.minimum(x, self.at)

    model = Model()
    return model, model.at.fill_


def in_a_method():
    class Instrument:
        at = 0.0

        def model(self, x, a, b):
            return torch.where(x < self.at, a + b * x, a + b * self.at)

    instrument = Instrument()
    return instrument.model, lambda value: setattr(instrument, "at", value)


def in_a_global():
    scope = {"torch": torch, "at": 0.0}
    exec("def model(x, a, b): return a + b * torch.clamp(x, max=at)", scope)
    return scope["model"], lambda value: scope.update(at=value)


def in_its_code():
    def model(x, a, b):
        return a + b * x

    def change(value):
        scope = {"torch": torch}
        text = f"def model(x, a, b): return a + b * torch.clamp(x, max={value})"
        exec(text, scope)
        model.__code__ = scope["model"].__code__

    model.__globals__.setdefault("torch", torch)
    return model, change


def in_a_backward():
    factor = SimpleNamespace(at=0.0)

    class Bent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(max=factor.at)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return torch.where(x <= factor.at, g, torch.zeros_like(g))

    return lambda x, a, b: a + b * Bent.apply(x), lambda value: setattr(factor, "at", value)


CHANGING = [in_a_closure, in_an_object, in_a_method, in_a_global, in_its_code, in_a_backward]


@pytest.mark.parametrize("made", CHANGING)
def test_a_constant_that_matters_for_few_points_is_noticed(made, points):
    """Neither the first point nor one in the middle lies where the models differ."""
    model, change = made()
    slopes = []
    for value in (5.5, 5.0, 5.5):
        change(value)
        slopes.append(assert_runs_as_torch_does(model, points).params["b"])
    assert slopes[0] == slopes[2]
    assert abs(slopes[1] - slopes[0]) > 1e-3


def test_the_same_formula_is_lowered_once_whatever_function_it_stands_in(points, monkeypatch):
    def made(bend):
        return lambda x, a, b: a + b * torch.exp(-x / bend)

    assert_runs_as_torch_does(made(3.25), points)
    counted = []
    lower = kernel.lower
    monkeypatch.setattr(kernel, "lower", lambda *args: counted.append(args[0]) or lower(*args))
    for _ in range(3):
        assert_runs_as_torch_does(made(3.25), points)
        assert_runs_as_torch_does(lambda t, u, v: (-t).div(3.25).exp().mul(v).add(u), points)
    assert not counted
    assert_runs_as_torch_does(made(3.5), points)
    assert counted


def test_code_that_cannot_be_seen_is_not_taken_for_a_constant(points):
    with ThreadPoolExecutor(1) as pool:

        def model(x, a, b):
            return a + b * x + pool.submit(lambda: (x > 4.5).double()).result()

        found = gf.fit(model, *points, start=START, backend="native", sy=0.03)
    assert found.backend == "eager"
    assert "code that cannot be seen from outside" in found.message


def test_constants_that_are_made_anew_each_time_are_constants(points):
    table = np.array([0.5, 2.0])
    assert_runs_as_torch_does(
        lambda x, a, b: a + b * x * torch.from_numpy(table)[1] + torch.tensor([1.0])[0], points
    )


def test_a_start_where_the_model_is_undefined_is_not_held_against_it(points):
    def model(x, a, b):
        return a + b * torch.log(x - math.e * a)

    asked = {"backend": "native", **SIGMAS}
    with pytest.raises(InputError, match="NaN or inf"):
        gf.fit(model, *points, start={"a": 1.0, "b": 1.0}, **asked)
    assert gf.fit(model, *points, start={"a": -1.0, "b": 1.0}, **asked).backend == "native"


@pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
def test_time_spent_on_a_bound_method_is_remembered(points):
    class Instrument:
        def model(self, x, a, b):
            return a + b * torch.exp(-x)

    instrument = Instrument()
    asked = {"start": START, **SIGMAS}
    gf.fit(instrument.model, *points, backend="native", **asked)
    assert gf.fit(instrument.model, *points, **asked).backend == "eager"
    for known in _dispatch._KNOWN[instrument].methods.values():
        known.spent = 1.0
    assert gf.fit(instrument.model, *points, **asked).backend == "native"
