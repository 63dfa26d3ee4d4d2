"""The scalar operations: how each is written in Python, and how its derivative is.

The texts are what :mod:`gradfit._native.lower` puts into the program that is compiled; the names
in them are Python's, NumPy's, or those of :mod:`gradfit._native.special`. The derivatives are those
of torch, formula by formula and with its conventions at kinks and ties, so that a captured model
has the gradients that the eager engine sees, up to rounding. Each takes the gradient ``g`` of the
result, the result, and the arguments, and gives what flows to each argument, None for nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from gradfit._native import special

Slope = Callable[..., tuple[Any, ...]]


def gather(total: float, value: float) -> float:
    """Return the sum; machine code may add up side by side, in another order."""
    return total + value


NAMES: dict[str, Any] = {"np": np, "math": math, "gather": gather, **special.FUNCTIONS}
"""What the texts may refer to."""


_POWER = "power({0}, {data})"
# Constant exponents that need no logarithm; some of them torch computes in this way, too.
_POWERS = {
    2.0: "{0} * {0}",
    3.0: "{0} * {0} * {0}",
    4.0: "({0} * {0}) * ({0} * {0})",
    -1.0: "1.0 / {0}",
    -2.0: "1.0 / ({0} * {0})",
    -3.0: "1.0 / ({0} * {0} * {0})",
    0.5: "np.sqrt({0})",
    -0.5: "1.0 / np.sqrt({0})",
    1.5: "three_halves({0})",
    -1.5: "1.0 / three_halves({0})",
    2.5: "three_halves({0}) * abs({0})",
}


@dataclass(frozen=True, eq=False)
class Operation:
    """One scalar operation.

    Attributes
    ----------
    text : str
        Python text; ``{0}``, ``{1}`` stand for the arguments, ``{data}`` for settings.
    slope : callable or None
        ``slope(g, out, *args)``; None where torch has no derivative.
    """

    text: str
    slope: Slope | None

    def write(self, data: Any, names: Sequence[str]) -> str:
        """Return the text with names of variables in it."""
        text = _POWERS.get(data, self.text) if self.text is _POWER else self.text
        return text.format(*names, data=data)

    def compute(self, data: Any, *values: Any) -> Any:
        """Return the value for numbers."""
        return _function(self, len(values), data)(*values)


@lru_cache(maxsize=1024)
def _function(operation: Operation, count: int, data: Any) -> Callable[..., Any]:
    names = [f"a{i}" for i in range(count)]
    source = f"lambda {', '.join(names)}: {operation.write(data, names)}"
    outer = compile(source, "<scalar operation>", "eval")
    return FunctionType(next(c for c in outer.co_consts if isinstance(c, CodeType)), NAMES)


def _nothing(g: Any, out: Any, *args: Any) -> tuple[Any, ...]:
    return (None,) * len(args)


def _pow(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    to_a = b.at("eq", 0.0).at("where", 0.0, g * (b * a ** (b - 1.0)))
    dead = a.at("eq", 0.0).at("and", b.at("ge", 0.0))
    # The logarithm of another number where it counts for nothing, so that its derivative is finite.
    return to_a, dead.at("where", 0.0, g * (out * dead.at("where", 1.0, a).at("log")))


def _maximum(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    part = a.at("eq", b).at("where", g / 2.0, g)
    return a.at("lt", b).at("where", 0.0, part), a.at("gt", b).at("where", 0.0, part)


def _minimum(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    part = a.at("eq", b).at("where", g / 2.0, g)
    return a.at("gt", b).at("where", 0.0, part), a.at("lt", b).at("where", 0.0, part)


def _clamp(g: Any, out: Any, a: Any, low: Any, high: Any) -> tuple[Any, ...]:
    inside = a.at("ge", low).at("and", a.at("le", high))
    at_low = low.at("lt", high).at("and", a.at("lt", low))
    at_high = a.at("gt", high).at("or", high.at("lt", low))
    return tuple(c.at("where", g, 0.0) for c in (inside, at_low, at_high))


def _atan2(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    square = a * a + b * b
    recip = square.at("eq", 0.0).at("where", 0.0, 1.0 / square)
    return g * b * recip, g * -a * recip


def _i1e(g: Any, out: Any, a: Any) -> tuple[Any]:
    slope = a.at("i0e") - out * (a.at("sign") + 1.0 / a)
    return (g * a.at("abs").at("gt", 2.0**-52).at("where", slope, 0.5),)


def _i1(g: Any, out: Any, a: Any) -> tuple[Any]:
    return (g * a.at("abs").at("gt", 2.0**-52).at("where", a.at("i0") - out / a, 0.5),)


def _sinc(g: Any, out: Any, a: Any) -> tuple[Any]:
    return (g * (math.pi**2 * a * a.at("sinc_slope")),)


def _sinc_slope(g: Any, out: Any, a: Any) -> tuple[Any]:
    rest = a.at("sinc") + 3.0 * out
    return (g * a.at("eq", 0.0).at("where", 0.0, -rest / a),)


def _logit(g: Any, out: Any, a: Any) -> tuple[Any]:
    outside = a.at("lt", 0.0).at("or", a.at("gt", 1.0))
    return (outside.at("where", math.nan, g / (a * (1.0 - a))),)


def _softplus(g: Any, out: Any, a: Any, beta: Any, threshold: Any) -> tuple[Any, ...]:
    b = a * beta
    return b.at("gt", threshold).at("where", g, g * b.at("sigmoid")), None, None


def _xlogy(g: Any, out: Any, a: Any, b: Any) -> tuple[Any, Any]:
    dead = a.at("eq", 0.0).at("and", b.at("le", 0.0))
    return dead.at("where", 0.0, g * b.at("log")), g * a / b


def _norm_root(g: Any, out: Any, a: Any) -> tuple[Any]:
    return (out.at("eq", 0.0).at("where", 0.0, g / (2.0 * out)),)


def _arc(sign: float) -> Slope:
    return lambda g, y, a: (sign * g * (1.0 / (1.0 - a * a).at("sqrt")),)


def _compare(symbol: str) -> Operation:
    return Operation(f"{{0}} {symbol} {{1}}", _nothing)


def _unary(name: str, slope: Slope | None) -> Operation:
    return Operation(f"{name}({{0}})", slope)


OPERATIONS: dict[str, Operation] = {
    "add": Operation("{0} + {1}", lambda g, y, a, b: (g, g)),
    "sub": Operation("{0} - {1}", lambda g, y, a, b: (g, -g)),
    "mul": Operation("{0} * {1}", lambda g, y, a, b: (g * b, g * a)),
    "div": Operation("{0} / {1}", lambda g, y, a, b: (g / b, -g * (y / b))),
    "neg": Operation("-{0}", lambda g, y, a: (-g,)),
    "pow": Operation("power({0}, {1})", _pow),
    "power": Operation(_POWER, lambda g, y, a: (g * (y.data * a ** (y.data - 1.0)),)),
    "fmod": Operation("np.fmod({0}, {1})", lambda g, y, a, b: (g, -g * (a / b).at("trunc"))),
    "remainder": Operation("remainder({0}, {1})", lambda g, y, a, b: (g, -g * (a / b).at("floor"))),
    "floor_divide": Operation("floor_divide({0}, {1})", _nothing),
    "atan2": Operation("math.atan2({0}, {1})", _atan2),
    "hypot": Operation("np.hypot({0}, {1})", lambda g, y, a, b: (g * (a / y), g * (b / y))),
    "maximum": Operation("maximum({0}, {1})", _maximum),
    "minimum": Operation("minimum({0}, {1})", _minimum),
    "clamp": Operation("minimum(maximum({0}, {1}), {2})", _clamp),
    "logaddexp": Operation(
        "logaddexp({0}, {1})",
        lambda g, y, a, b: (g / (1.0 + (b - a).at("exp")), g / (1.0 + (a - b).at("exp"))),
    ),
    "xlogy": Operation("xlogy({0}, {1})", _xlogy),
    "where": Operation(
        "{1} if {0} else {2}",
        lambda g, y, c, a, b: (None, c.at("where", g, 0.0), c.at("where", 0.0, g)),
    ),
    # A result that torch computed without recording it: no gradient flows through.
    "stop": Operation("{0}", _nothing),
    # A result of a custom Function: its own backward is asked (see ``differentiate``).
    "custom": Operation("{0}", None),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "eq": _compare("=="),
    "ne": _compare("!="),
    "and": _compare("and"),
    "or": _compare("or"),
    "not": Operation("not {0}", _nothing),
    "floor": _unary("np.floor", _nothing),
    "ceil": _unary("np.ceil", _nothing),
    "trunc": _unary("np.trunc", _nothing),
    "round": _unary("np.rint", _nothing),
    "sign": _unary("sign", _nothing),
    "abs": _unary("abs", lambda g, y, a: (g * a.at("sign"),)),
    "sqrt": _unary("np.sqrt", lambda g, y, a: (g / (2.0 * y),)),
    "norm_root": _unary("np.sqrt", _norm_root),
    "exp": _unary("exp", lambda g, y, a: (g * y,)),
    "exp2": _unary("np.exp2", lambda g, y, a: (g * y * math.log(2.0),)),
    "expm1": _unary("expm1", lambda g, y, a: (g * (y + 1.0),)),
    "log": _unary("log", lambda g, y, a: (g / a,)),
    "log2": _unary("np.log2", lambda g, y, a: (g / (a * math.log(2.0)),)),
    "log10": _unary("np.log10", lambda g, y, a: (g / (a * math.log(10.0)),)),
    "log1p": _unary("log1p", lambda g, y, a: (g / (a + 1.0),)),
    "sin": _unary("sin", lambda g, y, a: (g * a.at("cos"),)),
    "cos": _unary("cos", lambda g, y, a: (g * -a.at("sin"),)),
    "tan": _unary("np.tan", lambda g, y, a: (g * (1.0 + y * y),)),
    "asin": _unary("np.arcsin", _arc(1.0)),
    "acos": _unary("np.arccos", _arc(-1.0)),
    "atan": _unary("arctan", lambda g, y, a: (g / (a * a + 1.0),)),
    "sinh": _unary("sinh", lambda g, y, a: (g * a.at("cosh"),)),
    "cosh": _unary("cosh", lambda g, y, a: (g * a.at("sinh"),)),
    "tanh": _unary("tanh", lambda g, y, a: (g * (1.0 - y * y),)),
    "asinh": _unary("np.arcsinh", lambda g, y, a: (g * (1.0 / (a * a + 1.0).at("sqrt")),)),
    "acosh": _unary("np.arccosh", lambda g, y, a: (g * (1.0 / (a * a - 1.0).at("sqrt")),)),
    "atanh": _unary("np.arctanh", lambda g, y, a: (g / (1.0 - a * a),)),
    "sinc": _unary("sinc", _sinc),
    "sinc_slope": _unary("sinc_slope", _sinc_slope),
    "logit": Operation("log({0} / (1.0 - {0}))", _logit),
    "sigmoid": Operation("1.0 / (1.0 + exp(-{0}))", lambda g, y, a: (g * (1.0 - y) * y,)),
    "log_sigmoid": _unary("log_sigmoid", lambda g, y, a: (g * (-a).at("sigmoid"),)),
    "softplus": Operation("softplus({0}, {1}, {2})", _softplus),
    "erf": _unary(
        "math.erf", lambda g, y, a: (2.0 / math.sqrt(math.pi) * (-(a * a)).at("exp") * g,)
    ),
    "erfc": _unary(
        "math.erfc", lambda g, y, a: (-2.0 / math.sqrt(math.pi) * (-(a * a)).at("exp") * g,)
    ),
    "erfinv": _unary("erfinv", lambda g, y, a: (0.5 * math.sqrt(math.pi) * (y * y).at("exp") * g,)),
    "lgamma": _unary("lgamma", lambda g, y, a: (g * a.at("digamma"),)),
    "digamma": _unary("digamma", lambda g, y, a: (g * a.at("polygamma", 1.0),)),
    "polygamma": Operation(
        # The order comes second, so that the argument leads.
        "polygamma({1}, {0})",
        lambda g, y, a, n: (g * a.at("polygamma", n.number + 1.0), None),
    ),
    "i0": _unary("i0", lambda g, y, a: (g * a.at("i1"),)),
    "i0e": _unary("i0e", lambda g, y, a: (g * (a.at("i1e") - a.at("sign") * y),)),
    "i1": _unary("i1", _i1),
    "i1e": _unary("i1e", _i1e),
}
"""Every scalar operation by name."""
