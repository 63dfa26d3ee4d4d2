"""One node in the making, one tensor in hand, and one call of an operation."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from gradfit.graph.autograd_private import AutogradNode
from gradfit.graph.operations import Operation
from gradfit.graph.place import Place
from gradfit.graph.record import Call, Custom, Kind, Source
from gradfit.graph.values import Snapshot

GradEdge = tuple[AutogradNode, int]
"""The place in autograd's own graph that one version of a tensor belongs to."""


class Why(NamedTuple):
    """Why a tensor requires grad or does not: a word for the case, and what it is about."""

    case: str
    detail: str = ""
    nodes: tuple[int, ...] = ()


_UNSAID = Why("")


@dataclass(slots=True, eq=False)
class Draft:
    """A node while the trace runs; see :class:`gradfit.graph.record.Node` for the fields."""

    id: int
    kind: Kind
    op: str = ""
    name: str | None = None
    value: Snapshot | None = None
    requires_grad: bool = False
    why: Why = _UNSAID
    source: Source | None = None
    frame: int = 0
    module: str | None = None
    in_no_grad: bool = False
    inputs: list[int] = field(default_factory=list)
    flows: list[bool] = field(default_factory=list)
    parts: list[Snapshot | None] = field(default_factory=list)
    edge: GradEdge | None = None
    is_leaf: bool = False
    same_edge_as: int | None = None
    grad: Snapshot | None = None
    autograd_nodes: list[AutogradNode] = field(default_factory=list)
    writes: int | None = None
    view_of: int | None = None
    output: int | None = None
    version: int = 0
    read_answer: str | None = None
    answer: Any = None
    stale_grad: Snapshot | None = None
    custom: Custom | None = None
    call: Call | None = None

    def add_input(self, source: int) -> int:
        """Add a tensor input, and return its slot."""
        self.inputs.append(source)
        self.flows.append(False)
        self.parts.append(None)
        return len(self.inputs) - 1


class Held(NamedTuple):
    """A tensor kept alive for the length of the trace, at the version that a node stands for."""

    tensor: Tensor
    version: int
    draft: Draft


class Step(NamedTuple):
    """One call of an operation: what, where, on which tensors, and how often each was written."""

    what: Operation
    place: Place
    tensors: list[Tensor]
    drafts: list[Draft]
    versions: list[int]
    call: Call
    custom: type | None = None

    @property
    def text(self) -> str:
        """The operation as the user wrote it."""
        if self.custom is not None:
            return f"{self.custom.__name__}.apply"
        site = self.place.site
        return self.what.text(site and site.symbol, bool(site and site.source.expr))
