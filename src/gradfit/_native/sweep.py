"""One walk over the points of a fit, block by block: what :mod:`gradfit._engine.field` does.

Each task reads the points, their feet and the parameters, and adds up or moves feet. Tasks know of
no other points than their own, so that threads may share a walk.
"""

from typing import Any

import numpy as np

from gradfit._native.feet import restore, search, settle
from gradfit._native.lower import BLOCK
from gradfit._native.matrix import take_in
from gradfit._native.newton import curve
from gradfit._native.place import feet_of, full, load, store
from gradfit._native.pointer import at, call, copy

LOOK, STEP, NEWTON_STEP, SETTLE, EXACT, NOISE, FACTOR, SEARCH, FINISH = range(9)


def sweep(c: Any, s: Any, task: int, start: int, stop: int) -> None:
    """Walk over the points from ``start`` to ``stop``; what they add up to comes into ``total``."""
    for k in range(added_by(s, task)):
        c.total[k] = 0.0
    here = c.v if c.turn[0] > 0.0 else c.u
    there = c.u if c.turn[0] > 0.0 else c.v
    feet = feet_of(s, c.rows)
    while start < stop:
        n = min(BLOCK, stop - start)
        load(c, s, start, n)
        if task == LOOK:
            restore(c, s, c.rows, c.pars, n)
            look(c, s, c.pars, n)
            store(s, feet, here, start, n)
        elif task == STEP:
            call(c.advance, c.rows, c.pars, c.out, c.total, n)
            if s.explicit:
                store(s, c.out, there, start, n)
            else:
                move(c, s, n)
                arrive(c, s, there, start, n)
        elif task == NEWTON_STEP:
            curve(c, s, n, False)
            arrive(c, s, there, start, n)
        elif task == SETTLE:
            settle(c, s, there, start, n)
            look(c, s, c.ahead, n)
            store(s, feet, there, start, n)
        elif task == EXACT:
            curve(c, s, n, True)
        elif task == NOISE:
            call(c.noise, c.rows, c.pars, c.out, c.total, n)
        elif task == FACTOR:
            factor(c, s, n)
        elif task == SEARCH:
            search(c, s, start, n)
            store(s, feet, here, start, n)
        else:
            finish(c, s, start, n)
        start += n


def arrive(c: Any, s: Any, there: Any, start: int, n: int) -> None:
    """Bring feet that a step has moved onto their curve, and add up what they find."""
    restore(c, s, c.rows, c.ahead, n)
    look(c, s, c.ahead, n)
    store(s, feet_of(s, c.rows), there, start, n)


def look(c: Any, s: Any, pars: Any, n: int) -> None:
    """Add up what points find where each of their feet has been moved on its own.

    Lanes that only fill a register follow the last point: where they were left the model may be NaN
    by now.
    """
    feet = feet_of(s, c.rows)
    for a in range(s.mu):
        row = at(feet, a * BLOCK)
        for i in range(n, full(n)):
            row[i] = row[n - 1]
    call(c.look, c.rows, pars, c.out, c.total, n)


def added_by(s: Any, task: int) -> int:
    """Return how many numbers a task adds up."""
    p = s.p
    if task <= SETTLE and task != EXACT:
        return 2 + p * (p + 1) // 2 + p
    if task == EXACT:
        return p * p + 2 * p + 1
    if task == FACTOR:
        return (p + 1) * (p + 1)
    return 1


def move(c: Any, s: Any, n: int) -> None:
    """Take foot points over from a result."""
    feet = feet_of(s, c.rows)
    for a in range(s.mu):
        copy(at(c.out, a * BLOCK), at(feet, a * BLOCK), n)


def factor(c: Any, s: Any, n: int) -> None:
    """Bring the rows of ``[J | h]`` into their triangular factor."""
    q, p = s.q, s.p
    tail = q * p + q + q * s.mu
    call(c.linear, c.rows, c.pars, c.out, c.total, n)
    for i in range(n):
        root = np.sqrt(c.out[(tail + 2) * BLOCK + i])
        for j in range(q):
            for k in range(p):
                c.small[k] = root * c.out[(j * p + k) * BLOCK + i]
            c.small[p] = root * c.out[(q * p + j) * BLOCK + i]
            take_in(c.total, c.small, p + 1)


def finish(c: Any, s: Any, start: int, n: int) -> None:
    """Write corrections in the units of x, foot points, the model, and weights."""
    mu = s.mu
    feet, scale = feet_of(s, c.rows), at(c.rows, (s.m + (s.q if s.explicit else 0)) * BLOCK)
    call(c.probe, c.rows, c.pars, c.out, c.total, n)
    for j in range(s.q):
        copy(at(c.out, (s.q + s.q * mu + j) * BLOCK), at(c.value, j * s.n + start), n)
    store(s, feet, c.v, start, n)
    for a in range(mu):
        for i in range(n):
            t = 0.0
            if s.full_x:
                for b in range(mu):
                    t += scale[(a * mu + b) * BLOCK + i] * feet[b * BLOCK + i]
            else:
                t = scale[a * BLOCK + i] * feet[a * BLOCK + i]
            c.u[a * s.n + start + i] = t
    if s.robust:
        call(c.linear, c.rows, c.pars, c.out, c.total, n)
        weight = s.q * s.p + s.q + s.q * mu + 2
        copy(at(c.out, weight * BLOCK), at(c.weights, start), n)
