"""What each torch function means to a trace, and what to call it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Role = Literal["op", "read", "silent", "backward", "flag", "gradient"]


class Operation(NamedTuple):
    """A torch function as a trace sees it.

    Attributes
    ----------
    name : str
        Bare name: ``"mul"``, ``"__getitem__"``, ``"T"``.
    path : str
        Where to find it again: ``"torch.nn.functional.linear"``, ``"torch.Tensor.mul"``.
    role : str
        ``flag`` switches ``requires_grad``; ``gradient`` reads ``.grad``; ``silent`` is of no
        interest.
    is_random : bool
        Whether it may draw random numbers.
    """

    name: str
    path: str
    role: Role
    is_random: bool = False

    def text(self, symbol: str | None, has_source: bool) -> str:
        """Write it as the user did: the operator, where the source has one, else the name."""
        bare = self.name.strip("_") if self.name.startswith("__") else self.name
        if self.role == "read":
            return bare
        if self.path.endswith(".__get__"):
            return f".{bare}"
        plain = _OPERATORS.get(bare.removesuffix("_"))
        if symbol is not None and plain is not None:
            return symbol
        return plain if plain and not has_source and bare != self.name else bare


@lru_cache(maxsize=4096)
def operation(func: Callable[..., Any]) -> Operation:
    """Classify a torch function."""
    name = getattr(func, "__name__", type(func).__name__).removesuffix(".default")
    if name in ("__get__", "__set__"):
        owner = getattr(func, "__self__", None)
        owned = getattr(owner, "__name__", "") or getattr(
            getattr(owner, "fget", None), "__name__", ""
        )
        roles = _GETTERS if name == "__get__" else _SETTERS
        return Operation(owned, f"torch.Tensor.{owned}.{name}", roles.get(owned, "silent"))
    is_random = any(word in name for word in _RANDOM)
    return Operation(name, _path(func, name), _role(name), is_random)


APPLY = Operation("apply", "apply", "op")
"""The call of a custom ``autograd.Function``."""


def find(path: str) -> Callable[..., Any] | None:
    """Return the function that a path names, or None."""
    found: Any = torch
    for step in path.split(".")[1:]:
        found = getattr(found, step, None)
    return found if callable(found) and path.startswith("torch.") else None


def outputs(result: Any, label: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in a result, with how to get at it: ``""``, ``"[0]"``, ``".values"``."""
    if isinstance(result, Tensor):
        yield label, result
    elif isinstance(result, dict):
        for key, each in result.items():
            yield from outputs(each, f"{label}[{key!r}]")
    elif isinstance(result, (tuple, list)):
        names = getattr(type(result), "__match_args__", ())
        for index, each in enumerate(result):
            step = f".{names[index]}" if index < len(names) else f"[{index}]"
            yield from outputs(each, label + step)
    elif is_dataclass(result):
        for field in fields(result):
            yield from outputs(getattr(result, field.name, None), f"{label}.{field.name}")


def alike(value: Any, items: Iterable[Any]) -> Any:
    """Return a list or tuple of the same type, named tuples among them, with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _role(name: str) -> Role:
    if name in _READS:
        return "read"
    if name in _SILENT or (name.startswith("is_") and name != "is_nonzero"):
        return "silent"
    if name == "requires_grad_":
        return "flag"
    return "backward" if name == "backward" else "op"


def _path(func: Callable[..., Any], name: str) -> str:
    homes = (torch.Tensor, torch, torch.nn.functional, torch.linalg, torch.special, torch.fft)
    for home in homes:
        # Some operators carry the plain name: Tensor.__pow__ is called pow.
        for own in (name, f"__{name}__", f"__r{name}__", name.removeprefix("linalg_")):
            if getattr(home, own, None) is func:
                return f"torch.Tensor.{own}" if home is torch.Tensor else f"{home.__name__}.{own}"
    return name


_READS = {
    *("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "item"),
    *("tolist", "numpy", "__contains__", "is_nonzero", "equal", "allclose"),
}
_SILENT = {
    *("size", "dim", "stride", "numel", "nelement", "ndimension", "storage_offset", "get_device"),
    *("element_size", "data_ptr", "untyped_storage", "storage", "retain_grad", "register_hook"),
    *("register_post_accumulate_grad_hook", "has_names", "_is_view", "_set_grad_enabled"),
    *("__len__", "__repr__", "__str__", "__format__", "__hash__", "__dir__", "__reduce_ex__"),
    *("_record_function_enter_new", "_record_function_exit", "result_type", "can_cast"),
}
_GETTERS: dict[str, Role] = {
    **dict.fromkeys(("T", "mT", "H", "mH", "real", "imag", "data"), "op"),
    "grad": "gradient",
}
_SETTERS: dict[str, Role] = {
    **dict.fromkeys(("real", "imag", "data"), "op"),
    "requires_grad": "flag",
}
_RANDOM = (
    *("rand", "dropout", "normal", "bernoulli", "multinomial", "poisson", "exponential_"),
    *("uniform", "cauchy", "geometric", "rrelu", "gumbel", "attention", "lstm", "gru", "rnn"),
)
_OPERATORS = {
    **{
        f"{r}{name}": symbol
        for r in ("", "r", "i")
        for name, symbol in (
            *(("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"), ("truediv", "/")),
            *(("floordiv", "//"), ("mod", "%"), ("pow", "**"), ("matmul", "@")),
            *(("and", "&"), ("or", "|"), ("xor", "^"), ("lshift", "<<"), ("rshift", ">>")),
        )
    },
    **{"remainder": "%", "floor_divide": "//", "neg": "-", "positive": "+", "invert": "~"},
    **{"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "bitwise_not": "~"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"getitem": "[]", "setitem": "[]="},
}
