"""What broke in a run that raised: a backward pass, an operation of torch, or a missing gradient.

Each finding names the cause, the place and what to write instead. The text of torch's exceptions
is matched by a few words that have been stable for years; what is not known is quoted as it is.
"""

from collections.abc import Iterator
from functools import partial

from gradfit.graph.cuts import cut_remedy, reached_from
from gradfit.graph.graph import Backward, Graph
from gradfit.graph.problem import Problem, line_of
from gradfit.graph.record import Failed, Node
from gradfit.graph.remedies import CUT


def failure_note(graph: Graph) -> str:
    """Return the diagnosis of a run that raised, for the note of its exception; may be empty."""
    return "\n".join(f"gradfit: {problem}" for problem in failures(graph))


def failures(graph: Graph) -> Iterator[Problem]:
    """Find what broke in a run that raised, or in the backward pass made for it."""
    errors = [backward for backward in graph.backwards if backward.error]
    if errors:
        yield from _failed_pass(graph, errors[-1])
    elif graph.failed is not None:
        yield from _failed_operation(graph, graph.failed)


# -- backward passes ------------------------------------------------------------------------------


def _failed_pass(graph: Graph, failed: Backward) -> Iterator[Problem]:
    said = failed.error or ""
    overwritten = [node for node in graph if node.saved_overwritten]
    if overwritten and "inplace" in said.replace("-", ""):
        found = {
            problem.message: problem for problem in map(partial(_overwritten, graph), overwritten)
        }
        yield from found.values()
    elif "does not require grad" in said:
        yield _nothing_to_differentiate(graph, failed)
    elif "second time" in said:
        yield _second_pass(graph, failed)
    elif "only for scalar outputs" in said:
        root = graph[failed.roots[0]]
        message = f"backward() starts from `{root.label}`, which has {_shape(root)}"
        remedy = f"reduce it to one number, {root.label}.sum().backward() or .mean().backward(), "
        remedy += "or pass the weights: backward(torch.ones_like(...))"
        yield Problem("failed", "backward", root.id, message, remedy, failed.source or root.source)
    else:
        yield _broken(graph, failed)


def _nothing_to_differentiate(graph: Graph, failed: Backward) -> Problem:
    roots = [number for number in failed.roots if not graph[number].requires_grad]
    root = graph[(roots or list(failed.roots))[0]]
    message = f"`{root.label}` does not require grad, so that backward() has nowhere to go"
    cut = _nearest_cut(graph, root)
    if cut is not None:
        message += f": cut at `{cut.expr or cut.label}`"
        message += f" ({cut.reason})" if cut.reason and cut.kind != "read" else ""
        return Problem("none", "backward", cut.id, message, cut_remedy(cut), cut.source)
    sources = _origins(graph, root)
    names = ", ".join(f"`{graph[number].label}`" for number in sources[:6])
    message += f": nothing that it is made of requires grad ({names})" if names else ""
    remedy = "switch it on before: tensor.requires_grad_(True), or for parameters that were frozen "
    remedy += "p.requires_grad_(True)"
    return Problem("none", "backward", root.id, message, remedy, failed.source or root.source)


def _nearest_cut(graph: Graph, root: Node) -> Node | None:
    """Return the operation before a root where what requires grad was lost, or a number read."""
    seen, cuts = {root.id}, list[int]()
    for node in reversed(graph.nodes):
        if node.id in seen:
            seen.update(edge.source for edge in node.inputs)
            if any(graph[edge.source].requires_grad for edge in node.inputs):
                cuts.append(node.id)
    if cuts:
        return graph[max(cuts)]
    reads = [
        node
        for node in graph
        if node.kind == "read"
        and node.op in CUT
        and any(graph[edge.source].requires_grad for edge in node.inputs)
    ]
    return reads[-1] if reads else None


def _origins(graph: Graph, root: Node) -> list[int]:
    seen, found = {root.id}, list[int]()
    for node in reversed(graph.nodes):
        if node.id in seen:
            seen.update(edge.source for edge in node.inputs)
            if not node.inputs:
                found.append(node.id)
    return sorted(found)


def _second_pass(graph: Graph, failed: Backward) -> Problem:
    number = max(n for n, each in enumerate(graph.backwards) if each is failed)
    now = reached_from(graph, list(failed.roots))
    before: set[int] = set()
    for earlier in graph.backwards[:number]:
        before |= reached_from(graph, list(earlier.roots))
    shared = [graph[n] for n in now & before if graph[n].inputs and graph[n].requires_grad]
    carried = [graph[n] for n in now if graph[n].is_end and graph[n].kind != "leaf"]
    node = shared[-1] if shared else (carried or [graph[failed.roots[0]]])[0]
    if shared:
        node = max(shared, key=lambda each: each.id)
    message = f"`{node.label}`{_on_line(node)} belongs to a graph that an earlier backward() used "
    message += "up: a second time its saved values are gone"
    name = node.name or node.label
    remedy = f"carry the value and not its graph: {name} = {name}.detach() between the steps; or "
    remedy += "compute it again for each pass, or call the earlier backward(retain_graph=True)"
    return Problem("freed", "backward", node.id, message, remedy, failed.source or node.source)


def _broken(graph: Graph, failed: Backward) -> Problem:
    said = (failed.error or "").split(" (")[0].split(". ")[0].rstrip(".")
    message = f"the backward pass failed: {said}"
    customs = [node for node in graph if node.custom is not None]
    named = [n for n in customs if n.custom and f"{n.custom.name}Backward" in said]
    node, remedy = graph[failed.roots[0]], "see what it says"
    if "use_reentrant" in said:
        remedy = "call checkpoint(..., use_reentrant=False)"
    elif "not to have been used" in (failed.error or ""):
        remedy = "leave out what the result does not use, or pass allow_unused=True"
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
    message = f"`{node.expr or node.label}` on line {line_of(node)} saved {what} for its backward"
    source = node.source
    remedy = "write to a copy: y = y * 3 instead of y.mul_(3), or y.clone() before the write"
    if writer is not None:
        message += f"; `{writer.expr or writer.label}` on line {line_of(writer)} overwrote it"
        source = writer.source
        if writer.in_no_grad and graph[saved].requires_grad:
            remedy = "make all backward passes before the step that updates the parameters, or run "
            remedy += "the forward again after it"
    return Problem("overwritten", "backward", node.id, message, remedy, source)


def _writer_after(graph: Graph, node: Node, saved: int) -> Node | None:
    """Return who first wrote the memory of a value after an operation had saved it."""
    memory = {saved, graph[saved].view_of} - {None}
    return next((n for n in graph.nodes[node.id + 1 :] if n.writes in memory), None)


# -- operations -----------------------------------------------------------------------------------

_SHAPES = (
    *("size of tensor", "cannot be multiplied", "size mismatch", "must match", "mat1 and mat2"),
    *("expected input", "invalid for input", "sizes of tensors", "batch1 and batch2", "expand("),
    *("broadcast", "same size", "inconsistent tensor size", "input and weight", "out of range"),
    *("out of bounds", "must be equal to", "to be a matrix", "1D tensors", "dimension"),
)
_DTYPES = ("dtype", "scalar type", "can't be cast", "expected m1 and m2", "not implemented for")


def _failed_operation(graph: Graph, failed: Failed) -> Iterator[Problem]:
    said = failed.error.splitlines()[0] if failed.error else ""
    low = said.lower()
    if not failed.op:
        if "NoneType" in failed.error and failed.none_grads:
            yield _missing_gradient(graph, failed)
        return
    expression = (failed.source and failed.source.expr) or failed.op
    node = failed.inputs[0] if failed.inputs else None
    met = ", ".join(dict.fromkeys(_described(graph[number]) for number in failed.inputs))
    if "leaf variable" in low:
        name = graph[node].label if node is not None else "it"
        message = f"`{expression}` writes in place to `{name}`, a leaf that requires grad"
        remedy = "update parameters inside `with torch.no_grad():`; otherwise make a new tensor, "
        remedy += f"{name} = {name} + ..., or clone() it first"
    elif "numpy()" in low:
        message = f"`{expression}`: NumPy cannot record gradients, and `{met}` requires grad"
        remedy = "stay with tensors where a gradient is wanted, otherwise .detach().numpy()"
    elif "boolean value" in low:
        message = f"`{expression}` asks for one truth value of many: {met}"
        remedy = "use torch.where(condition, a, b) to choose entry by entry, or .any(), .all()"
    elif "can require gradients" in low or "require gradients" in low:
        message = f"`{expression}`: only floating-point and complex tensors have gradients; {met}"
        remedy = "make it one: tensor.double() or .float() before requires_grad_()"
    elif "same device" in low or "on device" in low:
        message = f"`{expression}`: tensors on different devices met: {met}"
        remedy = "move them to one device with .to(other.device)"
    elif any(word in low for word in _DTYPES):
        message = f"`{expression}`: types that do not go together met: {met}"
        remedy = "convert one of them: x.to(other.dtype)"
    elif any(word in low for word in _SHAPES):
        message = f"`{expression}`: shapes that do not fit met: {met}"
        remedy = "bring them to fitting shapes with reshape, .T, or unsqueeze (x[:, None])"
    else:
        message = f"`{expression}` raised {said.rstrip('.')}" + (
            f"; it was given {met}" if met else ""
        )
        remedy = "see what it says"
    yield Problem("failed", "forward", node, message, remedy, failed.source)


def _missing_gradient(graph: Graph, failed: Failed) -> Problem:
    number, line = failed.none_grads[-1]
    node = graph[number]
    message = f"`{node.label}.grad` is None"
    if line:
        message += f" on line {line}"
    if node.inputs:
        message += f": `{node.label}` is no leaf but the result of `{node.expr or node.op}`"
        message += f"{_on_line(node)}, and only leaves keep their gradient"
        remedy = "update the leaf in place: with torch.no_grad(): "
        remedy += f"{node.label} -= lr * {node.label}.grad"
    elif not node.requires_grad:
        message += f": `{node.label}` does not require grad"
        remedy = f"switch it on before the forward: {node.label}.requires_grad_(True)"
    else:
        message += ": no backward() has reached it"
        remedy = "call backward() on a loss that uses it before its gradient is read"
    return Problem("none", "backward", node.id, message, remedy, node.source)


def _described(node: Node) -> str:
    value = node.value
    return f"`{node.label}`" if value is None else f"`{node.label}` {value.dtype} {value.shape}"


def _shape(node: Node) -> str:
    return "more than one entry" if node.value is None else f"shape {node.value.shape}"


def _on_line(node: Node) -> str:
    return f" (line {node.source.line})" if node.source else ""
