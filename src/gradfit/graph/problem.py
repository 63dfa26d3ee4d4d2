"""One thing that went wrong in a run: what, where it began, and what to write instead."""

from dataclasses import dataclass
from typing import Literal

from gradfit.graph.record import Node, Source

ProblemKind = Literal[
    "nan", "inf", "zero", "none", "cut", "overwritten", "freed", "uncleared", "failed"
]


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong, at the place where it began.

    Attributes
    ----------
    kind : {"nan", "inf", "zero", "none", "cut", "overwritten", "freed", "uncleared", "failed"}
        ``cut`` is a note: one of several paths to the result does not carry a gradient, which may
        be meant (a target, a straight-through estimator).
    phase : {"forward", "backward"}
        Whether the value or the gradient is concerned.
    node : int or None
        The node where it began.
    message, remedy : str
        What happened, and what to do.
    source : Source or None
    """

    kind: ProblemKind
    phase: Literal["forward", "backward"]
    node: int | None
    message: str
    remedy: str
    source: Source | None = None

    @property
    def line(self) -> int | None:
        """The line where it began."""
        return self.source.line if self.source else None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.message}. {self.remedy[:1].upper()}{self.remedy[1:]}."


class Problems(tuple[Problem, ...]):
    """All problems of a graph, forward first; empty (and false) when there are none."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no problems found"

    __repr__ = __str__


def line_of(node: Node) -> int | str:
    """Return the line where an operation was written, for a sentence."""
    return node.source.line if node.source else "?"
