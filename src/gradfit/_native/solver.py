"""One fit as one call: the loop of :mod:`gradfit._engine.loop` on numbers instead of tensors.

Plain Python over memory, compiled as a whole by :mod:`gradfit._native.cpu`. The rules of the loop
are those of :mod:`gradfit._engine.control`.
"""

from typing import Any

import numpy as np

from gradfit._engine.control import NUMBERS
from gradfit._native.carry import Course, cost_of, tangent_of, walk
from gradfit._native.ending import DOUBTFUL, is_plateau, spread
from gradfit._native.feet import SETTLES
from gradfit._native.place import added
from gradfit._native.pointer import where
from gradfit._native.proposal import length, propose_gauss, propose_newton
from gradfit._native.sweep import FINISH, LOOK, NEWTON_STEP, NOISE, SEARCH, SETTLE, STEP

reach, offset, ended, decide, astray, part, extent = NUMBERS

BAD_START = 15


def fit_one(c: Any, s: Any, f: Any, out: Any) -> None:
    """Fit, from the parameters in ``f.beta``.

    ``out`` starts with the status of a fit that is not to be run, or 0. It gets status (with
    ``DOUBTFUL`` added where the end may be no minimum), steps,
    evaluations, cost, points that moved to a nearer foot, condition, rank; then beta (p),
    covariance (p, p), the weakest direction (p), and which are free (p).
    """
    for k in range(f.first, f.last):
        for i in range(s.mu):
            c.u[i * s.n + k] = 0.0
    c.turn[0] = 0.0
    c.turn[1] = -1.0
    status = begin(c, s, f)
    if out[0] > 0.0:
        status = int(out[0])
    go_on(c, s, f, set_out(c, s, f, status, 0, 1), out)


def go_on(c: Any, s: Any, f: Any, course: Any, out: Any) -> None:
    """Go on with a fit to its end, from where it is; ``out`` as :func:`fit_one` has it."""
    for k in range(f.first, f.last):
        c.value[k] = 0.0
    moved = False
    for turn in range(s.rounds + 1):
        course = run(c, s, f, course)
        if turn == s.rounds or not 0 < course.status < 10 or not s.mu:
            break
        walk(c, s, f, SEARCH)
        if not c.total[0] > 0.0:
            break
        moved = True
        status = begin(c, s, f)
        course = set_out(c, s, f, status, course.steps, course.evals + 1)
    flat = is_plateau(c, s, f, course.status, course.newton, course.steps, course.evals)
    out[0] = course.status + DOUBTFUL if flat else course.status
    out[1], out[2], out[3], out[4] = course.steps, course.evals, cost_of(c, s), 0.0
    if moved:
        for k in range(f.first, f.last):
            out[4] += c.value[k]
    spread(c, s, f, out)
    put(c, s, f)
    walk(c, s, f, FINISH)


def put(c: Any, s: Any, f: Any) -> None:
    """Tell kernels the parameters."""
    for k in range(s.p):
        c.pars[int(c.where[k])] = f.beta[k]


def begin(c: Any, s: Any, f: Any) -> int:
    """Evaluate at the parameters; return the status."""
    put(c, s, f)
    walk(c, s, f, LOOK)
    keep_sums(c, s, f, True)
    for k in range(s.p):
        f.D[k] = np.sqrt(f.A[k * s.p + k])
    return 0 if is_finite(c, s) else BAD_START


def is_finite(c: Any, s: Any) -> bool:
    """Return whether sums just made are finite: where cost and diagonal are, the others are."""
    total, k = c.total[0], 2
    for i in range(s.p):
        total += c.total[k]
        k += s.p - i
    return total - total == 0.0


def keep_sums(c: Any, s: Any, f: Any, here: Any) -> None:
    """Take sums over as those of the present point, where that is where they were made."""
    p, at_pair = s.p, 2
    for i in range(p):
        for j in range(i, p):
            f.A[i * p + j] = where(here, c.total[at_pair], f.A[i * p + j])
            f.A[j * p + i] = f.A[i * p + j]
            at_pair += 1
    for i in range(p):
        f.g[i] = where(here, c.total[at_pair + i], f.g[i])
    for k in range(2):
        kept = added(s) - 2 + k
        c.total[kept] = where(here, c.total[k], c.total[kept])


# The loop -----------------------------------------------------------------------------------------


def set_out(c: Any, s: Any, f: Any, status: int, steps: int, evals: int) -> Course:
    """Return the course of a fit that is about to make its first step from where it is."""
    radius = reach(length(f.D, f.beta, s.p), cost_of(c, s))
    return Course(status, steps, evals, False, radius, np.inf, np.inf, np.nan, 0)


def run(c: Any, s: Any, f: Any, course: Any) -> Course:
    """Step until the fit has ended; return how far it came."""
    status, steps, evals, newton, radius, last_eta, flat, rounding, refused = course
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
        if rounding != rounding and wants_rounding(promise, cost, steps):
            walk(c, s, f, NOISE)
            rounding = c.total[0]
        eta = offset(promise, cost)
        known = rounding, eta, flat, bare, is_still(s, f)
        status = ended(status, steps, promise, cost, *known, s.gtol, s.max_steps)
        if status != 0 or newton != exact:
            continue
        lead(c, s, f)
        walk(c, s, f, NEWTON_STEP if exact else STEP)
        so_far = radius, eta, last_eta, flat, rounding, newton, refused, s.gtol, s.ftol
        trial, fine = c.total[0], is_finite(c, s)
        v = decide(True, status, cost, trial, fine, promise, norm, bare, *so_far)
        back = False
        if v.rescue:
            back = s.mu > 0 and astray(promise, tangent, newton, refused)
            evals += 2 * SETTLES if back else SETTLES
            if back:
                back = is_uphill(c, s, f)
            if s.mu and not back:
                walk(c, s, f, SETTLE)
            trial, fine = c.total[0], is_finite(c, s)
            promise = part(True, back, promise, tangent)
            v = decide(True, status, cost, trial, fine, promise, norm, bare, *so_far)
        steps += 1
        evals += 1
        radius = extent(back, v.accepted, radius, v.radius)
        last_eta, flat = v.eta, v.flat
        newton, refused, status = v.newton, v.refused, v.status
        if v.accepted:
            accept(c, s, f)
    return Course(status, steps, evals, newton, radius, last_eta, flat, rounding, refused)


def wants_rounding(promise: Any, cost: Any, steps: Any) -> Any:
    """Return whether it is time to know what rounding errors do to the cost."""
    return (promise <= 1e-8 * cost + 1e-300) | (steps >= 5)


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


def is_uphill(c: Any, s: Any, f: Any) -> bool:
    """Put feet right where the step began, and return whether it leads uphill from there.

    If so that is the trial, and the step is none; if not the trial is made as it was.
    """
    p, slope = s.p, 0.0
    for k in range(p):
        c.ahead[int(c.where[k])] = f.beta[k]
    walk(c, s, f, SETTLE)
    for k in range(p):
        slope += c.total[2 + p * (p + 1) // 2 + k] * f.db[k]
    if slope > c.total[1]:
        for k in range(p):
            f.db[k] = 0.0
        return True
    lead(c, s, f)
    walk(c, s, f, STEP)
    return False


def accept(c: Any, s: Any, f: Any) -> None:
    """Go where the step leads."""
    c.turn[0] = 1.0 - c.turn[0]
    keep_sums(c, s, f, True)
    for k in range(s.p):
        f.beta[k] += f.db[k]
        f.D[k] = max(f.D[k], np.sqrt(f.A[k * s.p + k]))
    put(c, s, f)
