"""Central differences beside an analytic gradient, told apart from kinks and from rounding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Function = Callable[[Mapping[int, Tensor]], list[Tensor]]
"""From named inputs to outputs; it may write to what it is given."""

Outcome = Literal["agrees", "wrong", "cut", "kink", "skipped"]

TOLERANCE = 1e-5
"""Far above what central differences of a smooth function leave in double precision."""

_STEP = 6e-6  # cube root of the rounding error: truncation and rounding balance
_COARSE_STEP, _COARSE_TOLERANCE = 5e-3, 1e-2  # the same in single precision
_MOST_ENTRIES = 64


@dataclass(frozen=True)
class Agreement:
    """How a gradient compares: the outcome, and the largest relative difference."""

    outcome: Outcome
    worst: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A function around one point, summed up as one number by weights on its outputs.

    Attributes
    ----------
    function : callable
    inputs : mapping
        The point: real or complex tensors in double precision.
    weights : sequence of Tensor or None
        One for each output; ``None`` for all ones.
    coarse : bool
        Whether the function computes in single precision.
    """

    function: Function
    inputs: Mapping[int, Tensor]
    weights: Sequence[Tensor] | None = None
    coarse: bool = False

    def gradients(self) -> dict[int, Tensor | None]:
        """Return the analytic gradient for each input."""
        leaves = {key: value.clone().requires_grad_() for key, value in self.inputs.items()}
        outputs = self.function({key: leaf.clone() for key, leaf in leaves.items()})
        found = torch.autograd.grad(self._sum(outputs), list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, found, strict=True))

    def at(self, moved: int | None = None, by: Tensor | None = None) -> list[Tensor]:
        """Return the outputs, with one input moved."""
        given = {key: value.clone() for key, value in self.inputs.items()}
        if moved is not None and by is not None:
            given[moved] = given[moved] + by
        return [output.detach() for output in self.function(given)]

    def agreement(self, which: int, gradient: Tensor, *, symmetric: bool = False) -> Agreement:
        """Compare the gradient for one input with central differences, entry by entry.

        ``symmetric`` moves an entry of a matrix together with its mirror image.
        """
        moves = list(_moves(self.inputs[which], gradient, symmetric=symmetric))
        slopes = [slope for _, slope in moves]
        if not all(map(_is_finite, slopes)):
            return Agreement("skipped", note="its gradient is not finite here; see problems()")
        center = self.at()
        reach = max(1.0, float(self.inputs[which].abs().max())) if moves else 1.0
        size = sum(float(output.abs().sum()) for output in center)
        scale = max([1e-6 * size / reach, 1e-12, *map(abs, slopes)])
        entries = [self._entry(which, move, slope, center, scale) for move, slope in moves]
        return gravest(entries) if entries else Agreement("skipped", note="it is empty")

    def _entry(
        self, which: int, move: Tensor, slope: float, center: list[Tensor], scale: float
    ) -> Agreement:
        """Compare one slope; where it differs, find out whether step, kink or rounding is why."""
        at = float((self.inputs[which].abs() * move.abs()).max())
        steps = [_COARSE_STEP * max(1, at)] if self.coarse else [_STEP * max(1, at), _STEP * at]
        tolerance = _COARSE_TOLERANCE if self.coarse else TOLERANCE
        worst = float("inf")
        for step in filter(None, steps):
            left, right, rounding = self._slopes(which, move, step, center)
            if not _is_finite(left + right) or rounding > 0.1 * scale:
                continue
            gap = right - left
            if abs(gap) > 1e-3 * scale and self._is_kink(which, move, step, center, gap):
                within = min(left, right) - 1e-3 * scale <= slope <= max(left, right) + 1e-3 * scale
                note = f"slopes {left:.4g} and {right:.4g}"
                return Agreement("kink" if within else "wrong", abs(gap) / scale, note)
            difference = abs((left + right) / 2 - slope)
            worst = min(worst, difference / max(scale, abs(left + right) / 2))
            if worst <= tolerance or difference <= rounding:
                return Agreement("agrees", worst)
            around = at * self._curvature(which, move, step, center, gap)
            if not self.coarse and difference <= tolerance * around:
                return Agreement("agrees", difference / around)
        if worst == float("inf"):
            return Agreement("skipped", note="not finite nearby, or drowned in rounding")
        if not self.coarse and self._is_noisy(which, move, at, center):
            coarse = Comparison(self.function, self.inputs, self.weights, coarse=True)
            return coarse._entry(which, move, slope, center, scale)
        return Agreement("wrong", worst)

    def _slopes(
        self, which: int, move: Tensor, step: float, center: list[Tensor]
    ) -> tuple[float, float, float]:
        """Return the slopes to the left and right, and how far rounding may move them."""
        # Outputs are subtracted one by one, so that large ones do not drown small ones.
        right = list(map(torch.sub, self.at(which, step * move), center))
        left = list(map(torch.sub, center, self.at(which, -step * move)))
        moved = [float((c.abs() * (r != 0)).sum()) for c, r in zip(center, right, strict=True)]
        size = sum(moved) or max(float(c.abs().max()) for c in center if c.numel())
        rounding = 8 * torch.finfo(torch.float64).eps * size / step
        return float(self._sum(left)) / step, float(self._sum(right)) / step, rounding

    def _curvature(
        self, which: int, move: Tensor, step: float, center: list[Tensor], gap: float
    ) -> float:
        """Return the second derivative; 0 where the function is too rough to have one.

        At a minimum the slope vanishes, and is known only as well as those around it.
        """
        left, right, _ = self._slopes(which, move, step / 4, center)
        is_smooth = abs(4 * (right - left) - gap) < abs(gap) / 2
        return abs(gap) / step if is_smooth else 0.0

    def _is_kink(
        self, which: int, move: Tensor, step: float, center: list[Tensor], gap: float
    ) -> bool:
        """Whether the two slopes stay apart as the step shrinks; those of a curve close up."""
        left, right, _ = self._slopes(which, move, step / 16, center)
        return abs(right - left) > abs(gap) / 2

    def _is_noisy(self, which: int, move: Tensor, at: float, center: list[Tensor]) -> bool:
        """Whether the function is rough at a scale where a double precision one is straight."""
        step = 3e-7 * max(1, at)
        left, right, _ = self._slopes(which, move, step, center)
        size = sum(float(output.abs().sum()) for output in center)
        is_rough = abs(right - left) * step > 1e-10 * max(size, 1e-3)
        return is_rough and self._curvature(which, move, step, center, right - left) == 0

    def _sum(self, outputs: Sequence[Tensor]) -> Tensor:
        weights = self.weights or [torch.ones_like(output) for output in outputs]
        products = (
            torch.real(output * weight.conj()).sum().double()
            for output, weight in zip(outputs, weights, strict=True)
        )
        return torch.stack(list(products)).sum()


def gravest(found: Sequence[Agreement]) -> Agreement:
    """Return the one that matters most: wrong before kink before agrees before skipped."""
    order: tuple[Outcome, ...] = ("skipped", "agrees", "kink", "cut", "wrong")
    return max(found, key=lambda each: (order.index(each.outcome), each.worst))


def _moves(point: Tensor, gradient: Tensor, *, symmetric: bool) -> list[tuple[Tensor, float]]:
    """Return directions to move an input in, each with the slope that its gradient promises."""
    count = point.numel()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(count, generator=generator, device="cpu")[:_MOST_ENTRIES].sort().values
    one = torch.ones((), dtype=point.dtype, device="cpu")
    units = (one, one * 1j) if point.is_complex() else (one,)
    moves: list[tuple[Tensor, float]] = []
    for index in chosen.tolist():
        for unit in units:
            move = torch.zeros_like(point)
            move.view(-1)[index] = unit
            if symmetric:
                mirror = move.mH.clone()
                move = move + mirror * (mirror != move)
            moves.append((move, float(torch.real(gradient.conj() * move).sum())))
    return moves


def _is_finite(number: float) -> bool:
    return number - number == 0
