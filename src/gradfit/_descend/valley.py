"""The shape of the loss around a point: what its second derivatives say to a descent."""

import math
from typing import NamedTuple

import numpy as np

from gradfit._types import FloatArray

HUNDREDTH = math.log(100.0)


class Valley(NamedTuple):
    """The quadratic that touches the loss at the best step.

    Attributes
    ----------
    steepest, flattest : float
        Largest and smallest curvature, in units of the loss per unit of the parameters squared.
    condition : float
        Their ratio; inf where the loss is flat or bends down in some direction, NaN when unknown.
    scaled : float
        The ratio with every parameter measured by its own curvature.
    slow : str
        The parameter that most lies along the direction of smallest curvature.
    gain : float
        How far the loss can still fall by this quadratic; NaN where it has no minimum.
    move : ndarray (p,)
        How far the parameters are from its minimum; NaN where it has none.
    """

    steepest: float
    flattest: float
    condition: float
    scaled: float
    slow: str
    gain: float
    move: FloatArray

    @property
    def known(self) -> bool:
        """Whether there were second derivatives to look at."""
        return not math.isnan(self.condition)

    @property
    def closed(self) -> bool:
        """Whether the loss bends up in every direction."""
        return math.isfinite(self.condition)

    def steps(self, lr: float) -> float:
        """Return after how many steps of constant size 1 % of the way along it is left."""
        factor = max(abs(1 - lr * self.flattest), abs(1 - lr * self.steepest))
        return HUNDREDTH / -math.log(factor) if 0 < factor < 1 else math.inf

    @property
    def best_lr(self) -> float:
        """Return the constant step size that is fastest on this quadratic."""
        return 2 / (self.steepest + self.flattest)


def survey(hessian: FloatArray, gradient: FloatArray, columns: tuple[str, ...]) -> Valley:
    """Read a valley off second and first derivatives.

    Parameters
    ----------
    hessian : ndarray (p, p)
        NaN, or empty, when unknown.
    gradient : ndarray (p,)
    columns : tuple of str
        Names of the p numbers.
    """
    p = len(hessian)
    nowhere = np.full(p, math.nan)
    if p == 0 or not np.isfinite(hessian).all():
        return Valley(math.nan, math.nan, math.nan, math.nan, "", math.nan, nowhere)
    curvatures, directions = np.linalg.eigh(hessian)
    steepest = float(curvatures[-1])
    unit = np.sqrt(np.maximum(hessian.diagonal(), 0.0))
    own = _own(hessian, unit)
    if own is None:
        slow = columns[int(np.abs(directions[:, 0]).argmax())]
        flattest = float(curvatures[0])
        return Valley(steepest, flattest, math.inf, math.nan, slow, math.nan, nowhere)
    # Parameters of very different scales make small eigenvalues of the Hessian rounding error;
    # in units of its own curvature the inverse is exact, and so is its largest eigenvalue.
    inverse = np.linalg.inv(hessian / np.outer(unit, unit)) / np.outer(unit, unit)
    flatness, directions = np.linalg.eigh(inverse)
    move = -inverse @ gradient
    return Valley(
        steepest,
        1 / float(flatness[-1]),
        steepest * float(flatness[-1]),
        own,
        columns[int(np.abs(directions[:, -1]).argmax())],
        -0.5 * float(gradient @ move),
        move,
    )


def _own(hessian: FloatArray, unit: FloatArray) -> float | None:
    """Return the condition number in units of each parameter's own curvature.

    ``None`` where the loss is flat, to rounding, or bends down in some direction.
    """
    if not (unit > 0).all():
        return None
    curvatures = np.linalg.eigvalsh(hessian / np.outer(unit, unit))
    if not curvatures[0] > len(unit) * np.finfo(float).eps * curvatures[-1]:
        return None
    return float(curvatures[-1] / curvatures[0])
