"""Each operation and its derivatives are those of torch."""

import numpy as np
import pytest
import torch

from .compare import assert_close, by_kernel, by_torch, kernel_of
from .models import ONE, TWO

SPECIAL = [0.0, 1.0, -1.0, 2.0, -2.0, 20.5, -50.0, 800.0, -800.0, 1e300, np.inf, -np.inf, np.nan]
ULP = 2.0**-52

# Where a result is the small difference of larger numbers, or near a zero of the function, its
# rounding errors are those of what it came from; ours and torch's then differ by this much at 1.
FORGIVEN = {
    "acosh": 1.0,
    "digamma": 4.0,
    "lgamma": 1.0,
    "lerp": 1.0,
    "ndtr": 1.0,
    "logsumexp": 1.0,
    "logaddexp": 1.0,
    "addcmul": 10.0,
}
# Derivatives that torch itself rounds badly: its trigamma is right to nine digits only, the
# derivatives of sinc cancel near 0.
LOOSE = {"digamma": 1e-7, "lgamma": 1e-7, "sinc": 1e-6}


pytestmark = pytest.mark.usefixtures("as_python")


@pytest.fixture
def points(rng):
    return np.concatenate([rng.normal(0, 3, 60), rng.uniform(-1, 1, 60)])


def largest(values):
    return max(1.0, np.abs(values[np.isfinite(values)]).max(initial=0.0))


def compare(fn, x, name):
    found = by_kernel(kernel_of(fn, len(x), 1), x, [1.0], np.ones((1, x.shape[1])))
    wanted = by_torch(fn, x, [1.0], np.ones((1, x.shape[1])))
    assert_close(found.value, wanted.value, 6 * ULP, FORGIVEN.get(name, 0.0))
    rtol = LOOSE.get(name, 1e-13)
    assert_close(found.first, wanted.first, rtol, 1.0)
    assert_close(found.second, wanted.second, rtol, largest(wanted.first))


@pytest.mark.parametrize("name", ONE)
def test_function_of_one_variable_is_that_of_torch(name, points):
    compare(lambda x, beta: ONE[name](x[:1]), points[None], name)


@pytest.mark.parametrize("name", TWO)
def test_function_of_two_variables_is_that_of_torch(name, points, rng):
    x = np.stack([points, rng.permutation(points)])
    compare(lambda x, beta: TWO[name](x[0], x[1])[None], x, name)


@pytest.mark.parametrize("name", sorted(ONE.keys() - {"sinc"}))
def test_infinite_and_undefined_values_are_those_of_torch(name):
    x = np.array([SPECIAL])
    kernel = kernel_of(lambda x, beta: ONE[name](x[:1]), 1, 1)
    found = kernel.evaluate("first", x, [1.0])
    wanted = by_torch(lambda x, beta: ONE[name](x[:1]), x, [1.0], np.ones_like(x))
    assert_close(found[:1], wanted.value, 1e-13, 1e-300)
    if name not in {"digamma", "lgamma"}:  # torch: finite at the poles, by rounding in sin(pi*x)
        assert_close(found[1], wanted.first[0, 0], 1e-13, 1e-12)


@pytest.mark.parametrize("name", sorted(TWO.keys() - {"logsumexp", "lerp", "remainder"}))
def test_special_pairs_are_those_of_torch(name):
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    x = np.stack([a.ravel(), b.ravel()])
    kernel = kernel_of(lambda x, beta: TWO[name](x[0], x[1])[None], 2, 1)
    found = kernel.evaluate("first", x, [1.0])
    wanted = by_torch(
        lambda x, beta: TWO[name](x[0], x[1])[None], x, [1.0], np.ones((1, x.shape[1]))
    )
    assert_close(found[:1], wanted.value, 1e-13, 1e-300)
    assert_close(found[1:3], wanted.first[0, :2], 1e-13, 1e-12)


def test_custom_function_keeps_its_own_backward(rng):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale, times):
            out = times * scale * x**3
            ctx.save_for_backward(x, scale, out)
            return out

        @staticmethod
        def backward(ctx, g):
            x, scale, out = ctx.saved_tensors
            # Not the derivative: a quarter more, so that only the backward itself can give it.
            return 1.25 * g * 3 * out / x, g * out / scale, None

    saved_before = Cube.apply

    def model(x, beta):
        return (saved_before(x[0] * beta[0], beta[1], 2) * torch.sin(x[0]))[None]

    x, beta, nu = rng.uniform(0.5, 2, (1, 30)), [0.8, 1.3], np.ones((1, 30))
    found, wanted = by_kernel(kernel_of(model, 1, 2), x, beta, nu), by_torch(model, x, beta, nu)
    assert_close(found.value, wanted.value, 1e-15)
    assert_close(found.first, wanted.first, 1e-13)
    # The hook that torch uses twice here is not symmetric: the upper triangle is taken.
    for i, j in zip(*np.triu_indices(3), strict=True):
        assert_close(found.second[i, j], wanted.second[i, j], 1e-13, 1.0)


def test_custom_functions_that_are_one_another_s_derivative(rng):
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, g):
            return g * Cosine.apply(ctx.saved_tensors[0])

    class Cosine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.cos(x)

        @staticmethod
        def backward(ctx, g):
            return -g * Sine.apply(ctx.saved_tensors[0])

    def model(x, beta):
        return Sine.apply(beta[0] * x)

    x, nu = rng.uniform(0.1, 30, (1, 60)), np.ones((1, 60))
    found, wanted = by_kernel(kernel_of(model, 1, 1), x, [1.2], nu), by_torch(model, x, [1.2], nu)
    assert_close(found.value, wanted.value, 1e-15, 1.0)
    assert_close(found.first, wanted.first, 1e-13, 10.0)
    assert_close(found.second, wanted.second, 1e-13, 300.0)
