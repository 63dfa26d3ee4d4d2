"""The graph as the user holds it: look things up, ask questions, draw it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gradfit.errors import TraceError
from gradfit.graph.record import Call, Failed, Node, Source
from gradfit.graph.source import canonical
from gradfit.graph.surroundings import undisturbed_methods

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


@undisturbed_methods
@dataclass(frozen=True, repr=False)
class Graph:
    """The computational graph of one run, as plain data.

    ``graph["a"]`` finds a node by its name, ``graph["a*x - y"]`` by its expression, ``graph[3]`` by
    its number.

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
    missed : tuple of str
        Operations that ran, but could not be written down, each with the reason.
    failed : Failed or None
        Where the function raised, in the graph of a run that did not end.

    Examples
    --------
    >>> import torch
    >>> from gradfit.graph import trace
    >>> def loss(a, x, y):
    ...     r = a * x - y
    ...     return torch.mean(r**2)
    >>> a = torch.tensor(1.5, requires_grad=True)
    >>> graph = trace(loss, a, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    >>> graph["a"].grad
    -2.5
    >>> graph["r**2"].value
    float32 (2,): [0.25, 1]
    >>> graph["r**2"].source.statement
    'return torch.mean(r**2)'
    >>> graph["r"].reason
    'requires grad because `a * x` does'
    """

    nodes: tuple[Node, ...]
    results: tuple[int, ...] = ()
    title: str = ""
    backwards: tuple[Backward, ...] = ()
    result: Any = field(default=None, compare=False)
    call: Call | None = field(default=None, compare=False)
    missed: tuple[str, ...] = ()
    failed: Failed | None = None

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

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> graph = trace(lambda a: a * 2 + (a*2)**2, a)
        >>> [node.value for node in graph.find("a*2")]
        [6, 6]
        """
        named = tuple(node for node in self.nodes if node.name == text)
        wanted = canonical(text)
        return named or tuple(
            node for node in self.nodes if wanted in (canonical(node.expr), canonical(node.op))
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
        """Return one row per tensor: name, expression, shape, value, gradient, why, line.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> table = trace(lambda a: a**2, a).table()
        >>> table[1]["expression"], table[1]["value"], table[1]["why"]
        ('a**2', 9, 'requires grad because `a` does')
        """
        from gradfit.graph.table import Table

        return Table.of(self)

    def explain(self, key: int | str) -> str:
        """Say in words where a tensor came from, what it holds, and why its gradient is what it is.

        Parameters
        ----------
        key : int or str
            A number, a name, or an expression as written.

        Returns
        -------
        str

        Raises
        ------
        TraceError
            Nothing in this graph has that name or expression.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> print(trace(lambda a: a**2 + 2 * a, a).explain("a"))
        `a` is a leaf that requires grad: you set requires_grad=True. Value 3.
        It is used twice: in `a**2` (line 1) and `2 * a` (line 1), so its gradient is a sum:
          6  through a**2
          2  through 2 * a
          = 8  (central differences agree to ...)
        """
        from gradfit.graph.explain import explain

        return explain(self, self[key])

    def check(self, against: Literal["differences", "numpy"] = "differences") -> "CheckReport":
        """Check every gradient against finite differences, or against the NumPy program.

        The report is true when all agree, and names the operation whose backward is wrong. Each
        operation is run alone in double precision on its recorded inputs, then all in order. At
        last the function itself is run again beside its point (not where it makes backward passes
        of its own), which finds paths that are cut. Slopes that differ to the left and right are a
        kink, not a mistake.

        Parameters
        ----------
        against : "differences" or "numpy"

        Returns
        -------
        CheckReport

        Raises
        ------
        TraceError
            An unknown ``against``, or an operation that has no NumPy rule.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x**2
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         return 3 * ctx.saved_tensors[0] * grad
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> report = trace(lambda a: torch.sin(Square.apply(a)), a).check()
        >>> bool(report)
        False
        >>> report.wrong[0].label
        'Square.apply(a)'
        """
        from gradfit.graph.check import check

        return check(self, against)

    def problems(self) -> "Problems":
        """Find where a NaN, an inf, a zero, a None or an overwritten value was born.

        Returns
        -------
        Problems
            A tuple, empty when all is well; each says what happened, where, and what to do.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> graph = trace(lambda a: torch.sqrt(a - 5) * 2, a)
        >>> graph.problems()[0].message
        'NaN begins in the forward of `torch.sqrt(a - 5)`'
        """
        from gradfit.graph.problems import problems

        return problems(self)

    def compare(self, other: "Graph | str", *, backend: str = "aot_eager") -> "Comparison":
        """Put the run beside a static program, or beside another run.

        Parameters
        ----------
        other : Graph, "export" or "compile"
        backend : str
            Backend of ``torch.compile``; ``"inductor"`` compiles to machine code and takes long.

        Returns
        -------
        Comparison
            True when results and gradients agree. Printed, it says how many operations there are on
            either side, which belong to which line, where capture stops, what it costs and saves.

        Raises
        ------
        TraceError
            An unknown ``other`` or ``backend``, or a graph that was loaded from a file.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> def f(a):
        ...     return a * 2 if a > 1 else a - 1
        >>> one, two = (trace(f, torch.tensor(v, requires_grad=True)) for v in (0.0, 3.0))
        >>> print(one.compare(two).breaks[0].reason)
        `a > 1` -> False, `a - 1` here, `a > 1` -> True, `a * 2` there
        """
        from gradfit.graph.compare import compare

        return compare(self, other, backend)

    def to_numpy(self) -> "Program":
        """Write the same forward and backward as a straight NumPy program.

        Returns
        -------
        Program
            ``print`` it, or ``run`` it, without torch.

        Raises
        ------
        TraceError
            Operations that no NumPy rule is known for; each is named with its line.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> print(trace(lambda a: a**2, a).to_numpy())
        import numpy as np
        <BLANKLINE>
        <BLANKLINE>
        def program(a):
            # forward
            t1 = a ** 2  # a**2
        <BLANKLINE>
            # backward
            grad_t1 = np.ones(())
            grad_a = grad_t1 * 2 * a  # a**2
        <BLANKLINE>
            return (t1,), {"a": grad_a}
        <BLANKLINE>
        """
        from gradfit.graph.program import to_numpy

        return to_numpy(self)

    def with_kernels(self) -> "Graph":
        """Return the graph with the ATen operations that each backward runs filled in.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> trace(lambda a: torch.sin(a), a).with_kernels()[1].kernels
        ('cos', 'mul')
        """
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
        """Draw the graph as SVG; write it to ``path`` when one is given.

        Parameters
        ----------
        path : path, optional
        detail : "statement", "operation", "kernel" or None
            One card for each line of the source, or for each operation; "kernel" adds what each
            backward runs. None chooses by size; long loops and many layers are folded.
        theme : "auto", "light" or "dark"
            "auto" follows the reader's setting.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> trace(lambda a: a**2, a).to_svg()[:4]
        '<svg'
        """
        from gradfit.graph import svg

        return written(svg.draw(self, detail=detail, theme=theme), path)

    def to_html(self, path: str | Path | None = None, *, detail: Detail | None = None) -> str:
        """Return one self-contained interactive page; write it to ``path`` when one is given.

        Pan, zoom, highlight what depends on what, step forward through the values and backward
        through the gradients; nothing is fetched from the network.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> page = trace(lambda a: a**2, a).to_html()
        >>> page.startswith("<!doctype html>"), "http://" in page.replace("http://www.w3.org", "")
        (True, False)
        """
        from gradfit.graph import html

        return written(html.page(self, detail=detail), path)

    def to_dot(self, path: str | Path | None = None) -> str:
        """Return the graph in the language of Graphviz.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> trace(lambda a: a**2, a).to_dot().splitlines()[0]
        'digraph "<lambda>" {'
        """
        from gradfit.graph import text

        return written(text.to_dot(self), path)

    def to_mermaid(self, path: str | Path | None = None) -> str:
        """Return the graph as a Mermaid flowchart, which GitHub draws.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> trace(lambda a: a**2, a).to_mermaid().splitlines()[0]
        'flowchart TD'
        """
        from gradfit.graph import text

        return written(text.to_mermaid(self), path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "title": self.title,
            "results": list(self.results),
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Return every node as JSON; write it to ``path`` when one is given.

        Examples
        --------
        >>> import json, torch
        >>> from gradfit.graph import trace
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> json.loads(trace(lambda a: a**2, a).to_json())["nodes"][0]["grad"]["values"]
        [6.0]
        """
        return written(json.dumps(self.to_dict(), allow_nan=False), path)

    def show(self) -> None:
        """Open the interactive page: in the notebook, or in a browser tab."""
        from gradfit.graph import html

        html.show(self)

    def _repr_html_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        notes = [f"not written down: {missed}" for missed in self.missed]
        return "\n".join([str(self.table()), *notes])

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "uses"}


def written(text: str, path: str | Path | None) -> str:
    """Return a text; write it to ``path`` too when one is given."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
