"""Run recorded operations again, one alone or all in order, on numbers of our choice."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from gradfit.errors import TraceError
from gradfit.graph import autograd_private as private
from gradfit.graph.graph import Graph
from gradfit.graph.operations import find, outputs
from gradfit.graph.record import Call, Node, Ref, references
from gradfit.graph.values import Snapshot

_WIDE = {
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.float32), torch.float64),
    torch.complex64: torch.complex128,
}
_NARROWING = {"float": "double", "half": "double", "bfloat16": "double", "type_as": "clone"}
_ELSEWHERE = {"cuda", "cpu", "xpu", "mps"}


class ReplayError(TraceError):
    """An operation cannot be run again; the message says why."""


def tensor(value: Snapshot | None, *, wide: bool) -> Tensor:
    """Make a tensor of what was recorded, in double precision when ``wide``."""
    if value is None or value.values is None:
        raise ReplayError("its values were too big to keep")
    made = torch.from_numpy(value.values.copy())
    dtype: torch.dtype = getattr(torch, value.dtype)
    return made.to(_WIDE.get(dtype, dtype) if wide else dtype)


def run(call: Call, tensors: Mapping[int, Tensor], *, wide: bool) -> list[Tensor]:
    """Run an operation; return the tensors that it made, then those that it wrote in place."""
    func = _function(call, wide=wide)
    args = _filled(call.args, tensors, wide=wide)
    kwargs = _filled(call.kwargs, tensors, wide=wide)
    if func is torch.Tensor.clone:
        args, kwargs = args[:1], {}
    given = [t for _, t in outputs((args, kwargs))]
    versions = [private.version(t) for t in given]
    if call.random_state is not None:
        torch.set_rng_state(torch.from_numpy(call.random_state.copy()))
    result = func(*args, **kwargs)
    made = [t for _, t in outputs(result) if not any(t is g for g in given)]
    written = {id(t): t for t, v in zip(given, versions, strict=True) if private.version(t) != v}
    if not made and not written:  # in double precision `x.float()` is `x` itself
        made = [t.clone() for _, t in outputs(result)]
    return made + list(written.values())


def nodes_of(call: Call) -> list[int]:
    """Return the nodes among the arguments of a call, each once, in order."""
    return list(dict.fromkeys(references((call.args, call.kwargs))))


def whole(graph: Graph, given: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Run the whole graph in order, in double precision.

    What a gradient does not flow through keeps its recorded value, so that moving a leaf moves only
    what its gradient speaks of.

    Parameters
    ----------
    graph : Graph
    given : mapping of node to tensor
        What to put in for leaves; the others take their recorded values.
    """
    values: dict[int, Tensor] = {}
    made: dict[int, list[Tensor]] = {}
    for node in graph:
        if node.id in given:
            values[node.id] = given[node.id]
        elif node.output is not None and node.inputs[0].source in made:
            values[node.id] = made[node.inputs[0].source][node.output]
        elif node.kind in ("hidden", "op") and not node.is_end and _must_run(graph, node):
            made[node.id] = _rerun(graph, node, values)
            if node.value is not None:
                values[node.id] = made[node.id][0]
        elif node.kind != "read" and node.value is not None:
            values[node.id] = tensor(node.value, wide=True)
        if node.writes is not None:
            values[node.id] = values[node.writes]
    return values


def _must_run(graph: Graph, node: Node) -> bool:
    writes = node.writes is not None or any(graph[u].op == "written" for u in graph.uses[node.id])
    shares = node.view_of is not None and node.kind == "op"
    return node.requires_grad or writes or shares


def _rerun(graph: Graph, node: Node, values: Mapping[int, Tensor]) -> list[Tensor]:
    if node.call is None:
        if node.writes is not None and node.op != "changed":
            return [values[node.writes]]
        raise ReplayError(f"`{node.label}` was not seen by the trace")
    if node.in_no_grad and node.requires_grad:
        raise ReplayError(f"`{node.label}` is overwritten where nothing is recorded")
    if not node.requires_grad and node.view_of is None:
        cut = {e.source for e in node.inputs if graph[e.source].requires_grad}
        values = {**values, **{n: tensor(graph[n].value, wide=True) for n in cut}}
    with torch.no_grad() if node.in_no_grad else nullcontext():
        return run(node.call, values, wide=True)


def _function(call: Call, *, wide: bool) -> Callable[..., Any]:
    name = call.name.rsplit(".", 1)[-1]
    if name in _ELSEWHERE:  # everything is run again on the CPU
        return torch.Tensor.clone
    if wide and name in _NARROWING:
        return getattr(torch.Tensor, _NARROWING[name])
    func = call.func or find(call.name)
    if func is None:
        raise ReplayError(f"`{call.name}` is not at hand in this session")
    return func


def _filled(value: Any, tensors: Mapping[int, Tensor], *, wide: bool) -> Any:
    if isinstance(value, Ref):
        return tensors[value.node]
    if isinstance(value, torch.dtype):
        return _WIDE.get(value, value) if wide else value
    if isinstance(value, (torch.device, str)) and str(value).split(":")[0] in _ELSEWHERE:
        return "cpu"
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(each, tensors, wide=wide) for each in value)
    if isinstance(value, dict):
        return {key: _filled(each, tensors, wide=wide) for key, each in value.items()}
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return slice(*(_filled(each, tensors, wide=wide) for each in parts))
    return value
