"""Terms of a sum, each a coefficient at every point times powers of parameters."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """One term of a sum: ``c(x) * prod_j theta_j**powers[j] * exp(powers[p + j]*theta_j)``.

    ``c`` is (G, n); ``rough`` says that a factor of order one is left out.
    """

    c: Tensor
    powers: tuple[float, ...]
    rough: bool


def times(a: Part, b: Part) -> Part:
    powers = tuple(u + v for u, v in zip(a.powers, b.powers, strict=True))
    return Part(a.c * b.c, powers, a.rough or b.rough)


def raised(part: Part, exponent: float) -> Part:
    c = part.c**exponent if exponent == int(exponent) else part.c.abs() ** exponent
    return Part(c, tuple(exponent * a for a in part.powers), part.rough)


_SAME_NAME = """
    abs exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh
    atanh sinc sigmoid erf erfc lgamma digamma floor ceil trunc round sign sqrt maximum minimum
    hypot atan2 remainder fmod pow add sub mul div neg lt le gt ge eq ne where
"""
COMPUTE: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in _SAME_NAME.split()},
    "stop": torch.clone,
    "custom": torch.clone,
    "where": lambda c, a, b: torch.where(c > 0, a, b),
}
"""What operations of a record are on tensors, as far as coefficients need them."""
