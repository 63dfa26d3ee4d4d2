"""The graph as the user holds it: look things up, ask questions, draw it."""

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gradfit.errors import TraceError
from gradfit.graph.record import Call, Node, Source

if TYPE_CHECKING:
    from gradfit.graph.check import CheckReport
    from gradfit.graph.compare import Comparison
    from gradfit.graph.problems import Problems
    from gradfit.graph.program import Program
    from gradfit.graph.table import Table

Detail: TypeAlias = Literal["statement", "operation", "kernel"]
Theme: TypeAlias = Literal["auto", "light", "dark"]


@dataclass(frozen=True)
class Backward:
    """One backward pass of the run.

    Attributes
    ----------
    roots : tuple of int
        The nodes it started from; one that was returned twice stands here twice.
    source : Source or None
        The line of ``.backward()``; ``None`` for the pass that the trace itself made at the end.
    weighted : bool
        Whether ``.backward(gradient)`` was given what to start from, instead of ones.
    uncleared : tuple of int
        Leaves that it reached and whose ``.grad`` was not empty when it began.
    error : str or None
        What autograd said when the pass failed.
    """

    roots: tuple[int, ...]
    source: Source | None = None
    weighted: bool = False
    uncleared: tuple[int, ...] = ()
    error: str | None = None


@dataclass(frozen=True, repr=False)
class Graph:
    """The computational graph of one run, as plain data.

    ``graph["a"]`` finds a node by its name, ``graph["a*x - y"]`` by the expression as written,
    ``graph[3]`` by its number.

    Attributes
    ----------
    nodes : tuple of Node
        In the order they came up; the number of a node is its place.
    results : tuple of int
        The nodes that the function returned. Gradients are those of their sum.
    title : str
        Name of the function.
    backwards : tuple of Backward
    result : object
        What the function returned, with tensors detached.
    """

    nodes: tuple[Node, ...]
    results: tuple[int, ...] = ()
    title: str = ""
    backwards: tuple[Backward, ...] = ()
    result: Any = field(default=None, compare=False)
    call: Call | None = field(default=None, compare=False)

    # -- looking things up -----------------------------------------------------------------------

    def __getitem__(self, key: int | str) -> Node:
        if isinstance(key, int):
            return self.nodes[key]
        found = self.find(key)
        if not found:
            known = ", ".join(f"`{name}`" for name in self.names[:12]) or "none"
            raise TraceError(f"no node is called or written `{key}`; names in this graph: {known}")
        leaves = [node for node in found if node.is_end]
        return leaves[0] if leaves else found[-1]

    def find(self, text: str) -> tuple[Node, ...]:
        """Return every node with this name, or else with this expression; spacing is ignored.

        Where several match, ``graph[text]`` takes the leaf, or else the last one.
        """
        named = tuple(node for node in self.nodes if node.name == text)
        wanted = _canonical(text)
        return named or tuple(
            node for node in self.nodes if wanted in (_canonical(node.expr), _canonical(node.op))
        )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in this graph, in order of first appearance."""
        return tuple(dict.fromkeys(node.name for node in self.nodes if node.name))

    @property
    def leaves(self) -> tuple[Node, ...]:
        """The nodes that gradients are for: leaves, and inputs that were computed before."""
        return tuple(node for node in self.nodes if node.is_end)

    @cached_property
    def uses(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that use it, in order."""
        uses: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for source in dict.fromkeys(edge.source for edge in node.inputs):
                uses[source].append(node.id)
        return tuple(map(tuple, uses))

    @property
    def structure(self) -> tuple[tuple[Any, ...], ...]:
        """What stays the same when only numbers change: kinds, operations, links, read answers."""
        return tuple(
            (
                *(n.kind, n.op, n.name, n.read_answer if n.op == "bool" else None),
                *(edge.source for edge in n.inputs),
            )
            for n in self.nodes
        )

    # -- asking ----------------------------------------------------------------------------------

    def table(self) -> "Table":
        """Return one row per tensor: name, expression, shape, value, gradient, why, line."""
        from gradfit.graph.table import Table

        return Table.of(self)

    def explain(self, key: int | str) -> str:
        """Say in words where a tensor came from, what it holds, and why its gradient is what it is.

        Parameters
        ----------
        key : int or str
            A number, a name, or an expression as written.
        """
        from gradfit.graph.explain import explain

        return explain(self, self[key])

    def check(self, against: Literal["differences", "numpy"] = "differences") -> "CheckReport":
        """Check every gradient against finite differences, or against the NumPy program.

        The report is true when all agree, and names the operation whose backward is wrong.
        """
        from gradfit.graph.check import check

        return check(self, against)

    def problems(self) -> "Problems":
        """Find where a NaN, an inf, a zero, a None or an overwritten value was born."""
        from gradfit.graph.problems import problems

        return problems(self)

    def compare(self, other: "Graph | str", *, backend: str = "aot_eager") -> "Comparison":
        """Put the run beside a static program, or beside another run.

        Parameters
        ----------
        other : Graph, "export" or "compile"
        backend : str
            Backend of ``torch.compile``; ``"inductor"`` compiles to machine code and takes long.
        """
        from gradfit.graph.compare import compare

        return compare(self, other, backend)

    def to_numpy(self) -> "Program":
        """Write the same forward and backward as a straight NumPy program."""
        from gradfit.graph.program import to_numpy

        return to_numpy(self)

    def with_kernels(self) -> "Graph":
        """Return the graph with the ATen operations that each backward runs filled in."""
        from gradfit.graph.check import with_kernels

        return with_kernels(self)

    # -- drawing ---------------------------------------------------------------------------------

    def to_svg(
        self,
        path: str | Path | None = None,
        *,
        detail: Detail | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw the graph as SVG; write it to ``path`` when one is given."""
        from gradfit.graph import svg

        return _written(svg.draw(self, detail=detail, theme=theme), path)

    def to_html(self, path: str | Path | None = None, *, detail: Detail | None = None) -> str:
        """Return one self-contained interactive page; write it to ``path`` when one is given."""
        from gradfit.graph import html

        return _written(html.page(self, detail=detail), path)

    def to_dot(self, path: str | Path | None = None) -> str:
        """Return the graph in the language of Graphviz."""
        from gradfit.graph import text

        return _written(text.to_dot(self), path)

    def to_mermaid(self, path: str | Path | None = None) -> str:
        """Return the graph as a Mermaid flowchart, which GitHub draws."""
        from gradfit.graph import text

        return _written(text.to_mermaid(self), path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "title": self.title,
            "results": list(self.results),
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Return every node as JSON; write it to ``path`` when one is given."""
        return _written(json.dumps(self.to_dict(), allow_nan=False), path)

    def show(self) -> None:
        """Open the interactive page: in the notebook, or in a browser tab."""
        from gradfit.graph import html

        html.show(self)

    def _repr_html_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return str(self.table())

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "uses"}


@dataclass(frozen=True, repr=False)
class Film:
    """The same function at several values: the steps of a descent or of a fit.

    Attributes
    ----------
    frames : tuple of Graph
    labels : tuple of str
        One per frame, such as ``"step 3"``.
    """

    frames: tuple[Graph, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames:
            raise TraceError("a film needs at least one graph; 0 came")
        if not self.labels:
            labels = tuple(f"step {i}" for i in range(len(self.frames)))
            object.__setattr__(self, "labels", labels)
        if len(self.labels) != len(self.frames):
            raise TraceError(
                f"`labels` must be one per frame; {len(self.labels)} came for "
                f"{len(self.frames)} frames"
            )

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        inputs: Sequence[Sequence[Any]],
        labels: Sequence[str] = (),
    ) -> "Film":
        """Trace ``fn`` once for each set of inputs."""
        from gradfit.graph.trace import trace

        return cls(tuple(trace(fn, *each) for each in inputs), tuple(labels))

    @cached_property
    def changes(self) -> tuple[int, ...]:
        """Frames whose structure differs from the frame before: a branch went the other way."""
        pairs = enumerate(pairwise(self.frames), start=1)
        return tuple(i for i, (one, two) in pairs if one.structure != two.structure)

    def __getitem__(self, index: int) -> Graph:
        return self.frames[index]

    def __iter__(self) -> Iterator[Graph]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def to_html(self, path: str | Path | None = None, *, detail: Detail | None = None) -> str:
        """Return one self-contained page with a slider; write it to ``path`` when one is given."""
        from gradfit.graph import html

        return _written(html.page(self, detail=detail), path)

    def show(self) -> None:
        """Open the page: in the notebook, or in a browser tab."""
        from gradfit.graph import html

        html.show(self)

    def _repr_html_(self) -> str:
        return self.frames[-1].to_svg()

    def __repr__(self) -> str:
        changed = f", structure changes at {list(self.changes)}" if self.changes else ""
        return f"Film of {self.frames[0].title}: {len(self)} frames{changed}"


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _canonical(text: str) -> str:
    """Bring an expression to one spelling, so that spaces and outer brackets do not matter."""
    try:
        return ast.unparse(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:
        return text.strip()
