"""Small fits of a batch, eight at a time: into lanes, abreast, and out again.

Who has not come to the end abreast goes on alone from where it is.
"""

from typing import Any, NamedTuple

from gradfit._native.abreast import COURSE, Abreast, run_abreast, width
from gradfit._native.carry import Course, fit_at, fit_room
from gradfit._native.ending import TOLD
from gradfit._native.entry import HEAD, place_at, prepare, spec_at
from gradfit._native.lower import LANES
from gradfit._native.place import added, given, own_room, shared_room, told
from gradfit._native.pointer import at, hand_over, wide
from gradfit._native.solver import fit_one, go_on, put

MOST = 64
"""Points of a fit, at most: what fits have beside them stays in the nearest cache."""


class Points(NamedTuple):
    """The points of all fits, as in :class:`gradfit._native.place.Place`."""

    x: Any
    y: Any
    scale: Any
    weight: Any
    cross: Any


class Room(NamedTuple):
    """Where lanes lie, number by number: see :class:`gradfit._native.abreast.Abreast`."""

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


def fit_in_eights(  # noqa: PLR0917 - machine code takes one thing after the other
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
    noise: Any,
    bends: Any,
    eight: Any,
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

    ``eight`` is :func:`fit_eight`.
    """
    s = spec_at(head)
    kernels = probe, linear, look, advance, exact, noise, bends, 0
    others = look_abreast, advance_abreast, noise_abreast, bends_abreast, probe_abreast
    data, own = (x, y, scale, weight, cross), at(memory, shared_room(s))
    c = place_at(s, kernels, data, made, head, memory, own)
    prepare(c, s, head)
    size, rest = TOLD + 3 * s.p + s.p * s.p, at(own, own_room(s))
    lower = at(head, HEAD + s.mu + s.p)
    lanes = at(rest, fit_room(s.p))
    room = room_at(s, lanes)
    k = lo
    while k < hi:
        n, count = longest(firsts, k, hi), min(LANES, hi - k)
        if n <= MOST:
            given = at(firsts, k), at(starts, k * s.p), at(answers, k * size), head, lanes
            hand_over(eight, *others, *data, c.u, c.v, c.value, *given, count, n)
        for lane in range(count):
            first, last = int(firsts[k + lane]), int(firsts[k + lane + 1])
            f = fit_at(rest, s.p, first, last, lower, at(lower, s.p))
            if n > MOST:
                for j in range(s.p):
                    f.beta[j] = starts[(k + lane) * s.p + j]
                fit_one(c, s, f, at(answers, (k + lane) * size))
            elif not is_done(room, lane):
                go_on_alone(c, s, f, room, lane, at(answers, (k + lane) * size))
        k += LANES


def fit_eight(  # noqa: PLR0917
    look: Any,
    advance: Any,
    noise: Any,
    bends: Any,
    probe: Any,
    x: Any,
    y: Any,
    scale: Any,
    weight: Any,
    cross: Any,
    u: Any,
    v: Any,
    value: Any,
    firsts: Any,
    starts: Any,
    answers: Any,
    head: Any,
    lanes: Any,
    count: int,
    n: int,
) -> None:
    """Fit up to eight groups of up to ``n`` points; write down what came of those that are done."""
    s = spec_at(head)
    room, points = room_at(s, lanes), Points(x, y, scale, weight, cross)
    enter(s, room, points, firsts, starts, answers, count, n)
    start = HEAD + s.mu + 3 * s.p
    c = Abreast(
        look,
        advance,
        noise,
        bends,
        probe,
        wide(room.rows),
        wide(room.out),
        wide(room.pars),
        wide(room.total),
        at(head, HEAD),
        at(head, start + told(s)),
    )
    for k in range(told(s)):
        c.pars[k] = head[start + k]
    memory = wide(room.memory)
    f = fit_at(memory, s.p, 0, n, memory, memory)
    run_abreast(c, s, f, n, wide(room.course), wide(room.answers))
    size = TOLD + 3 * s.p + s.p * s.p
    for lane in range(count):
        if is_done(room, lane):
            first, last = int(firsts[lane]), int(firsts[lane + 1])
            for k in range(size):
                answers[lane * size + k] = room.answers[k * LANES + lane]
            leave(s, room, u, v, value, first, last - first, lane)


def is_done(room: Any, lane: int) -> bool:
    """Return whether a fit has come to its end abreast."""
    return room.course[(COURSE - 1) * LANES + lane] > 0.0


def longest(firsts: Any, k: int, hi: int) -> int:
    """Return the points of the longest of the next fits."""
    n = 0
    for j in range(k, min(k + LANES, hi)):
        n = max(n, int(firsts[j + 1]) - int(firsts[j]))
    return n


def enter(  # noqa: PLR0917
    s: Any,
    room: Any,
    points: Any,
    firsts: Any,
    starts: Any,
    answers: Any,
    count: int,
    n: int,
) -> None:
    """Write fits into lanes; lanes that are left repeat the last."""
    size, row = TOLD + 3 * s.p + s.p * s.p, width(s)
    for lane in range(LANES):
        one = min(lane, count - 1)
        first, last = int(firsts[one]), int(firsts[one + 1])
        for j in range(s.p):
            room.memory[j * LANES + lane] = starts[one * s.p + j]
        room.course[lane] = answers[one * size]
        rows = at(room.rows, lane)
        take_points(points, s, rows, first, last - first, n)
        live = at(rows, (row - 1) * LANES)
        for i in range(n):
            live[i * row * LANES] = 1.0 if i < last - first else 0.0


def take_points(c: Any, s: Any, rows: Any, first: int, count: int, n: int) -> None:
    """Write the data of one fit into its lane."""
    k = take(s, c.x, s.m, True, first, count, n, rows, 0)
    if s.explicit:
        k = take(s, c.y, s.q, True, first, count, n, rows, k)
    k = take(s, c.scale, s.mu * s.mu if s.full_x else s.mu, s.wide_x, first, count, n, rows, k)
    if s.explicit:
        weights = s.q * s.q if s.full_y else s.q
        k = take(s, c.weight, weights, s.wide_y, first, count, n, rows, k)
    if s.cross:
        take(s, c.cross, s.q * s.mu, s.wide_cross, first, count, n, rows, k)


def take(  # noqa: PLR0917
    s: Any,
    source: Any,
    many: int,
    is_wide: bool,
    first: int,
    count: int,
    n: int,
    rows: Any,
    k: int,
) -> int:
    """Write rows of a stretch behind the first ``k``, and the last point again behind its own.

    Returns how many there are then.
    """
    row = width(s) * LANES
    for r in range(many):
        to = at(rows, (k + r) * LANES)
        if is_wide:
            own = at(source, r * s.n + first)
            for i in range(count):
                to[i * row] = own[i]
            for i in range(count, n):
                to[i * row] = own[count - 1]
        else:
            for i in range(n):
                to[i * row] = source[r]
    return k + many


def leave(  # noqa: PLR0917
    s: Any, room: Any, u: Any, v: Any, value: Any, first: int, n: int, lane: int
) -> None:
    """Write what a fit that is done makes of its points."""
    row, feet = width(s), given(s)
    scale = s.m + (s.q if s.explicit else 0)
    for j in range(s.q):
        model, out = at(value, j * s.n + first), at(room.out, j * LANES + lane)
        for i in range(n):
            model[i] = out[i * s.q * LANES]
    for a in range(s.mu):
        foot, delta = at(v, a * s.n + first), at(u, a * s.n + first)
        for i in range(n):
            point = at(room.rows, i * row * LANES + lane)
            foot[i] = point[(feet + a) * LANES]
            t = 0.0
            if s.full_x:
                for b in range(s.mu):
                    t += point[(scale + a * s.mu + b) * LANES] * point[(feet + b) * LANES]
            else:
                t = point[(scale + a) * LANES] * point[(feet + a) * LANES]
            delta[i] = t


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
