"""What one fit carries from step to step while machine code runs it."""

from typing import Any, NamedTuple

from gradfit._native.place import added, full
from gradfit._native.pointer import ask, at
from gradfit._native.sweep import sweep


class Fit(NamedTuple):
    """What one fit carries from step to step, and room for its matrices.

    Attributes
    ----------
    first, last : int
        Its points.
    beta, g, D, db : pointer (p,)
        Parameters, half the gradient, largest column norms, and the step.
    A : pointer (p, p)
        Normal matrix.
    held : pointer (p,)
        1 for parameters that may not move beyond their bound.
    lower, upper : pointer (p,)
        Bounds.
    M, L, V : pointer (p, p)
        Room for a system, its factor, its directions.
    e, k, w, t : pointer (p,)
        Room for eigenvalues and vectors.
    """

    first: int
    last: int
    beta: Any
    g: Any
    D: Any
    db: Any
    A: Any
    held: Any
    lower: Any
    upper: Any
    M: Any
    L: Any
    V: Any
    e: Any
    k: Any
    w: Any
    t: Any


class Course(NamedTuple):
    """How far a fit has come, beside where it is.

    Attributes
    ----------
    status, steps, evals : int
    newton : bool
        Whether the next step is Newton's.
    radius, last_eta, flat, rounding, refused : float
        As :func:`gradfit._engine.control.rules` have them; ``rounding`` is NaN until it is known.
    """

    status: Any
    steps: Any
    evals: Any
    newton: Any
    radius: Any
    last_eta: Any
    flat: Any
    rounding: Any
    refused: Any


def fit_room(p: int) -> int:
    """Return the room that a fit needs; what is behind it begins a register."""
    return full(9 * p + 4 * p * p)


def fit_at(memory: Any, p: int, first: int, last: int, lower: Any, upper: Any) -> Fit:
    """Lay out the room of a fit."""
    square = 9 * p
    return Fit(
        first,
        last,
        memory,
        at(memory, p),
        at(memory, 2 * p),
        at(memory, 3 * p),
        at(memory, square),
        at(memory, 4 * p),
        lower,
        upper,
        at(memory, square + p * p),
        at(memory, square + 2 * p * p),
        at(memory, square + 3 * p * p),
        at(memory, 5 * p),
        at(memory, 6 * p),
        at(memory, 7 * p),
        at(memory, 8 * p),
    )


def walk(c: Any, s: Any, f: Any, task: int) -> None:
    """Walk over the points of the fit, in this thread or by asking for several."""
    if s.asks:
        ask(c.ask, task, f.first, f.last)
    else:
        sweep(c, s, task, f.first, f.last)


def cost_of(c: Any, s: Any) -> float:
    """Return the cost of the present point."""
    return c.total[added(s) - 2]


def tangent_of(c: Any, s: Any) -> float:
    """Return the part of the cost that moving feet alone takes away."""
    return c.total[added(s) - 1]
