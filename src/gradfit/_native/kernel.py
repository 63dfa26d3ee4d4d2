"""A model as machine code: functions for its values, first and second derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._native import machine, special
from gradfit._native.lower import BLOCK, lower
from gradfit._native.machine import INTEGER, POINTER, Code
from gradfit._native.operations import NAMES
from gradfit._native.program import Program

KINDS: dict[str, tuple[str, ...]] = {
    "value": (POINTER, POINTER, POINTER, INTEGER),
    "first": (POINTER, POINTER, POINTER, INTEGER),
    "second": (POINTER, POINTER, POINTER, POINTER, INTEGER),
}
"""What the three functions take: see :func:`gradfit._native.lower.lower`."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A model as machine code.

    Each function is compiled when it is first asked for. Equal texts share their machine code,
    whatever model they came from.

    Attributes
    ----------
    program : Program
        What it computes.
    """

    program: Program
    _texts: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def value(self) -> Code:
        """``value(x, beta, out, n)``: the responses."""
        return self._code("value")

    @property
    def first(self) -> Code:
        """``first(x, beta, out, n)``: the responses and their first derivatives."""
        return self._code("first")

    @property
    def second(self) -> Code:
        """``second(x, beta, nu, out, n)``: the second derivatives of ``sum_j nu_j f_j``."""
        return self._code("second")

    def text(self, kind: str) -> str:
        """Return a function as Python."""
        if kind not in self._texts:
            self._texts[kind] = lower(self.program, kind)
        return self._texts[kind]

    def is_ready(self, kind: str) -> bool:
        """Return whether a function can be had without compiling it."""
        return machine.is_ready(machine.digest(self.text(kind)))

    def evaluate(self, kind: str, x: Any, beta: Any, nu: Any = None) -> NDArray[np.float64]:
        """Return the rows that a function computes, (rows, N), for x (m, N) and nu (q, N)."""
        x, beta = np.asarray(x, dtype=np.float64), np.array(beta, dtype=np.float64)
        given = x if nu is None else np.concatenate([x, np.asarray(nu, dtype=np.float64)])
        m, count = len(x), len(self.program.value)
        k = m + len(beta)
        rows = {"value": count, "first": count * (1 + k), "second": k * (k + 1) // 2}[kind]
        block, out = np.zeros((len(given), BLOCK)), np.zeros((rows, BLOCK))
        found = np.empty((rows, x.shape[1]))
        arrays = [block[:m], beta, *([] if nu is None else [block[m:]]), out]
        call = self._code(kind).call
        for start in range(0, x.shape[1], BLOCK):
            n = min(BLOCK, x.shape[1] - start)
            block[:, :n] = given[:, start : start + n]
            with np.errstate(all="ignore"):
                call(*map(_argument, arrays), n)
            found[:, start : start + n] = out[:, :n]
        return found

    def _code(self, kind: str) -> Code:
        text = self.text(kind)
        return machine.code(
            machine.digest(text), KINDS[kind], lambda: define(text, names(machine.enabled()))
        )


def _argument(array: NDArray[np.float64]) -> Any:
    return array.ctypes.data if machine.enabled() else array.reshape(-1)


def define(text: str, scope: dict[str, Any]) -> Callable[..., None]:
    """Return the function whose definition is the text, with ``scope`` for its globals."""
    source = compile(text, "<gradfit kernel>", "exec")
    code = next(c for c in source.co_consts if isinstance(c, CodeType))
    return FunctionType(code, {**scope, "__name__": __name__})


@cache
def names(compiled: bool) -> dict[str, Any]:
    """Return what kernels may call: compiled functions, or plain ones where Numba is off."""
    if not compiled:
        return dict(NAMES)
    import numba

    from gradfit._native import vector

    scope = {name: NAMES[name] for name in ("np", "math")}
    for name, plain in special.FUNCTIONS.items():
        chosen = vector.FUNCTIONS.get(name, plain)
        # Those that call one another must find the compiled ones: callees come first in the table.
        found = {**vars(special), **scope} if chosen is plain else {**vars(vector)}
        function = FunctionType(chosen.__code__, found, name)
        scope[name] = numba.njit(error_model="numpy")(function)
    return scope
