"""What a chapter is made of, before anyone sets it for a screen or a page.

In prose, what stands between backquotes is code.
"""

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeAlias


class Prose(NamedTuple):
    """A paragraph."""

    text: str


class Formula(NamedTuple):
    """A formula, as one line of text and as the inner part of a MathML element."""

    text: str
    mathml: str


class Code(NamedTuple):
    """Lines of Python."""

    text: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """Show a function as it stands, without its docstring and the types of its arguments."""
        (tree,) = ast.parse(inspect.getsource(function)).body
        if not isinstance(tree, ast.FunctionDef):
            raise TypeError(f"{function} is no plain function")
        tree.body, tree.returns = tree.body[1:], None
        for argument in (*tree.args.args, *tree.args.kwonlyargs):
            argument.annotation = None
        return cls(ast.unparse(tree))


class Said(NamedTuple):
    """What the library itself says, word for word."""

    call: str
    text: str


class Table(NamedTuple):
    """Rows under a heading; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A picture as SVG that takes its colours from the page, with what it shows in words."""

    svg: str
    caption: str


Block: TypeAlias = Prose | Formula | Code | Said | Table | Picture


class Chapter(NamedTuple):
    """A title and what stands below it."""

    title: str
    blocks: Sequence[Block]
