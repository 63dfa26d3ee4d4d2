"""Least squares under their textbook names; each is a line whose errors are all in one place."""

from typing import Any

from gradfit._data.synonyms import understood
from gradfit._result import FitResult
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.restated import as_line
from gradfit.lines.result import LineResult
from gradfit.lines.straight import line


def single(fit: Any) -> FitResult:
    """Return the one fit that a front door makes."""
    if not isinstance(fit, FitResult):
        raise InputError("`groups` are for `gf.line`; a line of one trade takes one set of points.")
    return fit


@understood
@undisturbed
def ols(x: Any, y: Any) -> LineResult:
    r"""Fit ordinary least squares of y on x.

    .. math::  b = \frac{S_{xy}}{S_{xx}}, \qquad a = \bar y - b \bar x

    Assumes that x is exact and that all y have one unknown error; errors in x flatten its slope.

    Parameters
    ----------
    x, y : array-like (N,)
        Observations.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.ols([0, 1, 2, 3], [1.0, 2.9, 5.1, 7.0])
    >>> print(f"{fit.params['slope']:.3f} {fit.stderr['slope']:.5f}")
    2.020 0.04243
    """
    fit = single(line(x, y, 0.0, 1.0, absolute_sigma=False))
    return as_line(
        fit, "Ordinary least squares", "that x is exact and all y have one unknown error"
    )


@understood
@undisturbed
def inverse_ols(x: Any, y: Any) -> LineResult:
    r"""Fit least squares of x on y, told as a line of y.

    .. math::  b = \frac{S_{yy}}{S_{xy}}, \qquad a = \bar y - b \bar x

    Assumes that y is exact and that all x have one unknown error.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.inverse_ols([0, 1, 2, 3], [1.0, 2.9, 5.1, 7.0])
    >>> print(f"{fit.params['slope']:.5f}")
    2.02178
    """
    fit = single(line(x, y, 1.0, 0.0, absolute_sigma=False))
    return as_line(fit, "Inverse least squares", "that y is exact and all x have one unknown error")


@understood
@undisturbed
def wls(x: Any, y: Any, sy: Any, *, absolute_sigma: bool = True) -> LineResult:
    r"""Fit weighted least squares, weights :math:`1/\sigma_y^2`.

    Assumes that x is exact and that every y has the error given.

    Parameters
    ----------
    x, y : array-like (N,)
        Observations.
    sy : number or array-like (N,)
        Standard deviations of y.
    absolute_sigma : bool
        Take ``sy`` as they are, or scale them by the scatter.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.wls([0, 1, 2, 3], [1.0, 2.9, 5.1, 7.0], [0.1, 0.1, 0.2, 0.2])
    >>> print(f"{fit.params['slope']:.4f}")
    2.0079
    """
    fit = single(line(x, y, 0.0, sy, absolute_sigma=absolute_sigma))
    return as_line(fit, "Weighted least squares", "that x is exact and every y has the error given")


@understood
@undisturbed
def orthogonal(x: Any, y: Any) -> LineResult:
    """Fit the line of least squared perpendicular distance, the largest principal axis.

    Assumes that x and y have the same unknown error, in the same unit: another unit of one of them
    gives another line.

    Examples
    --------
    >>> import gradfit as gf
    >>> fit = gf.lines.orthogonal([0, 1, 2, 3], [1.0, 2.9, 5.1, 7.0])
    >>> print(f"{fit.params['slope']:.5f}")
    2.02143
    """
    fit = single(line(x, y))
    return as_line(
        fit, "Orthogonal line", "that x and y have one and the same unknown error, in one unit"
    )
