"""Where everything lies while machine code fits: the points, the kernels, and room to work in."""

from typing import Any, NamedTuple

from gradfit._engine.feet import WELLS
from gradfit._native.lower import BLOCK, LANES
from gradfit._native.pointer import at, copy

SEARCHED = 10 + 2 * WELLS
"""Rows of numbers by lane in front of the feet that a search begins with, and finds."""


class Spec(NamedTuple):
    """What is the same for all fits of a call.

    Attributes
    ----------
    n : int
        Points of all fits: the length of a row.
    m, q, mu, p, everything : int
        Variables, equations, variables with errors, parameters that are free, and all.
    explicit, robust, full_x, full_y, cross : bool
        As in :class:`gradfit._native.pointwise.Layout`.
    wide_x, wide_y, wide_cross : bool
        Whether scales, weights and correlations have one number for each point.
    trials, around, together : int
        Trial points of the search for nearer feet, places that tell where to search, and how many
        of these are looked at in one go.
    kept : int
        Numbers that fits abreast keep of a point from step to step.
    bounded, alone, asks : bool
        Whether parameters have limits, whether there is one fit, and whether its walks are asked
        for.
    rounds : int
        Times that nearer feet are searched.
    gtol, ftol, xtol : float
    max_steps : int
    """

    n: int
    m: int
    q: int
    mu: int
    p: int
    everything: int
    explicit: bool
    robust: bool
    full_x: bool
    full_y: bool
    cross: bool
    wide_x: bool
    wide_y: bool
    wide_cross: bool
    trials: int
    around: int
    together: int
    kept: int
    bounded: bool
    alone: bool
    asks: bool
    rounds: int
    gtol: float
    ftol: float
    xtol: float
    max_steps: int


class Place(NamedTuple):
    """The points and what works on them.

    Attributes
    ----------
    probe, linear, look, advance, exact, noise, bends : address
        The kernels (:class:`gradfit._native.pointwise.Pointwise`).
    ask : address
        Walks over the points in several threads; 0 where one thread does.
    x, y, scale, weight, cross : pointer
        As in :class:`gradfit._engine.points.Points`.
    where, which : pointer
        Places of the free parameters among all; variables with errors.
    trials : pointer (T, mu)
        Trial points in the unit ball, and after them places around a foot.
    u, v : pointer (mu, N)
        Foot points; they change roles with every step that is accepted. At the end ``u`` holds
        corrections in the units of x and ``v`` the foot points.
    value, weights : pointer (q, N), (N,)
        The model at the end, and weights of the robust loss. Until then ``value`` marks points that
        moved to a nearer foot.
    pars, ahead : pointer
        All parameters, the step of the free ones, the squared scale of the loss, places around a
        foot: now, and where a step leads.
    total : pointer
        What the points add up to.
    turn : pointer (2,)
        Whether ``v`` holds the foot points, and which point is the first of the block.
    rows, other : pointer
        A block of points, and a second one beside it.
    out, rest, third, lanes, small : pointer
        Room for results of kernels, numbers by lane, and small matrices.
    """

    probe: Any
    linear: Any
    look: Any
    advance: Any
    exact: Any
    noise: Any
    bends: Any
    ask: Any
    x: Any
    y: Any
    scale: Any
    weight: Any
    cross: Any
    where: Any
    which: Any
    trials: Any
    u: Any
    v: Any
    value: Any
    weights: Any
    pars: Any
    ahead: Any
    total: Any
    turn: Any
    rows: Any
    other: Any
    out: Any
    rest: Any
    third: Any
    lanes: Any
    small: Any


def given(s: Any) -> int:
    """Return the number of rows of data of a block."""
    x = s.mu * s.mu if s.full_x else s.mu
    y = s.q * (s.q if s.full_y else 1) + s.q if s.explicit else 0
    return s.m + x + y + (s.q * s.mu if s.cross else 0)


def results(s: Any) -> int:
    """Return the rows that the kernel with most results has."""
    k = s.mu + s.p
    return s.q * (k + s.mu + 2) + k * k + 4


def added(s: Any) -> int:
    """Return how many numbers points may add up to."""
    return 2 * s.p * s.p + 4 * s.p + 8


def told(s: Any) -> int:
    """Return how many numbers kernels are told for all points (``Place.pars``)."""
    return s.everything + s.p + 1 + s.together * s.mu


def lanes(s: Any) -> int:
    """Return the rows of numbers by lane."""
    return SEARCHED + 2 * s.mu


def shared_room(s: Any) -> int:
    """Return the room that the threads of one fit share; what is behind it begins a register."""
    return full(2 * told(s) + added(s) + 2)


def own_room(s: Any) -> int:
    """Return the room that each thread needs for itself; what is behind it begins a register."""
    k = s.mu + s.q
    blocks = 2 * (given(s) + s.mu) + 3 * results(s) + lanes(s)
    return full(BLOCK * blocks + k * (k + s.p + 2) + 2 * (s.p + 1) * (s.p + 1))


def full(n: int) -> int:
    """Return how many lanes are computed for ``n`` points; those behind the last hold it again."""
    return (n + LANES - 1) // LANES * LANES


def load(c: Any, s: Any, start: int, n: int) -> None:
    """Fill the block with points, unless it has them, and with their feet."""
    if c.turn[1] != start:
        load_points(c, s, start, n)
        c.turn[1] = start
    fill(c.v if c.turn[0] > 0.0 else c.u, s.mu, True, s.n, start, n, c.rows, given(s))


def load_points(c: Any, s: Any, start: int, n: int) -> None:
    """Fill the block with points; what is the same for all stays as it was first written."""
    k = fill(c.x, s.m, True, s.n, start, n, c.rows, 0)
    if s.explicit:
        k = fill(c.y, s.q, True, s.n, start, n, c.rows, k)
    k = fill(c.scale, s.mu * s.mu if s.full_x else s.mu, s.wide_x, s.n, start, n, c.rows, k)
    if s.explicit:
        count = s.q * s.q if s.full_y else s.q
        k = fill(c.weight, count, s.wide_y, s.n, start, n, c.rows, k)
    if s.cross:
        fill(c.cross, s.q * s.mu, s.wide_cross, s.n, start, n, c.rows, k)


def fill(
    source: Any, count: int, wide: bool, length: int, start: int, n: int, rows: Any, k: int
) -> int:
    """Copy rows of a stretch into the block behind its first ``k``; return how many it has then."""
    if wide:
        for r in range(count):
            row = at(rows, (k + r) * BLOCK)
            copy(at(source, r * length + start), row, n)
            for i in range(n, full(n)):
                row[i] = row[n - 1]
    return k + count


def spread_constants(c: Any, s: Any) -> None:
    """Write into every lane of the block what is the same for all points."""
    k = s.m + (s.q if s.explicit else 0)
    k = repeat(c.scale, s.mu * s.mu if s.full_x else s.mu, s.wide_x, c.rows, k)
    if s.explicit:
        k = repeat(c.weight, s.q * s.q if s.full_y else s.q, s.wide_y, c.rows, k)
    if s.cross:
        repeat(c.cross, s.q * s.mu, s.wide_cross, c.rows, k)


def repeat(source: Any, count: int, wide: bool, rows: Any, k: int) -> int:
    """Repeat one number in each row, unless points have their own."""
    if not wide:
        for r in range(count):
            for i in range(BLOCK):
                rows[(k + r) * BLOCK + i] = source[r]
    return k + count


def double(c: Any, s: Any, n: int) -> None:
    """Copy the data of the block to the other one."""
    for k in range(given(s)):
        copy(at(c.rows, k * BLOCK), at(c.other, k * BLOCK), full(n))


def store(s: Any, feet: Any, target: Any, start: int, n: int) -> None:
    """Write the feet of a block away."""
    for a in range(s.mu):
        copy(at(feet, a * BLOCK), at(target, a * s.n + start), n)


def feet_of(s: Any, rows: Any) -> Any:
    """Return the rows of foot points of a block."""
    return at(rows, given(s) * BLOCK)
