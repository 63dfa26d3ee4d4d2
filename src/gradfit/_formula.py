"""Formulas as text, parsed by a whitelist and turned into functions of tensors.

Only arithmetic, comparisons, numbers, names, ``name[0]`` and calls of the functions listed here get
through; everything else is refused with its position. What got through is compiled from the checked
syntax tree, under a file name that :mod:`linecache` knows, so that a traced formula shows its own
text, column by column.
"""

import ast
import builtins
import difflib
import keyword
import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from types import CodeType, FunctionType
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from gradfit.errors import InputError

LONGEST = 10_000
CONSTANTS = {"pi": math.pi, "e": math.e}


def _beside(like: Tensor, value: Any) -> Tensor:
    """Return a tensor as it is, and a number as a tensor of the same kind as ``like``."""
    __tracebackhide__ = True
    return value if isinstance(value, Tensor) else like.new_tensor(value)


def _first_tensor(values: Sequence[Any]) -> Tensor:
    return next(v for v in values if isinstance(v, Tensor))


# What these call shows in a traced graph as the call in the formula; a comprehension would be a
# place of its own.
def _lifted(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function of tensors take numbers beside them: ``maximum(x, 0)``."""

    def call(*args: Any) -> Tensor:
        __tracebackhide__ = True
        return fn(*map(partial(_beside, _first_tensor(args)), args))

    return call


def _where(condition: Tensor, value: Any, other: Any) -> Tensor:
    """Choose between tensors or numbers; two numbers alone would come out in single precision."""
    __tracebackhide__ = True
    tensors = [v for v in (value, other) if isinstance(v, Tensor)]
    like = tensors[0] if tensors else condition.new_empty(0, dtype=torch.float64)
    return torch.where(condition, _beside(like, value), _beside(like, other))


def _stacked(*values: Any) -> Tensor:
    """Return values, of which some may be numbers, as rows of one tensor."""
    __tracebackhide__ = True
    rows = tuple(map(partial(_beside, _first_tensor(values)), values))
    if len({row.shape for row in rows}) > 1:
        rows = torch.broadcast_tensors(*rows)
    return torch.stack(rows)


_ELEMENTWISE = """
    abs acos acosh arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh ceil cos cosh
    deg2rad digamma erf erfc erfinv exp exp2 expm1 floor lgamma log log10 log1p log2 logit rad2deg
    sigmoid sign sin sinc sinh sqrt square tan tanh
"""
_ONE: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in _ELEMENTWISE.split()},
    "i0": torch.special.i0,
    "i1": torch.special.i1,
    "softplus": torch.nn.functional.softplus,
}
_STACKED = "(several)"
"""What a formula of several values calls; no name that a user could write."""
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "sum": torch.sum}
_SEVERAL: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "arctan2": (2, _lifted(torch.atan2)),
    "atan2": (2, _lifted(torch.atan2)),
    "clamp": (3, _lifted(torch.clamp)),
    "hypot": (2, _lifted(torch.hypot)),
    "maximum": (2, _lifted(torch.maximum)),
    "minimum": (2, _lifted(torch.minimum)),
    "where": (3, _where),
}
_ARITY = dict.fromkeys([*_ONE, *_REDUCTIONS], 1) | {k: n for k, (n, _) in _SEVERAL.items()}
_NAMESPACE: dict[str, Any] = {
    # For imports that torch makes on behalf of its caller; no name of a formula reaches them.
    "__builtins__": builtins,
    **_ONE,
    **_REDUCTIONS,
    **{k: fn for k, (_, fn) in _SEVERAL.items()},
    _STACKED: _stacked,
}
FUNCTIONS = frozenset(_ARITY)
"""Names that a formula may call."""
ALSO_NAMES = frozenset({"i0", "i1", "mean", "sum"})
"""Those that are parameters where a formula does not call them: currents, a mean, a total."""

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
        :attr:`target` and otherwise ignored. Python's operators; ``pi`` and ``e`` are constants.
        With commas, as in ``"a*x, b*x"``, it has several values, the rows of one tensor.

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
    target: str | None = field(init=False, compare=False)
    body: str = field(init=False, compare=False, repr=False)
    offset: int = field(init=False, compare=False, repr=False)

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
        # Parsing here means that a Formula that exists is a valid one.
        _ = self.tree

    def __reduce__(self) -> tuple[Any, ...]:
        return Formula, (self.text,)

    @cached_property
    def tree(self) -> ast.expr:
        """The checked syntax tree: constants folded, positions those of the text."""
        return _parse(self.text, self.offset)

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
            v if isinstance(v, Tensor) else torch.tensor(float(v), dtype=torch.float64)
            for v in given
        ]
        value = cast(Tensor | float, self.function(self.names)(*tensors))
        return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)

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


def refuse(text: str, start: int, stop: int, reason: str) -> NoReturn:
    """Raise an InputError of one line, with a note that points at ``text[start:stop]``."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    error = InputError(f"formula {shown!r}, column {start + 1}: {reason}")
    error.add_note(f"    {text}\n    {' ' * start}{'^' * max(1, stop - start)}")
    raise error from None


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


def _parse(text: str, offset: int) -> ast.expr:
    """Return a fresh checked tree of what stands behind ``offset``."""
    # Blanks instead of the left side keep every column (of bytes) where the user sees it.
    left = len(text[:offset].encode())
    source = f"({' ' * (left - 1)}{text[offset:]})" if left else text
    try:
        return _Checker(text).whole(ast.parse(source, mode="eval").body)
    except SyntaxError as e:
        column = min(max((e.offset or 1) - 1, 0), len(text) - 1)
        refuse(text, column, column + 1, _syntax_hint(text, column, e.msg))
    except (RecursionError, MemoryError):
        raise InputError("the formula is nested too deeply.") from None


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

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        start = getattr(node, "col_offset", 0)
        # Columns of the tree count bytes; the user counts characters.
        encoded = self.text.encode()
        first = len(encoded[:start].decode(errors="ignore"))
        last = len(encoded[: getattr(node, "end_col_offset", start + 1)].decode(errors="ignore"))
        refuse(self.text, first, last, reason)

    def whole(self, tree: ast.expr) -> ast.expr:
        """Check a whole formula, in which commas part the values of several responses."""
        if not isinstance(tree, ast.Tuple):
            return self.visit(tree)
        if len(tree.elts) < 2:
            self.refuse(tree, "a comma stands between two values, as in a*x, b*x.")
        values = [self.visit(value) for value in tree.elts]
        if all(isinstance(value, ast.Constant) for value in values):
            self.refuse(tree, "these are numbers only.")
        several = ast.copy_location(ast.Name(_STACKED, ast.Load()), tree)
        return ast.copy_location(ast.Call(several, values, []), tree)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        self.refuse(node, f"{_WORDS.get(type(node), 'this')} is not allowed in a formula.")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"{node.value!r} is not a number.")
        return self.number(node, lambda: float(cast(float, node.value)))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in CONSTANTS:
            return ast.copy_location(ast.Constant(CONSTANTS[node.id]), node)
        if node.id in FUNCTIONS and (node.id not in ALSO_NAMES or f"{node.id}(" in self.text):
            self.refuse(node, f"{node.id!r} is a function: write {node.id}(...).")
        if node.id.startswith("__"):
            self.refuse(node, f"the name {node.id!r} is not allowed in a formula.")
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.BitXor):
            before = self.text.encode()[: self.text.encode().index(b"^", node.left.end_col_offset)]
            column = len(before.decode())
            refuse(self.text, column, column + 1, "`^` is no power in Python; use **.")
        if not isinstance(node.op, _ARITHMETIC):
            self.refuse(node, "this operator is not allowed; use + - * / **.")
        node.left, node.right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            a, b = cast(float, node.left.value), cast(float, node.right.value)
            return self.number(node, lambda: _FOLD[type(node.op)](a, b))
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if not isinstance(node.op, ast.UAdd | ast.USub):
            self.refuse(node, "only + and - may stand before a value.")
        node.operand = self.visit(node.operand)
        if isinstance(node.operand, ast.Constant):
            value = cast(float, node.operand.value)
            return self.number(node, lambda: -value if isinstance(node.op, ast.USub) else value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if len(node.ops) != 1 or not isinstance(node.ops[0], _COMPARISONS):
            self.refuse(node, "compare two values at a time, as in where(x < b, 0, 1).")
        node.left = self.visit(node.left)
        node.comparators = [self.visit(node.comparators[0])]
        if isinstance(node.left, ast.Constant) and isinstance(node.comparators[0], ast.Constant):
            self.refuse(node, "this compares two numbers.")
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        index = node.slice
        fine = isinstance(node.value, ast.Name) and isinstance(index, ast.Constant)
        if not fine or type(cast(ast.Constant, index).value) is not int:
            self.refuse(node, "only name[number] is allowed, as in x[0].")
        node.value = self.visit(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Name):
            self.refuse(node.func, "only the functions of formulas can be called.")
        name = node.func.id
        if name not in FUNCTIONS:
            close = difflib.get_close_matches(name, FUNCTIONS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {_listing()}."
            self.refuse(node.func, f"unknown function {name!r}. {hint}")
        if node.keywords or len(node.args) != _ARITY[name]:
            count = _ARITY[name]
            self.refuse(node, f"{name} takes {count} value{'s' * (count > 1)}, without names.")
        node.args = [self.visit(a) for a in node.args]
        if name == "where" and not isinstance(node.args[0], ast.Compare):
            self.refuse(node.args[0], "where needs a comparison first, as in where(x < b, 0, 1).")
        if all(isinstance(a, ast.Constant) for a in node.args):
            values = [
                torch.tensor(cast(ast.Constant, a).value, dtype=torch.float64) for a in node.args
            ]
            return self.number(node, lambda: float(_NAMESPACE[name](*values)))
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


def _listing() -> str:
    return ", ".join(sorted(FUNCTIONS))


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


@lru_cache(maxsize=256)
def _function(
    formula: Formula, arguments: tuple[str, ...], columns: tuple[tuple[str, int | None], ...]
) -> Callable[..., Tensor]:
    body = _Bind(dict(columns)).visit(_parse(formula.text, formula.offset))
    signature = ast.arguments([], [ast.arg(a) for a in arguments], None, [], [], None, [])
    whole = ast.fix_missing_locations(ast.Expression(ast.Lambda(signature, body)))
    name = f"<formula {formula.text}>"
    linecache.cache[name] = (len(formula.text), None, [formula.text], name)
    outer = compile(whole, name, "eval")
    code = next(c for c in outer.co_consts if isinstance(c, CodeType))
    return FunctionType(code, _NAMESPACE, formula.body)
