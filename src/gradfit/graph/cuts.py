"""Paths from a leaf to the result that carry no gradient: all of them, or one of several."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradfit.graph.graph import Graph
from gradfit.graph.problem import Problem
from gradfit.graph.record import Call, Node
from gradfit.graph.remedies import CUT

_ASIDE = "keep to operations that have a derivative, in floating point"
_MEANT = "if that is meant (a target, a straight-through estimator) leave it, otherwise"
_COMMON = frozenset((0.0, 1.0, -1.0, 2.0, 0.5))
"""Numbers that turn up everywhere, so that meeting one again proves nothing."""


def cut_behind(graph: Graph, leaf: Node) -> Node | None:
    """Return the first operation behind a leaf where its path to the result is cut."""
    before = _before_results(graph)
    for number in sorted(behind(graph, leaf.id)):
        node = graph[number]
        if node.kind == "read" and node.op in CUT:
            return node
        loses = node.kind == "op" and not node.requires_grad and node.value is not None
        if loses and number in before:
            return node
    return None


def severed(graph: Graph) -> Iterator[Problem]:
    """Find where one of several paths to the result is cut, so that a gradient lacks a part.

    The gradient of the leaf is not None, and yet is not the derivative of the function. A number
    that Python read counts where it turns up again, in the arguments of a later operation or in
    a constant.
    """
    leaves = [leaf for leaf in graph.leaves if leaf.grad is not None]
    reach = {leaf.id: behind(graph, leaf.id) for leaf in leaves}
    for node in _cuts(graph):
        names = [f"`{leaf.label}`" for leaf in leaves if node.id in reach[leaf.id]]
        if names:
            what = node.expr or node.label
            message = f"`{what}` cuts one of the paths from {', '.join(names)} to the result: "
            message += "the gradient lacks what goes that way"
            remedy = f"{_MEANT} {cut_remedy(node)}"
            yield Problem("cut", "backward", node.id, message, remedy, node.source)


def cut_places(graph: Graph, leaf: Node) -> list[Node]:
    """Return where a path from a leaf is cut; where that is not known, what may have cut it."""
    reach = behind(graph, leaf.id)
    found = [node for node in _cuts(graph) if node.id in reach]
    return found or [graph[n] for n in sorted(reach) if graph[n].kind == "read"]


def _cuts(graph: Graph) -> list[Node]:
    before = _before_results(graph)
    took = _answers_used(graph)
    return [
        node
        for node in graph
        if (node.id in before and _loses(graph, node))
        or (node.op in CUT and any(use in before for use in took.get(node.id, ())))
    ]


def cut_remedy(node: Node) -> str:
    """Return what to write instead of the operation that cuts."""
    if "switched off" in node.reason:
        return "leave requires_grad on for what is to have a gradient"
    mode = "inference_mode" if node.reason.startswith("inference") else "no_grad"
    remedy = f"move it out of {mode}()" if node.in_no_grad else _ASIDE
    return CUT.get(node.op.strip("_."), remedy)


def _loses(graph: Graph, node: Node) -> bool:
    """Whether what goes in requires grad and the floating-point value that comes out does not."""
    if node.kind != "op" or node.requires_grad or node.value is None:
        return False
    if not node.value.dtype.startswith(("float", "bfloat", "complex")):
        return False
    return any(graph[edge.source].requires_grad for edge in node.inputs)


def _answers_used(graph: Graph) -> dict[int, list[int]]:
    """Return, for each number that Python read, the later nodes in which it stands."""
    found: dict[int, list[int]] = {}
    reads = [node for node in graph if node.kind == "read"]
    for number, answer in ((node.id, _digits(node.answer)) for node in reads):
        if not answer:
            continue
        for node in graph.nodes[number + 1 :]:
            if node.kind != "read" and answer & (_constants(node.call) | _made(node)):
                found.setdefault(number, []).append(node.id)
    return found


def _digits(answer: Any) -> frozenset[float]:
    if isinstance(answer, np.ndarray):
        kind: str = answer.dtype.kind
        numbers = answer.ravel()[:64].tolist() if kind == "f" else []
    else:
        numbers = [answer] if isinstance(answer, float) else []
    return frozenset(numbers) - _COMMON


def _constants(call: Call | None) -> frozenset[float]:
    return frozenset(_floats((call.args, call.kwargs))) if call is not None else frozenset()


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _floats(each)
    elif isinstance(value, dict):
        yield from _floats(list(value.values()))


def _made(node: Node) -> frozenset[float]:
    values = node.value.values if node.kind == "constant" and node.value is not None else None
    return _digits(values) if values is not None else frozenset()


def reaching(graph: Graph) -> set[int]:
    """Return the nodes that a gradient can reach from where a backward pass began."""
    return reached_from(graph, [root for backward in graph.backwards for root in backward.roots])


def reached_from(graph: Graph, roots: list[int]) -> set[int]:
    """Return the nodes that a gradient can reach from some roots."""
    reached = set(roots)
    for node in reversed(graph.nodes):
        if node.id in reached:
            reached.update(edge.source for edge in node.inputs if edge.flows)
    return reached


def behind(graph: Graph, start: int) -> set[int]:
    """Return a node and everything that was computed from it."""
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
