"""Check gradients against finite differences, one operation at a time and as a whole.

Each operation is run again alone, in double precision, on its recorded inputs. The gradient that
its own backward gives for one random weighting of the outputs is held against central differences.
That names the operation whose backward is wrong, and does not accuse a correct one of being
computed in single precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit.errors import TraceError
from gradfit.graph import autograd_private as private
from gradfit.graph import replay
from gradfit.graph.cuts import behind, cut_places
from gradfit.graph.differences import Agreement, Comparison, Outcome, gravest
from gradfit.graph.graph import Graph
from gradfit.graph.record import Call, Node
from gradfit.graph.slopes import OwnFunction, slope
from gradfit.graph.values import Snapshot

if TYPE_CHECKING:
    from gradfit.graph.program import Program

Against = Literal["differences", "numpy"]

_SYMMETRIC = {  # these read one triangle of their matrix only
    *("cholesky", "linalg_cholesky", "cholesky_ex", "linalg_cholesky_ex"),
    *("eigh", "linalg_eigh", "eigvalsh", "linalg_eigvalsh"),
}
_OF_NUMPY = {"float64": 1e-10, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
_CLOSENESS_OF_GRADIENTS = {
    **dict.fromkeys(("float64", "complex128"), 1e-6),
    **dict.fromkeys(("float32", "complex64"), 1e-2),
}
_CLOSENESS = {"float64": 1e-9, "complex128": 1e-9, "float32": 1e-3, "complex64": 1e-3}


@dataclass(frozen=True)
class Verdict:
    """What came of checking one operation, or one leaf of the whole function.

    Attributes
    ----------
    node : int
    label : str
    line : int or None
    outcome : {"agrees", "wrong", "cut", "kink", "skipped"}
        ``kink``: slopes to the left and right differ, and the gradient is one between them.
        ``cut``: the gradient is right for the operations that it flows through, and is not the
        derivative of the function, since a path to the result is cut (``detach``, ``no_grad``, a
        number that Python read).
    worst : float
        Largest difference, relative to the largest entry of the gradient; NaN when skipped.
    note : str
    """

    node: int
    label: str
    line: int | None
    outcome: Outcome
    worst: float = float("nan")
    note: str = ""

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        size = " " * 9 if self.outcome == "skipped" else f"{self.worst:9.1e}"
        return f"{self.outcome:8}{size}  {self.label}{where}{f': {self.note}' if self.note else ''}"


@dataclass(frozen=True, repr=False)
class CheckReport:
    """True when every gradient is the derivative of the function.

    Prints one line per operation, then one per leaf.

    Attributes
    ----------
    operations : tuple of Verdict
        Each operation alone.
    leaves : tuple of Verdict
        The whole function, for each leaf.
    against : {"differences", "numpy"}
    """

    operations: tuple[Verdict, ...]
    leaves: tuple[Verdict, ...]
    against: Against = "differences"

    def __bool__(self) -> bool:
        return not self.wrong

    @property
    def wrong(self) -> tuple[Verdict, ...]:
        """What does not agree: wrong operations and leaves, and leaves whose path is cut."""
        both = (*self.operations, *self.leaves)
        return tuple(v for v in both if v.outcome in ("wrong", "cut"))

    def __str__(self) -> str:
        parts: list[str] = []
        if self.operations:
            parts += ["operation by operation", *(f"  {v}" for v in self.operations)]
        parts += [f"the whole, against {self.against}", *(f"  {v}" for v in self.leaves)]
        return "\n".join(parts)

    __repr__ = __str__


def check(graph: Graph, against: Against = "differences") -> CheckReport:
    """Check a graph; see :meth:`gradfit.graph.Graph.check`."""
    if against == "numpy":
        return CheckReport((), _numpy(graph), against)
    if against != "differences":
        raise TraceError(f'`against` must be "differences" or "numpy"; {against!r} came')
    operations = tuple(_operation(graph, node) for node in graph if _is_checkable(node))
    return CheckReport(operations, leaves(graph))


# -- the whole ------------------------------------------------------------------------------------


def leaves(graph: Graph, only: int | None = None) -> tuple[Verdict, ...]:
    """Check the whole function for each leaf, or for one."""
    wanted = [leaf for leaf in graph.leaves if leaf.grad is not None and only in (None, leaf.id)]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            found = _whole(graph, wanted)
    except (TraceError, RuntimeError, ValueError, TypeError) as error:
        found = [Agreement("skipped", note=_said(error))] * len(wanted)
    return tuple(
        Verdict(leaf.id, leaf.label, None, each.outcome, each.worst, each.note)
        for leaf, each in zip(wanted, found, strict=True)
    )


def _whole(graph: Graph, wanted: Sequence[Node]) -> list[Agreement]:
    roots = [root for backward in graph.backwards for root in backward.roots]

    def function(given: Mapping[int, Tensor]) -> list[Tensor]:
        # A gradient taken inside the function needs leaves that require grad.
        given = {n: t if t.requires_grad else t.requires_grad_() for n, t in given.items()}
        values = replay.whole(graph, given)
        return [values[root] for root in roots]

    if any(backward.weighted for backward in graph.backwards):
        raise replay.ReplayError("backward() was given what to start from")
    inputs = {leaf.id: replay.tensor(leaf.value, wide=True) for leaf in wanted}
    _must_reproduce(function({k: v.clone() for k, v in inputs.items()}), [graph[r] for r in roots])
    comparison = Comparison(function, inputs)
    gradients = comparison.gradients()
    return [_leaf(graph, leaf, comparison, gradients[leaf.id]) for leaf in wanted]


def _leaf(graph: Graph, leaf: Node, comparison: Comparison, gradient: Tensor | None) -> Agreement:
    """Judge the recorded gradient of one leaf: by replay, then by the function itself."""
    symmetric = _is_triangle(graph, leaf)
    found = _agreement(comparison, leaf.id, gradient, symmetric=symmetric)
    if found.outcome not in ("agrees", "kink") or gradient is None:
        return found
    altered = _altered(graph, leaf, gradient)
    if altered is not None:
        return altered
    try:
        own = slope(OwnFunction(graph), leaf, gradient, symmetric=symmetric)
    except Exception:  # noqa: BLE001 - a function of the user, in a precision that it may not take
        return found
    if own is None or own.agrees:
        return found
    places = [f"`{n.expr or n.label}`{_on_line(n)}" for n in cut_places(graph, leaf)]
    place = f", cut at {' or '.join(places[:3])}" if places else ""
    along = "" if leaf.value is not None and not leaf.value.shape else " along a random direction"
    note = f"it agrees while what is detached is held fixed{place}; the function itself{along} has "
    note += f"slope {own.found:.4g}, its gradient says {own.promised:.4g}"
    size = max(abs(own.found), abs(own.promised))
    return Agreement("cut", abs(own.found - own.promised) / size, note)


def _altered(graph: Graph, leaf: Node, gradient: Tensor) -> Agreement | None:
    """Return a verdict where the recorded gradient is not the one that the operations give.

    Both a difference and a value whose parts do not add up are asked for: a gradient that cancels
    to zero differs by rounding alone.
    """
    if leaf.grad is None or leaf.grad.values is None:
        return None
    if all(graph[number].adds_up for number in behind(graph, leaf.id)):
        return None
    recorded = replay.tensor(leaf.grad, wide=True)
    parts = [abs(part.stats.low) + abs(part.stats.high) for part in leaf.parts.values()]
    size = max([float(gradient.abs().max()) if gradient.numel() else 0.0, *parts, 1e-12])
    worst = float((recorded - gradient).abs().max()) / size if gradient.numel() else 0.0
    close = _CLOSENESS_OF_GRADIENTS.get(leaf.grad.dtype, 0.2)
    if recorded.shape == gradient.shape and not worst > close:
        return None
    note = "the recorded gradient is not the derivative: a hook changed it on the way"
    return Agreement("wrong", worst, note)


def _is_triangle(graph: Graph, leaf: Node) -> bool:
    uses = [graph[use] for use in graph.uses[leaf.id]]
    return any(use.call is not None and _bare(use.call) in _SYMMETRIC for use in uses)


# -- one operation --------------------------------------------------------------------------------


def _is_checkable(node: Node) -> bool:
    made = node.call is not None or node.kind == "hidden"
    return node.kind in ("op", "hidden") and node.requires_grad and made and not node.is_end


def _operation(graph: Graph, node: Node) -> Verdict:
    verdict = Verdict(node.id, node.expr or node.label, _line(node), "skipped")
    if node.call is None:
        return replace(verdict, note="not seen by the trace")
    if node.call.name == "grad":
        return replace(verdict, note="a gradient itself, which needs the graph around it")
    if node.in_no_grad:
        return replace(verdict, note="a write that was not recorded")
    note = ""
    for wide in (True, False):  # what refuses double precision is run as it was
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                found = _alone(graph, node, node.call, wide=wide)
            return replace(verdict, outcome=found.outcome, worst=found.worst, note=found.note)
        except (TraceError, RuntimeError, ValueError, TypeError) as error:
            note = note or _said(error)
    return replace(verdict, note=note)


def _alone(graph: Graph, node: Node, call: Call, *, wide: bool) -> Agreement:
    tensors = {n: replay.tensor(graph[n].value, wide=wide) for n in replay.nodes_of(call)}
    flowing = {edge.source for edge in node.inputs if edge.flows}
    inputs = {n: t for n, t in tensors.items() if n in flowing}

    def function(given: Mapping[int, Tensor]) -> list[Tensor]:
        fresh = {n: given[n] if n in given else t.clone() for n, t in tensors.items()}
        made = replay.run(call, fresh, wide=wide)
        return [t for t in made if t.is_floating_point() or t.is_complex()]

    outputs = function({n: t.clone() for n, t in inputs.items()})
    if not inputs or not outputs:
        raise replay.ReplayError("here it returns what it was given")
    _must_reproduce(outputs, _outputs(graph, node))
    generator = torch.Generator().manual_seed(node.id)
    weights = [
        torch.randn(t.shape, dtype=t.dtype, generator=generator, device="cpu").to(t.device)
        for t in outputs
    ]
    coarse = any(t.dtype not in (torch.float64, torch.complex128) for t in outputs)
    comparison = Comparison(function, inputs, weights, coarse)
    gradients = comparison.gradients()
    symmetric = _bare(call) in _SYMMETRIC
    found = [_agreement(comparison, n, gradients[n], symmetric=symmetric) for n in inputs]
    return gravest(found)


def _outputs(graph: Graph, node: Node) -> list[Node]:
    if node.value is not None:
        return [node] if node.view_of is None and node.writes is None else []
    each = [graph[use] for use in graph.uses[node.id]]
    made = [n for n in each if n.output is not None and n.value is not None]
    return [n for n in made if n.value is not None and "int" not in n.value.dtype]


def _agreement(
    comparison: Comparison, which: int, gradient: Tensor | None, *, symmetric: bool
) -> Agreement:
    if gradient is None:
        return Agreement("skipped", note="no gradient comes back")
    return comparison.agreement(which, gradient, symmetric=symmetric)


def _must_reproduce(outputs: Sequence[Tensor], nodes: Sequence[Node]) -> None:
    """Refuse to judge what gives another value when it is run again."""
    for output, node in zip(outputs, nodes, strict=False):
        if node.value is None or node.value.values is None:
            continue
        recorded = replay.tensor(node.value, wide=True)
        wide = output.detach().to(recorded.dtype)
        close = _CLOSENESS.get(node.value.dtype, 5e-2)
        same = wide.shape == recorded.shape
        size = float(recorded.abs().nan_to_num(0, 0, 0).max()) if recorded.numel() else 0.0
        near = same and torch.allclose(wide, recorded, close, close * size, equal_nan=True)
        if not near:
            raise replay.ReplayError("it does not give the same value twice")


def _bare(call: Call) -> str:
    return call.name.rsplit(".", 1)[-1].strip("_")


def _on_line(node: Node) -> str:
    return f" (line {node.source.line})" if node.source else ""


def _line(node: Node) -> int | None:
    return node.source.line if node.source else None


def _said(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return text if len(text) <= 120 else f"{text[:117]}..."


# -- the NumPy program ---------------------------------------------------------------------------


def _numpy(graph: Graph) -> tuple[Verdict, ...]:
    """Compare the gradients of the NumPy program with the recorded ones."""
    program = graph.to_numpy()
    results, gradients = program.run()
    # What is computed in low precision anywhere is known to no more than that.
    close = max(_OF_NUMPY.get(node.value.dtype, 0.0) for node in graph if node.value is not None)
    pairs = zip(graph.results, results, strict=True)
    found = [
        _verdict(graph[number], graph[number].value, result, close) for number, result in pairs
    ]
    hooked = not all(node.adds_up for node in graph)
    for number, name in program.leaves.items():
        leaf = graph[number]
        if leaf.grad is None or hooked:
            note = "a hook changed gradients" if hooked else "no gradient was recorded"
            found.append(Verdict(number, leaf.label, None, "skipped", note=note))
            continue
        verdict = _verdict(leaf, leaf.grad, gradients[name], close)
        if verdict.outcome == "wrong":
            around = _slopes_around(program, name, gradients[name])
            verdict = _verdict(leaf, leaf.grad, gradients[name], close, around)
        found.append(verdict)
    return tuple(found)


def _slopes_around(program: "Program", name: str, gradient: NDArray[Any]) -> float:
    """Return how large a gradient becomes when its leaf doubles: at a minimum it vanishes."""
    step = 1e-6 * np.maximum(1, np.abs(program.inputs[name]))
    _, moved = program.run(**{name: program.inputs[name] + step})
    around = float(np.abs(moved[name] - gradient).max(initial=0)) / 1e-6
    return around if np.isfinite(around) else 0.0


def _verdict(
    node: Node,
    recorded: Snapshot | None,
    computed: NDArray[Any],
    close: float,
    least: float = 1e-12,
) -> Verdict:
    if recorded is None or recorded.values is None:
        return Verdict(node.id, node.label, None, "skipped", note="its values were not kept")
    theirs = np.asarray(recorded.values, dtype=np.float64)
    size = max(float(np.abs(np.nan_to_num(theirs, posinf=0, neginf=0)).max(initial=0)), least)
    same = np.isnan(theirs) & np.isnan(computed) | (theirs == computed)
    with np.errstate(invalid="ignore"):
        worst = float(np.where(same, 0, np.abs(computed - theirs)).max(initial=0)) / size
    return Verdict(node.id, node.label, None, "agrees" if worst <= close else "wrong", worst)


# -- kernels --------------------------------------------------------------------------------------


def with_kernels(graph: Graph) -> Graph:
    """Fill in the ATen operations that each backward runs, by running each operation alone."""
    nodes = [replace(node, kernels=kernels(graph, node)) for node in graph]
    return replace(graph, nodes=tuple(nodes))


def kernels(graph: Graph, node: Node) -> tuple[str, ...]:
    """List the ATen operations that the backward of one operation runs."""
    if not _is_checkable(node) or node.call is None or node.in_no_grad:
        return ()
    try:
        tensors = {n: replay.tensor(graph[n].value, wide=False) for n in replay.nodes_of(node.call)}
        flowing = [edge.source for edge in node.inputs if edge.flows]
        inputs = [tensors[n].requires_grad_() for n in dict.fromkeys(flowing) if n in tensors]
        fresh = {n: t.clone() if t.requires_grad else t for n, t in tensors.items()}
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            outputs = [t for t in replay.run(node.call, fresh, wide=False) if t.requires_grad]
            weights = [torch.ones_like(t) for t in outputs]
            with private.kernels_run() as names:
                torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
    except (TraceError, RuntimeError, ValueError, TypeError):
        return ()
    return tuple(names)
