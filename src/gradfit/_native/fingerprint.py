"""Name a function by all that its meaning depends on: the key of machine code that is kept.

Nothing is listed by hand. From a function the walk goes on to whatever it reads: functions and
classes that it calls, constants of modules, what its closure holds. What stands in the source but
not in the function's code, such as comments, does not count; files are not read at all, so that it
works as well where there are none.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, cast

import numpy as np

OWN = __name__.partition(".")[0]
"""The package whose classes and modules are walked into; others are known by their versions."""


def fingerprint(*things: Any) -> str:
    """Return a hash of functions, classes and values, with everything that they read."""
    walk = _Walk()
    for thing in things:
        walk.see(thing)
    return walk.hash.hexdigest()


class _Walk:
    """Goes through everything once, in the order in which it is read."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256(f"{sys.version_info[:2]}".encode())
        self._seen: dict[int, int] = {}
        # What is seen lives until the walk ends, so that no two things share an address.
        self._held: list[Any] = []

    def _add(self, *words: object) -> None:
        self.hash.update("\0".join(map(str, (*words, ""))).encode("utf-8", "surrogatepass"))

    def see(self, value: Any) -> None:
        """Add a value, and what it reads."""
        if isinstance(value, bool | int | float | complex | str | bytes | None | np.generic):
            self._add(type(value).__name__, repr(value))
            return
        if id(value) in self._seen:
            self._add("again", self._seen[id(value)])
            return
        self._seen[id(value)] = len(self._seen)
        self._held.append(value)
        plain = getattr(value, "__wrapped__", value) if callable(value) else value
        if isinstance(plain, FunctionType):
            self._function(plain)
        elif isinstance(plain, type):
            self._class(plain)
        elif isinstance(plain, MethodType):
            self._all("method", (plain.__func__, plain.__self__))
        else:
            self._thing(plain)

    def _all(self, word: str, values: Iterable[Any]) -> None:
        self._add(word)
        for value in values:
            self.see(value)
        self._add("end")

    def _thing(self, value: Any) -> None:
        if isinstance(value, CodeType):
            self._code(value)
        elif isinstance(value, ModuleType):
            self._add("module", value.__name__)
        elif isinstance(value, np.ndarray):
            self._add("array", value.dtype, value.shape, value.tobytes().hex())
        elif isinstance(value, tuple | list):
            self._all(type(value).__name__, cast("Iterable[Any]", value))
        elif isinstance(value, set | frozenset):
            self._all("set", sorted(cast("Iterable[Any]", value), key=repr))
        elif isinstance(value, Mapping | MappingProxyType):
            pairs = cast("Mapping[Any, Any]", value).items()
            self._all("mapping", (part for pair in pairs for part in pair))
        elif type(value).__module__.partition(".")[0] == OWN:
            self.see(type(value))
            self._all("holds", (getattr(value, "__dict__", {}),))
        else:
            # Types of LLVM say what they are; things of other packages are known by their kind.
            kind = type(value)
            told = str(value) if kind.__module__ == "llvmlite.ir.types" else ""
            self._add("other", kind.__module__, kind.__qualname__, told)

    def _function(self, function: FunctionType) -> None:
        self._add("function", function.__name__, getattr(function, "__text__", ""))
        kinds = {k: getattr(v, "__name__", str(v)) for k, v in function.__annotations__.items()}
        self._add(kinds)
        self._code(function.__code__)
        self._all("given", (function.__defaults__, function.__kwdefaults__))
        self._all("closure", (c.cell_contents for c in function.__closure__ or ()))
        names = sorted(set(_names(function.__code__)))
        for name in names:
            if name in function.__globals__:
                self._global(name, function.__globals__[name], names)

    def _global(self, name: str, value: Any, names: Iterable[str]) -> None:
        self._add("global", name)
        self.see(value)
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] == OWN:
            # Of a module, what is read of it.
            for each in (n for n in names if n in vars(value)):
                self._add("attribute", each)
                self.see(vars(value)[each])

    def _class(self, kind: type) -> None:
        self._add("class", kind.__module__, kind.__qualname__, getattr(kind, "_fields", ()))
        if kind.__module__.partition(".")[0] != OWN:
            return
        self._all("bases", kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            held = _behind(value)
            if held is not None:
                self._add("member", name)
                self.see(held)

    def _code(self, code: CodeType) -> None:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._add("code", code.co_code.hex(), *counts)
        self._add(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._all("constants", code.co_consts)


def _behind(member: Any) -> Any:
    """Return the function or the plain value of a member of a class; None for what is made."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, cached_property):
        return cast("Callable[..., Any]", cast(Any, member).func)
    if isinstance(member, staticmethod | classmethod):
        return cast("Callable[..., Any]", cast(Any, member).__func__)
    plain = isinstance(member, bool | int | float | str | tuple | FunctionType)
    return member if plain else None


def _names(code: CodeType) -> Iterator[str]:
    """Return the names that a function reads, with those of functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
