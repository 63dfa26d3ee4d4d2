"""Exact second derivatives of a block of points, with their feet eliminated.

What :func:`gradfit._engine.eliminate.eliminate_exactly` does, point by point.
"""

from typing import Any

from gradfit._native.lower import BLOCK
from gradfit._native.matrix import eliminate
from gradfit._native.place import feet_of
from gradfit._native.pointer import at, call


def curve(c: Any, s: Any, n: int, adds: bool) -> None:
    """Eliminate the feet from the full Newton system: add it up, or move the feet along a step."""
    q, mu, p = s.q, s.mu, s.p
    k, width = mu + q, p + 1
    call(c.exact, c.rows, c.pars, c.out, c.total, n)
    if s.robust:
        call(c.linear, c.rows, c.pars, c.rest, c.total, n)
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
    off = ub + mu * p + p * p
    for a in range(mu):
        for b in range(mu):
            K[a * k + b] = out[(uu + a * mu + b) * BLOCK + i] + (1.0 if a == b else 0.0)
        for j in range(p):
            B[a * width + j] = out[(ub + a * p + j) * BLOCK + i]
        # What is left of the foot beside the multipliers at hand, which stand first.
        lean = feet[a * BLOCK + i]
        for j in range(q):
            lean += out[j * BLOCK + i] * out[(J_u + j * mu + a) * BLOCK + i]
        B[a * width + p] = lean
    for j in range(q):
        for a in range(mu):
            slope = out[(J_u + j * mu + a) * BLOCK + i]
            K[a * k + mu + j] = slope
            K[(mu + j) * k + a] = slope
        for b in range(q):
            K[(mu + j) * k + mu + b] = -1.0 if j == b and s.explicit else 0.0
        for b in range(p):
            B[(mu + j) * width + b] = out[(J_b + j * p + b) * BLOCK + i]
        # With slack the multipliers are the residuals themselves.
        B[(mu + j) * width + p] = 0.0 if s.explicit else out[(off + j) * BLOCK + i]


def add_exactly(c: Any, s: Any, i: int, X: Any, feet: Any) -> None:
    """Add one point to ``H`` (p, p), ``b`` (p), ``d`` (p) and ``c``."""
    q, mu, p, out = s.q, s.mu, s.p, c.out
    width, J_u, J_b = p + 1, q, q + q * mu
    uu = J_b + q * p
    ub, bb = uu + mu * mu, uu + mu * mu + mu * p
    off = bb + p * p
    tail = q * p + q + q * mu
    weight, bend = 1.0, 0.0
    if s.robust:
        weight, bend = c.rest[(tail + 2) * BLOCK + i], c.rest[(tail + 3) * BLOCK + i]
    H, b, d, reduction = c.total, at(c.total, p * p), p * p + p, p * p + 2 * p
    for j in range(p):
        for m in range(p):
            t = weight * out[(bb + j * p + m) * BLOCK + i]
            if s.robust:
                t += 2.0 * bend * score(c, s, i, j) * score(c, s, i, m)
            for a in range(mu):
                t -= weight * out[(ub + a * p + j) * BLOCK + i] * X[a * width + m]
            for k in range(q):
                t -= weight * out[(J_b + k * p + j) * BLOCK + i] * X[(mu + k) * width + m]
            H[j * p + m] += t
        t = 0.0
        for a in range(mu):
            t += out[(ub + a * p + j) * BLOCK + i] * X[a * width + p]
        for k in range(q):
            gap = X[(mu + k) * width + p] - out[k * BLOCK + i]
            t += out[(J_b + k * p + j) * BLOCK + i] * gap
        b[j] += weight * t
    # The reduction of the Lagrangian: leaving the curve a little must count for nothing.
    for j in range(p + 1):
        t = 0.0
        for a in range(mu):
            lean = feet[a * BLOCK + i]
            for k in range(q):
                lean += out[k * BLOCK + i] * out[(J_u + k * mu + a) * BLOCK + i]
            t += lean * X[a * width + j]
        for k in range(q):
            if j < p:
                t -= out[k * BLOCK + i] * out[(J_b + k * p + j) * BLOCK + i]
            if not s.explicit:
                t -= out[(off + k) * BLOCK + i] * X[(mu + k) * width + j]
        c.total[d + j if j < p else reduction] += weight * t


def score(c: Any, s: Any, i: int, j: int) -> float:
    """Return the gradient of one point by one parameter."""
    t, h = 0.0, s.q * s.p
    for k in range(s.q):
        t += c.rest[(h + k) * BLOCK + i] * c.rest[(k * s.p + j) * BLOCK + i]
    return t
