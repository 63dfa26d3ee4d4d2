"""Shapes in the plane: line, circle, ellipse, conic."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradfit._data.synonyms import understood
from gradfit._result import FitResult, FitTable
from gradfit.graph.surroundings import undisturbed
from gradfit.shapes import _charts, _models, _tell
from gradfit.shapes._kinds import Brink, Limit, Shape, Vague
from gradfit.shapes._points import CovType, NanPolicy, gather_points
from gradfit.shapes._run import Asked, fit_shape
from gradfit.shapes._starts import reseat_conic, seed_circle, seed_conic, seed_ellipse, seed_line2

_LINE = Shape(_models.LINE2D, _charts.FLAT2, seed_line2, _tell.line2d)
_CIRCLE = Shape(
    _models.CIRCLE,
    _charts.ROUND2,
    seed_circle,
    _tell.circle,
    (Limit(lambda b: b[2], "a straight line"),),
)


def _to_parabola(beta: Tensor) -> Tensor:
    """Keep the larger curvature of a conic and drop the other."""
    s, alpha, p, q, r = beta.mT
    e, V = torch.linalg.eigh(torch.stack([torch.stack([p, q], -1), torch.stack([q, r], -1)], -2))
    k = e.abs().argmax(1)
    size = e.gather(1, k[:, None])[:, 0]
    along = V.gather(2, k[:, None, None].expand(-1, 2, 1))[..., 0]
    # A parabola is written as a square plus a distance: turn the normal where it is negative.
    alpha = torch.where(size < 0, alpha + torch.pi, alpha)
    s = torch.where(size < 0, -s, s)
    return torch.stack([s, alpha, *(along.mT * size.abs().sqrt())], 1)


def _from_parabola(beta: Tensor) -> Tensor:
    s, alpha, p, q = beta.mT
    return torch.stack([s, alpha, p * p, p * q, q * q], 1)


def _bend(beta: Sequence[Tensor]) -> Tensor:
    """Return the curvature of a conic where it passes; without, it holds its tangent as a line."""
    _, alpha, p, q, r = beta
    n = _charts.normal_of(alpha)
    return p * n[1] * n[1] - 2 * q * n[0] * n[1] + r * n[0] * n[0]


_LINES = Limit(_bend, "a pair of straight lines")
_ELLIPSE = Shape(
    _models.ELLIPSE,
    _charts.CONIC2,
    seed_ellipse,
    _tell.ellipse,
    (Limit(lambda b: b[2] * b[4] - b[3] * b[3], "a parabola", True, _LINES),),
    brink=Brink(_charts.PARABOLA2, _to_parabola, _from_parabola),
    reseat=reseat_conic,
    vague=Vague(4, larger=2, smaller=3),
)
_CONIC = Shape(
    _models.CONIC,
    _charts.CONIC2,
    seed_conic,
    _tell.conic,
    (Limit(lambda b: (b[2] * b[2] + 2 * b[3] * b[3] + b[4] * b[4]).sqrt(), "a straight line"),),
    reseat=reseat_conic,
)


@understood
@undisturbed
def line2d(
    x: Any = None,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    *,
    data: Any = None,
    cov: Any = None,
    groups: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    nan_policy: NanPolicy = "raise",
    max_steps: int = 500,
) -> FitResult | FitTable:
    r"""Fit a straight line of any direction, vertical included.

    .. math::  y \cos\theta - x \sin\theta = d

    Parameters
    ----------
    x, y : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (2, N).
    sx, sy : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (2, 2) or (N, 2, 2).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With ``angle``, the direction in radians from -pi/2 (excluded) to pi/2, and ``offset``, the
        distance from the origin to the line, positive where the line passes left of the origin as
        seen along its direction.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.shapes.line2d([3.0, 3.1, 2.9, 3.0], [0, 1, 2, 3])
    >>> print(f"{fit.params['angle']:.4f} {fit.params['offset']:.4f}")
    -1.5507 3.0295
    """
    given = gather_points(
        (x, y), (sx, sy), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_LINE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def circle(
    x: Any = None,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    *,
    data: Any = None,
    cov: Any = None,
    groups: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    nan_policy: NanPolicy = "raise",
    max_steps: int = 500,
) -> FitResult | FitTable:
    r"""Fit a circle to points, by their true distance from it.

    .. math::  \min \sum_i \left(\sqrt{(x_i - x_0)^2 + (y_i - y_0)^2} - r\right)^2

    for equal errors; in general the distance in units of sigma. It is begun with Taubin's circle
    and fitted by its curvature, which may vanish, so that short arcs are safe. Points that do not
    bend end with ``Status.DEGENERATE``.

    Parameters
    ----------
    x, y : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (2, N).
    sx, sy : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (2, 2) or (N, 2, 2).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the centre ``x0``, ``y0`` and the ``radius``.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Chernov and Lesort, J. Math. Imaging Vis. 23 (2005) 239.

    Examples
    --------
    Six points of Gander, Golub and Strebel:

    >>> import gradfit as gf
    >>> fit = gf.shapes.circle([1, 2, 5, 7, 9, 3], [7, 6, 8, 7, 5, 7])
    >>> print(f"{fit.params['x0']:.4f} {fit.params['y0']:.4f} {fit.params['radius']:.4f}")
    4.7398 2.9835 4.7142
    """
    given = gather_points(
        (x, y), (sx, sy), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_CIRCLE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def ellipse(
    x: Any = None,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    *,
    data: Any = None,
    cov: Any = None,
    groups: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    nan_policy: NanPolicy = "raise",
    max_steps: int = 500,
) -> FitResult | FitTable:
    r"""Fit an ellipse to points, by their true distance from it.

    .. math::  \frac{u^2}{a^2} + \frac{v^2}{b^2} = 1, \qquad
               u + iv = \left((x - x_0) + i (y - y_0)\right) e^{-i\theta}

    It is begun with the direct ellipse fit, with Taubin's conic and with a circle, and fitted as a
    conic, for which nothing happens where it opens. Where parabolas or two straight lines fit
    better than any ellipse near by, the status is ``Status.DEGENERATE``.

    Parameters
    ----------
    x, y : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (2, N).
    sx, sy : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (2, 2) or (N, 2, 2).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the centre ``x0``, ``y0``, the half axes ``a >= b``, and ``angle``, the direction of
        the longer one in radians from -pi/2 (excluded) to pi/2. Its standard error is infinite
        where the half axes differ by less than three standard errors: any direction would do.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Halir and Flusser, Proc. WSCG (1998) 125.
    .. [2] Gander, Golub and Strebel, BIT 34 (1994) 558.

    Examples
    --------
    Eight points of Gander, Golub and Strebel:

    >>> import gradfit as gf
    >>> fit = gf.shapes.ellipse([1, 2, 5, 7, 9, 3, 6, 8], [7, 6, 8, 7, 5, 7, 2, 4])
    >>> print(f"{fit.params['a']:.4f} {fit.params['b']:.4f} {fit.params['angle']:.4f}")
    6.5187 3.0319 0.3596
    """
    given = gather_points(
        (x, y), (sx, sy), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_ELLIPSE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def conic(
    x: Any = None,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    *,
    data: Any = None,
    cov: Any = None,
    groups: Any = None,
    loss: str | tuple[str, float] = "linear",
    absolute_sigma: bool | None = None,
    cov_type: CovType = "expected",
    nan_policy: NanPolicy = "raise",
    max_steps: int = 500,
) -> FitResult | FitTable:
    r"""Fit a conic of any kind to points, by their true distance from it.

    .. math::  A x^2 + B x y + C y^2 + D x + E y + F = 0, \qquad A^2 + B^2/2 + C^2 = 1

    An ellipse where :math:`B^2 < 4AC`, a hyperbola where :math:`B^2 > 4AC`.

    Parameters
    ----------
    x, y : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (2, N).
    sx, sy : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (2, 2) or (N, 2, 2).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the coefficients ``A`` to ``F``, one of which follows from the others; ``A + C >= 0``.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Bookstein, Comput. Graph. Image Process. 9 (1979) 56, for the normalisation.

    Examples
    --------
    Points of the hyperbola ``x*y = 1``, rounded:

    >>> import gradfit as gf
    >>> x = [0.3, 0.6, 0.9, 1.4, 2.2, 3.1]
    >>> fit = gf.shapes.conic(x, [3.333, 1.667, 1.111, 0.714, 0.455, 0.323])
    >>> print(f"{fit.params['B']:.1f} {fit.params['F']:.1f}")
    1.4 -1.4
    """
    given = gather_points(
        (x, y), (sx, sy), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_CONIC, given, Asked(loss, absolute_sigma, cov_type, max_steps))
