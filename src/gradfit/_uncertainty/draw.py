r"""New data sets that look like the one that was fitted.

``pairs``
    Points drawn with replacement, whole, with their errors.
``residual``
    The fitted curve stays, and so do its foot points. In whitened coordinates the error of a point
    is drawn from the normal distribution, except for its part across the curve, which is the only
    one that a fit can see: there it takes a standardised residual of another point, divided by
    :math:`\sqrt{1 - h}` and centred. Without errors in x this is the residual bootstrap of
    regression.
``parametric``
    Normal errors of the given size around the foot points.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 9.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._engine.covariance import spread
from gradfit._engine.eliminate import Linear
from gradfit._engine.points import Points, times
from gradfit._uncertainty.refit import repeat
from gradfit._uncertainty.restate import Case
from gradfit.errors import InputError

KINDS = ("pairs", "residual", "parametric")


class Draw(NamedTuple):
    """Points of some data sets, and foot points (mu, N) to begin with."""

    points: Points
    u0: Tensor


def drawer(case: Case, kind: str, scale: float, rng: np.random.Generator) -> Callable[[int], Draw]:
    """Return what draws a number of data sets.

    Parameters
    ----------
    case : Case
    kind : "pairs", "residual" or "parametric"
    scale : float
        Factor of the sigmas.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        Unknown kind, or points that share errors and cannot be drawn one by one.
    """
    if kind not in KINDS:
        raise InputError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}.")
    if kind != "parametric" and case.problem.systematic is not None:
        raise InputError(
            f"`kind` {kind!r} draws points one by one, but these share errors. "
            "Use kind='parametric'."
        )
    if kind == "pairs":
        return lambda count: _pairs(case, count, rng)
    curve = _Curve(case)
    if kind == "parametric":
        return lambda count: curve.parametric(count, scale, rng)
    return lambda count: curve.residual(count, scale, rng)


def _pairs(case: Case, count: int, rng: np.random.Generator) -> Draw:
    index = torch.from_numpy(rng.integers(0, case.n, (count, case.n)))
    return Draw(repeat(case, index), case.work.u[:, index.reshape(-1)])


class _Curve:
    """The fitted curve, its foot points, and what lies across it in whitened coordinates."""

    def __init__(self, case: Case) -> None:
        points = case.problem.points
        self.case = case
        parts = list(case.work.field.linears(case.beta, case.work.u, case.work.kept))
        linear = Linear(*(torch.cat(each, -1) for each in zip(*(p for _, p in parts), strict=True)))
        self.linear = linear
        self.x = points.x_hat(case.work.u)
        self.every = torch.arange(case.n, dtype=torch.int64, device="cpu")
        with torch.no_grad():
            columns = case.beta.mT.expand(-1, case.n).unbind()
            self.y = None if points.y is None else case.work.field.fn(self.x, columns)

    def parametric(self, count: int, scale: float, rng: np.random.Generator) -> Draw:
        """Draw normal errors, and new values of errors that points share."""
        hidden = self.case.beta.shape[1] - self.case.p
        n, k = self.case.n, self.linear.u.shape[0] + self._slacks()
        z = scale * torch.from_numpy(rng.standard_normal((count, k * n + hidden)))
        return self._points(z[:, : k * n].reshape(count, k, n).transpose(0, 1), z[:, k * n :])

    def residual(self, count: int, scale: float, rng: np.random.Generator) -> Draw:
        """Draw standardised residuals across the curve and normal errors along it."""
        h, normal = self._across()
        n = h.shape[1]
        k = self.linear.u.shape[0] + self._slacks()
        e = scale * torch.from_numpy(rng.standard_normal((count, k, n))).transpose(0, 1)
        picked = torch.from_numpy(rng.integers(0, n, (count, n)))
        across = self._drawn(h, picked, rng) - torch.einsum("qkn,kcn->qcn", normal, e)
        return self._points(e + torch.einsum("qkn,qcn->kcn", normal, across), e.new_zeros(count, 0))

    def _drawn(self, h: Tensor, picked: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the residuals (q, B, N) of the points that were picked (B, N).

        Where a point has no such residual, for nobody measured that response, the residual is that
        of yet another point.
        """
        drawn = h[:, picked]
        if self.case.problem.data.missing is None:
            return drawn
        for row, seen, all_of_it in zip(drawn, self.case.measured, h, strict=True):
            lacking = ~seen[picked]
            if bool(seen.any()):
                at = rng.integers(0, int(seen.sum()), int(lacking.sum()))
                row[lacking] = all_of_it[seen][torch.from_numpy(at)]
        return drawn

    def _slacks(self) -> int:
        return 0 if self.y is None else self.y.shape[0]

    def _across(self) -> tuple[Tensor, Tensor]:
        """Return residuals (q, N) of unit variance, and unit normals (q, k, N) of the curve.

        With ``C`` the factor of ``s + J_u J_u^T`` the normals are the rows of ``C^-1 [J_u, -1]``.
        """
        case, linear = self.case, self.linear
        with torch.enable_grad():
            C = spread(case.work, "expected", case.problem.limits()).cov[0]
        leverage = torch.einsum("qpn,pr,qrn->qn", linear.J, C, linear.J)
        h = -linear.h / (1 - leverage).clamp(min=1e-12).sqrt()
        h = centred(h, case.measured)
        if self.y is None:
            return -h, linear.K
        # K K^T = 1 - C^-1 C^-T, and C^-1 is lower triangular.
        q = self.y.shape[0]
        rest = torch.eye(q, dtype=torch.float64, device="cpu")[..., None].to(h) - torch.einsum(
            "qmn,rmn->qrn", linear.K, linear.K
        )
        lower = torch.linalg.cholesky(rest.permute(2, 0, 1)).permute(1, 2, 0)
        return h, torch.cat([-linear.K, lower], 1)

    def _points(self, e: Tensor, t: Tensor) -> Draw:
        """Shake the curve by whitened errors ``e`` (k, B, N) and shared ones ``t`` (B, K)."""
        case, points = self.case, self.case.problem.points
        count, n = e.shape[1:]
        again = repeat(case, self.every.expand(count, n))
        e = e.reshape(e.shape[0], -1)
        mu = self.linear.u.shape[0]
        x = self.x.repeat(1, count)
        x[list(points.rows)] += again.shift_x(e[:mu])
        y = None
        if self.y is not None and points.weight_y is not None:
            y = self.y.repeat(1, count) + _unweighted(again, e)
        x, y = self._shifted(x, y, t)
        return Draw(again._replace(x=x, y=y), -e[:mu])

    def _shifted(self, x: Tensor, y: Tensor | None, t: Tensor) -> tuple[Tensor, Tensor | None]:
        systematic = self.case.problem.systematic
        if systematic is None:
            return x, y
        m = self.x.shape[0] - len(systematic.sizes)
        old = self.case.beta[0, self.case.p :]
        k = m + self._slacks()
        steps = torch.cat([systematic.shift(row[:, None], k) for row in t - old], 1)
        moved = x.clone()
        moved[:m] += steps[:m]
        return moved, None if y is None else y + steps[m:]


def _unweighted(points: Points, e: Tensor) -> Tensor:
    """Return errors of y (q, N): ``W^-1 (e_y + C e_x)``."""
    mu = points.scale_x.shape[-2] if points.scale_x.ndim == 3 else points.scale_x.shape[0]
    white = e[mu:]
    if points.cross is not None:
        white = white + (points.cross * e[None, :mu]).sum(1)
    W: Any = points.weight_y
    if W.ndim == 2:
        # A response that nobody measured has no weight, and any error will do.
        return white / torch.where(W == 0, 1.0, W)
    W = W + torch.diag_embed((W == 0).all(1).mT.to(W)).permute(1, 2, 0)
    return times(torch.linalg.inv(W.permute(2, 0, 1)).permute(1, 2, 0), white)


def centred(h: Tensor, measured: Tensor) -> Tensor:
    """Take the mean over what was measured off residuals (q, N), and leave 0 elsewhere."""
    count = measured.sum(1, keepdim=True).clamp(min=1)
    return torch.where(measured, h - (h * measured).sum(1, keepdim=True) / count, 0.0)
