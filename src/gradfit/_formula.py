"""Formulas as text, parsed by a whitelist and turned into functions of tensors.

Only arithmetic, comparisons, numbers, names, ``name[0]`` and calls of the functions listed here get
through; everything else is refused with its position. What got through is compiled from the checked
syntax tree, under a file name that :mod:`linecache` knows, so that a traced formula shows its own
text, column by column.
"""

import ast
import difflib
import keyword
import linecache
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import CodeType, FunctionType
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from gradfit._formula_functions import (
    ALSO_NAMES,
    ARITY,
    CONSTANTS,
    FUNCTIONS,
    INSTEAD,
    LOGARITHMS,
    NAMESPACE,
    NO_PARAMETER,
    STACKED,
    TIMES_LOG,
    TRUTH,
)
from gradfit._formula_text import Source, read, refuse
from gradfit.errors import InputError

LONGEST = 10_000
_DECIMAL = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""Numbers as every reader takes them; Python knows others, such as 0x1F and 1_000."""

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_FOLD: dict[type, Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


@dataclass(frozen=True)
class Formula:
    """A formula that passed the whitelist.

    Parameters
    ----------
    text : str
        For example ``"a*exp(-b*x) + c"`` or ``"y = a*x + b"``; what stands before ``=`` is kept as
        :attr:`target` and otherwise ignored. Python's operators, and ``^``, ``·`` and ``x²`` as
        they are read; ``pi`` and ``π`` are constants, ``exp(1)`` is Euler's number: a bare ``e`` is
        refused. With commas, as in ``"a*x, b*x"``, it has several values, the rows of one tensor.
        ``x*log(x)`` is 0 at 0, as every product of a logarithm with what vanishes there.
    known : tuple of str
        Names of data, whatever else they might mean.

    Raises
    ------
    InputError
        The text is no formula, or uses what is not allowed. The message gives the column, and a
        note below it points at the place.

    Examples
    --------
    >>> f = Formula("y = a*exp(-b*x) + c")
    >>> f.names, f.target
    (('a', 'b', 'x', 'c'), 'y')
    >>> f.evaluate({"a": 2.0, "b": 0.0, "c": 1.0, "x": torch.tensor([0.0, 1.0])})
    tensor([3., 3.])
    """

    text: str
    known: tuple[str, ...] = ()
    target: str | None = field(init=False, compare=False)
    body: str = field(init=False, compare=False, repr=False)
    offset: int = field(init=False, compare=False, repr=False)
    source: Source = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        given = cast(object, self.text)
        if not isinstance(given, str):
            raise InputError(f"a formula must be text, got {type(given).__name__}.")
        text = " ".join(given.split())
        if not text:
            raise InputError('the formula is empty. Write one such as "a*exp(-b*x) + c".')
        if len(text) > LONGEST:
            raise InputError(f"the formula has {len(text)} characters; at most {LONGEST} are read.")
        target, offset = _split(text)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "body", text[offset:].strip())
        offset += len(text[offset:]) - len(text[offset:].lstrip())
        object.__setattr__(self, "source", read(text, offset))
        # Parsing here means that a Formula that exists is a valid one.
        _ = self.tree

    def __reduce__(self) -> tuple[Any, ...]:
        return Formula, (self.text, self.known)

    @cached_property
    def tree(self) -> ast.expr:
        """The checked syntax tree: constants folded, positions those of the text."""
        return self.parse()

    def parse(self) -> ast.expr:
        """Return a fresh checked tree."""
        return _parse(self)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Free names in order of first appearance: variables and parameters alike."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Name)]
        called = {id(n.func) for n in ast.walk(self.tree) if isinstance(n, ast.Call)}
        free = [n for n in found if id(n) not in called]
        return tuple(dict.fromkeys(n.id for n in sorted(free, key=lambda n: n.col_offset)))

    @cached_property
    def indexed(self) -> dict[str, tuple[int, ...]]:
        """Names that are used as ``name[i]``, with the indices."""
        found: dict[str, tuple[int, ...]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Subscript):
                name = cast(ast.Name, node.value).id
                index = cast(int, cast(ast.Constant, node.slice).value)
                found[name] = (*found.get(name, ()), index)
        return found

    @cached_property
    def whole(self) -> frozenset[str]:
        """Names that are used by themselves, not as ``name[i]``."""
        inside = {id(n.value) for n in ast.walk(self.tree) if isinstance(n, ast.Subscript)}
        return frozenset(
            n.id
            for n in ast.walk(self.tree)
            if isinstance(n, ast.Name) and n.id in self.names and id(n) not in inside
        )

    def evaluate(self, values: Mapping[str, Tensor | float]) -> Tensor:
        """Return the value for tensors or numbers given by name; numbers become float64.

        Raises
        ------
        InputError
            A name has no value.
        """
        missing = [n for n in self.names if n not in values]
        if missing:
            raise InputError(f"the formula {self.body!r} needs values for {', '.join(missing)}.")
        given = [values[n] for n in self.names]
        tensors = [
            v
            if isinstance(v, Tensor)
            else torch.tensor(float(v), dtype=torch.float64, device="cpu")
            for v in given
        ]
        value = cast(Tensor | float, self.function(self.names)(*tensors))
        return (
            value
            if isinstance(value, Tensor)
            else torch.tensor(value, dtype=torch.float64, device="cpu")
        )

    def function(
        self, arguments: Sequence[str], columns: Mapping[str, int | None] | None = None
    ) -> Callable[..., Tensor]:
        """Return a Python function ``f(*arguments)``; the same object for the same question.

        Parameters
        ----------
        arguments : sequence of str
            Names of the arguments, in order.
        columns : mapping of str to int or None
            Names that stand for the argument ``x`` (None) or for ``x[i]`` (i).
        """
        return _function(self, tuple(arguments), tuple((columns or {}).items()))


def _split(text: str) -> tuple[str | None, int]:
    """Return the names before a single ``=``, and where the right side begins."""
    left, equals, right = text.partition("=")
    if not equals or right.startswith("=") or left[-1:] in "<>!":
        return None, 0
    if left.count("(") != left.count(")"):
        return None, 0
    names = [name.strip() for name in left.split(",")]
    if any(not name.isidentifier() or keyword.iskeyword(name) for name in names):
        refuse(text, 0, len(left.rstrip()), "left of `=` only names may stand, as in y = ...")
    if not right.strip():
        refuse(text, len(text) - 1, len(text), "nothing stands right of `=`.")
    return ", ".join(names), len(left) + 1


def _parse(formula: Formula) -> ast.expr:
    """Return a fresh checked tree, in which every node knows its place in the text (in bytes)."""
    text, source = formula.text, formula.source
    try:
        with warnings.catch_warnings():
            # Python warns of numbers that run into words, which are refused as names.
            warnings.simplefilter("ignore")
            tree = ast.parse(source.python.rstrip(), mode="eval").body
        _move(tree, text, source)
        return _Checker(text, formula.known).whole(tree)
    except SyntaxError as e:
        last = len(source.python) - 1
        column = source.places[min(max((e.offset or 1) - 1, 0), max(last, 0))]
        column = min(column, len(text) - 1)
        refuse(text, column, column + 1, _syntax_hint(text, column, e.msg))
    except (RecursionError, MemoryError):
        raise InputError("the formula is nested too deeply.") from None


def _move(tree: ast.expr, text: str, source: Source) -> None:
    """Write into every node the bytes of the text that it comes from."""
    bytes_before = [0]
    for character in text:
        bytes_before.append(bytes_before[-1] + len(character.encode()))
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.keyword):
            node.lineno = node.end_lineno = 1
            node.col_offset = bytes_before[source.place(node.col_offset)]
            node.end_col_offset = bytes_before[source.place(node.end_col_offset or 0)]


def _syntax_hint(text: str, column: int, message: str) -> str:
    word = text[column:].split(" ")[0].split("*")[0].split(")")[0]
    for name in (word, *text.replace("*", " ").replace("-", " ").replace("+", " ").split()):
        if keyword.iskeyword(name):
            return f"{name!r} is a word of Python; choose another name, such as '{name[:3]}_'."
    if "decimal literal" in message or "forgot a comma" in message or message == "invalid syntax":
        return "not understood. Write every operator, as in 2*x and a*(x - b)."
    return f"{message}."


class _Checker(ast.NodeTransformer):
    """Lets through what is listed, folds constants to floats, refuses the rest."""

    def __init__(self, text: str, known: tuple[str, ...]) -> None:
        self.text = text
        self.known = known
        self.called: frozenset[str] = frozenset()

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        start = getattr(node, "col_offset", 0)
        stop = getattr(node, "end_col_offset", start + 1)
        refuse(self.text, self._character(start), self._character(stop), reason)

    def _character(self, byte: int) -> int:
        """Columns of the tree count bytes; the user counts characters."""
        return len(self.text.encode()[:byte].decode(errors="ignore"))

    def whole(self, tree: ast.expr) -> ast.expr:
        """Check a whole formula, in which commas part the values of several responses."""
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        self.called = frozenset(f.id for f in calls if isinstance(f, ast.Name))
        if not isinstance(tree, ast.Tuple):
            return self.value(tree)
        if len(tree.elts) < 2:
            self.refuse(tree, "a comma stands between two values, as in a*x, b*x.")
        values = [self.value(value) for value in tree.elts]
        if all(isinstance(value, ast.Constant) for value in values):
            self.refuse(tree, "these are numbers only.")
        return _call(STACKED, values, tree)

    def value(self, node: ast.expr) -> ast.expr:
        """Check what stands where a number is wanted; of a comparison that is 1 or 0."""
        checked = self.visit(node)
        return _call(TRUTH, [checked], checked) if isinstance(checked, ast.Compare) else checked

    def generic_visit(self, node: ast.AST) -> ast.AST:
        self.refuse(node, f"{_WORDS.get(type(node), 'this')} is not allowed in a formula.")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"{node.value!r} is not a number.")
        written = self.text.encode()[node.col_offset : node.end_col_offset].decode()
        if written[0] in ".0123456789" and not _DECIMAL.fullmatch(written):
            self.refuse(node, f"write the number {node.value} in digits, as in 12 or 1.5e-3.")
        return self.number(node, lambda: float(cast(float, node.value)))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.known:
            return node
        if node.id in CONSTANTS:
            return ast.copy_location(ast.Constant(CONSTANTS[node.id]), node)
        if node.id in NO_PARAMETER:
            self.refuse(node, NO_PARAMETER[node.id])
        if node.id in FUNCTIONS and (node.id not in ALSO_NAMES or node.id in self.called):
            self.refuse(node, f"{node.id!r} is a function: write {node.id}(...).")
        if node.id.startswith("__"):
            self.refuse(node, f"the name {node.id!r} is not allowed in a formula.")
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not isinstance(node.op, _ARITHMETIC):
            self.refuse(node, "this operator is not allowed; use + - * / **.")
        node.left, node.right = self.value(node.left), self.value(node.right)
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            a, b = cast(float, node.left.value), cast(float, node.right.value)
            return self.number(node, lambda: _FOLD[type(node.op)](a, b))
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if not isinstance(node.op, ast.UAdd | ast.USub):
            self.refuse(node, "only + and - may stand before a value.")
        node.operand = self.value(node.operand)
        if isinstance(node.operand, ast.Constant):
            value = cast(float, node.operand.value)
            return self.number(node, lambda: -value if isinstance(node.op, ast.USub) else value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if len(node.ops) != 1 or not isinstance(node.ops[0], _COMPARISONS):
            self.refuse(node, "compare two values at a time, as in where(x < b, 0, 1).")
        node.left = self.value(node.left)
        node.comparators = [self.value(node.comparators[0])]
        if isinstance(node.left, ast.Constant) and isinstance(node.comparators[0], ast.Constant):
            self.refuse(node, "this compares two numbers.")
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        index = node.slice
        fine = isinstance(node.value, ast.Name) and isinstance(index, ast.Constant)
        if not fine or type(cast(ast.Constant, index).value) is not int:
            self.refuse(node, "only name[number] is allowed, as in x[0].")
        name = cast(ast.Name, node.value)
        if name.id in CONSTANTS and name.id not in self.known:
            self.refuse(node, f"{name.id} is a number and has no parts.")
        node.value = self.visit(name)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Name):
            self.refuse(node.func, "only the functions of formulas can be called.")
        name = node.func.id
        if name not in FUNCTIONS:
            self.refuse(node.func, f"unknown function {name!r}. {_hint(name)}")
        if node.keywords or len(node.args) != ARITY[name]:
            count = ARITY[name]
            self.refuse(node, f"{name} takes {count} value{'s' * (count > 1)}, without names.")
        chosen = name == "where"
        if chosen and not isinstance(node.args[0], ast.Compare):
            self.refuse(node.args[0], "where needs a comparison first, as in where(x < b, 0, 1).")
        conditions = [self.visit(a) for a in node.args[:chosen]]
        node.args = conditions + [self.value(a) for a in node.args[chosen:]]
        if all(isinstance(a, ast.Constant) for a in node.args):
            values = [
                torch.tensor(cast(ast.Constant, a).value, dtype=torch.float64, device="cpu")
                for a in node.args
            ]
            return self.number(node, lambda: float(NAMESPACE[name](*values)))
        return node

    def number(self, node: ast.expr, value: Callable[[], Any]) -> ast.AST:
        """Replace a constant expression by its value, which must be a finite number."""
        try:
            result = value()
        except (ZeroDivisionError, OverflowError, RuntimeError) as e:
            self.refuse(node, f"this is not a finite number ({str(e).splitlines()[0]}).")
        if not isinstance(result, float) or not math.isfinite(result):
            self.refuse(node, "this is not a finite real number.")
        return ast.copy_location(ast.Constant(result), node)


_WORDS: dict[type, str] = {
    ast.Attribute: "an attribute (a dot after a name)",
    ast.BoolOp: "`and` / `or`",
    ast.Dict: "a dictionary",
    ast.IfExp: "`if ... else` (use where(condition, value, other))",
    ast.Lambda: "a function",
    ast.List: "a list",
    ast.Tuple: "a comma inside brackets",
    ast.NamedExpr: "an assignment",
}


def _hint(name: str) -> str:
    """Say what to write for a function that there is not."""
    if name in INSTEAD:
        return f"Write {INSTEAD[name]}."
    if name in NO_PARAMETER or name in CONSTANTS or len(name) < 3:
        return f"Write every product with *, as in {name}*(...)."
    close = difflib.get_close_matches(name, FUNCTIONS, 1, 0.75)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(sorted(FUNCTIONS))}."


def _call(name: str, args: list[Any], at: ast.expr) -> ast.expr:
    function = ast.copy_location(ast.Name(name, ast.Load()), at)
    return ast.copy_location(ast.Call(function, args, []), at)


class _Bind(ast.NodeTransformer):
    """Writes ``x`` or ``x[i]`` for the names of columns, at the place of the name."""

    def __init__(self, columns: Mapping[str, int | None]) -> None:
        self.columns = columns

    def visit_Call(self, node: ast.Call) -> ast.AST:
        args = [self.visit(a) for a in node.args]
        return ast.copy_location(ast.Call(node.func, args, []), node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.columns:
            return node
        x = ast.copy_location(ast.Name("x", ast.Load()), node)
        index = self.columns[node.id]
        if index is None:
            return x
        return ast.copy_location(ast.Subscript(x, ast.Constant(index), ast.Load()), node)


class _Limits(ast.NodeTransformer):
    """Writes products in which a logarithm of x meets what may vanish, so that they are 0 there."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        factors = _factors(node)
        for k, factor in enumerate(factors):
            others = factors[:k] + factors[k + 1 :]
            if _is_log_of_x(factor) and any(map(_uses_x, others)):
                product = others[0]
                for other in others[1:]:
                    product = ast.copy_location(ast.BinOp(product, ast.Mult(), other), node)
                call = cast(ast.Call, factor)
                scale = ast.copy_location(ast.Constant(LOGARITHMS[_name(call)]), node)
                args = [self.visit(product), self.visit(call.args[0]), scale]
                return _call(TIMES_LOG, args, node)
        self.generic_visit(node)
        return node


def _factors(node: ast.expr) -> list[ast.expr]:
    """Return the factors of a product, in their order."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _factors(node.left) + _factors(node.right)
    return [node]


def _uses_x(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "x" for n in ast.walk(node))


def _is_log_of_x(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node) in LOGARITHMS and _uses_x(node)


def _name(call: ast.Call) -> str:
    return cast(ast.Name, call.func).id


@lru_cache(maxsize=256)
def _function(
    formula: Formula, arguments: tuple[str, ...], columns: tuple[tuple[str, int | None], ...]
) -> Callable[..., Tensor]:
    try:
        body = _Limits().visit(_Bind(dict(columns)).visit(formula.parse()))
        signature = ast.arguments([], [ast.arg(a) for a in arguments], None, [], [], None, [])
        whole = ast.fix_missing_locations(ast.Expression(ast.Lambda(signature, body)))
        name = f"<formula {formula.text}>"
        outer = compile(whole, name, "eval")
    except (RecursionError, MemoryError):
        raise InputError("the formula is nested too deeply.") from None
    linecache.cache[name] = (len(formula.text), None, [formula.text], name)
    code = next(c for c in outer.co_consts if isinstance(c, CodeType))
    return FunctionType(code, NAMESPACE, formula.body)
