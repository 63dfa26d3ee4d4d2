"""The traced function itself, run again beside its point: the slope that it really has.

The whole graph is checked by replaying what was recorded, with everything that no gradient flows
through held fixed. That finds a wrong backward, and cannot find a path that was cut. Here the
user's own function is run in double precision at two points on either side, along one random
direction for each leaf, and its slope is held against the recorded gradient.
"""

import copy
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from gradfit.graph import autograd_private as private
from gradfit.graph import replay
from gradfit.graph.graph import Graph
from gradfit.graph.operations import alike, outputs
from gradfit.graph.record import Node, Ref

_FINE, _COARSE = (1e-5, 1e-6, 1e-4), (1e-2, 3e-3, 3e-2)
"""Two steps that must agree, and the tolerance: far above what differences of a smooth function
leave, far below a path that is missing. The coarse ones see past single precision inside."""


@dataclass(frozen=True)
class Slope:
    """Slope of the function along one direction, and what the gradient promises."""

    found: float
    promised: float
    agrees: bool


class OwnFunction:
    """The traced function with fresh copies of its arguments, in double precision.

    Raises
    ------
    ReplayError
        There is no function to run, or it makes backward passes of its own: running it again
        would take steps of training again.
    """

    def __init__(self, graph: Graph) -> None:
        call = graph.call
        if call is None or call.func is None:
            raise replay.ReplayError("a loaded graph has no function to run")
        if any(backward.source is not None for backward in graph.backwards):
            raise replay.ReplayError("the function makes its own backward pass")
        self._graph = graph
        self._call = call
        self._places = _places(graph, call.func)

    def can_move(self, leaf: Node) -> bool:
        """Whether a leaf is an argument, or a parameter of the module that was traced."""
        return leaf.id in self._places

    def value(self, moved: int, by: Tensor) -> float:
        """Run the function with one leaf moved; return the sum of what it returns."""
        call = self._call
        func: Callable[..., Any] = call.func  # type: ignore[assignment]

        def fresh(value: Any) -> Any:
            if isinstance(value, Ref):
                made = replay.tensor(self._graph[value.node].value, wide=True)
                return made + by if value.node == moved else made
            if isinstance(value, nn.Module):
                return copy.deepcopy(value).double()
            if isinstance(value, (list, tuple)):
                return alike(value, [fresh(each) for each in value])
            if isinstance(value, dict):
                return {key: fresh(each) for key, each in value.items()}
            return value

        arguments, keywords = fresh(call.args), fresh(dict(call.kwargs))
        if isinstance(func, nn.Module):
            func = copy.deepcopy(func).double()
            place = self._places[moved]
            if place is not None:
                func.get_parameter(place).data.add_(by)
        if call.random_state is not None:
            torch.set_rng_state(torch.from_numpy(call.random_state.copy()))
        with torch.no_grad(), redirect_stdout(StringIO()), private.compiled_code_runs_eagerly():
            found = [t for _, t in outputs(func(*arguments, **keywords))]
        numbers = [t.real if t.is_complex() else t for t in found]
        return float(sum(t.double().sum() for t in numbers if t.is_floating_point()))


def slope(
    own: OwnFunction, leaf: Node, gradient: Tensor, *, symmetric: bool = False
) -> Slope | None:
    """Compare the function's own slope with a gradient in double precision along one direction.

    ``symmetric`` keeps a matrix symmetric, of which only one triangle is read.

    ``None`` where it cannot be said: values that were not kept, a function that is rough, or not
    finite, beside this point.
    """
    if not own.can_move(leaf):
        return None
    point = replay.tensor(leaf.value, wide=True)
    if not point.is_floating_point() or not bool(torch.isfinite(gradient).all()):
        return None
    generator = torch.Generator().manual_seed(leaf.id)
    direction = torch.randn(point.shape, generator=generator, dtype=torch.float64, device="cpu")
    direction = direction.to(point.dtype) if point.dim() else torch.ones_like(point)
    direction = (direction + direction.mH) / 2 if symmetric else direction
    promised = float((gradient * direction).sum())
    size = float((gradient * direction).abs().sum())
    for wide, narrow, tolerance in (_FINE, _COARSE):
        slopes = [_central(own, leaf, direction, step, size) for step in (wide, narrow)]
        if tolerance < _COARSE[2] and slopes[0][0] == slopes[1][0] == 0 < size:
            continue  # the steps may be lost in single precision inside
        (first, rounding), (second, more) = slopes
        close = tolerance * max(size, abs(first)) + max(rounding, more)
        if abs(first - second) <= close:  # false for NaN, too
            return Slope(first, promised, abs(first - promised) <= close)
    return None


def _central(
    own: OwnFunction, leaf: Node, direction: Tensor, step: float, size: float
) -> tuple[float, float]:
    """Return a central difference and what rounding may move it by; NaN beside a kink."""
    peak = float(direction.abs().max()) if direction.numel() else 1.0
    at = replay.tensor(leaf.value, wide=True)
    width = step * max(1.0, float(at.abs().max()) if at.numel() else 1.0) / max(peak, 1e-300)
    here = own.value(leaf.id, torch.zeros_like(direction))
    right, left = (own.value(leaf.id, s * width * direction) for s in (1, -1))
    central = (right - left) / (2 * width)
    rounding = 1e-14 * max(abs(here), 1e-300) / width
    sides = abs((right - here) - (here - left)) / width
    is_kink = sides > max(0.3, 100 * step) * max(abs(central), size) + rounding
    return (float("nan"), rounding) if is_kink else (central, rounding)


def _places(graph: Graph, func: Any) -> dict[int, str | None]:
    """Return the leaves that can be moved: arguments (None), and parameters by their path."""
    call = graph.call
    found: dict[int, str | None] = {}
    if call is not None:
        found = dict.fromkeys(replay.nodes_of(call))
    if isinstance(func, nn.Module):
        paths = {path for path, _ in func.named_parameters()}
        found |= {leaf.id: leaf.label for leaf in graph.leaves if leaf.label in paths}
    return found
