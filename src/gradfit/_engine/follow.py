r"""Steps that follow the curve of the model: geodesic acceleration.

Along a straight step :math:`v` of all parameters and foot points the residuals bend by their second
derivative :math:`r''`. The model's own way bends as well, with the acceleration that takes most of
that back,

.. math::  (\tilde J^T \tilde J + \lambda D^2)\, a = -\tilde J^T \tilde r'', \qquad
           d\beta = v + \tfrac12 a ,

foot points included, which are eliminated as they are from a step. It takes one second derivative
along one direction, exact from the graph, whatever the number of parameters, and turns hundreds of
steps along a bent valley into tens. A step whose acceleration is too large for it is too long for
its curve, and is shortened before it is tried. Fits that nothing ever held back take plain steps.

Transtrum and Sethna, arXiv:1201.5885 (2012).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._engine.arrow import eliminate_arrow, solve_arrow
from gradfit._engine.control import SHARP, SHORTER
from gradfit._engine.field import Trial
from gradfit._engine.propose import Proposal, back_of, basis_of, inside, propose_gauss, total
from gradfit._engine.rows import bounds_of, cut, paste
from gradfit._engine.solve import damped, masked, solve
from gradfit._engine.state import Bounds, Work, rows_of, rules_of, some


class Followed(NamedTuple):
    """Steps along their curves, where they lead, and what they took.

    Attributes
    ----------
    proposal : Proposal
        The steps, shortened where they were too long, and ``db`` with the acceleration.
    trial : Trial
    radius : float
        Radius of the trust region of each.
    tried : int
        Second derivatives along a step.
    """

    proposal: Proposal
    trial: Trial
    radius: Any
    tried: Any


def attempt(
    w: Work, proposal: Proposal, running: Any, bounds: Bounds | None
) -> tuple[Work, Proposal, Trial]:
    """Linearise where steps of running rows lead, straight or along their curves."""
    s, c = w.state, w.state.control
    along = rules_of(w.field).follows(c.curved, proposal.bare, c.newton) & running
    trial, db = Trial(s.beta, w.u, w.kept, s.sums), proposal.db
    if isinstance(along, Tensor):
        straight = running & ~along
        db = torch.where(straight[:, None], db, 0.0)
    else:
        straight = not along
    if some(straight):
        if proposal.exact is None:
            back = back_of(db) if proposal.back is None else proposal.back
            trial = w.field.attempt(s.beta, w.u, w.kept, db, back)
        else:
            trial = w.field.attempt_exactly(s.beta, w.u, w.kept, db, proposal.exact)
    if not some(along):
        return w, proposal, trial
    return _bent(w, proposal, along, trial, bounds)


def _bent(
    w: Work, proposal: Proposal, along: Any, trial: Trial, bounds: Bounds | None
) -> tuple[Work, Proposal, Trial]:
    """Let some rows follow the curves of their steps."""
    s, c = w.state, w.state.control
    if not isinstance(along, Tensor) or bool(along.all()):
        found = follow(w, proposal, bounds)
        c = c._replace(radius=found.radius, curved=along, n_eval=c.n_eval + found.tried)
        return w._replace(state=s._replace(control=c)), found.proposal, found.trial
    part, index_of_rows, index = cut(w, along)
    rows = torch.nonzero(along)[:, 0] if index_of_rows is None else index_of_rows
    db, norm, bare, promise, lam = (t[rows] for t in proposal[:5])
    found = follow(part, Proposal(db, norm, bare, promise, lam, None), bounds_of(bounds, rows))

    def write(whole: Tensor, own: Tensor) -> Tensor:
        return whole.index_copy(0, rows, own)

    db, norm, bare, promise, lam = map(write, proposal[:5], found.proposal[:5])
    new = Proposal(db, norm, bare, promise, lam, None)
    c = c._replace(
        radius=write(c.radius, found.radius),
        curved=c.curved | along,
        n_eval=write(c.n_eval, c.n_eval[rows] + found.tried),
    )
    old = Work(w.field, s._replace(sums=trial.sums), trial.u, trial.kept)
    own = part._replace(state=part.state._replace(sums=found.trial.sums))
    own = own._replace(u=found.trial.u, kept=found.trial.kept)
    put = paste(old, own, rows, index)
    beta = write(trial.beta, found.trial.beta)
    trial = Trial(beta, put.u, put.kept, put.state.sums)
    return w._replace(state=s._replace(control=c)), new, trial


def follow(w: Work, proposal: Proposal, bounds: Bounds | None) -> Followed:
    """Bend the steps of all rows, shorten those that bend too much, and linearise at their ends."""
    s, field, rules = w.state, w.field, rules_of(w.field)
    radius, still, tried = s.control.radius, s.control.status == 0, 0 * s.control.n_eval
    turn = 0
    while True:
        bows, pull = field.bow(s.beta, w.u, w.kept, proposal.db)
        a = _acceleration(w, proposal, pull, bounds)
        bend = rules.bend(total(w, (s.D * a).square().sum(-1)) ** 0.5, proposal.norm)
        tried, turn = tried + still, turn + 1
        still = still & (bend > SHARP)
        if turn == SHORTER or not some(still):
            break
        radius = rules.tighter(still, proposal.norm, bend, radius)
        tighter = s._replace(control=s.control._replace(radius=radius))
        proposal = propose_gauss(w._replace(state=tighter), bounds)
    fine = rows_of(bend <= SHARP, a)[:, None] != 0
    there = s.beta + proposal.db + torch.where(fine, a / 2, 0.0)
    if bounds is not None:
        there = torch.minimum(torch.maximum(there, bounds.lower), bounds.upper)
    a = 2 * (there - s.beta - proposal.db)
    back = back_of(proposal.db) if proposal.back is None else proposal.back
    trial = field.attempt_along(there, (s.beta, w.u, w.kept), (proposal.db, back, a), bows, fine)
    return Followed(proposal._replace(db=there - s.beta), trial, radius, tried)


def _acceleration(w: Work, proposal: Proposal, pull: Tensor, bounds: Bounds | None) -> Tensor:
    """Return the acceleration (G, p) that goes with a step."""
    s = w.state
    free = None if bounds is None else inside(s.beta, s.sums.g, bounds)
    A, g = (s.sums.A, pull) if free is None else masked(s.sums.A, pull, free)
    lam = rows_of(proposal.lam, s.beta)
    damping = lam[:, None] * s.D * s.D
    if w.field.shared is not None:
        return solve_arrow(eliminate_arrow(A + torch.diag_embed(damping), w.field.shared), g)
    a, safe = solve(A, g, damping)
    hard = torch.nonzero(~safe)[:, 0]
    if not len(hard):
        return a
    basis = basis_of(w, hard, (A, g), safe, free)
    c = (basis.V.mT @ (g[hard] / basis.scale)[..., None])[..., 0]
    return a.index_copy(0, hard, damped(basis._replace(c=c), lam[hard]))
