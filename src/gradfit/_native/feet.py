"""Foot points of a block: back onto a curve, down at fixed parameters, and to a nearer foot.

What :mod:`gradfit._engine.field` and :mod:`gradfit._engine.feet` do, point by point.
"""

from typing import Any

import numpy as np

from gradfit._engine.feet import WELLS
from gradfit._native.lower import BLOCK
from gradfit._native.matrix import eliminate
from gradfit._native.place import SEARCHED, double, feet_of, fill, given
from gradfit._native.pointer import at, call, copy

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
    """Follow wanted feet of the block down at fixed parameters; ``out`` holds what is linear.

    One that has arrived stays: its share of the way is 0.
    """
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
            if wanted[i] == 0.0 or share[i] == 0.0:
                continue
            old, new = c.out[phi + i], c.rest[phi + i]
            settled = c.out[tangent + i] <= 1e-6 * old or share[i] < 1e-3
            done = done and settled
            if not (new >= old or new != new):
                take(c, s, i)
            share[i] = min(2.0 * share[i], 1.0) if new < old else share[i] / 4.0
            share[i] = 0.0 if settled else share[i]
        if done:
            break


def search(c: Any, s: Any, start: int, n: int) -> None:
    """Look for nearer feet; what moves is counted, and marked in ``value``."""
    mu, q = s.mu, s.q
    phi = (q * s.p + q + q * mu + 1) * BLOCK
    follow, size = at(c.lanes, 2 * BLOCK), at(c.lanes, 4 * BLOCK)
    best, first, bent = at(c.lanes, 5 * BLOCK), at(c.lanes, 6 * BLOCK), at(c.lanes, 7 * BLOCK)
    if not bends(c, s, n, bent):
        return
    call(c.linear, c.rows, c.pars, c.out, c.total, n)
    double(c, s, n)
    feet, old = feet_of(s, c.rows), at(c.lanes, SEARCHED * BLOCK)
    for i in range(n):
        first[i] = c.out[phi + i]
        best[i] = first[i]
        size[i] = np.sqrt(first[i])
        for a in range(mu):
            old[a * BLOCK + i] = feet[a * BLOCK + i]
    found = at(old, mu * BLOCK)
    for a in range(mu):
        copy(at(old, a * BLOCK), at(found, a * BLOCK), n)
    wells(c, s, n, size)
    for k in range(WELLS if mu == 1 else 1):
        place, depth = at(c.lanes, (8 + 2 * k) * BLOCK), at(c.lanes, (9 + 2 * k) * BLOCK)
        some = False
        for i in range(n):
            follow[i] = 1.0 if bent[i] > 0.0 and depth[i] < np.inf else 0.0
            some = some or follow[i] > 0.0
            for a in range(mu):
                there = c.trials[int(place[i]) * mu + a] * size[i]
                feet[a * BLOCK + i] = there if follow[i] > 0.0 else old[a * BLOCK + i]
        if some:
            restore(c, s, c.rows, c.pars, n)
            call(c.linear, c.rows, c.pars, c.out, c.total, n)
            descend(c, s, c.pars, n, DESCENTS)
            for i in range(n):
                if follow[i] > 0.0 and c.out[phi + i] < best[i]:
                    best[i] = c.out[phi + i]
                    for a in range(mu):
                        found[a * BLOCK + i] = feet[a * BLOCK + i]
    for i in range(n):
        nearer = best[i] < first[i] * (1.0 - 1e-9)
        if nearer:
            c.total[0] += 1.0
            c.value[start + i] = 1.0
        for a in range(mu):
            feet[a * BLOCK + i] = found[a * BLOCK + i] if nearer else old[a * BLOCK + i]


def wells(c: Any, s: Any, n: int, size: Any) -> None:
    """Write down the trial points to follow, and squared distances there; inf where there is none.

    On a line the lowest of those lower than their neighbours, elsewhere the lowest of all.
    """
    mu, q = s.mu, s.q
    many = WELLS if mu == 1 else 1
    before, here = at(c.lanes, (8 + 2 * WELLS) * BLOCK), at(c.lanes, (9 + 2 * WELLS) * BLOCK)
    others = feet_of(s, c.other)
    for i in range(n):
        before[i] = np.inf
        here[i] = np.inf
        for k in range(many):
            c.lanes[(8 + 2 * k) * BLOCK + i] = 0.0
            c.lanes[(9 + 2 * k) * BLOCK + i] = np.inf
    for t in range(s.trials + 1):
        if t < s.trials:
            for a in range(mu):
                for i in range(n):
                    others[a * BLOCK + i] = c.trials[t * mu + a] * size[i]
            restore(c, s, c.other, c.pars, n)
            call(c.probe, c.other, c.pars, c.third, c.total, n)
        for i in range(n):
            d = np.inf
            if t < s.trials:
                d = 0.0
                for a in range(mu):
                    d += others[a * BLOCK + i] * others[a * BLOCK + i]
                if s.explicit:
                    for j in range(q):
                        d += c.third[j * BLOCK + i] * c.third[j * BLOCK + i]
                d = d if d == d else np.inf
            if here[i] < np.inf and (mu > 1 or (here[i] <= before[i] and here[i] <= d)):
                keep(at(c.lanes, 8 * BLOCK + i), many, t - 1, here[i])
            before[i] = here[i]
            here[i] = d


def keep(lanes: Any, many: int, place: int, depth: float) -> None:
    """Enter a trial point among the lowest so far, in order."""
    k = many
    while k > 0 and depth < lanes[(2 * k - 1) * BLOCK]:
        if k < many:
            lanes[2 * k * BLOCK] = lanes[2 * (k - 1) * BLOCK]
            lanes[(2 * k + 1) * BLOCK] = lanes[(2 * k - 1) * BLOCK]
        k -= 1
    if k < many:
        lanes[2 * k * BLOCK] = float(place)
        lanes[(2 * k + 1) * BLOCK] = depth


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
