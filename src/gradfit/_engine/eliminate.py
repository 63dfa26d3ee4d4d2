r"""Foot points eliminated point by point: what is left is p-by-p per fit.

Linearised at a foot point, a residual moves as :math:`r + J_u\,du + J_\beta\,d\beta`. With
:math:`S = s + J_u J_u^T = C C^T` (q by q) and :math:`h = r - J_u u`, minimising over ``du`` at
fixed :math:`d\beta` leaves

.. math::  |\tilde h + \tilde J\,d\beta|^2, \qquad \tilde h = C^{-1} h,\quad
           \tilde J = C^{-1} J_\beta,\quad \tilde K = C^{-1} J_u ,

and the foot point follows as :math:`u = -\tilde K^T (\tilde h + \tilde J\,d\beta)`. What the foot
point itself still has to move, at fixed parameters, is *tangential*,
:math:`t = u + \tilde K^T \tilde h`; it costs :math:`|t|^2 + s|J_u t|^2`.

Britt and Luecke, Technometrics 15 (1973) 233; Boggs, Byrd and Schnabel, SIAM J. Sci. Stat.
Comput. 8 (1987) 1052.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._engine.linearize import Curvature, Derivatives
from gradfit._engine.loss import Loss
from gradfit._engine.points import (
    Grouping,
    Points,
    minus_times,
    row_squares,
    squares,
    times_vector,
    vector_times,
)


class Linear(NamedTuple):
    """One stretch of points, linearised and whitened.

    Attributes
    ----------
    u : Tensor (mu, N)
        Foot points.
    heads : Tensor (q, p + 2, N)
        ``J = C^-1 dr/dbeta``, then ``h``: what the parameters can still explain. Last, a row whose
        squares add up to what moving the foot point alone takes away of the squared distance.
    K : Tensor (q, mu, N)
        ``C^-1 dr/du``.
    r : Tensor (q, N)
        Residual.
    """

    u: Tensor
    heads: Tensor
    K: Tensor
    r: Tensor

    @property
    def J(self) -> Tensor:
        """``C^-1 dr/dbeta`` (q, p, N)."""
        return self.heads[:, :-2]

    @property
    def h(self) -> Tensor:
        """``C^-1 (r - J_u u)`` (q, N)."""
        return self.heads[:, -2]

    @property
    def tangent(self) -> Tensor:
        """The part of the squared distance (N,) that moving the foot point alone takes away."""
        return squares(self.heads[:, -1])

    @property
    def phi(self) -> Tensor:
        """Squared distance ``|u|^2 + s |r|^2`` (N,), as its two perpendicular parts."""
        return squares(self.heads[:, -2:].flatten(0, 1))


class Numbers(NamedTuple):
    """The sums of one fit as Python's numbers, and the diagonal of ``gram`` (p + 2)."""

    gram: list[list[float]]
    diagonal: list[float]

    @property
    def cost(self) -> float:
        """chi-square, or the robust loss."""
        return self.diagonal[-2] + self.diagonal[-1]

    @property
    def tangent(self) -> float:
        """The part of it that moving the foot points alone takes away."""
        return self.diagonal[-1]


class Sums:
    """What the points of a fit add up to.

    Attributes
    ----------
    gram : Tensor (G, p + 2, p + 2)
        Products of the rows of :attr:`Linear.heads`: the normal matrix, bordered by half the
        gradient of the cost, on whose diagonal follow the two parts of the cost. The last row has
        nothing to say beside the diagonal.
    """

    def __init__(self, gram: Tensor) -> None:
        self.gram = gram
        self._numbers: Numbers | None = None

    @property
    def numbers(self) -> Numbers:
        """The same as numbers, read once, where there is one fit only."""
        if self._numbers is None:
            gram = self.gram.tolist()[0]
            self._numbers = Numbers(gram, [row[i] for i, row in enumerate(gram)])
        return self._numbers

    @property
    def cost(self) -> Tensor:
        """chi-square (G,), or the robust loss."""
        return self.gram[:, -2, -2] + self.gram[:, -1, -1]

    @property
    def tangent(self) -> Tensor:
        """The part (G,) of the cost that moving the foot points alone takes away."""
        return self.gram[:, -1, -1]

    @property
    def A(self) -> Tensor:
        """Normal matrix (G, p, p)."""
        return self.gram[:, :-2, :-2]

    @property
    def g(self) -> Tensor:
        """Half the gradient (G, p) of the cost."""
        return self.gram[:, -2, :-2]

    @property
    def diagonal(self) -> Tensor:
        """Squared length (G, p + 2) of every Jacobian column and, last, both parts of the cost."""
        return self.gram.diagonal(dim1=-2, dim2=-1)


def eliminate(points: Points, u: Tensor, d: Derivatives) -> Linear:
    """Eliminate the foot points of one stretch."""
    q, mu, _ = d.J_u.shape
    if not mu and points.slack:
        h = d.r[:, None]
        return Linear(u, torch.cat([d.J_beta, h, torch.zeros_like(h)], 1), d.J_u, d.r)
    if q == 1:
        weight = row_squares(d.J_u).add_(points.slack).rsqrt_()
        h, K = minus_times(d.r, d.J_u, u), d.J_u * weight
        if mu == 1 and points.slack:
            # In the plane of foot point and residual, what is left along the curve has one part.
            t = torch.addcmul(u, d.J_u, d.r)
            return Linear(u, torch.cat([d.J_beta, h, t], 1) * weight, K, d.r)
        heads = torch.cat([d.J_beta, h], 1) * weight
    else:
        h = minus_times(d.r[:, None], d.J_u, u)
        white = _whiten(points.slack, d.J_u, torch.cat([d.J_beta, h, d.J_u], 1))
        heads, K = white.split((white.shape[1] - mu, mu), 1)
    t = u + vector_times(heads[:, -1], K)
    tangent = squares(t)
    if points.slack:
        tangent = tangent + squares(times_vector(d.J_u, t))
    # One length says it all; the first response carries it.
    rest = torch.zeros_like(h)
    rest[0, 0] = tangent.sqrt()
    return Linear(u, torch.cat([heads, rest], 1), K, d.r)


def add_up(linear: Linear, grouping: Grouping, loss: Loss | None) -> Sums:
    """Sum one stretch over the points of each fit."""
    if loss is None:
        return Sums(grouping.gram(linear.heads, apart=1))
    phi = linear.phi
    gram = grouping.gram(linear.heads * loss.weight(phi).sqrt(), apart=1)
    gram[:, -2, -2] = grouping.sum(loss.value(phi)) - gram[:, -1, -1]
    return Sums(gram)


def _whiten(slack: float, J_u: Tensor, rows: Tensor) -> Tensor:
    """Apply ``C^-1`` per point, ``C`` the Cholesky factor of ``s + J_u J_u^T``, to (q, c, N).

    The rows of ``[J_u, sqrt(s)]`` are put at right angles one after the other: in the products of
    nearly parallel ones half of the digits would be lost.
    """
    q, _, n = J_u.shape
    if slack:
        eye = torch.eye(q, dtype=J_u.dtype, device=J_u.device)
        J_u = torch.cat([J_u, eye[:, :, None].expand(q, q, n)], 1)
    ways: list[Tensor] = []
    out: list[Tensor] = []
    for way, row in zip(J_u, rows, strict=True):
        for other, white in zip(ways, out, strict=True):
            share = vector_times(other, way[:, None])[0]
            way, row = way - share * other, row - share * white
        weight = squares(way).rsqrt()
        ways.append(way * weight)
        out.append(row * weight)
    return torch.stack(out)


def advance(linear: Linear, grouping: Grouping, back: Tensor) -> Tensor:
    """Return the next foot points ``u``; ``back`` (G, p + 2) is minus the step, then -1 and 0."""
    if not linear.u.shape[0]:
        return linear.u
    return vector_times(grouping.along(linear.heads, back), linear.K)


def advance_alone(linear: Linear, share: Tensor) -> Tensor:
    """Return foot points moved by a share (N,) of their own correction, parameters standing."""
    return (1 - share) * linear.u - share * vector_times(linear.h, linear.K)


class Newton(NamedTuple):
    """One stretch of points with the second derivatives eliminated.

    The step of a point is ``du = -(X0 + X db)``; ``X0`` (mu, N), ``X`` (mu, p, N).
    """

    X0: Tensor
    X: Tensor


class NewtonSums(NamedTuple):
    """The reduced Newton system of each fit: ``H db = b``, and the reduction ``c + d db``.

    Attributes
    ----------
    H : Tensor (G, p, p)
        Half the exact second derivatives of chi-square, the observed information.
    b : Tensor (G, p)
    c : Tensor (G,)
    d : Tensor (G, p)
    M : Tensor (G, p, p)
        How errors of unit variance in every coordinate shake the gradient: ``H^-1 M H^-1`` is the
        covariance of the data carried through the estimator. Of a robust loss each point counts as
        much as its weight (:mod:`gradfit._engine.robust`).
    """

    H: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    M: Tensor


def multipliers(points: Points, linear: Linear, J_u: Tensor) -> Tensor:
    r"""Return the Lagrange multipliers (q, N), :math:`S^{-1} (r - J_u u)`.

    At its foot a point has :math:`\nu = r` if the model is explicit. Where y is far more precise
    than x, :math:`r` is the small difference of two large numbers and mostly rounding error; as
    what the foot itself has moved the multipliers keep their digits.
    """
    q, mu, n = J_u.shape
    if not mu and points.slack:
        return linear.r
    eye = torch.eye(q, dtype=J_u.dtype, device=J_u.device)[:, :, None].expand(q, q, n)
    inverse = _whiten(points.slack, J_u, eye)
    return vector_times(linear.h, inverse)


def eliminate_exactly(
    points: Points,
    linear: Linear,
    d: Derivatives,
    curvature: Curvature,
    grouping: Grouping,
    loss: Loss | None,
) -> tuple[Newton, NewtonSums]:
    r"""Eliminate the foot points from the full Newton system of one stretch.

    Per point the unknowns are :math:`(du, d\nu)` in

    .. math::  \begin{pmatrix} 1 + H_{uu} & J_u^T \\ J_u & -s \end{pmatrix}
               \begin{pmatrix} du \\ d\nu \end{pmatrix} =
               -\begin{pmatrix} u + J_u^T \nu \\ r - s\,\nu \end{pmatrix}
               -\begin{pmatrix} H_{u\beta} \\ J_\beta \end{pmatrix} d\beta ,

    solved with pivoting, since its upper block may be singular at a perfectly good foot point. The
    multipliers are counted from those at hand, so that all on the right vanishes at the end of a
    fit: of the whole :math:`u` only rounding error would be left there.
    """
    X = solve_bordered(points, linear.u, d, curvature)
    mu, p = linear.u.shape[0], d.J_beta.shape[1]
    nu = d.r if points.slack else curvature.nu
    coupling = torch.cat([curvature.ub, d.J_beta])
    # The reduction of the Lagrangian: leaving the curve a little must count for nothing.
    lean, off = rest_of(points, linear.u, d, curvature)
    slope = torch.cat([lean, -off])[:, None]
    noisy = X[:, :p] if points.slack else X[:mu, :p]
    if loss is not None:
        weight = loss.weight(linear.phi)
        coupling, slope, noisy = coupling * weight, slope * weight, noisy * weight.sqrt()
        nu = nu * weight
        score = vector_times(linear.h, d.J_beta if not mu else linear.J)
        bent = 2 * loss.bend(linear.phi) * score[:, None] * score
        curvature = curvature._replace(bb=curvature.bb * weight + bent)
    bb = grouping.sum(curvature.bb).permute(2, 0, 1)
    g = grouping.cross(nu[:, None], d.J_beta)[:, 0]
    sums = NewtonSums(
        bb - grouping.cross(coupling, X[:, :p]),
        grouping.cross(coupling, X[:, p:])[..., 0] - g,
        grouping.cross(slope, X[:, p:])[:, 0, 0],
        grouping.cross(slope, X[:, :p])[:, 0] - g,
        grouping.gram(noisy) if len(noisy) else torch.zeros_like(bb),
    )
    return Newton(X[:mu, p], X[:mu, :p]), sums


def solve_small(K: Tensor, B: Tensor) -> Tensor:
    """Solve ``K X = B`` per point: K (k, k, N) symmetric, B (k, c, N)."""
    if K.shape[0] == 1:
        return B / K[0]
    if K.shape[0] == 2:
        a, b, d = K[0, 0], K[0, 1], K[1, 1]
        det = a * d - b * b
        return torch.stack([(B[0] * d - B[1] * b) / det, (B[1] * a - B[0] * b) / det])
    points_first = torch.linalg.solve_ex(K.permute(2, 0, 1), B.permute(2, 0, 1))[0]
    return points_first.permute(1, 2, 0)


def solve_bordered(points: Points, u: Tensor, d: Derivatives, curvature: Curvature) -> Tensor:
    """Solve the Newton system of every point for ``[H_ub, J_beta]`` and what is left of the foot.

    Returns (mu + q, p + 1, N). Each equation is written in units of its own variance,
    ``s + |J_u|^2``, so that pivots may be compared however precise y is beside x.
    """
    q, mu, n = d.J_u.shape
    p = d.J_beta.shape[1]
    slack = points.slack
    unit = (row_squares(d.J_u) if mu else torch.zeros_like(d.r)[:, None]).add(slack).rsqrt()
    J_u = d.J_u * unit
    K = u.new_zeros(mu + q, mu + q, n)
    K[:mu, :mu] = curvature.uu
    K[:mu, mu:] = J_u.transpose(0, 1)
    K[mu:, :mu] = J_u
    K[:mu, :mu].diagonal().add_(1.0)
    K[mu:, mu:].diagonal().sub_(slack * unit[:, 0].square().mT)
    B = u.new_empty(mu + q, p + 1, n)
    B[:mu, :p] = curvature.ub
    B[mu:, :p] = d.J_beta * unit
    B[:mu, p], off = rest_of(points, u, d, curvature)
    B[mu:, p] = off * unit[:, 0]
    X = solve_small(K, B)
    return torch.cat([X[:mu], X[mu:] * unit]) if mu else X * unit


def rest_of(
    points: Points, u: Tensor, d: Derivatives, curvature: Curvature
) -> tuple[Tensor, Tensor]:
    """Return what foot (mu, N) and equation (q, N) still lack; 0 at the end of a fit."""
    # With slack what pulls at the foot is the residual itself.
    nu = d.r if points.slack else curvature.nu
    lean = u + vector_times(nu, d.J_u) if len(u) else u
    return lean, torch.zeros_like(d.r) if points.slack else d.r


def advance_exactly(linear: Linear, newton: Newton, db: Tensor) -> Tensor:
    """Return the next foot points after a Newton step ``db`` (p, N) or (p, 1)."""
    return linear.u - newton.X0 - times_vector(newton.X, db)
