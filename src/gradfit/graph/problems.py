"""Where a NaN, an inf, a zero, a None or an overwritten value was born."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from gradfit.graph.graph import Backward, Graph
from gradfit.graph.record import Node, Snapshot, Source
from gradfit.graph.remedies import CUT, DOMAIN, FLAT, POLES, SLOPE

ProblemKind = Literal["nan", "inf", "zero", "none", "overwritten", "freed", "uncleared"]


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong, at the place where it began.

    Attributes
    ----------
    kind : {"nan", "inf", "zero", "none", "overwritten", "freed", "uncleared"}
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


def problems(graph: Graph) -> Problems:
    """Find the origins of bad values and gradients.

    A forward origin is an operation with a bad output and only good inputs, or a NaN made of
    infinities; a backward origin, one whose outgoing part is bad although the gradient that arrived
    is good; a zero origin, one whose outgoing part is all zero although what arrived is not.
    """
    found = [*_forward(graph), *_uncleared(graph)]
    errors = [backward for backward in graph.backwards if backward.error]
    if errors:
        found += _failed(graph, errors)
    else:
        found += [*_backward(graph), *_zero(graph), *_none(graph)]
    return Problems(found)


def uncleared(leaves: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Name the leaves whose ``.grad`` is not empty, so that ``backward()`` would add to it."""
    return tuple(name for name, leaf in leaves.items() if leaf.grad is not None)


# -- values ---------------------------------------------------------------------------------------


def _forward(graph: Graph) -> Iterator[Problem]:
    origins = [node for node in graph if _is_origin(graph, node)]
    born_nan = any(_kind_of(node.value) == "nan" for node in origins)
    harmless = not _ends_badly(graph)
    for node in origins:
        kind = _kind_of(node.value)
        # An infinity may be meant, as in the mask of a softmax.
        if kind == "inf" and (harmless or (born_nan and not node.inputs)):
            continue
        if node.inputs:
            origin = f"{_WORD[kind]} begins in the forward of `{node.expr or node.label}`"
            remedy = _forward_remedy(graph, node, kind)
        else:
            origin = f"`{node.label}` came in with {_WORD[kind]}{_first_bad(node.value)}"
            remedy = "clean the data before"
        yield Problem(kind, "forward", node.id, origin, remedy, node.source)


def _is_origin(graph: Graph, node: Node) -> bool:
    """Whether a value is bad, and worse than all that it was made of."""
    if not _bad(node.value):
        return False
    given = [graph[edge.source].value for edge in node.inputs]
    given += [graph[node.writes].value] if node.writes is not None else []
    worst = {_kind_of(value) for value in given if _bad(value)}
    return not worst or (worst == {"inf"} and _kind_of(node.value) == "nan")


def _ends_badly(graph: Graph) -> bool:
    """Whether a result or a gradient is not finite."""
    ends = [graph[number].value for number in graph.results]
    return any(map(_bad, [*ends, *(leaf.grad for leaf in graph.leaves)]))


def _forward_remedy(graph: Graph, node: Node, kind: str) -> str:
    if any(_is_empty(graph[edge.source].value) for edge in node.inputs):
        return "what goes in has no entries"
    if kind == "nan" and any(_bad(graph[edge.source].value) for edge in node.inputs):
        return "it is inf - inf, inf / inf or 0 * inf: see where the inf comes from"
    op = node.op.strip("_.")
    if kind == "inf" and op not in POLES and node.value is not None:
        return f"it is more than {node.value.dtype} can hold: scale it down"
    return DOMAIN.get(op, "look at what goes in")


def _bad(value: Snapshot | None) -> bool:
    return value is not None and value.stats.n_nonfinite > 0


def _is_empty(value: Snapshot | None) -> bool:
    return value is not None and value.n == 0


def _kind_of(value: Snapshot | None) -> Literal["nan", "inf"]:
    values = value.values if value is not None else None
    return "inf" if values is not None and not np.isnan(values).any() else "nan"


def _first_bad(value: Snapshot | None) -> str:
    if value is None or value.values is None or value.n == 1:
        return ""
    first = np.argwhere(~np.isfinite(value.values))[0]
    return f", first at index {', '.join(map(str, first))}"


# -- gradients ------------------------------------------------------------------------------------


def _arriving(graph: Graph, node: Node) -> list[Snapshot]:
    """Return the gradients that arrive at an operation: its own, or those of its outputs."""
    outputs = (graph[use] for use in graph.uses[node.id] if graph[use].output is not None)
    grads = [node.grad] if node.value is not None else [output.grad for output in outputs]
    return [grad for grad in grads if grad is not None]


def _backward(graph: Graph) -> Iterator[Problem]:
    for node in graph:
        inputs = (graph[edge.source].value for edge in node.inputs)
        if node.output is not None or any(map(_bad, (*_arriving(graph, node), *inputs))):
            continue
        for edge in node.inputs:
            dropped_by = _dropped_by(graph, node, edge.part)
            if _bad(edge.part) and (dropped_by is not None or not _bad(node.value)):
                yield _backward_origin(node, edge.part, dropped_by)
                break


def _backward_origin(node: Node, part: Snapshot | None, chooser: Node | None) -> Problem:
    kind = _kind_of(part)
    text = node.expr or node.label
    message = f"{_WORD[kind]} in the gradient begins in the backward of `{text}`"
    remedy = SLOPE.get(node.op.strip("_."), "keep away from the point where it has no derivative")
    if chooser is not None:
        message += f": 0 * inf, in the branch that `{chooser.op}` on line {_line(chooser)} dropped"
        remedy = (
            "choose before computing: f(torch.where(ok, x, 1)) inside, torch.where(ok, ...) outside"
        )
    return Problem(kind, "backward", node.id, message, remedy, node.source)


def _dropped_by(graph: Graph, node: Node, part: Snapshot | None) -> Node | None:
    """Return the ``where`` that dropped every entry whose gradient is bad."""
    choosers = [graph[use] for use in graph.uses[node.id] if graph[use].op in _CHOOSERS]
    if not choosers or part is None or part.values is None:
        return None
    bad = ~np.isfinite(part.values)
    for arriving in _arriving(graph, node):
        same = arriving.values is not None and arriving.shape == part.shape
        if same and arriving.values is not None and (arriving.values[bad] == 0).all():
            return choosers[0]
    return None


def _zero(graph: Graph) -> Iterator[Problem]:
    for node in graph:
        arriving = _arriving(graph, node)
        if node.output is not None or not arriving or all(map(_is_zero, arriving)):
            continue
        for edge in node.inputs:
            if edge.part is None or any(_cancels(each, edge.part) for each in arriving):
                continue
            if _is_zero(edge.part) and _is_zero(graph[edge.source].grad):
                text = node.expr or node.label
                message = f"the gradient becomes zero in `{text}`, for `{graph[edge.source].label}`"
                remedy = FLAT.get(node.op.strip("_."), "start from another point")
                yield Problem("zero", "backward", node.id, message, remedy, node.source)
                break


def _cancels(arriving: Snapshot, part: Snapshot) -> bool:
    """Whether a part may be zero because what it sums up has both signs, as at a minimum."""
    return part.n < arriving.n and arriving.stats.low < 0 < arriving.stats.high


def _is_zero(grad: Snapshot | None) -> bool:
    if grad is None or grad.n == 0:
        return False
    low, high, _, bad = grad.stats
    return low == high == 0 and not bad


def _none(graph: Graph) -> Iterator[Problem]:
    reached = _reaching(graph)
    overwritten = {node.writes for node in graph}
    for leaf in graph.leaves:
        if leaf.grad is not None or leaf.id in overwritten:
            continue
        cut = _cut(graph, leaf)
        if not graph.uses[leaf.id]:
            message = f"`{leaf.label}` is not used: its gradient is None"
            remedy = "use it, or do not ask for its gradient"
            yield Problem("none", "backward", leaf.id, message, remedy)
        elif cut is not None:
            message = f"the gradient of `{leaf.label}` is None: cut at `{cut.expr or cut.label}`"
            if cut.reason:
                message += f" ({cut.reason})"
            mode = "inference_mode" if cut.reason.startswith("inference") else "no_grad"
            remedy = f"move it out of {mode}()" if cut.in_no_grad else _ASIDE
            remedy = CUT.get(cut.op.strip("_."), remedy)
            yield Problem("none", "backward", cut.id, message, remedy, cut.source)
        elif leaf.id not in reached:
            what = f"what is computed from `{leaf.label}` is not part of the result"
            message, remedy = f"{what}: its gradient is None", "return it, or leave it out"
            yield Problem("none", "backward", leaf.id, message, remedy)
        else:
            yield from _silent(graph, leaf)


def _silent(graph: Graph, leaf: Node) -> Iterator[Problem]:
    """Find the operation whose backward was asked and sent nothing back."""
    on_the_way = _behind(graph, leaf.id)
    for node in graph:
        for edge in node.inputs:
            asked = edge.flows and edge.part is None and _arriving(graph, node)
            if asked and edge.source in on_the_way:
                source = graph[edge.source].label
                message = f"the gradient of `{leaf.label}` is None: the backward of "
                message += f"`{node.expr or node.label}` sends nothing to `{source}`"
                remedy = "let its backward return a gradient for that input"
                yield Problem("none", "backward", node.id, message, remedy, node.source)
                return


def _reaching(graph: Graph) -> set[int]:
    """Return the nodes that a gradient can reach from where a backward pass began."""
    reached = {root for backward in graph.backwards for root in backward.roots}
    for node in reversed(graph.nodes):
        if node.id in reached:
            reached.update(edge.source for edge in node.inputs if edge.flows)
    return reached


def _cut(graph: Graph, leaf: Node) -> Node | None:
    """Return the first operation behind a leaf where its way to the result is cut."""
    behind, before = _behind(graph, leaf.id), _before_results(graph)
    for number in sorted(behind):
        node = graph[number]
        if node.kind == "read" and node.op in CUT:
            return node
        loses = node.kind == "op" and not node.requires_grad and node.value is not None
        if loses and number in before:
            return node
    return None


def _behind(graph: Graph, start: int) -> set[int]:
    stack, seen = [start], {start}
    while stack:
        new = [use for use in graph.uses[stack.pop()] if use not in seen]
        seen.update(new)
        stack += new
    return seen


def _before_results(graph: Graph) -> set[int]:
    seen = {root for backward in graph.backwards for root in backward.roots} | set(graph.results)
    for node in reversed(graph.nodes):
        if node.id in seen:
            seen.update(edge.source for edge in node.inputs)
    return seen


# -- passes that failed or added up ----------------------------------------------------------------


def _failed(graph: Graph, errors: list[Backward]) -> Iterator[Problem]:
    found = False
    for node in graph:
        if node.saved_overwritten:
            found = True
            yield _overwritten(graph, node)
    if not found:
        yield _broken(graph, errors[0])


def _broken(graph: Graph, failed: Backward) -> Problem:
    said = (failed.error or "").split(" (")[0].split(". ")[0].rstrip(".")
    message = f"the backward pass failed: {said}"
    customs = [node for node in graph if node.custom is not None]
    named = [n for n in customs if n.custom and f"{n.custom.name}Backward" in said]
    node, remedy = graph[failed.roots[0]], "see what it says"
    if "use_reentrant" in said:
        remedy = "call checkpoint(..., use_reentrant=False)"
    elif "second time" in said:
        remedy = "compute the values again for each pass, or call backward(retain_graph=True)"
    elif customs:
        node = (named or customs)[-1]
        remedy = f"mend the backward of {node.op.removesuffix('.apply')}"
    return Problem("freed", "backward", node.id, message, remedy, node.source)


def _overwritten(graph: Graph, node: Node) -> Problem:
    keeps_result = node.saved_overwritten[0] in ("result", "output", "out", "values")
    candidates = [node.id] if keeps_result else [*(e.source for e in node.inputs), node.id]
    written = ((saved, _writer_after(graph, node, saved)) for saved in candidates)
    saved, writer = next((pair for pair in written if pair[1]), (candidates[0], None))
    what = "its result" if saved == node.id else f"`{graph[saved].label}`"
    message = f"`{node.expr or node.label}` on line {_line(node)} saved {what} for its backward"
    source = node.source
    if writer is not None:
        message += f"; `{writer.expr or writer.label}` on line {_line(writer)} overwrote it"
        source = writer.source
    remedy = "write to a copy: y = y * 3 instead of y.mul_(3), or y.clone() before the write"
    return Problem("overwritten", "backward", node.id, message, remedy, source)


def _writer_after(graph: Graph, node: Node, saved: int) -> Node | None:
    """Return who first wrote the memory of a value after an operation had saved it."""
    memory = {saved, graph[saved].view_of} - {None}
    return next((n for n in graph.nodes[node.id + 1 :] if n.writes in memory), None)


def _uncleared(graph: Graph) -> Iterator[Problem]:
    for number, backward in enumerate(graph.backwards):
        if not backward.uncleared:
            continue
        names = ", ".join(f"`{graph[leaf].label}`" for leaf in backward.uncleared)
        before = "the trace" if number == 0 or backward.source is None else "an earlier backward()"
        message = f"{names} held a gradient from before {before}, and backward() adds to it"
        if number > 0:
            message = f"{names} held a gradient from {before}, and this backward() added to it"
        remedy = "clear it before each pass: optimizer.zero_grad(), or p.grad = None"
        leaf = backward.uncleared[0]
        yield Problem("uncleared", "backward", leaf, message, remedy, backward.source)


def _line(node: Node) -> int | str:
    return node.source.line if node.source else "?"


_CHOOSERS = ("where", "masked_fill", "[]=")
_ASIDE = "keep to operations that have a derivative, in floating point"
_WORD = {"nan": "NaN", "inf": "inf"}
