"""What came of one fit, in numbers: the fields that every result has, whatever found them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gradfit._model import Model
from gradfit._result.correlation import Array, Correlated
from gradfit._result.observed import Observed
from gradfit._types import FloatArray, Status


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Outcome(Correlated):
    """The fields of a :class:`FitResult`, which also those have that another estimator found."""

    names: tuple[str, ...]
    params: Mapping[str, float]
    stderr: Mapping[str, float]
    cov: Array
    chi2: float
    dof: int
    mswd: float
    p_value: float
    delta: Array
    eps: Array | None
    x_hat: Array
    y_hat: Array | None
    weights: Array
    status: Status
    success: bool
    message: str
    n_steps: int
    n_eval: int
    condition: float
    rank: int
    seconds: float
    backend: str
    absolute_sigma: bool
    cov_type: str
    loss: str
    fixed: tuple[str, ...]
    at_bound: tuple[str, ...]
    observed: Observed
    model: Model
    loss_scale: float = math.nan
    bounds: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    shared: tuple[str, ...] = ()
    correction: Mapping[str, float] = field(default_factory=dict[str, float])
    moved: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    scale: float = math.nan

    @property
    def sigma_factor(self) -> float:
        """By how much the sigmas were multiplied, or the distances where none was given.

        1 if they were taken as given, else ``scale`` of a robust loss, or ``sqrt(mswd)``.
        """
        if self.absolute_sigma:
            return 1.0
        return math.sqrt(self.mswd) if self.loss == "linear" else self.scale

    @property
    def outliers(self) -> NDArray[np.int64]:
        """Rows of points that stand out.

        Whatever the loss, those that lie farther from the curve, in standard deviations, than one
        in a hundred such data sets would show, farthest first.
        """
        from gradfit._views.residuals import outliers

        return outliers(cast(Any, self))

    def beyond(self) -> FloatArray | None:
        """Return the variance of y (N,) that points have beyond their errors; None if none."""
        return None
