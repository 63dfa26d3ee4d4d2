"""NumPy rules for numbers one by one, and for sums and the like. Ties and kinks follow torch."""

from functools import partial
from typing import Any

from gradfit.graph.writing import (
    RULES,
    Arg,
    NoRuleError,
    Op,
    Rule,
    axes_of,
    kept,
    literal,
    rule,
)

# -- one number at a time -------------------------------------------------------------------------

# name: forward, backward; {x} is the input, {y} the output, {g} the gradient that arrives
_POINTWISE = {
    "exp": ("np.exp({x})", "{g} * {y}"),
    "exp2": ("np.exp2({x})", "{g} * {y} * np.log(2)"),
    "expm1": ("np.expm1({x})", "{g} * ({y} + 1)"),
    "log": ("np.log({x})", "{g} / {x}"),
    "log2": ("np.log2({x})", "{g} / ({x} * np.log(2))"),
    "log10": ("np.log10({x})", "{g} / ({x} * np.log(10))"),
    "log1p": ("np.log1p({x})", "{g} / (1 + {x})"),
    "sqrt": ("np.sqrt({x})", "{g} / (2 * {y})"),
    "rsqrt": ("1 / np.sqrt({x})", "-0.5 * {g} * {y} ** 3"),
    "square": ("{x} ** 2", "{g} * 2 * {x}"),
    "reciprocal": ("1 / {x}", "-{g} * {y} ** 2"),
    "neg": ("-{x}", "-{g}"),
    "negative": ("-{x}", "-{g}"),
    "positive": ("+{x}", "{g}"),
    "abs": ("np.abs({x})", "{g} * np.sign({x})"),
    "absolute": ("np.abs({x})", "{g} * np.sign({x})"),
    "sin": ("np.sin({x})", "{g} * np.cos({x})"),
    "cos": ("np.cos({x})", "-{g} * np.sin({x})"),
    "tan": ("np.tan({x})", "{g} * (1 + {y} ** 2)"),
    "asin": ("np.arcsin({x})", "{g} / np.sqrt(1 - {x} ** 2)"),
    "arcsin": ("np.arcsin({x})", "{g} / np.sqrt(1 - {x} ** 2)"),
    "acos": ("np.arccos({x})", "-{g} / np.sqrt(1 - {x} ** 2)"),
    "arccos": ("np.arccos({x})", "-{g} / np.sqrt(1 - {x} ** 2)"),
    "atan": ("np.arctan({x})", "{g} / (1 + {x} ** 2)"),
    "arctan": ("np.arctan({x})", "{g} / (1 + {x} ** 2)"),
    "sinh": ("np.sinh({x})", "{g} * np.cosh({x})"),
    "cosh": ("np.cosh({x})", "{g} * np.sinh({x})"),
    "tanh": ("np.tanh({x})", "{g} * (1 - {y} ** 2)"),
    "asinh": ("np.arcsinh({x})", "{g} / np.sqrt({x} ** 2 + 1)"),
    "acosh": ("np.arccosh({x})", "{g} / np.sqrt({x} ** 2 - 1)"),
    "atanh": ("np.arctanh({x})", "{g} / (1 - {x} ** 2)"),
    "sigmoid": ("1 / (1 + np.exp(-{x}))", "{g} * {y} * (1 - {y})"),
    "log_sigmoid": ("-np.logaddexp(0, -{x})", "{g} / (1 + np.exp({x}))"),
    "silu": (
        "{x} / (1 + np.exp(-{x}))",
        "{g} * (1 + {x} * (1 - 1 / (1 + np.exp(-{x})))) / (1 + np.exp(-{x}))",
    ),
    "relu": ("np.maximum({x}, 0)", "{g} * ({x} > 0)"),
    **{name: (f"np.{name}({{x}})", "0 * {g}") for name in ("floor", "ceil", "trunc", "sign")},
    "round": ("np.round({x})", "0 * {g}"),
}


def _pointwise(forward: str, backward: str) -> Rule:
    def write(op: Op, input: Any, **_: Any) -> None:
        op.is_(forward.format(x=input))
        op.back(input, backward.format(x=input, y=op.y, g=op.g))

    return write


RULES.update({name: _pointwise(*texts) for name, texts in _POINTWISE.items()})


@rule("add", "iadd", "radd")
def _add(op: Op, input: Any, other: Any, *, alpha: Any = 1) -> None:
    times = "" if alpha == 1 else f"{literal(alpha)} * "
    op.is_(f"{literal(input)} + {times}{literal(other)}")
    op.back(input, op.g)
    op.back(other, f"{times}{op.g}")


@rule("sub", "subtract", "isub")
def _sub(op: Op, input: Any, other: Any, *, alpha: Any = 1) -> None:
    times = "" if alpha == 1 else f"{literal(alpha)} * "
    op.is_(f"{literal(input)} - {times}{literal(other)}")
    op.back(input, op.g)
    op.back(other, f"-{times}{op.g}")


@rule("rsub")
def _rsub(op: Op, input: Any, other: Any, *, alpha: Any = 1) -> None:
    if alpha != 1:
        raise NoRuleError
    _sub(op, other, input)


@rule("mul", "multiply", "rmul", "imul")
def _mul(op: Op, input: Any, other: Any) -> None:
    a, b = literal(input), literal(other)
    op.is_(f"{a} * {b}")
    op.back(input, f"{op.g} * {b}")
    op.back(other, f"{op.g} * {a}")


@rule("div", "divide", "true_divide", "truediv", "idiv", "itruediv")
def _div(op: Op, input: Any, other: Any, *, rounding_mode: Any = None) -> None:
    if rounding_mode is not None:
        raise NoRuleError
    a, b = literal(input), literal(other)
    op.is_(f"{a} / {b}")
    op.back(input, f"{op.g} / {b}")
    op.back(other, f"-{op.g} * {op.y} / {b}")


@rule("rdiv", "rtruediv")
def _rdiv(op: Op, input: Any, other: Any) -> None:
    _div(op, other, input)


@rule("pow", "ipow", "float_power")
def _pow(op: Op, input: Any, exponent: Any) -> None:
    a, n = literal(input), literal(exponent)
    op.is_(f"{a} ** {n}")
    if isinstance(exponent, Arg):
        op.back(input, f"{op.g} * {n} * {a} ** ({n} - 1)")
        op.back(exponent, f"{op.g} * {op.y} * np.log({a})")
    elif exponent == 0:
        op.back(input, f"0 * {op.g}")
    else:
        lower = "" if exponent == 2 else f" ** {literal(exponent - 1)}"
        op.back(input, f"{op.g} * {n} * {a}{lower}")


@rule("rpow")
def _rpow(op: Op, input: Any, other: Any) -> None:
    _pow(op, other, input)


def _extremum(op: Op, input: Any, other: Any, *, sign: str, name: str) -> None:
    op.is_(f"np.{name}({input}, {other})")
    op.back(input, f"{op.g} * (({input} {sign} {other}) + 0.5 * ({input} == {other}))")
    op.back(other, f"{op.g} * (({other} {sign} {input}) + 0.5 * ({input} == {other}))")


RULES["maximum"] = partial(_extremum, sign=">", name="maximum")
RULES["minimum"] = partial(_extremum, sign="<", name="minimum")


@rule("clamp", "clip")
def _clamp(op: Op, input: Any, min: Any = None, max: Any = None) -> None:
    if isinstance(min, Arg) or isinstance(max, Arg):
        raise NoRuleError
    op.is_(f"np.clip({input}, {literal(min)}, {literal(max)})")
    inside = [f"({input} >= {literal(min)})"] if min is not None else []
    inside += [f"({input} <= {literal(max)})"] if max is not None else []
    op.back(input, " * ".join([op.g, *inside]))


@rule("where")
def _where(op: Op, condition: Any, input: Any, other: Any) -> None:
    op.is_(f"np.where({condition}, {literal(input)}, {literal(other)})")
    op.back(input, f"np.where({condition}, {op.g}, 0)")
    op.back(other, f"np.where({condition}, 0, {op.g})")


@rule("hypot")
def _hypot(op: Op, input: Any, other: Any) -> None:
    op.is_(f"np.hypot({input}, {other})")
    op.back(input, f"{op.g} * {input} / {op.y}")
    op.back(other, f"{op.g} * {other} / {op.y}")


@rule("atan2", "arctan2")
def _atan2(op: Op, input: Any, other: Any) -> None:
    op.is_(f"np.arctan2({input}, {other})")
    op.back(input, f"{op.g} * {other} / ({input} ** 2 + {other} ** 2)")
    op.back(other, f"-{op.g} * {input} / ({input} ** 2 + {other} ** 2)")


@rule("lerp")
def _lerp(op: Op, input: Any, end: Any, weight: Any) -> None:
    w = literal(weight)
    op.is_(f"{input} + {w} * ({end} - {input})")
    op.back(input, f"{op.g} * (1 - {w})")
    op.back(end, f"{op.g} * {w}")
    op.back(weight, f"{op.g} * ({end} - {input})")


@rule("softplus")
def _softplus(op: Op, input: Any, beta: Any = 1, threshold: Any = 20) -> None:
    z = f"{literal(beta)} * {input}"
    straight = f"{z} > {literal(threshold)}"
    op.is_(f"np.where({straight}, {input}, np.logaddexp(0, {z}) / {literal(beta)})")
    op.back(input, f"{op.g} * np.where({straight}, 1, 1 / (1 + np.exp(-({z}))))")


@rule("leaky_relu")
def _leaky_relu(op: Op, input: Any, negative_slope: Any = 0.01, inplace: bool = False) -> None:
    slope = literal(negative_slope)
    op.is_(f"np.where({input} > 0, {input}, {slope} * {input})")
    op.back(input, f"{op.g} * np.where({input} > 0, 1, {slope})")


# -- values that need no gradient -----------------------------------------------------------------

_COMPARISONS = {
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<="},
}


def _comparison(symbol: str) -> Rule:
    def write(op: Op, input: Any, other: Any) -> None:
        op.is_(f"{literal(input)} {symbol} {literal(other)}")

    return write


RULES.update({name: _comparison(symbol) for name, symbol in _COMPARISONS.items()})


# -- sums and the like ----------------------------------------------------------------------------


def _axis(dim: Any, shape: tuple[int, ...], keepdim: bool) -> str:
    axes = axes_of(dim, len(shape))
    numbers = ", ".join(map(str, axes))
    axis = "" if len(axes) == len(shape) else f", axis=({numbers})"
    return axis + (", keepdims=True" if keepdim and shape else "")


def _spread(input: Arg, dim: Any, text: str) -> str:
    """Bring a reduced text back to where it broadcasts with the input."""
    return kept(text, input.shape, axes_of(dim, len(input.shape)))


def _all(input: Arg, dim: Any, text: str) -> str:
    """Bring a reduced text back to the shape of the input."""
    if not input.shape:
        return text
    return f"np.broadcast_to({_spread(input, dim, text)}, {input.shape})"


@rule("sum")
def _sum(op: Op, input: Arg, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> None:
    op.is_(f"np.sum({input}{_axis(dim, input.shape, keepdim)})")
    op.back(input, _all(input, dim, op.g), input.shape)


@rule("mean")
def _mean(op: Op, input: Arg, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> None:
    op.is_(f"np.mean({input}{_axis(dim, input.shape, keepdim)})")
    count = 1
    for axis in axes_of(dim, len(input.shape)):
        count *= input.shape[axis]
    op.back(input, f"{_all(input, dim, op.g)} / {count}", input.shape)


@rule("prod")
def _prod(op: Op, input: Arg, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> None:
    op.is_(f"np.prod({input}{_axis(dim, input.shape, keepdim)})")
    g = _spread(input, dim, op.g)
    if dim is None:  # the product of all the others, also where one of them is 0
        n = f"np.eye({input}.size, dtype=bool)"
        others = f"np.prod(np.where({n}, 1, np.ravel({input})), axis=1).reshape({input.shape})"
        op.back(input, f"{op.g} * {others}", input.shape)
        return
    axis = axes_of(dim, len(input.shape))[0]
    last = f"np.moveaxis({input}, {axis}, -1)[..., None, :]"
    others = f"np.prod(np.where(np.eye({input.shape[axis]}, dtype=bool), 1, {last}), axis=-1)"
    op.back(input, f"{g} * np.moveaxis({others}, -1, {axis})", input.shape)


@rule("var")
def _var(
    op: Op,
    input: Arg,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: Any = None,
    root: bool = False,
) -> None:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    ddof = (1 if unbiased else 0) if correction is None else correction
    axis = _axis(dim, input.shape, keepdim)
    count = 1
    for a in axes_of(dim, len(input.shape)):
        count *= input.shape[a]
    op.is_(f"np.{'std' if root else 'var'}({input}{axis}, ddof={ddof})")
    centered = f"({input} - np.mean({input}{_axis(dim, input.shape, True)}))"
    g = _spread(input, dim, f"({op.g} / {op.y})" if root else f"(2 * {op.g})")
    op.back(input, f"{g} * {centered} / {count - ddof}", input.shape)


RULES["std"] = partial(_var, root=True)


@rule("logsumexp")
def _logsumexp(op: Op, input: Arg, dim: Any, keepdim: bool = False) -> None:
    top = f"np.max({input}{_axis(dim, input.shape, True)})"
    axis = _axis(dim, input.shape, keepdim)
    flat = f"np.max({input}{axis})"
    op.is_(f"{flat} + np.log(np.sum(np.exp({input} - {top}){axis}))")
    y, g = _spread(input, dim, op.y), _spread(input, dim, op.g)
    op.back(input, f"{g} * np.exp({input} - {y})", input.shape)


@rule("softmax")
def _softmax(op: Op, input: Arg, dim: Any = -1, **_: Any) -> None:
    axis = _axis(dim, input.shape, True)
    shifted = f"np.exp({input} - np.max({input}{axis}))"
    op.is_(f"{shifted} / np.sum({shifted}{axis})")
    op.back(input, f"{op.y} * ({op.g} - np.sum({op.g} * {op.y}{axis}))")


@rule("log_softmax")
def _log_softmax(op: Op, input: Arg, dim: Any = -1, **_: Any) -> None:
    axis = _axis(dim, input.shape, True)
    shifted = f"({input} - np.max({input}{axis}))"
    op.is_(f"{shifted} - np.log(np.sum(np.exp({shifted}){axis}))")
    op.back(input, f"{op.g} - np.exp({op.y}) * np.sum({op.g}{axis})")


@rule("norm", "linalg_norm", "vector_norm", "linalg_vector_norm")
def _norm(
    op: Op, input: Arg, p: Any = 2, dim: Any = None, keepdim: bool = False, **other: Any
) -> None:
    p = other.get("ord", p)
    p = 2 if p in (None, "fro") else p
    if not isinstance(p, (int, float)) or p <= 0 or p == float("inf"):
        raise NoRuleError
    axis = _axis(dim, input.shape, keepdim)
    y, g = _spread(input, dim, op.y), _spread(input, dim, op.g)
    if p == 2:
        op.is_(f"np.sqrt(np.sum({input} ** 2{axis}))")
        op.back(input, f"{g} * {input} / {y}", input.shape)
        return
    op.is_(f"np.sum(np.abs({input}) ** {p}{axis}) ** (1 / {p})")
    slope = f"np.sign({input}) * np.abs({input}) ** {literal(p - 1)}"
    op.back(input, f"{g} * {slope} * {y} ** {literal(1 - p)}", input.shape)


def _extreme(
    op: Op, input: Arg, dim: Any = None, keepdim: bool = False, *, name: str, even: bool
) -> None:
    """Write the largest or smallest entry; ``even`` shares the gradient among ties."""
    if isinstance(dim, Arg):  # max(x, y) is another function of the same name
        RULES[f"{name}imum"](op, input, dim)
        return
    axis = _axis(dim, input.shape, keepdim)
    if dim is None or even:
        op.is_(f"np.{name}({input}{axis})")
        y, g = _spread(input, dim, op.y), _spread(input, dim, op.g)
        ties = f"({input} == {y})"
        shared = f"np.sum({ties}{_axis(dim, input.shape, True)})"
        op.back(input, f"{g} * {ties} / {shared}", input.shape)
        return
    along = axes_of(dim, len(input.shape))[0]
    (_, g, _), (where, _, _) = op.names
    at = where if keepdim else f"np.expand_dims({where}, {along})"
    column = tuple(n if i == along else 1 for i, n in enumerate(input.shape))
    hit = f"(np.arange({input.shape[along]}).reshape({column}) == {at})"
    op.is_(f"np.{name}({input}{axis})")
    op.back(input, f"{_spread(input, dim, g)} * {hit}", input.shape)
    op.is_(f"np.arg{name}({input}{axis})")


RULES["max"] = partial(_extreme, name="max", even=False)
RULES["min"] = partial(_extreme, name="min", even=False)
RULES["amax"] = partial(_extreme, name="max", even=True)
RULES["amin"] = partial(_extreme, name="min", even=True)


@rule("cumsum")
def _cumsum(op: Op, input: Arg, dim: Any, *, dtype: Any = None) -> None:
    (axis,) = axes_of(dim, len(input.shape))
    op.is_(f"np.cumsum({input}, axis={axis})")
    op.back(input, f"np.flip(np.cumsum(np.flip({op.g}, {axis}), {axis}), {axis})")
