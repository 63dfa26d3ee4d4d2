"""The words that NumPy rules are written in: arguments, operations, and sums over broadcasts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradfit.errors import TraceError

Shape = tuple[int, ...]
View = Callable[[str], str]
"""From the text of an array to the text of a part of it that shares its memory."""


class NoRuleError(TraceError):
    """An operation cannot be written in NumPy."""


class Arg(str):
    """A tensor argument: the text of its variable, with its shape and node."""

    __slots__ = ("node", "shape")
    node: int
    shape: Shape

    @classmethod
    def of(cls, text: str, node: int, shape: Shape) -> "Arg":
        """Name an argument."""
        arg = cls(text)
        arg.node, arg.shape = node, shape
        return arg


@dataclass(frozen=True)
class Back:
    """What one output sends back to one argument.

    Either ``text``, an expression of the shape ``shape``; or, where only a part of the argument was
    taken, ``text`` goes to the place ``into`` of an array of zeros (added up where ``adds``).
    """

    arg: Arg
    text: str
    shape: Shape
    into: View | None = None
    adds: bool = False


@dataclass
class Written:
    """One output of an operation: how to compute it, and what it sends back."""

    text: str
    backs: list[Back] = field(default_factory=list)
    view: View | None = None


class Op:
    """What a rule is told, and what it fills in.

    Attributes
    ----------
    y : str
        Variable of the output.
    g : str
        Variable of its gradient.
    shape : tuple of int
        Shape of the output.
    outputs : list of Written
        Filled in by the rule.
    names : sequence of (variable, variable of its gradient, shape)
        The same for each output, where there are several.
    """

    def __init__(self, names: Sequence[tuple[str, str, Shape]]) -> None:
        self.names = names
        self.y, self.g, self.shape = names[0]
        self.outputs: list[Written] = []

    def is_(self, text: str, view: View | None = None) -> None:
        """Say how the (next) output is computed."""
        self.outputs.append(Written(text, view=view))

    def back(self, arg: Any, text: str, shape: Shape | None = None) -> None:
        """Say what the output sends back to an argument, before sums over broadcasts."""
        if isinstance(arg, Arg):
            shape = self.shape if shape is None else shape
            self.outputs[-1].backs.append(Back(arg, text, shape))

    def scatter(self, arg: Any, into: View, text: str, *, adds: bool = False) -> None:
        """Say that a value goes back to one part of an argument, and zero to the rest."""
        if isinstance(arg, Arg):
            self.outputs[-1].backs.append(Back(arg, text, arg.shape, into, adds))

    def view(self, arg: Arg, view: View, back: str | None = None) -> None:
        """Say that the output is a part of an argument; ``back`` when all of it, rearranged."""
        self.is_(view(arg), view)
        if back is None:
            self.scatter(arg, view, self.g)
        else:
            self.back(arg, back, arg.shape)


def literal(value: Any) -> str:
    """Write a number or an argument so that it can stand anywhere in an expression."""
    if isinstance(value, Arg):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return repr(value)
    if value != value or value in (float("inf"), float("-inf")):
        return "np.nan" if value != value else "np.inf" if value > 0 else "(-np.inf)"
    return repr(value) if value >= 0 else f"({value!r})"


def shape_of(value: Any) -> Shape:
    """Return the shape of an argument; a number has none."""
    return value.shape if isinstance(value, Arg) else ()


def reduced(text: str, have: Shape, want: Shape) -> str:
    """Sum an expression over what broadcasting repeated."""
    if have == want:
        return text
    lead = len(have) - len(want)
    repeated = [i for i in range(lead, len(have)) if want[i - lead] == 1 and have[i] != 1]
    axes = (*range(lead), *repeated)
    if lead < 0 or not axes:
        return f"np.broadcast_to({text}, {want})"
    if want == ():
        return f"np.sum({text})"
    total = f"np.sum({text}, axis={axes})"
    return f"{total}.reshape({want})" if repeated else total


def axes_of(dim: Any, n: int) -> tuple[int, ...]:
    """Return the axes that ``dim`` names, all of them for None, counted from the front."""
    if dim is None or dim == ():
        return tuple(range(n))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return tuple(int(d) % n for d in dims) if n else ()


def kept(text: str, shape: Shape, axes: Sequence[int]) -> str:
    """Bring back the axes that a reduction dropped, so that the text broadcasts."""
    if not shape or len(axes) == len(shape):
        return text
    return f"{text}.reshape({tuple(1 if i in axes else n for i, n in enumerate(shape))})"


Rule = Callable[..., None]

RULES: dict[str, Rule] = {}
"""Rules by the bare name of the torch function, without underscores.

A rule takes an :class:`Op` and the arguments of the torch function; tensors come as :class:`Arg`.
"""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under the names that torch has for it."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register
