"""The shape of the loss around a point: what its second derivatives say to a descent."""

import math
from typing import NamedTuple

import numpy as np

from gradfit._types import FloatArray

HUNDREDTH = math.log(100.0)
DOUBLE = float(np.finfo(float).eps)


class Valley(NamedTuple):
    """The quadratic that touches the loss at the best step.

    Attributes
    ----------
    steepest, flattest : float
        Largest and smallest curvature, in units of the loss per unit of the parameters squared. Of
        a loss without a minimum here the one along its lowest direction: negative where it bends
        down, 0 where rounding leaves nothing of it.
    condition : float
        Their ratio; inf where the loss is flat or bends down in some direction, NaN when unknown.
    scaled : float
        The ratio with every parameter measured by its own curvature.
    slow : str
        The parameter that most lies along that direction of smallest curvature.
    gain : float
        How far the loss can still fall by this quadratic; NaN where it has no minimum.
    move : ndarray (p,)
        How far the parameters are from its minimum; NaN where it has none.
    unit : ndarray (p,)
        Square root of each parameter's own curvature; 1 where it has none.
    """

    steepest: float
    flattest: float
    condition: float
    scaled: float
    slow: str
    gain: float
    move: FloatArray
    unit: FloatArray

    @property
    def known(self) -> bool:
        """Whether there were second derivatives to look at."""
        return not math.isnan(self.condition)

    @property
    def closed(self) -> bool:
        """Whether the loss bends up in every direction."""
        return math.isfinite(self.condition)

    @property
    def flat(self) -> bool:
        """Whether the loss bends nowhere down, and in some direction not at all, to rounding."""
        return self.known and not self.closed and self.flattest == 0

    def steps(self, lr: float) -> float:
        """Return after how many steps of constant size 1 % of the way along it is left."""
        factor = max(abs(1 - lr * self.flattest), abs(1 - lr * self.steepest))
        return HUNDREDTH / -math.log(factor) if 0 < factor < 1 else math.inf

    @property
    def best_lr(self) -> float:
        """Return the constant step size that is fastest on this quadratic."""
        return 2 / (self.steepest + self.flattest)


def survey(
    hessian: FloatArray, gradient: FloatArray, columns: tuple[str, ...], eps: float = DOUBLE
) -> Valley:
    """Read a valley off second and first derivatives.

    Parameters
    ----------
    hessian : ndarray (p, p)
        NaN, or empty, when unknown.
    gradient : ndarray (p,)
    columns : tuple of str
        Names of the p numbers.
    eps : float
        Rounding error of one operation among those that the derivatives came from.
    """
    p = len(hessian)
    nowhere = np.full(p, math.nan)
    if p == 0 or not np.isfinite(hessian).all():
        return Valley(math.nan, math.nan, math.nan, math.nan, "", math.nan, nowhere, nowhere)
    # Parameters of very different scales make small eigenvalues of the Hessian rounding error. In
    # units of its own curvature each is known to rounding, and so is which way the loss bends.
    unit = np.sqrt(np.abs(hessian.diagonal()))
    unit = np.where(unit > 0, unit, 1.0)
    own, directions = np.linalg.eigh(hessian / np.outer(unit, unit))
    steepest, largest = float(np.linalg.eigvalsh(hessian)[-1]), float(np.abs(own).max())
    if not own[0] > p * eps * largest:
        lowest = directions[:, 0] / unit
        down = own[0] < -math.sqrt(eps) * largest
        flattest = float(own[0] / (lowest @ lowest)) if down else 0.0
        slow = columns[int(np.abs(lowest).argmax())]
        return Valley(steepest, flattest, math.inf, math.nan, slow, math.nan, nowhere, unit)
    # The inverse is exact in these units, and so is its largest eigenvalue.
    inverse = np.linalg.inv(hessian / np.outer(unit, unit)) / np.outer(unit, unit)
    flatness, directions = np.linalg.eigh(inverse)
    move = -inverse @ gradient
    return Valley(
        steepest,
        1 / float(flatness[-1]),
        steepest * float(flatness[-1]),
        largest / float(own[0]),
        columns[int(np.abs(directions[:, -1]).argmax())],
        -0.5 * float(gradient @ move),
        move,
        unit,
    )
