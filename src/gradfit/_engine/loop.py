r"""The loop: init, step, run. One row per fit, and no row knows of another.

A step is Gauss-Newton within a trust region, every parameter measured by the largest norm that its
Jacobian column has had (More 1978). A step follows the curve to first order only, so before it is
refused its foot points are put right (a second-order correction), and if those it was made for were
far from right, whether it leads downhill at all is asked anew. Where steps shrink slowly,
because residuals are large and the model is curved, the row changes to full Newton steps with exact
second derivatives, which end in a few.

Convergence is asked in the only unit that matters: the step still to come, compared with the
size of the residuals (the relative offset of Bates and Watts 1981),

.. math::  \eta^2 = \frac{\text{reduction of } \chi^2 \text{ that the undamped step promises}}
                         {\chi^2} ,

which no change of units or parameters alters. It is asked before a step is taken, never because a
step was refused.

More, Lecture Notes in Mathematics 630 (1978) 105; Bates and Watts, Technometrics 23 (1981) 179.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._engine.arrow import pooled
from gradfit._engine.control import NUMBERS, ROWS, Rules, Verdict
from gradfit._engine.eliminate import Linear, Sums
from gradfit._engine.field import SETTLE, Field, Trial
from gradfit._engine.propose import (
    Proposal,
    back_of,
    plain,
    propose_gauss,
    propose_newton,
    total,
)
from gradfit._engine.state import Bounds, Control, Options, State, Work, first_control
from gradfit._types import Status
from gradfit.errors import StopFit


def init(
    field: Field, beta0: Tensor, u0: Tensor | None = None, ended: Tensor | None = None
) -> Work:
    """Evaluate at the start: foot points at the observations unless ``u0`` (mu, N) is given.

    ``ended`` (G,) holds the status of rows that are not to be fitted, 0 for the others.
    """
    u = field.points.x.new_zeros(len(field.points.rows), field.points.n) if u0 is None else u0
    start = field.linearize(beta0, u)
    cost, finite = _judged(field, start.sums)
    largest = start.sums.numbers.diagonal if field.alone else start.sums.diagonal
    radius = _first_radius(field, beta0, largest, cost)
    control = first_control(field.alone, radius, finite, beta0, int(Status.BAD_START))
    if ended is not None:
        if field.alone:
            control = control._replace(status=int(ended[0]) or control.status)
        else:
            control = control._replace(status=torch.where(ended > 0, ended, control.status))
    return Work(field, State(beta0, start.sums, largest, control), start.u, start.kept)


def _first_radius(field: Field, beta: Tensor, largest: Any, cost: Any) -> Any:
    if field.alone:
        pairs = zip(largest, beta.tolist()[0], strict=False)
        return NUMBERS.reach(math.hypot(*(math.sqrt(s) * b for s, b in pairs)), cost)
    size = (largest[:, :-2].sqrt() * beta).square().sum(-1)
    return ROWS.reach((size if field.shared is None else pooled(size)).sqrt(), cost)


def _judged(field: Field, sums: Sums) -> tuple[Any, Any]:
    """Return the cost as the rules judge it, and whether it and all else in the sums is finite.

    Where the diagonal is finite the rest is: no product is larger than both of its squares.
    """
    if field.alone:
        numbers = sums.numbers
        return numbers.cost, math.isfinite(sum(numbers.diagonal))
    cost = sums.cost
    finite = torch.isfinite(sums.diagonal.sum(-1))
    if field.shared is None:
        return cost, finite
    return pooled(cost), finite.all().expand(len(finite))


def _rules(field: Field) -> Rules:
    return NUMBERS if field.alone else ROWS


def _any(flag: Any) -> bool:
    return bool(flag.any()) if isinstance(flag, Tensor) else bool(flag)


def step(w: Work, options: Options, bounds: Bounds | None, newton: bool) -> Work:
    """Take one step in every running row; rows that have ended stay as they are, bit for bit."""
    rules = _rules(w.field)
    if newton:
        proposal, good = propose_newton(w, bounds)
        w = _leave_newton(w, good)
    else:
        proposal = propose_gauss(w, bounds)
    cost = _judged(w.field, w.state.sums)[0]
    w = _measure_noise(w, proposal, cost)
    s, c = w.state, w.state.control
    eta = rules.offset(proposal.promise, cost)
    still = _still(w, proposal, options)
    status = rules.ended(
        c.status,
        c.n_steps,
        proposal.promise,
        cost,
        c.noise,
        eta,
        c.flat,
        proposal.bare,
        still,
        options.gtol,
        options.max_steps,
    )
    if not w.field.alone:
        # Rows that wait for the other kind of step are left as they are.
        status = torch.where(c.newton == newton, status, c.status)
    running = (status == 0) & (c.newton == newton)
    if not w.field.alone or status:
        w = w._replace(state=s._replace(control=c._replace(status=status)))
    if not _any(running):
        return w
    db = proposal.db
    if not w.field.alone:
        db = torch.where(running[:, None], db, 0.0)
    if proposal.exact is None:
        back = back_of(db) if proposal.back is None else proposal.back
        trial = w.field.attempt(s.beta, w.u, w.kept, db, back)
    else:
        trial = w.field.attempt_exactly(s.beta, w.u, w.kept, db, proposal.exact)
    return _judge(w, proposal, (cost, eta, running), trial, options)


def _still(w: Work, proposal: Proposal, options: Options) -> Any:
    """Whether every parameter moves by less than ``xtol`` of itself."""
    if not options.xtol:
        return False if w.field.alone else torch.zeros_like(proposal.bare)
    if w.field.alone:
        for d, b in zip(proposal.db.tolist()[0], w.state.beta.tolist()[0], strict=True):
            if not abs(d) <= options.xtol * abs(b):
                return False
        return True
    still = (proposal.db.abs() <= options.xtol * w.state.beta.abs()).all(-1)
    return plain(w, still if w.field.shared is None else still.all().expand(len(still)))


def _leave_newton(w: Work, good: Any) -> Work:
    """Count the evaluation; send rows without a minimum back to Gauss-Newton."""
    c = w.state.control
    if w.field.alone:
        eta = c.eta if good else math.inf
        c = c._replace(newton=good, eta=eta, n_eval=c.n_eval + 2)
    else:
        c = c._replace(
            newton=c.newton & good,
            eta=torch.where(good, c.eta, math.inf),
            n_eval=c.n_eval + 2 * (c.status == 0),
        )
    return w._replace(state=w.state._replace(control=c))


def _measure_noise(w: Work, proposal: Proposal, cost: Any) -> Work:
    """Measure rounding error once per row, when the end is near."""
    c = w.state.control
    near = (proposal.promise <= 1e-8 * cost + 1e-300) | (c.n_steps >= 5)
    asked = (c.noise != c.noise) & near
    if not _any(asked):
        return w
    noise = w.field.noise(w.state.beta, w.u, w.kept)
    noise = total(w, noise)
    noise = noise if w.field.alone else torch.where(asked, noise, c.noise)
    return w._replace(state=w.state._replace(control=c._replace(noise=noise)))


def _judge(
    w: Work, proposal: Proposal, asked: tuple[Any, Any, Any], trial: Trial, options: Options
) -> Work:
    """Accept or refuse the trial row by row, and set the trust region of the next step."""
    s, c, running, rules = w.state, w.state.control, asked[2], _rules(w.field)
    verdict = _verdict(w, proposal, asked, trial.sums, options)
    if _any(verdict.rescue):
        trial, back, tried = _second_chance(w, verdict.rescue, proposal, trial)
        c = c._replace(n_eval=c.n_eval + tried)
        promise = rules.part(verdict.rescue, back, proposal.promise, total(w, s.sums.tangent))
        settled = proposal._replace(promise=promise)
        verdict = _verdict(w, settled, asked, trial.sums, options)
        radius = rules.extent(back, verdict.accepted, c.radius, verdict.radius)
        verdict = verdict._replace(radius=radius)
    control = _next_control(c, verdict, running)
    new = _chosen(w, verdict.accepted, trial, Trial(s.beta, w.u, w.kept, s.sums))
    if w.field.alone:
        longest = s.largest
        if verdict.accepted:
            longest = list(map(max, longest, new.sums.numbers.diagonal))
    else:
        longest = torch.maximum(s.largest, new.sums.diagonal)
    return Work(w.field, State(new.beta, new.sums, longest, control), new.u, new.kept)


def _verdict(
    w: Work, proposal: Proposal, asked: tuple[Any, Any, Any], sums: Sums, options: Options
) -> Verdict:
    c = w.state.control
    cost, eta, running = asked
    there, finite = _judged(w.field, sums)
    rules = _rules(w.field)
    return rules.decide(
        running,
        c.status,
        cost,
        there,
        finite,
        proposal.promise,
        proposal.norm,
        proposal.bare,
        c.radius,
        eta,
        c.eta,
        c.flat,
        c.noise,
        c.newton,
        c.refused,
        options.gtol,
        options.ftol,
    )


def _second_chance(
    w: Work, rejected: Any, proposal: Proposal, trial: Trial
) -> tuple[Trial, Any, Any]:
    """Put the foot points of refused trials right before they are judged again.

    A step is made for the foot points where it begins. Where these had much to gain it may lead
    uphill once they are right, over a ridge and into another valley; so they are put right there
    first, and if it does that is all of the trial: the next step is made for the right ones.

    Returns the trials, which of them went back to where the step began, and evaluations.
    """
    c, tangent = w.state.control, total(w, w.state.sums.tangent)
    back = rejected & _rules(w.field).astray(proposal.promise, tangent, c.newton, c.refused)
    tried = SETTLE * rejected
    if _any(back) and w.field.points.rows:
        stand = _settled(w, back, trial._replace(beta=w.state.beta))
        tried = tried + SETTLE * back
        slope = total(w, (stand.sums.g * proposal.db).sum(-1))
        # As long as feet still have far to go the slope is not told.
        back = back & (slope > total(w, stand.sums.tangent))
        trial = _chosen(w, back, stand, trial)
    else:
        back = back & False
    return _settled(w, rejected ^ back, trial), back, tried


def _settled(w: Work, rejected: Any, trial: Trial) -> Trial:
    """Put the foot points of some trials right at their parameters."""
    if not w.field.points.rows or not _any(rejected):
        return trial
    if w.field.alone or bool(rejected.all()):
        return w.field.settle(trial.beta, trial.u, w.u)
    rows = torch.nonzero(rejected)[:, 0]
    field, index = w.field.select(rows)
    better = field.settle(trial.beta[rows], trial.u[:, index], w.u[:, index])
    old = Work(w.field, w.state._replace(sums=trial.sums), trial.u, trial.kept)
    part = Work(field, w.state.select(rows)._replace(sums=better.sums), better.u, better.kept)
    new = _paste(old, part, rows, index)
    return Trial(trial.beta, new.u, new.kept, new.state.sums)


def _chosen(w: Work, mask: Any, a: Trial, b: Trial) -> Trial:
    """Take the rows in ``mask`` from ``a``, the others from ``b``."""
    if not isinstance(mask, Tensor):
        return a if mask else b
    if bool(mask.all()):
        return a
    row = mask[:, None]
    beta = torch.where(row, a.beta, b.beta)
    sums = Sums(torch.where(row[..., None], a.sums.gram, b.sums.gram))
    return Trial(beta, *_merge_points(w, mask, a, b), sums)


def _next_control(c: Control, v: Verdict, running: Any) -> Control:
    return Control(
        v.radius,
        v.eta,
        v.flat,
        c.noise,
        v.newton,
        v.refused,
        v.status,
        c.n_steps + running,
        c.n_eval + running,
    )


def _merge_points(w: Work, rows: Tensor, a: Trial, b: Trial) -> tuple[Tensor, list[Linear]]:
    """Take the points of some rows from ``a``; a NaN in one fit never touches another."""
    group = w.field.points.group
    if group is None:
        return a.u, a.kept
    if not bool(rows.any()):
        return b.u, b.kept
    mask = rows[group]
    kept = [
        Linear(*(torch.where(mask[s.start : s.stop], x, y) for x, y in zip(new, old, strict=True)))
        for s, new, old in zip(w.field.stretches, a.kept, b.kept, strict=bool(a.kept))
    ]
    return torch.where(mask, a.u, b.u), kept


class Report(NamedTuple):
    """What ``on_step`` is told after every step.

    Attributes
    ----------
    n_steps : int
        Steps so far, of the row that has taken most.
    n_running : int
        Fits that have not ended.
    beta : Tensor (G, p)
        Free parameters now.
    chi2 : Tensor (G,)
        Cost now.
    """

    n_steps: int
    n_running: int
    beta: Tensor
    chi2: Tensor


def run(
    w: Work,
    options: Options,
    bounds: Bounds | None = None,
    on_step: Callable[[Report], None] | None = None,
) -> Work:
    """Step until every row has ended.

    Gauss-Newton rows and Newton rows are taken in turn, each as a set of its own, and a set that
    has lost half of its rows is cut down to the rest, so that a few slow fits cost little.
    """
    try:
        return (
            _run_alone(w, options, bounds, on_step)
            if w.field.alone
            else _run_rows(w, options, bounds, on_step)
        )
    except _Stopped as stopped:
        w = stopped.work
        c = w.state.control
        status = (
            c.status or int(Status.STOPPED)
            if w.field.alone
            else torch.where(c.status == 0, int(Status.STOPPED), c.status)
        )
        return w._replace(state=w.state._replace(control=c._replace(status=status)))


class _Stopped(Exception):  # noqa: N818 - carries the work out of the loop
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work


def _tell(w: Work, on_step: Callable[[Report], None] | None) -> None:
    if on_step is None:
        return
    s = w.state
    report = Report(
        int(s.n_steps.max()), int((s.status == 0).sum()), s.beta.clone(), s.sums.cost.clone()
    )
    try:
        on_step(report)
    except StopFit:
        raise _Stopped(w) from None


def _run_alone(
    w: Work,
    options: Options,
    bounds: Bounds | None,
    on_step: Callable[[Report], None] | None,
) -> Work:
    while w.state.control.status == 0:
        w = step(w, options, bounds, w.state.control.newton)
        _tell(w, on_step)
    return w


def _run_rows(
    w: Work,
    options: Options,
    bounds: Bounds | None,
    on_step: Callable[[Report], None] | None,
) -> Work:
    while True:
        c = w.state.control
        running = c.status == 0
        if not bool(running.any()):
            return w
        gauss = running & ~c.newton
        newton = not bool(gauss.any())
        w = _phase(w, running if newton else gauss, newton, options, (bounds, on_step))


def _phase(
    w: Work,
    mask: Tensor,
    newton: bool,
    options: Options,
    rest: tuple[Bounds | None, Callable[[Report], None] | None],
) -> Work:
    """Step the rows in ``mask`` until none of them, or only half, is left in this mode."""
    bounds, on_step = rest
    part, rows, index = _cut(w, mask)
    if bounds is not None and rows is not None and bounds.lower.shape[0] > 1:
        bounds = Bounds(bounds.lower[rows], bounds.upper[rows])
    enough = int(mask.sum()) // 2
    while True:
        part = step(part, options, bounds, newton)
        c = part.state.control
        if on_step is not None:
            w = _paste(w, part, rows, index)
            _tell(w, on_step)
        if int(((c.status == 0) & (c.newton == newton)).sum()) <= enough:
            return _paste(w, part, rows, index)


def _cut(w: Work, mask: Tensor) -> tuple[Work, Tensor | None, Tensor | None]:
    """Cut the rows in ``mask`` out, with their points."""
    if bool(mask.all()):
        return w, None, None
    rows = torch.nonzero(mask)[:, 0]
    field, index = w.field.select(rows)
    kept: list[Linear] = []
    if w.kept:
        picked = [torch.cat(parts, -1)[..., index] for parts in zip(*w.kept, strict=True)]
        kept = [Linear(*(t[..., s.start : s.stop] for t in picked)) for s in field.stretches]
    return Work(field, w.state.select(rows), w.u[:, index], kept), rows, index


def _paste(w: Work, part: Work, rows: Tensor | None, index: Tensor | None) -> Work:
    """Write rows back to where they were cut out."""
    if rows is None or index is None:
        return part
    u = w.u.index_copy(1, index, part.u)
    kept = w.kept
    if kept:
        whole = [torch.cat(parts, -1) for parts in zip(*kept, strict=True)]
        fresh = [torch.cat(parts, -1) for parts in zip(*part.kept, strict=True)]
        whole = [a.index_copy(-1, index, b) for a, b in zip(whole, fresh, strict=True)]
        kept = [Linear(*(t[..., s.start : s.stop] for t in whole)) for s in w.field.stretches]
    return Work(w.field, w.state.put(rows, part.state), u, kept)
