"""Where machine code is entered: many fits, or a part of a walk over the points of a large one."""

from typing import Any

from gradfit._native.carry import fit_at
from gradfit._native.ending import TOLD
from gradfit._native.lower import BLOCK
from gradfit._native.place import Place, Spec, added, given, own_room, results, shared_room
from gradfit._native.pointer import at
from gradfit._native.solver import fit_one
from gradfit._native.sweep import sweep

HEAD = 24
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
        head[16] > 0.0,
        head[17] > 0.0,
        head[18] > 0.0,
        int(head[19]),
        head[20],
        head[21],
        head[22],
        int(head[23]),
    )


def place_at(s: Any, kernels: Any, data: Any, made: Any, head: Any, shared: Any, own: Any) -> Place:
    """Lay out what threads share and what each has for itself."""
    tail = HEAD + s.mu + 3 * s.p
    count = s.everything + s.p + 1
    other = (given(s) + s.mu) * BLOCK
    out, width = 2 * other, results(s) * BLOCK
    sums = out + 3 * width
    lanes = sums + added(s) * BLOCK
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
        at(own, sums),
        at(own, lanes),
        at(own, lanes + (s.mu + 8) * BLOCK),
    )
    # As many as there are fields, though no tuple says how long it is.
    return Place(*kernels, *data, *constants, *results_of, *common, *private)  # pyright: ignore[reportCallIssue]


def fit_many(
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
    ask: Any,
    x: Any,
    y: Any,
    scale: Any,
    weight: Any,
    cross: Any,
    made: Any,
    firsts: Any,
    starts: Any,
    told: Any,
    head: Any,
    room: Any,
    lo: int,
    hi: int,
) -> None:
    """Fit the groups from ``lo`` to ``hi``; ``made`` has room for u, v, the model, and weights.

    ``firsts`` (G + 1) tells where the points of each begin, ``starts`` (G, p) where its parameters
    do; ``told`` (G, R) gets what :func:`fit_one` tells. ``head`` holds what all fits have in common
    (:func:`gradfit._native.cpu.head_of`), ``room`` is where the thread may write.
    """
    s = spec_at(head)
    kernels, data = (probe, linear, look, advance, exact, ask), (x, y, scale, weight, cross)
    own = at(room, shared_room(s))
    c = place_at(s, kernels, data, made, head, room, own)
    lower = at(head, HEAD + s.mu + s.p)
    count, width = s.everything + s.p + 1, TOLD + 3 * s.p + s.p * s.p
    for k in range(count):
        c.pars[k] = head[HEAD + s.mu + 3 * s.p + k]
        c.ahead[k] = c.pars[k]
    memory = at(own, own_room(s))
    for k in range(lo, hi):
        f = fit_at(memory, s.p, int(firsts[k]), int(firsts[k + 1]), lower, at(lower, s.p))
        for j in range(s.p):
            f.beta[j] = starts[k * s.p + j]
        fit_one(c, s, f, at(told, k * width))


def walk_part(
    probe: Any,
    linear: Any,
    look: Any,
    advance: Any,
    exact: Any,
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
    kernels, data = (probe, linear, look, advance, exact, 0), (x, y, scale, weight, cross)
    for k in range(shared_room(s)):
        room[k] = shared[k]
    own = at(room, shared_room(s))
    c = place_at(s, kernels, data, made, head, room, own)
    c.turn[1] = -1.0
    sweep(c, s, task, start, stop)
