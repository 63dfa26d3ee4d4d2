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
from gradfit._native.pointer import at, call

LOOK, STEP, NEWTON_STEP, SETTLE, EXACT, NOISE, FACTOR, SEARCH, FINISH = range(9)
EPS = 2.0**-52


def sweep(c: Any, s: Any, task: int, start: int, stop: int) -> None:
    """Walk over the points from ``start`` to ``stop``; what they add up to comes into ``total``."""
    count, width = added_by(s, task), min(BLOCK, stop - start)
    for k in range(count):
        c.total[k] = 0.0
    for i in range(count * BLOCK):
        c.sums[i] = 0.0
    here = c.v if c.turn[0] > 0.0 else c.u
    there = c.u if c.turn[0] > 0.0 else c.v
    while start < stop:
        n = min(BLOCK, stop - start)
        # Sums of several blocks would take in what lies behind the points of the last.
        adding = full(n) if n == width else n
        load(c, s, start, n)
        if task == LOOK:
            restore(c, s, c.rows, c.pars, n)
            call(c.look, c.rows, c.pars, c.sums, adding)
            store(c, s, here, start, n)
        elif task == STEP or task == NEWTON_STEP:
            if task == STEP:
                call(c.advance, c.rows, c.pars, c.out, full(n))
                move(c, s, n)
            else:
                curve(c, s, n, False)
            restore(c, s, c.rows, c.ahead, n)
            call(c.look, c.rows, c.ahead, c.sums, adding)
            store(c, s, there, start, n)
        elif task == SETTLE:
            settle(c, s, there, start, n)
            call(c.look, c.rows, c.ahead, c.sums, adding)
            store(c, s, there, start, n)
        elif task == EXACT:
            curve(c, s, n, True)
        elif task == NOISE:
            noise(c, s, n)
        elif task == FACTOR:
            factor(c, s, n)
        elif task == SEARCH:
            search(c, s, start, n)
            store(c, s, here, start, n)
        else:
            finish(c, s, start, n)
        start += n
    if task != FACTOR:
        for k in range(count):
            c.total[k] = gathered(at(c.sums, k * BLOCK), width)


def gathered(lanes: Any, width: int) -> float:
    """Return the sum of lanes."""
    a, b, c, d, i = 0.0, 0.0, 0.0, 0.0, 0
    # Four sums side by side: an addition need not wait for the one before.
    while i + 4 <= width:
        a += lanes[i]
        b += lanes[i + 1]
        c += lanes[i + 2]
        d += lanes[i + 3]
        i += 4
    while i < width:
        a += lanes[i]
        i += 1
    return (a + c) + (b + d)


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
        for i in range(n):
            feet[a * BLOCK + i] = c.out[a * BLOCK + i]


def noise(c: Any, s: Any, n: int) -> None:
    """Add up the squares of what rounding errors of data and parameters do to residuals."""
    q, mu, p = s.q, s.mu, s.p
    call(c.linear, c.rows, c.pars, c.out, full(n))
    y, scale = s.m, s.m + (s.q if s.explicit else 0)
    weight = scale + (mu * mu if s.full_x else mu)
    K = q * p + q
    for i in range(n):
        total = 0.0
        for j in range(q):
            for k in range(p):
                t = c.out[(j * p + k) * BLOCK + i] * c.pars[int(c.where[k])]
                total += t * t
            t = 0.0
            for a in range(mu):
                sigma = abs(c.rows[(scale + (a * mu + a if s.full_x else a)) * BLOCK + i])
                if sigma > 0.0:
                    t += (
                        c.out[(K + j * mu + a) * BLOCK + i]
                        * c.rows[int(c.which[a]) * BLOCK + i]
                        / sigma
                    )
            total += t * t
            if s.explicit:
                t = 0.0
                if s.full_y:
                    for k in range(q):
                        w = c.rows[(weight + j * q + k) * BLOCK + i]
                        t += w * c.rows[(y + k) * BLOCK + i]
                else:
                    t = c.rows[(weight + j) * BLOCK + i] * c.rows[(y + j) * BLOCK + i]
                total += t * t
        c.sums[i] += 16.0 * EPS * EPS * total


def factor(c: Any, s: Any, n: int) -> None:
    """Bring the rows of ``[J | h]`` into their triangular factor."""
    q, p = s.q, s.p
    tail = q * p + q + q * s.mu
    call(c.linear, c.rows, c.pars, c.out, full(n))
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
    call(c.probe, c.rows, c.pars, c.out, full(n))
    for j in range(s.q):
        for i in range(n):
            c.value[j * s.n + start + i] = c.out[(s.q + s.q * mu + j) * BLOCK + i]
    for a in range(mu):
        for i in range(n):
            t = 0.0
            if s.full_x:
                for b in range(mu):
                    t += scale[(a * mu + b) * BLOCK + i] * feet[b * BLOCK + i]
            else:
                t = scale[a * BLOCK + i] * feet[a * BLOCK + i]
            c.u[a * s.n + start + i] = t
            c.v[a * s.n + start + i] = feet[a * BLOCK + i]
    if s.robust:
        call(c.linear, c.rows, c.pars, c.out, full(n))
        weight = s.q * s.p + s.q + s.q * mu + 2
        for i in range(n):
            c.weights[start + i] = c.out[weight * BLOCK + i]
