r"""The p-by-p step of every fit: damped, bounded, and safe when the data say too little.

Where the columns of the Jacobian are nearly dependent the normal matrix has lost half the digits
already, so those few fits are solved again from a triangular factor of the Jacobian itself, by
singular values; what lies below rounding is left out of the step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SECULAR = 12
"""Iterations on the secular equation, at most."""
HARD = 1e-10
"""A pivot that falls below this fraction of its diagonal marks a fit as ill-conditioned."""
FIRST = 1e-3
"""The same for the first step of a fit alone, which takes a linear model to its end."""
HOPELESS = 1e-13
"""The same for exact second derivatives, which have no factor to fall back on."""


class Step(NamedTuple):
    """A step of the parameters: ``db`` (G, p), and whether its matrix was safely positive (G,)."""

    db: Tensor
    safe: Tensor


def solve(A: Tensor, g: Tensor, damping: Tensor | None = None, hard: float = HARD) -> Step:
    """Solve ``(A + diag(damping)) db = -g`` for every fit.

    Parameters
    ----------
    A : Tensor (G, p, p)
        Normal matrices.
    g : Tensor (G, p)
        Half gradients.
    damping : Tensor (G, p) or None
        Added to the diagonal.
    hard : float
        Share of the diagonal below which a pivot is not safe.
    """
    M = A if damping is None else A + torch.diag_embed(damping)
    L, info = torch.linalg.cholesky_ex(M)
    db = torch.cholesky_solve(g[..., None], L).squeeze(-1).neg_()
    pivots = L.diagonal(dim1=-2, dim2=-1)
    # Behind a pivot that failed the factor holds what was there before, which may look safe.
    safe = (pivots.square() > hard * M.diagonal(dim1=-2, dim2=-1)).all(-1) & (info == 0)
    return Step(db, safe)


class Basis(NamedTuple):
    """The system of each fit in the directions in which it is diagonal.

    Attributes
    ----------
    e : Tensor (G, p)
        Eigenvalues of the scaled normal matrix; 0 where the data say nothing.
    c : Tensor (G, p)
        Half gradient along them.
    V : Tensor (G, p, p)
        Directions, as columns, of the scaled parameters.
    scale : Tensor (G, p)
        Norm of each Jacobian column.
    floor : Tensor (G, 1)
        Eigenvalues up to here are rounding error.
    """

    e: Tensor
    c: Tensor
    V: Tensor
    scale: Tensor
    floor: Tensor


def basis_of_normal(A: Tensor, g: Tensor, D: Tensor) -> Basis:
    """Diagonalise scaled normal matrices (G, p, p)."""
    scale = torch.where(D > 0, D, torch.ones_like(D))
    e, V = torch.linalg.eigh(A / (scale[:, :, None] * scale[:, None, :]))
    floor = e[:, -1:] * torch.finfo(A.dtype).eps * A.shape[-1]
    return Basis(e.clamp(min=0), _along(V, g / scale), V, scale, floor)


def basis_of_factor(R: Tensor, c: Tensor, D: Tensor, size: Tensor) -> Basis:
    """Diagonalise by the singular values of a triangular factor, without squaring it.

    ``R`` (G, p, p) is the factor of the whitened Jacobian, ``c`` (G, p) the residual in its basis,
    ``size`` (G,) the number of points of each fit.
    """
    scale = torch.where(D > 0, D, torch.ones_like(D))
    U, s, Vt = torch.linalg.svd(R / scale[:, None, :])
    floor = s[:, :1] * torch.finfo(R.dtype).eps * size.clamp(min=10)[:, None]
    return Basis(s * s, s * _along(U, c), Vt.mT, scale, floor * floor)


def restricted(basis: Basis, radius: Tensor) -> tuple[Tensor, Tensor]:
    r"""Minimise the quadratic model over :math:`|D\,d\beta| \le \Delta`.

    Returns the step (G, p) and the damping ``lam`` (G,) that holds it at the radius: 0 inside. The
    secular equation is solved by Newton's iteration on the reciprocal of the norm, which rises
    monotonically to the root (More 1978).
    """
    e, c = basis.e, basis.c
    # Each component alone must stay inside, which bounds lam from below.
    known = e > basis.floor
    lam = torch.where(known, c.abs() / radius[:, None] - e, 0.0).amax(-1).clamp(min=0)
    for _ in range(SECULAR):
        d = torch.where(known, c / (e + lam[:, None]), 0.0).nan_to_num(0.0)
        norm = d.norm(dim=-1)
        far = norm > 1.1 * radius
        if not bool(far.any()):
            break
        slope = torch.where(known, d * d / (e + lam[:, None]), 0.0).nan_to_num(0.0).sum(-1)
        rise = norm * norm / slope * (norm - radius) / radius
        lam = torch.where(far, lam + rise, lam)
    d = torch.where(known, c / (e + lam[:, None]), 0.0).nan_to_num(0.0)
    return -(basis.V @ d[..., None])[..., 0] / basis.scale, lam


def _along(V: Tensor, v: Tensor) -> Tensor:
    return (V.mT @ v[..., None])[..., 0]


def masked(A: Tensor, g: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Take the parameters that are not ``free`` (G, p) out of the system; they do not move."""
    both = free[:, :, None] & free[:, None, :]
    eye = torch.diag_embed((~free).to(A.dtype))
    return torch.where(both, A, eye), torch.where(free, g, torch.zeros_like(g))
