r"""Parameters that all fits share: one joint step whose cost stays linear in the number of fits.

Ordered by fit, with the shared parameters last, the normal matrix is an arrow: a block for the own
parameters of every fit, and a border. Eliminating the blocks leaves a system of the shared
parameters alone,

.. math::  \Big(\sum_g A^{ss}_g - A^{sl}_g (A^{ll}_g)^{-1} A^{ls}_g\Big)\, d_s =
           -\sum_g \big(g^s_g - A^{sl}_g (A^{ll}_g)^{-1} g^l_g\big) ,

after which each fit finds its own.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Arrow(NamedTuple):
    """An eliminated arrow system.

    Attributes
    ----------
    own, shared : Tensor int64
        Positions of the parameters of each kind.
    Y : Tensor (G, l, s)
        ``A_ll^-1 A_ls``.
    inner : Tensor (G, l, l)
        ``A_ll^-1``.
    outer : Tensor (s, s)
        Inverse of the system of the shared parameters: their covariance.
    safe : Tensor () bool
        Whether every pivot was safely positive.
    """

    own: Tensor
    shared: Tensor
    Y: Tensor
    inner: Tensor
    outer: Tensor
    safe: Tensor


def eliminate_arrow(A: Tensor, shared: Tensor) -> Arrow:
    """Eliminate the own parameters of every fit from normal matrices (G, p, p)."""
    own, common = torch.nonzero(~shared)[:, 0], torch.nonzero(shared)[:, 0]
    A_ll, A_ls = A[:, own[:, None], own], A[:, own[:, None], common]
    L, info = torch.linalg.cholesky_ex(A_ll)
    Y = torch.cholesky_solve(A_ls, L)
    inner = torch.cholesky_inverse(L)
    S = (A[:, common[:, None], common] - A_ls.mT @ Y).sum(0)
    scale = S.diagonal().clamp(min=torch.finfo(S.dtype).tiny).sqrt()
    R, last = torch.linalg.cholesky_ex(S / (scale[:, None] * scale))
    outer = torch.cholesky_inverse(R) / (scale[:, None] * scale)
    safe = (info == 0).all() & (last == 0) & torch.isfinite(outer).all()
    return Arrow(own, common, Y, inner, outer, safe)


def solve_arrow(arrow: Arrow, g: Tensor) -> Tensor:
    """Return the joint step (G, p) for half gradients ``g`` (G, p); shared columns are equal."""
    g_own, g_shared = g[:, arrow.own], g[:, arrow.shared]
    rest = (g_shared - (arrow.Y.mT @ g_own[..., None])[..., 0]).sum(0)
    d_shared = -arrow.outer @ rest
    d_own = -(arrow.inner @ g_own[..., None])[..., 0] - arrow.Y @ d_shared
    d = torch.empty_like(g)
    d[:, arrow.own], d[:, arrow.shared] = d_own, d_shared.expand(len(g), -1)
    return d


def covariance(arrow: Arrow, p: int) -> Tensor:
    """Return the covariance (G, p, p) of the parameters that each fit sees."""
    G = arrow.Y.shape[0]
    out = arrow.outer.new_zeros(G, p, p)
    C = arrow.outer.expand(G, -1, -1)
    border = -arrow.Y @ C
    own, shared = arrow.own, arrow.shared
    out[:, own[:, None], own] = arrow.inner + arrow.Y @ C @ arrow.Y.mT
    out[:, own[:, None], shared] = border
    out[:, shared[:, None], own] = border.mT
    out[:, shared[:, None], shared] = C
    return out


def between(arrow: Arrow, B: Tensor) -> Tensor:
    """Return what each fit sees (G, p, p) of ``A^-1 B A^-1``, for ``B`` (G, p, p) by fits.

    With ``R_g`` the way of the parameters of a fit with the shared ones, ``-Y_g`` above 1, block
    ``(g, k)`` of the inverse is ``R_g C R_k^T``, and where ``g = k`` the inner block besides.
    """
    (G, p, _), own, shared = B.shape, arrow.own, arrow.shared
    R = B.new_zeros(G, p, len(shared))
    R[:, own], R[:, shared] = (
        -arrow.Y,
        torch.eye(len(shared), dtype=torch.float64, device="cpu").to(B),
    )
    inner = torch.zeros_like(B)
    inner[:, own[:, None], own] = arrow.inner
    C = arrow.outer
    common = C @ (R.mT @ B @ R).sum(0) @ C
    mixed = inner @ B @ R @ C @ R.mT
    return R @ common @ R.mT + mixed + mixed.mT + inner @ B @ inner


def pooled(values: Tensor) -> Tensor:
    """Give every fit the sum over all: fits that share a parameter are judged together."""
    return values.sum(0, keepdim=True).expand(values.shape[0])
