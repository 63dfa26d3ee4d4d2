r"""How a solution moves with its data: implicit differentiation through the graph.

The parameters solve :math:`\partial_\beta L = \partial_w L = 0`, with the foot point and the
multipliers of a point in :math:`w = (u, \nu)` and

.. math::  L = \sum_i \tfrac12 |u_i|^2 + \nu_i^T r_i(u_i, \beta; d_i) - \tfrac{s}{2} |\nu_i|^2 .

Data, standard deviations and correlations :math:`d` enter through :math:`r` alone. Along
:math:`w` eliminated, :math:`X = L_{ww}^{-1} L_{w\beta}`, half the gradient of chi-square moves as

.. math::  m(d) = L_\beta(d) - X^T L_w(d), \qquad \frac{d\beta}{dd} = -H^{-1} \frac{dm}{dd} ,

with the observed information :math:`H`. Here :math:`m` is written down as a function of the points,
so that its derivative by anything they were made from is one more backward pass.
"""

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear, multipliers, solve_bordered
from gradfit._engine.field import Field, Stretch
from gradfit._engine.linearize import curve, derive, residual
from gradfit._engine.loss import Loss
from gradfit._engine.points import Function, Points, squares, vector_times


def coupling(field: Field, s: Stretch, linear: Linear, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the multipliers (q, N) and ``X`` (mu + q, p, N) of one stretch at the solution."""
    columns = field.columns(s, beta)
    d = derive(s.points, field.fn, linear.u, columns)
    nu = multipliers(s.points, linear, d.J_u)
    curvature = curve(s.points, field.fn, linear.u, columns, nu)
    X = solve_bordered(s.points, linear.u, d, curvature)
    return nu, X[:, : columns.shape[0]]


def pull(
    points: Points,
    fn: Function,
    at: tuple[Tensor, Tensor, Tensor, Tensor],
    loss: Loss | None = None,
) -> Tensor:
    """Return ``m`` (p, N) of every point as a function of the tensors in ``points``.

    Parameters
    ----------
    points : Points
        Observations; whatever of them requires gradients can be differentiated by.
    fn : callable
        The model.
    at : tuple of Tensor
        Foot points ``u`` (mu, N), multipliers (q, N), ``X`` (mu + q, p, N) and the parameters of
        every point (p, N | 1), at the solution.
    loss : Loss or None
    """
    u, nu, X, columns = (t.detach() for t in at)
    mu, n = u.shape[0], points.n
    leaves = [u.clone(), nu.clone(), columns.expand(-1, n).clone()]
    for leaf in leaves:
        leaf.requires_grad_()
    u, nu, beta = leaves
    r = residual(points, fn(points.x_hat(u), beta.unbind()), u)
    L = (squares(u) if mu else 0.0) / 2 + (nu * r).sum(0) - points.slack / 2 * squares(nu)
    L_u, L_nu, L_beta = torch.autograd.grad(
        L.sum(), leaves, create_graph=True, materialize_grads=True
    )
    m = L_beta - vector_times(torch.cat([L_u, L_nu]), X)
    return m if loss is None else loss.weight(2 * L) * m
