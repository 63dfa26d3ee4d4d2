"""Functions of one and two variables that the native backend must know, and where to try them."""

import torch
from torch.nn import functional
from torch.special import i0e, i1, i1e, ndtr

_SAME = """
    abs acos asin asinh atan atanh ceil cos cosh digamma erf erfc erfinv exp exp2 expm1 floor frac
    i0 lgamma log log10 log1p log2 neg reciprocal relu round rsqrt sigmoid sign sin sinc sinh
    sqrt square tan tanh trunc
"""

ONE = {
    **{name: getattr(torch, name) for name in _SAME.split()},
    "acosh": lambda x: torch.acosh(1 + x * x),
    "clamp": lambda x: x.clamp(-0.5, 1.5),
    "clamp_min": lambda x: torch.clamp(x, min=0.5),
    "deg2rad": torch.deg2rad,
    "i0e": i0e,
    "i1": i1,
    "i1e": i1e,
    "leaky_relu": functional.leaky_relu,
    "logit": torch.logit,
    "logsigmoid": functional.logsigmoid,
    "masks": lambda x: (x > 0.3) * x + (~(x > 0.3) & (x < 9)).double() * 2 * x,
    "ndtr": ndtr,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "softplus_3": lambda x: functional.softplus(x, beta=3, threshold=2),
    "to_the_1.7": lambda x: x**1.7,
    "to_the_2": lambda x: x**2,
    "to_the_3": lambda x: x**3,
    "to_the_4": lambda x: x**4,
    "to_the_-1": lambda x: x**-1,
    "to_the_-2": lambda x: x**-2,
    "to_the_half": lambda x: x**0.5,
    "to_three_halves": lambda x: x**1.5,
    "to_minus_three_halves": lambda x: x**-1.5,
    "to_five_halves": lambda x: x**2.5,
    "to_the_fourth": lambda x: x**4,
    "to_minus_three": lambda x: x**-3,
    "to_the_-half": lambda x: x**-0.5,
    "to_the_0": lambda x: x**0 + x,
    "two_to_the": lambda x: 2**x,
    "where": lambda x: torch.where(x > 0.5, torch.sqrt(x), x * x),
}
"""Functions of one variable."""

TWO = {
    **{
        name: getattr(torch, name)
        for name in [
            "add",
            "atan2",
            "div",
            "fmod",
            "hypot",
            "logaddexp",
            "maximum",
            "minimum",
            "mul",
            "pow",
            "remainder",
            "sub",
        ]
    },
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=3),
    "clamp_between": lambda a, b: torch.clamp(a, min=b, max=b + 1),
    "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor") + a,
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "logsumexp": lambda a, b: torch.logsumexp(torch.stack([a, b]), 0),
    "norm": lambda a, b: torch.stack([a, b]).norm(dim=0),
    "prod": lambda a, b: torch.stack([a, b, a]).prod(0),
    "reflected": lambda a, b: (3 - a) / (2 / b) - 1.5**b,
    "where_less": lambda a, b: torch.where(a < b, a * b, b),
    "xlogy": torch.xlogy,
}
"""Functions of two variables."""
