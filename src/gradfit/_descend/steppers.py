"""From one point of the descent to the next: one update, or one pass over all batches."""

import math
from typing import Any, Protocol

from torch import Tensor

from gradfit._descend.objective import Objective, Point
from gradfit._descend.rules import Rule

UNMOVED = 1e-5
"""Where steps are lost in rounding, a gradient that fell to this share has arrived."""


class Stepper(Protocol):
    """Walks. Every point it gives stands in the block: values, and the gradient there."""

    @property
    def lr(self) -> float:
        """Step size of the update that led to the present point; NaN at the start."""
        ...

    def begin(self) -> Point:
        """Evaluate the start, and see that the loss reaches its parameters."""
        ...

    def advance(self, point: Point) -> Point | None:
        """Move on from ``point``; ``None`` when no step can be found."""
        ...

    def arrived(self, point: Point) -> bool:
        """Whether nothing is left to gain at ``point``."""
        ...

    def doubt(self) -> None:
        """Ask more before arriving again."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what must be kept to go on exactly here."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state, with the block as it was then."""
        ...


class Update:
    """One update by a rule, from the gradient that stands in the block.

    Parameters
    ----------
    clip : float or None
        Longer gradients are shortened to this norm before the update.
    """

    def __init__(self, objective: Objective, rule: Rule, clip: float | None) -> None:
        self.objective = objective
        self.rule = rule
        self.clip = clip
        self.lr = math.nan
        self._batch: tuple[Any, ...] = ()
        self._known = False

    def __call__(self, norm: float, *batch: Any) -> None:
        """Change the values once; ``norm`` is that of the gradient."""
        if self.clip is not None and norm > self.clip:
            self.objective.parameters.scale_gradients(self.clip / norm)
        self.lr = self.rule.lr
        self._batch, self._known = batch, True
        self.rule.update(self._closure)

    def _closure(self) -> Tensor:
        """Evaluate for an optimizer that asks; the first answer of an update is known already."""
        if not self._known:
            self.objective.parameters.clear()
            self.objective.backward(*self._batch)
        self._known = False
        return self.objective.last

    def state(self) -> dict[str, Any]:
        """Return the state of the rule."""
        return {"rule": self.rule.state(), "lr": self.lr}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.rule.load(state["rule"])
        self.lr = state["lr"]


class FullBatch:
    """One update an epoch, from the gradient of the whole loss.

    Parameters
    ----------
    tol : float
        Arrived when the gradient's norm has fallen to this share of the largest one on the way.
    clear : bool
        Whether gradients are set to zero before the next ones come; False lets them add up.
    """

    def __init__(self, objective: Objective, update: Update, tol: float, clear: bool) -> None:
        self.objective = objective
        self.parameters = objective.parameters
        self.update = update
        self.tol = tol
        self.clear = clear
        self.steepest = 0.0
        self.settles = clear and update.rule.settles

    @property
    def lr(self) -> float:
        """Step size of the last update."""
        return self.update.lr

    def begin(self) -> Point:
        """Evaluate the start, and see that the loss reaches its parameters."""
        self.objective.begin()
        return self.objective.point(self.objective.last.item())

    def advance(self, point: Point) -> Point | None:
        """Update once and evaluate."""
        self.update(point.norm)
        if self.clear:
            self.parameters.clear()
        after = self.objective.point(self.objective.backward().item())
        self.update.rule.epoch_done(after.loss)
        if self.settles and after.row == point.row and point.row is not None:
            self.tol = max(self.tol, UNMOVED)
            return None
        return after

    def arrived(self, point: Point) -> bool:
        """Compare the gradient with the largest one on the way."""
        self.steepest = max(self.steepest, point.norm)
        return self.clear and point.norm <= self.tol * self.steepest

    def doubt(self) -> None:
        """Ask for a gradient that is ten times smaller."""
        self.tol *= 0.1

    def state(self) -> dict[str, Any]:
        """Return the state of the rule and the largest gradient."""
        return self.update.state() | {"steepest": self.steepest, "tol": self.tol}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.update.load(state)
        self.steepest, self.tol = state["steepest"], min(self.tol, state["tol"])


class Minibatch:
    """One update per batch; an epoch is one pass over all batches.

    The loss of an epoch is evaluated where the epoch ends, over all batches, so that it belongs to
    the parameters it is recorded with; a mean taken on the way would belong to none. The gradient
    that is recorded is the last batch's.
    """

    def __init__(self, objective: Objective, update: Update, clear: bool) -> None:
        self.objective = objective
        self.parameters = objective.parameters
        self.update = update
        self.clear = clear

    @property
    def lr(self) -> float:
        """Step size of the last update."""
        return self.update.lr

    def begin(self) -> Point:
        """Evaluate the start."""
        self.objective.begin()
        point = self.objective.point(self.objective.value())
        self.parameters.clear()
        return point

    def advance(self, point: Point) -> Point:
        """Go through all batches once, then evaluate."""
        for batch in self.objective.batches or ():
            if self.clear:
                self.parameters.clear()
            self.objective.backward(batch)
            norm = 0.0 if self.update.clip is None else self.parameters.norm(None)
            self.update(norm, batch)
        point = self.objective.point(self.objective.value())
        self.update.rule.epoch_done(point.loss)
        return point

    def arrived(self, point: Point) -> bool:
        """Say no: the gradient of one batch never vanishes for good."""
        return False

    def doubt(self) -> None:
        """Never arrive in the first place."""

    def state(self) -> dict[str, Any]:
        """Return the state of the rule."""
        return self.update.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.update.load(state)
