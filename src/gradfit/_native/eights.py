"""Small fits of a batch, eight at a time: into lanes, abreast, and out again.

Who has not come to the end abreast goes on alone from where it is.
"""

from typing import Any, NamedTuple

from gradfit._native.abreast import COURSE, width
from gradfit._native.carry import Course, fit_at, fit_room
from gradfit._native.ending import TOLD
from gradfit._native.entry import HEAD, place_at, prepare, spec_at
from gradfit._native.lower import LANES
from gradfit._native.place import added, given, own_room, shared_room, told
from gradfit._native.pointer import at, hand_over, wide
from gradfit._native.solver import fit_one, go_on, put

MOST = 64
"""Points of a fit, at most: what fits have beside them stays in the nearest cache."""


class Room(NamedTuple):
    """Where lanes lie, number by number: see :func:`gradfit._native.abreast.fit_abreast`."""

    rows: Any
    out: Any
    pars: Any
    total: Any
    memory: Any
    course: Any
    answers: Any


def found(s: Any) -> int:
    """Return the most results that a kernel has of a point."""
    return max(s.q, s.mu + s.kept)


def lanes_room(s: Any) -> int:
    """Return how many numbers a thread needs for its lanes."""
    small = told(s) + added(s) + fit_room(s.p) + COURSE + TOLD + 3 * s.p + s.p * s.p
    return LANES * (MOST * (width(s) + found(s)) + small)


def room_at(s: Any, memory: Any) -> Room:
    """Lay the lanes out."""
    out = LANES * MOST * width(s)
    pars = out + LANES * MOST * found(s)
    total = pars + LANES * told(s)
    fits = total + LANES * added(s)
    course = fits + LANES * fit_room(s.p)
    return Room(
        memory,
        at(memory, out),
        at(memory, pars),
        at(memory, total),
        at(memory, fits),
        at(memory, course),
        at(memory, course + LANES * COURSE),
    )


def fit_in_eights(
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
    noise: Any,
    bends: Any,
    abreast: Any,
    look_abreast: Any,
    advance_abreast: Any,
    noise_abreast: Any,
    bends_abreast: Any,
    probe_abreast: Any,
    x: Any,
    y: Any,
    scale: Any,
    weight: Any,
    cross: Any,
    made: Any,
    firsts: Any,
    starts: Any,
    answers: Any,
    head: Any,
    memory: Any,
    lo: int,
    hi: int,
) -> None:
    """Fit the groups from ``lo`` to ``hi``; as :func:`gradfit._native.entry.fit_many`.

    ``abreast`` is :func:`gradfit._native.abreast.fit_abreast`.
    """
    s = spec_at(head)
    kernels = probe, linear, look, advance, exact, noise, bends, 0
    others = look_abreast, advance_abreast, noise_abreast, bends_abreast, probe_abreast
    own = at(memory, shared_room(s))
    c = place_at(s, kernels, (x, y, scale, weight, cross), made, head, memory, own)
    prepare(c, s, head)
    size, rest = TOLD + 3 * s.p + s.p * s.p, at(own, own_room(s))
    lower = at(head, HEAD + s.mu + s.p)
    room = room_at(s, at(rest, fit_room(s.p)))
    k = lo
    while k < hi:
        n = longest(firsts, k, hi)
        if n <= MOST:
            enter(c, s, room, firsts, at(starts, k * s.p), at(answers, k * size), k, hi, n)
            lanes = wide(room.rows), wide(room.out), wide(room.pars), wide(room.total)
            ends = wide(room.memory), wide(room.course), wide(room.answers)
            hand_over(abreast, *others, head, *lanes, *ends, n)
        for lane in range(min(LANES, hi - k)):
            first, last = int(firsts[k + lane]), int(firsts[k + lane + 1])
            answer = at(answers, (k + lane) * size)
            f = fit_at(rest, s.p, first, last, lower, at(lower, s.p))
            if n > MOST:
                for j in range(s.p):
                    f.beta[j] = starts[(k + lane) * s.p + j]
                fit_one(c, s, f, answer)
            elif room.course[(COURSE - 1) * LANES + lane] > 0.0:
                leave(c, s, room, first, last - first, lane, answer)
            else:
                go_on_alone(c, s, f, room, lane, answer)
        k += LANES


def longest(firsts: Any, k: int, hi: int) -> int:
    """Return the points of the longest of the next fits."""
    n = 0
    for j in range(k, min(k + LANES, hi)):
        n = max(n, int(firsts[j + 1]) - int(firsts[j]))
    return n


def enter(
    c: Any,
    s: Any,
    room: Any,
    firsts: Any,
    starts: Any,
    answers: Any,
    k: int,
    hi: int,
    n: int,
) -> None:
    """Write the fits from ``k`` on into lanes; what is left of them repeats the last."""
    size = TOLD + 3 * s.p + s.p * s.p
    for lane in range(LANES):
        one = min(lane, hi - k - 1)
        first, last = int(firsts[k + one]), int(firsts[k + one + 1])
        for j in range(s.p):
            room.memory[j * LANES + lane] = starts[one * s.p + j]
        room.course[lane] = answers[one * size]
        row = take_points(c, s, at(room.rows, lane), first, last - first, n)
        for i in range(n):
            room.rows[(i * row + row - 1) * LANES + lane] = 1.0 if i < last - first else 0.0


def take_points(c: Any, s: Any, rows: Any, first: int, count: int, n: int) -> int:
    """Write the data of one fit into its lane; return how many numbers there are of a point."""
    row = width(s)
    take(c.x, s.m, True, s.n, first, count, n, rows, row)
    k = s.m
    if s.explicit:
        take(c.y, s.q, True, s.n, first, count, n, at(rows, k * LANES), row)
        k += s.q
    scales = s.mu * s.mu if s.full_x else s.mu
    take(c.scale, scales, s.wide_x, s.n, first, count, n, at(rows, k * LANES), row)
    k += scales
    if s.explicit:
        weights = s.q * s.q if s.full_y else s.q
        take(c.weight, weights, s.wide_y, s.n, first, count, n, at(rows, k * LANES), row)
        k += weights
    if s.cross:
        crosses = s.q * s.mu
        take(c.cross, crosses, s.wide_cross, s.n, first, count, n, at(rows, k * LANES), row)
    return row


def take(
    source: Any,
    many: int,
    is_wide: bool,
    length: int,
    first: int,
    count: int,
    n: int,
    rows: Any,
    row: int,
) -> None:
    """Write rows of a stretch into a lane, the last point again behind the ``count`` of it."""
    for r in range(many):
        if is_wide:
            given_row = at(source, r * length + first)
            for i in range(n):
                rows[(i * row + r) * LANES] = given_row[min(i, count - 1)]
        else:
            for i in range(n):
                rows[(i * row + r) * LANES] = source[r]


def leave(c: Any, s: Any, room: Any, first: int, n: int, lane: int, answer: Any) -> None:
    """Write what is told of a fit that is done, and what is made of its points."""
    for k in range(TOLD + 3 * s.p + s.p * s.p):
        answer[k] = room.answers[k * LANES + lane]
    row, feet = width(s), given(s)
    scale = s.m + (s.q if s.explicit else 0)
    for j in range(s.q):
        for i in range(n):
            c.value[j * s.n + first + i] = room.out[(i * s.q + j) * LANES + lane]
    for a in range(s.mu):
        for i in range(n):
            point = at(room.rows, i * row * LANES + lane)
            c.v[a * s.n + first + i] = point[(feet + a) * LANES]
            t = 0.0
            if s.full_x:
                for b in range(s.mu):
                    t += point[(scale + a * s.mu + b) * LANES] * point[(feet + b) * LANES]
            else:
                t = point[(scale + a) * LANES] * point[(feet + a) * LANES]
            c.u[a * s.n + first + i] = t


def go_on_alone(c: Any, s: Any, f: Any, room: Any, lane: int, answer: Any) -> None:
    """Go on with the fit of a lane from where it is."""
    p, row, feet = s.p, width(s), given(s)
    mine, course = at(room.memory, lane), at(room.course, lane)
    for j in range(4 * p):
        f.beta[j] = mine[j * LANES]
    for j in range(p * p):
        f.A[j] = mine[(9 * p + j) * LANES]
    for a in range(s.mu):
        for i in range(f.last - f.first):
            foot = room.rows[(i * row + feet + a) * LANES + lane]
            c.u[a * s.n + f.first + i] = foot
    c.turn[0] = 0.0
    c.turn[1] = -1.0
    c.total[added(s) - 2] = course[9 * LANES]
    c.total[added(s) - 1] = course[10 * LANES]
    put(c, s, f)
    here = Course(
        int(course[0]),
        int(course[LANES]),
        int(course[2 * LANES]),
        course[3 * LANES] > 0.0,
        course[4 * LANES],
        course[5 * LANES],
        course[6 * LANES],
        course[7 * LANES],
        int(course[8 * LANES]),
    )
    go_on(c, s, f, here, answer)
