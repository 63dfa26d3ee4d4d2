"""Words shared by every floor: how a fit ends, and the array types at the door."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

FloatArray: TypeAlias = NDArray[np.float64]
ArrayLike: TypeAlias = "FloatArray | Tensor | Sequence[Any] | float | int"


class Status(IntEnum):
    """How a fit ended.

    Values below 10 are good. ``Status.ok`` tells; ``Status.message`` says what happened and, where
    the fit failed, what to try.
    """

    RUNNING = 0
    GRADIENT = 1
    COST = 2
    STEP = 3
    MAX_STEPS = 10
    STALLED = 11
    NONFINITE = 12
    SINGULAR = 13
    STOPPED = 14
    BAD_START = 15
    TOO_FEW_POINTS = 16
    BAD_DATA = 17
    DEGENERATE = 18

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec[-1:] in tuple("bcdoxXneEfFgG%") else str(self), spec)

    @property
    def ok(self) -> bool:
        """Whether the fit converged."""
        return 0 < self.value < 10

    @property
    def message(self) -> str:
        """One sentence: what happened, and what to try."""
        return _MESSAGES[self]


def message_of(status: Status, *, sought: bool = True) -> str:
    """Return what happened to a fit, in which no parameter may have been ``sought``."""
    return EVALUATED if status.ok and not sought else status.message


EVALUATED = "evaluated: every parameter is fixed"
"""What happened where there was nothing to converge."""
STATUSES: dict[float, Status] = {float(s): s for s in Status}
"""Statuses by number: looking one up takes a tenth of the time of ``Status(number)``."""

_MESSAGES = {
    Status.RUNNING: "still running",
    Status.GRADIENT: "converged: the gradient vanished",
    Status.COST: "converged: chi-square cannot be lowered within rounding error",
    Status.STEP: "converged: the step became smaller than rounding error",
    Status.MAX_STEPS: "stopped at max_steps before converging; raise max_steps, start closer, or "
    "bound parameters that run away",
    Status.STALLED: "stalled: no step lowers chi-square although the gradient is not zero; "
    "start closer or look for a kink in the model",
    Status.NONFINITE: "the model gave NaN or inf and no smaller step avoids it; "
    "start closer or set bounds",
    Status.SINGULAR: "the data do not determine every parameter; fix one or simplify the model",
    Status.STOPPED: "stopped by on_step",
    Status.BAD_START: "the model is NaN or inf at the start values; choose others",
    Status.TOO_FEW_POINTS: "fewer points than free parameters; add data or fix a parameter",
    Status.BAD_DATA: 'the data hold NaN or inf; clean them or use nan_policy="omit"',
    Status.DEGENERATE: "the points leave the shape open, or the best one lies at infinity; "
    "choose a simpler shape",
}
