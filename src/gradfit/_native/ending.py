"""What is asked of one fit at its end: whether it is a minimum, and what the data determine."""

from typing import Any

import numpy as np

from gradfit._native.carry import cost_of, walk
from gradfit._native.matrix import diagonalise, solve
from gradfit._native.pointer import at
from gradfit._native.proposal import HARD, basis_of_factor, basis_of_normal, hold
from gradfit._native.sweep import EXACT, FACTOR

HARDLY = 2
DOUBTFUL = 100
"""Added to the status of an end that may be no minimum: it is looked at again, in units in which
nothing cancels (:func:`gradfit._engine.determined.is_minimum`)."""
BLIND = 1e-6
TOLD = 7
"""Numbers of a result in front of its vectors."""


def answer_room(p: int) -> int:
    """Return how many numbers a result has."""
    return TOLD + 3 * p + p * p


def is_plateau(c: Any, s: Any, f: Any, status: int, newton: bool, steps: int, evals: int) -> bool:
    """Ask for a minimum of what no bound holds, where a fit hardly moved or had trouble."""
    doubtful = steps <= HARDLY or (evals > steps + 1 and not newton)
    if not (doubtful and 0 < status < 10 and cost_of(c, s) > 0.0 and s.mu):
        return False
    p = s.p
    hold(s, f)
    walk(c, s, f, EXACT)
    for i in range(p):
        for j in range(p):
            a = f.D[i] if f.D[i] > 0.0 else 1.0
            b = f.D[j] if f.D[j] > 0.0 else 1.0
            h = c.total[i * p + j] / (a * b)
            if h - h != 0.0:
                return False
            f.M[i * p + j] = h
            if f.held[i] > 0.0 or f.held[j] > 0.0:
                f.M[i * p + j] = 1.0 if i == j else 0.0
    diagonalise(f.M, p, f.e, f.V)
    low, high = np.inf, -np.inf
    for j in range(p):
        low, high = min(low, f.e[j]), max(high, f.e[j])
    return low <= 1e-8 * high


def on_bound(value: float, lower: float, upper: float) -> float:
    """Give a parameter at a bound, but for its last bit, the value of the bound."""
    near = 1e-15 * abs(value)
    if value - lower <= near:
        return lower
    return upper if upper - value <= near else value


def spread(c: Any, s: Any, f: Any, out: Any) -> None:
    """Write condition and rank, parameters, covariance, the weakest direction, and what is free."""
    p = s.p
    beta, cov = at(out, TOLD), at(out, TOLD + p)
    weakest, free = at(out, TOLD + p + p * p), at(out, TOLD + 2 * p + p * p)
    hold(s, f)
    finite = True
    for i in range(p):
        if s.bounded:
            f.beta[i] = on_bound(f.beta[i], f.lower[i], f.upper[i])
        beta[i] = f.beta[i]
        free[i] = 1.0 - f.held[i]
        for j in range(p):
            inside = f.held[i] == 0.0 and f.held[j] == 0.0
            f.M[i * p + j] = f.A[i * p + j] if inside else 0.0
            finite = finite and f.M[i * p + j] - f.M[i * p + j] == 0.0
        f.k[i] = 0.0
        size = np.sqrt(max(f.M[i * p + i], 0.0))
        f.t[i] = size if size > 0.0 else 1.0
    if not finite:
        for i in range(p * p):
            f.M[i] = 0.0
    floor = end_basis(c, s, f, finite)
    top, low, rank, n_free, least = 0.0, np.inf, 0, 0, -1
    for j in range(p):
        f.e[j] = f.e[j] if f.e[j] > floor else 0.0
        top = max(top, f.e[j])
        if f.e[j] > 0.0:
            low = min(low, f.e[j])
            rank += 1
        n_free += int(free[j])
        if is_relevant(f, free, j, p) and (least < 0 or f.e[j] < f.e[least]):
            least = j
    out[5] = np.sqrt(top / low) if rank == n_free else np.inf
    out[6] = rank
    for i in range(p):
        weakest[i] = f.V[i * p + max(least, 0)]
    write_covariance(f, p, cov, free)


def is_relevant(f: Any, free: Any, j: int, p: int) -> bool:
    """Return whether a direction is not merely a parameter held at its bound."""
    share = 0.0
    for i in range(p):
        share += f.V[i * p + j] * f.V[i * p + j] * free[i]
    return share > 0.5


def end_basis(c: Any, s: Any, f: Any, finite: bool) -> float:
    """Diagonalise the normal matrix in ``M``, or the Jacobian where that has lost its digits."""
    p = s.p
    for i in range(p):
        alone = f.held[i] != 0.0 or not f.M[i * p + i] > 0.0
        f.M[i * p + i] += 1.0 if alone else 0.0
    safe = solve(f.M, f.k, p, HARD, f.L, f.w)
    for i in range(p):
        alone = f.held[i] != 0.0 or not f.A[i * p + i] > 0.0 or not finite
        f.M[i * p + i] -= 1.0 if alone else 0.0
    if safe or not finite:
        return basis_of_normal(f, p)
    walk(c, s, f, FACTOR)
    return basis_of_factor(c, f, p, f.last - f.first)


def write_covariance(f: Any, p: int, cov: Any, free: Any) -> None:
    """Write the inverse in the directions that are known; inf where nothing is."""
    for i in range(p):
        f.k[i] = 1.0 / f.e[i] if f.e[i] > 0.0 else 0.0
    for i in range(p):
        blind = 0.0
        for j in range(p):
            if f.e[j] == 0.0 and is_relevant(f, free, j, p):
                blind += f.V[i * p + j] * f.V[i * p + j]
        f.w[i] = 1.0 if blind > BLIND * BLIND and free[i] > 0.0 else 0.0
    for i in range(p):
        for j in range(p):
            t = 0.0
            for k in range(p):
                t += f.V[i * p + k] * f.k[k] * f.V[j * p + k]
            t /= f.t[i] * f.t[j]
            t = t if free[i] > 0.0 and free[j] > 0.0 else 0.0
            if f.w[i] > 0.0 or f.w[j] > 0.0:
                t = np.inf if i == j else np.nan
            cov[i * p + j] = t
