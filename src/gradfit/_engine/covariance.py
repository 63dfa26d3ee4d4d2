r"""Covariance, rank and condition of the parameters at a solution.

``expected``
    :math:`A^{-1}`, the Gauss-Newton information: what ISO/TS 28037, York and ODRPACK print.
``observed``
    :math:`H^{-1}`, with the exact second derivatives of the reduced chi-square.
``propagated``
    :math:`H^{-1} M H^{-1}`: the errors of all data carried through the estimator to first order,
    by implicit differentiation of its stationarity conditions.
``sandwich``
    :math:`H^{-1} \left(\sum_i g_i g_i^T\right) H^{-1}`: what the residuals themselves say, whatever
    their distribution (Huber 1967; White, Econometrica 50 (1982) 1). ``HC3`` makes good besides
    that a point pulls the curve to itself (:mod:`gradfit._engine.sandwich`).
"""

import math
from operator import mul
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._engine.arrow import between, covariance, eliminate_arrow
from gradfit._engine.eliminate import NewtonSums, Numbers
from gradfit._engine.propose import inside
from gradfit._engine.sandwich import FROM_RESIDUALS, meat
from gradfit._engine.scalar import FEW
from gradfit._engine.solve import Basis, basis_of_factor, basis_of_normal, solve
from gradfit._engine.state import Bounds, Work

CLEAR = 1e-6
"""Share of the largest eigenvalue above which the smallest needs no second look."""
BLIND = 1e-6
"""Share of a parameter in an undetermined direction from which its error is called infinite."""


class Spread(NamedTuple):
    """What the data say about the parameters of each fit.

    Attributes
    ----------
    cov : Tensor (G, p, p)
        Covariance for sigmas as given; inf on the diagonal where nothing is known.
    rank : Tensor (G,) int64
        Parameters, or combinations, that the data determine.
    condition : Tensor (G,)
        Ratio of the largest to the smallest singular value of the column-scaled Jacobian.
    weakest : Tensor (G, p)
        Unit combination of scaled parameters that is determined least.
    free : Tensor (G, p) bool
        Parameters that are not held at a bound.
    """

    cov: Tensor
    rank: Tensor
    condition: Tensor
    weakest: Tensor
    free: Tensor


def spread(
    w: Work, kind: str = "expected", bounds: Bounds | None = None, *, relative: bool = False
) -> Spread:
    """Return covariance, rank and condition of every fit, given the parameters held at bounds.

    ``relative`` says that the residuals are to tell how large the sigmas are: of covariances that
    hold the residuals already it concerns what points share.
    """
    if kind == "expected" and bounds is None and w.field.shared is None:
        plain = _plain(w)
        if plain is not None:
            return plain
    free = free_at(w, bounds)
    if w.field.shared is not None:
        return _spread_joint(w, kind, free, w.field.shared, relative)
    s = w.state
    if not s.beta.shape[1]:
        # Nothing is sought, and nothing is open.
        return Spread(s.sums.A, free.sum(-1), s.beta.new_ones(len(s.beta)), s.beta, free)
    return spread_along(w, kind, free, basis_at(w, free), relative)


def free_at(w: Work, bounds: Bounds | None) -> Tensor:
    """Return which parameters (G, p) no bound holds."""
    if bounds is None:
        return torch.ones_like(w.state.beta, dtype=torch.bool)
    return inside(w.state.beta, _joint_gradient(w), bounds)


def spread_along(w: Work, kind: str, free: Tensor, basis: Basis, relative: bool = False) -> Spread:
    """Return what is known along the directions of a basis; 0 in ``e`` says nothing is."""
    top = basis.e.amax(-1)
    known = basis.e > 0
    lowest = torch.where(known, basis.e, torch.inf).amin(-1)
    rank = known.sum(-1)
    least = basis.e.masked_fill(~_relevant(basis, free), torch.inf).argmin(-1)
    weakest = basis.V.gather(2, least[:, None, None].expand(-1, basis.V.shape[1], 1))[..., 0]
    condition = torch.where(rank == free.sum(-1), (top / lowest).sqrt(), torch.inf)
    cov = _expected(basis, free) if kind == "expected" else _exact(w, kind, free, basis, relative)
    return Spread(cov, rank, condition, weakest, free)


def _plain(w: Work) -> Spread | None:
    """Return what most fits need: all parameters free, and every one well determined."""
    s = w.state
    if not s.beta.shape[1]:
        return None
    if w.field.alone and s.beta.is_cpu and s.beta.shape[1] <= FEW:
        return _plain_alone(s.sums.numbers)
    D = s.sums.A.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    basis = basis_of_normal(s.sums.A.nan_to_num(0.0, 0.0, 0.0), s.sums.g, D)
    low, top = basis.e[:, 0], basis.e[:, -1]
    if not bool((low > CLEAR * top).all()):
        return None
    half = basis.V * basis.e.rsqrt()[:, None] / basis.scale[:, :, None]
    free = torch.ones_like(s.beta, dtype=torch.bool)
    return Spread(half @ half.mT, free.sum(-1), (top / low).sqrt(), basis.V[..., 0], free)


def _plain_alone(sums: Numbers) -> Spread | None:
    """Do the same for one fit of few parameters on Python's numbers, several times as fast."""
    squares, p = sums.diagonal[:-2], len(sums.diagonal) - 2
    if not all(0.0 < s < math.inf for s in squares):
        return None
    scale = [math.sqrt(s) for s in squares]
    scaled = [
        [v / (s * t) for v, t in zip(row, scale, strict=False)]
        for row, s in zip(sums.gram, scale, strict=False)
    ]
    e, V = np.linalg.eigh(scaled)
    values: list[float] = e.tolist()
    low, top = values[0], values[-1]
    if not low > CLEAR * top:
        return None
    roots = [math.sqrt(v) for v in values]
    half = [
        [v / (s * r) for v, r in zip(row, roots, strict=True)]
        for row, s in zip(V.tolist(), scale, strict=True)
    ]
    return Spread(
        torch.from_numpy(np.array([[[sum(map(mul, a, b)) for b in half] for a in half]])),
        torch.from_numpy(np.array([p])),
        torch.from_numpy(np.array([math.sqrt(top / low)])),
        torch.from_numpy(V[None, :, 0]),
        torch.from_numpy(np.array([[True] * p])),
    )


def _joint_gradient(w: Work) -> Tensor:
    g, shared = w.state.sums.g, w.field.shared
    return g if shared is None else torch.where(shared, g.sum(0), g)


def _spread_joint(w: Work, kind: str, free: Tensor, shared: Tensor, relative: bool) -> Spread:
    """Covariance of fits that share parameters: each sees its own and the common ones."""
    s = w.state
    both = free[:, :, None] & free[:, None, :]
    eye = torch.diag_embed((~free).to(s.beta.dtype))
    plain = arrow = eliminate_arrow(torch.where(both, s.sums.A, 0.0) + eye, shared)
    p, M = s.beta.shape[1], s.sums.A
    if kind != "expected":
        exact = w.field.exactly(s.beta, w.u, w.kept)[1]
        arrow, M = eliminate_arrow(torch.where(both, exact.H, 0.0) + eye, shared), exact.M
    cov, alone = covariance(arrow, p), torch.zeros_like(free)
    if kind in FROM_RESIDUALS:
        known = torch.where(both, covariance(plain, p), 0.0)
        M, moved = meat(
            w,
            kind,
            torch.eye(p, dtype=torch.float64, device="cpu").to(s.beta).expand(len(free), p, p),
            relative,
            known,
        )
        alone = moved > BLIND**2 * known.diagonal(dim1=-2, dim2=-1)
    if kind == "propagated" or kind in FROM_RESIDUALS:
        cov = between(arrow, torch.where(both, M, 0.0))
    cov = torch.where(both, cov, 0.0)
    size = arrow.outer.diagonal().sqrt()
    e = torch.linalg.eigvalsh((arrow.outer / (size[:, None] * size)).nan_to_num())
    condition = (e[-1] / e[0]).sqrt().expand(len(cov))
    rank = free.sum(-1) - (~arrow.safe).to(torch.int64)
    lost = ((~arrow.safe).expand(free.shape) | alone) & free
    return Spread(clear(cov, free, lost), rank, condition, torch.zeros_like(s.beta), free)


def basis_at(w: Work, free: Tensor) -> Basis:
    """Diagonalise the information about free parameters, from the Jacobian where that needs it."""
    s = w.state
    A = torch.where(free[:, :, None] & free[:, None, :], s.sums.A, 0.0)
    D = A.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    basis = basis_of_normal(A.nan_to_num(0.0, 0.0, 0.0), torch.zeros_like(s.sums.g), D)
    eye = torch.diag_embed((~free | (D == 0)).to(A.dtype))
    safe = solve(A + eye, s.sums.g).safe
    hard = torch.nonzero(~safe & torch.isfinite(A).all(-1).all(-1))[:, 0]
    if not len(hard):
        return _seen(basis)
    p = s.beta.shape[1]
    R = torch.stack([w.field.factor(s.beta, w.u, w.kept, int(i))[:p, :p] for i in hard.tolist()])
    R = R * free[hard][:, None, :]
    exact = basis_of_factor(R, torch.zeros_like(R[:, 0]), D[hard], w.field.sizes[hard])
    return _seen(Basis(*(a.index_copy(0, hard, b) for a, b in zip(basis, exact, strict=True))))


def _seen(basis: Basis) -> Basis:
    """Write 0 for eigenvalues that are rounding error."""
    return basis._replace(e=torch.where(basis.e > basis.floor, basis.e, 0.0))


def _relevant(basis: Basis, free: Tensor) -> Tensor:
    """Directions (G, p) that are not merely a parameter held at its bound."""
    return (basis.V.square() * free[:, :, None]).sum(1) > 0.5


def _expected(basis: Basis, free: Tensor) -> Tensor:
    known = basis.e > 0
    inverse = torch.where(known, 1 / basis.e, 0.0)
    cov = (basis.V * inverse[:, None, :]) @ basis.V.mT
    cov = cov / (basis.scale[:, :, None] * basis.scale[:, None, :])
    blind = ~known & _relevant(basis, free)
    lost = ((basis.V.square() * blind[:, None, :]).sum(-1) > BLIND**2) & free
    return clear(cov, free, lost)


def clear(cov: Tensor, free: Tensor, lost: Tensor) -> Tensor:
    """Write 0 where a parameter is held and, on the diagonal, inf where nothing is known."""
    cov = torch.where(free[:, :, None] & free[:, None, :], cov, 0.0)
    cov = torch.where(lost[:, :, None] | lost[:, None, :], torch.nan, cov)
    diagonal = torch.where(lost, torch.inf, cov.diagonal(dim1=-2, dim2=-1))
    return torch.diagonal_scatter(cov, diagonal, dim1=-2, dim2=-1)


def exact_along(w: Work, free: Tensor, basis: Basis) -> tuple[Tensor, Tensor, NewtonSums]:
    """Return unit directions ``T`` (G, p, p) of the expected information, and the exact one there.

    Along them the expected information is 1, and nothing cancels. What nothing is known of has 1 on
    the diagonal of the matrix (G, p, p) that comes second.
    """
    s = w.state
    known = basis.e > 0
    T = basis.V * torch.where(known, basis.e, 1.0).rsqrt()[:, None, :] / basis.scale[:, :, None]
    T = torch.where(free[:, :, None], T, 0.0)
    dead = torch.diag_embed(~(known & _relevant(basis, free))).to(T)
    return T, dead, w.field.exactly(s.beta, w.u, w.kept, T)[1]


def _exact(w: Work, kind: str, free: Tensor, basis: Basis, relative: bool) -> Tensor:
    """Invert the exact information in the directions of the expected one, where nothing cancels."""
    known, alone = basis.e > 0, torch.zeros_like(free)
    T, dead, sums = exact_along(w, free, basis)
    inverse = torch.linalg.inv_ex(sums.H + dead)[0]
    if kind == "propagated":
        inverse = inverse @ sums.M @ inverse
    elif kind in FROM_RESIDUALS:
        middle, moved = meat(w, kind, T, relative)
        inverse = inverse @ middle @ inverse
        alone = moved > BLIND**2 * T.square().sum(-1)
    cov = T @ inverse @ T.mT
    cov = (cov + cov.mT) / 2
    blind = ~known & _relevant(basis, free)
    lost = ~(torch.isfinite(cov).all(-1) & (cov.diagonal(dim1=-2, dim2=-1) > 0))
    lost = lost | alone | ((basis.V.square() * blind[:, None, :]).sum(-1) > BLIND**2)
    return clear(cov, free, lost & free)
