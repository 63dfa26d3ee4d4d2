"""Run the engine to the end of a problem: steps, nearer foot points, and a last look."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradfit._engine.determined import is_minimum
from gradfit._engine.feet import FOOT_ROUNDS, search
from gradfit._engine.field import Field
from gradfit._engine.loop import Report, init, run
from gradfit._engine.loss import Loss
from gradfit._engine.points import Grouping
from gradfit._engine.propose import inside, touching
from gradfit._engine.solve import masked
from gradfit._engine.state import Bounds, Control, Options, Work, rows_of
from gradfit._problem import Problem
from gradfit._types import Status

HARDLY = 2
"""Steps up to which a fit is asked whether its end is a minimum at all."""
NAMED = 1 << 16
"""Points up to which those that moved to a nearer foot are named."""


def solve(
    problem: Problem,
    beta0: Tensor,
    options: Options,
    loss: Loss | None = None,
    *,
    ended: Tensor | None = None,
    on_step: Callable[[Report], None] | None = None,
    feet: int = FOOT_ROUNDS,
    u0: Tensor | None = None,
) -> tuple[Work, Tensor]:
    """Run the engine, look for nearer foot points, and go on from them while there are any.

    ``feet`` rounds at most; a straight line has only one foot for each point. ``u0`` (mu, N) are
    feet to begin with, where they are known.

    Returns the work and which points (N,) had to move to a nearer foot.
    """
    beta0, bounds = problem.unknowns(beta0), problem.limits()
    field = Field.of(
        problem.points,
        problem.function(),
        beta0.shape[0],
        beta0.shape[1],
        loss,
        problem.prior(),
        problem.common(),
    )
    work = run(init(field, beta0, u0, ended), options, bounds, on_step)
    moved = torch.zeros(problem.points.n, dtype=torch.bool, device=beta0.device)
    for _ in range(feet):
        found = search(work)
        if found is None or not bool(found[1].any()):
            break
        u, now = found
        moved |= now
        again = init(field, work.state.beta, u, ended)
        work = run(carry(work, again, now), options, bounds, on_step)
    if bounds is not None:
        work = _on_bounds(work, bounds)
    return _doubt(work, bounds), moved


def name_moved(
    problem: Problem,
    beta0: Tensor,
    options: Options,
    loss: Loss | None,
    counted: Tensor,
) -> Tensor:
    """Return which points (N,) moved to a nearer foot, where machine code ``counted`` (G,) some.

    Those fits, which are rare, are made again in PyTorch, which takes the same steps; of more than
    ``NAMED`` points nobody reads the names.
    """
    some = counted > 0
    if not bool(some.any()) or problem.points.n > NAMED:
        return torch.zeros(problem.points.n, dtype=torch.bool, device=some.device)
    others = torch.where(some, 0, int(Status.STOPPED))
    with torch.enable_grad():
        return solve(problem, beta0, options, loss, ended=others)[1]


def _on_bounds(work: Work, bounds: Bounds) -> Work:
    """Give parameters at a bound, but for their last bit, the value of the bound."""
    beta = work.state.beta
    low, high = touching(beta, bounds)
    beta = torch.where(low, bounds.lower, torch.where(high, bounds.upper, beta))
    return work._replace(state=work.state._replace(beta=beta))


def _doubt(work: Work, bounds: Bounds | None) -> Work:
    """Ask for a minimum where a fit hardly moved, or had trouble: it may stand on a plateau.

    What a bound holds back need not be at its minimum.
    """
    s = work.state
    if not s.beta.shape[1]:
        return work
    if work.field.alone and not _doubtful(s.control):
        return work
    # A fit that ended by Newton's steps has had its minimum looked at in the last of them.
    newton = rows_of(s.control.newton, s.beta) != 0
    doubtful = (s.n_steps <= HARDLY) | ((s.n_eval > s.n_steps + 1) & ~newton)
    still = doubtful & (s.status > 0) & (s.status < 10) & (s.sums.cost > 0)
    if not work.field.points.rows or not bool(still.any()):
        return work
    H = work.field.exactly(s.beta, work.u, work.kept)[1].H
    scale = torch.where(s.D > 0, s.D, 1.0)
    H = H / (scale[:, :, None] * scale[:, None, :])
    # Where second derivatives are missing nothing can be said against a minimum.
    known = torch.isfinite(H).all(-1).all(-1)[:, None, None]
    H = torch.where(known, H, torch.eye(H.shape[-1], dtype=H.dtype, device=H.device))
    if bounds is not None:
        H = masked(H, s.sums.g, inside(s.beta, s.sums.g, bounds))[0]
    lowest = torch.linalg.eigvalsh(H)
    flat = still & (lowest[:, 0] <= 1e-8 * lowest[:, -1])
    if work.field.shared is not None or not bool(flat.any()):
        return work
    # Where columns are nearly dependent nothing is left of curvature that is told by itself.
    flat = flat & ~is_minimum(work, bounds)
    status = torch.where(flat, int(Status.SINGULAR), s.status)
    control = s.control._replace(status=int(status[0]) if work.field.alone else status)
    return work._replace(state=s._replace(control=control))


def _doubtful(c: Control) -> bool:
    """Whether one fit hardly moved, or had steps refused that no Newton step made good."""
    return c.n_steps <= HARDLY or (c.n_eval > c.n_steps + 1 and not c.newton)


def carry(before: Work, again: Work, moved: Tensor) -> Work:
    """Go on where foot points moved; fits that kept all of theirs have ended as they had."""
    old, new = before.state, again.state
    evals = old.n_eval + new.n_eval
    if again.field.alone:
        control = new.control._replace(n_steps=int(old.n_steps[0]), n_eval=int(evals[0]))
        return again._replace(state=new._replace(control=control))
    touched = Grouping(again.field.points.group, len(old.beta)).sum(moved.to(old.beta)) > 0
    if again.field.shared is not None:
        touched = touched.any().expand(len(touched))
    status = torch.where(touched & (old.status < 10), new.status, old.status)
    control = new.control._replace(status=status, n_steps=old.n_steps, n_eval=evals)
    return again._replace(state=new._replace(control=control))
