r"""The p-by-p step of every fit: damped, bounded, and safe when the data say too little.

Where the columns of the Jacobian are nearly dependent the normal matrix has lost half the digits
already, so those few fits are solved again from a triangular factor of the Jacobian itself, by
singular values; what lies below rounding is left out of the step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

HARD = 1e-10
"""A pivot that falls below this fraction of its diagonal marks a fit as ill-conditioned."""


class Step(NamedTuple):
    """A step of the parameters: ``db`` (G, p), and whether its matrix was safely positive (G,)."""

    db: Tensor
    safe: Tensor


def solve(A: Tensor, g: Tensor, damping: Tensor | None = None) -> Step:
    """Solve ``(A + diag(damping)) db = -g`` for every fit.

    Parameters
    ----------
    A : Tensor (G, p, p)
        Normal matrices.
    g : Tensor (G, p)
        Half gradients.
    damping : Tensor (G, p) or None
        Added to the diagonal.
    """
    M = A if damping is None else A + torch.diag_embed(damping)
    L, info = torch.linalg.cholesky_ex(M)
    db = -torch.cholesky_solve(g[..., None], L)[..., 0]
    pivots = L.diagonal(dim1=-2, dim2=-1)
    safe = (pivots * pivots > HARD * M.diagonal(dim1=-2, dim2=-1)).all(-1) & (info == 0)
    return Step(db, safe)


def solve_factor(R: Tensor, c: Tensor, D: Tensor, lam: Tensor, n_points: Tensor) -> Tensor:
    r"""Solve :math:`\min |c + R\,d|^2 + \lambda |D d|^2` by singular values.

    Parameters
    ----------
    R, c : Tensor (G, p, p), (G, p)
        Triangular factor of the whitened Jacobian, and the residual in its basis.
    D : Tensor (G, p)
        Scale of each parameter: the norm of its column.
    lam : Tensor (G,)
        Damping, dimensionless.
    n_points : Tensor (G,)
        Number of points, for the size of rounding error.
    """
    scale = torch.where(D > 0, D, torch.ones_like(D))
    U, s, Vt = torch.linalg.svd(R / scale[:, None, :])
    eps = torch.finfo(R.dtype).eps
    floor = s[:, :1] * eps * n_points[:, None].clamp(min=10)
    gain = torch.where(s > floor, s / (s * s + lam[:, None]), torch.zeros_like(s))
    inner = gain * (U.mT @ c[..., None])[..., 0]
    return -(Vt.mT @ inner[..., None])[..., 0] / scale


def masked(A: Tensor, g: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Take the parameters that are not ``free`` (G, p) out of the system; they do not move."""
    both = free[:, :, None] & free[:, None, :]
    eye = torch.diag_embed((~free).to(A.dtype))
    return torch.where(both, A, eye), torch.where(free, g, torch.zeros_like(g))
