"""Shapes in space: plane, line, sphere, cylinder, cone."""

from typing import Any

from gradfit._data.synonyms import understood
from gradfit._result import FitResult, FitTable
from gradfit.graph.surroundings import undisturbed
from gradfit.shapes import _charts, _models, _tell
from gradfit.shapes._kinds import Limit, Shape
from gradfit.shapes._points import CovType, NanPolicy, gather_points
from gradfit.shapes._run import Asked, fit_shape
from gradfit.shapes._starts import (
    seed_cone,
    seed_cylinder,
    seed_line3,
    seed_plane,
    seed_sphere,
)

_PLANE = Shape(_models.PLANE, _charts.FLAT3, seed_plane, _tell.plane, wide=True)
_LINE = Shape(_models.LINE3D, _charts.STRAIGHT3, seed_line3, _tell.line3d, equations=2)
_SPHERE = Shape(
    _models.SPHERE,
    _charts.ROUND3,
    seed_sphere,
    _tell.sphere,
    (Limit(lambda b: b[3], "a plane"),),
    wide=True,
)
_CYLINDER = Shape(
    _models.CYLINDER,
    _charts.TUBE3,
    seed_cylinder,
    _tell.cylinder,
    (Limit(lambda b: b[4], "a plane"),),
    wide=True,
)
_CONE = Shape(
    _models.CONE,
    _charts.CONE3,
    seed_cone,
    _tell.cone,
    (Limit(lambda b: b[4], "a plane"), Limit(lambda b: b[5], "a cylinder")),
    wide=True,
)


@understood
@undisturbed
def plane(
    x: Any = None,
    y: Any = None,
    z: Any = None,
    sx: Any = None,
    sy: Any = None,
    sz: Any = None,
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
    r"""Fit a plane to points, by their distance from it.

    .. math::  n_x x + n_y y + n_z z = d, \qquad |n| = 1

    Parameters
    ----------
    x, y, z : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (3, N).
    sx, sy, sz : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (3, 3) or (N, 3, 3).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the unit normal ``nx``, ``ny``, ``nz``, whose largest coordinate is positive, and
        ``offset``, the distance from the origin along it. One of the four follows from the
        others, and their covariance knows it.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    Examples
    --------
    >>> import gradfit as gf
    >>> x, y = [0, 1, 0, 1, 2], [0, 0, 1, 1, 2]
    >>> fit = gf.shapes.plane(x, y, [1.0, 1.1, 0.9, 1.0, 1.1])
    >>> print(f"{fit.params['nz']:.4f} {fit.params['offset']:.4f}")
    0.9895 0.9679
    """
    given = gather_points(
        (x, y, z), (sx, sy, sz), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_PLANE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def line3d(
    x: Any = None,
    y: Any = None,
    z: Any = None,
    sx: Any = None,
    sy: Any = None,
    sz: Any = None,
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
    r"""Fit a straight line in space to points, by their distance from it.

    .. math::  (x, y, z) = (x_0, y_0, z_0) + t\,(u_x, u_y, u_z), \qquad |u| = 1

    Parameters
    ----------
    x, y, z : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (3, N).
    sx, sy, sz : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (3, 3) or (N, 3, 3).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With ``x0``, ``y0``, ``z0``, the point of the line nearest to the mean of the points, and
        the unit direction ``ux``, ``uy``, ``uz``, whose largest coordinate is positive. Two of
        the six follow from the others; along the line the point has no error.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    Examples
    --------
    >>> import gradfit as gf
    >>> t = [0.0, 1.0, 2.0, 3.0]
    >>> fit = gf.shapes.line3d(t, [0.1, 0.9, 2.1, 2.9], [5.0, 5.1, 4.9, 5.0])
    >>> print(f"{fit.params['ux']:.4f} {fit.params['uy']:.4f}")
    0.7201 0.6937
    """
    given = gather_points(
        (x, y, z),
        (sx, sy, sz),
        data=data,
        cov=cov,
        groups=groups,
        nan_policy=nan_policy,
        equations=_LINE.equations,
    )
    return fit_shape(_LINE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def sphere(
    x: Any = None,
    y: Any = None,
    z: Any = None,
    sx: Any = None,
    sy: Any = None,
    sz: Any = None,
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
    r"""Fit a sphere to points, by their true distance from it.

    .. math::  \min \sum_i \left(|p_i - c| - r\right)^2

    for equal errors. It is fitted by its curvature, which may vanish: points that do not bend end
    with ``Status.DEGENERATE``.

    Parameters
    ----------
    x, y, z : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (3, N).
    sx, sy, sz : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (3, 3) or (N, 3, 3).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the centre ``x0``, ``y0``, ``z0`` and the ``radius``.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Ahn, Rauh and Warnecke, Pattern Recognit. 34 (2001) 2283.

    Examples
    --------
    >>> import gradfit as gf
    >>> x, y = [1, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0]
    >>> fit = gf.shapes.sphere(x, y, [0, 0, 0, 0, 1.1, -1.1])
    >>> print(f"{fit.params['radius']:.4f}")
    1.0333
    """
    given = gather_points(
        (x, y, z), (sx, sy, sz), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_SPHERE, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def cylinder(
    x: Any = None,
    y: Any = None,
    z: Any = None,
    sx: Any = None,
    sy: Any = None,
    sz: Any = None,
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
    r"""Fit a circular cylinder to points, by their true distance from it.

    .. math::  |(p - c) \times u| = r, \qquad |u| = 1

    Axes all over the half sphere are tried, and the best ones followed. Points that do not bend
    end with ``Status.DEGENERATE``.

    Parameters
    ----------
    x, y, z : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (3, N).
    sx, sy, sz : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (3, 3) or (N, 3, 3).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With ``x0``, ``y0``, ``z0``, the point of the axis nearest to the mean of the points, the
        unit direction ``ux``, ``uy``, ``uz`` of the axis, whose largest coordinate is positive,
        and the ``radius``. Two of the seven follow from the others.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Lukacs, Martin and Marshall, Proc. ECCV (1998) 671.

    Examples
    --------
    >>> import gradfit as gf
    >>> x, y = [1, 0, -1, 0] * 3, [0, 1, 0, -1, 0, 1, 0, -1.02, 0, 1, 0, -1]
    >>> fit = gf.shapes.cylinder(x, y, [0] * 4 + [2] * 4 + [5] * 4)
    >>> print(f"{fit.params['uz']:.2f} {fit.params['radius']:.3f}")
    1.00 1.002
    """
    given = gather_points(
        (x, y, z), (sx, sy, sz), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_CYLINDER, given, Asked(loss, absolute_sigma, cov_type, max_steps))


@understood
@undisturbed
def cone(
    x: Any = None,
    y: Any = None,
    z: Any = None,
    sx: Any = None,
    sy: Any = None,
    sz: Any = None,
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
    r"""Fit a circular cone to points, by their true distance from it.

    .. math::  |(p - c) \cdot u| = |p - c| \cos\theta, \qquad |u| = 1

    Points may lie on both nappes. Axes all over the half sphere are tried, and the best ones
    followed. Points that do not taper, or do not bend, end with ``Status.DEGENERATE``.

    Parameters
    ----------
    x, y, z : array-like (N,), or column names with ``data``
        Coordinates in one unit; or all in ``x`` as an array (3, N).
    sx, sy, sz : number or array-like, optional
        Standard deviations, 0 for exact. None given: all the same, covariance scaled by the
        scatter. With all points in ``x``, ``sx`` is as in :func:`gradfit.fit`.
    data, cov, groups, loss, absolute_sigma, cov_type, nan_policy, max_steps
        As in :func:`gradfit.fit`; ``cov`` is that of the coordinates, (3, 3) or (N, 3, 3).

    Returns
    -------
    FitResult, or FitTable when ``groups`` is given
        With the apex ``x0``, ``y0``, ``z0``, the unit direction ``ux``, ``uy``, ``uz`` from it
        along the axis towards the mean of the points, and ``half_angle``, between axis and surface
        in radians. One of the seven follows from the others.

    Raises
    ------
    InputError
        An argument is wrong, or there are fewer points than the shape needs.

    References
    ----------
    .. [1] Lukacs, Martin and Marshall, Proc. ECCV (1998) 671.

    Examples
    --------
    >>> import gradfit as gf
    >>> x, y = [1, 0, -1, 0, 1.4, -1.4, -1.4, 1.4], [0, 1, 0, -1, 1.4, 1.4, -1.4, -1.4]
    >>> fit = gf.shapes.cone(x, y, [1, 1, 1, 1, 2, 2, 2, 2])
    >>> print(f"{fit.params['uz']:.2f} {fit.params['half_angle']:.2f}")
    1.00 0.78
    """
    given = gather_points(
        (x, y, z), (sx, sy, sz), data=data, cov=cov, groups=groups, nan_policy=nan_policy
    )
    return fit_shape(_CONE, given, Asked(loss, absolute_sigma, cov_type, max_steps))
