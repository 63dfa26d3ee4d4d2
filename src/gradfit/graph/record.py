"""What a trace keeps: plain, frozen values that outlive the tensors they came from.

Nothing here holds a tensor that needs a gradient, so a graph can be pickled, compared and drawn
long after the run that made it.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit.graph.values import Snapshot

Kind = Literal["leaf", "constant", "op", "read", "hidden"]


@dataclass(frozen=True)
class Source:
    """Where an operation was written.

    Lines count from 1, columns from 0, as in Python's tracebacks; ``end_col`` is exclusive.

    Attributes
    ----------
    expr : str
        The exact sub-expression that ran, ``"a*x - y"``; empty when the source cannot be read.
    statement : str
        The whole statement around it; with its first and last line.
    target : str or None
        The name that the statement gives to this very sub-expression.
    is_whole_rhs : bool
        Whether the sub-expression is all that is assigned or returned.
    function : str
        Name of the function the line is in.
    """

    file: str
    line: int
    end_line: int
    col: int
    end_col: int
    expr: str
    statement: str
    statement_line: int
    statement_end_line: int
    function: str
    is_whole_rhs: bool = False
    target: str | None = None


@dataclass(frozen=True)
class Edge:
    """One tensor input of a node.

    Attributes
    ----------
    source : int
        Number of the node that the tensor came from.
    slot : int
        Its place among the tensor inputs.
    part : Snapshot or None
        What this use adds to the gradient of the source; ``None`` when nothing came back.
    flows : bool
        Whether a gradient can flow here.
    """

    source: int
    slot: int
    part: Snapshot | None = None
    flows: bool = False


class Ref(NamedTuple):
    """Stands for a recorded tensor inside the arguments of a :class:`Call`."""

    node: int


def references(value: Any) -> Iterator[int]:
    """Yield the node of every reference in nested arguments, in order."""
    if isinstance(value, Ref):
        yield value.node
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        yield from references(list(value.values()))
    elif isinstance(value, slice):
        yield from references([value.start, value.stop, value.step])


@dataclass(frozen=True, eq=False)
class Call:
    """How to run an operation again: the function, and its arguments with tensors as references."""

    name: str
    func: Callable[..., Any] | None = field(repr=False)
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    random_state: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # Functions of the user's session seldom pickle; what torch names is found again by name.
        state = {**self.__dict__, "func": None}
        try:
            pickle.dumps((self.args, self.kwargs))
        except (pickle.PicklingError, TypeError, AttributeError):
            state |= {"args": (), "kwargs": {}}
        return state


@dataclass(frozen=True)
class Failed:
    """Where a function that was traced raised.

    Attributes
    ----------
    op : str
        The operation of torch that raised; empty where Python code did.
    error : str
        The type of the exception, and what it says.
    inputs : tuple of int
        The nodes that went into the operation.
    source : Source or None
    line : int or None
        The line of the user's code, also where no operation of torch was at work.
    none_grads : tuple of (int, int or None)
        Tensors whose ``.grad`` was read and was None, each with the line of the reading.
    """

    op: str
    error: str
    inputs: tuple[int, ...] = ()
    source: Source | None = None
    line: int | None = None
    none_grads: tuple[tuple[int, int | None], ...] = ()


@dataclass(frozen=True)
class Custom:
    """A custom ``autograd.Function``: its name, and its own forward and backward as written."""

    name: str
    forward: str
    backward: str
    file: str | None = None
    forward_line: int | None = None
    backward_line: int | None = None


@dataclass(frozen=True)
class Node:
    """One tensor of the run, or one place where Python looked at a number.

    A tensor that is changed in place is one node for each version of it.

    Attributes
    ----------
    id : int
        Its number in the graph; inputs always have smaller ones.
    kind : {"leaf", "constant", "op", "read", "hidden"}
        ``leaf``: requires grad and was not computed here. ``constant``: came in from outside, or
        was made here from nothing, and needs no gradient. ``op``: computed by an operation.
        ``read``: Python looked at the value (``if loss > 0``, ``.item()``); no tensor comes out.
        ``hidden``: computed where the trace cannot look (compiled code, ``vmap``, C++).
    name : str or None
        The variable that holds it.
    op : str
        The operation as written: ``"*"``, ``"mean"``, ``"Cube.apply"``; empty for leaves.
    value, grad : Snapshot or None
        The forward value; the gradient of the (summed) result with respect to it, ``None`` when no
        gradient came back. An operation with several outputs has neither: each output is a node.
    parts : dict
        What each use adds to ``grad``, by the text of the use: ``{"a*x": -16.59, "a**2": -12.36}``.
    requires_grad, reason
        Whether a gradient is tracked, and why or why not, in words.
    inputs : tuple of Edge
    writes : int or None
        The node that this one overwrote in place (the earlier version of the same tensor).
    view_of : int or None
        The node whose memory it shares.
    output : int or None
        Its place among the outputs of the operation before it, where that has several.
    version : int
        How often its memory had been written.
    in_no_grad : bool
        Whether it was computed while recording was off.
    read_answer : str or None
        What a ``read`` returned: ``"True"``, ``"0.5"``.
    answer : object
        The same as Python got it.
    stale_grad : Snapshot or None
        What a leaf's ``.grad`` already held when the leaf was first used.
    saved_overwritten : tuple of str
        Values that the backward needs but that were overwritten: ``("result",)``.
    module : str or None
        Path of the ``nn.Module`` whose code ran: ``"layers.3"``.
    frame : int
        Number of the function call that the statement belongs to, for folding by statement.
    autograd_nodes : tuple of str
        Autograd's own nodes behind it: ``("MulBackward0",)``.
    kernels : tuple of str
        ATen operations that its backward runs; filled in by ``Graph.with_kernels()``.
    """

    id: int
    kind: Kind
    op: str = ""
    name: str | None = None
    value: Snapshot | None = None
    grad: Snapshot | None = None
    parts: Mapping[str, Snapshot] = field(default_factory=dict)
    requires_grad: bool = False
    reason: str = ""
    source: Source | None = None
    inputs: tuple[Edge, ...] = ()
    writes: int | None = None
    view_of: int | None = None
    output: int | None = None
    version: int = 0
    in_no_grad: bool = False
    read_answer: str | None = None
    answer: Any = field(default=None, compare=False, repr=False)
    stale_grad: Snapshot | None = None
    saved_overwritten: tuple[str, ...] = ()
    custom: Custom | None = None
    module: str | None = None
    frame: int = 0
    autograd_nodes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    is_result: bool = False
    call: Call | None = field(default=None, repr=False, compare=False)

    @property
    def adds_up(self) -> bool:
        """Whether the parts add up to the gradient; a hook of the user may have changed it."""
        if self.grad is None or self.grad.values is None or self.is_result:
            return True
        parts = [part.values for part in self.parts.values() if part.values is not None]
        if len(parts) < max(len(self.parts), 1):
            return True
        close = 1e-9 if self.grad.dtype in ("float64", "complex128") else 1e-2
        size = max(float(np.abs(part).max(initial=0)) for part in parts)
        total = sum(part.astype(np.complex128) for part in parts)
        return np.allclose(total, self.grad.values, close, close * size, equal_nan=True)

    @property
    def is_end(self) -> bool:
        """Whether gradients end here: a leaf, or what came in already computed."""
        return self.kind == "leaf" or (self.kind == "hidden" and not self.inputs)

    @property
    def expr(self) -> str:
        """The sub-expression as written, or an empty string."""
        return self.source.expr if self.source else ""

    @property
    def label(self) -> str:
        """The shortest thing a reader knows it by: its name, else its expression, else the op."""
        return self.name or self.expr or self.op or f"#{self.id}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        plain = {k: v for k, v in self.__dict__.items() if k not in _OWN_FORM}
        return {
            **plain,
            "label": self.label,
            "expr": self.expr,
            "value": _as_dict(self.value),
            "grad": _as_dict(self.grad),
            "stale_grad": _as_dict(self.stale_grad),
            "parts": {text: part.to_dict() for text, part in self.parts.items()},
            "source": dict(self.source.__dict__) if self.source else None,
            "custom": dict(self.custom.__dict__) if self.custom else None,
            "inputs": [{**edge.__dict__, "part": _as_dict(edge.part)} for edge in self.inputs],
        }

    def with_(self, **changes: Any) -> "Node":
        """Return a copy with some fields changed."""
        return replace(self, **changes)


_OWN_FORM = {"value", "grad", "stale_grad", "parts", "source", "custom", "inputs", "call", "answer"}


def _as_dict(value: Snapshot | None) -> dict[str, Any] | None:
    return None if value is None else value.to_dict()
