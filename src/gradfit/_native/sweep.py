"""One walk over the points of a fit, block by block: what :mod:`gradfit._engine.field` does.

Each task reads the points, their feet and the parameters, and adds up or moves feet. Tasks know of
no other points than their own, so that threads may share a walk.
"""

from typing import Any

import numpy as np

from gradfit._native.lower import BLOCK
from gradfit._native.matrix import eliminate, take_in
from gradfit._native.place import double, fill, given, load, store
from gradfit._native.pointer import at, call

LOOK, STEP, NEWTON_STEP, SETTLE, EXACT, NOISE, FACTOR, SEARCH, FINISH = range(9)
EPS = 2.0**-52
RESTORE = 40
SETTLES = 5
DESCENTS = 30


def sweep(c: Any, s: Any, task: int, start: int, stop: int) -> None:
    """Walk over the points from ``start`` to ``stop``; what they add up to comes into ``total``."""
    count = added_by(s, task)
    for k in range(count):
        c.total[k] = 0.0
        for i in range(BLOCK):
            c.sums[k * BLOCK + i] = 0.0
    here = c.v if c.turn[0] > 0.0 else c.u
    there = c.u if c.turn[0] > 0.0 else c.v
    while start < stop:
        n = min(BLOCK, stop - start)
        load(c, s, start, n)
        if task == LOOK:
            restore(c, s, c.rows, c.pars, n)
            call(c.look, c.rows, c.pars, c.sums, n)
            store(c, s, here, start, n)
        elif task == STEP or task == NEWTON_STEP:
            if task == STEP:
                call(c.advance, c.rows, c.pars, c.out, n)
                move(c, s, n)
            else:
                curve(c, s, n, False)
            restore(c, s, c.rows, c.ahead, n)
            call(c.look, c.rows, c.ahead, c.sums, n)
            store(c, s, there, start, n)
        elif task == SETTLE:
            settle(c, s, there, start, n)
            call(c.look, c.rows, c.ahead, c.sums, n)
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
            c.total[k] = gathered(at(c.sums, k * BLOCK))


def gathered(lanes: Any) -> float:
    """Return the sum of all lanes, by halves."""
    half = BLOCK // 2
    while half > 0:
        for i in range(half):
            lanes[i] += lanes[i + half]
        half //= 2
    return lanes[0]


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


def feet_of(s: Any, rows: Any) -> Any:
    """Return the rows of foot points of a block."""
    return at(rows, given(s) * BLOCK)


def move(c: Any, s: Any, n: int) -> None:
    """Take foot points over from a result."""
    feet = feet_of(s, c.rows)
    for a in range(s.mu):
        for i in range(n):
            feet[a * BLOCK + i] = c.out[a * BLOCK + i]


def restore(c: Any, s: Any, rows: Any, pars: Any, n: int) -> None:
    """Bring foot points back onto an implicit curve; one that finds none becomes NaN."""
    if s.explicit:
        return
    feet, last, sizes = feet_of(s, rows), c.lanes, at(c.lanes, BLOCK)
    for i in range(n):
        last[i] = np.inf
        sizes[i] = np.inf
    for _ in range(RESTORE):
        call(c.probe, rows, pars, c.third, n)
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


# Foot points alone --------------------------------------------------------------------------------


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
    call(c.linear, c.rows, c.ahead, c.out, n)
    call(c.linear, c.other, c.ahead, c.rest, n)
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
        call(c.linear, c.other, pars, c.rest, n)
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
    call(c.linear, c.rows, c.pars, c.out, n)
    call(c.probe, c.rows, c.pars, c.rest, n)
    double(c, s, n)
    bent, size = at(c.lanes, 2 * BLOCK), at(c.lanes, 4 * BLOCK)
    for i in range(n):
        size[i] = np.sqrt(c.out[phi + i])
    if not bends(c, s, n, bent, size):
        return
    best, at_best = at(c.lanes, 5 * BLOCK), at(c.lanes, 8 * BLOCK)
    feet, others = feet_of(s, c.rows), feet_of(s, c.other)
    for i in range(n):
        best[i] = c.out[phi + i]
    for t in range(s.trials):
        for a in range(mu):
            for i in range(n):
                others[a * BLOCK + i] = c.trials[t * mu + a] * size[i]
        restore(c, s, c.other, c.pars, n)
        call(c.probe, c.other, c.pars, c.third, n)
        for i in range(n):
            d = 0.0
            for a in range(mu):
                d += others[a * BLOCK + i] * others[a * BLOCK + i]
            if s.explicit:
                for j in range(q):
                    d += c.third[j * BLOCK + i] * c.third[j * BLOCK + i]
            if d < best[i]:
                best[i] = d
                for a in range(mu):
                    at_best[a * BLOCK + i] = others[a * BLOCK + i]
    found = 0
    for i in range(n):
        if bent[i] > 0.0 and best[i] < c.out[phi + i] * (1.0 - 1e-9):
            found += 1
            c.sums[i] += 1.0
            c.value[start + i] = 1.0
            for a in range(mu):
                feet[a * BLOCK + i] = at_best[a * BLOCK + i]
        else:
            bent[i] = 0.0
    if found:
        restore(c, s, c.rows, c.pars, n)
        call(c.linear, c.rows, c.pars, c.out, n)
        descend(c, s, c.pars, n, DESCENTS)


def bends(c: Any, s: Any, n: int, bent: Any, size: Any) -> bool:
    """Mark the points whose residual is not linear across the ball of their distance."""
    mu, q = s.mu, s.q
    feet, others = feet_of(s, c.rows), feet_of(s, c.other)
    for i in range(n):
        bent[i] = 0.0
    for turn in range(2 * mu):
        axis, sign = turn // 2, 2.0 * (turn % 2) - 1.0
        for a in range(mu):
            for i in range(n):
                step = sign * size[i] if a == axis else 0.0
                others[a * BLOCK + i] = feet[a * BLOCK + i] + step
        call(c.probe, c.other, c.pars, c.third, n)
        for j in range(q):
            for i in range(n):
                r, r0 = c.third[j * BLOCK + i], c.rest[j * BLOCK + i]
                slope = c.rest[(q + j * mu + axis) * BLOCK + i]
                gap = abs(r - r0 - slope * (sign * size[i]))
                if not gap <= 1e-9 * (abs(r) + abs(r0) + abs(slope) * size[i]):
                    bent[i] = 1.0
    some = False
    for i in range(n):
        if not size[i] > 0.0:
            bent[i] = 0.0
        some = some or bent[i] > 0.0
    return some


# Exact second derivatives -------------------------------------------------------------------------


def curve(c: Any, s: Any, n: int, adds: bool) -> None:
    """Eliminate the feet from the full Newton system: add it up, or move the feet along a step."""
    q, mu, p = s.q, s.mu, s.p
    k, width = mu + q, p + 1
    call(c.exact, c.rows, c.pars, c.out, n)
    if s.robust:
        call(c.linear, c.rows, c.pars, c.rest, n)
    K, B, feet = c.small, at(c.small, k * k), feet_of(s, c.rows)
    for i in range(n):
        border(c, s, i, K, B)
        eliminate(K, B, k, width)
        if adds:
            add_exactly(c, s, i, B, feet)
            continue
        for a in range(mu):
            t = B[a * width + p]
            for j in range(p):
                t += B[a * width + j] * c.pars[s.everything + j]
            feet[a * BLOCK + i] -= t


def border(c: Any, s: Any, i: int, K: Any, B: Any) -> None:
    """Write the Newton system of one point."""
    q, mu, p, out = s.q, s.mu, s.p, c.out
    k, width, J_u, J_b = mu + q, p + 1, q, q + q * mu
    uu = J_b + q * p
    ub, feet = uu + mu * mu, feet_of(s, c.rows)
    for a in range(mu):
        for b in range(mu):
            K[a * k + b] = out[(uu + a * mu + b) * BLOCK + i] + (1.0 if a == b else 0.0)
        for j in range(p):
            B[a * width + j] = out[(ub + a * p + j) * BLOCK + i]
        B[a * width + p] = feet[a * BLOCK + i]
    for j in range(q):
        for a in range(mu):
            slope = out[(J_u + j * mu + a) * BLOCK + i]
            K[a * k + mu + j] = slope
            K[(mu + j) * k + a] = slope
        for b in range(q):
            K[(mu + j) * k + mu + b] = -1.0 if j == b and s.explicit else 0.0
        for b in range(p):
            B[(mu + j) * width + b] = out[(J_b + j * p + b) * BLOCK + i]
        B[(mu + j) * width + p] = out[j * BLOCK + i]


def add_exactly(c: Any, s: Any, i: int, X: Any, feet: Any) -> None:
    """Add one point to ``H`` (p, p), ``b`` (p), ``d`` (p) and ``c``."""
    q, mu, p, out = s.q, s.mu, s.p, c.out
    width, J_u, J_b = p + 1, q, q + q * mu
    uu = J_b + q * p
    ub, bb = uu + mu * mu, uu + mu * mu + mu * p
    tail = q * p + q + q * mu
    weight, bend = 1.0, 0.0
    if s.robust:
        weight, bend = c.rest[(tail + 2) * BLOCK + i], c.rest[(tail + 3) * BLOCK + i]
    H, b, d, reduction = c.sums, at(c.sums, p * p * BLOCK), p * p + p, p * p + 2 * p
    for j in range(p):
        for m in range(p):
            t = weight * out[(bb + j * p + m) * BLOCK + i]
            if s.robust:
                t += 2.0 * bend * score(c, s, i, j) * score(c, s, i, m)
            for a in range(mu):
                t -= weight * out[(ub + a * p + j) * BLOCK + i] * X[a * width + m]
            for k in range(q):
                t -= weight * out[(J_b + k * p + j) * BLOCK + i] * X[(mu + k) * width + m]
            H[(j * p + m) * BLOCK + i] += t
        t = 0.0
        for a in range(mu):
            t += out[(ub + a * p + j) * BLOCK + i] * X[a * width + p]
        for k in range(q):
            t += out[(J_b + k * p + j) * BLOCK + i] * X[(mu + k) * width + p]
        b[j * BLOCK + i] += weight * t
    # The reduction of the Lagrangian: with slack a slope along the step, so that nothing cancels.
    for j in range(p + 1):
        t = 0.0
        for a in range(mu):
            lean = feet[a * BLOCK + i]
            if s.explicit:
                for k in range(q):
                    lean += out[k * BLOCK + i] * out[(J_u + k * mu + a) * BLOCK + i]
            t += lean * X[a * width + j]
        for k in range(q):
            other = X[(mu + k) * width + j]
            if s.explicit:
                other = out[(J_b + k * p + j) * BLOCK + i] if j < p else 0.0
            t -= out[k * BLOCK + i] * other
        c.sums[(d + j if j < p else reduction) * BLOCK + i] += weight * t


def score(c: Any, s: Any, i: int, j: int) -> float:
    """Return the gradient of one point by one parameter."""
    t, h = 0.0, s.q * s.p
    for k in range(s.q):
        t += c.rest[(h + k) * BLOCK + i] * c.rest[(k * s.p + j) * BLOCK + i]
    return t


# Rounding, factors, and the end -------------------------------------------------------------------


def noise(c: Any, s: Any, n: int) -> None:
    """Add up the squares of what rounding errors of data and parameters do to residuals."""
    q, mu, p = s.q, s.mu, s.p
    call(c.linear, c.rows, c.pars, c.out, n)
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
    call(c.linear, c.rows, c.pars, c.out, n)
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
    call(c.probe, c.rows, c.pars, c.out, n)
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
        call(c.linear, c.rows, c.pars, c.out, n)
        weight = s.q * s.p + s.q + s.q * mu + 2
        for i in range(n):
            c.weights[start + i] = c.out[weight * BLOCK + i]
