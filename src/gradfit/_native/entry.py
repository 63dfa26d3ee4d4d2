"""Where machine code is entered: many fits, or a part of a walk over the points of a large one."""

from typing import Any

from gradfit._native.carry import fit_at
from gradfit._native.ending import answer_room
from gradfit._native.lower import BLOCK
from gradfit._native.place import (
    Place,
    Spec,
    added,
    given,
    lanes,
    own_room,
    results,
    shared_room,
    spread_constants,
    told,
)
from gradfit._native.pointer import at
from gradfit._native.solver import fit_one
from gradfit._native.sweep import sweep

HEAD = 26
"""Numbers of a :class:`~gradfit._native.place.Spec`."""


def spec_at(head: Any) -> Spec:
    """Read what is the same for all fits."""
    return Spec(
        int(head[0]),
        int(head[1]),
        int(head[2]),
        int(head[3]),
        int(head[4]),
        int(head[5]),
        head[6] > 0.0,
        head[7] > 0.0,
        head[8] > 0.0,
        head[9] > 0.0,
        head[10] > 0.0,
        head[11] > 0.0,
        head[12] > 0.0,
        head[13] > 0.0,
        int(head[14]),
        int(head[15]),
        int(head[16]),
        int(head[17]),
        head[18] > 0.0,
        head[19] > 0.0,
        head[20] > 0.0,
        int(head[21]),
        head[22],
        head[23],
        head[24],
        int(head[25]),
    )


def place_at(s: Any, kernels: Any, data: Any, made: Any, head: Any, shared: Any, own: Any) -> Place:
    """Lay out what threads share and what each has for itself."""
    tail = HEAD + s.mu + 3 * s.p
    count = told(s)
    other = (given(s) + s.mu) * BLOCK
    out, width = 2 * other, results(s) * BLOCK
    numbers = out + 3 * width
    constants = (at(head, HEAD), at(head, HEAD + s.p), at(head, tail + count))
    size, value = s.mu * s.n, at(made, 2 * s.mu * s.n)
    results_of = (made, at(made, size), value, at(value, s.q * s.n))
    common = (
        shared,
        at(shared, count),
        at(shared, 2 * count),
        at(shared, 2 * count + added(s)),
    )
    private = (
        own,
        at(own, other),
        at(own, out),
        at(own, out + width),
        at(own, out + 2 * width),
        at(own, numbers),
        at(own, numbers + lanes(s) * BLOCK),
    )
    # As many as there are fields, though no tuple says how long it is.
    return Place(*kernels, *data, *constants, *results_of, *common, *private)  # pyright: ignore[reportCallIssue]


def prepare(c: Any, s: Any, head: Any) -> None:
    """Tell kernels what is the same for all fits."""
    for k in range(told(s)):
        c.pars[k] = head[HEAD + s.mu + 3 * s.p + k]
        c.ahead[k] = c.pars[k]
    spread_constants(c, s)


def fit_many(
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
    noise: Any,
    bends: Any,
    ask: Any,
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
    room: Any,
    lo: int,
    hi: int,
) -> None:
    """Fit the groups from ``lo`` to ``hi``; ``made`` has room for u, v, the model, and weights.

    ``firsts`` (G + 1) tells where the points of each begin, ``starts`` (G, p) where its parameters
    do; ``answers`` (G, R) gets what :func:`fit_one` tells. ``head`` holds what all fits have in
    common (:class:`gradfit._native.plan.Plan`), ``room`` is where the thread may write.
    """
    s = spec_at(head)
    kernels = probe, linear, look, advance, exact, noise, bends, ask
    data = x, y, scale, weight, cross
    own = at(room, shared_room(s))
    c = place_at(s, kernels, data, made, head, room, own)
    prepare(c, s, head)
    lower, width = at(head, HEAD + s.mu + s.p), answer_room(s.p)
    memory = at(own, own_room(s))
    for k in range(lo, hi):
        f = fit_at(memory, s.p, int(firsts[k]), int(firsts[k + 1]), lower, at(lower, s.p))
        for j in range(s.p):
            f.beta[j] = starts[k * s.p + j]
        fit_one(c, s, f, at(answers, k * width))


def walk_part(
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
    noise: Any,
    bends: Any,
    x: Any,
    y: Any,
    scale: Any,
    weight: Any,
    cross: Any,
    made: Any,
    head: Any,
    shared: Any,
    room: Any,
    task: int,
    start: int,
    stop: int,
) -> None:
    """Walk over some points of a large fit, for one of its threads.

    ``shared`` is read; the thread's own ``room`` gets a copy with the sums of its points.
    """
    s = spec_at(head)
    kernels = probe, linear, look, advance, exact, noise, bends, 0
    data = x, y, scale, weight, cross
    for k in range(shared_room(s)):
        room[k] = shared[k]
    own = at(room, shared_room(s))
    c = place_at(s, kernels, data, made, head, room, own)
    c.turn[1] = -1.0
    spread_constants(c, s)
    sweep(c, s, task, start, stop)
