"""Expressions as machine code: functions over a block of points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._native import machine
from gradfit._native.expression import Term
from gradfit._native.fingerprint import fingerprint
from gradfit._native.lower import ABREAST, BLOCK, LANES, lower
from gradfit._native.machine import INTEGER, POINTER, WIDE, Code
from gradfit._native.operations import NAMES

KINDS = (POINTER, POINTER, POINTER, POINTER, INTEGER)
KINDS_ABREAST = (WIDE, WIDE, WIDE, WIDE, INTEGER)
"""What a kernel takes: see :func:`gradfit._native.lower.lower`."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Expressions that are computed together, point by point.

    Compiled when it is first asked for; equal texts share their machine code, whatever they came
    from.

    Attributes
    ----------
    name : str
        What the function is called.
    rows, pars : sequence of Term
        What is given for each point, and for all.
    results : sequence of Term
        What comes out for each point.
    sums : sequence of Term
        What points add up to.
    block : int
        Points in a block, at most; or :data:`~gradfit._native.lower.ABREAST`.
    """

    name: str
    rows: Sequence[Term]
    pars: Sequence[Term]
    results: Sequence[Term]
    sums: Sequence[Term] = ()
    block: int = BLOCK

    @cached_property
    def text(self) -> str:
        """The function as Python."""
        return lower(self.name, self.rows, self.pars, self.results, self.sums, self.block)

    @cached_property
    def _digest(self) -> str:
        return machine.digest(self.text, _of_names())

    @property
    def _name(self) -> str:
        return self._digest if machine.enabled() else machine.digest(self.text)

    @property
    def is_ready(self) -> bool:
        """Whether it can be had without compiling it."""
        return machine.is_ready(self._name)

    @property
    def code(self) -> Code:
        """``code(rows, pars, out, total, n)``."""
        kinds = KINDS_ABREAST if self.block == ABREAST else KINDS
        return machine.code(self._name, kinds, lambda: define(self.text, NAMES))

    def function(self) -> Any:
        """Return it as Python."""
        call = self.code.call
        if self.block != ABREAST:
            return call

        def lane_by_lane(rows: Any, pars: Any, out: Any, total: Any, n: int) -> None:
            for k in range(LANES):
                call(*(memory.numbers[:, k] for memory in (rows, pars, out, total)), n)

        return lane_by_lane

    def evaluate(self, rows: Any, pars: Any) -> NDArray[np.float64]:
        """Return the results (R, N) for rows (k, N) and parameters."""
        given, pars = (np.array(v, dtype=np.float64) for v in (rows, pars))
        block, out = np.zeros((len(given), BLOCK)), np.zeros((len(self.results), BLOCK))
        found = np.empty((len(out), given.shape[1]))
        call, total = self.code.call, np.zeros(max(1, len(self.sums)))
        for start in range(0, given.shape[1], BLOCK):
            n = min(BLOCK, given.shape[1] - start)
            block[:, :n] = given[:, start : start + n]
            block[:, n:] = block[:, n - 1 : n]
            with np.errstate(all="ignore"):
                call(*map(argument, (block, pars, out, total)), n)
            found[:, start : start + n] = out[:, :n]
        return found


@cache
def _of_names() -> str:
    """Return a hash of all that texts may call."""
    return fingerprint(NAMES)


def argument(array: NDArray[np.float64]) -> Any:
    """Return an array as a function takes it: by its address, or flat where it is Python."""
    return array.ctypes.data if machine.enabled() else array.reshape(-1)


def define(text: str, scope: dict[str, Any]) -> Any:
    """Return the function whose definition is the text, with ``scope`` for its globals."""
    source = compile(text, "<gradfit kernel>", "exec")
    code = next(c for c in source.co_consts if isinstance(c, CodeType))
    made: Any = FunctionType(code, {**scope, "__name__": __name__})
    made.__text__ = text
    return made
