"""Steps and what they promise: Gauss-Newton within a trust region, and Newton's own."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._engine.arrow import eliminate_arrow, pooled, solve_arrow
from gradfit._engine.control import EPS
from gradfit._engine.eliminate import Newton
from gradfit._engine.scalar import FEW, free_step
from gradfit._engine.solve import (
    FIRST,
    HARD,
    HOPELESS,
    SECULAR,
    Basis,
    basis_of_factor,
    basis_of_normal,
    masked,
    restricted,
    solve,
)
from gradfit._engine.state import Bounds, Work, rows_of


class Proposal(NamedTuple):
    """A step and what it promises; numbers for one fit, tensors (G,) for many.

    Attributes
    ----------
    db : Tensor (G, p)
    norm : float
        Length of the step in scaled parameters.
    bare : bool
        Whether nothing holds the step back.
    promise : float
        Reduction of the cost by the quadratic model.
    exact : list of Newton or None
        Foot points of a Newton step.
    back : Tensor (G, p + 2) or None
        What :func:`back_of` makes of the step, where that was made along with it.
    """

    db: Tensor
    norm: Any
    bare: Any
    promise: Any
    exact: list[Newton] | None
    back: Tensor | None = None


def back_of(db: Tensor) -> Tensor:
    """Return minus a step (G, p), then -1 and 0: what foot points follow it by."""
    zero = db.new_zeros(len(db), 1)
    return torch.cat([-db, zero - 1, zero], 1)


def plain(w: Work, value: Tensor) -> Any:
    """Return a row tensor as it is, or as a number where the fit is alone."""
    return value.item() if w.field.alone else value


def total(w: Work, value: Tensor) -> Any:
    """Return sums as the rules judge them: of each row, or of all where fits share parameters."""
    return pooled(value) if w.field.shared is not None else plain(w, value)


def propose_gauss(w: Work, bounds: Bounds | None) -> Proposal:
    """Minimise the Gauss-Newton model of every row within its trust region."""
    if w.field.shared is not None:
        return _propose_joint(w, bounds, w.field.shared)
    s, c = w.state, w.state.control
    if w.field.alone and bounds is None and s.beta.shape[1] <= FEW:
        quick = _propose_small(w)
        if quick is not None:
            return quick
    free = None if bounds is None else inside(s.beta, s.sums.g, bounds)
    A, g = (s.sums.A, s.sums.g) if free is None else masked(s.sums.A, s.sums.g, free)
    fresh = w.field.alone and c.n_steps == 0
    db, safe = solve(A, g, hard=FIRST if fresh else HARD)
    norm = torch.linalg.vector_norm(s.D * db, dim=-1)
    bare = safe & (norm <= 1.1 * c.radius)
    lam = None
    if not (bare.item() if w.field.alone else bool(bare.all())):
        held = ~bare if w.field.alone else ~bare & (c.status == 0)
        rows = torch.nonzero(held)[:, 0]
        radius = rows_of(c.radius, db)[rows]
        part, damping = restricted(_basis(w, rows, (A, g), safe, free), radius)
        db = db.index_copy(0, rows, part)
        lam = torch.zeros_like(norm).index_copy(0, rows, damping)
        bare = lam == 0
    if bounds is not None:
        damping = None if lam is None else lam[:, None] * s.D * s.D
        db = project(A, g, damping, db, (s.beta, bounds))
    if lam is not None or bounds is not None:
        norm = torch.linalg.vector_norm(s.D * db, dim=-1)
    if bounds is not None:
        # What is solved again beside a bound may lead beyond the radius.
        share = torch.where(norm > 1.1 * c.radius, c.radius / norm, 1.0)
        db, norm, bare = share[:, None] * db, share * norm, bare & (share == 1)
    Adb = (s.sums.A * db[:, None]).sum(-1)
    promise = s.sums.tangent - (db * torch.add(Adb, s.sums.g, alpha=2)).sum(-1)
    promise = plain(w, promise)
    return Proposal(db, plain(w, norm), plain(w, bare), promise, None)


def _propose_small(w: Work) -> Proposal | None:
    """Propose the undamped step of one small fit, if it stays inside and is safe."""
    s, c = w.state, w.state.control
    numbers = s.sums.numbers
    step = free_step(numbers.gram, s.largest, HARD if c.n_steps else FIRST)
    if step is None or not step.norm <= 1.1 * c.radius:
        return None
    row = np.array([[*step.back, -1.0, 0.0]])
    db, back = torch.from_numpy(-row[:, :-2]), torch.from_numpy(row)
    if not s.beta.is_cpu or s.beta.dtype != db.dtype:
        db, back = db.to(s.beta), back.to(s.beta)
    return Proposal(db, step.norm, True, step.promise + numbers.tangent, None, back)


def _propose_joint(w: Work, bounds: Bounds | None, shared: Tensor) -> Proposal:
    """Do the same for fits that share parameters, by one trust region for all."""
    s = w.state
    A, g = s.sums.A, s.sums.g
    if bounds is not None:
        joint = torch.where(shared, g.sum(0), g)
        A, g = masked(A, g, inside(s.beta, joint, bounds))
    weight = s.D * s.D
    radius = float(s.control.radius[0])
    lam, db, norm, bare = 0.0, torch.zeros_like(g), 0.0, False
    for _ in range(SECULAR):
        arrow = eliminate_arrow(A + lam * torch.diag_embed(weight), shared)
        if not bool(arrow.safe):
            lam = max(10 * lam, 1e-10)
            continue
        db = solve_arrow(arrow, g)
        norm = float((weight * db * db).sum().sqrt())
        bare = lam == 0.0
        if norm <= 1.1 * radius:
            break
        pull = weight * db
        slope = -float((pull * solve_arrow(arrow, pull)).sum())
        lam += norm * norm / slope * (norm - radius) / radius
    if bounds is not None:
        db = torch.minimum(torch.maximum(s.beta + db, bounds.lower), bounds.upper) - s.beta
    Adb = (s.sums.A @ db[..., None])[..., 0]
    promise = pooled(-(db * (2 * s.sums.g + Adb)).sum(-1) + s.sums.tangent)
    return Proposal(
        db,
        torch.full_like(promise, norm),
        torch.full_like(promise, bare, dtype=torch.bool),
        promise,
        None,
    )


def _basis(
    w: Work, rows: Tensor, system: tuple[Tensor, Tensor], safe: Tensor, free: Tensor | None
) -> Basis:
    """Diagonalise the systems of ``rows``; ill-conditioned ones from the Jacobian itself."""
    A, g = system
    D = w.state.D
    basis = basis_of_normal(A[rows], g[rows], D[rows])
    # Where Cholesky is safe every direction counts, however small a column has become since.
    basis = basis._replace(floor=torch.zeros_like(basis.floor))
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
    exact = basis_of_factor(R, c, D[which], w.field.sizes[which])
    return Basis(*(a.index_copy(0, hard, b) for a, b in zip(basis, exact, strict=True)))


def inside(beta: Tensor, g: Tensor, bounds: Bounds) -> Tensor:
    """Return which parameters (G, p) may move: not at a bound with the cost falling beyond it."""
    low, high = touching(beta, bounds)
    return ~((low & (g > 0)) | (high & (g < 0)))


def touching(beta: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Return which parameters (G, p) are at their lower and at their upper bound.

    A step that ends on a bound may miss it by its last bit.
    """
    near = 1e-15 * beta.abs()
    return beta - bounds.lower <= near, bounds.upper - beta <= near


def project(
    A: Tensor,
    g: Tensor,
    damping: Tensor | None,
    db: Tensor,
    where: tuple[Tensor, Bounds],
) -> Tensor:
    """Shorten a step to the bounds: what passes one first stops there, the rest is solved anew.

    Every turn goes on from a point within the bounds to one where the quadratic model is lower.
    """
    beta, bounds = where
    M = A if damping is None else A + torch.diag_embed(damping)
    low, high = bounds.lower - beta, bounds.upper - beta
    there, stuck = torch.zeros_like(db), torch.zeros_like(db, dtype=torch.bool)
    for _ in range(db.shape[1]):
        way = db - there
        limit = torch.where(way > 0, high, low)
        share = torch.where((db > high) | (db < low), (limit - there) / way, 1.0)
        first = share.amin(-1, keepdim=True)
        passes = first < 1
        if not bool(passes.any()):
            break
        hit = passes & (share <= first)
        stuck = stuck | hit
        there = torch.where(hit, limit, torch.where(passes, there + first * way, there))
        rest = g + (M @ torch.where(stuck, there, 0.0)[..., None])[..., 0]
        again = solve(*masked(A, rest, ~stuck), damping).db
        db = torch.where(passes, torch.where(stuck | again.isnan(), there, again), db)
    return torch.minimum(torch.maximum(beta + db, bounds.lower), bounds.upper) - beta


def propose_newton(w: Work, bounds: Bounds | None) -> tuple[Proposal, Any]:
    """Solve the exact Newton system; also tell the rows (G,) where it has a minimum."""
    exact, sums = w.field.exactly(w.state.beta, w.u, w.kept)
    s = w.state
    H, g = sums.H, -sums.b
    # Where curvature takes back all that the slopes say, what is left of it is rounding error.
    told = sums.H.diagonal(dim1=-2, dim2=-1) > HOPELESS * s.sums.A.diagonal(dim1=-2, dim2=-1)
    if bounds is not None:
        free = inside(s.beta, s.sums.g, bounds)
        H, g = masked(H, g, free)
        told = told | ~free
    if w.field.shared is not None:
        arrow = eliminate_arrow(H, w.field.shared)
        db, safe = solve_arrow(arrow, g), arrow.safe
    else:
        db, safe = solve(H, g, hard=HOPELESS)
        safe = safe & told.all(-1)
    if bounds is not None:
        db = project(H, g, None, db, (s.beta, bounds))
    promise = total(w, sums.c + (sums.d * db).sum(-1))
    norm = total(w, (s.D * db).square().sum(-1)) ** 0.5
    # Near the end rounding error may take a promise of nothing below 0.
    nothing = -EPS * total(w, s.sums.cost)
    good = plain(w, safe) & (promise >= nothing) & (promise < math.inf)
    return Proposal(db, norm, good, promise, exact), good
