"""Values of expressions and variables, while Python is translated."""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradfit._native import llvm
from gradfit._native.emit import (
    BOOL,
    POINTER,
    REAL,
    WIDE,
    Emitter,
    TranslationError,
    integer,
    is_wide,
    single,
)
from gradfit._native.record import Record

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


class Evaluator(Emitter):
    """Writes expressions into the function whose frame it has.

    Attributes
    ----------
    frame : Frame
        The function that is being written out.
    """

    def __init__(self, fuses: bool) -> None:
        super().__init__(fuses)
        self._arrays: dict[int, Any] = {}
        self.frame = Frame("", {})

    def _refuse(self, node: ast.AST) -> Any:
        raise TranslationError(f"{ast.unparse(node)} in {self.frame.name} is not understood")

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
            return llvm.Constant(BOOL, int(value))
        if isinstance(value, (int, np.integer)):
            return integer(int(value))
        if isinstance(value, (float, np.floating)):
            return llvm.Constant(REAL, float(value))
        if isinstance(value, np.ndarray):
            return self._array(value)
        return self._refuse(node)

    def _array(self, values: Any) -> Any:
        if id(values) not in self._arrays:
            self._arrays[id(values)] = llvm.table(self.module, values)
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
            return llvm.Constant(REAL, float(getattr(math, node.attr)))
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
        if _is_plain(node.body) and _is_plain(node.orelse):
            return self.select(test, self.value(node.body), self.value(node.orelse))
        if is_wide(test.type):
            body = self._where_some(test, node.body)
            return self.select(test, body, self._where_some(self.builder.not_(test), node.orelse))
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

    def _where_some(self, lanes: Any, node: ast.expr) -> Any:
        """Return a value for all lanes if some need it, else none that counts."""
        if _is_plain(node):
            return self.value(node)
        before, some, after = self.builder.block, *(self.builder.append_basic_block() for _ in "ab")
        self.builder.cbranch(self.call_some(lanes), some, after)
        self.builder.position_at_end(some)
        value, end = self.value(node), self.builder.block
        self.builder.branch(after)
        self.builder.position_at_end(after)
        found = self.builder.phi(value.type)
        found.add_incoming(value, end)
        found.add_incoming(llvm.Constant(value.type, llvm.Undefined), before)
        return found


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
