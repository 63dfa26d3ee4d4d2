"""One fit as one call: the loop of :mod:`gradfit._engine.loop` on numbers instead of tensors.

Plain Python over memory, compiled as a whole by :mod:`gradfit._native.cpu`. The rules of the loop
are those of :mod:`gradfit._engine.control`.
"""

from typing import Any, NamedTuple

import numpy as np

from gradfit._engine.control import NUMBERS
from gradfit._native.lower import BLOCK
from gradfit._native.matrix import decompose, diagonalise, solve
from gradfit._native.place import Place, Spec, added, given, own_room, results, shared_room
from gradfit._native.pointer import ask, at
from gradfit._native.sweep import (
    EXACT,
    FACTOR,
    FINISH,
    LOOK,
    NEWTON_STEP,
    NOISE,
    SEARCH,
    SETTLE,
    STEP,
    sweep,
)

reach, offset, ended, decide = NUMBERS

EPS = 2.0**-52
HARD, FIRST, HOPELESS = 1e-10, 1e-3, 1e-13
SECULAR = 12
HARDLY = 2
BLIND = 1e-6
SINGULAR, BAD_START = 13, 15
TOLD = 7
"""Numbers of a result in front of its vectors: see :func:`fit_one`."""


class Fit(NamedTuple):
    """What one fit carries from step to step, and room for its matrices.

    Attributes
    ----------
    first, last : int
        Its points.
    beta, g, D, db : pointer (p,)
        Parameters, half the gradient, largest column norms, and the step.
    A : pointer (p, p)
        Normal matrix.
    held : pointer (p,)
        1 for parameters that may not move beyond their bound.
    lower, upper : pointer (p,)
        Bounds.
    M, L, V : pointer (p, p)
        Room for a system, its factor, its directions.
    e, k, w, t : pointer (p,)
        Room for eigenvalues and vectors.
    """

    first: int
    last: int
    beta: Any
    g: Any
    D: Any
    db: Any
    A: Any
    held: Any
    lower: Any
    upper: Any
    M: Any
    L: Any
    V: Any
    e: Any
    k: Any
    w: Any
    t: Any


def fit_room(p: int) -> int:
    """Return the room that a fit needs."""
    return 9 * p + 4 * p * p


def fit_at(memory: Any, p: int, first: int, last: int, lower: Any, upper: Any) -> Fit:
    """Lay out the room of a fit."""
    square = 9 * p
    return Fit(
        first,
        last,
        memory,
        at(memory, p),
        at(memory, 2 * p),
        at(memory, 3 * p),
        at(memory, square),
        at(memory, 4 * p),
        lower,
        upper,
        at(memory, square + p * p),
        at(memory, square + 2 * p * p),
        at(memory, square + 3 * p * p),
        at(memory, 5 * p),
        at(memory, 6 * p),
        at(memory, 7 * p),
        at(memory, 8 * p),
    )


def walk(c: Any, s: Any, f: Any, task: int) -> None:
    """Walk over the points of the fit, in this thread or by asking for several."""
    if s.asks:
        ask(c.ask, task, f.first, f.last)
    else:
        sweep(c, s, task, f.first, f.last)


def fit_one(c: Any, s: Any, f: Any, out: Any) -> None:
    """Fit, from the parameters in ``f.beta``.

    ``out`` starts with the status of a fit that is not to be run, or 0. It gets status, steps,
    evaluations, cost, points that moved to a nearer foot, condition, rank; then beta (p), covariance (p, p), the weakest direction (p), and which are free (p).
    """
    for i in range(s.mu):
        for k in range(f.first, f.last):
            c.u[i * s.n + k] = 0.0
    for k in range(f.first, f.last):
        c.value[k] = 0.0
    c.turn[0] = 0.0
    status, newton, steps, evals = begin(c, s, f), False, 0, 1
    if out[0] > 0.0:
        status = int(out[0])
    for turn in range(s.rounds + 1):
        status, newton, steps, evals = run(c, s, f, status, steps, evals)
        if turn == s.rounds or not 0 < status < 10 or not s.mu:
            break
        walk(c, s, f, SEARCH)
        if not c.total[0] > 0.0:
            break
        status = begin(c, s, f)
        evals += 1
    if is_plateau(c, s, f, status, newton, steps, evals):
        status = SINGULAR
    out[0], out[1], out[2], out[3], out[4] = status, steps, evals, cost_of(c, s), 0.0
    for k in range(f.first, f.last):
        out[4] += c.value[k]
    spread(c, s, f, out)
    put(c, s, f)
    walk(c, s, f, FINISH)


def cost_of(c: Any, s: Any) -> float:
    """Return the cost of the present point."""
    return c.total[added(s) - 2]


def tangent_of(c: Any, s: Any) -> float:
    """Return the part of the cost that moving feet alone takes away."""
    return c.total[added(s) - 1]


def put(c: Any, s: Any, f: Any) -> None:
    """Tell kernels the parameters."""
    for k in range(s.p):
        c.pars[int(c.where[k])] = f.beta[k]


def begin(c: Any, s: Any, f: Any) -> int:
    """Evaluate at the parameters; return the status."""
    put(c, s, f)
    walk(c, s, f, LOOK)
    keep_sums(c, s, f)
    for k in range(s.p):
        f.D[k] = np.sqrt(f.A[k * s.p + k])
    return 0 if is_finite(c, s) else BAD_START


def is_finite(c: Any, s: Any) -> bool:
    """Return whether sums just made are finite."""
    total = c.total[0]
    for k in range(2, 2 + s.p * (s.p + 1) // 2 + s.p):
        total += c.total[k]
    return total - total == 0.0


def keep_sums(c: Any, s: Any, f: Any) -> None:
    """Take sums over as those of the present point."""
    p, at_pair = s.p, 2
    for i in range(p):
        for j in range(i, p):
            f.A[i * p + j] = c.total[at_pair]
            f.A[j * p + i] = c.total[at_pair]
            at_pair += 1
    for i in range(p):
        f.g[i] = c.total[at_pair + i]
    c.total[added(s) - 2] = c.total[0]
    c.total[added(s) - 1] = c.total[1]


# The loop -----------------------------------------------------------------------------------------


def run(c: Any, s: Any, f: Any, status: int, steps: int, evals: int) -> tuple[int, bool, int, int]:
    """Step until the fit has ended; return status, Newton or not, steps and evaluations."""
    size = length(f.D, f.beta, s.p)
    radius, last_eta, flat = reach(size, cost_of(c, s)), np.inf, np.inf
    rounding, newton, refused = np.nan, False, 0
    while status == 0:
        exact = newton
        if exact:
            norm, bare, promise = propose_newton(c, s, f)
            newton = bare
            last_eta = last_eta if bare else np.inf
            evals += 2
        else:
            norm, bare, promise = propose_gauss(c, s, f, radius, steps)
        cost, tangent = cost_of(c, s), tangent_of(c, s)
        if rounding != rounding and (promise <= 1e-8 * cost + 1e-300 or steps >= 5):
            walk(c, s, f, NOISE)
            rounding = c.total[0]
        eta = offset(promise, cost)
        status = ended(
            status,
            steps,
            promise,
            cost,
            rounding,
            eta,
            flat,
            bare,
            is_still(s, f),
            s.gtol,
            s.max_steps,
        )
        if status != 0 or newton != exact:
            continue
        lead(c, s, f)
        walk(c, s, f, NEWTON_STEP if exact else STEP)
        v = decide(
            True,
            status,
            cost,
            c.total[0],
            is_finite(c, s),
            promise,
            norm,
            bare,
            radius,
            eta,
            last_eta,
            flat,
            rounding,
            newton,
            refused,
            s.gtol,
            s.ftol,
        )
        if v.rescue:
            evals += 5
            if s.mu:
                walk(c, s, f, SETTLE)
            v = decide(
                True,
                status,
                cost,
                c.total[0],
                is_finite(c, s),
                promise - tangent,
                norm,
                bare,
                radius,
                eta,
                last_eta,
                flat,
                rounding,
                newton,
                refused,
                s.gtol,
                s.ftol,
            )
        steps += 1
        evals += 1
        radius, last_eta, flat = v.radius, v.eta, v.flat
        newton, refused, status = v.newton, v.refused, v.status
        if v.accepted:
            accept(c, s, f)
    return status, newton, steps, evals


def is_still(s: Any, f: Any) -> bool:
    """Return whether every parameter moves by less than ``xtol`` of itself."""
    if s.xtol == 0.0:
        return False
    still = True
    for k in range(s.p):
        still = still and abs(f.db[k]) <= s.xtol * abs(f.beta[k])
    return still


def lead(c: Any, s: Any, f: Any) -> None:
    """Tell kernels the step and where it leads."""
    for k in range(s.p):
        c.pars[s.everything + k] = f.db[k]
        c.ahead[int(c.where[k])] = f.beta[k] + f.db[k]


def accept(c: Any, s: Any, f: Any) -> None:
    """Go where the step leads."""
    c.turn[0] = 1.0 - c.turn[0]
    keep_sums(c, s, f)
    for k in range(s.p):
        f.beta[k] += f.db[k]
        f.D[k] = max(f.D[k], np.sqrt(f.A[k * s.p + k]))
    put(c, s, f)


# Proposals ----------------------------------------------------------------------------------------


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
    mask(f, f.A, f.g, f.held, p)
    hard = FIRST if s.alone and steps == 0 else HARD
    safe = solve(f.M, f.k, p, hard, f.L, f.db)
    norm = length(f.D, f.db, p) if safe else np.inf
    bare = safe and norm <= 1.1 * radius
    lam = 0.0
    if not bare:
        floor = basis(c, s, f, safe)
        lam = restricted(f, p, radius, floor)
        bare = lam == 0.0
    if s.bounded:
        mask(f, f.A, f.g, f.held, p)
        project(s, f, lam)
    norm = length(f.D, f.db, p)
    promise = tangent_of(c, s)
    for i in range(p):
        t = 2.0 * f.g[i]
        for j in range(p):
            t += f.A[i * p + j] * f.db[j]
        promise -= f.db[i] * t
    return norm, bare, promise


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
        return basis_of_normal(f, p)
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
        lam = max(lam, abs(f.w[j]) / radius - f.e[j])
    for _ in range(SECULAR):
        norm, slope = 0.0, 0.0
        for j in range(p):
            d = along(f, j, lam, radius, floor)
            norm += d * d
            slope += d * d / (f.e[j] + lam) if d != 0.0 else 0.0
        norm = np.sqrt(norm)
        if not norm > 1.1 * radius:
            break
        lam += norm * norm / slope * (norm - radius) / radius
    for i in range(p):
        f.db[i] = 0.0
    for j in range(p):
        d = along(f, j, lam, radius, floor)
        for i in range(p):
            f.db[i] -= f.V[i * p + j] * d
    for i in range(p):
        f.db[i] /= f.t[i]
    return lam


def along(f: Any, j: int, lam: float, radius: float, floor: float) -> float:
    """Return the step along a direction; 0 where rounding alone would tell it."""
    if not (f.e[j] > floor or radius < np.inf):
        return 0.0
    d = f.w[j] / (f.e[j] + lam)
    return d if d == d else 0.0


def project(s: Any, f: Any, lam: float) -> None:
    """Shorten a step to the bounds: what would pass one stops there, the rest is solved again.

    The system is in ``M`` and ``k``; ``V``, ``e``, ``w`` and ``t`` are used up.
    """
    p, stuck, known, rest, damped = s.p, f.e, f.w, f.t, f.V
    for i in range(p):
        stuck[i] = 0.0
    for _ in range(p):
        new = False
        for i in range(p):
            there = f.beta[i] + f.db[i]
            if stuck[i] == 0.0 and (there < f.lower[i] or there > f.upper[i]):
                stuck[i] = 1.0
                new = True
            target = min(max(there, f.lower[i]), f.upper[i]) - f.beta[i]
            known[i] = target if stuck[i] > 0.0 else 0.0
        if not new:
            break
        for i in range(p):
            damping = lam * f.D[i] * f.D[i]
            rest[i] = f.k[i] + damping * known[i]
            for j in range(p):
                rest[i] += f.M[i * p + j] * known[j]
        for i in range(p):
            for j in range(p):
                free = stuck[i] == 0.0 and stuck[j] == 0.0
                damped[i * p + j] = f.M[i * p + j] if free else (1.0 if i == j else 0.0)
            damped[i * p + i] += lam * f.D[i] * f.D[i]
            rest[i] = rest[i] if stuck[i] == 0.0 else 0.0
        solve(damped, rest, p, HARD, f.L, f.db)
        for i in range(p):
            f.db[i] = known[i] if stuck[i] > 0.0 else f.db[i]
    for i in range(p):
        f.db[i] = min(max(f.beta[i] + f.db[i], f.lower[i]), f.upper[i]) - f.beta[i]


def propose_newton(c: Any, s: Any, f: Any) -> tuple[float, bool, float]:
    """Solve the exact Newton system; return norm, whether it has a minimum, and the promise."""
    p = s.p
    walk(c, s, f, EXACT)
    hold(s, f)
    for i in range(p):
        f.w[i] = -c.total[p * p + i]
    mask(f, c.total, f.w, f.held, p)
    safe = solve(f.M, f.k, p, HOPELESS, f.L, f.db)
    if s.bounded:
        project(s, f, 0.0)
    promise = c.total[p * p + 2 * p]
    for i in range(p):
        promise += c.total[p * p + p + i] * f.db[i]
    return length(f.D, f.db, p), safe and promise >= 0.0 and promise < np.inf, promise


# The end ------------------------------------------------------------------------------------------


def is_plateau(c: Any, s: Any, f: Any, status: int, newton: bool, steps: int, evals: int) -> bool:
    """Ask for a minimum where a fit hardly moved, or had trouble."""
    doubtful = steps <= HARDLY or (evals > steps + 1 and not newton)
    if not (doubtful and 0 < status < 10 and cost_of(c, s) > 0.0 and s.mu):
        return False
    p = s.p
    walk(c, s, f, EXACT)
    for i in range(p):
        for j in range(p):
            a = f.D[i] if f.D[i] > 0.0 else 1.0
            b = f.D[j] if f.D[j] > 0.0 else 1.0
            h = c.total[i * p + j] / (a * b)
            f.M[i * p + j] = h if h - h == 0.0 else 0.0
    diagonalise(f.M, p, f.e, f.V)
    low, high = np.inf, -np.inf
    for j in range(p):
        low, high = min(low, f.e[j]), max(high, f.e[j])
    return low <= 1e-8 * high


def spread(c: Any, s: Any, f: Any, out: Any) -> None:
    """Write condition and rank, parameters, covariance, the weakest direction, and what is free."""
    p = s.p
    beta, cov = at(out, TOLD), at(out, TOLD + p)
    weakest, free = at(out, TOLD + p + p * p), at(out, TOLD + 2 * p + p * p)
    hold(s, f)
    finite = True
    for i in range(p):
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
        blind = 0.0
        for j in range(p):
            if f.e[j] == 0.0 and is_relevant(f, free, j, p):
                blind += f.V[i * p + j] * f.V[i * p + j]
        f.w[i] = 1.0 if blind > BLIND * BLIND and free[i] > 0.0 else 0.0
    for i in range(p):
        for j in range(p):
            t = 0.0
            for k in range(p):
                if f.e[k] > 0.0:
                    t += f.V[i * p + k] * (1.0 / f.e[k]) * f.V[j * p + k]
            t /= f.t[i] * f.t[j]
            t = t if free[i] > 0.0 and free[j] > 0.0 else 0.0
            if f.w[i] > 0.0 or f.w[j] > 0.0:
                t = np.inf if i == j else np.nan
            cov[i * p + j] = t


# Entries ------------------------------------------------------------------------------------------

HEAD = 23
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
        head[15] > 0.0,
        head[16] > 0.0,
        head[17] > 0.0,
        int(head[18]),
        head[19],
        head[20],
        head[21],
        int(head[22]),
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
    return Place(*kernels, *data, *constants, *made, *common, *private)  # pyright: ignore[reportCallIssue]


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
    u: Any,
    v: Any,
    value: Any,
    weights: Any,
    firsts: Any,
    starts: Any,
    told: Any,
    head: Any,
    room: Any,
    lo: int,
    hi: int,
) -> None:
    """Fit the groups from ``lo`` to ``hi``.

    ``firsts`` (G + 1) tells where the points of each begin, ``starts`` (G, p) where its parameters
    do; ``told`` (G, R) gets what :func:`fit_one` tells. ``head`` holds what all fits have in common
    (:func:`gradfit._native.cpu.head_of`), ``room`` is where the thread may write.
    """
    s = spec_at(head)
    kernels, data = (probe, linear, look, advance, exact, ask), (x, y, scale, weight, cross)
    own, made = at(room, shared_room(s)), (u, v, value, weights)
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
    u: Any,
    v: Any,
    value: Any,
    weights: Any,
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
    own, made = at(room, shared_room(s)), (u, v, value, weights)
    sweep(place_at(s, kernels, data, made, head, room, own), s, task, start, stop)
