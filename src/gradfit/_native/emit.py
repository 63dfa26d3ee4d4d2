"""LLVM instructions for the operations of Python that kernels and the solver use.

A value is one number or, where fits go abreast, one number for each of :data:`LANES` lanes. What
meets lanes is repeated for each.
"""

import ast
import math
from collections.abc import Callable
from typing import Any

from gradfit._native import llvm
from gradfit._native.lower import LANES

REAL, WORD, BOOL = llvm.DoubleType(), llvm.IntType(64), llvm.IntType(1)
POINTER, REAL_BYTES = llvm.Pointer(REAL), 8
WIDE = llvm.VectorType(REAL, LANES)
WIDE_POINTER = llvm.Pointer(WIDE)
_INDEX = llvm.IntType(32)
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
    return llvm.Constant(WORD, value)


def is_wide(kind: Any) -> bool:
    """Return whether values of a kind have lanes."""
    return isinstance(kind, llvm.VectorType)


def single(kind: Any) -> Any:
    """Return the kind of one lane."""
    return kind.element if is_wide(kind) else kind


def like(kind: Any, other: Any) -> Any:
    """Return a kind with lanes where another has them."""
    return llvm.VectorType(single(kind), LANES) if is_wide(other) else kind


class Emitter:
    """Writes operations where its builder stands."""

    def __init__(self, fuses: bool = False) -> None:
        self.module = llvm.Module()
        self.builder: Any = llvm.Builder()
        # A product may go into a sum without being rounded.
        self._flags = ("contract",) if fuses else ()

    def arithmetic(self, op: ast.operator, a: Any, b: Any) -> Any:
        """Return ``a op b``; a whole number beside a real one becomes real."""
        name, build = type(op).__name__, self.builder
        a, b = self.level(a, b)
        if name in ("BitAnd", "BitOr"):
            return build.and_(a, b) if name == "BitAnd" else build.or_(a, b)
        if REAL in (single(a.type), single(b.type)) or name in ("Div", "Pow"):
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
        a, b = self.level(a, b)
        if REAL in (single(a.type), single(b.type)):
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
            return compare(sign, self.to(REAL, a), self.to(REAL, b))
        if a.type != b.type:
            a, b = self.to(WORD, a), self.to(WORD, b)
        return self.builder.icmp_signed(sign, a, b)

    def select(self, test: Any, a: Any, b: Any) -> Any:
        """Return ``a`` where the test holds, else ``b``."""
        a, b = self.level(a, b)
        if is_wide(test.type):
            a, b = self.to(like(a.type, test.type), a), self.to(like(b.type, test.type), b)
        if a.type != b.type:
            kind = REAL if REAL in (single(a.type), single(b.type)) else WORD
            a, b = self.to(kind, a), self.to(kind, b)
        return self.builder.select(test, a, b)

    def level(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return two values, both with lanes if one has them."""
        if is_wide(a.type) == is_wide(b.type):
            return a, b
        return self.to(like(a.type, b.type), a), self.to(like(b.type, a.type), b)

    def of_module(self, name: str, args: list[Any]) -> Any:
        """Call a function of NumPy or of ``math``."""
        if name == "float64":
            return self.to(REAL, args[0])
        if name == "isinf":
            return self.relate("==", self.call_abs(args[0]), llvm.Constant(REAL, math.inf))
        args = [self.to(REAL, a) for a in args]
        if name in _INTRINSICS:
            return self._intrinsic(_INTRINSICS[name], args)
        if name == "copysign":
            return self._intrinsic("copysign", args)
        return self._library(_LIBRARY.get(name, name), args)

    def _intrinsic(self, name: str, args: list[Any]) -> Any:
        kind = next((a.type for a in args if is_wide(a.type)), REAL)
        args = [self.to(kind, a) for a in args]
        whole = f"llvm.{name}.v{LANES}f64" if is_wide(kind) else f"llvm.{name}.f64"
        return self.builder.call(self._outside(whole, kind, len(args)), args)

    def _library(self, name: str, args: list[Any]) -> Any:
        def one(parts: list[Any]) -> Any:
            return self.builder.call(self._outside(name, REAL, len(parts)), parts)

        return self.each(one, args) if is_wide(args[0].type) else one(args)

    def _outside(self, name: str, kind: Any, count: int) -> Any:
        made = self.module.globals.get(name)
        if made is None:
            made = llvm.Function(self.module, llvm.FunctionType(kind, [kind] * count), name)
            # Only what they return counts, not what they write into errno.
            for attribute in ("nounwind", "readnone"):
                made.attributes.add(attribute)
        return made

    def each(self, one: Callable[[list[Any]], Any], args: list[Any]) -> Any:
        """Apply what knows no lanes to one lane after the other."""
        found: Any = None
        for k in range(LANES):
            lane = llvm.Constant(_INDEX, k)
            parts = [self.builder.extract_element(a, lane) if is_wide(a.type) else a for a in args]
            value = one(parts)
            if found is None:
                found = llvm.Constant(llvm.VectorType(value.type, LANES), llvm.Undefined)
            found = self.builder.insert_element(found, value, lane)
        return found

    def call_abs(self, a: Any) -> Any:
        """Return the size."""
        if single(a.type) == REAL:
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
        if single(a.type) == REAL:
            return self.builder.fptosi(a, like(WORD, a.type))
        return self.to(WORD, a)

    def call_float(self, a: Any) -> Any:
        """Return a real number."""
        return self.to(REAL, a)

    def call_where(self, test: Any, a: Any, b: Any) -> Any:
        """Return a choice."""
        return self.select(test, a, b)

    def call_ratio(self, a: Any, b: Any) -> Any:
        """Return a quotient."""
        a, b = self.level(self.to(REAL, a), self.to(REAL, b))
        return self.builder.fdiv(a, b)

    def call_fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a*b + c``, rounded once."""
        return self._intrinsic("fma", [self.to(REAL, v) for v in (a, b, c)])

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
        a, b = self.level(self.to(REAL, a), self.to(REAL, b))
        keep = self.builder.or_(self.relate(sign, a, b), self.relate("!=", a, a))
        return self.builder.select(keep, a, b)

    def call_negate(self, a: Any) -> Any:
        """Return the opposite."""
        return self.builder.not_(a)

    def call_bits(self, a: Any) -> Any:
        """Return the bits of a number."""
        return self.builder.bitcast(a, like(WORD, a.type))

    def call_number(self, a: Any) -> Any:
        """Return the number of some bits."""
        return self.builder.bitcast(a, like(REAL, a.type))

    def call_at(self, memory: Any, offset: Any) -> Any:
        """Return memory further on."""
        return self.builder.gep(memory, [offset])

    def call_wide(self, memory: Any) -> Any:
        """Return memory as numbers for all lanes."""
        return self.builder.bitcast(memory, WIDE_POINTER)

    def call_stream(self, memory: Any, place: Any, value: Any) -> None:
        """Write past the cache."""
        where = self.builder.bitcast(self.builder.gep(memory, [place]), WIDE_POINTER)
        written = self.builder.store(value, where, LANES * REAL_BYTES)
        hint = self.module.add_metadata([llvm.Constant(_INDEX, 1)])
        written.set_metadata("nontemporal", hint)

    def call_drain(self) -> None:
        """Have other threads see it."""
        self.builder.fence("seq_cst")

    def call_pick(self, memory: Any, places: Any) -> Any:
        """Return what lies in memory at a place of each lane."""
        build, kind = self.builder, llvm.VectorType(POINTER, LANES)
        start = self._spread(build.ptrtoint(memory, WORD))
        offsets = build.mul(self.call_int(places), self._spread(integer(REAL_BYTES)))
        name = f"llvm.masked.gather.v{LANES}f64.v{LANES}p0"
        made = self.module.globals.get(name)
        if made is None:
            kinds = [kind, _INDEX, llvm.VectorType(BOOL, LANES), WIDE]
            made = llvm.Function(self.module, llvm.FunctionType(WIDE, kinds), name)
        all_lanes, nothing = (
            self._spread(llvm.Constant(BOOL, 1)),
            llvm.Constant(WIDE, llvm.Undefined),
        )
        where = build.inttoptr(build.add(start, offsets), kind)
        return build.call(made, [where, llvm.Constant(_INDEX, REAL_BYTES), all_lanes, nothing])

    def call_turn(self, memory: Any, places: Any, rows: Any, ahead: Any, row: Any) -> None:
        """Write what lies in memory from a place of each lane on, turned over."""
        build, index = self.builder, self.call_int(places)
        found: list[Any] = []
        for k in range(LANES):
            start = build.gep(memory, [build.extract_element(index, llvm.Constant(_INDEX, k))])
            found.append(self.load(build.bitcast(start, WIDE_POINTER)))
        for j, value in enumerate(self._turned(found)):
            for target in (rows, ahead):
                self.store(value, build.gep(target, [build.mul(row, integer(j))]))

    def _turned(self, rows: list[Any]) -> list[Any]:
        """Return the columns of a square of numbers: halves are exchanged, then their halves."""
        kind, span = llvm.VectorType(_INDEX, LANES), LANES // 2
        while span:
            low = [k + (LANES - span) * (k // span % 2) for k in range(LANES)]
            shuffles = [llvm.Constant(kind, [k + shift for k in low]) for shift in (0, span)]
            for k in range(LANES):
                if not k & span:
                    pair = rows[k], rows[k + span]
                    rows[k], rows[k + span] = (
                        self.builder.shuffle_vector(*pair, mask) for mask in shuffles
                    )
            span //= 2
        return rows

    def call_some(self, test: Any) -> Any:
        """Return whether something is true of a lane."""
        lanes = self.builder.bitcast(test, llvm.IntType(LANES))
        return self.builder.icmp_unsigned("!=", lanes, llvm.Constant(lanes.type, 0))

    def call_copy(self, source: Any, target: Any, n: Any) -> None:
        """Copy memory."""
        kinds = [POINTER, POINTER, WORD]
        made = self.module.declare_intrinsic("llvm.memcpy", kinds)
        size = self.builder.mul(n, integer(REAL_BYTES))
        self.builder.call(made, [target, source, size, llvm.Constant(BOOL, 0)])

    def call_gather(self, a: Any, b: Any) -> Any:
        """Return a sum whose terms may be taken in any order."""
        a, b = self.level(a, self.to(REAL, b))
        return self.builder.fadd(a, b, flags=(*self._flags, "reassoc"))

    def call_call(self, function: Any, *args: Any) -> None:
        """Call a function by its address."""
        kind = llvm.FunctionType(llvm.VoidType(), [a.type for a in args])
        self.builder.call(self.builder.inttoptr(function, llvm.Pointer(kind)), args)

    def load(self, place: Any) -> Any:
        """Return what lies in memory, which need not begin where a register would."""
        return self.builder.load(place, align=REAL_BYTES if is_wide(place.type.pointee) else None)

    def store(self, value: Any, place: Any) -> None:
        """Write a value into memory, as the kind of number that it holds."""
        kind = place.type.pointee
        if is_wide(value.type) and not is_wide(kind):
            raise TranslationError(f"{value.type} is no {kind}")
        self.builder.store(self.to(kind, value), place, REAL_BYTES if is_wide(kind) else None)

    def to(self, kind: Any, value: Any) -> Any:
        """Return a value as another kind, with lanes where it or the kind has them."""
        if is_wide(kind) and not is_wide(value.type):
            return self._spread(self.to(kind.element, value))
        wanted, given = like(single(kind), value.type), single(value.type)
        if value.type == wanted:
            return value
        if single(kind) == REAL and given == WORD:
            return self.builder.sitofp(value, wanted)
        if given == BOOL:
            if single(kind) == REAL:
                return self.builder.uitofp(value, wanted)
            return self.builder.zext(value, wanted)
        raise TranslationError(f"{value.type} is no {kind}")

    def _spread(self, value: Any) -> Any:
        kind = llvm.VectorType(value.type, LANES)
        if isinstance(value, llvm.Constant):
            return llvm.Constant(kind, [value.constant] * LANES)
        first = llvm.Constant(_INDEX, 0)
        nothing = llvm.Constant(kind, llvm.Undefined)
        one = self.builder.insert_element(nothing, value, first)
        zeros = llvm.Constant(llvm.VectorType(_INDEX, LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, nothing, zeros)

    def truth(self, value: Any) -> Any:
        """Return whether a value is not 0."""
        if single(value.type) == BOOL:
            return value
        return self.relate("!=", value, llvm.Constant(single(value.type), 0))

    def decision(self, value: Any) -> Any:
        """Return the truth of a value by which all lanes go."""
        truth = self.truth(value)
        if is_wide(truth.type):
            raise TranslationError("lanes may not go different ways")
        return truth
