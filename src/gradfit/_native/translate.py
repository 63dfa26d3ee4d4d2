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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir

from gradfit._native.emit import (
    BOOL,
    POINTER,
    REAL,
    WIDE,
    WIDE_POINTER,
    WORD,
    Emitter,
    TranslationError,
    integer,
    is_wide,
    like,
    single,
)
from gradfit._native.record import Record, flatten, rebuild, shape

_NUMBERS = {"float": REAL, "int": WORD, "bool": BOOL}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


@dataclass
class Frame:
    """A function while it is written out."""

    name: str
    known: Mapping[str, Any]
    wide: bool = False
    slots: dict[str, Any] = field(default_factory=dict[str, Any])
    result: Any = None
    has_result: bool = False
    end: Any = None
    loops: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])


def translate(
    function: FunctionType, kinds: Sequence[Any], builtins: Mapping[Any, str], fuses: bool = False
) -> str:
    """Return a module in which ``function`` is called ``main``, as text.

    Parameters
    ----------
    function : function
        Takes arguments of the kinds given and returns nothing.
    kinds : sequence
        LLVM types: ``REAL``, ``WORD``, ``POINTER``.
    builtins : mapping of function to str
        What is known by another name: that of a method of :class:`Translator`.
    fuses : bool
        Whether a product may go into a sum without being rounded.
    """
    translator = Translator(builtins, fuses)
    translator.outline(function, [ir.Constant(k, ir.Undefined) for k in kinds], "main")
    return str(translator.module)


class Translator(Emitter):
    """Writes functions into one module."""

    def __init__(self, builtins: Mapping[Any, str], fuses: bool) -> None:
        super().__init__(fuses)
        self.builtins = builtins
        self._made: dict[tuple[Any, ...], Any] = {}
        self._arrays: dict[int, Any] = {}
        self.frame = Frame("", {})

    # -- functions -------------------------------------------------------------------------------

    def call(self, function: Any, args: list[Any]) -> Any:
        """Call a function, or write it out in place."""
        tree = _tree(function)
        flat = [v for a in args for v in flatten(a)]
        if _may_part(tree, flat):
            return self.each(lambda parts: self.call(function, parts), args)
        if _returned(tree) is None and not _is_none(tree):
            return self._write_out(function, tree, args)
        key = (function, tuple(map(shape, args)), tuple(str(v.type) for v in flat))
        if key not in self._made:
            self._made[key] = self.outline(function, args)
        return self.builder.call(self._made[key], flat)

    def outline(self, function: Any, args: list[Any], name: str = "") -> Any:
        """Write a function of its own, for arguments like these; return it."""
        tree = _tree(function)
        gives = _returned(tree)
        if gives in (REAL, BOOL) and _is_abreast(args):
            gives = like(gives, WIDE)
        kind = ir.FunctionType(gives or ir.VoidType(), [v.type for a in args for v in flatten(a)])
        # Names of its own: those of the C library are taken.
        made = ir.Function(
            self.module, kind, name or self.module.get_unique_name(f"own.{tree.name}")
        )
        if name and self._flags:
            for pointer in (a for a in made.args if a.type in (POINTER, WIDE_POINTER)):
                pointer.add_attribute("noalias")
        if not name:
            made.linkage = "internal"
            if not any(isinstance(n, (ast.For, ast.While)) for n in ast.walk(tree)):
                made.attributes.add("alwaysinline")
        outer, frame = self.builder, self.frame
        self.builder = ir.IRBuilder(made.append_basic_block())
        given = iter(made.args)
        value = self._write_out(function, tree, [rebuild(a, given) for a in args])
        if gives is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self.to(gives, value))
        self.builder, self.frame = outer, frame
        return made

    def _write_out(self, function: Any, tree: ast.FunctionDef, args: list[Any]) -> Any:
        outer = self.frame
        self.frame = frame = Frame(tree.name, _known(function), _is_abreast(args))
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
            parts = value.fields.values() if isinstance(value, Record) else value
            for each, part in zip(target.elts, parts, strict=True):
                self._assign_to(each, part)
        else:
            self.store(value, self._place(target))

    def _do_augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            old = self.value(ast.Name(node.target.id, ast.Load()))
            self._assign(node.target.id, self.arithmetic(node.op, old, self.value(node.value)))
            return
        place = self._place(node.target)
        new = self.arithmetic(node.op, self.load(place), self.value(node.value))
        self.store(new, place)

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
        self.builder.cbranch(self.decision(self.value(node.test)), then, other)
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
        self.builder.cbranch(self.decision(self.value(node.test)), body, after)
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
            start, stop, step = integer(0), integer(self._length(node.iter)), 1
        counter = self._slot(WORD)
        self.builder.store(start, counter)
        test, body, again, after = (self.builder.append_basic_block() for _ in range(4))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        sign = "<" if step > 0 else ">"
        more = self.builder.icmp_signed(sign, self.builder.load(counter), stop)
        self.builder.cbranch(more, body, after)
        self.builder.position_at_end(again)
        self.builder.store(self.builder.add(self.builder.load(counter), integer(step)), counter)
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
        return (integer(0), ends[0], step) if len(ends) == 1 else (ends[0], ends[1], step)

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
        if value is None:
            return None
        # A number that is the same for all lanes may become one for each.
        return self._slot(WIDE if self.frame.wide and value.type == REAL else value.type)

    def _store(self, slot: Any, value: Any, name: str = "a result") -> None:
        if isinstance(slot, Record):
            for k, v in value.fields.items():
                self._store(slot.fields[k], v, k)
        elif isinstance(slot, tuple):
            for s, v in zip(slot, value, strict=True):
                self._store(s, v, name)
        elif slot is not None:
            kind = slot.type.pointee
            if kind != value.type and single(kind) != REAL:
                raise TranslationError(f"{name} changes its kind in {self.frame.name}")
            self.builder.store(self.to(kind, value), slot)

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
            return integer(int(value))
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
        return self.load(self._place(node))

    def _of_unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.not_(self.truth(value))
        if isinstance(node.op, ast.USub):
            real = single(value.type) == REAL
            return self.builder.fneg(value) if real else self.builder.neg(value)
        return self._refuse(node)

    def _of_binop(self, node: ast.BinOp) -> Any:
        return self.arithmetic(node.op, self.value(node.left), self.value(node.right))

    def _of_compare(self, node: ast.Compare) -> Any:
        left, out = self.value(node.left), None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node)
            now = self.relate(_COMPARE[type(op)], left, right)
            out = now if out is None else self.arithmetic(ast.BitAnd(), out, now)
            left = right
        return out

    def _of_boolop(self, node: ast.BoolOp) -> Any:
        is_and = isinstance(node.op, ast.And)
        if all(map(_is_plain, node.values)):
            values = [self.truth(self.value(v)) for v in node.values]
            out = values[0]
            for v in values[1:]:
                out = self.arithmetic(ast.BitAnd() if is_and else ast.BitOr(), out, v)
            return out
        slot, after = self._slot(BOOL), self.builder.append_basic_block()
        for v in node.values:
            truth = self.decision(self.value(v))
            self.builder.store(truth, slot)
            more = self.builder.append_basic_block()
            ends = (more, after) if is_and else (after, more)
            self.builder.cbranch(truth, *ends)
            self.builder.position_at_end(more)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return self.builder.load(slot)

    def _of_ifexp(self, node: ast.IfExp) -> Any:
        test = self.truth(self.value(node.test))
        if is_wide(test.type) or (_is_plain(node.body) and _is_plain(node.orelse)):
            return self.select(test, self.value(node.body), self.value(node.orelse))
        then, other, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.cbranch(test, then, other)
        found: list[tuple[Any, Any]] = []
        for block, part in ((then, node.body), (other, node.orelse)):
            self.builder.position_at_end(block)
            found.append((self.value(part), self.builder.block))
        kind = REAL if any(v.type == REAL for v, _ in found) else found[0][0].type
        for k, (v, block) in enumerate(found):
            self.builder.position_at_end(block)
            found[k] = self.to(kind, v), block
            self.builder.branch(after)
        self.builder.position_at_end(after)
        phi = self.builder.phi(kind)
        for v, block in found:
            phi.add_incoming(v, block)
        return phi

    # -- calls -----------------------------------------------------------------------------------

    def _of_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            return self.of_module(node.func.attr, [self.value(a) for a in node.args])
        if not isinstance(node.func, ast.Name):
            return self._refuse(node)
        name = node.func.id
        if name == "len":
            return integer(self._length(node.args[0]))
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
        return getattr(self, f"call_{known or name}")(*args)


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


def _may_part(tree: ast.FunctionDef, args: Sequence[Any]) -> bool:
    """Return whether a function may go one way with the number of one lane, and another way."""
    kinds = [v.type for v in args]
    if not any(map(is_wide, kinds)) or any(isinstance(k, ir.PointerType) for k in kinds):
        return False
    return any(isinstance(n, (ast.If, ast.While)) for n in ast.walk(tree))


def _is_abreast(args: Sequence[Any]) -> bool:
    """Return whether some argument has lanes, or is memory of them."""
    kinds = [v.type for a in args for v in flatten(a)]
    return any(k == WIDE_POINTER or is_wide(k) for k in kinds)


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
