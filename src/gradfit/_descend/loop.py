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

import torch
from torch import Tensor

from gradfit._descend.objective import Objective, Point, one_line
from gradfit._descend.record import Kept, Record
from gradfit._descend.status import DescentStatus
from gradfit._descend.steppers import Stepper
from gradfit.errors import StopFit

RUNAWAY = 1e10
"""Diverged when the loss exceeds the best one by so many times its size."""
ROUNDING = 8
"""Losses that agree to so many units in the last place are the same."""
NEGLIGIBLE = 1e-10
"""A share of the loss that is not worth a step."""
VANISHED = 1e-12
"""A share of the first loss that is as good as zero, for losses that end there."""
TAIL = 64
"""Steps at the end that are kept one by one, however long the way."""


def negligible(gain: float, loss: float, first_loss: float) -> bool:
    """Whether a gain is nothing beside the loss; or the loss, itself all gain, beside the first."""
    vanished = abs(loss) <= VANISHED * abs(first_loss) and gain >= 0.99 * abs(loss)
    return gain <= NEGLIGIBLE * abs(loss) or vanished


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
    """When to end, and how much to record."""

    epochs: int
    patience: int | None
    record: int


class Run:
    """One descent while it runs."""

    def __init__(
        self, objective: Objective, stepper: Stepper, limits: Limits, gain: Callable[[], float]
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
        self._gain = gain

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
            gain = self._gain()
            arrived = self.negligible(gain) or (
                math.isnan(gain) and self.stepper.arrived(self.point)
            )
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
            self._compare(kept)
            self.status = self._exit()
        self.seconds = time.perf_counter() - began
        self.settled = True
        for watch in self.watchers:
            watch(self)

    def _compare(self, kept: Kept) -> None:
        """Keep the best: lowest loss, and of losses equal to rounding the smallest gradient."""
        loss, norm, row = kept.point
        if self.best is None:
            self.best = Best(kept, None if row is not None else self.parameters.copy())
        if not math.isfinite(loss):
            return
        best = self.best.kept.point
        if loss < self.lowest:
            self.lowest = loss
        eps = ROUNDING * self.objective.eps
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
            gain = self._gain()
            if math.isnan(gain) or self.negligible(gain):
                return DescentStatus.CONVERGED
            self.stepper.doubt()
        patience = self.limits.patience
        if patience is not None and self.step - self.improved[0] >= patience:
            return DescentStatus.EARLY_STOP
        if self.step >= self.limits.epochs:
            return DescentStatus.MAX_EPOCHS
        return DescentStatus.RUNNING

    def negligible(self, gain: float) -> bool:
        """Whether the loss is so near its minimum that the rest is not worth a step."""
        return negligible(gain, self.point.loss, self.first_loss)

    def told(self) -> DescentStep:
        """Return what ``on_step`` is told."""
        loss, norm, row = self.point
        best = (self.best.kept.step, self.best.kept.point.loss) if self.best else (0, math.nan)
        named = {} if row is None else self.parameters.named(row)
        return DescentStep(self.step, loss, norm, named, self.stepper.lr, *best)
