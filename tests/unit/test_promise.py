"""What is checked of a model function before its first fit, and what is said of it."""

import math

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import models
from gradfit.errors import GradfitError, InputError, ModelError

X = np.linspace(0, 5, 20)
TURN = 2 * math.pi


class Half(torch.autograd.Function):
    """A square whose backward forgets a factor."""

    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g


def slit(x, intensity, b, g):
    wave = 647e-9
    return intensity * torch.sinc(b * x / wave) ** 2 * torch.cos(math.pi * g * x / wave) ** 2


RIGHT = {
    "megahertz": (lambda x, a, f, p: a * torch.sin(TURN * f * x + p), X * 2e-4, [1, 3e6, 0.2]),
    "gigahertz": (lambda x, a, f, p: a * torch.sin(TURN * f * x + p), X / 5, [1, 3e9, 0.2]),
    "a ripple": (lambda x, a, b: a * x + 1e-3 * torch.sin(1e9 * b * x), X / 5 + 0.3, [1, 1]),
    "too fine a ripple": (lambda x, a, b: a * x + 1e-3 * torch.sin(1e12 * b * x), X + 1, [1, 1]),
    "a double slit": (slit, np.linspace(-44e-3, 44e-3, 19), [1, 2.3e-5, 5.2e-5]),
    "far too fine": (slit, np.linspace(-44e-3, 44e-3, 19), [1, 2.3, 5.2]),
    "a step": (lambda x, a, c: torch.sigmoid(a * (x - c)), X, [1e6, 2.1]),
    "a cliff": (lambda x, a, c: torch.sigmoid(a * (x - c)), X, [1e12, 2.1]),
    "steep": (lambda x, a, b: a * torch.exp(b * x), X, [1, 140.0]),
    "a kink at the last point": (lambda x, a, c: a * torch.relu(x - c), X, [1.0, 5.0]),
    "a kink at 0": (lambda x, a, c: a * torch.abs(x - c), X, [1.0, 0.0]),
    "single precision": (lambda x, a, b: (a.float() * x.float() + b.float()).double(), X, [1, 2]),
    "stairs": (lambda x, a, b: a * torch.round(3 * x) + b, X, [1, 2]),
    "small units": (lambda x, a, b: a * torch.exp(-x / b), X * 1e-12, [1e-20, 2e-12]),
    "digits lost": (lambda x, a, b: 1e12 + a * x + b * x * x, X, [1, 2]),
    "poles": (lambda x, a, b: a * torch.tan(b * x), X * 2e3, [1, 2]),
}
CUT = {
    "an offset": ("b", lambda x, a, b: a * x + b.detach(), X, [1, 1]),
    "a slope, and a point at 0": ("b", lambda x, a, b: a + b.detach() * x, X, [1, 1]),
    "x in part": ("x", lambda x, a, b: a * x + b * x.detach() ** 2, X, [1, 1]),
    "a rate": ("b", lambda x, a, b: a * torch.sin(b.detach() * x), X, [1, 1]),
    "a backward": ("x", lambda x, a, b: a * Half.apply(x) + b, X, [1, 1]),
    "numbers": ("b", lambda x, a, b: a * x * b.tolist()[0], X, [1, 1]),
    "a megahertz": (
        "f", lambda x, a, f, p: a * torch.sin(TURN * f.detach() * x + p), X * 2e-4, [1, 3e6, 0.2],
    ),
    "one branch": ("b", lambda x, a, b: torch.where(x > 2, a * x, b.detach() * x), X, [1, 1]),
    "small units": ("b", lambda x, a, b: a * torch.exp(-x / b.detach()), X * 1e-12, [1, 2e-12]),
    "a start at 0": ("b", lambda x, a, b: a * x + b.detach() * x**2, X, [1, 0]),
    "one of two ways": ("b", lambda x, a, b: a * x + b * x**2 + b.detach() * x, X, [1, 1]),
}  # fmt: skip


def _values(fn, x, start):
    at = torch.from_numpy(x)
    return fn(at, *(torch.full_like(at, float(v)) for v in start)).numpy()


@pytest.mark.filterwarnings("ignore::gradfit.errors.GradfitWarning")
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_model_is_never_said_to_break_its_graph(name):
    """However steep or fast it is: where no difference is sure there is no verdict."""
    fn, x, start = RIGHT[name]
    sx = 1e-3 * np.ptp(x)
    gf.fit(fn, x, _values(fn, x, start) + 1e-3, sx=sx, sy=0.01, start=start, max_steps=2)


@pytest.mark.parametrize("name", CUT)
def test_a_broken_graph_is_still_found(name):
    argument, fn, x, start = CUT[name]
    sx = 1e-3 * np.ptp(x)
    with pytest.raises(ModelError, match=f"'{argument}'.*detach"):
        gf.fit(fn, x, _values(fn, x, start) + 1e-3, sx=sx, sy=0.01, start=start, max_steps=2)


@pytest.mark.filterwarnings("ignore::gradfit.errors.GradfitWarning")
def test_the_derivative_of_a_formula_is_not_doubted():
    """A double slit in SI units (kafe2's examples/003)."""
    x = np.array([-44, -40, -36, -30, -24, -18, -12, -8, -4, -1, 4, 8, 12, 18, 24, 30, 36, 40, 44])
    x, rng = x * 1e-3, np.random.default_rng(3)
    y = 1.1 * np.sinc(2.3e-5 * x / 647e-9) ** 2 * np.cos(np.pi * 5.2e-5 * x / 647e-9) ** 2
    y += rng.normal(0, 0.02, 19)
    gf.fit(
        "I0*sinc(b*x/647e-9)**2*cos(pi*g*x/647e-9)**2",
        x,
        y,
        start=[1, 2e-5, 5e-5],
        sx=4e-4,
        sy=0.02,
    )


def test_whoever_writes_in_the_order_of_scipy_odr_is_told_so():
    def model(B, x):
        return B[0] + B[1] * x

    x = np.linspace(0, 3, 10)
    for start in ([1, 1], None, [1]):
        with pytest.raises(GradfitError, match=r"scipy\.odr, f\(B, x\), is written f\(x, a, b\)"):
            gf.fit(model, x, 1 + 2 * x, sx=0.05, sy=0.05, start=start)


@pytest.mark.parametrize(
    ("fn", "advice"),
    [
        (lambda x, a, b: a * math.exp(b * x), r"write torch\.exp for math\.exp"),
        (lambda x, a, b: a * x * math.sqrt(b), r"write torch\.exp for math\.exp"),
        (lambda x, a, b: a * x + b if x > 1 else b, r"torch\.where"),
        (lambda x, a, b: a * max(x, b), r"torch\.maximum"),
    ],
)
@pytest.mark.parametrize("start", [[1, 1], None])
def test_functions_of_single_numbers_are_answered_with_those_of_torch(fn, advice, start):
    with pytest.raises(ModelError, match=advice):
        gf.fit(fn, np.linspace(0, 3, 10), np.linspace(1, 7, 10), sy=0.05, start=start)


@pytest.mark.parametrize("count", [4, 8, 12])
@pytest.mark.parametrize("start", [[1, 1], None])
def test_whoever_takes_parameters_for_single_numbers_is_told_what_they_are(count, start):
    """Also where there are as many nodes as points in a sample, so that shapes fit by chance."""
    nodes, weights = map(torch.tensor, np.polynomial.legendre.leggauss(count))

    def integral(x, a, k):
        return (weights / 2 * a * torch.exp(-k * x[:, None] * (nodes + 1) / 2)).sum(-1) * x

    def stacked(x, a, b):
        return (torch.stack([a, b])[:, None] * torch.stack([x**0, x])).sum(0)

    def right(x, a, k):
        return (
            weights / 2 * a[:, None] * torch.exp(-k[:, None] * x[:, None] * (nodes + 1) / 2)
        ).sum(-1) * x

    x = np.linspace(0.2, 3, 15)
    y = 2 * (1 - np.exp(-0.8 * x)) / 0.8 + 0.01 * np.cos(9 * x)
    for fn in (integral, stacked):
        with pytest.raises(ModelError, match=r"parameter arrives as one value per point"):
            gf.fit(fn, x, y, sx=0.03, sy=0.03, start=start)
    assert gf.fit(right, x, y, sx=0.03, sy=0.03, start=[1, 1]).success


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gauss", "gaussian"),
        ("Lorentz", "lorentzian"),
        ("linear", "line"),
        ("exponential", "decay"),
        ("sin", "sine"),
        ("gausian", "gaussian"),
    ],
)
def test_models_under_other_names_are_found(name, meant):
    assert models.known(meant)
    with pytest.raises(InputError, match=f"Did you mean '{meant}'"):
        gf.fit(name, X, X)


@pytest.mark.parametrize("name", ["a", "b1", "min", "σ"])
def test_what_means_nothing_is_not_guessed_at(name):
    with pytest.raises(InputError, match=r"a formula uses x, as in 'a\*x \+ b'\. Known are"):
        gf.fit(name, X, X)
