"""The functions that a formula may call, by name, and what else its names may mean."""

import builtins
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

CONSTANTS = {"pi": math.pi, "\u03c0": math.pi}
"""Names that are numbers; ``\u03c0`` is the letter."""


def _beside(like: Tensor, value: Any) -> Tensor:
    """Return a tensor as it is, and a number as a tensor of the same kind as ``like``."""
    __tracebackhide__ = True
    return value if isinstance(value, Tensor) else like.new_tensor(value)


def _first_tensor(values: Sequence[Any]) -> Tensor:
    return next(v for v in values if isinstance(v, Tensor))


# What these call shows in a traced graph as the call in the formula; a comprehension would be a
# place of its own.
def _lifted(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function of tensors take numbers beside them: ``maximum(x, 0)``."""

    def call(*args: Any) -> Tensor:
        __tracebackhide__ = True
        return fn(*map(partial(_beside, _first_tensor(args)), args))

    return call


def _where(condition: Tensor, value: Any, other: Any) -> Tensor:
    """Choose between tensors or numbers; two numbers alone would come out in single precision."""
    __tracebackhide__ = True
    tensors = [v for v in (value, other) if isinstance(v, Tensor)]
    like = tensors[0] if tensors else condition.new_empty(0, dtype=torch.float64)
    return torch.where(condition, _beside(like, value), _beside(like, other))


def _truth(condition: Tensor) -> Tensor:
    """Return 1 where a comparison holds, else 0: truth values do not add up as numbers do."""
    __tracebackhide__ = True
    return _where(condition, 1.0, 0.0)


def _times_log(factor: Tensor, inner: Tensor, scale: float) -> Tensor:
    """Return ``factor*log(inner)*scale``, which is 0 where both vanish."""
    __tracebackhide__ = True
    value = torch.xlogy(factor, inner)
    return value if scale == 1.0 else value * scale


class _Sinc(torch.autograd.Function):
    """``sin(pi x)/(pi x)`` with derivatives that keep their digits around 0.

    Those of :func:`torch.sinc` are differences of nearly equal numbers there, and NaN at 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sinc(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (math.pi**2 * x * _sinc_slope(math.pi * x))


_SLOPE = [(-1) ** (k + 1) * (2 * k + 2) / math.factorial(2 * k + 3) for k in range(10)]
"""Taylor coefficients of ``(z cos z - sin z)/z**3`` in powers of ``z**2``."""


def _sinc_slope(z: Tensor) -> Tensor:
    """Return ``(z cos z - sin z)/z**3``: the derivative of ``sin(z)/z``, over z."""
    near = z.abs() < 1.0
    s = torch.where(near, z, 0.0) ** 2
    series = s * _SLOPE[-1] + _SLOPE[-2]
    for c in _SLOPE[-3::-1]:
        series = series * s + c
    far = torch.where(near, 1.0, z)
    return torch.where(near, series, (far * torch.cos(far) - torch.sin(far)) / far**3)


def _sinc(x: Tensor) -> Tensor:
    __tracebackhide__ = True
    return _Sinc.apply(x)


def _stacked(*values: Any) -> Tensor:
    """Return values, of which some may be numbers, as rows of one tensor."""
    __tracebackhide__ = True
    rows = tuple(map(partial(_beside, _first_tensor(values)), values))
    if len({row.shape for row in rows}) > 1:
        rows = torch.broadcast_tensors(*rows)
    return torch.stack(rows)


_ELEMENTWISE = """
    abs acos acosh arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh ceil cos cosh
    deg2rad digamma erf erfc erfinv exp exp2 expm1 floor lgamma log log10 log1p log2 logit rad2deg
    sigmoid sign sin sinh sqrt square tan tanh
"""
_ONE: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in _ELEMENTWISE.split()},
    "i0": torch.special.i0,
    "i1": torch.special.i1,
    "ln": torch.log,
    "sinc": _sinc,
    "softplus": torch.nn.functional.softplus,
}
STACKED = "(several)"
"""What a formula of several values calls; no name that a user could write."""
TRUTH = "(truth)"
"""What it calls for a comparison that stands where a number is wanted."""
TIMES_LOG = "(times log)"
"""What it calls for a product of which one factor is the logarithm of data."""
LOGARITHMS = {"log": 1.0, "ln": 1.0, "log10": 1 / math.log(10), "log2": 1 / math.log(2)}
"""Functions that :data:`TIMES_LOG` stands for, in parts of the natural logarithm."""
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "sum": torch.sum}
_SEVERAL: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "arctan2": (2, _lifted(torch.atan2)),
    "atan2": (2, _lifted(torch.atan2)),
    "clamp": (3, _lifted(torch.clamp)),
    "hypot": (2, _lifted(torch.hypot)),
    "maximum": (2, _lifted(torch.maximum)),
    "minimum": (2, _lifted(torch.minimum)),
    "where": (3, _where),
}
ARITY = dict.fromkeys([*_ONE, *_REDUCTIONS], 1) | {k: n for k, (n, _) in _SEVERAL.items()}
NAMESPACE: dict[str, Any] = {
    # For imports that torch makes on behalf of its caller; no name of a formula reaches them.
    "__builtins__": builtins,
    **_ONE,
    **_REDUCTIONS,
    **{k: fn for k, (_, fn) in _SEVERAL.items()},
    STACKED: _stacked,
    TRUTH: _truth,
    TIMES_LOG: _times_log,
}
FUNCTIONS = frozenset(ARITY)
"""Names that a formula may call."""
ALSO_NAMES = frozenset({"i0", "i1", "mean", "sum"})
"""Those that are parameters where a formula does not call them: currents, a mean, a total."""

NO_PARAMETER = {
    "e": "`e` may mean Euler's number or a parameter: write exp(1), or another name such as e0.",
    **dict.fromkeys(
        ("Pi", "PI", "\u03a0"),
        "write pi for 3.14159..., or another name for a parameter.",
    ),
    **dict.fromkeys(
        ("inf", "Inf", "nan", "NaN", "infinity", "Infinity"),
        "a formula holds finite numbers only, and a parameter of that name would mislead.",
    ),
}
"""Names that readers would not take for a parameter, and what to write."""

INSTEAD = {
    "max": "maximum(a, b)",
    "fmax": "maximum(a, b)",
    "min": "minimum(a, b)",
    "fmin": "minimum(a, b)",
    "pow": "a**b",
    "power": "a**b",
    "fabs": "abs(x)",
    "absolute": "abs(x)",
    "lg": "log10(x)",
    "ld": "log2(x)",
    "lb": "log2(x)",
    "arsinh": "asinh(x)",
    "arcosh": "acosh(x)",
    "artanh": "atanh(x)",
    "tg": "tan(x)",
    "arctg": "atan(x)",
    "cot": "1/tan(x)",
    "sec": "1/cos(x)",
    "csc": "1/sin(x)",
    "coth": "1/tanh(x)",
    "sech": "1/cosh(x)",
    "csch": "1/sinh(x)",
    "cbrt": "sign(x)*abs(x)**(1/3)",
    "gamma": "exp(lgamma(x))",
    "gammaln": "lgamma(x)",
    "loggamma": "lgamma(x)",
    "psi": "digamma(x)",
    "expit": "sigmoid(x)",
    "signum": "sign(x)",
    "sgn": "sign(x)",
    "sqr": "x**2",
    "clip": "clamp(x, low, high)",
    "heaviside": "where(x < x0, 0, 1)",
    "step": "where(x < x0, 0, 1)",
    "iif": "where(x < x0, a, b)",
    "select": "where(x < x0, a, b)",
    "avg": "mean(x)",
    "average": "mean(x)",
    "radians": "deg2rad(x)",
    "degrees": "rad2deg(x)",
    "gauss": "a*exp(-(x - m)**2/(2*s**2))",
    "gaussian": "a*exp(-(x - m)**2/(2*s**2))",
    "normal": "a*exp(-(x - m)**2/(2*s**2))",
    "lorentz": "a/(1 + ((x - m)/g)**2)",
    "lorentzian": "a/(1 + ((x - m)/g)**2)",
    "line": "a*x + b",
}
"""What to write for functions of other languages, and for models, which are none."""
