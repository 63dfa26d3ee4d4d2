"""From a running frame to the sub-expression that is being computed, as it was written.

Python keeps columns for every instruction; together with the parsed file they give the exact
sub-expression, its operator, the variable it is assigned to, and the variables it is made of.
"""

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

from gradfit.graph.record import Source

Position = tuple[int, int, int, int]  # line, end line, column, end column (in bytes)


class Path(NamedTuple):
    """A variable or a part of one that can be looked up without running any code: ``p["a"][0]``."""

    text: str
    root: str
    steps: tuple[tuple[str, Any], ...]

    def look_up(self, frame: FrameType) -> Any:
        """Return the object, or None when there is none or finding it would run user code."""
        found = frame.f_locals.get(self.root, frame.f_globals.get(self.root))
        for kind, key in self.steps:
            found = _attribute(found, key) if kind == "attribute" else _item(found, key)
        return found


class Site(NamedTuple):
    """All that can be said about one place in the source.

    Attributes
    ----------
    source : Source
    symbol : str or None
        The operator, where there is one: ``"*"``, ``"[]"``.
    targets : tuple of str or None
        The names that a tuple is unpacked into.
    operands : tuple of Path
        Variables that stand directly in the sub-expression.
    calls : tuple of Source
        Calls that stand directly in it.
    """

    source: Source
    symbol: str | None = None
    targets: tuple[str | None, ...] = ()
    operands: tuple[Path, ...] = ()
    calls: tuple[Source, ...] = ()


def site(frame: FrameType) -> Site:
    """Return what is known about the instruction that a frame is at."""
    return _site(frame.f_code.co_filename, frame.f_code, frame.f_lasti)


@lru_cache(maxsize=8192)
def _site(file: str, code: CodeType, lasti: int) -> Site:
    position = _position(code, lasti)
    lines = linecache.getlines(file)
    tree = _Tree.of(file, "".join(lines)) if lines else None
    node = tree.at(position) if tree else None
    if tree is None or node is None:
        line, end_line, col, end_col = position
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        bare = Source(file, line, end_line, col, end_col, "", text, line, line, code.co_qualname)
        return Site(bare)
    return tree.describe(node, code.co_qualname)


def _position(code: CodeType, lasti: int) -> Position:
    for index, (line, end_line, col, end_col) in enumerate(code.co_positions()):
        if index == lasti // 2 and line is not None:
            return line, end_line or line, col or 0, end_col or 0
    return code.co_firstlineno, code.co_firstlineno, 0, 0


def _attribute(found: Any, name: str) -> Any:
    held: dict[str, Any] = getattr(found, "__dict__", {})
    for table in (held, held.get("_parameters"), held.get("_buffers"), held.get("_modules")):
        if isinstance(table, dict) and name in table:
            return table[name]
    return None


def _item(found: Any, key: Any) -> Any:
    if type(found) is dict:
        return found.get(key)
    if type(found) in (list, tuple) and isinstance(key, int) and -len(found) <= key < len(found):
        return found[key]
    return None


class _Tree:
    """A parsed file, to be asked by position."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = [line.encode() for line in text.splitlines()]
        self.parents: dict[ast.AST, ast.AST] = {}
        self.by_position: dict[Position, ast.AST] = {}
        root = ast.parse(text)
        for node in ast.walk(root):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, (ast.expr, ast.stmt)):
                self.by_position.setdefault(_span(node), node)

    @staticmethod
    @lru_cache(maxsize=64)
    def of(file: str, text: str) -> "_Tree | None":
        try:
            return _Tree(file, text)
        except SyntaxError:
            return None

    def at(self, position: Position) -> ast.AST | None:
        """Return the node at a position; an assignment's target stands for the assignment."""
        node = self.by_position.get(position)
        if isinstance(node, ast.Expr):
            return node.value
        if isinstance(getattr(node, "ctx", None), ast.Store) and node is not None:
            parent = self.parents[node]
            unpacks = isinstance(node, (ast.Tuple, ast.List))
            if isinstance(parent, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
                return parent.value if unpacks and parent.value is not None else parent
        return node

    def describe(self, node: ast.AST, function: str) -> Site:
        calls = [part for part in _parts(node) if isinstance(part, ast.Call) and part is not node]
        return Site(
            self._source(node, function),
            _symbol(node),
            self._targets(node)[1],
            tuple(self._operands(node)),
            tuple(self._source(call, function) for call in calls),
        )

    def _source(self, node: ast.AST, function: str) -> Source:
        statement = self._statement(node)
        target, _, whole = self._targets(node)
        line, end_line, col, end_col = _span(node)
        first, last, text = self._statement_text(statement)
        return Source(
            file=self.file,
            line=line,
            end_line=end_line,
            col=col,
            end_col=end_col,
            expr=_one_line(self._text(node)),
            statement=text,
            statement_line=first,
            statement_end_line=last,
            function=function,
            is_whole_rhs=whole,
            target=target,
        )

    def _text(self, node: ast.AST) -> str:
        return self._cut(_span(node))

    def _cut(self, span: Position) -> str:
        line, end_line, col, end_col = span
        rows = self.lines[line - 1 : end_line]
        rows[-1] = rows[-1][:end_col]
        rows[0] = rows[0][col:]
        return b"\n".join(rows).decode(errors="replace")

    def _statement(self, node: ast.AST) -> ast.AST:
        """Return the statement around a node, or the body of the lambda that it is in."""
        while not isinstance(node, ast.stmt):
            parent = self.parents[node]
            if isinstance(parent, ast.Lambda) and node is parent.body:
                return node
            node = parent
        return node

    def _statement_text(self, statement: ast.AST) -> tuple[int, int, str]:
        line, end_line, col, end_col = _span(statement)
        body = getattr(statement, "body", None)
        if isinstance(body, list) and body:  # of a loop or a branch only the head
            heads = [n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.expr)]
            ends = [(_span(n)[1], _span(n)[3]) for n in heads]
            end_line, end_col = max(ends, default=(line, len(self.lines[line - 1])))
        return line, end_line, _one_line(self._cut((line, end_line, col, end_col)))

    def _targets(self, node: ast.AST) -> tuple[str | None, tuple[str | None, ...], bool]:
        """Return the name given to a node, the names it is unpacked into, and if it is all."""
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.target if isinstance(node, ast.AugAssign) else None
            return self._name(target), (), True
        parent = self.parents.get(node)
        if isinstance(parent, ast.Assign) and len(parent.targets) >= 1:
            target = parent.targets[0]
            if isinstance(target, (ast.Tuple, ast.List)):
                return None, tuple(self._name(each) for each in target.elts), True
            return self._name(target), (), True
        if isinstance(parent, (ast.AnnAssign, ast.NamedExpr)) and parent.value is node:
            return self._name(parent.target), (), True
        if isinstance(parent, ast.For) and isinstance(parent.target, (ast.Tuple, ast.List)):
            return None, (), False
        whole = isinstance(parent, (ast.Return, ast.Expr, ast.Lambda))
        return None, (), whole

    def _name(self, target: ast.AST | None) -> str | None:
        return self._text(target) if isinstance(target, (ast.Name, ast.Attribute)) else None

    def _operands(self, node: ast.AST) -> Iterator[Path]:
        for part in _parts(node):
            path = _path(part)
            if path is not None:
                yield Path(_one_line(self._text(part)), *path)


def _span(node: Any) -> Position:
    line, col = node.lineno, node.col_offset
    return line, node.end_lineno or line, col, node.end_col_offset or col


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _symbol(node: ast.AST) -> str | None:
    match node:
        case ast.BinOp(op=op) | ast.UnaryOp(op=op):
            return _SYMBOLS.get(type(op))
        case ast.AugAssign(op=op):
            return f"{_SYMBOLS[type(op)]}="
        case ast.Compare(ops=[op]):
            return _SYMBOLS.get(type(op))
        case ast.Subscript():
            return "[]"
        case ast.Assign(targets=[ast.Subscript()]):
            return "[]="
        case _:
            return None


def _parts(node: ast.AST) -> list[ast.AST]:
    """Return the expressions that a node works on directly."""
    match node:
        case ast.BinOp():
            return [node.left, node.right]
        case ast.UnaryOp():
            return [node.operand]
        case ast.Compare():
            return [node.left, *node.comparators]
        case ast.Subscript():
            return [node.value, *_elements(node.slice)]
        case ast.Attribute():
            return [node.value]
        case ast.AugAssign():
            return [node.target, node.value]
        case ast.Assign(targets=[ast.Subscript() as target]):
            return [*_parts(target), node.value]
        case ast.Call():
            owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            return [*owner, *(element for value in given for element in _elements(value))]
        case _:
            return [node]


def _elements(node: ast.AST) -> list[ast.AST]:
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List)) else [node]


def _path(node: ast.AST) -> tuple[str, tuple[tuple[str, Any], ...]] | None:
    match node:
        case ast.Name(id=name):
            return name, ()
        case ast.Attribute(value=value, attr=attr):
            inner, step = _path(value), ("attribute", attr)
        case ast.Subscript(value=value, slice=ast.Constant(value=key)):
            inner, step = _path(value), ("item", key)
        case _:
            return None
    return inner and (inner[0], (*inner[1], step))


_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.USub: "-",
    ast.UAdd: "+",
    ast.Invert: "~",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def canonical(text: str) -> str:
    """Bring an expression to one spelling, so that spaces and outer brackets do not matter."""
    try:
        return ast.unparse(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:
        return text.strip()
