"""The solver as code for a GPU: the same Python, in which some names stand for something else.

Numba compiles a function with everything that it calls, each by what its globals hold. So every
function is given again with other globals: mathematics is the device's, kernels are called by
number instead of by address, and a block is one point. A fit is then one thread's, and what it
works on small enough to stay in memory of its own.
"""

import dis
import importlib
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from gradfit._native import entry, place, pointer
from gradfit._native.carry import fit_at, fit_room
from gradfit._native.kernel import define
from gradfit._native.kind import spec_of
from gradfit._native.operations import NAMES
from gradfit._native.place import Spec
from gradfit._native.plan import Kernels

_PLACED = pointer.at, place.feet_of, entry.place_at, fit_at
"""Functions that return memory, which none of a GPU may: they become part of their callers."""

# What the solver and kernels call; a test holds them against it.
NUMPY = (
    *("ceil", "cos", "cosh", "exp", "exp2", "expm1", "floor", "fmod", "hypot", "log", "log10"),
    *("log1p", "log2", "rint", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"),
)
ARCS = "cos", "cosh", "sin", "sinh", "tan", "tanh"
MATH = "atan2", "copysign", "erf", "erfc", "lgamma", "log", "sqrt"

_CALL = """
def call(function, rows, pars, out, total, n):
    if function == 0:
        probe(rows, pars, out, total, n)
    elif function == 1:
        linear(rows, pars, out, total, n)
    elif function == 2:
        look(rows, pars, out, total, n)
    elif function == 3:
        advance(rows, pars, out, total, n)
    elif function == 4:
        exact(rows, pars, out, total, n)
    elif function == 5:
        noise(rows, pars, out, total, n)
    else:
        bends(rows, pars, out, total, n)
"""
_MAIN = """
def main(x, y, scale, weight, cross, made, firsts, starts, told, head, count):
    k = cuda.grid(1)
    room = cuda.local.array(size, float64)
    if k < count:
        fit_many(0, 1, 2, 3, 4, 5, 6, 7, x, y, scale, weight, cross, made, firsts, starts, told,
                 head, room, k, k + 1)
"""


def simulated() -> bool:
    """Return whether Numba runs kernels as Python; ``NUMBA_ENABLE_CUDASIM=1`` says so."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@lru_cache(maxsize=32)
def kernel_of(kernels: Kernels, kind: Spec) -> Any:
    """Return the kernel that runs one fit in each thread, for all fits of a kind (:func:`kind_of`).

    It is compiled when it is first launched.
    """
    cuda = importlib.import_module("numba.cuda")
    given = _Again(cuda.jit(device=True), cuda.jit(device=True, inline="always"))
    if not simulated():
        given.values.update(_mathematics())
    names = {k.name: given.of(define(k.text, NAMES)) for k in kernels.all}
    given.values[pointer.call] = cuda.jit(device=True)(define(_CALL, names))
    given.values[entry.spec_at] = given.of(spec_of(kind))
    fit_many = given.of(entry.fit_many)
    if simulated():
        # Threads of the simulator do not know what their caller says of overflow.
        fit_many = np.errstate(all="ignore")(fit_many)
    scope = {"cuda": cuda, "float64": np.float64, "size": room_of(kind), "fit_many": fit_many}
    return cuda.jit(define(_MAIN, scope))


def room_of(spec: Spec) -> int:
    """Return how many numbers a fit works on."""
    plain = _Again(lambda f: f, lambda f: f)
    shared, own = (plain.of(f) for f in (place.shared_room, place.own_room))
    return shared(spec) + own(spec) + fit_room(spec.p)


class _Again:
    """Gives functions again, compiled, with what their names stand for on a device.

    Attributes
    ----------
    values : dict
        What takes the place of a function or a module.
    """

    def __init__(self, jit: Callable[..., Any], inline: Callable[..., Any]) -> None:
        self._jit, self._inline = jit, inline
        self.values: dict[Any, Any] = {}
        self._builtins: dict[str, Any] = {}
        self._builtins |= {"min": self.of(_smaller), "max": self.of(_larger)}
        self.values |= {place.full: self.of(_itself), pointer.ask: self.of(_nothing)}
        self.values |= {pointer.copy: self.of(_copy), pointer.where: self.of(_choice)}

    def of(self, function: FunctionType | Callable[..., Any]) -> Any:
        """Return a function as it is there."""
        plain: Any = function
        scope = {name: self._global(plain, name) for name in _globals_of(plain)}
        cells = tuple(CellType(self._value(c.cell_contents)) for c in plain.__closure__ or ())
        known = {name: value for name, value in scope.items() if value is not _UNKNOWN}
        again = FunctionType(
            plain.__code__, {**known, "__name__": __name__}, plain.__name__, None, cells
        )
        return (self._inline if function in _PLACED else self._jit)(again)

    def _global(self, function: Any, name: str) -> Any:
        if name == "BLOCK":
            return 1
        if name in function.__globals__:
            return self._value(function.__globals__[name])
        return self._builtins.get(name, _UNKNOWN)

    def _value(self, value: Any) -> Any:
        if not isinstance(value, FunctionType | ModuleType):
            return value
        if value not in self.values:
            self.values[value] = self.of(value) if isinstance(value, FunctionType) else value
        return self.values[value]


_UNKNOWN = object()


def _globals_of(function: Any) -> list[str]:
    found = dis.get_instructions(function.__code__)
    return [i.argval for i in found if i.opname == "LOAD_GLOBAL"]


def _itself(n: int) -> int:
    return n


def _nothing(function: Any, task: int, start: int, stop: int) -> None:
    pass


def _copy(source: Any, target: Any, n: int) -> None:
    for i in range(n):
        target[i] = source[i]


def _choice(test: Any, a: Any, b: Any) -> Any:
    return a if test else b


# Python's, also where a number is NaN; those of a device return the other number.
def _smaller(a: Any, b: Any) -> Any:
    return b if b < a else a


def _larger(a: Any, b: Any) -> Any:
    return b if b > a else a


def _mathematics() -> Mapping[Any, Any]:
    """Return modules in which the functions of NumPy and ``math`` are the device's."""
    own = importlib.import_module("numba.cuda.libdevice")
    numbers = {"inf": math.inf, "nan": math.nan, "pi": math.pi}
    of_numpy = {n: getattr(own, n) for n in NUMPY}
    of_numpy |= {f"arc{n}": getattr(own, f"a{n}") for n in ARCS}
    of_numpy |= {"float64": float, "isinf": math.isinf, **numbers}
    of_math = {n: getattr(own, n) for n in MATH} | numbers
    return {np: _module("np", of_numpy), math: _module("math", of_math)}


def _module(name: str, holds: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(holds)
    return module
