"""The loss of a descent, opened up as a computational graph: at one step, or along the way."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit._descend.objective import first_batch
from gradfit._descend.probe import Source
from gradfit._types import FloatArray
from gradfit.errors import InputError

if TYPE_CHECKING:
    from gradfit.graph import Film, Graph


def graph_at(source: Source, params: Mapping[str, Any]) -> "Graph":
    """Trace the loss with its parameters standing at ``params``; a module stays where it is."""
    from gradfit.graph.trace import trace

    objective = source.objective(params)
    batches = objective.batches
    batch = () if batches is None else (first_batch(batches),)
    if objective.parameters.module is not None:
        objective.parameters.release()
        return trace(objective.loss, *batch)
    by_place, by_name = objective.by_place()
    loss = partial(objective.loss, **by_name) if by_name else objective.loss
    return trace(loss, *batch, *by_place)


def film(
    source: Source,
    params: Mapping[str, Any],
    steps: NDArray[np.int64],
    path: Mapping[str, FloatArray],
    n: int,
) -> "Film":
    """Trace the loss at up to ``n`` recorded steps, first and last among them."""
    from gradfit.graph import Film

    if n < 1:
        raise InputError(f"`n` must be a number of frames, at least 1; got {n}")
    if not path:
        raise InputError("the way was not recorded: more than 128 numbers moved; use graph()")
    chosen = np.unique(np.linspace(0, len(steps) - 1, n).round().astype(int))
    frames: list[Graph] = []
    for index in chosen:
        there = {name: _like(params[name], way[index]) for name, way in path.items()}
        frames.append(_graph_there(source, there))
    return Film(tuple(frames), tuple(f"step {steps[index]}" for index in chosen))


def _graph_there(source: Source, params: Mapping[str, Any]) -> "Graph":
    if source.module is None:
        return graph_at(source, params)
    own = {name: p for name, p in source.module.named_parameters() if name in params}
    before = {name: p.detach().clone() for name, p in own.items()}
    try:
        _put(own, params)
        return graph_at(source, params)
    finally:
        _put(own, before)


def _put(own: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(
                torch.as_tensor(values[name], dtype=parameter.dtype, device=parameter.device)
            )


def _like(given: Any, value: FloatArray) -> Any:
    """Return a value of the way as the kind that the parameter was given as."""
    if isinstance(given, Tensor):
        return torch.as_tensor(value, dtype=given.dtype, device=given.device)
    return value if np.ndim(value) else float(value)
