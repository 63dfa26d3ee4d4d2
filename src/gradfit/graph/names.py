"""What the user calls the tensors and modules that go into a function."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from gradfit.graph.operations import outputs


class Names:
    """Names of the inputs, and of the parameters of every module within reach.

    Modules are looked through only when the first parameter turns up: in the function itself, its
    arguments, its closure, and the globals that it mentions.
    """

    def __init__(
        self, fn: Callable[..., Any], inputs: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> None:
        self._fn = fn = inspect.unwrap(fn)
        positional = zip(_argument_names(fn, len(inputs)), inputs, strict=True)
        self._arguments = {**dict(positional), **keywords}
        self._of_parameters: dict[int, str] | None = None
        self._of_modules: dict[int, str] = {}

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor among the arguments, with its path: ``params["a"]``."""
        for name, value in self._arguments.items():
            yield from named_tensors(value, name)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the function, where it is a module, and of its arguments."""
        for prefix, module in self._own_modules().items():
            for path, parameter in module.named_parameters():
                yield _joined(prefix, path), parameter

    def parameter(self, tensor: Tensor) -> str | None:
        """Return the path of a parameter or buffer in its module."""
        if self._of_parameters is None:
            self._look_through()
        return (self._of_parameters or {}).get(id(tensor))

    def module(self, module: nn.Module) -> str | None:
        """Return the path of a module; ``None`` for the outermost one and for strangers."""
        if self._of_parameters is None:
            self._look_through()
        return self._of_modules.get(id(module)) or None

    def _own_modules(self) -> dict[str, nn.Module]:
        own = {name: v for name, v in self._arguments.items() if isinstance(v, nn.Module)}
        owner = getattr(self._fn, "__self__", self._fn)
        return {"": owner, **own} if isinstance(owner, nn.Module) else own

    def _look_through(self) -> None:
        self._of_parameters = {}
        for prefix, module in {**_mentioned(self._fn), **self._own_modules()}.items():
            for path, child in module.named_modules():
                self._of_modules[id(child)] = _joined(prefix, path)
            for path, parameter in module.named_parameters():
                self._of_parameters[id(parameter)] = _joined(prefix, path)
            for path, buffer in module.named_buffers():
                self._of_parameters[id(buffer)] = _joined(prefix, path)


def named_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested lists, tuples, dicts and dataclasses, each with its path."""
    if isinstance(value, Tensor):
        yield name, value
    elif not isinstance(value, type):
        for path, tensor in outputs(value):
            yield name + path, tensor


def title(fn: Callable[..., Any]) -> str:
    """Return what to call a function in a heading."""
    if isinstance(fn, partial):
        return title(fn.func)
    fn = inspect.unwrap(fn)
    return getattr(fn, "__name__", None) or type(fn).__name__


def _argument_names(fn: Callable[..., Any], n: int) -> list[str]:
    code = getattr(fn, "__code__", None)
    rest = "input"
    if code is not None and not getattr(fn, "__self__", None):
        names = list(code.co_varnames[: code.co_argcount])  # far quicker than a signature
        if code.co_flags & inspect.CO_VARARGS:
            rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
    else:
        names = _signature_names(fn.forward if isinstance(fn, nn.Module) else fn)
    names = names[:n]
    first = len(names) if rest == "input" else 0
    return names + [f"{rest}[{i}]" for i in range(first, first + n - len(names))]


def _signature_names(fn: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # built in C
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional]


def _mentioned(fn: Callable[..., Any]) -> dict[str, nn.Module]:
    """Return the modules in the closure of a function and among the globals that it names."""
    fn = getattr(fn, "func", fn) if isinstance(fn, partial) else fn
    fn = getattr(fn, "__func__", fn)
    code = getattr(fn, "__code__", None)
    if code is None:
        return {}
    table: dict[str, Any] = getattr(fn, "__globals__", {})
    found = {name: table[name] for name in code.co_names if name in table}
    for name, cell in zip(code.co_freevars, getattr(fn, "__closure__", None) or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return {name: value for name, value in found.items() if isinstance(value, nn.Module)}


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if prefix and path else prefix or path
