"""What a trace keeps: plain, frozen values that outlive the tensors they came from.

Nothing here holds a tensor that needs a gradient, so a graph can be pickled, compared and drawn
long after the run that made it.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["leaf", "constant", "op", "read", "hidden"]


class Stats(NamedTuple):
    """Least, greatest and mean of the finite entries, and how many are not finite.

    Complex numbers are summed up by their magnitudes. All three are NaN when nothing is finite.
    """

    low: float
    high: float
    mean: float
    n_nonfinite: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Stats":
        """Sum up an array of any dtype."""
        numbers = np.abs(values) if np.iscomplexobj(values) else values.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        if finite.size == 0:
            return cls(np.nan, np.nan, np.nan, numbers.size)
        with np.errstate(over="ignore"):
            mean = float(finite.mean())
        return cls(float(finite.min()), float(finite.max()), mean, numbers.size - finite.size)


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot:
    """A tensor as it was at one moment: value, gradient, or part of a gradient.

    Reads like a number or an array: ``float(s)``, ``np.asarray(s)``, ``s.values``.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        As torch writes it, without ``torch.``: ``"float64"``, ``"bfloat16"``.
    device : str
        Where the tensor lived: ``"cpu"``, ``"cuda:0"``.
    values : ndarray or None
        A detached copy; ``None`` when the tensor was too big to keep or had no data. What NumPy
        lacks (bfloat16) is kept as float32.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    values: NDArray[Any] | None
    given_stats: Stats | None = None

    @property
    def n(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def stats(self) -> Stats:
        """Least, greatest, mean, and the count of entries that are not finite."""
        if self.values is not None:
            return Stats.of(self.values)
        return self.given_stats or Stats(np.nan, np.nan, np.nan, 0)

    @property
    def brief(self) -> str:
        """A few characters for a card: one number, up to three, or ``low .. high``."""
        if self.n == 0:
            return "empty"
        if self.values is not None and self.dtype == "bool" and self.n > 1:
            return f"{int(self.values.sum())} of {self.n} true"
        if self.values is not None and self.n <= 3:
            texts = [number_text(v) for v in self.values.ravel()]
            return texts[0] if self.n == 1 else f"[{', '.join(texts)}]"
        low, high, _, bad = self.stats
        if self.values is None and self.given_stats is None:
            return "no data"
        span = number_text(low) if low == high else f"{number_text(low)} .. {number_text(high)}"
        if bad == self.n:
            return f"{bad} not finite"
        return f"{span} ({bad} not finite)" if bad else span

    def item(self) -> Any:
        """Return the only entry as a Python number."""
        return self.__array__().item()

    def to_dict(self, limit: int = 1000) -> dict[str, Any]:
        """Return plain JSON data; all entries in order when at most ``limit``, else statistics."""
        keep = self.values is not None and self.n <= limit
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "device": self.device,
            "low": _plain(self.stats.low),
            "high": _plain(self.stats.high),
            "mean": _plain(self.stats.mean),
            "n_nonfinite": self.stats.n_nonfinite,
            "values": [_plain(v) for v in self.__array__().ravel().tolist()] if keep else None,
        }

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.values is None:
            kept = "only statistics were kept: trace with a larger `keep`"
            raise ValueError(f"{self}: {kept if self.given_stats else 'no values to read'}")
        return np.array(self.values, dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self.item())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        if self.values is None or other.values is None:
            return self.values is other.values and _same(self.stats[:3], other.stats[:3])
        return _same(self.values, other.values)

    __hash__ = None  # type: ignore[assignment] - compared by value, and values are arrays

    def __repr__(self) -> str:
        return self.brief if self.n == 1 else f"{self.dtype} {self.shape}: {self.brief}"


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
            "value": self.value and self.value.to_dict(),
            "grad": self.grad and self.grad.to_dict(),
            "stale_grad": self.stale_grad and self.stale_grad.to_dict(),
            "parts": {text: part.to_dict() for text, part in self.parts.items()},
            "source": dict(self.source.__dict__) if self.source else None,
            "custom": dict(self.custom.__dict__) if self.custom else None,
            "inputs": [
                {**edge.__dict__, "part": edge.part and edge.part.to_dict()} for edge in self.inputs
            ],
        }

    def with_(self, **changes: Any) -> "Node":
        """Return a copy with some fields changed."""
        return replace(self, **changes)


_OWN_FORM = {"value", "grad", "stale_grad", "parts", "source", "custom", "inputs", "call"}


def number_text(value: Any) -> str:
    """Write one number in at most four significant digits."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (complex, np.complexfloating)):
        return f"{complex(value):.4g}"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return f"{float(value) + 0.0:.4g}"  # + 0.0 turns -0.0 into 0.0


def _plain(value: Any) -> Any:
    """Write what JSON lacks (NaN, inf, complex) as text."""
    if isinstance(value, complex):
        return str(value)
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
