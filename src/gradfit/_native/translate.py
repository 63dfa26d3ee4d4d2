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
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from types import CodeType, FunctionType
from typing import Any, cast

from gradfit._native import llvm
from gradfit._native.emit import (
    BOOL,
    POINTER,
    REAL,
    WIDE,
    WIDE_POINTER,
    WORD,
    TranslationError,
    integer,
    is_wide,
    like,
)
from gradfit._native.evaluate import Evaluator, Frame
from gradfit._native.fingerprint import fingerprint
from gradfit._native.record import Record, flatten, rebuild, shape

_NUMBERS = {"float": REAL, "int": WORD, "bool": BOOL}


def translate(
    function: FunctionType,
    kinds: Sequence[Any],
    builtins: Mapping[Any, str],
    instead: Mapping[Any, Any],
    fuses: bool = False,
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
    instead : mapping of function to function
        What is translated in the place of what is called.
    fuses : bool
        Whether a product may go into a sum without being rounded.
    """
    translator = Translator(builtins, instead, fuses)
    translator.outline(function, [llvm.Constant(k, llvm.Undefined) for k in kinds], "main")
    return str(translator.module)


class Translator(Evaluator):
    """Writes functions into one module."""

    def __init__(
        self, builtins: Mapping[Any, str], instead: Mapping[Any, Any], fuses: bool
    ) -> None:
        super().__init__(fuses)
        self.builtins, self.instead = builtins, instead
        self._made: dict[tuple[Any, ...], Any] = {}

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
        kind = llvm.FunctionType(
            gives or llvm.VoidType(), [v.type for a in args for v in flatten(a)]
        )
        # Names of its own: those of the C library are taken.
        made = llvm.Function(
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
        self.builder = llvm.Builder(made.append_basic_block())
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
        target = self.instead.get(target, target)
        known = self.builtins.get(target)
        if known is None and isinstance(target, FunctionType):
            return self.call(target, args)
        if known is None and isinstance(target, type) and issubclass(target, tuple):
            return Record(dict(zip(target._fields, args, strict=True)))  # type: ignore[attr-defined]
        return getattr(self, f"call_{known or name}")(*args)


def _may_part(tree: ast.FunctionDef, args: Sequence[Any]) -> bool:
    """Return whether a function may go one way with the number of one lane, and another way."""
    kinds = [v.type for v in args]
    if not any(map(is_wide, kinds)) or any(isinstance(k, llvm.Pointer) for k in kinds):
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
    text = getattr(function, "__text__", None)
    if text is not None:
        found = ast.parse(text).body[0]
    else:
        plain = cast(FunctionType, function)
        code = plain.__code__
        trees, codes = _source(code.co_filename, plain.__module__)
        place = code.co_qualname, code.co_firstlineno
        found = trees.get((function.__name__, code.co_firstlineno))
        # A file may have been changed since it was imported: what runs is what was imported.
        if found is not None and fingerprint(codes.get(place)) != fingerprint(code):
            found = None
    if not isinstance(found, ast.FunctionDef):
        raise TranslationError(f"the source of {function.__name__} is not what was imported")
    return found


@lru_cache(maxsize=32)
def _source(
    path: str, module: str
) -> tuple[dict[tuple[str, int], ast.FunctionDef], dict[tuple[str, int], CodeType]]:
    """Return the functions of a file as trees and as code, by name and first line."""
    lines = linecache.getlines(path, vars(sys.modules[module]))
    if not lines:
        raise TranslationError(f"the source {path} cannot be read")
    text = "".join(lines)
    trees = {
        (node.name, min([node.lineno, *(d.lineno for d in node.decorator_list)])): node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
    codes: dict[tuple[str, int], CodeType] = {}
    rest = [compile(text, path, "exec", dont_inherit=True)]
    while rest:
        code = rest.pop()
        codes[code.co_qualname, code.co_firstlineno] = code
        rest.extend(c for c in code.co_consts if isinstance(c, CodeType))
    return trees, codes


def _known(function: Any) -> Mapping[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
