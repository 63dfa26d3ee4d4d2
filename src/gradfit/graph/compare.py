"""The eager run beside a captured program, or beside another run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit.errors import TraceError
from gradfit.graph.capture import Answer, Break, Captured, Run, broken, compiled, exported, quiet
from gradfit.graph.graph import Graph
from gradfit.graph.record import Node


@dataclass(frozen=True)
class Line:
    """What one line of source became on both sides."""

    line: int | None
    statement: str
    eager: tuple[str, ...]
    captured: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two ways to compute the same thing, side by side. True when results and gradients agree.

    Attributes
    ----------
    against : str
        ``"export"``, ``"compile"``, or the title of the other graph.
    result_difference : float or None
        Largest difference of the results, relative to their size; ``None`` when nothing was
        captured.
    gradient_differences : dict
        The same by name of the leaf.
    n_eager, n_captured : int
        Operations on either side.
    n_graphs : int
        Pieces that the capture fell into; 1 is whole.
    lines : tuple of Line
        Operations on both sides, by line.
    breaks : tuple of Break
    n_kernels : int or None
        Pieces of machine code that the compiler made of forward and backward; ``None`` where none
        was made or nobody tells.
    remark : str
        What was done in place of what was asked for, and why.
    capture_seconds, eager_seconds, captured_seconds : float
        Time to capture, then for one forward and backward on either side; NaN when not measured.
    """

    against: str
    result_difference: float | None = None
    gradient_differences: Mapping[str, float] = field(default_factory=dict)
    n_eager: int = 0
    n_captured: int = 0
    n_graphs: int = 0
    lines: tuple[Line, ...] = ()
    breaks: tuple[Break, ...] = ()
    capture_seconds: float = float("nan")
    eager_seconds: float = float("nan")
    captured_seconds: float = float("nan")
    n_kernels: int | None = None
    remark: str = ""

    def __bool__(self) -> bool:
        return self.same_result and self.same_gradients

    @property
    def same_result(self) -> bool:
        """Whether both give the same, up to rounding."""
        return self.result_difference is not None and self.result_difference < 1e-4

    @property
    def same_gradients(self) -> bool:
        """Whether both give the same gradients, up to rounding."""
        return all(difference < 1e-4 for difference in self.gradient_differences.values())

    def __str__(self) -> str:
        return "\n".join([*self._answers(), *self._table(), *self._costs()])

    __repr__ = __str__

    def _answers(self) -> list[str]:
        stops = "capture stops" if self.against in ("export", "compile") else "they part"
        broken = [
            f"{stops}{f' at line {b.line}' if b.line else ''}: {b.reason}" for b in self.breaks
        ]
        if self.result_difference is None:
            return [f"{self.against}: nothing was captured", *broken]
        worst = max(self.gradient_differences.values(), default=0.0)
        return [
            f"same result: {_yes(self.same_result)} (largest difference "
            f"{self.result_difference:.1e})",
            f"same gradients: {_yes(self.same_gradients)} (largest difference {worst:.1e})",
            f"operations: {self.n_eager} eager, {self.n_captured} {self.against}"
            + (f" in {self.n_graphs} pieces" if self.n_graphs > 1 else "")
            + (f", {self.n_kernels} kernels with their backward" if self.n_kernels else ""),
            *filter(None, [self.remark]),
            *broken,
        ]

    def _table(self) -> list[str]:
        rows = [
            (str(x.line or ""), x.statement, " ".join(x.eager), " ".join(x.captured))
            for x in self.lines
        ]
        if not rows:
            return []
        rows.insert(0, ("line", "statement", "eager", self.against))
        widths = [min(max(len(row[i]) for row in rows), 50) for i in range(4)]
        lines = (zip(row, widths, strict=True) for row in rows)
        return ["  ".join(f"{text:<{w}}" for text, w in line).rstrip() for line in lines]

    def _costs(self) -> list[str]:
        if self.captured_seconds != self.captured_seconds:
            return []
        saved = self.eager_seconds - self.captured_seconds
        pays = (
            f"pays off after {self.capture_seconds / saved:,.0f} calls"
            if saved > 0
            else ("saves no time here")
        )
        return [
            f"capture took {self.capture_seconds:.2g} s; one forward and backward takes "
            f"{self.eager_seconds * 1e3:.3g} ms eager, {self.captured_seconds * 1e3:.3g} ms "
            f"captured: {pays}",
            f"eager built {self.n_eager} nodes and threw them away after backward; "
            "the captured program is kept",
        ]


def compare(graph: Graph, other: "Graph | str", backend: str) -> Comparison:
    """Compare a run; see :meth:`gradfit.graph.Graph.compare`."""
    if isinstance(other, Graph):
        return _two_runs(graph, other)
    if other not in ("export", "compile"):
        raise TraceError(f'`other` must be a graph, "export" or "compile"; {other!r} came')
    if other == "compile" and backend not in torch.compiler.list_backends(exclude_tags=None):
        known = ", ".join(torch.compiler.list_backends(exclude_tags=None))
        raise TraceError(f"`backend` must be one of {known}; {backend!r} came")
    run = Run.of(graph)
    with quiet(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        started = time.perf_counter()
        try:
            captured = exported(run) if other == "export" else compiled(run, backend)
            theirs = run.gradients(captured.run)
        except Exception as error:  # noqa: BLE001 - capture fails with whatever it likes
            stop = _with_answer(graph, broken(error))
            return Comparison(other, n_eager=_count(graph), lines=_lines(graph, []), breaks=(stop,))
        return _measured(graph, other, run, captured, theirs, time.perf_counter() - started)


# -- two runs -------------------------------------------------------------------------------------


def _two_runs(one: Graph, two: Graph) -> Comparison:
    """Compare values of the results, gradients of the leaves, and operations by line."""
    results = [
        _far(one[a].value, two[b].value) for a, b in zip(one.results, two.results, strict=False)
    ]
    gradients = {
        leaf.label: _far(leaf.grad, other.grad)
        for leaf in one.leaves
        for other in two.leaves
        if leaf.label == other.label and (leaf.grad is not None or other.grad is not None)
    }
    changed = len(one.results) != len(two.results)
    return Comparison(
        against=two.title,
        result_difference=float("inf") if changed else max(results, default=0.0),
        gradient_differences=gradients,
        n_eager=_count(one),
        n_captured=_count(two),
        n_graphs=1,
        lines=_lines(one, [(_line(n), n.op) for n in _operations(two)]),
        breaks=_structure(one, two),
    )


def _structure(one: Graph, two: Graph) -> tuple[Break, ...]:
    """Return the places where one run took another way than the other."""
    ways = [
        [(n.op, n.expr, n.read_answer if n.op == "bool" else "") for n in g] for g in (one, two)
    ]
    blocks = SequenceMatcher(None, *ways, autojunk=False).get_opcodes()
    return tuple(
        Break(
            _line(one[start]) if start < len(one) else None,
            f"{_texts(one.nodes[start:stop])} here, {_texts(two.nodes[other:end])} there",
        )
        for tag, start, stop, other, end in blocks
        if tag != "equal"
    )


def _texts(nodes: Sequence[Node]) -> str:
    texts = [
        f"`{n.label}` -> {n.read_answer}" if n.kind == "read" else f"`{n.label}`" for n in nodes
    ]
    return ", ".join(texts) or "nothing"


def _measured(
    graph: Graph, against: str, run: Run, captured: Captured, theirs: Answer, seconds: float
) -> Comparison:
    results, gradients = run.gradients(run.function)
    their_results, their_gradients = theirs
    return Comparison(
        against=against,
        result_difference=_farthest(results, their_results),
        gradient_differences={
            name: _farthest([gradient], [their_gradients[name]])
            for name, gradient in gradients.items()
            if name in their_gradients
        },
        n_eager=_count(graph),
        n_captured=len(captured.operations),
        n_graphs=captured.n_graphs,
        lines=_lines(graph, captured.operations),
        breaks=tuple(_with_answer(graph, each) for each in captured.breaks),
        capture_seconds=seconds,
        eager_seconds=run.seconds(run.function),
        captured_seconds=run.seconds(captured.run),
        n_kernels=captured.n_kernels,
        remark=captured.remark,
    )


def _farthest(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    if len(ours) != len(theirs):
        return float("inf")
    pairs = zip(ours, theirs, strict=True)
    return max((_far(a.detach().cpu(), b.detach().cpu()) for a, b in pairs), default=0.0)


def _far(one: Any, other: Any) -> float:
    """Return the largest difference relative to the size of the numbers."""
    if one is None or other is None or np.shape(one) != np.shape(other):
        return float("inf")
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == bool:
        return float((one != other).any())
    size = max(float(np.abs(np.nan_to_num(one)).max(initial=0)), 1e-30)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0, np.abs(one - other)).max(initial=0)) / size


# -- words ----------------------------------------------------------------------------------------


def _operations(graph: Graph) -> list[Node]:
    return [node for node in graph if node.kind == "op" and node.output is None]


def _count(graph: Graph) -> int:
    return len(_operations(graph))


def _lines(graph: Graph, captured: Sequence[tuple[int | None, str]]) -> tuple[Line, ...]:
    """Put the operations of both sides beside each other, by line."""
    eager: dict[int | None, list[str]] = {}
    statements: dict[int | None, str] = {}
    for node in _operations(graph):
        eager.setdefault(_line(node), []).append(node.op)
        if node.source is not None:
            statements.setdefault(node.source.line, node.source.statement)
    theirs: dict[int | None, list[str]] = {}
    for line, name in captured:
        theirs.setdefault(line, []).append(name)
    return tuple(
        Line(n, statements.get(n, ""), tuple(eager.get(n, ())), tuple(theirs.get(n, ())))
        for n in sorted({*eager, *theirs}, key=lambda line: (line is None, line or 0))
    )


def _with_answer(graph: Graph, stop: Break) -> Break:
    """Add what Python read on the line where capture stops: the branch that the run took."""
    reads = [n for n in graph if n.kind == "read" and stop.line and _line(n) == stop.line]
    if not reads:
        return stop
    return Break(
        stop.line, f"{stop.reason} (this run: `{reads[0].label}` is {reads[0].read_answer})"
    )


def _line(node: Node) -> int | None:
    return node.source.line if node.source else None


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
