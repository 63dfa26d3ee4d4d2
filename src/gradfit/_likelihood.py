"""Maximum likelihood of a handful of parameters, of many data sets at once, and its profiles.

Second derivatives are exact, from the graph. Whoever maximises a marginal likelihood does it here.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gradfit._format import number

Negative: TypeAlias = Callable[[Tensor], Tensor]
"""From parameters (B, p) to negative log-likelihoods (B,), each row on its own."""

STEPS = 200
"""Newton steps, taken or refused."""
CLOSE = 1e-20
"""Log-likelihood that a step may still promise where a search ends: 1e-10 standard errors."""
ROUNDING = 64 * 2.0**-52
"""Share of a log-likelihood that rounding errors of its sum may make up."""
FLAT = 1e-10
"""Curvature, in its own unit, below which a direction is walked as if it had so much."""
SAME = 1e-10
"""Share of a log-likelihood by which two must differ to tell which is larger."""
ONE_SIDED = 1.6448536269514722**2 / 2
"""Fall of the log-likelihood at an end that 5 % lie beyond (Self and Liang 1987)."""
SEARCHES = 60
"""Values of a parameter at which its profile is looked at for an end."""
ENOUGH = 1e-7
"""Share of its rise to which the end of a profile is found."""
FAR = 1e6
"""Standard errors beyond which a profile that has not risen never will."""


class Peak(NamedTuple):
    """Where likelihoods are largest.

    Attributes
    ----------
    theta : Tensor (B, p)
        The parameters.
    cov : Tensor (B, p, p)
        Inverse of the second derivatives of the negative log-likelihood there.
    value : Tensor (B,)
        The negative log-likelihood.
    n_steps : int
        Newton steps tried, of the row that needed most.
    settled : Tensor (B,) bool
        Whether the gradient vanished, within rounding error, and every direction bends.
    """

    theta: Tensor
    cov: Tensor
    value: Tensor
    n_steps: int
    settled: Tensor


def maximise(negative: Negative, start: Tensor) -> Peak:
    """Minimise negative log-likelihoods by Newton's method, damped until each step goes down.

    Directions in which one is not convex are walked downhill. A search ends where a step promises
    nothing, or no more than rounding errors of the likelihood hide.
    """
    theta = start.detach().clone()
    value = _value(negative, theta)
    done = ~torch.isfinite(value)
    settled = torch.zeros_like(done)
    damping, last = torch.zeros_like(value), torch.full_like(value, math.inf)
    taken = 0
    g, H = _derivatives(negative, theta)
    for taken in range(1, STEPS + 1):  # noqa: B007 - told at the end
        step = _step(g, H, damping)
        promise = -0.5 * (g * step).sum(1)
        noise = ROUNDING * (1 + value.abs())
        trial = _value(negative, theta + step)
        down = trial <= value + noise
        hidden = (promise <= noise) & (~down | ((last <= noise) & (promise >= 0.25 * last)))
        ended = (promise <= CLOSE) | hidden
        settled = settled | (ended & ~done)
        done = done | ended | ~torch.isfinite(promise)
        if bool(done.all()):
            break
        go = down & ~done
        theta = torch.where(go[:, None], theta + step, theta)
        value, last = torch.where(go, trial, value), torch.where(go, promise, last)
        damping = torch.where(go, damping / 10, (10 * damping).clamp(min=1e-3))
        damping = torch.where(damping < 1e-6, 0.0, damping)
        if bool(go.any()):
            g, H = _derivatives(negative, theta)
    bends = torch.linalg.eigvalsh(_scaled(H)[1])[:, 0] > FLAT
    return Peak(theta, _inverse(H), value, taken, settled & bends)


class Verdict(NamedTuple):
    """What the likelihood says of a scatter that may be none.

    Attributes
    ----------
    peak : Peak
        The best scatter, or none at all where that is as likely.
    none : bool
        Whether it is none.
    limit : float
        Where the scatter may as well be none, the largest that it can be (95 %, one-sided, from
        the profile likelihood); else NaN.
    """

    peak: Peak
    none: bool
    limit: float


def said_of_scatter(name: str, value: str, none: bool, limit: float) -> str:
    """Return a scatter in words, ``value`` being how it is written."""
    if none:
        return f"no scatter beyond the errors; {name} < {number(limit, 3)} (95 %)"
    if math.isfinite(limit):
        return f"{value}, or none; {name} < {number(limit, 3)} (95 %)"
    return value


def judge_scatter(negative: Negative, peak: Peak, k: int) -> Verdict:
    """Ask of a single likelihood, even in parameter ``k``, whether that may as well be 0."""
    if not bool(peak.settled[0]):
        return Verdict(peak, False, math.nan)
    start = peak.theta.clone()
    start[:, k] = 0.0
    without = maximise(negative, start)
    rise = float(without.value[0] - peak.value[0])
    none = bool(torch.isfinite(without.value[0])) and rise <= SAME * (1 + abs(float(peak.value[0])))
    best = without if none else peak
    if not rise < ONE_SIDED:
        return Verdict(best, none, math.nan)
    at, size = float(best.theta[0, k]), math.sqrt(float(best.cov[0, k, k]))
    limit = profile_end(negative, best.theta[0], k, 1.645 * size * (-1 if at < 0 else 1), ONE_SIDED)
    if none:
        held = best.cov.clone()
        held[:, k], held[:, :, k] = 0.0, 0.0
        best = best._replace(cov=held)
    return Verdict(best, none, abs(limit))


def _value(negative: Negative, theta: Tensor) -> Tensor:
    """Return the likelihoods (B,) as numbers; some take derivatives of a model on the way."""
    with torch.enable_grad():
        return negative(theta).detach()


def _derivatives(negative: Negative, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients (B, p) and second derivatives (B, p, p)."""
    with torch.enable_grad():
        at = theta.detach().requires_grad_()
        total = negative(at).sum()
        (g,) = torch.autograd.grad(total, at, create_graph=True)
        rows = [
            torch.autograd.grad(part.sum(), at, retain_graph=True, materialize_grads=True)[0]
            for part in g.unbind(1)
        ]
    return g.detach(), torch.stack(rows, 1)


def _scaled(H: Tensor) -> tuple[Tensor, Tensor]:
    """Return units (B, p) in which every parameter bends as much as any, and ``H`` in them."""
    unit = H.diagonal(dim1=1, dim2=2).abs().clamp(min=1e-300).rsqrt()
    return unit, (unit[:, :, None] * H * unit[:, None, :]).nan_to_num(0.0, 0.0, 0.0)


def _step(g: Tensor, H: Tensor, damping: Tensor) -> Tensor:
    unit, inside = _scaled(H)
    e, V = torch.linalg.eigh(inside)
    e = e.abs().clamp(min=FLAT) + damping[:, None]
    along = (V.mT @ (unit * g)[..., None])[..., 0] / e
    return -unit * (V @ along[..., None])[..., 0]


def _inverse(H: Tensor) -> Tensor:
    unit, inside = _scaled(H)
    return unit[:, :, None] * torch.linalg.pinv(inside, hermitian=True) * unit[:, None, :]


def profile_end(negative: Negative, peak: Tensor, k: int, size: float, rise: float) -> float:
    """Return where the profile of parameter ``k`` has risen by ``rise``, on one side of the peak.

    Parameters
    ----------
    negative : callable
    peak : Tensor (p,)
        Where the likelihood is largest.
    k : int
    size : float
        A first guess of the distance to the end; its sign tells the side.
    rise : float
        Of the negative log-likelihood, minimised over all other parameters.

    Returns
    -------
    float
        Infinite where it never rises so far, NaN where the search did not converge.
    """
    along = _Profile(negative, peak, k, rise)
    centre, inner, outer = float(peak[k]), 0.0, size
    below, above = -rise, along.gap(centre + size)
    while above < 0:
        inner, below, outer = outer, above, 2 * outer
        if abs(outer) > FAR * abs(size):
            return math.copysign(math.inf, size)
        above = along.gap(centre + outer)
    found = 0.0
    for _ in range(SEARCHES):
        if not math.isfinite(above + found) or abs(outer - inner) <= ENOUGH * abs(outer):
            break
        # A profile is nearly a parabola: its root is nearly linear.
        low, high = math.sqrt(max(below + rise, 0.0)), math.sqrt(above + rise)
        share = (math.sqrt(rise) - low) / (high - low) if high > low else 0.5
        at = inner + min(max(share, 0.02), 0.98) * (outer - inner)
        found = along.gap(centre + at)
        if abs(found) <= ENOUGH * rise:
            return centre + at
        if found < 0:
            inner, below = at, found
        else:
            outer, above = at, found
    return centre + outer if math.isfinite(above + found) else math.nan


class _Profile:
    """A likelihood along one parameter, maximised over all others from where it was last."""

    def __init__(self, negative: Negative, peak: Tensor, k: int, rise: float) -> None:
        self.negative, self.k = negative, k
        self.level = float(_value(negative, peak[None])[0]) + rise
        self.near = torch.cat([peak[:k], peak[k + 1 :]])

    def gap(self, at: float) -> float:
        """Return how far the profile is above the level sought; NaN where no search converged."""

        def held(rest: Tensor) -> Tensor:
            columns = list(rest.unbind(1))
            columns.insert(self.k, rest.new_full((len(rest),), at))
            return self.negative(torch.stack(columns, 1))

        found = maximise(held, self.near[None])
        if not bool(found.settled[0]):
            return math.nan
        self.near = found.theta[0]
        return float(found.value[0]) - self.level
