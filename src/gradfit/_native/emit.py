"""LLVM instructions for the operations of Python that kernels and the solver use."""

import ast
import math
from typing import Any

from llvmlite import ir

REAL, WORD, BOOL = ir.DoubleType(), ir.IntType(64), ir.IntType(1)
POINTER, REAL_BYTES = REAL.as_pointer(), 8
_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"}
_LIBRARY = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
}


class TranslationError(Exception):
    """Some Python is not understood; the message says what and where."""


def integer(value: int) -> Any:
    """Return a whole number."""
    return ir.Constant(WORD, value)


class Emitter:
    """Writes operations where its builder stands."""

    def __init__(self, fuses: bool = False) -> None:
        self.module = ir.Module()
        self.builder: Any = ir.IRBuilder()
        # A product may go into a sum without being rounded.
        self._flags = ("contract",) if fuses else ()

    def arithmetic(self, op: ast.operator, a: Any, b: Any) -> Any:
        """Return ``a op b``; a whole number beside a real one becomes real."""
        name, build = type(op).__name__, self.builder
        if name in ("BitAnd", "BitOr"):
            return build.and_(a, b) if name == "BitAnd" else build.or_(a, b)
        if REAL in (a.type, b.type) or name in ("Div", "Pow"):
            a, b = self.to(REAL, a), self.to(REAL, b)
            if name == "Pow":
                return self._library("pow", [a, b])
            floats = {"Add": "fadd", "Sub": "fsub", "Mult": "fmul", "Div": "fdiv"}
            return getattr(build, floats[name])(a, b, flags=self._flags)
        words = {
            "Add": "add",
            "Sub": "sub",
            "Mult": "mul",
            "FloorDiv": "sdiv",
            "Mod": "srem",
            "RShift": "ashr",
            "LShift": "shl",
        }
        return getattr(build, words[name])(self.to(WORD, a), self.to(WORD, b))

    def relate(self, sign: str, a: Any, b: Any) -> Any:
        """Return a comparison; only ``!=`` is true of NaN."""
        if REAL in (a.type, b.type):
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
            return compare(sign, self.to(REAL, a), self.to(REAL, b))
        if a.type != b.type:
            a, b = self.to(WORD, a), self.to(WORD, b)
        return self.builder.icmp_signed(sign, a, b)

    def select(self, test: Any, a: Any, b: Any) -> Any:
        """Return ``a`` where the test holds, else ``b``."""
        if a.type != b.type:
            kind = REAL if REAL in (a.type, b.type) else WORD
            a, b = self.to(kind, a), self.to(kind, b)
        return self.builder.select(test, a, b)

    def of_module(self, name: str, args: list[Any]) -> Any:
        """Call a function of NumPy or of ``math``."""
        if name == "float64":
            return self.to(REAL, args[0])
        if name == "isinf":
            return self.relate("==", self.call_abs(args[0]), ir.Constant(REAL, math.inf))
        args = [self.to(REAL, a) for a in args]
        if name in _INTRINSICS:
            return self._intrinsic(_INTRINSICS[name], args)
        if name == "copysign":
            return self._intrinsic("copysign", args)
        return self._library(_LIBRARY.get(name, name), args)

    def _intrinsic(self, name: str, args: list[Any]) -> Any:
        kind = ir.FunctionType(REAL, [REAL] * len(args))
        made = self.module.declare_intrinsic(f"llvm.{name}", [REAL], kind)
        return self.builder.call(made, args)

    def _library(self, name: str, args: list[Any]) -> Any:
        made = self.module.globals.get(name)
        if made is None:
            kind = ir.FunctionType(REAL, [REAL] * len(args))
            made = ir.Function(self.module, kind, name)
            made.attributes.add("nounwind")
        return self.builder.call(made, args)

    def call_abs(self, a: Any) -> Any:
        """Return the size."""
        if a.type == REAL:
            return self._intrinsic("fabs", [a])
        return self.builder.select(self.relate("<", a, integer(0)), self.builder.neg(a), a)

    def call_min(self, a: Any, b: Any) -> Any:
        """Return the lesser, as Python does."""
        return self.select(self.relate("<", b, a), b, a)

    def call_max(self, a: Any, b: Any) -> Any:
        """Return the greater, as Python does."""
        return self.select(self.relate(">", b, a), b, a)

    def call_int(self, a: Any) -> Any:
        """Return the whole part."""
        return self.builder.fptosi(a, WORD) if a.type == REAL else self.to(WORD, a)

    def call_float(self, a: Any) -> Any:
        """Return a real number."""
        return self.to(REAL, a)

    def call_where(self, test: Any, a: Any, b: Any) -> Any:
        """Return a choice."""
        return self.select(test, a, b)

    def call_ratio(self, a: Any, b: Any) -> Any:
        """Return a quotient."""
        return self.builder.fdiv(self.to(REAL, a), self.to(REAL, b))

    def call_sqrt(self, a: Any) -> Any:
        """Return a square root."""
        return self._intrinsic("sqrt", [a])

    def call_maximum(self, a: Any, b: Any) -> Any:
        """Return the greater, or NaN."""
        return self._torch_choice(">=", a, b)

    def call_minimum(self, a: Any, b: Any) -> Any:
        """Return the lesser, or NaN."""
        return self._torch_choice("<=", a, b)

    def _torch_choice(self, sign: str, a: Any, b: Any) -> Any:
        a, b = self.to(REAL, a), self.to(REAL, b)
        keep = self.builder.or_(self.relate(sign, a, b), self.relate("!=", a, a))
        return self.builder.select(keep, a, b)

    def call_negate(self, a: Any) -> Any:
        """Return the opposite."""
        return self.builder.not_(a)

    def call_bits(self, a: Any) -> Any:
        """Return the bits of a number."""
        return self.builder.bitcast(a, WORD)

    def call_number(self, a: Any) -> Any:
        """Return the number of some bits."""
        return self.builder.bitcast(a, REAL)

    def call_at(self, memory: Any, offset: Any) -> Any:
        """Return memory further on."""
        return self.builder.gep(memory, [offset])

    def call_copy(self, source: Any, target: Any, n: Any) -> None:
        """Copy memory."""
        kinds = [POINTER, POINTER, WORD]
        made = self.module.declare_intrinsic("llvm.memcpy", kinds)
        size = self.builder.mul(n, integer(REAL_BYTES))
        self.builder.call(made, [target, source, size, ir.Constant(BOOL, 0)])

    def call_gather(self, a: Any, b: Any) -> Any:
        """Return a sum whose terms may be taken in any order."""
        return self.builder.fadd(a, self.to(REAL, b), flags=(*self._flags, "reassoc"))

    def call_call(self, function: Any, *args: Any) -> None:
        """Call a function by its address."""
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
        self.builder.call(self.builder.inttoptr(function, kind.as_pointer()), args)

    def to(self, kind: Any, value: Any) -> Any:
        """Return a value as another kind."""
        if value.type == kind:
            return value
        if kind == REAL and value.type == WORD:
            return self.builder.sitofp(value, REAL)
        if value.type == BOOL:
            return (
                self.builder.uitofp(value, REAL) if kind == REAL else self.builder.zext(value, kind)
            )
        raise TranslationError(f"{value.type} is no {kind}")

    def truth(self, value: Any) -> Any:
        """Return whether a value is not 0."""
        if value.type == BOOL:
            return value
        return self.relate("!=", value, ir.Constant(value.type, 0))
