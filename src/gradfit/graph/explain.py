"""One tensor in words: where it came from, what it holds, why its gradient is what it is."""

from collections.abc import Iterator

from gradfit.graph.check import kernels, leaves
from gradfit.graph.graph import Graph
from gradfit.graph.record import Node

_COUNTS = ("not used", "used once", "used twice")


def explain(graph: Graph, node: Node) -> str:
    """Write a paragraph about one node."""
    lines = [*_origin(graph, node), *_custom(node), *_gradient(graph, node), *_runs(graph, node)]
    return "\n".join(lines)


def _origin(graph: Graph, node: Node) -> Iterator[str]:
    name = f"`{node.label}`"
    where = f" (line {node.source.line}, in {node.source.function})" if node.source else ""
    if node.kind == "read":
        yield f"{name}{where}: Python looked at the number here and got {node.read_answer}."
        return
    value = "" if node.value is None else f" Value {node.value!r}."
    if node.kind in ("leaf", "constant"):
        yield f"{name} is {_leaf_reason(node)}.{value}"
        return
    inputs = ", ".join(dict.fromkeys(f"`{graph[edge.source].label}`" for edge in node.inputs))
    what = f"{name}{where} is `{node.op}` of {inputs}" if inputs else f"{name}{where}"
    if node.kind == "hidden":
        what = f"{name}{where} was {node.reason}"
    elif node.writes is not None:
        what = f"{name}{where} is version {node.version} of its memory, written by `{node.op}`"
    yield f"{what}.{value}"
    if node.kind == "op":
        yield f"It {node.reason}." if node.requires_grad else f"No gradient: {node.reason}."


def _leaf_reason(node: Node) -> str:
    if node.requires_grad:
        return node.reason
    return f"a constant: it {node.reason}"


def _custom(node: Node) -> Iterator[str]:
    if node.custom is not None and node.custom.backward:
        where = f" (line {node.custom.backward_line})" if node.custom.backward_line else ""
        yield f"Its backward is the user's own{where}:"
        yield from (f"    {line}" for line in node.custom.backward.splitlines())


def _gradient(graph: Graph, node: Node) -> Iterator[str]:
    if node.grad is None:
        if node.requires_grad and node.value is not None:
            yield f"Its gradient is None: {_why_none(graph, node)}."
        return
    if node.is_result:
        yield f"It is the result, so its gradient starts at {node.grad!r}."
    uses = [graph[use] for use in graph.uses[node.id] if graph[use].kind != "read"]
    if not node.parts:
        return
    count = _COUNTS[len(uses)] if len(uses) < len(_COUNTS) else f"used {len(uses)} times"
    places = _listed([f"`{use.expr or use.label}`{_line(use)}" for use in uses])
    if len(node.parts) == 1:
        gradient = f"{node.grad!r}{_differences(graph, node)}"
        yield f"It is {count}, in {places}; its gradient is {gradient}."
        yield from _changed_on_the_way(node)
        return
    yield f"It is {count}: in {places}, so its gradient is a sum:"
    width = max(len(f"{part!r}") for part in node.parts.values())
    for text, part in node.parts.items():
        yield f"  {part!r:>{width}}  through {text}"
    yield f"  = {node.grad!r}{_differences(graph, node)}"
    yield from _changed_on_the_way(node)


def _runs(graph: Graph, node: Node) -> Iterator[str]:
    names = node.kernels or kernels(graph, node)
    if names and node.grad is not None:
        yield f"Its backward runs {_listed([f'`{name}`' for name in names])}."


def _differences(graph: Graph, leaf: Node) -> str:
    """Say what central differences of the whole function have to say about a leaf."""
    if not leaf.is_end:
        return ""
    (verdict,) = leaves(graph, leaf.id)
    if verdict.outcome == "skipped":
        return ""
    if verdict.outcome == "cut":
        return f"  ({verdict.note})"
    if verdict.outcome == "wrong" and verdict.note:
        return f"  ({verdict.note})"
    if verdict.outcome == "wrong":
        return f"  (central differences disagree by {verdict.worst:.0e})"
    return f"  (central differences agree to {verdict.worst:.0e})"


def _changed_on_the_way(node: Node) -> Iterator[str]:
    if not node.adds_up:
        yield "The parts do not add up to it: a hook changed it on the way."


def _why_none(graph: Graph, node: Node) -> str:
    if any(backward.error for backward in graph.backwards):
        return "the backward pass failed; see problems()"
    writer = next((n for n in graph if n.writes == node.id), None)
    if writer is not None:
        return f"`{writer.label}`{_line(writer)} overwrote it; see the version from there on"
    if not graph.uses[node.id]:
        return "nothing uses it"
    if not graph.backwards:
        return "the result does not require grad"
    return "no gradient reached it; see problems()"


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _line(node: Node) -> str:
    return f" (line {node.source.line})" if node.source else ""
