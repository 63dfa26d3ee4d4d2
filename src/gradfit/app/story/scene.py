"""Everything the story finds out about its points; each thing when it is first asked for."""

import time
from collections.abc import Callable
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._descend import descend, sweep_lr
from gradfit._descend.result import Descent
from gradfit._descend.sweep import Sweep
from gradfit._result import FitResult
from gradfit._types import FloatArray
from gradfit.app import tutorial
from gradfit.app.story.loss import as_printed, by_hand, loss, lowest_loss, total_least_squares
from gradfit.graph import Graph
from gradfit.graph.compare import Comparison
from gradfit.graph.problems import Problems
from gradfit.graph.trace import trace
from gradfit.lines import line

START = {"a": 0.0, "b": 0.0}
LR = 1e-5
SMALL_LR = 1e-9
EPOCHS = 1000
TIMED = 300
"""Steps over which one is timed."""
INSIDE = {"a": 2.0, "b": 0.0}
"""A start below the rim of the bowl."""
CENTRED_LR = 0.5


def leaf(value: float) -> Tensor:
    """Return a parameter."""
    return torch.tensor(value, dtype=torch.float64, requires_grad=True, device="cpu")


class Speed(NamedTuple):
    """Seconds for one pass each way, and for one step of a descent."""

    dynamic: float
    exported: float
    formula: float
    step_by_hand: float
    step_of_descend: float


class Scene:
    """The points, and what is found about them."""

    def __init__(self) -> None:
        self.x, self.y = tutorial.points()
        self.tensors = torch.from_numpy(self.x), torch.from_numpy(self.y)
        x, y = self.tensors
        self.loss: Callable[..., Tensor] = partial(loss, x=x, y=y)

    def descend(self, **asked: Any) -> Descent:
        """Descend from the start of the story, with what is asked in place of its settings."""
        settings: dict[str, Any] = {"start": START, "lr": LR, "epochs": EPOCHS} | asked
        return descend(self.loss, **settings)

    # -- graphs ------------------------------------------------------------------------------------

    def graph_at(self, a: float, b: float) -> Graph:
        """Open the graph of the loss at a place."""
        return trace(loss, leaf(a), leaf(b), *self.tensors)

    @cached_property
    def graph(self) -> Graph:
        """The graph at the start."""
        return self.graph_at(START["a"], START["b"])

    @cached_property
    def problems(self) -> Problems:
        """What the graph of two rounds of the printed loop has to say."""
        begun = leaf(START["a"]), leaf(START["b"])
        return trace(partial(as_printed, epochs=2), *begun, *self.tensors).problems()

    # -- descents ----------------------------------------------------------------------------------

    @cached_property
    def printed(self) -> Descent:
        """The loop as printed: gradients never cleared."""
        return self.descend(clear_grad=False)

    @cached_property
    def printed_slowly(self) -> Descent:
        """The same with the smaller rate that was tried."""
        return self.descend(clear_grad=False, lr=SMALL_LR)

    @cached_property
    def printed_by_hand(self) -> list[float]:
        """Losses of the loop itself."""
        return as_printed(leaf(START["a"]), leaf(START["b"]), *self.tensors, lr=LR, epochs=EPOCHS)

    @cached_property
    def swinging(self) -> Descent:
        """The loop as printed, let go from below the rim."""
        return self.descend(clear_grad=False, start=INSIDE)

    @property
    def period(self) -> float:
        """How many steps a swing takes, from how often the slope passes its lowest place."""
        slopes = self.swinging.path["a"]
        above = slopes > self.closed_form[0]
        crossings = [k for k, (one, two) in enumerate(pairwise(above)) if one != two]
        return 2 * (crossings[-1] - crossings[0]) / (len(crossings) - 1)

    @property
    def rim(self) -> float:
        """The loss of an upright line through the origin."""
        return float(np.mean(self.x**2))

    @cached_property
    def cleared(self) -> Descent:
        """The same settings with gradients cleared."""
        return self.descend()

    @cached_property
    def sweep(self) -> Sweep:
        """Many learning rates at once."""
        return sweep_lr(self.loss, START)

    @cached_property
    def decaying(self) -> dict[str, Descent]:
        """Rates that fall, from where the sweep says rates begin to work to where they end."""
        return {
            "exponential, from 1e-5": self.descend(schedule="exponential"),
            "exponential, from 1e-4": self.descend(schedule="exponential", lr=1e-4),
            "cosine, from 5e-4": self.descend(schedule="cosine", lr=5e-4),
            "exponential, from 1e-5, never cleared": self.descend(
                schedule="exponential", clear_grad=False
            ),
        }

    @cached_property
    def automatic(self) -> Descent:
        """Steps that find their own length."""
        return self.descend(lr=None)

    @cached_property
    def centred(self) -> Descent:
        """Plain descent again, with x measured from its mean in units of its spread."""
        x, y = self.tensors
        middle, spread = x.mean(), x.std(correction=0)
        u = (x - middle) / spread

        def centred_loss(rise: Tensor, height: Tensor) -> Tensor:
            return torch.mean((rise * u - y + height) ** 2 / ((rise / spread) ** 2 + 1))

        start = {"rise": 0.0, "height": 0.0}
        return descend(centred_loss, start, lr=CENTRED_LR, epochs=EPOCHS)

    @property
    def centred_line(self) -> tuple[float, float]:
        """Slope and intercept that the centred descent found."""
        slope = self.centred.params["rise"] / float(self.x.std())
        return slope, self.centred.params["height"] - slope * float(self.x.mean())

    # -- solutions ---------------------------------------------------------------------------------

    @cached_property
    def closed_form(self) -> tuple[float, float]:
        """Slope and intercept of total least squares."""
        return total_least_squares(self.x, self.y)

    @cached_property
    def fitted(self) -> FitResult:
        """The line with the true errors of both coordinates."""
        return self._line(tutorial.NOISE)

    @cached_property
    def ordinary(self) -> FitResult:
        """The line with errors in y alone, scaled by the scatter."""
        return self._line(0.0, absolute_sigma=False)

    def _line(self, sx: float, **asked: Any) -> FitResult:
        found = line(self.x, self.y, sx, tutorial.NOISE, **asked)
        if not isinstance(found, FitResult):
            raise TypeError("one line was asked for")
        return found

    @cached_property
    def profile(self) -> tuple[FloatArray, FloatArray]:
        """Intercepts around the best one, and the lowest loss that each allows."""
        b, error = self.closed_form[1], float(self.fitted.stderr["intercept"])
        grid = np.linspace(b - 3 * error, b + 3 * error, 121)
        return grid, lowest_loss(grid, self.x, self.y)

    # -- speed -------------------------------------------------------------------------------------

    @cached_property
    def comparison(self) -> Comparison:
        """The graph beside its exported program."""
        return self.graph.compare("export")

    @cached_property
    def speed(self) -> Speed:
        """Time of one pass, each way, and of one step by hand and by ``descend``."""
        begun = leaf(START["a"]), leaf(START["b"])
        hand = _seconds(lambda: as_printed(*begun, *self.tensors, lr=0.0, epochs=TIMED))
        ours = _seconds(lambda: self.descend(clear_grad=False, tol=0.0, lr=SMALL_LR, epochs=TIMED))
        return Speed(
            self.comparison.eager_seconds,
            self.comparison.captured_seconds,
            _seconds(lambda: [by_hand(0.0, 0.0, self.x, self.y) for _ in range(TIMED)]) / TIMED,
            hand / TIMED,
            ours / TIMED,
        )

    # -- all of it ---------------------------------------------------------------------------------

    def numbers(self) -> dict[str, Any]:
        """Return what was found as plain numbers; no times, so that two runs agree."""
        descents = {
            "as_printed": self.printed,
            "as_printed_small_rate": self.printed_slowly,
            "cleared": self.cleared,
            **{f"decaying: {name}": run for name, run in self.decaying.items()},
            "automatic": self.automatic,
        }
        slope, intercept = self.closed_form
        return {
            "points": tutorial.POINTS,
            "truth": dict(tutorial.TRUE),
            "noise": tutorial.NOISE,
            "descents": {name: _told(run) for name, run in descents.items()},
            "condition": self.cleared.condition,
            "condition_centred": self.centred.condition,
            "centred_steps": self.centred.n_steps,
            "swing_steps": self.period,
            "closed_form": {"a": slope, "b": intercept},
            "line": _solution(self.fitted),
            "ordinary_least_squares": _solution(self.ordinary),
        }


def _told(run: Descent) -> dict[str, Any]:
    return {
        **run.params,
        "loss": run.loss,
        "best_step": run.best_step,
        "last_loss": float(run.losses[-1]),
        "n_steps": run.n_steps,
        "verdict": run.verdict,
    }


def _solution(found: FitResult) -> dict[str, float]:
    slope, intercept = found.params["slope"], found.params["intercept"]
    return {
        "a": float(slope),
        "a_error": float(found.stderr["slope"]),
        "b": float(intercept),
        "b_error": float(found.stderr["intercept"]),
        "chi2": float(found.chi2),
    }


def _seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the shortest of a few runs: what disturbs can only add."""
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
