"""Foot points of a block: back onto a curve, down at fixed parameters, and to a nearer foot.

What :mod:`gradfit._engine.field` and :mod:`gradfit._engine.feet` do, point by point.
"""

from typing import Any

import numpy as np

from gradfit._native.lower import BLOCK
from gradfit._native.matrix import eliminate
from gradfit._native.place import double, feet_of, fill, given
from gradfit._native.pointer import at, call

RESTORE = 40
SETTLES = 5
DESCENTS = 30


def restore(c: Any, s: Any, rows: Any, pars: Any, n: int) -> None:
    """Bring foot points back onto an implicit curve; one that finds none becomes NaN."""
    if s.explicit:
        return
    feet, last, sizes = feet_of(s, rows), c.lanes, at(c.lanes, BLOCK)
    for i in range(n):
        last[i] = np.inf
        sizes[i] = np.inf
    for _ in range(RESTORE):
        call(c.probe, rows, pars, c.third, c.total, n)
        moves = False
        for i in range(n):
            size, length = normal_step(c, s, feet, i)
            sizes[i] = size
            is_open = size > 1e-14 * (1.0 + length) and size < 0.9 * last[i]
            if is_open or size != size:
                for a in range(s.mu):
                    feet[a * BLOCK + i] += c.small[a]
            if is_open:
                last[i] = size
                moves = True
        if not moves:
            break
    for i in range(n):
        length = 0.0
        for a in range(s.mu):
            length += feet[a * BLOCK + i] * feet[a * BLOCK + i]
        if not sizes[i] <= 1e-6 * (1.0 + np.sqrt(length)):
            for a in range(s.mu):
                feet[a * BLOCK + i] = np.nan


def normal_step(c: Any, s: Any, feet: Any, i: int) -> tuple[float, float]:
    """Write the shortest ``du`` that solves ``r + J_u du = 0``; return its length and that of u."""
    q, mu, out = s.q, s.mu, c.third
    S, nu = at(c.small, mu), at(c.small, mu + q * q)
    for j in range(q):
        nu[j] = out[j * BLOCK + i]
        for k in range(q):
            t = 0.0
            for a in range(mu):
                t += out[(q + j * mu + a) * BLOCK + i] * out[(q + k * mu + a) * BLOCK + i]
            S[j * q + k] = t
    eliminate(S, nu, q, 1)
    size, length = 0.0, 0.0
    for a in range(mu):
        t = 0.0
        for j in range(q):
            t -= out[(q + j * mu + a) * BLOCK + i] * nu[j]
        c.small[a] = t
        size += t * t
        length += feet[a * BLOCK + i] * feet[a * BLOCK + i]
    return np.sqrt(size), np.sqrt(length)


def settle(c: Any, s: Any, there: Any, start: int, n: int) -> None:
    """Put the feet of a trial right: of each the better of two, then down."""
    q, mu, p = s.q, s.mu, s.p
    phi = (q * p + q + q * mu + 1) * BLOCK
    double(c, s, n)
    before, feet = feet_of(s, c.other), feet_of(s, c.rows)
    for a in range(mu):
        for i in range(n):
            before[a * BLOCK + i] = feet[a * BLOCK + i]
    fill(there, mu, True, s.n, start, n, c.rows, given(s))
    restore(c, s, c.rows, c.ahead, n)
    restore(c, s, c.other, c.ahead, n)
    call(c.linear, c.rows, c.ahead, c.out, c.total, n)
    call(c.linear, c.other, c.ahead, c.rest, c.total, n)
    wanted = at(c.lanes, 2 * BLOCK)
    for i in range(n):
        wanted[i] = 1.0
        # As torch has it: the first, unless it is farther or NaN.
        if c.out[phi + i] >= c.rest[phi + i] or c.out[phi + i] != c.out[phi + i]:
            take(c, s, i)
    descend(c, s, c.ahead, n, SETTLES)


def take(c: Any, s: Any, i: int) -> None:
    """Take one point of the other block over, with its linearisation."""
    feet, others = feet_of(s, c.rows), feet_of(s, c.other)
    for a in range(s.mu):
        feet[a * BLOCK + i] = others[a * BLOCK + i]
    for k in range(s.q * s.p, s.q * s.p + s.q + s.q * s.mu + 4):
        c.out[k * BLOCK + i] = c.rest[k * BLOCK + i]


def descend(c: Any, s: Any, pars: Any, n: int, rounds: int) -> None:
    """Follow wanted feet of the block down at fixed parameters; ``out`` holds what is linear."""
    q, mu, h = s.q, s.mu, s.q * s.p
    K, tangent = h + q, (h + q + q * mu) * BLOCK
    phi, share, wanted = tangent + BLOCK, at(c.lanes, 3 * BLOCK), at(c.lanes, 2 * BLOCK)
    feet, others = feet_of(s, c.rows), feet_of(s, c.other)
    for i in range(n):
        share[i] = 1.0
    for _ in range(rounds):
        for i in range(n):
            for a in range(mu):
                t = 0.0
                for j in range(q):
                    t += c.out[(h + j) * BLOCK + i] * c.out[(K + j * mu + a) * BLOCK + i]
                others[a * BLOCK + i] = (1.0 - share[i]) * feet[a * BLOCK + i] - share[i] * t
        restore(c, s, c.other, pars, n)
        call(c.linear, c.other, pars, c.rest, c.total, n)
        done = True
        for i in range(n):
            if wanted[i] == 0.0:
                continue
            old, new = c.out[phi + i], c.rest[phi + i]
            settled = c.out[tangent + i] <= 1e-6 * old
            done = done and (settled or share[i] < 1e-3)
            if not (new >= old or new != new):
                take(c, s, i)
            share[i] = min(2.0 * share[i], 1.0) if new < old else share[i] / 4.0
        if done:
            break


def search(c: Any, s: Any, start: int, n: int) -> None:
    """Look for nearer feet; what moves is counted, and marked in ``value``."""
    mu, q = s.mu, s.q
    phi = (q * s.p + q + q * mu + 1) * BLOCK
    bent, size = at(c.lanes, 2 * BLOCK), at(c.lanes, 4 * BLOCK)
    if not bends(c, s, n, bent):
        return
    call(c.linear, c.rows, c.pars, c.out, c.total, n)
    double(c, s, n)
    best, which = at(c.lanes, 5 * BLOCK), at(c.lanes, 6 * BLOCK)
    feet, others = feet_of(s, c.rows), feet_of(s, c.other)
    for i in range(n):
        size[i] = np.sqrt(c.out[phi + i])
        best[i] = c.out[phi + i]
        which[i] = 0.0
    for t in range(s.trials):
        for a in range(mu):
            for i in range(n):
                others[a * BLOCK + i] = c.trials[t * mu + a] * size[i]
        restore(c, s, c.other, c.pars, n)
        call(c.probe, c.other, c.pars, c.third, c.total, n)
        for i in range(n):
            d = 0.0
            for a in range(mu):
                d += others[a * BLOCK + i] * others[a * BLOCK + i]
            if s.explicit:
                for j in range(q):
                    d += c.third[j * BLOCK + i] * c.third[j * BLOCK + i]
            closer = d < best[i]
            best[i] = d if closer else best[i]
            which[i] = float(t) if closer else which[i]
    found = 0
    for i in range(n):
        if bent[i] > 0.0 and best[i] < c.out[phi + i] * (1.0 - 1e-9):
            found += 1
            c.total[0] += 1.0
            c.value[start + i] = 1.0
            for a in range(mu):
                feet[a * BLOCK + i] = c.trials[int(which[i]) * mu + a] * size[i]
        else:
            bent[i] = 0.0
    if found:
        restore(c, s, c.rows, c.pars, n)
        call(c.linear, c.rows, c.pars, c.out, c.total, n)
        descend(c, s, c.pars, n, DESCENTS)


def bends(c: Any, s: Any, n: int, bent: Any) -> bool:
    """Mark the points whose residual bends across the ball of their distance."""
    places = at(c.pars, s.everything + s.p + 1)
    c.small[0] = 0.0
    for i in range(n):
        bent[i] = 0.0
    turn = 0
    while turn < s.around:
        for k in range(s.together * s.mu):
            # Where no place is left the foot itself stands for one.
            is_one = turn * s.mu + k < s.around * s.mu
            places[k] = c.trials[(s.trials + turn) * s.mu + k] if is_one else 0.0
        call(c.bends, c.rows, c.pars, c.out, c.small, n)
        for i in range(n):
            bent[i] = max(bent[i], c.out[i])
        turn += s.together
    return c.small[0] > 0.0
