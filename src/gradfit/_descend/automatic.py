r"""Automatic steps: nonlinear conjugate gradients, every step as long as the loss asks for.

Each direction is the downhill gradient plus a share of the last direction,
:math:`d_{k+1} = -g_{k+1} + \beta_k d_k`, so this is gradient descent with momentum whose two
numbers, step size and momentum, are found anew at every step from gradients alone. The share is

.. math::  \beta_k = \frac{1}{d_k^T y_k}
           \Bigl(y_k - 2 d_k \frac{\lVert y_k\rVert^2}{d_k^T y_k}\Bigr)^T g_{k+1},
           \qquad y_k = g_{k+1} - g_k ,

kept above :math:`0.4\, d_k^T g_k / \lVert d_k\rVert^2`. On a quadratic loss of p parameters with
exact steps it arrives in p steps, however long and narrow the valley.

The step along a direction is where the slope changes its sign, found by secants within a bracket.
Near a minimum the loss is flat to rounding error and can no longer rank two steps, but slopes
still can. So slopes decide, and the loss need only stay within rounding error of where it was.

Hager and Zhang, SIAM Journal on Optimization 16 (2005) 170 (direction, slopes before losses); ACM
Transactions on Mathematical Software 32 (2006) 113 (brackets, first trial); SIAM Journal on
Optimization 23 (2013) 2150 (the bound, which does not depend on the unit of the loss).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._descend.objective import Objective, Point
from gradfit._descend.steppers import UNMOVED
from gradfit.errors import InputError

SLOPE = 0.1
"""A step is accepted where the slope along the line has fallen to this share."""
ROUNDING = 100
"""Units in the last place by which the loss of two equal steps may differ."""
LONGER, LONGEST = 10.0, 100.0
"""How many times longer a first trial may be than the last step, a trial than the one before."""
TRIALS = 60
FIRST = 0.01
"""The first trial would lower the loss by this share of itself, were the slope constant."""
BACKWARDS = 0.4
"""How much of the last direction may be taken back, in units of its slope."""
QUIET = 4
"""Arrived after so many steps in a row that gained nothing; fewer for few parameters."""

IDLE = 100
"""So many steps without a better loss go astray in rounding: time to ask the curvature."""


class Trial(NamedTuple):
    """A place on the line: how far, the loss there, the slope along the line."""

    alpha: float
    loss: float
    slope: float


class Automatic:
    """Conjugate gradients with a line search.

    Parameters
    ----------
    tol : float
        Arrived when steps in a row lowered the loss by less than ``tol**2`` of it.
    first : float or None
        Length of the first trial step, in units of the gradient.

    Raises
    ------
    InputError
        Parameters of several types or devices, which have no common direction.
    """

    def __init__(self, objective: Objective, tol: float, first: float | None) -> None:
        self.objective = objective
        self.parameters = objective.parameters
        if len(self.parameters.blocks) > 1:
            raise InputError(
                '`schedule="auto"` needs all parameters of one dtype on one device; '
                f"{len(self.parameters.blocks)} kinds came"
            )
        self.values = self.parameters.blocks[0].values
        self.grads = self.parameters.blocks[0].grads
        self.tol = tol
        self.lr = math.nan
        self.next = math.nan if first is None else first
        self.direction = torch.zeros_like(self.values)
        self.slope = 0.0
        self.quiet = 0
        self.lost = False
        self.steepest = self.highest = 0.0

    def begin(self) -> Point:
        """Evaluate the start; the first direction is straight down."""
        self.objective.begin()
        self._straight_down()
        return self.objective.point(self.objective.last.item())

    @property
    def rounding(self) -> float:
        """Relative error that the loss may have from rounding."""
        return ROUNDING * self.objective.eps

    def advance(self, point: Point) -> Point | None:
        """Find the next point along the direction; straight down where that finds none."""
        here, gradient = self.values.clone(), self.grads.clone()
        trial = self._search(here, point)
        if trial is None and not torch.equal(self.direction, -gradient):
            self.grads.copy_(gradient)
            self._straight_down()
            trial = self._search(here, point)
        if trial is None:
            self.values.copy_(here)
            self.grads.copy_(gradient)
            self.lost = (
                -self.slope * self.lr <= self.rounding * abs(point.loss)
                or point.norm <= UNMOVED * self.steepest
            )
            return None
        promise = -0.5 * trial.alpha * self.slope
        nothing = max(self.tol**2 * abs(point.loss), self.rounding**2 * self.highest)
        self.quiet = self.quiet + 1 if promise <= nothing else 0
        self.lr = trial.alpha
        self._turn(gradient)
        return self.objective.point(trial.loss)

    def arrived(self, point: Point) -> bool:
        """Whether steps no longer promise anything."""
        self.steepest = max(self.steepest, point.norm)
        self.highest = max(self.highest, abs(point.loss))
        return self.lost or point.norm == 0 or self.quiet >= min(self.parameters.n + 1, QUIET)

    def doubt(self) -> None:
        """Begin to count quiet steps anew."""
        self.quiet = 0

    def _straight_down(self) -> None:
        self.direction = -self.grads
        self.slope = float(self.direction @ self.grads)

    def _turn(self, before: Tensor) -> None:
        """Take the next direction; ``before`` is the gradient where the step began."""
        d, g = self.direction, self.grads
        y = g - before
        dy, yy, yg, dg, dd = torch.stack((d @ y, y @ y, y @ g, d @ g, d @ d)).tolist()
        if not dy > 0:
            self._straight_down()
            return
        beta = (yg - 2 * dg * yy / dy) / dy
        last = self.slope
        beta = max(beta, BACKWARDS * last / dd)
        self.direction = beta * d - g
        self.slope = float(self.direction @ g)
        if not self.slope < 0:
            self._straight_down()
        # Were the curvature along the line as before, this would be the exact step.
        if self.slope < 0:
            self.next = self.lr * min(last / self.slope, LONGER)

    def _at(self, here: Tensor, alpha: float) -> Trial | None:
        """Evaluate on the line; ``None`` where the step is lost in rounding."""
        torch.add(here, self.direction, alpha=alpha, out=self.values)
        if torch.equal(self.values, here):
            return None
        self.parameters.clear()
        try:
            loss = self.objective.backward().item()
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            # Beyond the edge of where the loss exists: nearer, then.
            return Trial(alpha, math.inf, math.nan)
        return Trial(alpha, loss, float(self.direction @ self.grads))

    def _search(self, here: Tensor, point: Point) -> Trial | None:
        """Close in on the point of the line where the slope vanishes."""
        start = Trial(0.0, point.loss, self.slope)
        low, high = start, None
        ceiling = point.loss + self.rounding * abs(point.loss)
        alpha = self._first_trial(point)
        for _ in range(TRIALS if start.slope < 0 else 0):
            trial = self._at(here, alpha)
            if trial is None:
                break
            if trial.loss <= ceiling and abs(trial.slope) <= -SLOPE * start.slope:
                return trial
            width = math.inf if high is None else high.alpha - low.alpha
            if trial.loss <= ceiling and trial.slope < 0:
                previous, low = low, trial
            else:
                previous, high = low, trial
            if high is not None and high.alpha - low.alpha <= self.rounding * high.alpha:
                break
            alpha = _next(previous, low, high, width, ceiling)
        # No such point: at a kink, or where the loss falls without end. What was gained counts.
        return self._at(here, low.alpha) if low.loss < start.loss else None

    def _first_trial(self, point: Point) -> float:
        if not math.isnan(self.next):
            return self.next
        return FIRST * (abs(point.loss) or 1.0) / -self.slope

    def state(self) -> dict[str, Any]:
        """Return direction, slope, and the next trial step."""
        return {
            "direction": self.direction,
            "slope": self.slope,
            "lr": self.lr,
            "next": self.next,
            "quiet": self.quiet,
            "steepest": self.steepest,
            "highest": self.highest,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.direction, self.slope = state["direction"], state["slope"]
        self.lr, self.next = state["lr"], state["next"]
        self.quiet = state["quiet"]
        self.steepest, self.highest = state["steepest"], state["highest"]


def _next(previous: Trial, low: Trial, high: Trial | None, width: float, ceiling: float) -> float:
    """Return where to look next: where slopes say the minimum is, else nearer, else further."""
    if high is None:
        longest = LONGEST * low.alpha
        bend = low.slope - previous.slope
        if bend <= 0:
            return longest
        secant = low.alpha - low.slope * (low.alpha - previous.alpha) / bend
        return min(max(secant, 1.1 * low.alpha), longest)
    span = high.alpha - low.alpha
    if not math.isfinite(high.loss) or not math.isfinite(high.slope):
        return low.alpha + 0.1 * span
    share = low.slope / (low.slope - high.slope) if high.slope > 0 else 0.5
    # Where the far end is too high, or the bracket shrinks too slowly, halve it at least.
    if high.loss > ceiling:
        share = min(share, 0.5)
    return low.alpha + span * (0.5 if span > 0.66 * width else share)
