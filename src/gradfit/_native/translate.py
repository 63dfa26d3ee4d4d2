"""Python to LLVM: the small part of Python in which the solver and the kernels are written.

Numba compiles far more of Python than is needed here, and takes a minute over the solver where
this takes a few seconds, and half a second over a kernel where this takes a few hundredths. What
is understood: float64, int64, truth values, pointers to float64, named tuples of these; arithmetic
with the meaning of C, comparisons, ``if``, ``for`` over ``range``, ``while``, and calls. A variable
keeps the kind that it got first. Whole numbers are divided as if they were not negative. Functions
that say that they return one number or nothing become functions of their own; others are written
out where they are called.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir

REAL, WORD, BOOL = ir.DoubleType(), ir.IntType(64), ir.IntType(1)
POINTER = REAL.as_pointer()
_NUMBERS = {"float": REAL, "int": WORD, "bool": BOOL}
_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"}
_LIBRARY = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class TranslationError(Exception):
    """Some Python is not understood; the message says what and where."""


@dataclass
class Record:
    """A named tuple while it is translated."""

    fields: dict[str, Any]


@dataclass
class Frame:
    """A function while it is written out."""

    name: str
    known: Mapping[str, Any]
    slots: dict[str, Any] = field(default_factory=dict[str, Any])
    result: Any = None
    has_result: bool = False
    end: Any = None
    loops: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])


def translate(function: FunctionType, kinds: Sequence[Any], builtins: Mapping[Any, str]) -> str:
    """Return a module in which ``function`` is called ``main``, as text.

    Parameters
    ----------
    function : function
        Takes arguments of the kinds given and returns nothing.
    kinds : sequence
        LLVM types: ``REAL``, ``WORD``, ``POINTER``.
    builtins : mapping of function to str
        What is known by another name: that of a method of :class:`Translator`.
    """
    translator = Translator(builtins)
    translator.outline(function, [ir.Constant(k, ir.Undefined) for k in kinds], "main")
    return str(translator.module)


class Translator:
    """Writes functions into one module."""

    def __init__(self, builtins: Mapping[Any, str]) -> None:
        self.module = ir.Module()
        self.builtins = builtins
        self._made: dict[tuple[Any, ...], Any] = {}
        self._arrays: dict[int, Any] = {}
        self.builder: Any = ir.IRBuilder()
        self.frame = Frame("", {})

    # -- functions -------------------------------------------------------------------------------

    def call(self, function: Any, args: list[Any]) -> Any:
        """Call a function, or write it out in place."""
        tree = _tree(function)
        if _returned(tree) is None and not _is_none(tree):
            return self._write_out(function, tree, args)
        flat = [v for a in args for v in _flatten(a)]
        shape = tuple(map(_shape, args))
        key = (function, shape, tuple(str(v.type) for v in flat))
        if key not in self._made:
            self._made[key] = self.outline(function, args)
        return self.builder.call(self._made[key], flat)

    def outline(self, function: Any, args: list[Any], name: str = "") -> Any:
        """Write a function of its own, for arguments like these; return it."""
        tree = _tree(function)
        gives = _returned(tree)
        kind = ir.FunctionType(gives or ir.VoidType(), [v.type for a in args for v in _flatten(a)])
        # Names of its own: those of the C library are taken.
        made = ir.Function(
            self.module, kind, name or self.module.get_unique_name(f"own.{tree.name}")
        )
        if not name:
            made.linkage = "internal"
            if not any(isinstance(n, (ast.For, ast.While)) for n in ast.walk(tree)):
                made.attributes.add("alwaysinline")
        outer, frame = self.builder, self.frame
        self.builder = ir.IRBuilder(made.append_basic_block())
        given = iter(made.args)
        value = self._write_out(function, tree, [_rebuild(a, given) for a in args])
        if gives is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self._to(gives, value))
        self.builder, self.frame = outer, frame
        return made

    def _write_out(self, function: Any, tree: ast.FunctionDef, args: list[Any]) -> Any:
        outer = self.frame
        self.frame = frame = Frame(tree.name, _known(function))
        frame.end = self.builder.append_basic_block()
        for a, value in zip(tree.args.args, args, strict=True):
            self._assign(a.arg, value)
        self._block(tree.body)
        if not self.builder.block.is_terminated:
            self.builder.branch(frame.end)
        self.builder.position_at_end(frame.end)
        self.frame = outer
        return self._load(frame.result) if frame.has_result else None

    # -- statements ------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            write: Any = getattr(self, f"_do_{type(statement).__name__.lower()}", None)
            write(statement) if write else self._refuse(statement)

    def _refuse(self, node: ast.AST) -> Any:
        raise TranslationError(f"{ast.unparse(node)} in {self.frame.name} is not understood")

    def _do_pass(self, node: ast.Pass) -> None:
        pass

    def _do_expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.value(node.value)

    def _do_assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._assign_to(target, value)

    def _assign_to(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._assign(target.id, value)
        elif isinstance(target, ast.Tuple):
            for each, part in zip(target.elts, value, strict=True):
                self._assign_to(each, part)
        else:
            self.builder.store(self._to(REAL, value), self._place(target))

    def _do_augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            old = self.value(ast.Name(node.target.id, ast.Load()))
            self._assign(node.target.id, self._arithmetic(node.op, old, self.value(node.value)))
            return
        place = self._place(node.target)
        new = self._arithmetic(node.op, self.builder.load(place), self.value(node.value))
        self.builder.store(self._to(REAL, new), place)

    def _do_return(self, node: ast.Return) -> None:
        frame = self.frame
        if node.value is not None:
            value = self.value(node.value)
            if not frame.has_result:
                frame.result, frame.has_result = self._slots(value), True
            self._store(frame.result, value)
        self.builder.branch(frame.end)

    def _do_if(self, node: ast.If) -> None:
        then, other, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.cbranch(self._truth(self.value(node.test)), then, other)
        for block, body in ((then, node.body), (other, node.orelse)):
            self.builder.position_at_end(block)
            self._block(body)
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)

    def _do_while(self, node: ast.While) -> None:
        test, body, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self._truth(self.value(node.test)), body, after)
        self._loop(body, node.body, test, after)

    def _loop(self, body: Any, statements: Sequence[ast.stmt], again: Any, after: Any) -> None:
        self.builder.position_at_end(body)
        self.frame.loops.append((again, after))
        self._block(statements)
        self.frame.loops.pop()
        if not self.builder.block.is_terminated:
            self.builder.branch(again)
        self.builder.position_at_end(after)

    def _do_break(self, node: ast.Break) -> None:
        self.builder.branch(self.frame.loops[-1][1])

    def _do_continue(self, node: ast.Continue) -> None:
        self.builder.branch(self.frame.loops[-1][0])

    def _do_for(self, node: ast.For) -> None:
        array = None
        if isinstance(node.iter, ast.Call):
            start, stop, step = self._range(node.iter.args)
        else:
            array = self.value(node.iter)
            start, stop, step = _int(0), _int(self._length(node.iter)), 1
        counter = self._slot(WORD)
        self.builder.store(start, counter)
        test, body, again, after = (self.builder.append_basic_block() for _ in range(4))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        sign = "<" if step > 0 else ">"
        more = self.builder.icmp_signed(sign, self.builder.load(counter), stop)
        self.builder.cbranch(more, body, after)
        self.builder.position_at_end(again)
        self.builder.store(self.builder.add(self.builder.load(counter), _int(step)), counter)
        self.builder.branch(test)
        self.builder.position_at_end(body)
        item = self.builder.load(counter)
        if array is not None:
            item = self.builder.load(self.builder.gep(array, [item]))
        self._assign_to(node.target, item)
        self._loop(self.builder.block, node.body, again, after)

    def _range(self, args: Sequence[ast.expr]) -> tuple[Any, Any, int]:
        step = ast.literal_eval(args[2]) if len(args) > 2 else 1
        ends = [self.value(a) for a in args[:2]]
        return (_int(0), ends[0], step) if len(ends) == 1 else (ends[0], ends[1], step)

    # -- variables -------------------------------------------------------------------------------

    def _assign(self, name: str, value: Any) -> None:
        slots = self.frame.slots
        if name not in slots:
            slots[name] = self._slots(value)
        self._store(slots[name], value, name)

    def _slot(self, kind: Any) -> Any:
        with self.builder.goto_entry_block():
            return self.builder.alloca(kind)

    def _slots(self, value: Any) -> Any:
        if isinstance(value, Record):
            return Record({k: self._slots(v) for k, v in value.fields.items()})
        if isinstance(value, tuple):
            return tuple(map(self._slots, value))
        return None if value is None else self._slot(value.type)

    def _store(self, slot: Any, value: Any, name: str = "a result") -> None:
        if isinstance(slot, Record):
            for k, v in value.fields.items():
                self._store(slot.fields[k], v, k)
        elif isinstance(slot, tuple):
            for s, v in zip(slot, value, strict=True):
                self._store(s, v, name)
        elif slot is not None:
            kind = slot.type.pointee
            if kind != value.type and kind != REAL:
                raise TranslationError(f"{name} changes its kind in {self.frame.name}")
            self.builder.store(self._to(kind, value), slot)

    def _load(self, slot: Any) -> Any:
        if isinstance(slot, Record):
            return Record({k: self._load(v) for k, v in slot.fields.items()})
        if isinstance(slot, tuple):
            return tuple(map(self._load, slot))
        return None if slot is None else self.builder.load(slot)

    def _place(self, node: ast.expr) -> Any:
        if not isinstance(node, ast.Subscript):
            return self._refuse(node)
        return self.builder.gep(self.value(node.value), [self.value(node.slice)])

    # -- expressions -----------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """Return the value of an expression."""
        write = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        return self._refuse(node) if write is None else write(node)

    def _of_constant(self, node: ast.Constant) -> Any:
        return self._known_value(node.value, node)

    def _known_value(self, value: Any, node: ast.AST) -> Any:
        if isinstance(value, (bool, np.bool_)):
            return ir.Constant(BOOL, int(value))
        if isinstance(value, (int, np.integer)):
            return _int(int(value))
        if isinstance(value, (float, np.floating)):
            return ir.Constant(REAL, float(value))
        if isinstance(value, np.ndarray):
            return self._array(value)
        return self._refuse(node)

    def _array(self, values: Any) -> Any:
        if id(values) not in self._arrays:
            kind = ir.ArrayType(REAL, len(values))
            made: Any = ir.GlobalVariable(self.module, kind, self.module.get_unique_name("table"))
            made.initializer = ir.Constant(kind, [float(v) for v in values])
            made.global_constant, made.linkage = True, "internal"
            self._arrays[id(values)] = made
        return self.builder.bitcast(self._arrays[id(values)], POINTER)

    def _length(self, node: ast.expr) -> int:
        value = self.frame.known.get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(value, np.ndarray):
            return len(value)
        if isinstance(node, ast.Name) and node.id in self.frame.slots:
            kind = self.frame.slots[node.id]
            return getattr(kind, "length", 0)
        return self._refuse(node)

    def _of_name(self, node: ast.Name) -> Any:
        if node.id in self.frame.slots:
            return self._load(self.frame.slots[node.id])
        return self._known_value(self.frame.known.get(node.id), node)

    def _of_attribute(self, node: ast.Attribute) -> Any:
        base = node.value
        if isinstance(base, ast.Name) and base.id in ("np", "math"):
            return ir.Constant(REAL, float(getattr(math, node.attr)))
        if isinstance(base, ast.Name) and isinstance(self.frame.slots.get(base.id), Record):
            return self._load(self.frame.slots[base.id].fields[node.attr])
        return self.value(base).fields[node.attr]

    def _of_tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(e) for e in node.elts)

    def _of_subscript(self, node: ast.Subscript) -> Any:
        return self.builder.load(self._place(node))

    def _of_unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.not_(self._truth(value))
        if isinstance(node.op, ast.USub):
            return self.builder.fneg(value) if value.type == REAL else self.builder.neg(value)
        return self._refuse(node)

    def _of_binop(self, node: ast.BinOp) -> Any:
        return self._arithmetic(node.op, self.value(node.left), self.value(node.right))

    def _arithmetic(self, op: ast.operator, a: Any, b: Any) -> Any:
        name, build = type(op).__name__, self.builder
        if name in ("BitAnd", "BitOr"):
            return build.and_(a, b) if name == "BitAnd" else build.or_(a, b)
        if REAL in (a.type, b.type) or name in ("Div", "Pow"):
            a, b = self._to(REAL, a), self._to(REAL, b)
            if name == "Pow":
                return self._library("pow", [a, b])
            floats = {"Add": "fadd", "Sub": "fsub", "Mult": "fmul", "Div": "fdiv"}
            return getattr(build, floats[name])(a, b)
        words = {
            "Add": "add",
            "Sub": "sub",
            "Mult": "mul",
            "FloorDiv": "sdiv",
            "Mod": "srem",
            "RShift": "ashr",
            "LShift": "shl",
        }
        return getattr(build, words[name])(self._to(WORD, a), self._to(WORD, b))

    def _of_compare(self, node: ast.Compare) -> Any:
        left, out = self.value(node.left), None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node)
            now = self._relate(_COMPARE[type(op)], left, right)
            out = now if out is None else self.builder.and_(out, now)
            left = right
        return out

    def _relate(self, sign: str, a: Any, b: Any) -> Any:
        if REAL in (a.type, b.type):
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
            return compare(sign, self._to(REAL, a), self._to(REAL, b))
        if a.type != b.type:
            a, b = self._to(WORD, a), self._to(WORD, b)
        return self.builder.icmp_signed(sign, a, b)

    def _of_boolop(self, node: ast.BoolOp) -> Any:
        is_and = isinstance(node.op, ast.And)
        if all(map(_is_plain, node.values)):
            values = [self._truth(self.value(v)) for v in node.values]
            out = values[0]
            for v in values[1:]:
                out = self.builder.and_(out, v) if is_and else self.builder.or_(out, v)
            return out
        slot, after = self._slot(BOOL), self.builder.append_basic_block()
        for v in node.values:
            truth = self._truth(self.value(v))
            self.builder.store(truth, slot)
            more = self.builder.append_basic_block()
            ends = (more, after) if is_and else (after, more)
            self.builder.cbranch(truth, *ends)
            self.builder.position_at_end(more)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return self.builder.load(slot)

    def _of_ifexp(self, node: ast.IfExp) -> Any:
        test = self._truth(self.value(node.test))
        if _is_plain(node.body) and _is_plain(node.orelse):
            return self._select(test, self.value(node.body), self.value(node.orelse))
        then, other, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.cbranch(test, then, other)
        found: list[tuple[Any, Any]] = []
        for block, part in ((then, node.body), (other, node.orelse)):
            self.builder.position_at_end(block)
            found.append((self.value(part), self.builder.block))
        kind = REAL if any(v.type == REAL for v, _ in found) else found[0][0].type
        for k, (v, block) in enumerate(found):
            self.builder.position_at_end(block)
            found[k] = self._to(kind, v), block
            self.builder.branch(after)
        self.builder.position_at_end(after)
        phi = self.builder.phi(kind)
        for v, block in found:
            phi.add_incoming(v, block)
        return phi

    def _select(self, test: Any, a: Any, b: Any) -> Any:
        if a.type != b.type:
            kind = REAL if REAL in (a.type, b.type) else WORD
            a, b = self._to(kind, a), self._to(kind, b)
        return self.builder.select(test, a, b)

    # -- calls -----------------------------------------------------------------------------------

    def _of_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            return self._of_module(node.func.attr, [self.value(a) for a in node.args])
        if not isinstance(node.func, ast.Name):
            return self._refuse(node)
        name = node.func.id
        if name == "len":
            return _int(self._length(node.args[0]))
        args: list[Any] = []
        for a in node.args:
            if isinstance(a, ast.Starred):
                args.extend(self.value(a.value))
            else:
                args.append(self.value(a))
        target = self.frame.known.get(name, name)
        known = self.builtins.get(target)
        if known is None and isinstance(target, FunctionType):
            return self.call(target, args)
        if known is None and isinstance(target, type) and issubclass(target, tuple):
            return Record(dict(zip(target._fields, args, strict=True)))  # type: ignore[attr-defined]
        return getattr(self, f"_call_{known or name}")(*args)

    def _of_module(self, name: str, args: list[Any]) -> Any:
        if name == "float64":
            return self._to(REAL, args[0])
        if name == "isinf":
            return self._relate("==", self._call_abs(args[0]), ir.Constant(REAL, math.inf))
        args = [self._to(REAL, a) for a in args]
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

    def _call_abs(self, a: Any) -> Any:
        if a.type == REAL:
            return self._intrinsic("fabs", [a])
        return self.builder.select(self._relate("<", a, _int(0)), self.builder.neg(a), a)

    def _call_min(self, a: Any, b: Any) -> Any:
        return self._select(self._relate("<", b, a), b, a)

    def _call_max(self, a: Any, b: Any) -> Any:
        return self._select(self._relate(">", b, a), b, a)

    def _call_int(self, a: Any) -> Any:
        return self.builder.fptosi(a, WORD) if a.type == REAL else self._to(WORD, a)

    def _call_float(self, a: Any) -> Any:
        return self._to(REAL, a)

    def _call_where(self, test: Any, a: Any, b: Any) -> Any:
        return self._select(test, a, b)

    def _call_ratio(self, a: Any, b: Any) -> Any:
        return self.builder.fdiv(self._to(REAL, a), self._to(REAL, b))

    def _call_sqrt(self, a: Any) -> Any:
        return self._intrinsic("sqrt", [a])

    def _call_maximum(self, a: Any, b: Any) -> Any:
        return self._torch_choice(">=", a, b)

    def _call_minimum(self, a: Any, b: Any) -> Any:
        return self._torch_choice("<=", a, b)

    def _torch_choice(self, sign: str, a: Any, b: Any) -> Any:
        a, b = self._to(REAL, a), self._to(REAL, b)
        keep = self.builder.or_(self._relate(sign, a, b), self._relate("!=", a, a))
        return self.builder.select(keep, a, b)

    def _call_negate(self, a: Any) -> Any:
        return self.builder.not_(a)

    def _call_bits(self, a: Any) -> Any:
        return self.builder.bitcast(a, WORD)

    def _call_number(self, a: Any) -> Any:
        return self.builder.bitcast(a, REAL)

    def _call_at(self, memory: Any, offset: Any) -> Any:
        return self.builder.gep(memory, [offset])

    def _call_call(self, function: Any, *args: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
        self.builder.call(self.builder.inttoptr(function, kind.as_pointer()), args)

    # -- kinds -----------------------------------------------------------------------------------

    def _to(self, kind: Any, value: Any) -> Any:
        if value.type == kind:
            return value
        if kind == REAL and value.type == WORD:
            return self.builder.sitofp(value, REAL)
        if value.type == BOOL:
            return (
                self.builder.uitofp(value, REAL) if kind == REAL else self.builder.zext(value, kind)
            )
        raise TranslationError(f"{value.type} is no {kind} in {self.frame.name}")

    def _truth(self, value: Any) -> Any:
        if value.type == BOOL:
            return value
        return self._relate("!=", value, ir.Constant(value.type, 0))


def _int(value: int) -> Any:
    return ir.Constant(WORD, value)


def _is_plain(node: ast.expr) -> bool:
    """Return whether an expression may be computed in vain."""
    if isinstance(node, (ast.UnaryOp, ast.Compare, ast.BinOp)):
        parts = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.expr)]
        return all(map(_is_plain, parts))
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "float64"
    return isinstance(node, (ast.Name, ast.Constant))


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, Record):
        for v in value.fields.values():
            yield from _flatten(v)
    elif isinstance(value, tuple):
        for v in value:
            yield from _flatten(v)
    elif value is not None:
        yield value


def _rebuild(like: Any, given: Iterator[Any]) -> Any:
    if isinstance(like, Record):
        return Record({k: _rebuild(v, given) for k, v in like.fields.items()})
    if isinstance(like, tuple):
        return tuple(_rebuild(v, given) for v in like)
    return None if like is None else next(given)


def _shape(value: Any) -> Any:
    if isinstance(value, Record):
        return tuple((k, _shape(v)) for k, v in value.fields.items())
    if isinstance(value, tuple):
        return tuple(map(_shape, value))
    return value is None


def _is_none(tree: ast.FunctionDef) -> bool:
    return isinstance(tree.returns, ast.Constant) and tree.returns.value is None


def _returned(tree: ast.FunctionDef) -> Any:
    return _NUMBERS.get(tree.returns.id) if isinstance(tree.returns, ast.Name) else None


@cache
def _tree(function: Callable[..., Any]) -> ast.FunctionDef:
    text = getattr(function, "__text__", None) or inspect.getsource(function)
    found = ast.parse(textwrap.dedent(text)).body[0]
    if not isinstance(found, ast.FunctionDef):
        raise TranslationError(f"{function.__name__} is not a plain function")
    return found


def _known(function: Any) -> Mapping[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
