"""The compiler as a whole: Python to LLVM, and LLVM to machine code.

Only imported where something is compiled or loaded, since it takes llvmlite, which may be missing.
"""

from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any, cast

from gradfit import __version__
from gradfit._engine.control import ARRAYS, NUMBERS, Ops
from gradfit._native import emit, llvm, operations, pointer, vector
from gradfit._native.fingerprint import fingerprint
from gradfit._native.machine import INTEGER, POINTER, WIDE
from gradfit._native.translate import translate

load = llvm.load


def compiled(function: Callable[..., None], kinds: Sequence[str], vectors: bool) -> bytes:
    """Return the object file in which a function is called ``main``."""
    types = {POINTER: emit.POINTER, WIDE: emit.WIDE_POINTER, INTEGER: emit.WORD}
    takes = [types[k] for k in kinds]
    plain = cast(FunctionType, function)
    text = translate(plain, takes, _known(), vector.FUNCTIONS, vectors)
    return llvm.object_code(text, vectors)


def identity() -> str:
    """Return a hash of what all machine code depends on: this compiler, LLVM, the processor."""
    return "\0".join((__version__, *llvm.host(), _own()))


@cache
def _own() -> str:
    return fingerprint(compiled, load)


def _known() -> dict[Any, str]:
    """Return functions that become instructions, by the names of what writes these."""
    found: dict[Any, str] = {
        pointer.at: "at",
        pointer.call: "call",
        pointer.copy: "copy",
        pointer.ask: "call",
        pointer.hand_over: "call",
        pointer.wide: "wide",
        pointer.pick: "pick",
        pointer.stream: "stream",
        pointer.drain: "drain",
        pointer.turn: "turn",
        pointer.where: "where",
        pointer.some: "some",
        pointer.opposite: "negate",
        operations.gather: "gather",
        vector.bits: "bits",
        vector.number: "number",
        vector.fma: "fma",
    }
    # What the rules of the loop are made of.
    for rule in (*NUMBERS, *ARRAYS):
        cells = zip(rule.__code__.co_freevars, rule.__closure__ or (), strict=True)
        found.update((c.cell_contents, name) for name, c in cells if name in Ops._fields)
    return found
