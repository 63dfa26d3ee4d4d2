r"""Profile likelihood: how far chi-square lets each parameter go when all others follow.

With :math:`\chi^2_P(\theta)` minimised over all other parameters and foot points, the signed root

.. math::  \tau(\theta) = \operatorname{sign}(\theta - \hat\theta)
                          \sqrt{\chi^2_P(\theta) - \chi^2(\hat\theta)}

is a straight line where the model is linear, and nearly one elsewhere (Bates and Watts 1988,
chapter 6). The ends of an interval are where it reaches a number of standard errors. They are found
by Newton's iteration on :math:`\tau`, whose slope each refit gives for nothing,
:math:`d\chi^2_P/d\theta = \partial\chi^2/\partial\theta`, held within a bracket. Both ends of all
parameters are refitted as one batch: a parameter is held by bounds without width.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.covariance import spread
from gradfit._engine.state import Bounds, Options
from gradfit._format import enumerated
from gradfit._uncertainty.refit import at_once, refit, repeat
from gradfit._uncertainty.restate import Case, restate
from gradfit._views import words
from gradfit._views.fitted import Fitted
from gradfit.errors import ConvergenceWarning, CoverageWarning, GradfitError, InputError

ROUNDS = 40
"""Refits of every end, at most."""
CLOSE = 1e-9
"""Error of an end, in units of the number of standard errors asked for, that ends the search."""
GROWTH = 4.0
"""How many times farther the next look goes where the end is not yet enclosed, at most."""
FARTHEST = 1e6
"""Standard errors beyond which an end is called infinite."""
TIGHT = Options(gtol=1e-9)


class Ends(NamedTuple):
    """Two ends of each parameter while they are looked for; all (R,), one row per end.

    Attributes
    ----------
    sign : Tensor
        -1 for lower ends, 1 for upper ones.
    which : Tensor int64
        Parameter.
    centre, unit : Tensor
        Its value and standard error.
    limit : Tensor
        Bound of the parameter on that side; infinite if there is none.
    """

    sign: Tensor
    which: Tensor
    centre: Tensor
    unit: Tensor
    limit: Tensor


def profile_interval(fit: Fitted, case: Case, width: float) -> dict[str, tuple[float, float]]:
    """Return where every parameter's profile reaches ``width`` standard errors on each side.

    Raises
    ------
    InputError
        Parameters hang together, so that none can be held while the others follow.
    """
    ties = case.problem.model.ties
    if ties is not None:
        raise InputError(
            f'`method` "profile" holds one parameter while the others follow, but in '
            f'{fit.model.label!r} {enumerated(ties.of)} hang together. Use "bootstrap" or '
            '"jackknife".'
        )
    if not case.problem.free:
        return {n: (fit.params[n], fit.params[n]) for n in fit.names}
    scale = math.sqrt(case.size(fit, "observed"))
    found = find_ends(case, fit_errors(fit, case) / scale, width * scale)
    ends = dict(zip(case.problem.free, found.tolist(), strict=True))
    return {n: tuple(ends.get(n, (fit.params[n], fit.params[n]))) for n in fit.names}


def plain_interval(fit: Fitted, width: float) -> dict[str, tuple[float, float]]:
    """Return values plus and minus ``width`` standard errors; of those at a bound profile ends.

    Warns where errors of x make such intervals too short.
    """
    said = words.short(fit)
    if said:
        warnings.warn(said, CoverageWarning, stacklevel=3)
    ends = {
        n: (value - width * fit.stderr[n], value + width * fit.stderr[n])
        for n, value in fit.params.items()
    }
    if not fit.at_bound:
        return ends
    try:
        case = restate(fit, "interval()", determined=False)
    except GradfitError:
        return {**ends, **dict.fromkeys(fit.at_bound, (math.nan, math.nan))}
    return {**ends, **ends_at_bounds(fit, case, width)}


def ends_at_bounds(fit: Fitted, case: Case, width: float) -> dict[str, tuple[float, float]]:
    """Return the same for the parameters that ended at a bound: the bound, and the other end."""
    if case.problem.model.ties is not None:
        return dict.fromkeys(fit.at_bound, (math.nan, math.nan))
    scale = math.sqrt(case.size(fit, "observed"))
    which = [case.problem.free.index(n) for n in fit.at_bound]
    found = find_ends(case, fit_errors(fit, case) / scale, width * scale, which)
    return {n: (low, high) for n, (low, high) in zip(fit.at_bound, found.tolist(), strict=True)}


def fit_errors(fit: Fitted, case: Case) -> Tensor:
    """Return standard errors (p,) of the free parameters, to begin the search with.

    Of those at a bound what they would be if nothing held them.
    """
    errors = [fit.stderr[n] for n in case.problem.free]
    told = torch.tensor(errors, dtype=torch.float64, device="cpu")
    if not fit.at_bound:
        return told
    with torch.enable_grad():
        whole = spread(case.work, "expected").cov[0].diagonal()[: case.p].sqrt()
    return torch.where(told.isnan(), whole * math.sqrt(case.size(fit, "observed")), told)


def find_ends(
    case: Case, unit: Tensor, target: float, params: Sequence[int] | None = None
) -> Tensor:
    """Return lower and upper ends (p, 2) where the root of chi-square has risen by ``target``.

    Of all parameters, or of ``params`` alone.
    """
    p = case.p
    wanted = range(p) if params is None else params
    chosen = torch.tensor(list(wanted), dtype=torch.int64, device="cpu")
    centre = case.beta[0, :p]
    size = centre.abs().clamp(min=1.0)
    unit = torch.where((unit > 0) & torch.isfinite(unit), unit, 1e-3 * size)
    which = chosen.repeat_interleave(2)
    sign = torch.tensor([-1.0, 1.0], dtype=centre.dtype, device="cpu").repeat(len(chosen))
    limits = case.problem.bounds
    limit = sign * torch.inf
    if limits is not None:
        limit = torch.stack([limits.lower[0], limits.upper[0]], 1)[chosen].reshape(-1)
    ends = Ends(sign, which, centre[which], unit[which], limit)
    return _search(case, ends, target).reshape(-1, 2)


class _Look(NamedTuple):
    """The profile at some ends: root of the rise, its slope, and where the refits ended."""

    tau: Tensor
    slope: Tensor
    beta: Tensor
    u: Tensor


def _search(case: Case, ends: Ends, target: float) -> Tensor:
    """Follow all ends at once; each leaves the batch when it is found."""
    count = len(ends.sign)
    s = target * ends.unit
    room = (ends.limit - ends.centre).abs()
    low, high = torch.zeros_like(s), torch.full_like(s, torch.inf)
    beta = _along(case, ends, s)
    u = case.work.u[:, None].expand(-1, count, -1).clone()
    out = torch.full_like(s, torch.nan)
    live, better = torch.arange(count, dtype=torch.int64, device="cpu"), False
    for _ in range(ROUNDS):
        s = torch.minimum(s, room)
        look = _look(case, Ends(*(t[live] for t in ends)), s[live], beta[live], u[:, live])
        beta[live], u[:, live] = look.beta, look.u
        better = better or bool((look.tau < -1e-4 * target).any())
        here, reach = s[live], target * ends.unit[live]
        found = (look.tau - target).abs() <= CLOSE * target
        stopped = (look.tau < target) & (here >= room[live])
        lost = (look.tau < target) & (here > FARTHEST * reach)
        done = found | stopped | lost
        end = torch.where(lost & ~stopped, torch.inf, here)
        out[live[done]] = (ends.centre[live] + ends.sign[live] * end)[done]
        low[live] = torch.where(look.tau < target, here, low[live])
        high[live] = torch.where(look.tau < target, high[live], here)
        s[live] = _next(here, look, target, low[live], high[live])
        live = live[~done]
        if not len(live):
            break
    _warn(better, out)
    return out


def _next(s: Tensor, look: _Look, target: float, low: Tensor, high: Tensor) -> Tensor:
    """Take Newton's step if it stays inside the bracket, else halve it or look farther."""
    newton = s + (target - look.tau) / look.slope
    limit = torch.where(high < torch.inf, high, GROWTH * s)
    inside = (newton > low) & (newton < limit) & (look.slope > 0)
    return torch.where(inside, newton, torch.where(high < torch.inf, (low + high) / 2, limit))


def _along(case: Case, ends: Ends, s: Tensor) -> Tensor:
    """Return all unknowns (R, p) where a linear model would have them."""
    with torch.enable_grad():
        C = spread(case.work, "expected", case.problem.limits()).cov[0].nan_to_num(0.0, 0.0, 0.0)
    rows = C[ends.which]
    own = rows.gather(1, ends.which[:, None])
    moved = torch.where(own > 0, rows / own, 0.0) * (ends.sign * s)[:, None]
    return case.beta + moved


def _look(case: Case, ends: Ends, s: Tensor, beta: Tensor, u: Tensor) -> _Look:
    """Refit with one parameter held in each row; NaN where that failed."""
    held = ends.centre + ends.sign * s
    parts = [
        _refits(case, ends.which[rows], held[rows], beta[rows], u[:, rows])
        for rows in torch.arange(len(held), dtype=torch.int64, device="cpu").split(at_once(case.n))
    ]
    cost, g, beta, u = (
        torch.cat([part[k] for part in parts], 1 if k == 3 else 0) for k in range(4)
    )
    rise = cost - case.work.state.sums.cost
    tau = rise.sign() * rise.abs().sqrt()
    return _Look(tau, ends.sign * g / tau, beta, u)


def _refits(
    case: Case, which: Tensor, held: Tensor, beta: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return cost (R,), half its slope (R,), unknowns and foot points where refits ended."""
    count = len(held)
    limits = case.problem.limits()
    lower, upper = torch.full_like(beta, -torch.inf), torch.full_like(beta, torch.inf)
    if limits is not None:
        lower, upper = lower.maximum(limits.lower), upper.minimum(limits.upper)
    rows = torch.arange(count, dtype=torch.int64, device="cpu")
    lower[rows, which] = upper[rows, which] = held
    start = torch.minimum(torch.maximum(beta, lower), upper)
    points = repeat(case, torch.arange(case.n, dtype=torch.int64, device="cpu").expand(count, -1))
    found = refit(case, points, start, u.flatten(1), Bounds(lower, upper), TIGHT)
    state = found.work.state
    good = (state.status > 0) & (state.status < 10)
    cost = torch.where(good, state.sums.cost, torch.nan)
    return cost, state.sums.g[rows, which], state.beta, found.work.u.reshape(u.shape)


def _warn(better: bool, out: Tensor) -> None:
    if better:
        warnings.warn(
            "the profile found a smaller chi-square than the fit: it ended in a local minimum; "
            "start it elsewhere",
            ConvergenceWarning,
            stacklevel=5,
        )
    if bool(out.isnan().any()):
        warnings.warn(
            "some ends of profile intervals were not found: refits on the way failed; they are NaN",
            ConvergenceWarning,
            stacklevel=5,
        )
