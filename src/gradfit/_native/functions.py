"""What torch's functions do to arrays of scalar expressions.

Rules are found by the name of the function or method. Each takes the arguments as torch got them,
tensors replaced by arrays of terms, and gives the array (or a tuple of arrays) of the result.
Arguments that a rule does not name make Python raise TypeError, which the recorder turns into a
refusal: better no machine code than machine code for something else.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradfit._native.arrays import ARRAY_RULES, Rule, as_array
from gradfit._native.expression import CaptureError, Term, Terms, lift

_SILENT = """
    shape dtype device ndim size dim numel __len__ is_floating_point is_complex requires_grad layout
    is_leaf grad_fn stride is_contiguous is_cuda is_sparse is_meta names requires_grad_ __hash__
    element_size itemsize is_signed output_nr __repr__ __format__ storage_offset nelement
    ndimension _version is_tensor result_type
"""
SILENT = frozenset(_SILENT.split())
"""Names that ask about a tensor, not about its numbers."""

_READS = """
    __bool__ item __float__ __int__ __index__ tolist numpy __array__ equal allclose is_nonzero
    __contains__ nonzero unique __complex__ argmax argmin argsort sort topk
"""
READS = frozenset(_READS.split())
"""Names that take numbers out of tensors, for branches above all."""

UNSET = frozenset({"empty", "empty_like", "new_empty"})
"""Names that make tensors of whatever stands in memory."""
MAKES = UNSET | {"new_tensor", "new_zeros", "new_ones", "new_full"}
"""Names that take no more than the kind and shape from a tensor."""


def elementwise(op: str) -> Rule:
    """Return the rule of a function that works on each element alone."""

    def rule(a: Any, *others: Any) -> Terms:
        arrays = [as_array(v) for v in (a, *others)]
        return lift(lambda *t: _apply(op, t), *arrays)

    return rule


def _apply(op: str, values: Sequence[Any]) -> Term:
    pool = next(v for v in values if isinstance(v, Term)).pool
    terms = [pool.term(v) for v in values]
    if op in _LOGIC:
        return pool.make(op, tuple(t if t.is_bool else t.at("ne", 0.0) for t in terms))
    if op == "where":
        return pool.make(op, tuple(terms))
    return pool.make(op, tuple(t.as_float() for t in terms))


_LOGIC = ("and", "or", "not")


def _on_terms(fn: Callable[..., Any]) -> Rule:
    """Lift a formula of terms."""

    def rule(*values: Any) -> Terms:
        def each(*given: Any) -> Term:
            pool = next(v for v in given if isinstance(v, Term)).pool
            return pool.term(fn(*(pool.term(v).as_float() for v in given)))

        return lift(each, *map(as_array, values))

    return rule


# Arithmetic -----------------------------------------------------------------------------------

_add = _on_terms(lambda a, b: a + b)
_sub = _on_terms(lambda a, b: a - b)
_mul = _on_terms(lambda a, b: a * b)
_true_div = _on_terms(lambda a, b: a / b)
_power = _on_terms(lambda a, b: a**b)


def _add_scaled(a: Any, b: Any, *, alpha: float = 1) -> Terms:
    return _add(a, b if alpha == 1 else _mul(b, alpha))


def _sub_scaled(a: Any, b: Any, *, alpha: float = 1) -> Terms:
    return _sub(a, b if alpha == 1 else _mul(b, alpha))


def _div(a: Any, b: Any, *, rounding_mode: str | None = None) -> Terms:
    if rounding_mode == "floor":
        return elementwise("floor_divide")(a, b)
    quotient = _true_div(a, b)
    return quotient if rounding_mode is None else elementwise("trunc")(quotient)


def _swapped(rule: Rule) -> Rule:
    return lambda a, b: rule(b, a)


def _addcmul(a: Any, b: Any, c: Any, *, value: float = 1) -> Terms:
    return _add(a, _mul(_mul(b, c), value) if value != 1 else _mul(b, c))


def _addcdiv(a: Any, b: Any, c: Any, *, value: float = 1) -> Terms:
    return _add(a, _mul(_true_div(b, c), value) if value != 1 else _true_div(b, c))


def _lerp_term(a: Term, b: Term, w: Term) -> Term:
    return w.at("abs").at("lt", 0.5).at("where", a + w * (b - a), b - (b - a) * (1.0 - w))


# Choices and limits -------------------------------------------------------------------------------


def _clamp(a: Any, min: Any = None, max: Any = None) -> Terms:
    low, high = -math.inf if min is None else min, math.inf if max is None else max
    return elementwise("clamp")(a, low, high)


def _clamp_min(a: Any, min: Any) -> Terms:
    return _clamp(a, min)


def _clamp_max(a: Any, max: Any) -> Terms:
    return _clamp(a, None, max)


def _where(condition: Any, a: Any, b: Any) -> Terms:
    return elementwise("where")(condition, a, b)


def _pairwise(op: str) -> Rule:
    """Return the rule of ``max`` or ``min`` of two tensors."""
    of_two = elementwise(op)

    def rule(a: Terms, other: Any = None, **kwargs: Any) -> Terms:
        if not isinstance(other, np.ndarray) or kwargs:
            raise CaptureError(f"it asks where the {op} stands")
        return of_two(a, other)

    return rule


def _largest(op: str) -> Rule:
    """Return the rule of ``amax`` or ``amin`` along an axis that has two places.

    Of more, torch shares the gradient of a tie out in another way than pair by pair.
    """
    of_two = elementwise(op)

    def rule(a: Terms, dim: int, keepdim: bool = False) -> Terms:
        if a.shape[dim] != 2:
            raise CaptureError(f"it takes the {op} of more than two")
        found = of_two(np.take(a, 0, dim), np.take(a, 1, dim))
        return np.expand_dims(found, dim) if keepdim else found

    return rule


def _as_bool(a: Any) -> Terms:
    return _on_terms(lambda t: t.at("ne", 0.0))(a)


def _masked_fill(a: Any, mask: Any, value: Any) -> Terms:
    return _where(mask, value, a)


def _relu(a: Any, inplace: bool = False) -> Terms:
    return _on_terms(lambda t: t.at("le", 0.0).at("where", 0.0, t))(a)


def _silu(a: Any, inplace: bool = False) -> Terms:
    return _on_terms(lambda t: t * t.at("sigmoid"))(a)


def _leaky_relu(a: Any, negative_slope: float = 0.01, inplace: bool = False) -> Terms:
    return _on_terms(lambda t: t.at("gt", 0.0).at("where", t, t * negative_slope))(a)


def _heaviside(a: Any, values: Any) -> Terms:
    return _on_terms(
        lambda t, v: (
            t.at("eq", 0.0).at("where", v, t.at("gt", 0.0).at("where", 1.0, 0.0)).at("stop")
        )
    )(a, values)


def _softplus(a: Any, beta: float = 1, threshold: float = 20) -> Terms:
    return elementwise("softplus")(a, float(beta), float(threshold))


def _logit(a: Any, eps: float | None = None) -> Terms:
    a = a if eps is None else _clamp(a, eps, 1 - eps)
    return elementwise("logit")(a)


def _round(a: Any, *, decimals: int = 0) -> Terms:
    if decimals:
        raise CaptureError("it rounds to decimals")
    return elementwise("round")(a)


def _polygamma(n: Any, a: Any) -> Terms:
    if isinstance(n, np.ndarray):
        a, n = n, a
    if n == 0:
        return elementwise("digamma")(a)
    return elementwise("polygamma")(a, float(n))


_isnan = _on_terms(lambda a: a.at("ne", a))
_isinf = _on_terms(lambda a: a.at("abs").at("eq", math.inf))
_isfinite = _on_terms(lambda a: a.at("abs").at("lt", math.inf))


def _xor(a: Any, b: Any) -> Terms:
    return _on_terms(lambda s, t: s.at("ne", t))(a, b)


_SAME = """
    abs acos acosh asin asinh atan atanh ceil cos cosh digamma erf erfc erfinv exp exp2 expm1 floor
    i0 i0e i1 i1e lgamma log log10 log1p log2 neg sigmoid sign sin sinc sinh sqrt tan tanh trunc
"""
_SPECIAL = "digamma erf erfc erfinv exp2 expm1 i0 i0e i1 i1e log1p sinc"
_ONE_ARGUMENT = {
    **{op: op for op in _SAME.split()},
    **{f"special_{op}": op for op in _SPECIAL.split()},
    "absolute": "abs", "__abs__": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctanh": "atanh", "negative": "neg", "__neg__": "neg",
    "fix": "trunc", "sgn": "sign", "special_expit": "sigmoid", "special_psi": "digamma",
    "special_gammaln": "lgamma", "log_sigmoid": "log_sigmoid", "logsigmoid": "log_sigmoid",
    "__invert__": "not", "logical_not": "not", "bitwise_not": "not",
}  # fmt: skip

_TWO_ARGUMENTS = {
    "atan2": "atan2", "arctan2": "atan2", "hypot": "hypot", "fmod": "fmod",
    "remainder": "remainder", "__mod__": "remainder", "maximum": "maximum", "minimum": "minimum",
    "logaddexp": "logaddexp", "xlogy": "xlogy", "special_xlogy": "xlogy",
    "lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "eq": "eq", "ne": "ne",
    "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge", "__eq__": "eq", "__ne__": "ne",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "not_equal": "ne",
    "logical_and": "and", "logical_or": "or", "__and__": "and", "__or__": "or",
    "bitwise_and": "and", "bitwise_or": "or", "__rand__": "and", "__ror__": "or",
}  # fmt: skip

RULES: dict[str, Rule] = {
    **{name: elementwise(op) for name, op in (_ONE_ARGUMENT | _TWO_ARGUMENTS).items()},
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), _add_scaled),
    **dict.fromkeys(("sub", "subtract", "__sub__", "__isub__"), _sub_scaled),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__", "__imul__"), _mul),
    **dict.fromkeys(
        ("div", "divide", "true_divide", "__truediv__", "__div__", "__itruediv__", "__idiv__"), _div
    ),
    **dict.fromkeys(("pow", "float_power", "__pow__", "__ipow__"), _power),
    **dict.fromkeys(("__rsub__", "rsub"), _swapped(_sub)),
    **dict.fromkeys(("__rtruediv__", "__rdiv__"), _swapped(_true_div)),
    "__rpow__": _swapped(_power),
    **dict.fromkeys(
        ("floor_divide", "__floordiv__"), lambda a, b: _div(a, b, rounding_mode="floor")
    ),
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "lerp": _on_terms(_lerp_term),
    "reciprocal": _on_terms(lambda a: 1.0 / a),
    "rsqrt": _on_terms(lambda a: 1.0 / a.at("sqrt")),
    "square": _on_terms(lambda a: a**2.0),
    "deg2rad": _on_terms(lambda a: a * (math.pi / 180)),
    "rad2deg": _on_terms(lambda a: a * (180 / math.pi)),
    "frac": _on_terms(lambda a: a - a.at("trunc")),
    **dict.fromkeys(("clamp", "clip"), _clamp),
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "where": _where,
    "Tensor.where": lambda a, condition, b: _where(condition, a, b),
    "max": _pairwise("maximum"),
    "min": _pairwise("minimum"),
    "amax": _largest("maximum"),
    "amin": _largest("minimum"),
    "bool": _as_bool,
    "masked_fill": _masked_fill,
    "relu": _relu,
    "silu": _silu,
    "leaky_relu": _leaky_relu,
    "heaviside": _heaviside,
    "softplus": _softplus,
    **dict.fromkeys(("logit", "special_logit"), _logit),
    **dict.fromkeys(
        ("ndtr", "special_ndtr"), _on_terms(lambda a: (1.0 + (a * math.sqrt(0.5)).at("erf")) * 0.5)
    ),
    "round": _round,
    **dict.fromkeys(("polygamma", "special_polygamma"), _polygamma),
    "isnan": _isnan,
    "isinf": _isinf,
    "isfinite": _isfinite,
    **dict.fromkeys(("logical_xor", "__xor__", "bitwise_xor"), _xor),
    **ARRAY_RULES,
}
"""The rule of every function that can be captured, by name."""
