"""Eight fits abreast: :mod:`gradfit._native.solver` where each number is one for each lane.

A register holds one number of every fit, so that one instruction serves all of them, from the
model's own arithmetic to the solution of the normal equations. Fits go abreast as long as all that
they need is the next Gauss-Newton step within the trust region; whoever needs more, or a question
answered at the end, stays where it is, and :func:`gradfit._native.solver.go_on` takes it from there
alone. What a lane does never depends on its neighbours.
"""

from typing import Any, NamedTuple

import numpy as np

from gradfit._engine.control import ARRAYS
from gradfit._native.carry import Course, cost_of, tangent_of
from gradfit._native.ending import HARDLY, TOLD
from gradfit._native.matrix import EPS, SWEEPS, solve
from gradfit._native.place import given
from gradfit._native.pointer import at, call, opposite, some, where
from gradfit._native.proposal import HARD, length, promised
from gradfit._native.solver import BAD_START, is_finite, keep_sums, put, wants_rounding

reach, offset, ended, decide = ARRAYS[:4]

COURSE = 13
"""Numbers that tell how far a fit has come: its course, cost, tangent, in which of two places its
points lie, and whether it is done."""


class Abreast(NamedTuple):
    """The points of the fits of all lanes, and what works on them.

    Attributes
    ----------
    look, advance, noise, bends, probe : address
        The kernels, for lanes.
    rows, ahead : pointer (n, k)
        The points: data, feet, what is kept from step to step, and 1 where a lane has a point. A
        step leads from one place to the other; data lie in both.
    pars, total : pointer
        As in :class:`gradfit._native.place.Place`.
    where, trials : pointer
        The same, one number for all lanes.
    """

    look: Any
    advance: Any
    noise: Any
    bends: Any
    probe: Any
    rows: Any
    ahead: Any
    pars: Any
    total: Any
    where: Any
    trials: Any


def width(s: Any) -> int:
    """Return how many numbers there are of a point."""
    return given(s) + s.mu + s.kept + 1


def run_abreast(c: Any, s: Any, f: Any, n: int, course: Any, answers: Any) -> None:
    """Fit, from the parameters in ``f.beta``; lanes have up to ``n`` points.

    ``course`` starts with the status of fits that are not to be run, or 0. It gets how far each has
    come; ``answers`` of those that are done what :func:`~gradfit._native.solver.fit_one` tells, and
    the place in which the points do not lie the model.
    """
    here, turned = run(c, s, f, n, begin(c, s, f, n, course[0]))
    rows, other = c.rows, c.ahead
    if turned:
        rows, other = other, rows
    known = spread(s, f, answers)
    done = known & is_settled(c, rows, s, n, here)
    tell(c, s, here, course, answers)
    course[11], course[12] = where(turned, 1.0, 0.0), where(done, 1.0, 0.0)
    call(c.probe, rows, c.pars, other, c.total, n)


def tell(c: Any, s: Any, here: Any, course: Any, answers: Any) -> None:
    """Write down how far the fits have come, and what is told of each."""
    course[0], course[1], course[2] = here.status, here.steps, here.evals
    course[3] = where(here.newton, 1.0, 0.0)
    course[4], course[5], course[6] = here.radius, here.last_eta, here.flat
    course[7], course[8] = here.rounding, here.refused
    course[9], course[10] = cost_of(c, s), tangent_of(c, s)
    answers[0], answers[1], answers[2] = here.status, here.steps, here.evals
    answers[3], answers[4] = cost_of(c, s), 0.0


def begin(c: Any, s: Any, f: Any, n: int, status: Any) -> Any:
    """Evaluate at the parameters, with feet where the points are; return the status."""
    k, feet = width(s), given(s)
    for i in range(n):
        for a in range(s.mu):
            c.rows[i * k + feet + a] = 0.0
    put(c, s, f)
    clear(c, s)
    call(c.look, c.rows, c.pars, at(c.rows, feet + s.mu), c.total, n)
    keep_sums(c, s, f, True)
    for j in range(s.p):
        f.D[j] = np.sqrt(f.A[j * s.p + j])
    return where(status > 0.0, status, where(is_finite(c, s), 0.0, BAD_START))


def clear(c: Any, s: Any) -> None:
    """Begin sums with nothing."""
    for k in range(2 + s.p * (s.p + 1) // 2 + s.p):
        c.total[k] = 0.0


def run(c: Any, s: Any, f: Any, n: int, status: Any) -> Any:
    """Step as long as a lane has an ordinary step to make; return how far they came.

    Returns also whether points lie where they did not begin.
    """
    rows, ahead, turned = c.rows, c.ahead, False
    nothing = 0.0 * status
    steps, evals, refused, rounding = nothing, nothing + 1.0, nothing, nothing + np.nan
    last_eta, flat = nothing + np.inf, nothing + np.inf
    radius = reach(length(f.D, f.beta, s.p), cost_of(c, s))
    going = status == 0.0
    newton = status != status
    while some(going):
        safe = solve(f.A, f.g, s.p, HARD, f.L, f.db)
        norm, promise = length(f.D, f.db, s.p), promised(c, s, f)
        bare = safe & (norm <= 1.1 * radius)
        going = going & bare
        cost = cost_of(c, s)
        asks = going & (rounding != rounding) & wants_rounding(promise, cost, steps)
        if some(asks):
            c.total[0] = 0.0
            call(c.noise, rows, c.pars, ahead, c.total, n)
            rounding = where(asks, c.total[0], rounding)
        eta = offset(promise, cost)
        known = rounding, eta, flat, bare, is_still(s, f, bare)
        end = ended(status, steps, promise, cost, *known, s.gtol, s.max_steps)
        status = where(going, end, status)
        going = going & (status == 0.0)
        if some(going):
            for k in range(s.p):
                c.pars[s.everything + k] = f.db[k]
            clear(c, s)
            call(c.advance, rows, c.pars, at(ahead, given(s)), c.total, n)
            so_far = radius, eta, last_eta, flat, rounding, newton, refused, s.gtol, s.ftol
            trial, fine = c.total[0], is_finite(c, s)
            v = decide(going, status, cost, trial, fine, promise, norm, bare, *so_far)
            going = going & opposite(v.rescue)
            steps, evals = where(going, steps + 1.0, steps), where(going, evals + 1.0, evals)
            radius, last_eta = where(going, v.radius, radius), where(going, v.eta, last_eta)
            flat, refused = where(going, v.flat, flat), where(going, v.refused, refused)
            status, newton = where(going, v.status, status), where(going, v.newton, newton)
            here = going & v.accepted
            accept(c, s, f, here)
            if some(opposite(here)):
                stay(s, rows, ahead, n, here)
            else:
                rows, ahead, turned = ahead, rows, not turned
            going = going & (status == 0.0) & opposite(newton)
    found = Course(status, steps, evals, newton, radius, last_eta, flat, rounding, refused)
    return found, turned


def is_still(s: Any, f: Any, still: Any) -> Any:
    """Return whether every parameter moves by less than ``xtol`` of itself."""
    for k in range(s.p):
        still = still & (abs(f.db[k]) <= s.xtol * abs(f.beta[k])) & (s.xtol > 0.0)
    return still


def accept(c: Any, s: Any, f: Any, here: Any) -> None:
    """Go where the step leads, in the lanes in which it is good."""
    keep_sums(c, s, f, here)
    for j in range(s.p):
        f.beta[j] = where(here, f.beta[j] + f.db[j], f.beta[j])
        longest = np.sqrt(f.A[j * s.p + j])
        f.D[j] = where(here & (longest > f.D[j]), longest, f.D[j])
    put(c, s, f)


def stay(s: Any, rows: Any, ahead: Any, n: int, here: Any) -> None:
    """Bring the points of lanes that go ahead to where the others stay."""
    k, feet = width(s), given(s)
    for i in range(n):
        for a in range(s.mu + s.kept):
            place = i * k + feet + a
            rows[place] = where(here, ahead[place], rows[place])


# The end ------------------------------------------------------------------------------------------


def is_settled(c: Any, rows: Any, s: Any, n: int, here: Any) -> Any:
    """Return which fits have ended so that there is nothing more to ask.

    Not those that hardly moved (:func:`gradfit._native.ending.is_plateau`), and not those with
    points for which there might be nearer feet.
    """
    good = (here.status > 0.0) & (here.status < 10.0)
    if s.mu == 0:
        return here.status > 0.0
    hardly = good & (here.steps <= HARDLY) & (cost_of(c, s) > 0.0)
    settled = (here.status > 0.0) & opposite(hardly)
    if s.rounds > 0 and some(good & settled):
        settled = settled & (opposite(good) | is_straight(c, rows, s, n))
    return settled


def is_straight(c: Any, rows: Any, s: Any, n: int) -> Any:
    """Return which fits have no point across whose ball the residual bends."""
    places, turn = at(c.pars, s.everything + s.p + 1), 0
    c.total[0] = 0.0
    while turn < s.around:
        for k in range(s.together * s.mu):
            if turn * s.mu + k < s.around * s.mu:
                places[k] = c.trials[(s.trials + turn) * s.mu + k]
            else:
                places[k] = 0.0
        call(c.bends, rows, c.pars, rows, c.total, n)
        turn += s.together
    return c.total[0] == 0.0


def spread(s: Any, f: Any, answers: Any) -> Any:
    """Write condition and rank, parameters, covariance, the weakest direction, and what is free.

    As :func:`gradfit._native.ending.spread` where every direction is known; returns where.
    """
    p = s.p
    beta, cov, weakest, free = vectors_of(answers, p)
    known = solve(f.A, f.g, p, HARD, f.L, f.db)
    for i in range(p):
        f.t[i] = np.sqrt(f.A[i * p + i])
        beta[i] = f.beta[i]
        free[i] = 1.0
    for i in range(p):
        for j in range(p):
            f.M[i * p + j] = f.A[i * p + j] / (f.t[i] * f.t[j])
    diagonalise(f.M, p, f.e, f.V)
    low, top = least(s, f, weakest)
    answers[5] = np.sqrt(top / low)
    answers[6] = float(p)
    write_covariance(f, p, cov)
    return known & (low > top * (EPS * p))


def least(s: Any, f: Any, weakest: Any) -> tuple[Any, Any]:
    """Write the direction of the least eigenvalue; return that and the largest."""
    p, low, top = s.p, f.e[0], f.e[0]
    for i in range(p):
        weakest[i] = f.V[i * p]
    for j in range(1, p):
        less = f.e[j] < low
        top = where(f.e[j] > top, f.e[j], top)
        low = where(less, f.e[j], low)
        for i in range(p):
            weakest[i] = where(less, f.V[i * p + j], weakest[i])
    return low, top


def write_covariance(f: Any, p: int, cov: Any) -> None:
    """Write the inverse of the normal matrix."""
    for i in range(p):
        f.k[i] = 1.0 / f.e[i]
    for i in range(p):
        for j in range(i + 1):
            t = 0.0
            for k in range(p):
                t += f.V[i * p + k] * f.k[k] * f.V[j * p + k]
            cov[i * p + j] = t / (f.t[i] * f.t[j])
            cov[j * p + i] = cov[i * p + j]


def vectors_of(answers: Any, p: int) -> tuple[Any, Any, Any, Any]:
    """Return where beta, covariance, the weakest direction and what is free are told."""
    beta, cov = at(answers, TOLD), at(answers, TOLD + p)
    return beta, cov, at(answers, TOLD + p + p * p), at(answers, TOLD + 2 * p + p * p)


def diagonalise(A: Any, p: int, e: Any, V: Any) -> None:
    """Write eigenvalues and, in columns, eigenvectors, as in :mod:`gradfit._native.matrix`.

    Lanes in which an element is small enough already turn by no angle.
    """
    for i in range(p):
        for j in range(p):
            V[i * p + j] = 1.0 if i == j else 0.0
    for _ in range(SWEEPS):
        done = True
        for i in range(p):
            for j in range(i):
                size = abs(A[i * p + j])
                turns = size * size > 1e-34 * abs(A[i * p + i] * A[j * p + j])
                if some(turns):
                    done = False
                    rotate(A, V, p, j, i, turns)
        if done:
            break
    for i in range(p):
        e[i] = A[i * p + i]


def rotate(A: Any, V: Any, p: int, i: int, j: int, turns: Any) -> None:
    """Turn two directions, where they turn, so that nothing is left between them."""
    off = where(turns, A[i * p + j], 1.0)
    theta = (A[j * p + j] - A[i * p + i]) / (2.0 * off)
    t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
    t = where(turns, where(theta >= 0.0, t, -t), 0.0)
    c = 1.0 / np.sqrt(t * t + 1.0)
    s = t * c
    shift = t * A[i * p + j]
    A[i * p + i] -= shift
    A[j * p + j] += shift
    A[i * p + j] = where(turns, 0.0, A[i * p + j])
    A[j * p + i] = A[i * p + j]
    for k in range(p):
        if k != i and k != j:
            a, b = A[k * p + i], A[k * p + j]
            A[k * p + i] = c * a - s * b
            A[i * p + k] = A[k * p + i]
            A[k * p + j] = s * a + c * b
            A[j * p + k] = A[k * p + j]
        a, b = V[k * p + i], V[k * p + j]
        V[k * p + i] = c * a - s * b
        V[k * p + j] = s * a + c * b
