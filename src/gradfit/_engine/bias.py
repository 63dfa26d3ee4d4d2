r"""Bias of second order: what the curvature of a model does to the mean of its estimates.

Foot points are unknowns like the parameters, :math:`\eta = (\beta, u_1, u_2, \dots)`, fitted to
whitened data of unit variance, so that the bias of nonlinear least squares [1]_ applies to errors
in variables as it stands:

.. math::  \operatorname{E}\,\hat\eta - \eta \approx -\tfrac12 (F^T F)^{-1} F^T d, \qquad
           d_k = \operatorname{tr}\left( (F^T F)^{-1} \nabla^2 r_k \right) .

Only the residuals are curved, and each knows its own foot point alone, so that with the foot points
eliminated, ``d/2`` takes the place of the residual of each point in one Gauss-Newton step. For one
response the leading part of :math:`d` is :math:`f_{xx} s_x^2 s_y^2 / (s_y^2 + f_x^2 s_x^2)`: the
data lie beside the curve, and more of them do not help [2]_.

.. [1] Box, J. R. Stat. Soc. B 33 (1971) 171; Cook, Tsai and Wei, Biometrika 73 (1986) 615.
.. [2] Amemiya and Fuller, Ann. Stat. 16 (1988) 147.
"""

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear
from gradfit._engine.field import Stretch
from gradfit._engine.linearize import curve, derive
from gradfit._engine.state import Work


def second_order_bias(w: Work, cov: Tensor) -> Tensor:
    """Return the bias (G, p) of the unknowns of every fit.

    Parameters
    ----------
    w : Work
        At the solution; least squares, no robust loss.
    cov : Tensor (G, p, p)
        Expected covariance for sigmas as given; 0 where a parameter is held.
    """
    score = torch.zeros_like(w.state.beta)
    for s, linear in w.field.linears(w.state.beta, w.u, w.kept):
        columns = w.field.columns(s, w.state.beta)
        C = s.grouping.spread(cov.permute(1, 2, 0)).expand(-1, -1, s.points.n)
        d = _curved(w, s, linear, columns, C)
        white = _whitened(w, s, linear, columns, d)
        score = s.grouping.add(score, s.grouping.sum((linear.J * white[:, None]).sum(0)).mT)
    return -(cov @ score[..., None])[..., 0] / 2


def _curved(w: Work, s: Stretch, linear: Linear, columns: Tensor, C: Tensor) -> Tensor:
    """Return ``d`` (q, N): second derivatives along the covariance of foot point and parameters."""
    K, J = linear.K, linear.J
    mu = K.shape[1]
    # u = -K^T (h + J db): what is known of the foot point given the parameters, and through them.
    tied = torch.einsum("qmn,qpn->mpn", K, J)
    ub = -torch.einsum("mpn,prn->mrn", tied, C)
    eye = torch.eye(mu, dtype=K.dtype, device=K.device)[..., None]
    uu = eye - torch.einsum("qmn,qkn->mkn", K, K) - torch.einsum("mrn,krn->mkn", ub, tied)
    rows: list[Tensor] = []
    for j in range(linear.r.shape[0]):
        one = torch.zeros_like(linear.r)
        one[j] = 1.0
        H = curve(s.points, w.field.fn, linear.u, columns, one)
        rows.append((H.uu * uu).sum((0, 1)) + 2 * (H.ub * ub).sum((0, 1)) + (H.bb * C).sum((0, 1)))
    return torch.stack(rows)


def _whitened(w: Work, s: Stretch, linear: Linear, columns: Tensor, d: Tensor) -> Tensor:
    """Return ``C^-1 d`` with the factor ``C`` of ``s + J_u J_u^T`` that the linearisation used."""
    if not linear.u.shape[0] and s.points.slack:
        return d
    J_u = derive(s.points, w.field.fn, linear.u, columns, beta=False).J_u
    S = torch.einsum("qmn,rmn->nqr", J_u, J_u)
    S = S + s.points.slack * torch.eye(S.shape[1], dtype=S.dtype, device=S.device)
    lower = torch.linalg.cholesky_ex(S)[0]
    return torch.linalg.solve_triangular(lower, d.mT[..., None], upper=False)[..., 0].mT
