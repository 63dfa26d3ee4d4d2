"""The loss on a grid around the way of a descent, ready to be drawn."""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from gradfit._descend.objective import Objective
from gradfit._descend.probe import Source, losses_at, time_of
from gradfit._descend.valley import Valley, survey
from gradfit._format import number
from gradfit._types import FloatArray
from gradfit._views.descent import Heading, Panel
from gradfit.errors import InputError

FINEST, COARSEST = 161, 21
"""Points along each side of the grid."""
SECONDS = 3.0
"""How long a grid may take when the loss has to be asked point by point."""
MARGIN = 0.15
NEARBY = 0.6
"""Of what comes after the best step, as much is shown as lies within this share of the rest."""
NARROW = 30.0
"""From this condition number on, the floor of the valley gets a panel of its own."""


Frame = tuple[float, float, float, float]


class Way(Protocol):
    """What a landscape needs of a descent."""

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def params(self) -> Mapping[str, object]: ...
    @property
    def path(self) -> Mapping[str, FloatArray]: ...
    @property
    def steps(self) -> object: ...
    @property
    def loss(self) -> float: ...
    @property
    def losses(self) -> FloatArray: ...
    @property
    def best_step(self) -> int: ...
    @property
    def gradient(self) -> FloatArray: ...
    @property
    def hessian(self) -> FloatArray: ...
    @property
    def source(self) -> Source: ...


class Drawn(NamedTuple):
    """Panels, names of the two axes, and a heading."""

    panels: list[Panel]
    labels: tuple[str, str]
    heading: Heading


def panels(run: Way, x: str | None, y: str | None) -> Drawn:
    """Evaluate the loss around the whole way and, where the valley is narrow, around its floor.

    Raises
    ------
    InputError
        An unknown name, or fewer than two parameters to draw.
    """
    rows = flat(run.path)
    at = chosen(run.columns, rows.shape[1], x, y)
    best = int(np.searchsorted(np.asarray(run.steps), run.best_step))
    valley = _slice(run, at)
    way = rows[:, list(at)]
    minimum = way[best] + valley.move if valley.closed else None
    scene = Scene(run.source.objective(run.params), rows[best], at, way, best, minimum)
    with _kept(scene.objective):
        drawn = [scene.panel(_frame(way, run.losses, best, minimum), "the whole way")]
        if valley.condition > NARROW and minimum is not None:
            frame = _floor(run, at, minimum, valley)
            drawn.append(scene.panel(frame, "the floor of the valley, stretched"))
    labels = run.columns[at[0]], run.columns[at[1]]
    return Drawn(drawn, labels, _heading(valley, labels, len(run.columns)))


class Scene(NamedTuple):
    """What all panels share.

    Attributes
    ----------
    objective : Objective
    row : ndarray (p,)
        The best step.
    at : tuple of int
        Which two numbers are drawn.
    way : ndarray (S, 2)
    best : int
        The row of ``way`` that is the best step.
    minimum : ndarray (2,) or None
    """

    objective: Objective
    row: FloatArray
    at: tuple[int, int]
    way: FloatArray
    best: int
    minimum: FloatArray | None

    def panel(self, frame: Frame, title: str) -> Panel:
        """Evaluate the loss on a grid within a frame."""
        n = _fineness(self.objective)
        x, y = np.linspace(*frame[:2], n), np.linspace(*frame[2:], n)
        points = np.tile(self.row, (n * n, 1))
        points[:, self.at[0]], points[:, self.at[1]] = np.tile(x, n), np.repeat(y, n)
        z = losses_at(self.objective, points).reshape(n, n)
        return Panel(x, y, z, self.way, self.best, self.minimum, title)


@contextmanager
def _kept(objective: Objective) -> Generator[None]:
    """Leave the parameters of a module as they were."""
    before = objective.parameters.copy()
    try:
        yield
    finally:
        objective.parameters.put(before)
        objective.parameters.release()


def flat(path: Mapping[str, FloatArray]) -> FloatArray:
    """Return the way as a table (S, p)."""
    if not path:
        return np.empty((0, 0))
    return np.column_stack([values.reshape(len(values), -1) for values in path.values()])


def chosen(columns: tuple[str, ...], n: int, x: str | None, y: str | None) -> tuple[int, int]:
    """Return the places of two numbers by name.

    Raises
    ------
    InputError
        An unknown name, or fewer than two numbers.
    """
    if n < 2:
        why = "there is one" if n else "the path of more than 128 is not recorded"
        raise InputError(f"a landscape needs two parameters; {why}. Use `plot()`")
    for label, name in (("x", x), ("y", y)):
        if name is not None and name not in columns:
            known = ", ".join(columns[:12])
            raise InputError(f"`{label}` must name a parameter; {name!r} came. There are: {known}")
    first = columns.index(x) if x is not None else None
    second = columns.index(y) if y is not None else None
    if first is None:
        first = next(k for k in range(n) if k != second)
    if second is None:
        second = next(k for k in range(n) if k != first)
    if first == second:
        raise InputError(f"`x` and `y` must name two different parameters; both are {x!r}")
    return first, second


def _slice(run: Way, at: tuple[int, int]) -> Valley:
    """Return the valley in two of the parameters, the others held at the best step."""
    both = list(at)
    names = run.columns[at[0]], run.columns[at[1]]
    if not len(run.hessian):
        return survey(run.hessian, run.gradient, names)
    return survey(run.hessian[np.ix_(both, both)], run.gradient[both], names)


def _heading(valley: Valley, labels: tuple[str, str], p: int) -> Heading:
    if not valley.known:
        notes = ["curvature unknown"]
    elif not valley.closed:
        notes = ["no minimum near the best step: the loss is flat or bends down"]
    else:
        notes = [f"condition number {number(valley.condition, 3)}"]
    if p > 2:
        notes.append("other parameters at the best step")
    return Heading(f"Loss over {labels[0]} and {labels[1]}", ", ".join(notes))


def _frame(way: FloatArray, losses: FloatArray, best: int, minimum: FloatArray | None) -> Frame:
    """Return limits that hold the way down, but not where it ran off to afterwards."""
    fell = max(losses[0] - losses[best], 0.1 * abs(losses[best]))
    seen = np.isfinite(way).all(1) & (losses <= losses[best] + 4 * fell)
    # One step beyond the best shows where a descent that went wrong was heading.
    seen[: min(best + 2, len(way))] |= best == 0
    points = way[: best + 2][seen[: best + 2]]
    points = np.vstack([points, way[[0, best]], *([minimum] if minimum is not None else [])])
    reach = NEARBY * (points.max(0) - points.min(0))
    after = way[best:]
    near = (after >= points.min(0) - reach) & (after <= points.max(0) + reach)
    points = np.vstack([points, after[near.all(1)]])
    low, high = points.min(0), points.max(0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0) * 0.1)
    (x0, y0), (x1, y1) = low - MARGIN * width, high + MARGIN * width
    return float(x0), float(x1), float(y0), float(y1)


def _floor(run: Way, at: tuple[int, int], minimum: FloatArray, valley: Valley) -> Frame:
    """Return limits around the minimum in which the valley is as wide as it is long."""
    H = run.hessian[np.ix_(at, at)]
    fell = abs(float(run.losses[0]) - run.loss)
    depth = max(2 * valley.gain, 0.02 * abs(run.loss), 1e-6 * fell) or 1.0
    half = 1.2 * np.sqrt(2 * depth * np.linalg.inv(H).diagonal())
    (x0, y0), (x1, y1) = minimum - half, minimum + half
    return float(x0), float(x1), float(y0), float(y1)


def _fineness(objective: Objective) -> int:
    fits = math.isqrt(int(SECONDS / max(time_of(objective), 1e-6)))
    return min(max(fits, COARSEST), FINEST)
