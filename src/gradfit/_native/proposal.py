"""Steps of one fit and what they promise: :mod:`gradfit._engine.propose` on numbers."""

from typing import Any

import numpy as np

from gradfit._native.carry import cost_of, tangent_of, walk
from gradfit._native.matrix import decompose, diagonalise, solve
from gradfit._native.sweep import EXACT, FACTOR

EPS = 2.0**-52
HARD, FIRST, HOPELESS = 1e-10, 1e-3, 1e-13
SECULAR = 12


def hold(s: Any, f: Any) -> None:
    """Mark parameters at a bound beyond which the cost falls."""
    for k in range(s.p):
        f.held[k] = 0.0
        if s.bounded:
            near = 1e-15 * abs(f.beta[k])
            low = f.beta[k] - f.lower[k] <= near and f.g[k] > 0.0
            high = f.upper[k] - f.beta[k] <= near and f.g[k] < 0.0
            f.held[k] = 1.0 if low or high else 0.0


def mask(f: Any, A: Any, g: Any, held: Any, p: int) -> None:
    """Write a system without what is held into ``M`` and ``k``."""
    for i in range(p):
        for j in range(p):
            free = held[i] == 0.0 and held[j] == 0.0
            f.M[i * p + j] = A[i * p + j] if free else (1.0 if i == j else 0.0)
        f.k[i] = g[i] if held[i] == 0.0 else 0.0


def propose_gauss(c: Any, s: Any, f: Any, radius: float, steps: int) -> tuple[float, bool, float]:
    """Minimise the Gauss-Newton model within the trust region; return norm, bare and promise."""
    p = s.p
    hold(s, f)
    hard = FIRST if s.alone and steps == 0 else HARD
    if s.bounded:
        mask(f, f.A, f.g, f.held, p)
        safe = solve(f.M, f.k, p, hard, f.L, f.db)
    else:
        safe = solve(f.A, f.g, p, hard, f.L, f.db)
    norm = length(f.D, f.db, p) if safe else np.inf
    bare = safe and norm <= 1.1 * radius
    if s.bounded or not bare:
        lam = 0.0
        if not bare:
            mask(f, f.A, f.g, f.held, p)
            floor = basis(c, s, f, safe)
            lam = restricted(f, p, radius, floor)
            bare = lam == 0.0
        if s.bounded:
            mask(f, f.A, f.g, f.held, p)
            project(s, f, lam)
        norm = length(f.D, f.db, p)
        if s.bounded and norm > 1.1 * radius:
            # What is solved again beside a bound may lead beyond the radius.
            for i in range(p):
                f.db[i] *= radius / norm
            norm, bare = radius, False
    return norm, bare, promised(c, s, f)


def promised(c: Any, s: Any, f: Any) -> float:
    """Return by how much the cost falls along a step if nothing bends, feet moving with it."""
    promise = tangent_of(c, s)
    for i in range(s.p):
        t = 2.0 * f.g[i]
        for j in range(s.p):
            t += f.A[i * s.p + j] * f.db[j]
        promise -= f.db[i] * t
    return promise


def length(D: Any, db: Any, p: int) -> float:
    """Return the length of a step in scaled parameters."""
    total = 0.0
    for i in range(p):
        total += (D[i] * db[i]) * (D[i] * db[i])
    return np.sqrt(total)


def basis(c: Any, s: Any, f: Any, safe: bool) -> float:
    """Diagonalise the scaled system; return below which eigenvalue there is only rounding.

    An ill-conditioned one comes from the Jacobian itself. Eigenvalues come into ``e``, the gradient
    along the directions ``V`` into ``w``, scales into ``t``.
    """
    p = s.p
    for i in range(p):
        f.t[i] = f.D[i] if f.D[i] > 0.0 else 1.0
    if safe:
        # Every direction counts, however small a column has become since.
        basis_of_normal(f, p)
        return 0.0
    walk(c, s, f, FACTOR)
    return basis_of_factor(c, f, p, f.last - f.first)


def basis_of_normal(f: Any, p: int) -> float:
    """Diagonalise ``M``."""
    for i in range(p):
        for j in range(p):
            f.M[i * p + j] /= f.t[i] * f.t[j]
    diagonalise(f.M, p, f.e, f.V)
    top = -np.inf
    for j in range(p):
        top = max(top, f.e[j])
        f.e[j] = max(f.e[j], 0.0)
        f.w[j] = 0.0
        for i in range(p):
            f.w[j] += f.V[i * p + j] * (f.k[i] / f.t[i])
    return top * EPS * p


def basis_of_factor(c: Any, f: Any, p: int, n: int) -> float:
    """Diagonalise by the triangular factor in ``total``, without squaring it."""
    k = p + 1
    for i in range(p):
        for j in range(p):
            free = f.held[j] == 0.0
            f.M[i * p + j] = c.total[i * k + j] / f.t[j] if free else 0.0
    decompose(f.M, p, f.V)
    top = 0.0
    for j in range(p):
        f.e[j] = 0.0
        f.w[j] = 0.0
        for i in range(p):
            f.e[j] += f.M[i * p + j] * f.M[i * p + j]
            f.w[j] += f.M[i * p + j] * c.total[i * k + p]
        top = max(top, f.e[j])
    floor = EPS * max(n, 10)
    return top * floor * floor


def restricted(f: Any, p: int, radius: float, floor: float) -> float:
    """Write the step within the radius; return the damping that holds it there."""
    lam = 0.0
    for j in range(p):
        if f.e[j] > floor:
            lam = max(lam, abs(f.w[j]) / radius - f.e[j])
    for _ in range(SECULAR):
        norm, slope = 0.0, 0.0
        for j in range(p):
            d = along(f, j, lam, floor)
            norm += d * d
            slope += d * d / (f.e[j] + lam) if d != 0.0 else 0.0
        norm = np.sqrt(norm)
        if not norm > 1.1 * radius:
            break
        lam += norm * norm / slope * (norm - radius) / radius
    for i in range(p):
        f.db[i] = 0.0
    for j in range(p):
        d = along(f, j, lam, floor)
        for i in range(p):
            f.db[i] -= f.V[i * p + j] * d
    for i in range(p):
        f.db[i] /= f.t[i]
    return lam


def along(f: Any, j: int, lam: float, floor: float) -> float:
    """Return the step along a direction; 0 where rounding alone would tell it."""
    if not f.e[j] > floor:
        return 0.0
    d = f.w[j] / (f.e[j] + lam)
    return d if d == d else 0.0


def project(s: Any, f: Any, lam: float) -> None:
    """Shorten a step to the bounds: what passes one first stops there, the rest is solved anew.

    The system is in ``M`` and ``k``; ``V``, ``e``, ``w`` and ``t`` are used up.
    """
    p, stuck, there = s.p, f.e, f.w
    for i in range(p):
        stuck[i] = 0.0
        there[i] = 0.0
    for _ in range(p):
        first = 1.0
        for i in range(p):
            first = min(first, share_of(f, i))
        if not first < 1.0:
            break
        for i in range(p):
            way = f.db[i] - there[i]
            if share_of(f, i) <= first:
                stuck[i] = 1.0
                there[i] = (f.upper[i] if way > 0.0 else f.lower[i]) - f.beta[i]
            else:
                there[i] += first * way
        solve_beside(f, p, lam)
    for i in range(p):
        f.db[i] = min(max(f.beta[i] + f.db[i], f.lower[i]), f.upper[i]) - f.beta[i]


def share_of(f: Any, i: int) -> float:
    """Return which share of the way from where a step has come so far it may go up to a bound."""
    way = f.db[i] - f.w[i]
    if f.db[i] > f.upper[i] - f.beta[i]:
        return (f.upper[i] - f.beta[i] - f.w[i]) / way
    if f.db[i] < f.lower[i] - f.beta[i]:
        return (f.lower[i] - f.beta[i] - f.w[i]) / way
    return 1.0


def solve_beside(f: Any, p: int, lam: float) -> None:
    """Solve for what is not stuck at a bound, beside what is."""
    stuck, there, rest, damped = f.e, f.w, f.t, f.V
    for i in range(p):
        rest[i] = f.k[i]
        for j in range(p):
            rest[i] += f.M[i * p + j] * there[j] if stuck[j] > 0.0 else 0.0
            free = stuck[i] == 0.0 and stuck[j] == 0.0
            damped[i * p + j] = f.M[i * p + j] if free else (1.0 if i == j else 0.0)
        damped[i * p + i] += lam * f.D[i] * f.D[i]
        rest[i] = rest[i] if stuck[i] == 0.0 else 0.0
    solve(damped, rest, p, HARD, f.L, f.db)
    for i in range(p):
        f.db[i] = there[i] if stuck[i] > 0.0 or f.db[i] != f.db[i] else f.db[i]


def propose_newton(c: Any, s: Any, f: Any) -> tuple[float, bool, float]:
    """Solve the exact Newton system; return norm, whether it has a minimum, and the promise."""
    p = s.p
    walk(c, s, f, EXACT)
    hold(s, f)
    for i in range(p):
        f.w[i] = -c.total[p * p + i]
    mask(f, c.total, f.w, f.held, p)
    safe = solve(f.M, f.k, p, HOPELESS, f.L, f.db)
    for i in range(p):
        told = c.total[i * p + i] > HOPELESS * f.A[i * p + i]
        safe = safe and (told or f.held[i] > 0.0)
    if s.bounded:
        project(s, f, 0.0)
    promise = c.total[p * p + 2 * p]
    for i in range(p):
        promise += c.total[p * p + p + i] * f.db[i]
    return length(f.D, f.db, p), safe and -EPS * cost_of(c, s) <= promise < np.inf, promise
