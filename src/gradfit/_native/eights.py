"""Small fits of a batch, eight at a time: into lanes, abreast, and out again.

Who has not come to the end abreast goes on alone from where it is.
"""

from typing import Any, NamedTuple

from gradfit._native.abreast import COURSE, Abreast, run_abreast, width
from gradfit._native.carry import Course, fit_at, fit_room
from gradfit._native.ending import answer_room
from gradfit._native.entry import HEAD, place_at, prepare, spec_at
from gradfit._native.lower import LANES
from gradfit._native.place import added, given, own_room, shared_room, told
from gradfit._native.pointer import at, hand_over, pick, turn, where, wide
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
    ahead: Any
    pars: Any
    total: Any
    memory: Any
    course: Any
    answers: Any


def lanes_room(s: Any) -> int:
    """Return how many numbers a thread needs for its lanes."""
    small = told(s) + added(s) + fit_room(s.p) + COURSE + answer_room(s.p)
    return LANES * (2 * MOST * width(s) + small)


def room_at(s: Any, memory: Any) -> Room:
    """Lay the lanes out."""
    ahead = LANES * MOST * width(s)
    pars = 2 * ahead
    total = pars + LANES * told(s)
    fits = total + LANES * added(s)
    course = fits + LANES * fit_room(s.p)
    return Room(
        memory,
        at(memory, ahead),
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
    size, rest = answer_room(s.p), at(own, own_room(s))
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
        wide(room.ahead),
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
    size = answer_room(s.p)
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
    # Where lanes begin and how far they go lies for now where their course will.
    size, last, least = answer_room(s.p), at(room.course, LANES), n
    for lane in range(LANES):
        one = min(lane, count - 1)
        for j in range(s.p):
            room.memory[j * LANES + lane] = starts[one * s.p + j]
        room.course[lane] = firsts[one]
        last[lane] = firsts[one + 1] - firsts[one] - 1.0
        least = min(least, int(last[lane]) + 1)
    course, full = wide(room.course), least // LANES * LANES
    take_points(points, s, wide(room.rows), wide(room.ahead), course[0], course[1], full, n)
    for lane in range(LANES):
        room.course[lane] = answers[min(lane, count - 1) * size]


def take_points(  # noqa: PLR0917
    c: Any, s: Any, rows: Any, ahead: Any, first: Any, last: Any, full: int, n: int
) -> None:
    """Write the data of fits into both places; behind its own a lane has its last point again.

    All lanes have the points up to ``full``, which are taken as many at a time as there are lanes.
    """
    row = width(s)
    for i in range(full // LANES):
        place = i * LANES * row
        take(c, s, first + float(i * LANES), at(rows, place), at(ahead, place), True)
        for j in range(1, LANES + 1):
            rows[place + j * row - 1] = 1.0
            ahead[place + j * row - 1] = 1.0
    for i in range(full, n):
        behind = first + where(i < last, float(i), last)
        take(c, s, behind, at(rows, i * row), at(ahead, i * row), False)
        rows[(i + 1) * row - 1] = where(i <= last, 1.0, 0.0)
        ahead[(i + 1) * row - 1] = rows[(i + 1) * row - 1]


def take(c: Any, s: Any, first: Any, rows: Any, ahead: Any, eight: bool) -> None:
    """Write one point of each lane, or eight, from a place that lanes have their own."""
    k = take_kind(s, c.x, s.m, True, first, rows, ahead, 0, eight)
    if s.explicit:
        k = take_kind(s, c.y, s.q, True, first, rows, ahead, k, eight)
    scales = s.mu * s.mu if s.full_x else s.mu
    k = take_kind(s, c.scale, scales, s.wide_x, first, rows, ahead, k, eight)
    if s.explicit:
        weights = s.q * s.q if s.full_y else s.q
        k = take_kind(s, c.weight, weights, s.wide_y, first, rows, ahead, k, eight)
    if s.cross:
        take_kind(s, c.cross, s.q * s.mu, s.wide_cross, first, rows, ahead, k, eight)


def take_kind(  # noqa: PLR0917
    s: Any,
    source: Any,
    many: int,
    is_wide: bool,
    first: Any,
    rows: Any,
    ahead: Any,
    k: int,
    eight: bool,
) -> int:
    """Write numbers of one kind behind the first ``k`` of a point; return how many there are."""
    row = width(s)
    for r in range(k, k + many):
        own = at(source, (r - k) * (s.n if is_wide else 1))
        if is_wide and eight:
            turn(own, first, at(rows, r), at(ahead, r), row)
        elif is_wide:
            rows[r] = pick(own, first)
            ahead[r] = rows[r]
        else:
            for j in range(LANES if eight else 1):
                rows[r + j * row] = own[0]
                ahead[r + j * row] = own[0]
    return k + many


def places_of(s: Any, room: Any) -> tuple[Any, Any]:
    """Return where the points of lanes lie in the end, and the other place."""
    size = LANES * MOST * width(s)
    shift = int(room.course[(COURSE - 2) * LANES]) * size
    return at(room.rows, shift), at(room.rows, size - shift)


def leave(  # noqa: PLR0917
    s: Any, room: Any, u: Any, v: Any, value: Any, first: int, n: int, lane: int
) -> None:
    """Write what a fit that is done makes of its points."""
    row, feet = width(s), given(s)
    scale = s.m + (s.q if s.explicit else 0)
    rows, other = places_of(s, room)
    # Rows of weights lie behind those of the model.
    for j in range(s.q + (1 if s.robust else 0)):
        model, out = at(value, j * s.n + first), at(other, j * LANES + lane)
        for i in range(n):
            model[i] = out[i * row * LANES]
    for a in range(s.mu):
        foot, delta = at(v, a * s.n + first), at(u, a * s.n + first)
        for i in range(n):
            point = at(rows, i * row * LANES + lane)
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
    rows, _ = places_of(s, room)
    for j in range(4 * p):
        f.beta[j] = mine[j * LANES]
    for j in range(p * p):
        f.A[j] = mine[(9 * p + j) * LANES]
    for a in range(s.mu):
        for i in range(f.last - f.first):
            c.u[a * s.n + f.first + i] = rows[(i * row + feet + a) * LANES + lane]
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
