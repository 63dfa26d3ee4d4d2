"""Every decision of the loop, written once for one fit and for many.

The rules are the same whether a fit is alone, one row of a batch, or a loop in machine code, so
they are written once in a few operations (:class:`Ops`) that mean Python's own on numbers and
``torch.where`` and friends on rows. :func:`rules` binds them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

GRADIENT, COST, STEP = 1, 2, 3
MAX_STEPS, STALLED, NONFINITE = 10, 11, 12

EPS = 2.0**-52
EXACT = 10.0
"""Up to this many times the chi-square of rounding error, data lie on the curve exactly."""
REFUSALS = 50
"""Steps refused in a row after which a fit has stalled; each at most halves the last."""
RESCUE = 4.0
"""Up to this many times the present cost, foot points may be to blame and not the parameters."""
ASTRAY = 0.1
"""Share of its promise from which on foot points that are not right may lead a step astray."""
NEAR = 0.5
"""Relative offset below which Newton steps are worth a try: they cost three times as much, so only
where Gauss-Newton, at its present rate, would need more than eight steps to the end."""


SURE = 0.1
"""Relative offset below which the rate of the last steps tells that of the next."""
REACH = 3.0
"""The first step may change the model by this many times what it says, or misses, at the start."""


class Ops(NamedTuple):
    """What the rules are made of; ``ratio`` gives NaN or inf where Python would raise."""

    where: Callable[[Any, Any, Any], Any]
    ratio: Callable[[Any, Any], Any]
    sqrt: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    negate: Callable[[Any], Any]


class Verdict(NamedTuple):
    """What becomes of a trial step; ``rescue`` marks those whose foot points may be to blame."""

    accepted: Any
    rescue: Any
    radius: Any
    eta: Any
    flat: Any
    newton: Any
    refused: Any
    status: Any


class Rules(NamedTuple):
    """The rules of the loop, bound to numbers or to rows."""

    reach: Callable[..., Any]
    offset: Callable[..., Any]
    ended: Callable[..., Any]
    decide: Callable[..., Verdict]
    astray: Callable[..., Any]
    part: Callable[..., Any]
    extent: Callable[..., Any]


def rules(ops: Ops) -> Rules:
    """Bind the rules to a set of operations."""
    where, ratio, sqrt, maximum, minimum, negate = ops

    def reach(size: Any, cost: Any) -> Any:
        """Radius of the first trust region; from a start of zeros anywhere is as far."""
        return where(size > 0.0, REACH * maximum(size, sqrt(cost)), math.inf)

    def offset(promise: Any, cost: Any) -> Any:
        """Relative offset ``eta``: the promised reduction in units of the cost, as a length."""
        return sqrt(maximum(ratio(promise, cost), 0.0))

    def blur(cost: Any, noise: Any) -> Any:
        """Change of the cost that is only rounding error."""
        return 16 * EPS * cost + 4 * sqrt(cost * noise) + noise

    def ended(
        status: Any,
        n_steps: Any,
        promise: Any,
        cost: Any,
        noise: Any,
        eta: Any,
        flat: Any,
        bare: Any,
        still: Any,
        gtol: float,
        max_steps: int,
    ) -> Any:
        """Status of a fit at its present point, asked before the next step is tried."""
        stuck = bare & (promise <= blur(cost, noise)) & (eta >= 0.5 * flat)
        done = where(n_steps >= max_steps, MAX_STEPS, 0)
        done = where(stuck | (cost <= EXACT * noise), COST, done)
        done = where(bare & (still | (promise <= noise)), STEP, done)
        # Where rounding error hides what is asked for it is luck whether a promise falls below.
        least = gtol * gtol * cost
        done = where(bare & (promise <= least) & negate(noise > least), GRADIENT, done)
        return where(status == 0, done, status)

    def decide(
        running: Any,
        status: Any,
        cost: Any,
        trial: Any,
        finite: Any,
        promise: Any,
        norm: Any,
        bare: Any,
        radius: Any,
        eta: Any,
        last_eta: Any,
        flat: Any,
        noise: Any,
        newton: Any,
        refused: Any,
        gtol: float,
        ftol: float,
    ) -> Verdict:
        """Accept or refuse a trial, and set the trust region of the next."""
        actual = cost - trial
        gain = ratio(actual, promise)
        rounding = blur(cost, noise)
        unclear = promise <= rounding
        # Below rounding error the cost cannot judge a step; so small a step is judged by whether
        # the next one is smaller still.
        blind = unclear & (-actual <= 1e-11 * cost + 10 * rounding)
        accepted = finite & ((gain > 1e-4) | blind) & running
        rejected = running & negate(accepted)
        # Where the quadratic through the old cost, its slope and the new cost has its minimum.
        cut = ratio(promise, 2 * promise - actual)
        cut = where(finite & (cut > 0.1), minimum(cut, 0.5), 0.1)
        poor = (rejected | (accepted & (gain < 0.25))) & negate(unclear)
        rich = accepted & ((gain > 0.75) | bare) & negate(poor)
        wider = where(radius < math.inf, maximum(radius, 2 * norm), 2 * norm)
        new_radius = where(poor, cut * norm, where(rich, wider, radius))
        rate = ratio(eta, last_eta)
        rate = rate * rate * rate * rate
        slow = (eta < SURE) & (rate * rate * eta > gtol) | ((gain < 0.5) & negate(unclear))
        crawls = accepted & (eta < NEAR) & slow & (last_eta < math.inf) & negate(newton)
        new_eta = where(accepted, eta, where(running, math.inf, last_eta))
        told = where(accepted, eta, 0.0)
        new_flat = where(crawls, math.inf, where(running & unclear & bare, told, flat))
        new_status = where(
            rejected & (refused >= REFUSALS), where(finite, STALLED, NONFINITE), status
        )
        little = accepted & (actual <= ftol * cost) & (promise <= ftol * cost) & (ftol > 0)
        new_status = where(little & (new_status == 0), COST, new_status)
        # A Newton step that gains far more than promised crawls too, along a degenerate valley.
        stays = newton & accepted & ((gain < 1.5) | unclear)
        new_newton = where(running, stays | crawls, newton)
        new_refused = where(accepted, 0, where(rejected, refused + 1, refused))
        return Verdict(
            accepted,
            rejected & negate(unclear) & ((trial <= RESCUE * cost) | (refused >= 2)),
            new_radius,
            new_eta,
            new_flat,
            new_newton,
            new_refused,
            new_status,
        )

    def astray(promise: Any, tangent: Any, newton: Any, refused: Any) -> Any:
        """Whether a step that needs rescue may lead uphill once its foot points are right."""
        return (tangent > ASTRAY * promise) & (refused == 0) & negate(newton)

    def part(rescue: Any, back: Any, promise: Any, tangent: Any) -> Any:
        """Promise left to a rescued trial, whose feet have taken theirs: that alone if ``back``."""
        return where(rescue, where(back, tangent, promise - tangent), promise)

    def extent(back: Any, accepted: Any, before: Any, after: Any) -> Any:
        """Radius after a rescue: feet put right alone say nothing of how far a step may go."""
        return where(back & accepted, before, after)

    return Rules(reach, offset, ended, decide, astray, part, extent)


def _ratio(a: float, b: float) -> float:
    if b != 0.0:
        return a / b
    return math.nan if a == 0.0 or a != a else math.copysign(math.inf, a)


NUMBERS = rules(
    Ops(
        where=lambda c, a, b: a if c else b,
        ratio=_ratio,
        sqrt=lambda v: math.sqrt(v) if v >= 0.0 else math.nan,
        maximum=lambda a, b: a if a >= b or a != a else b,
        minimum=lambda a, b: a if a <= b or a != a else b,
        negate=lambda c: not c,
    )
)
"""The rules for one fit, on Python's numbers."""

ARRAYS = rules(
    Ops(
        where=np.where,
        ratio=np.divide,
        sqrt=np.sqrt,
        maximum=lambda a, b: np.where((a >= b) | (a != a), a, b),
        minimum=lambda a, b: np.where((a <= b) | (a != a), a, b),
        negate=np.logical_not,
    )
)
"""The rules for some fits abreast, on NumPy's arrays of one number each."""


def _rows_maximum(a: Any, b: Any) -> Any:
    return a.clamp(min=b)


def _rows_minimum(a: Any, b: Any) -> Any:
    return a.clamp(max=b)


ROWS = rules(
    Ops(
        where=torch.where,
        ratio=torch.div,
        sqrt=torch.sqrt,
        maximum=_rows_maximum,
        minimum=_rows_minimum,
        negate=torch.logical_not,
    )
)
"""The rules for many fits, on tensors of one row each."""
