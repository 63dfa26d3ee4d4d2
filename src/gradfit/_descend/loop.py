"""The loop: evaluate, record, ask every exit, move on. The best step is kept, not the last.

Exits are asked in this order at every step, the start included: the loss or its gradient is not
finite; the loss grows without end; the gradient vanished; no better loss for too long; all epochs
done. Then ``on_step`` may ask to stop. Ctrl-C may come anywhere.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._descend.objective import Objective, Point, one_line
from gradfit._descend.record import Kept, Record
from gradfit._descend.status import DescentStatus
from gradfit._descend.steppers import Stepper
from gradfit._descend.valley import Valley
from gradfit.errors import StopFit

RUNAWAY = 1e10
"""Diverged when the loss exceeds the best one by so many times its size."""
ROUNDING, BLUR = 8, 100
"""Losses that agree to so many units in the last place are the same; around a minimum to more."""
NEGLIGIBLE = 1e-10
"""A share of the loss that is not worth a step."""
VANISHED = 1e-12
"""A share of the first loss that is as good as zero, for losses that end there."""
AT_REST = 1e-5
"""A share of its size by which a parameter may still move then."""
TAIL = 64
"""Steps at the end that are kept one by one, however long the way."""


class DescentStep(NamedTuple):
    """What ``on_step`` is told at every step, the start included.

    Attributes
    ----------
    step : int
        Epochs done; 0 at the start.
    loss, grad_norm : float
        At the present parameters.
    params : dict of str to float or ndarray
        The present parameters; empty when they are more than 128 numbers.
    lr : float
        Step size of the update that led here; NaN at the start.
    best_step, best_loss
        The best so far.
    """

    step: int
    loss: float
    grad_norm: float
    params: dict[str, Any]
    lr: float
    best_step: int
    best_loss: float


class Best(NamedTuple):
    """The best step so far; ``values`` copies parameters that are too many for a row."""

    kept: Kept
    values: list[Tensor] | None


class Limits(NamedTuple):
    """When to end, how much to record, and after how many idle steps to ask the curvature."""

    epochs: int
    patience: int | None
    record: int
    idle: int | None


class Run:
    """One descent while it runs."""

    def __init__(
        self, objective: Objective, stepper: Stepper, limits: Limits, look: Callable[[], Valley]
    ) -> None:
        self.objective = objective
        self.parameters = objective.parameters
        self.stepper = stepper
        self.limits = limits
        self.record = Record(limits.record)
        self.tail: deque[Kept] = deque(maxlen=TAIL)
        self.step = 0
        self.point = Point(math.nan, math.nan, None)
        self.best: Best | None = None
        self.lowest = math.inf
        self.improved = (0, math.inf)
        self.first_loss = math.nan
        self.seconds = 0.0
        self.status = DescentStatus.RUNNING
        self.reason = ""
        self.settled = False
        self.watchers: list[Callable[[Run], object]] = []
        self._look = look

    def go(self) -> None:
        """Run until an exit is reached."""
        began = time.perf_counter() - self.seconds
        try:
            if self.best is None:
                self.point = self.stepper.begin()
                self.first_loss = self.point.loss
                self._settle(began)
            else:
                self.status = self._exit()
            while self.status is DescentStatus.RUNNING:
                self.settled = False
                self._advance()
                self._settle(began)
        except (KeyboardInterrupt, StopFit) as stop:
            if self.best is None:
                raise
            if self.status is DescentStatus.RUNNING:
                asked = isinstance(stop, StopFit)
                self.status = DescentStatus.STOPPED if asked else DescentStatus.INTERRUPTED
                self.reason = str(stop)
        except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
            # A matrix that became singular is numerical trouble like any NaN.
            self.status, self.reason = DescentStatus.NONFINITE, one_line(error).rstrip(".")
        except Exception as error:
            error.add_note(f"Raised in a descent, after step {self.step}.")
            raise
        self.seconds = time.perf_counter() - began

    def _advance(self) -> None:
        point = self.stepper.advance(self.point)
        if point is None:
            valley = self._look()
            if self.negligible(valley, self.point):
                self.status = self._arrive()
            else:
                arrived = not valley.closed and self.stepper.arrived(self.point)
                self.status = DescentStatus.CONVERGED if arrived else DescentStatus.STALLED
        else:
            self.point = point
            self.step += 1

    def _settle(self, began: float) -> None:
        """Take note of the present point; everything that must be kept is consistent after it."""
        if self.status is DescentStatus.RUNNING:
            kept = Kept(self.step, self.stepper.lr, self.point)
            self.record.add(kept)
            self.tail.append(kept)
            self._compare(kept, ROUNDING)
            self.status = self._exit()
        self.seconds = time.perf_counter() - began
        self.settled = True
        for watch in self.watchers:
            watch(self)

    def _compare(self, kept: Kept, rounding: float) -> None:
        """Keep the best: lowest loss, and of losses equal to rounding the smallest gradient."""
        loss, norm, row = kept.point
        if self.best is None:
            self.best = Best(kept, None if row is not None else self.parameters.copy())
        if not math.isfinite(loss):
            return
        best = self.best.kept.point
        if loss < self.lowest:
            self.lowest = loss
        eps = rounding * self.objective.eps
        better = loss < best.loss - eps * abs(best.loss) or (
            norm < best.norm and loss <= self.lowest + eps * abs(self.lowest)
        )
        if better:
            self.best = Best(kept, None if row is not None else self.parameters.copy())
        if loss < self.improved[1] - eps * abs(loss):
            self.improved = (self.step, loss)

    def _exit(self) -> DescentStatus:
        loss, norm, _ = self.point
        if not math.isfinite(loss) or not math.isfinite(norm):
            return DescentStatus.NONFINITE
        best = self.lowest
        if loss - best > RUNAWAY * max(abs(self.first_loss), abs(best)):
            return DescentStatus.DIVERGED
        if self.stepper.arrived(self.point):
            # A small gradient is not yet a minimum when the valley is long: ask the curvature.
            valley = self._look()
            if self.negligible(valley, self.point):
                return self._arrive()
            if not valley.closed:
                return DescentStatus.CONVERGED
            self.stepper.doubt()
        elif self._idle() and self.negligible(self._look(), self.point):
            return self._arrive()
        patience = self.limits.patience
        if patience is not None and self.step - self.improved[0] >= patience:
            return DescentStatus.EARLY_STOP
        if self.step >= self.limits.epochs:
            return DescentStatus.MAX_EPOCHS
        return DescentStatus.RUNNING

    def _arrive(self) -> DescentStatus:
        """End here, which is best unless another's loss is lower beyond rounding."""
        self._compare(self.tail[-1], BLUR)
        return DescentStatus.CONVERGED

    def _idle(self) -> bool:
        """Whether the loss has shown no gain for long, so that steps may follow mere rounding."""
        since, idle = self.step - self.improved[0], self.limits.idle
        return idle is not None and since > 0 and since % idle == 0

    def negligible(self, valley: Valley, point: Point) -> bool:
        """Whether a point of the way is so near the minimum that the rest is not worth a step.

        That is so where the rest is nothing beside the loss. Of a loss that ends at zero it is all,
        or the loss is all rounding error: it must have vanished beside the first one, and not only
        because that was high, so no parameter may have a way left to go.
        """
        loss, first = abs(point.loss), abs(self.first_loss)
        if valley.gain <= NEGLIGIBLE * loss:
            return True
        ends_at_zero = (
            valley.gain >= 0.99 * loss or loss <= (BLUR * self.objective.eps) ** 2 * first
        )
        return loss <= VANISHED * first and ends_at_zero and self._at_rest(valley, point)

    def _at_rest(self, valley: Valley, point: Point) -> bool:
        """Whether the way to the minimum is short for every parameter, beside its own size.

        One that ends at zero, to rounding, has no size of its own. It is measured by its start, and
        by what would do as much to the loss as the largest of all parameters does.
        """
        n, eps = len(valley.move), self.objective.eps
        at, start = (np.array((p.row or [])[:n]) for p in (point, self.record.rows[0].point))
        size = np.maximum(np.abs(at), np.abs(start))
        scale = np.maximum(size, (valley.unit * size).max() / valley.unit)
        zero = np.abs(at + valley.move) <= BLUR * eps * scale
        measure = np.where(zero, scale, np.abs(at))
        # In single precision parameters are not known to five digits.
        return bool((np.abs(valley.move) <= max(AT_REST, 1e3 * eps) * measure).all())

    def told(self) -> DescentStep:
        """Return what ``on_step`` is told."""
        loss, norm, row = self.point
        best = (self.best.kept.step, self.best.kept.point.loss) if self.best else (0, math.nan)
        named = {} if row is None else self.parameters.named(row)
        return DescentStep(self.step, loss, norm, named, self.stepper.lr, *best)
