"""Where a NaN, an inf, a zero, a None or an overwritten value was born."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from gradfit.graph.cuts import behind, cut_behind, cut_remedy, reaching, severed
from gradfit.graph.failures import failures
from gradfit.graph.graph import Graph
from gradfit.graph.problem import Problem, Problems, line_of
from gradfit.graph.record import Node
from gradfit.graph.remedies import DOMAIN, FLAT, POLES, SLOPE
from gradfit.graph.values import Snapshot


def problems(graph: Graph) -> Problems:
    """Find the origins of bad values and gradients.

    A forward origin is an operation with a bad output and only good inputs, or a NaN made of
    infinities; a backward origin, one whose outgoing part is bad although the gradient that arrived
    is good; a zero origin, one whose outgoing part is all zero although what arrived is not.
    """
    found = [*_forward(graph), *_uncleared(graph)]
    if graph.failed is not None or any(backward.error for backward in graph.backwards):
        found += failures(graph)
    else:
        found += [*_backward(graph), *_zero(graph), *_none(graph), *severed(graph)]
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
        message += (
            f": 0 * inf, in the branch that `{chooser.op}` on line {line_of(chooser)} dropped"
        )
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
    reached = reaching(graph)
    overwritten = {node.writes for node in graph}
    for leaf in graph.leaves:
        if leaf.grad is not None or leaf.id in overwritten:
            continue
        cut = cut_behind(graph, leaf)
        if not graph.uses[leaf.id]:
            message = f"`{leaf.label}` is not used: its gradient is None"
            remedy = "use it, or do not ask for its gradient"
            yield Problem("none", "backward", leaf.id, message, remedy)
        elif cut is not None:
            message = f"the gradient of `{leaf.label}` is None: cut at `{cut.expr or cut.label}`"
            if cut.reason:
                message += f" ({cut.reason})"
            yield Problem("none", "backward", cut.id, message, cut_remedy(cut), cut.source)
        elif leaf.id not in reached:
            what = f"what is computed from `{leaf.label}` is not part of the result"
            message, remedy = f"{what}: its gradient is None", "return it, or leave it out"
            yield Problem("none", "backward", leaf.id, message, remedy)
        else:
            yield from _silent(graph, leaf)


def _silent(graph: Graph, leaf: Node) -> Iterator[Problem]:
    """Find the operation whose backward was asked and sent nothing back."""
    on_the_way = behind(graph, leaf.id)
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


# -- passes that added up -------------------------------------------------------------------------


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


_CHOOSERS = ("where", "masked_fill", "[]=")
_WORD = {"nan": "NaN", "inf": "inf"}
