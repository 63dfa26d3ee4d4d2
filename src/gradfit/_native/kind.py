"""Code for one kind of fits: what is the same for all of a kind stands in it as a number.

Loops over parameters and variables unroll, and what such fits never do is left out.
"""

from types import FunctionType
from typing import Any, cast

from gradfit._native.kernel import define
from gradfit._native.place import Spec

LATER = ("n", "rounds", "gtol", "ftol", "xtol", "max_steps")
"""What of a :class:`~gradfit._native.place.Spec` is read when a fit runs."""

_SPEC = "def spec_at(head):\n    return Spec({})\n"


def kind_of(spec: Spec) -> Spec:
    """Return what code is made for: 0 stands for what is read later."""
    return spec._replace(**dict.fromkeys(LATER, 0))


def spec_of(kind: Spec) -> Any:
    """Return ``spec_at(head)`` for a kind."""
    fields = (_field(k, name, value) for k, (name, value) in enumerate(kind._asdict().items()))
    return define(_SPEC.format(", ".join(fields)), {"Spec": Spec})


def specialise(function: Any, kind: Spec) -> Any:
    """Return a function that asks ``spec_at`` for fits of one kind only."""
    plain = cast(FunctionType, function)
    scope = {**plain.__globals__, "spec_at": spec_of(kind)}
    return FunctionType(plain.__code__, scope, plain.__name__)


def _field(k: int, name: str, value: Any) -> str:
    if name not in LATER:
        return repr(value)
    return f"head[{k}]" if name.endswith("tol") else f"int(head[{k}])"
