"""Say in words what a descent did, why, and what to try."""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from typing import Literal, NamedTuple, TypeAlias

from gradfit._descend.loop import NEGLIGIBLE, RUNAWAY
from gradfit._descend.record import Kept
from gradfit._descend.status import DescentStatus
from gradfit._descend.valley import Valley
from gradfit._format import count, number, percent, plural

Verdict: TypeAlias = Literal[
    "converged",
    "flat",
    "saddle",
    "crawling",
    "improving",
    "oscillating",
    "uncleared",
    "noisy",
    "diverging",
    "undefined",
    "unbounded",
    "stalled",
]

NARROW = 100.0
"""A valley with a larger condition number is worth a word."""
BARELY = 1e-6
"""A smaller share of the loss is more likely missed for rounding than for a kink."""
HOPELESS = 1e10
"""In a valley with a larger one, gradients in double precision no longer show the way."""
RISING = 0.2
"""Oscillating when the loss rose in more than this share of the last steps."""

TRY_AUTO = 'Try `schedule="auto"`, which finds direction and length of each step by itself'


class Evidence(NamedTuple):
    """What the verdict rests on.

    Attributes
    ----------
    status : DescentStatus
    rows, tail : sequence of Kept
        The way, thinned, and its last steps one by one.
    best : Kept
    valley : Valley
        At the best step.
    columns : tuple of str
        Names of the numbers in a row.
    lr : float
        The constant step size of plain gradient descent; NaN for anything else.
    automatic, clear, batches : bool
        Automatic steps; gradients cleared; losses over batches.
    reason : str
        What the loss or ``on_step`` said when it ended the descent.
    arrived : bool
        Whether the best step is as good as the minimum.
    """

    status: DescentStatus
    rows: Sequence[Kept]
    tail: Sequence[Kept]
    best: Kept
    valley: Valley
    columns: tuple[str, ...]
    lr: float
    automatic: bool
    clear: bool
    batches: bool
    reason: str
    arrived: bool

    @property
    def last(self) -> Kept:
        """The step at which it ended."""
        return self.rows[-1]

    @property
    def plain(self) -> bool:
        """Whether steps are ``lr`` times the gradient, no more."""
        return self.clear and not math.isnan(self.lr)


def diagnose(e: Evidence) -> tuple[Verdict, str]:
    """Return a verdict in one word and its explanation."""
    if e.status is DescentStatus.NONFINITE and _bottomless(e):
        return "unbounded", _unbounded(e)
    if e.status is DescentStatus.NONFINITE:
        return ("diverging", _diverging(e)) if _grew(e) else ("undefined", _undefined(e))
    if e.status is DescentStatus.DIVERGED:
        return "diverging", _diverging(e)
    if not e.clear:
        return "uncleared", _uncleared(e)
    if e.arrived or (e.status is DescentStatus.CONVERGED and not e.valley.closed):
        return _arrived(e)
    if e.status in (DescentStatus.STALLED, DescentStatus.CONVERGED):
        return "stalled", _stalled(e)
    risen, asked = _rises(e.tail)
    if asked >= 5 and e.batches and risen > RISING * asked:
        return "noisy", _noisy(e)
    jumps = risen > RISING * asked or (_turns(e) > 0.5 * asked and _crawls(e))
    if asked >= 5 and jumps and not e.automatic:
        return "oscillating", _oscillating(e, risen, asked)
    return ("crawling", _crawling(e)) if _crawls(e) else ("improving", _improving(e))


# -- what happened -------------------------------------------------------------------------------


def _grew(e: Evidence) -> bool:
    """Whether the loss was already far above its best when it stopped being a number."""
    finite = [kept.point.loss for kept in e.tail if math.isfinite(kept.point.loss)]
    return len(finite) >= 3 and finite[-1] > finite[-2] > finite[-3]


def _bottomless(e: Evidence) -> bool:
    """Whether the loss fell out of all proportion before it stopped being a number."""
    best = e.best.point.loss
    return best < -RUNAWAY * abs(e.rows[0].point.loss) and best < 0


def _rises(tail: Sequence[Kept]) -> tuple[int, int]:
    """Count the steps at the end that raised the loss by more than rounding."""
    losses = [kept.point.loss for kept in tail]
    pairs = list(pairwise(losses))
    return sum(after > before + 1e-14 * abs(before) for before, after in pairs), len(pairs)


def _turns(e: Evidence) -> int:
    """Count the steps at the end over which the gradient turned round."""
    grads = [kept.point.row[len(e.columns) :] for kept in e.tail if kept.point.row is not None]
    return sum(sum(map(mul, g, h)) < 0 for g, h in pairwise(grads))


def _pace(e: Evidence) -> tuple[float, int]:
    """Return how far the loss fell over about the last tenth of the way, and in how many steps."""
    since = next(kept for kept in e.rows if kept.step >= 0.9 * e.last.step)
    if since.step == e.last.step:
        since = e.rows[max(len(e.rows) - 2, 0)]
    return since.point.loss - e.last.point.loss, e.last.step - since.step


def _crawls(e: Evidence) -> bool:
    fell, steps = _pace(e)
    if steps == 0:
        return False
    if e.valley.closed:
        return fell * e.last.step < e.valley.gain * steps
    return fell < 1e-3 * (e.rows[0].point.loss - e.last.point.loss)


# -- in words ------------------------------------------------------------------------------------


def _limit(e: Evidence) -> str:
    """Say which step sizes plain descent bears, where that is known."""
    steepest = e.valley.steepest
    if not e.plain or not steepest > 0:
        return ""
    limit = 2 / steepest
    said = (
        "Plain descent is stable only while `lr` times the largest curvature stays below 2. At "
        f"the best step that curvature is {number(steepest, 3)}, so `lr` must stay below "
        f"{number(limit, 2)}"
    )
    if e.lr >= limit:
        return f"{said}; {number(e.lr, 3)} is {number(e.lr / limit, 2)} times that. "
    return f"{said} there; elsewhere on the way it is larger. "


def _diverging(e: Evidence) -> str:
    lr = f"`lr={number(0.5 * e.valley.best_lr, 1)}`" if e.valley.closed else "a smaller `lr`"
    return (
        f"Diverging: every step overshoots by more than the one before. The loss went from "
        f"{number(e.best.point.loss, 5)} at step {count(e.best.step)} to "
        f"{number(e.last.point.loss, 3)} at step {count(e.last.step)}. {_limit(e)}"
        f'Try {lr}, `clip=` to bound long steps, or `schedule="auto"`.'
    )


def _undefined(e: Evidence) -> str:
    if e.reason:
        return (
            f"After step {count(e.last.step)} the loss could not be computed: {e.reason}. Try a "
            "smaller `lr`, `clip=`, or write the loss so that it exists everywhere."
        )
    if e.last.step == 0:
        where = "at the start values"
        advice = "Choose other start values."
    else:
        where = f"at step {count(e.last.step)}, without growing before"
        advice = "Try a smaller `lr`, `clip=`, or write the loss so that it exists everywhere."
    what = "loss" if not math.isfinite(e.last.point.loss) else "gradient"
    where = where + _where_broken(e)
    return (
        f"The {what} is {'NaN or inf' if what == 'gradient' else number(e.last.point.loss)} "
        f"{where}: most often a logarithm or root of a negative number, a division by zero, or "
        f"an exponential that overflows. {advice}"
    )


def _unbounded(e: Evidence) -> str:
    return (
        f"The loss falls without end, to {number(e.best.point.loss, 3)} at step "
        f"{count(e.best.step)}: it has no minimum. Bound the parameters that run away, for example "
        "by writing them as exp(u) or by adding a penalty, or check the sign of the loss."
    )


def _where_broken(e: Evidence) -> str:
    """Name the parameters whose gradient is no number, when the loss still is one."""
    row = e.last.point.row
    if row is None or not math.isfinite(e.last.point.loss):
        return ""
    grads = zip(e.columns, row[len(e.columns) :], strict=True)
    names = [f"`{name}`" for name, g in grads if not math.isfinite(g)]
    return f" (for {', '.join(names[:4])})" if names else ""


def _uncleared(e: Evidence) -> str:
    losses = [kept.point.loss for kept in e.rows]
    best, last = e.best, e.last
    after = [kept.point.loss for kept in e.rows if kept.step >= best.step]
    turns = sum(
        (b - a) * (c - b) < 0 for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)
    )
    swing = (
        f"The loss swings instead of settling ({plural(turns, 'turn')} between falling and rising)"
        if turns > 1
        else "It reached the bottom at full speed and ran up the other side"
    )
    period = ""
    if e.valley.steepest > 0 and not math.isnan(e.lr):
        steps = 2 * math.pi / math.sqrt(e.lr * e.valley.steepest)
        period = (
            f" A small swing in a bowl of this curvature ({number(e.valley.steepest, 3)}) takes "
            f"2π/√(lr·curvature) = {number(steps, 2)} steps, a wide one longer."
        )
    return (
        "Gradients were never cleared: `.grad` holds the sum of all gradients so far, and every "
        "step is made with that sum. This is momentum without friction, a ball in a bowl that "
        f"nothing brakes. {swing}: {number(best.point.loss, 4)} at step {count(best.step)}, up to "
        f"{number(max(after), 4)} afterwards, {number(last.point.loss, 4)} at the end.{period} The "
        "learning rate is not to blame: clear the gradients before each backward pass "
        "(`clear_grad=True`; by hand `a.grad.zero_()` or `optimizer.zero_grad()`), or add "
        'friction with `optimizer="momentum"`.'
    )


def _shape(e: Evidence) -> str:
    v = e.valley
    if not v.closed:
        return ""
    return (
        f"the loss bends {number(v.condition, 3)} times more across the valley than along it "
        f"(its condition number), and the direction along it is mostly `{v.slow}`"
    )


def _arrived(e: Evidence) -> tuple[Verdict, str]:
    v = e.valley
    if v.flat:
        return "flat", f"The gradient vanished, but {_flat(e)}."
    if v.known and not v.closed:
        return "saddle", (
            "The gradient vanished, but this is no minimum: the loss bends down along "
            f"`{v.slow}` (curvature {number(v.flattest, 3)}). Start from other values; a step "
            "to either side will roll off."
        )
    said = f"Converged at step {count(e.best.step)}."
    if not v.known:
        said += (
            " The gradient vanished; whether this is a minimum the curvature would tell, which "
            "could not be had."
        )
    if v.closed:
        said += _next_to_nothing(e) if v.gain > 0 else " The gradient is zero."
        if v.condition > NARROW and len(e.columns) > 1:
            said += (
                f" The way was not easy: {_shape(e)}; a constant step size would need about "
                f"{_steps(v.steps(v.best_lr))} steps for each factor of 100."
            )
    return "converged", said


def _flat(e: Evidence) -> str:
    """Say along which direction slopes are rounding error, and how to get out of that."""
    return (
        "to rounding error the loss is flat along a direction that is mostly "
        f"`{e.valley.slow}`: many parameter values do equally well, or their slopes are lost in "
        "the rounding error of steeper ones. Fix one of them, simplify the loss, or measure the "
        "parameters in other units (centre the data)"
    )


def _narrow(e: Evidence) -> str:
    """Say how narrow the valley is, what that does to slopes, and how to get out of that."""
    return (
        f"{_shape(e)}. In a valley that narrow the slope along it is lost in the rounding error of "
        f"the slope across.{_remaining(e)} Measure the parameters in units that suit them (with "
        "each in units of its own curvature the condition number would be "
        f"{number(e.valley.scaled, 2)}), or use a second-order fit (`gf.fit`)"
    )


def _hindered(e: Evidence) -> str:
    """Say why slopes no longer show automatic steps the way, where it is so however they went."""
    if not e.automatic:
        return ""
    if e.valley.flat:
        return _flat(e)
    return _narrow(e) if e.valley.closed and e.valley.condition > HOPELESS else ""


def _next_to_nothing(e: Evidence) -> str:
    loss, gain = e.best.point.loss, e.valley.gain
    beside = number(loss, 4)
    if gain > NEGLIGIBLE * abs(loss):
        beside = f"{number(e.rows[0].point.loss, 3)} at the start"
    return (
        f" By its curvature the loss could still fall by {number(gain, 2)}, which is nothing "
        f"beside {beside}."
    )


def _stalled(e: Evidence) -> str:
    v = e.valley
    missed = v.closed and v.gain < BARELY * abs(e.best.point.loss)
    if e.automatic and v.closed and (v.condition > HOPELESS or missed):
        return f"Stalled at step {count(e.last.step)}: {_narrow(e)}."
    if e.automatic:
        return (
            f"Stalled at step {count(e.last.step)}: along the downhill direction no step lowers "
            "the loss, although the gradient is not zero. Most often the loss has a kink or a jump "
            "there (`abs`, `max`, rounding), is random, or its gradient is wrong, which "
            "`graph().check()` tells."
        )
    if math.isnan(e.lr):
        return (
            f"Stalled at step {count(e.last.step)}: within its own tolerances the optimizer finds "
            f"no better step, although the gradient's norm is still {number(e.last.point.norm, 2)}."
            f"{_remaining(e)} Make it with smaller tolerances (`optimizer=lambda params: "
            f"torch.optim.LBFGS(params, tolerance_change=0)`). {TRY_AUTO}."
        )
    return (
        f"Stalled at step {count(e.last.step)}: `lr` times the gradient is lost in rounding, so no "
        f"parameter moves any more, although the gradient's norm is still "
        f"{number(e.last.point.norm, 2)}. Raise `lr`. {TRY_AUTO}."
    )


def _oscillating(e: Evidence, risen: int, asked: int) -> str:
    said = (
        f"Oscillating: {_jumps(e, risen, asked)}. Steps are so long that they jump across the "
        "valley instead of going down in it. "
    )
    if e.plain and e.valley.closed:
        said += (
            f"`lr` times the largest curvature is {number(e.lr * e.valley.steepest, 3)}; at 1 the "
            "steepest direction is solved in one step, above 2 it diverges. "
            f"Try `lr={number(1 / e.valley.steepest, 2)}`, "
        )
    else:
        said += "Try a smaller `lr`, "
    return said + 'a schedule that lowers it (`schedule="cosine"`), or `schedule="auto"`.'


def _jumps(e: Evidence, risen: int, asked: int) -> str:
    if risen > RISING * asked:
        return f"in {risen} of the last {asked} steps the loss rose"
    return f"in {_turns(e)} of the last {asked} steps the gradient turned round"


def _noisy(e: Evidence) -> str:
    losses = [kept.point.loss for kept in e.tail]
    return (
        f"Noisy: over the last {len(losses)} epochs the loss moved up and down between "
        f"{number(min(losses), 4)} and {number(max(losses), 4)}. Each batch pulls towards its own "
        "minimum, and a constant step size never lets that noise die out. Lower `lr` towards the "
        'end (`schedule="cosine"`) or take larger batches.'
    )


def _remaining(e: Evidence) -> str:
    """Say where the quadratic at the best step ends, unless that is beyond what it can know."""
    v = e.valley
    if not v.closed or v.gain > e.rows[0].point.loss - e.best.point.loss:
        return ""
    index = int(abs(v.move).argmax())
    loss = e.best.point.loss
    return (
        f" By the curvature the loss can still fall from {number(loss, 5)} to about "
        f"{number(loss - v.gain, 5)}, with `{e.columns[index]}` moving by "
        f"{v.move[index]:+.3g}."
    )


def _steps(steps: float) -> str:
    """Write a number of steps with two digits."""
    if not math.isfinite(steps):
        return "endless"
    if steps < 1:
        return "1"
    digits = 10 ** max(0, math.floor(math.log10(steps)) - 1)
    return count(round(steps / digits) * digits)


def _crawling(e: Evidence) -> str:
    fell, steps = _pace(e)
    v = e.valley
    loss = abs(e.last.point.loss)
    said = (
        f"Crawling: over the last {plural(steps, 'step')} the loss fell by "
        f"{percent(fell / loss) if loss else number(fell, 2)}"
    )
    advice = "Give it more `epochs`" if e.automatic else TRY_AUTO
    if hindered := _hindered(e):
        return f"{said}, and {hindered}."
    if not v.closed:
        other = "" if e.automatic else 'Raise `lr`, or try `optimizer="adam"`. '
        return f"{said}. {other}{advice}."
    said += f", and {_shape(e)}." if len(e.columns) > 1 else "."
    if e.plain:
        said += (
            f" A step of {number(e.lr, 3)} removes only {percent(e.lr * v.flattest)} of the "
            f"distance left along the valley: 1 % of it is left after {_steps(v.steps(e.lr))} "
            f"steps. The best constant step, {number(v.best_lr, 2)}, would still take "
            f"{_steps(v.steps(v.best_lr))}: longer ones bounce off the walls."
        )
    return f"{said}{_remaining(e)} {advice}{_rescale(v)}."


def _rescale(v: Valley) -> str:
    if v.condition < 10 * v.scaled:
        return ", or a second-order fit (`gf.fit`)"
    return (
        "; or measure the parameters in units that suit them (with each in units of its own "
        f"curvature the condition number would be {number(v.scaled, 2)}); or use a second-order "
        "fit (`gf.fit`)"
    )


def _improving(e: Evidence) -> str:
    fell, steps = _pace(e)
    said = (
        f"Still on its way: over the last {plural(steps, 'step')} the loss fell by "
        f"{number(fell, 2)}"
    )
    if hindered := _hindered(e):
        return f"{said}, but {hindered}."
    larger = ", or a larger `lr`" if e.plain else ""
    return f"{said}.{_remaining(e)} Give it more `epochs`{larger}."
