"""Fits on a GPU, in Numba's simulator: the same answers as torch, and why there are none."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import assert_same_ends

import gradfit as gf
from gradfit._native import (
    carry,
    cuda,
    device,
    ending,
    entry,
    feet,
    matrix,
    newton,
    place,
    pointer,
    proposal,
    solver,
    sweep,
)
from gradfit.errors import ConvergenceWarning, InputError

MODELS = Path(device.__file__).parent
GROUPS, N = 3, 9


@pytest.fixture
def simulator(monkeypatch):
    """Kernels run as Python, thread by thread; Numba asks once, when it is imported."""
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    if not pytest.importorskip("numba").config.ENABLE_CUDASIM:
        pytest.skip("Numba has been imported before, without its simulator")


def two(x, a, b):
    return torch.stack([a * torch.exp(-b * x), b * x**2])


def special(x, a, b):
    shape = torch.special.i0(b * x) + torch.lgamma(x + a) * torch.erf(b * x)
    return torch.where(x > 3, a * shape, torch.clamp(a * shape, -50, 50)) + torch.hypot(x, b)


def curve(rng):
    x = np.tile(np.linspace(0.5, 6, N), GROUPS)
    return x, 4 * np.exp(-0.4 * x) + 0.7 + 0.03 * rng.standard_normal(x.size)


def of_decay(rng, **options):
    x, y = curve(rng)
    options = {"start": {"a": 3.0, "b": 0.3, "c": 0.5}, "sx": 0.05, "sy": 0.04, **options}
    return ("a*exp(-b*x) + c", x, y), options


def of_circle(rng):
    angle = np.linspace(0, 5, GROUPS * N)
    x = np.stack([1 + 2 * np.cos(angle), 2 * np.sin(angle)])
    x += 0.03 * rng.standard_normal(x.shape)
    start = {"a": 0.8, "b": 0.2, "r": 1.7}
    return ("(x[0] - a)**2 + (x[1] - b)**2 - r**2", x), {"start": start, "sx": 0.03}


def of_two(rng):
    x = np.tile(np.linspace(0.2, 2, N), GROUPS)
    y = np.stack([3 * np.exp(-0.6 * x), 0.6 * x**2]) + 0.03 * rng.standard_normal((2, x.size))
    start = {"a": 2.5, "b": 0.5}
    return (two, x, y), {"start": start, "sx": 0.02, "sy": 0.03, "loss": "huber"}


def of_special(rng):
    x = np.tile(np.linspace(0.5, 5, N), GROUPS)
    y = special(
        torch.tensor(x), torch.tensor(1.5), torch.tensor(0.4)
    ).numpy() + 0.02 * rng.standard_normal(x.size)
    return (special, x, y), {"start": {"a": 1.4, "b": 0.45}, "sx": 0.01, "sy": 0.02}


def of_correlated(rng):
    x = np.stack([np.linspace(0, 3, GROUPS * N), np.sin(np.arange(GROUPS * N))])
    y = 2 * x[0] + 0.5 * x[1] + 1 + 0.05 * rng.standard_normal(GROUPS * N)
    root = 0.05 * (np.eye(3) + 0.3 * rng.standard_normal((GROUPS * N, 3, 3)))
    options = {"cov": root @ root.transpose(0, 2, 1), "bounds": {"c": (0.0, 0.9)}}
    start = {"a": 1.5, "b": 0.4, "c": 0.5}
    return ("a*x[0] + b*x[1] + c", x, y), {"start": start, **options}


CASES = {
    "curve": of_decay,
    "fixed": lambda rng: of_decay(rng, fixed={"c": 0.7}, start={"a": 3.0, "b": 0.3}),
    "exact x": lambda rng: of_decay(rng, sx=None),
    "exact y": lambda rng: of_decay(rng, sy=0.0),
    "implicit": of_circle,
    "two responses, robust": of_two,
    "special functions": of_special,
    "correlated, bounded": of_correlated,
}


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_torch(name, rng, simulator):
    given, options = CASES[name](rng)
    groups = np.repeat(np.arange(GROUPS), N)
    found = gf.fit(*given, groups=groups, backend="cuda", **options)
    wanted = gf.fit(*given, groups=groups, backend="eager", **options)
    assert (found.backend, wanted.backend) == ("cuda", "eager")
    assert_same_ends(found, wanted)
    for field in ("params", "stderr"):
        for parameter, values in getattr(wanted, field).items():
            np.testing.assert_allclose(getattr(found, field)[parameter], values, 1e-9)
    for field in ("chi2", "cov", "condition", "delta", "x_hat", "weights"):
        got, want = getattr(found, field), getattr(wanted, field)
        np.testing.assert_allclose(got, want, 1e-7, 1e-10)


def test_a_group_that_cannot_be_fitted_has_its_own_status(rng, simulator):
    (model, x, y), options = of_decay(rng)
    groups = np.repeat(np.arange(GROUPS), N)
    groups[:2] = 7
    with pytest.warns(ConvergenceWarning, match="1 TOO_FEW_POINTS"):
        found = gf.fit(model, x, y, groups=groups, backend="cuda", **options)
    with pytest.warns(ConvergenceWarning, match="1 TOO_FEW_POINTS"):
        wanted = gf.fit(model, x, y, groups=groups, backend="eager", **options)
    assert found.status.tolist() == wanted.status.tolist()
    np.testing.assert_allclose(found.params["a"], wanted.params["a"], 1e-9)


def test_what_torch_does_better_it_does_and_says_why(rng, simulator):
    (model, x, y), options = of_decay(rng)
    fit = gf.fit(model, x, y, backend="cuda", **options)
    assert fit.backend == "eager"
    assert "it is one fit" in fit.message


def test_without_a_gpu_the_reason_is_told(rng, monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (model, x, y), options = of_decay(rng)
    with pytest.raises(InputError, match='`backend="cuda"` cannot be used: there is no CUDA GPU'):
        gf.fit(model, x, y, backend="cuda", **options)
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'gradfit\[cuda\]'"):
        gf.fit(model, x, y, backend="cuda", **options)


def test_a_gpu_has_every_function_that_machine_code_calls():
    names = ("carry", "ending", "entry", "feet", "matrix", "newton", "place", "proposal", "solver")
    texts = "".join(
        (MODELS / f"{name}.py").read_text("utf-8")
        for name in (*names, "sweep", "special", "operations")
    )
    known = {*device.NUMPY, *(f"arc{n}" for n in device.ARCS), "inf", "nan", "float64", "isinf"}
    assert set(re.findall(r"\bnp\.(\w+)", texts)) - {"array"} <= known
    assert set(re.findall(r"\bmath\.(\w+)", texts)) <= {*device.MATH, "inf", "nan", "pi"}


def test_a_gpu_has_a_form_of_its_own_of_what_is_numpy_s_in_memory():
    """Lanes and slices of NumPy are no device's; ``at`` is inlined, ``call`` goes by number."""
    kept = device._Again(lambda f: f, lambda f: f).values
    modules = carry, ending, entry, feet, matrix, newton, place, proposal, solver, sweep
    used = {
        v
        for module in modules
        for v in vars(module).values()
        if getattr(v, "__module__", "") == pointer.__name__
    }
    assert pointer.where in used
    assert used - {pointer.at, pointer.call} <= set(kept)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu_are_fitted_there(rng):
    (model, x, y), options = of_decay(rng)
    groups = np.repeat(np.arange(GROUPS), N)
    wanted = gf.fit(model, x, y, groups=groups, backend="eager", **options)
    there = [torch.tensor(v, device="cuda") for v in (x, y)]
    found = gf.fit(model, *there, groups=groups, backend="cuda", **options)
    assert found.backend == "cuda"
    assert found.params["a"].is_cuda
    for name, values in wanted.params.items():
        np.testing.assert_allclose(found.params[name].cpu(), values, 1e-9)
