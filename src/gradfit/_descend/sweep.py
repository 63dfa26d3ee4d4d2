"""Try many learning rates at once, and tell which of them work."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradfit._data.arrays import to_array
from gradfit._data.synonyms import understood
from gradfit._descend.objective import Loss, Objective
from gradfit._descend.parameters import Parameters
from gradfit._descend.plan import checked_start, whole
from gradfit._descend.probe import curvature, of_row
from gradfit._format import count, number, plural
from gradfit._types import FloatArray
from gradfit._views import descent
from gradfit._views.fitted import as_array
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed_in_place, undisturbed_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = 33
BELOW, ABOVE = 1e-5, 1e3
"""The default range, in units of one over the largest curvature at the start."""
SHARE = 0.99
"""A rate works when it gets this share of the largest fall of the loss."""
RECORD = 1000
PROVED = 3
"""Steps after which a batch must agree with a run alone."""


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sweep:
    """Plain gradient descent with many learning rates from the same start.

    ``L`` counts rates, ``S`` recorded steps.

    Attributes
    ----------
    lrs : ndarray (L,)
        Learning rates, ascending.
    steps : ndarray (S,) int64
        Which steps were recorded; 0 is the start.
    losses : ndarray (S, L)
        The loss at these steps; NaN or inf where a rate diverged.
    best_losses : ndarray (L,)
        The lowest loss that each rate met on its way.
    best_lr : float
        The rate with the lowest loss in the end; NaN when all diverged.
    works : tuple of float, or None
        Smallest and largest of the rates around the best one that get at least 99 % of the fall
        that the best one gets.
    limit : float
        The smallest rate from which on all diverged or ended above the start; inf when none did.
    message : str
        All this in words.
    batched : bool
        Whether all rates ran as one batch, or one after the other.
    seconds : float
        Wall time.
    """

    lrs: FloatArray
    steps: NDArray[np.int64]
    losses: FloatArray
    best_losses: FloatArray
    best_lr: float
    works: tuple[float, float] | None
    limit: float
    message: str
    batched: bool
    seconds: float

    def __repr__(self) -> str:
        return self.message

    def plot(self, theme: str = "light") -> "Figure":
        """Draw the loss over the steps for every rate, and what each rate reached.

        Parameters
        ----------
        theme : str
            ``"light"`` or ``"dark"``.

        Returns
        -------
        matplotlib.figure.Figure
        """
        best = int(np.searchsorted(self.lrs, self.best_lr)) if self.works else 0
        trials = descent.Trials(
            self.lrs, self.steps, self.losses, self.works, best, float(self.losses[0, 0])
        )
        title = f"{count(len(self.lrs))} learning rates, {plural(int(self.steps[-1]), 'step')}"
        note = "none works"
        if self.works is not None:
            low, high = (number(rate, 2) for rate in self.works)
            note = f"rates from {low} to {high} work; the best is {number(self.best_lr, 2)}"
        return descent.draw_sweep(trials, descent.Heading(title, note), theme)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain numbers, texts and lists."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in kept.items()}


@understood
@undisturbed_in_place
def sweep_lr(
    loss: Loss,
    start: Mapping[str, Any] | nn.Module,
    lrs: Sequence[float] | FloatArray | None = None,
    *,
    epochs: int = 100,
) -> Sweep:
    """Try many learning rates from the same start, all at once where the loss allows it.

    Each is plain gradient descent with cleared gradients. Where the loss can be vectorised by
    ``torch.func.vmap``, all rates run as one batch, after a few steps of it were compared with a
    run alone; otherwise one after the other.

    Parameters
    ----------
    loss : callable
        As for :func:`gradfit.descend`, without batches of data.
    start : mapping of str to number, array or tensor; or nn.Module
        As for :func:`gradfit.descend`; a module is left as it was.
    lrs : sequence of float, optional
        Learning rates. By default 33 over eight decades around one over the largest curvature at
        the start.
    epochs : int
        Steps for each.

    Returns
    -------
    Sweep

    Raises
    ------
    InputError, ModelError
        As :func:`gradfit.descend`.

    Examples
    --------
    >>> import torch
    >>> import gradfit as gf
    >>> sweep = gf.sweep_lr(lambda a: 3 * (a - 1) ** 2, {"a": 0.0}, [0.01, 0.1, 0.3, 0.4])
    >>> sweep.best_lr, sweep.works, sweep.limit, sweep.batched
    (0.1, (0.1, 0.3), 0.4, True)
    """
    epochs = whole("epochs", epochs, 1)
    began = time.perf_counter()
    parameters = Parameters(checked_start(start))
    before = parameters.copy()
    try:
        objective = Objective(loss, parameters)
        objective.begin()
        rates = _rates(lrs, objective)
        steps = np.unique(np.linspace(0, epochs, min(epochs, RECORD) + 1).astype(np.int64))
        done = _batched(objective, rates, steps)
        batched = done is not None
        if done is None:
            done = _one_by_one(objective, rates, steps)
    finally:
        parameters.put(before)
        parameters.release()
    return _conclude(rates, steps, done, batched, time.perf_counter() - began)


class Done(NamedTuple):
    """Losses (S, L) at the recorded steps, and the lowest of each rate (L,)."""

    losses: FloatArray
    best: FloatArray


def _rates(lrs: Sequence[float] | FloatArray | None, objective: Objective) -> FloatArray:
    if lrs is None:
        steepest = _steepest(objective)
        return np.geomspace(BELOW, ABOVE, RATES) / steepest
    rates = np.unique(to_array("`lrs`", as_array(lrs) if isinstance(lrs, Tensor) else lrs))
    if not len(rates) or not np.isfinite(rates).all() or rates[0] <= 0:
        raise InputError(f"`lrs` must be positive numbers; {lrs!r} came")
    return rates


def _steepest(objective: Objective) -> float:
    """Return the largest curvature at the start, or along the gradient where that is not known."""
    _, hessian = curvature(objective, 0.0)
    if len(hessian) and np.isfinite(hessian).all():
        return float(np.abs(np.linalg.eigvalsh(hessian)).max()) or 1.0
    return _curvature_downhill(objective)


def _curvature_downhill(objective: Objective) -> float:
    """Return how fast the gradient changes along itself, by a small step against it."""
    parameters = objective.parameters
    before = parameters.copy()
    gradients = [block.grads.clone() for block in parameters.blocks]
    norm = parameters.norm(None)
    size = math.hypot(*(float(value.norm()) for value in before)) or 1.0
    h = 1e-4 * size / (norm or 1.0)
    for block, gradient in zip(parameters.blocks, gradients, strict=True):
        block.values.sub_(gradient, alpha=h)
    parameters.clear()
    objective.backward()
    change = math.hypot(
        *(float((b.grads - g).norm()) for b, g in zip(parameters.blocks, gradients, strict=True))
    )
    parameters.put(before)
    found = change / (h * norm) if norm else 1.0
    return found if 0 < found < math.inf else 1.0


# -- as one batch --------------------------------------------------------------------------------


def _batched(objective: Objective, rates: FloatArray, steps: NDArray[np.int64]) -> Done | None:
    """Run all rates together; ``None`` where the loss does not let itself be vectorised."""
    blocks = objective.parameters.blocks
    if objective.parameters.module is not None or len(blocks) > 1:
        return None
    here = blocks[0].values
    lr = torch.as_tensor(rates, dtype=here.dtype, device=here.device)[:, None]
    look = torch.func.vmap(of_row(objective))
    try:
        if not _agrees(objective, look, lr):
            return None
        return _walk(look, here.expand(len(rates), -1).clone(), lr, steps)
    # What cannot be vectorised says so in many ways: branches on values, `.item()`, old functions.
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None


def _walk(look: Any, at: Tensor, lr: Tensor, steps: NDArray[np.int64]) -> Done:
    kept: list[Tensor] = []
    recorded = set(steps.tolist())
    best = torch.full_like(lr[:, 0], math.inf)
    at.requires_grad_(True)
    for step in range(int(steps[-1]) + 1):
        loss = look(at)
        # No loss knows of another row's parameters, so the gradient of the sum is all gradients.
        (gradient,) = torch.autograd.grad(loss.sum(), at)
        with torch.no_grad():
            best = torch.where(loss < best, loss, best)
            at -= lr * gradient
        if step in recorded:
            kept.append(loss.detach())
    losses = torch.stack(kept).to("cpu", torch.float64).numpy()
    return Done(losses, best.to("cpu", torch.float64).numpy())


def _agrees(objective: Objective, look: Any, lr: Tensor) -> bool:
    """Whether a few steps of the batch equal those of a rate alone, up to rounding."""
    here = objective.parameters.blocks[0].values
    few = np.arange(PROVED + 1)
    chosen = len(lr) // 2
    before = here.clone()
    together = _walk(look, here.expand(len(lr), -1).clone(), lr, few).losses[:, chosen]
    alone = _alone(objective, float(lr[chosen]), few)
    here.copy_(before)
    tol = 1e4 * objective.eps
    return bool(np.allclose(together, alone, rtol=tol, atol=tol * abs(alone[0]), equal_nan=True))


# -- one by one ----------------------------------------------------------------------------------


def _one_by_one(objective: Objective, rates: FloatArray, steps: NDArray[np.int64]) -> Done:
    start = objective.parameters.copy()
    columns: list[FloatArray] = []
    for rate in rates:
        objective.parameters.put(start)
        columns.append(_alone(objective, float(rate), np.arange(int(steps[-1]) + 1)))
    losses = np.column_stack(columns)
    finite = np.where(np.isfinite(losses), losses, math.inf)
    return Done(losses[steps], finite.min(0))


def _alone(objective: Objective, rate: float, steps: NDArray[np.int64]) -> FloatArray:
    """Descend with one rate; NaN after a loss that is not finite."""
    losses = np.full(len(steps), math.nan)
    for k in range(len(steps)):
        objective.parameters.clear()
        losses[k] = objective.backward().item()
        if not math.isfinite(losses[k]):
            break
        for block in objective.parameters.blocks:
            block.values.add_(block.grads, alpha=-rate)
    return losses


# -- in words ------------------------------------------------------------------------------------


def _conclude(
    rates: FloatArray, steps: NDArray[np.int64], done: Done, batched: bool, seconds: float
) -> Sweep:
    start, last = float(done.losses[0, 0]), done.losses[-1]
    fine = np.isfinite(last) & (last < start)
    works, best_lr = None, math.nan
    if fine.any():
        best = int(np.where(fine, last, math.inf).argmin())
        good = fine & (start - last >= SHARE * (start - last[best]))
        low = high = best
        while low > 0 and good[low - 1]:
            low -= 1
        while high + 1 < len(rates) and good[high + 1]:
            high += 1
        works, best_lr = (float(rates[low]), float(rates[high])), float(rates[best])
    lost = np.flatnonzero(fine)
    after = int(lost[-1]) + 1 if len(lost) else 0
    limit = float(rates[after]) if after < len(rates) else math.inf
    return Sweep(
        lrs=rates,
        steps=steps,
        losses=done.losses,
        best_losses=done.best,
        best_lr=best_lr,
        works=works,
        limit=limit,
        message=_message(rates, int(steps[-1]), works, best_lr, limit),
        batched=batched,
        seconds=seconds,
    )


def _message(
    rates: FloatArray, epochs: int, works: tuple[float, float] | None, best: float, limit: float
) -> str:
    tried = f"{count(len(rates))} rates from {number(rates[0], 2)} to {number(rates[-1], 2)}"
    if works is None:
        return (
            f"Of {tried}, none lowers the loss in {plural(epochs, 'step')}: all overshoot. Try "
            f"rates below {number(rates[0], 2)}."
        )
    low, high = works
    said = (
        f"Of {tried}, those from {number(low, 2)} to {number(high, 2)} work: in "
        f"{plural(epochs, 'step')} they get at least {100 * SHARE:.0f} % of the fall that the "
        f"best one, {number(best, 2)}, gets."
    )
    if low > rates[0]:
        said += " Smaller ones are still on their way."
    if math.isfinite(limit):
        said += f" From {number(limit, 2)} on, steps overshoot and the loss ends above its start."
    return said
