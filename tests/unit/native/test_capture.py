"""What can be captured is captured as torch means it; what cannot is refused with a reason."""

import math

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import models
from gradfit._native import expression
from gradfit._native.capture import Recorder
from gradfit._native.expression import CaptureError

from .compare import assert_close, by_kernel, by_torch, kernel_of

pytestmark = pytest.mark.usefixtures("as_python")


def gauss_legendre(x, a, b):
    nodes, weights = (torch.tensor(v) for v in np.polynomial.legendre.leggauss(5))
    t = 0.5 * x[..., None] * (nodes + 1)
    return 0.5 * x * (weights * torch.exp(-a * t.T).T * b[..., None]).sum(-1)


def assembled(x, a, b):
    y = torch.zeros(2, x.shape[-1], dtype=x.dtype)
    y[0] = a * x
    y[1] = torch.cos(b * x)
    return y


def in_place(x, a, b):
    y = a * x
    y += b
    y.mul_(2).sub_(a, alpha=3)
    return y


def masked(x, a, b):
    y = a * x
    y[x > 0.5] = 2.0
    return y + b * x


def filled_in(x, a, b):
    y = torch.empty(2, x.shape[-1], dtype=x.dtype)
    y[0] = a * x
    y[1] = b + x.new_tensor(0.5)
    z = torch.empty_like(x)
    z[:] = b * x
    return y.sum(0) + z


def trapezoids(x, a, b):
    t = torch.linspace(0, 1, 5, dtype=x.dtype)
    y = torch.exp(-a[:, None] * t * x[:, None])
    return b * torch.trapezoid(y, t, dim=-1) + torch.trapezoid(y.T, dx=0.25, dim=0)


def without_grad(x, a, b):
    with torch.no_grad():
        scale = a * 2
    return scale * x + a * x.detach() * b


SHAPES = {
    "quadrature": gauss_legendre,
    "assembled": assembled,
    "in_place": in_place,
    "masked": masked,
    "without_grad": without_grad,
    "stacked": lambda x, a, b: torch.stack([a * x, b / x]),
    "stacked_and_summed": lambda x, a, b: torch.stack([a * x, b / x, x]).sum(0),
    "mean_and_prod": lambda x, a, b: torch.stack([a * x, b]).mean(0) * torch.stack([a, b]).prod(0),
    "concatenated": lambda x, a, b: torch.cat([(a * x)[None], (b * x)[None]]),
    "unbound": lambda x, a, b: sum(torch.stack([a, b * x]).unbind(0)),
    "views": lambda x, a, b: (a * x).unsqueeze(0).reshape(1, -1).squeeze(0).view(-1).clone() * b,
    "matmul": lambda x, a, b: torch.tensor([1.0, 2.0], dtype=x.dtype) @ torch.stack([a * x, b]),
    "polynomial": lambda x, a, b: sum(c * x**k for k, c in enumerate((a, b, a * b, 0.5, 1))),
    "filled": lambda x, a, b: (
        torch.where(x > 0.4, torch.full_like(x, 2.0), torch.ones_like(x)) * a * b
    ),
    "settings": lambda x, a, b: torch.add(a * x, b, alpha=0.5).clamp(max=0.6),
    "cumulative": lambda x, a, b: torch.stack([a, b, x]).cumsum(0)[2] * x,
    "constant": lambda x, a, b: a * math.pi,
    # Masks and choices between numbers are in single precision, or whole numbers.
    "levels": lambda x, a, b: a * x + b * torch.where(x > 0.4, 0.7, torch.where(x > 0.3, 0.1, 0.2)),
    "mask_times_number": lambda x, a, b: a * x * ((x > 0.4) * 1.3 * 0.1 + 1.0) + b,
    "counted": lambda x, a, b: a * x * (1 + (x > 0.4).int() + (x > 0.6).long()) + b,
    "masks_counted": lambda x, a, b: a * x + b * torch.stack([x > 0.4, x > 0.6]).sum(0),
    "mask_as_number": lambda x, a, b: a * x + b * (1 - (x > 0.4).float() / 3),
    "where_as_method": lambda x, a, b: (a * x).where(x > 0.4, b),
    "max_of_two": lambda x, a, b: torch.max(a * x, b) + (a * x).min(b * x * x),
    "amax": lambda x, a, b: torch.stack([a * x, b]).amax(0) * torch.stack([x, b], 1).amin(dim=1),
    "einsum": lambda x, a, b: torch.einsum("in,in->n", torch.stack([a, b]), torch.stack([x, x**2])),
    "numpy_names": lambda x, a, b: torch.stack([a * x, b]).sum(axis=0, keepdims=True)[0],
    "pieces": lambda x, a, b: (
        sum(t[0] * k for k, t in enumerate(torch.stack([a, b * x, x]).split([1, 2]), 1))
        * torch.stack([a, b]).chunk(2)[1][0]
    ),
    "turned": lambda x, a, b: (
        torch.stack([a, b * x]).flip(0)[0] + torch.stack([a, x]).roll(1, 0)[0] * b
    ),
    "moved": lambda x, a, b: torch.stack([a, b * x], 1).movedim(0, 1).sum(0),
    "picked": lambda x, a, b: torch.stack([a, b * x]).index_select(0, torch.tensor([1, 0])).prod(0),
    "filled_in": filled_in,
    "trapezoids": trapezoids,
}


@pytest.mark.parametrize("name", SHAPES)
def test_code_of_many_kinds_is_captured(name, rng):
    def model(x, beta):
        value = SHAPES[name](x[0], *beta)
        value = value if value.ndim == 2 else value[None]
        return value.expand(-1, x.shape[1])

    x, beta = rng.uniform(0.3, 1.5, (1, 20)), [0.7, 1.3]
    kernel = kernel_of(model, 1, 2)
    nu = rng.normal(size=(len(kernel.program.value), 20))
    found, wanted = by_kernel(kernel, x, beta, nu), by_torch(model, x, beta, nu)
    assert_close(found.value, wanted.value, 1e-15, 1.0)
    assert_close(found.first, wanted.first, 1e-13, 1.0)
    assert_close(found.second, wanted.second, 1e-13, 10.0)


def test_model_of_many_variables_and_responses(rng):
    def model(x, beta):
        a, b, c = beta
        r = torch.linalg.norm(x, dim=0)
        return torch.stack([a * r + torch.atan2(x[1], x[0]), (b * x).sum(0) * torch.exp(-c * x[2])])

    x, beta, nu = rng.normal(size=(3, 40)), [0.7, 1.3, 0.2], rng.normal(size=(2, 40))
    found, wanted = by_kernel(kernel_of(model, 3, 3), x, beta, nu), by_torch(model, x, beta, nu)
    assert_close(found.value, wanted.value, 1e-14)
    assert_close(found.first, wanted.first, 1e-13, 1.0)
    assert_close(found.second, wanted.second, 1e-12, 10.0)


@pytest.mark.parametrize("name", models.names())
def test_built_in_models_are_captured(name):
    fn = models.get(name)
    p = len(__import__("inspect").signature(fn).parameters) - 1
    x, beta = np.linspace(0.2, 2, 11)[None], np.linspace(0.6, 1.4, p)
    nu = np.ones((1, 11))

    def model(x, beta):
        return fn(x[0], *beta)[None]

    found, wanted = by_kernel(kernel_of(model, 1, p), x, beta, nu), by_torch(model, x, beta, nu)
    assert_close(found.value, wanted.value, 1e-14, 1.0)
    assert_close(found.first, wanted.first, 1e-12, 1.0)
    assert_close(found.second, wanted.second, 1e-11, 10.0)


class BadCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.tensor(3 * x.detach().numpy() ** 2)


@torch.library.custom_op("gradfit_tests::floor", mutates_args=())
def floor(x: torch.Tensor) -> torch.Tensor:
    return (x > 4).double()


CHANCE = np.random.default_rng()

REFUSED = {
    "branch": (lambda x, a: a * x if a[0] > 0 else x, r"looks at numbers \(bool\)"),
    "item": (lambda x, a: a * x * float(a[0]), r"looks at numbers \(float\)"),
    "numpy": (lambda x, a: a * torch.tensor(x.detach().numpy()), r"looks at numbers \(numpy\)"),
    "mixes": (lambda x, a: a * x.mean(), "mixes points"),
    "mixes parameters": (lambda x, a: a.sum() * x, "mixes points"),
    "random": (lambda x, a: a * x + torch.rand(2), "random"),
    "unsteady": (lambda x, a: a * x + torch.tensor(CHANCE.random()), "called again"),
    "unknown": (lambda x, a: torch.fft.fft(a * x).real, "fft"),
    "single": (lambda x, a: (a.float() * x).double(), "float32"),
    "by value": (lambda x, a: (a * x)[x.argsort()], "argsort"),
    "by mask": (lambda x, a: (a * x)[x > 0.1] * a[x > 0.1], "picks elements"),
    "large": (lambda x, a: (torch.ones(5000) * a[:, None] * x[:, None]).sum(-1), "5000 numbers"),
    "long": (lambda x, a: sum((a * x) ** k for k in range(4, 900)), "900 operations"),
    "view": (lambda x, a: write_through_a_view(a * x), "view"),
    "custom": (lambda x, a: BadCube.apply(a * x), "BadCube|numbers"),
    "no derivative": (lambda x, a: torch.heaviside(x, a), "torch cannot differentiate"),
    "func": (lambda x, a: torch.vmap(lambda t: t * t)(a * x), "vmap|func"),
    "swallowed": (lambda x, a: swallow(x, a), "looks at numbers"),
    "shape": (lambda x, a: torch.stack([a, x])[:, 0], "one float64 number per point"),
    "place": (lambda x, a: torch.stack([a, x]).max(0).values, "where the maximum stands"),
    "of three": (lambda x, a: torch.stack([a, x, a * x]).amax(0), "more than two"),
    "exp of mask": (lambda x, a: a * torch.exp((x > 0.4) * 0.3), "float32"),
    "namesake": (lambda x, a: a * x + torch.ops.gradfit_tests.floor(x), "gradfit_tests::floor"),
    "fails": (lambda x, a: x.no_such_method(), "fails on two points"),
}


def write_through_a_view(y):
    y[0:1].mul_(2)
    return y


def swallow(x, a):
    try:
        return x * a.item()
    except Exception:  # noqa: BLE001 - what a careless model does
        return x * a


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_is_refused_with_a_reason(name, monkeypatch):
    monkeypatch.setattr(expression, "MOST", 900)
    fn, reason = REFUSED[name]
    with pytest.raises(CaptureError, match=reason):
        kernel_of(
            lambda x, beta: (
                fn(x[0], beta[0]).reshape(1, -1) if name != "shape" else fn(x[0], beta[0])
            ),
            1,
            1,
        )


def test_a_wrong_rule_is_found_out(monkeypatch):
    from gradfit._native import functions

    monkeypatch.setitem(functions.RULES, "exp", functions.RULES["sin"])
    with pytest.raises(CaptureError, match="not that of torch"):
        kernel_of(lambda x, beta: torch.exp(beta[0] * x), 1, 1)


@pytest.mark.parametrize(
    "model",
    [
        lambda x, beta: torch.hypot(x, x) * beta[0],
        lambda x, beta: beta[0] + torch.sin(x) ** 2 + torch.cos(x) ** 2,
        lambda x, beta: torch.log(torch.exp(beta[0] * x)),
    ],
)
def test_derivatives_that_vanish_but_for_rounding_are_no_reason_to_refuse(model):
    kernel_of(model, 1, 1)


def test_a_value_that_differs_at_the_other_point_only_is_found_out():
    steps = torch.tensor([1.0, 2.0], dtype=torch.float64)
    with pytest.raises(CaptureError, match="not that of torch"):
        kernel_of(lambda x, beta: x * beta[0] * steps, 1, 1)


def test_nothing_stays_behind_in_torch():
    apply = torch.autograd.Function.apply
    with pytest.raises(CaptureError):
        kernel_of(lambda x, beta: x * float(beta[0][0]), 1, 1)
    assert torch.autograd.Function.apply == apply
    assert not any(
        isinstance(m, Recorder) for m in torch.overrides._get_current_function_mode_stack()
    )


def test_common_subexpressions_and_parameters_are_computed_once():
    text = kernel_of(lambda x, b: torch.exp(b[0] * b[1]) * x + torch.exp(b[0] * b[1]), 1, 2).text(
        "value"
    )
    assert text.count("exp") == 1
    assert text.index("exp") < text.index("for i in range")


def test_dead_code_and_constants_are_gone():
    def model(x, beta):
        torch.sin(x)
        return x * torch.exp(torch.tensor(1.0, dtype=torch.float64)) * beta[0]

    text = kernel_of(model, 1, 1).text("value")
    assert "sin" not in text
    assert repr(math.e) in text


def test_equal_models_have_equal_texts():
    one = kernel_of(lambda x, beta: beta[0] * torch.exp(-beta[1] * x), 1, 2).text("first")
    other = kernel_of(lambda x, c: (x * -c[1]).exp().mul(c[0]), 1, 2).text("first")
    assert one == other


def test_a_long_model_becomes_kernels_that_are_longer_still(monkeypatch):
    """The limit is one of the model; what the engine asks of it is a few times as long."""
    monkeypatch.setattr(expression, "MOST", 900)

    def model(x, a, b):
        return sum(b * torch.sin(a * x * k) for k in range(1, 20))

    x = np.linspace(0, 1, 30)
    start = {"a": 0.11, "b": 1.9}
    y = sum(2 * np.sin(0.1 * x * k) for k in range(1, 20))
    fit = gf.fit(model, x, y, start=start, sx=0.001, sy=0.01, backend="native")
    assert fit.backend == "native", fit.message
    assert fit.params["a"] == pytest.approx(0.1, abs=1e-6)


def test_what_is_a_tensor_already_stays_what_it_is():
    def model(x, beta):
        return torch.as_tensor(beta[0] * torch.exp(-beta[1] * x[0]), dtype=x.dtype)[None]

    assert kernel_of(model, 1, 2).text("value") == kernel_of(
        lambda x, b: (b[0] * torch.exp(-b[1] * x[0]))[None], 1, 2
    ).text("value")
