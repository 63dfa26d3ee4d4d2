r"""The loop: init, step, terminate, run. One row per fit, and no row knows of another.

A step is Gauss-Newton within a trust region, every parameter measured by the largest norm that its
Jacobian column has had (More 1978); what the foot points move along the curve has a share of its
own. Where steps shrink slowly, because residuals are large and the model is curved, the row
changes to full Newton steps with exact second derivatives, which end in a few.

Convergence is asked in the only unit that matters: the step still to come, compared with the
size of the residuals (the relative offset of Bates and Watts 1981),

.. math::  \eta^2 = \frac{\text{reduction of } \chi^2 \text{ that the undamped step promises}}
                         {\chi^2} ,

which no change of units or parameters alters. It is asked before a step is taken, never because a
step was refused.

More, Lecture Notes in Mathematics 630 (1978) 105; Bates and Watts, Technometrics 23 (1981) 179.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear, Newton, Sums
from gradfit._engine.field import Field
from gradfit._engine.solve import (
    Basis,
    basis_of_factor,
    basis_of_normal,
    masked,
    restricted,
    solve,
)
from gradfit._types import Status
from gradfit.errors import StopFit

REFUSALS = 50
"""Steps refused in a row after which a fit has stalled; each at most halves the last."""
CRAWL = 0.1
"""Gauss-Newton steps that shrink by less than this factor change to Newton's."""
NEAR = 0.5
"""Relative offset below which Newton steps are worth a try."""


class Options(NamedTuple):
    """When to stop. Zero switches a test off; rounding error always ends a fit.

    Attributes
    ----------
    gtol : float
        Relative offset, the scale-free gradient.
    ftol : float
        Relative reduction of chi-square, predicted and found.
    xtol : float
        Relative change of every parameter.
    max_steps : int
        Steps taken or refused.
    """

    gtol: float = 1e-12
    ftol: float = 0.0
    xtol: float = 0.0
    max_steps: int = 500


class Bounds(NamedTuple):
    """Lower and upper limits of the parameters, (G, p) or (1, p)."""

    lower: Tensor
    upper: Tensor


class State(NamedTuple):
    """What the loop carries, one row per fit.

    Attributes
    ----------
    beta : Tensor (G, p)
    sums : Sums
        At ``beta``.
    D2 : Tensor (G, p)
        Largest squared column norm so far.
    radius : Tensor (G,)
        Radius of the trust region, in scaled parameters; inf at first.
    tau : Tensor (G,)
        Share of the tangential correction of the foot points to take, 0 to 1.
    eta : Tensor (G,)
        Relative offset of the last undamped accepted step; inf before.
    flat : Tensor (G,)
        Relative offset when chi-square last could not tell; inf before.
    noise : Tensor (G,)
        chi-square of rounding error; NaN until asked for.
    newton : Tensor (G,) bool
        Whether the row takes Newton steps.
    refused : Tensor (G,) int64
        Steps refused in a row.
    status, n_steps, n_eval : Tensor (G,) int64
    """

    beta: Tensor
    sums: Sums
    D2: Tensor
    radius: Tensor
    tau: Tensor
    eta: Tensor
    flat: Tensor
    noise: Tensor
    newton: Tensor
    refused: Tensor
    status: Tensor
    n_steps: Tensor
    n_eval: Tensor

    def select(self, rows: Tensor) -> "State":
        """Return the rows listed."""
        return State(*(Sums(*(t[rows] for t in f)) if isinstance(f, Sums) else f[rows] for f in self))

    def put(self, rows: Tensor, part: "State") -> "State":
        """Return a copy in which ``rows`` are those of ``part``."""

        def write(whole: Tensor, new: Tensor) -> Tensor:
            return whole.index_copy(0, rows, new)

        return State(
            *(
                Sums(*(write(a, b) for a, b in zip(w, n, strict=True)))
                if isinstance(w, Sums)
                else write(w, n)
                for w, n in zip(self, part, strict=True)
            )
        )


class Work(NamedTuple):
    """A state together with its points: foot points and, while they are small, their linearisation."""

    field: Field
    state: State
    u: Tensor
    kept: list[Linear]


def init(field: Field, beta0: Tensor, u0: Tensor | None = None) -> Work:
    """Evaluate at the start: foot points at the observations unless ``u0`` (mu, N) is given."""
    n_rows = beta0.shape[0]
    u = field.points.x.new_zeros(len(field.points.rows), field.points.n) if u0 is None else u0
    u, kept, sums = field.linearize(beta0, u)
    zero = beta0.new_zeros(n_rows)
    count = torch.zeros(n_rows, dtype=torch.int64, device=beta0.device)
    state = State(
        beta=beta0,
        sums=sums,
        D2=sums.A.diagonal(dim1=-2, dim2=-1),
        radius=zero + torch.inf,
        tau=zero + 1,
        eta=zero + torch.inf,
        flat=zero + torch.inf,
        noise=zero + torch.nan,
        newton=zero > 0,
        refused=count,
        status=torch.where(_finite(sums), 0, int(Status.BAD_START)),
        n_steps=count,
        n_eval=count + 1,
    )
    return Work(field, state, u, kept)


def _finite(sums: Sums) -> Tensor:
    return torch.isfinite(sums.cost + sums.A.sum((-1, -2)) + sums.g.sum(-1))


class Proposal(NamedTuple):
    """A step and what it promises.

    Attributes
    ----------
    db : Tensor (G, p)
    tau : Tensor (G,)
        Share of the tangential correction that is taken.
    norm : Tensor (G,)
        Length of the step in scaled parameters.
    bare : Tensor (G,) bool
        Whether nothing holds the step back.
    promise : Tensor (G,)
        Reduction of the cost by the quadratic model.
    exact : list of Newton or None
        Foot points of a Newton step.
    """

    db: Tensor
    tau: Tensor
    norm: Tensor
    bare: Tensor
    promise: Tensor
    exact: list[Newton] | None


def propose_gauss(w: Work, bounds: Bounds | None) -> Proposal:
    """Minimise the Gauss-Newton model of every row within its trust region."""
    s = w.state
    free = None if bounds is None else inside(s.beta, s.sums.g, bounds)
    A, g = (s.sums.A, s.sums.g) if free is None else masked(s.sums.A, s.sums.g, free)
    D = s.D2.sqrt()
    db, safe = solve(A, g)
    norm = (D * db).square().sum(-1).sqrt()
    held = ~(safe & (norm <= 1.1 * s.radius)) & (s.status == 0)
    lam = torch.zeros_like(norm)
    if bool(held.any()):
        rows = torch.nonzero(held)[:, 0]
        part, damping = restricted(_basis(w, rows, (A, g), safe, free), s.radius[rows])
        db, lam = db.index_copy(0, rows, part), lam.index_copy(0, rows, damping)
    if bounds is not None:
        db = project(A, g, lam[:, None] * s.D2, db, (s.beta, bounds))
    norm = (D * db).square().sum(-1).sqrt()
    Adb = (s.sums.A @ db[..., None])[..., 0]
    promise = -(db * (2 * s.sums.g + Adb)).sum(-1) + s.sums.tangent * (1 - (1 - s.tau) ** 2)
    return Proposal(db, s.tau, norm, (lam == 0) & (s.tau == 1), promise, None)


def _basis(
    w: Work, rows: Tensor, system: tuple[Tensor, Tensor], safe: Tensor, free: Tensor | None
) -> Basis:
    """Diagonalise the systems of ``rows``; ill-conditioned ones from the Jacobian itself."""
    A, g = system
    D = w.state.D2.sqrt()
    basis = basis_of_normal(A[rows], g[rows], D[rows])
    hard = torch.nonzero(~safe[rows])[:, 0]
    if not len(hard):
        return basis
    which = rows[hard]
    factors = torch.stack(
        [w.field.factor(w.state.beta, w.u, w.kept, int(row)) for row in which.tolist()]
    )
    p = g.shape[1]
    R, c = factors[:, :p, :p], factors[:, :p, p]
    if free is not None:
        R = R * free[which][:, None, :]
    exact = basis_of_factor(R, c, D[which], w.field.points.n)
    return Basis(*(a.index_copy(0, hard, b) for a, b in zip(basis, exact, strict=True)))


def inside(beta: Tensor, g: Tensor, bounds: Bounds) -> Tensor:
    """Return which parameters (G, p) may move: not at a bound with the cost falling beyond it."""
    held = ((beta <= bounds.lower) & (g > 0)) | ((beta >= bounds.upper) & (g < 0))
    return ~held


def project(
    A: Tensor, g: Tensor, damping: Tensor, db: Tensor, where: tuple[Tensor, Bounds]
) -> Tensor:
    """Shorten a step to the bounds: what would pass a bound stops there, the rest is solved again."""
    beta, bounds = where
    stuck = torch.zeros_like(db, dtype=torch.bool)
    target = db
    for _ in range(db.shape[1]):
        target = torch.minimum(torch.maximum(beta + db, bounds.lower), bounds.upper) - beta
        new = (target != db) & ~stuck
        if not bool(new.any()):
            break
        stuck = stuck | new
        known = torch.where(stuck, target, torch.zeros_like(db))
        rest = g + ((A + torch.diag_embed(damping)) @ known[..., None])[..., 0]
        free = solve(*masked(A, rest, ~stuck), damping).db
        db = torch.where(stuck, known, free)
    return torch.minimum(torch.maximum(beta + db, bounds.lower), bounds.upper) - beta


def propose_newton(w: Work, bounds: Bounds | None) -> tuple[Proposal, Tensor]:
    """Solve the exact Newton system; also tell the rows (G,) where it has a minimum."""
    exact, sums = w.field.exactly(w.state.beta, w.u, w.kept)
    s = w.state
    zero = torch.zeros_like(s.tau)
    if bounds is None:
        step = solve(sums.H, -sums.b)
        db = step.db
    else:
        H, g = masked(sums.H, -sums.b, inside(s.beta, s.sums.g, bounds))
        step = solve(H, g)
        db = project(H, g, torch.zeros_like(g), step.db, (s.beta, bounds))
    promise = sums.c + (sums.d * db).sum(-1)
    norm = (s.D2.sqrt() * db).square().sum(-1).sqrt()
    good = step.safe & torch.isfinite(promise) & (promise >= 0)
    return Proposal(db, zero + 1, norm, good, promise, exact), good


def step(w: Work, options: Options, bounds: Bounds | None, newton: bool) -> Work:
    """Take one step in every running row; rows that have ended stay as they are, bit for bit."""
    s = w.state
    if newton:
        proposal, good = propose_newton(w, bounds)
        s = s._replace(
            newton=s.newton & good,
            eta=torch.where(good, s.eta, torch.inf),
            n_eval=s.n_eval + (s.status == 0),
        )
    else:
        w = _relax(w)
        s = w.state
        proposal = propose_gauss(w, bounds)
    bare = proposal.bare
    w = w._replace(state=_with_noise(w._replace(state=s), proposal))
    s = w.state
    eta = (proposal.promise / s.sums.cost).clamp(min=0).sqrt()
    s = s._replace(status=_ended(s, proposal, eta, bare, options))
    running = (s.status == 0) & (bare if newton else torch.ones_like(bare))
    if not bool(running.any()):
        return w._replace(state=s)
    db = torch.where(running[:, None], proposal.db, torch.zeros_like(proposal.db))
    if proposal.exact is None:
        trial = w.field.attempt(s.beta, w.u, w.kept, db, proposal.tau)
    else:
        trial = w.field.attempt_exactly(s.beta, w.u, w.kept, db, proposal.exact)
    return _decide(w._replace(state=s), proposal, (eta, bare, running), trial, options)


def _relax(w: Work) -> Work:
    """After a first refusal put the foot points right, where they may be what spoiled the step."""
    s = w.state
    spoiled = (s.status == 0) & (s.refused == 1) & (s.sums.tangent > 0.1 * s.sums.cost)
    if not bool(spoiled.any()):
        return w
    u, kept, sums = w.field.relax(s.beta, w.u, w.kept)
    good = spoiled & _finite(sums) & (sums.cost < s.sums.cost)
    u, kept = _merge_points(w, good, u, kept)
    tau = torch.where(good, torch.ones_like(s.tau), s.tau)
    state = s._replace(
        sums=_merge_sums(good, sums, s.sums), tau=tau, n_eval=s.n_eval + spoiled
    )
    return Work(w.field, state, u, kept)


def _with_noise(w: Work, proposal: Proposal) -> State:
    """Measure rounding error once per row, when the end is near."""
    s = w.state
    asked = torch.isnan(s.noise) & (proposal.promise <= 1e-8 * s.sums.cost + 1e-300)
    if not bool(asked.any()):
        return s
    noise = w.field.noise(s.beta, w.u, w.kept)
    return s._replace(noise=torch.where(asked, noise, s.noise))


def cost_noise(s: State) -> Tensor:
    """Return the change (G,) of the cost below which it is rounding error."""
    eps = torch.finfo(s.sums.cost.dtype).eps
    return 16 * eps * s.sums.cost + 4 * (s.sums.cost * s.noise).sqrt() + s.noise


def _ended(s: State, proposal: Proposal, eta: Tensor, bare: Tensor, options: Options) -> Tensor:
    """Return the status (G,) of rows that are at their end before this step."""
    promise, cost = proposal.promise, s.sums.cost
    done = torch.where(s.n_steps >= options.max_steps, int(Status.MAX_STEPS), 0)
    stuck = bare & (promise <= cost_noise(s)) & (eta >= 0.5 * s.flat)
    done = torch.where(stuck, int(Status.COST), done)
    small = promise <= s.noise
    if options.xtol:
        small = small | (proposal.db.abs() <= options.xtol * s.beta.abs()).all(-1)
    done = torch.where(bare & small, int(Status.STEP), done)
    flat = promise <= options.gtol**2 * cost
    done = torch.where(bare & flat, int(Status.GRADIENT), done)
    return torch.where(s.status == 0, done, s.status)


def _decide(
    w: Work,
    proposal: Proposal,
    asked: tuple[Tensor, Tensor, Tensor],
    trial: tuple[Tensor, list[Linear], Sums],
    options: Options,
) -> Work:
    """Accept or refuse the trial row by row, and set the damping of the next step."""
    s = w.state
    eta, bare, running = asked
    u, kept, sums = trial
    finite = _finite(sums)
    actual = s.sums.cost - sums.cost
    gain = actual / proposal.promise
    unclear = proposal.promise <= cost_noise(s)
    # Below rounding error the cost cannot judge a step; so small a step is judged by whether the
    # next one is smaller still.
    blind = unclear & (-actual <= 1e-11 * s.sums.cost + 10 * cost_noise(s))
    accepted = finite & ((gain > 1e-4) | blind) & running
    refused = running & ~accepted

    # Where the quadratic through the old cost, its slope and the new cost has its minimum.
    slope = 2 * proposal.promise
    cut = (slope / (2 * (slope - actual))).nan_to_num(0.1, 0.1, 0.1).clamp(0.1, 0.5)
    cut = torch.where(finite, cut, 0.1)
    poor = (refused | (accepted & (gain < 0.25))) & ~unclear
    rich = accepted & ((gain > 0.75) | proposal.bare) & ~poor
    radius = torch.where(poor, cut * proposal.norm, s.radius)
    radius = torch.where(rich, torch.maximum(s.radius.nan_to_num(0, 0, 0), 2 * proposal.norm), radius)
    tau = torch.where(poor, s.tau * cut, torch.where(rich, (4 * s.tau).clamp(max=1), s.tau))
    slow = (eta > CRAWL * s.eta) | ((gain < 0.5) & ~unclear)
    crawls = accepted & (eta < NEAR) & slow & (s.eta < torch.inf) & ~s.newton
    status = torch.where(
        refused & (s.refused >= REFUSALS),
        torch.where(finite, int(Status.STALLED), int(Status.NONFINITE)),
        s.status,
    )
    if options.ftol:
        little = (actual <= options.ftol * s.sums.cost) & (proposal.promise <= options.ftol * s.sums.cost)
        status = torch.where(accepted & little & (status == 0), int(Status.COST), status)
    state = State(
        beta=torch.where(accepted[:, None], s.beta + proposal.db, s.beta),
        sums=_merge_sums(accepted, sums, s.sums),
        D2=torch.where(
            accepted[:, None],
            torch.maximum(s.D2, sums.A.diagonal(dim1=-2, dim2=-1)),
            s.D2,
        ),
        radius=radius,
        tau=tau,
        eta=torch.where(accepted, eta, torch.where(running, torch.inf, s.eta)),
        flat=torch.where(
            crawls,
            torch.inf,
            torch.where(running & unclear & bare, torch.where(accepted, eta, 0.0), s.flat),
        ),
        noise=s.noise,
        newton=torch.where(running, (s.newton & accepted) | crawls, s.newton),
        refused=torch.where(accepted, 0, s.refused + refused),
        status=status,
        n_steps=s.n_steps + running,
        n_eval=s.n_eval + running,
    )
    u, kept = _merge_points(w, accepted, u, kept)
    return Work(w.field, state, u, kept)


def _merge_sums(accepted: Tensor, new: Sums, old: Sums) -> Sums:
    a = accepted
    return Sums(
        torch.where(a, new.cost, old.cost),
        torch.where(a, new.tangent, old.tangent),
        torch.where(a[:, None, None], new.A, old.A),
        torch.where(a[:, None], new.g, old.g),
    )


def _merge_points(
    w: Work, accepted: Tensor, u: Tensor, kept: list[Linear]
) -> tuple[Tensor, list[Linear]]:
    if bool(accepted.all()):
        return u, kept
    if not bool(accepted.any()):
        return w.u, w.kept
    group = w.field.points.group
    if group is None:
        return u, kept
    mask = accepted[group]
    u = torch.where(mask, u, w.u)
    kept = [
        Linear(*(torch.where(mask[s.start : s.stop], a, b) for a, b in zip(new, old, strict=True)))
        for s, new, old in zip(w.field.stretches, kept, w.kept, strict=True)
    ] if kept else kept
    return u, kept


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
    field: Field,
    beta0: Tensor,
    options: Options,
    bounds: Bounds | None = None,
    u0: Tensor | None = None,
    on_step: Callable[[Report], None] | None = None,
) -> Work:
    """Step until every row has ended.

    Gauss-Newton rows and Newton rows are taken in turn, each as a set of its own, and a set that
    has lost half of its rows is cut down to the rest, so that a few slow fits cost little.
    """
    w = init(field, beta0, u0)
    try:
        while True:
            running = w.state.status == 0
            if not bool(running.any()):
                break
            newton = running & w.state.newton
            gauss = running & ~w.state.newton
            mode = not bool(gauss.any())
            w = _phase(w, newton if mode else gauss, mode, options, bounds, on_step)
    except StopFit:
        stopped = torch.where(w.state.status == 0, int(Status.STOPPED), w.state.status)
        w = w._replace(state=w.state._replace(status=stopped))
    return w


def _phase(
    w: Work,
    mask: Tensor,
    newton: bool,
    options: Options,
    bounds: Bounds | None,
    on_step: Callable[[Report], None] | None,
) -> Work:
    """Step the rows in ``mask`` until none of them, or only half, is left in this mode."""
    part, rows, index = _cut(w, mask)
    limits = bounds
    if bounds is not None and rows is not None and bounds.lower.shape[0] > 1:
        limits = Bounds(bounds.lower[rows], bounds.upper[rows])
    enough = int(mask.sum()) // 2
    while True:
        part = step(part, options, limits, newton)
        if on_step is not None:
            w = _paste(w, part, rows, index)
            on_step(_report(w.state))
        left = int(((part.state.status == 0) & (part.state.newton == newton)).sum())
        if left <= enough:
            return _paste(w, part, rows, index)


def _report(s: State) -> Report:
    return Report(int(s.n_steps.max()), int((s.status == 0).sum()), s.beta.clone(), s.sums.cost)


def _cut(w: Work, mask: Tensor) -> tuple[Work, Tensor | None, Tensor | None]:
    if bool(mask.all()):
        return w, None, None
    rows = torch.nonzero(mask)[:, 0]
    field, index = w.field.select(rows)
    kept: list[Linear] = []
    if w.kept and field.keep:
        whole = [torch.cat(parts, -1) for parts in zip(*w.kept, strict=True)]
        picked = [t[..., index] for t in whole]
        kept = [Linear(*(t[..., s.start : s.stop] for t in picked)) for s in field.stretches]
    return Work(field, w.state.select(rows), w.u[:, index], kept), rows, index


def _paste(w: Work, part: Work, rows: Tensor | None, index: Tensor | None) -> Work:
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
