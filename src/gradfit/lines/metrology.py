"""Calibration lines as ISO/TS 28037:2010 asks for them."""

from typing import Any

import numpy as np

from gradfit._data.synonyms import understood
from gradfit._distributions import check_level, chi2_quantile
from gradfit._fit import fit as general
from gradfit._format import number, percent
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.least_squares import single
from gradfit.lines.restated import as_line, value_text
from gradfit.lines.result import LineResult
from gradfit.lines.straight import line


@understood
@undisturbed
def iso28037(
    x: Any,
    y: Any,
    ux: Any = None,
    uy: Any = None,
    cov_xy: Any = None,
    *,
    U: Any = None,
    level: float = 0.95,
) -> LineResult:
    r"""Fit a straight-line calibration function ``y = a + b x`` as ISO/TS 28037 does.

    What is given decides the clause: ``uy`` alone clause 6 (weighted least squares), ``ux`` and
    ``uy`` clause 7 (generalised distance regression), ``cov_xy`` besides clause 8, ``U`` clauses 9
    (a covariance of y) and 10 (of x and y). Uncertainties are absolute, never scaled by the
    scatter; the chi-square test says whether points and line agree.

    Parameters
    ----------
    x, y : array-like (N,)
        Stimuli and responses.
    ux, uy : number or array-like (N,), optional
        Their standard uncertainties.
    cov_xy : array-like (N,), optional
        Covariance of x and y at each point, in the unit of x times that of y.
    U : array-like (N, N) or (2N, 2N), optional
        Covariance matrix of all y, x being exact; or of all x followed by all y.
    level : float
        Of the chi-square test.

    Returns
    -------
    LineResult
        Figures ``a``, ``b``, ``u(a)``, ``u(b)``, ``cov(a,b)``, ``chi2``, ``dof``, ``chi2_limit``
        and ``accepted`` (1 or 0). ``fit.invert(y, uy)`` is the inverse evaluation of clause 11,
        ``fit.evaluate(x, ux)`` the forward one.

    References
    ----------
    .. [1] ISO/TS 28037:2010, Determination and use of straight-line calibration functions.

    Examples
    --------
    Clause 7.4:

    >>> import gradfit as gf
    >>> x, y = [1.2, 1.9, 2.9, 4.0, 4.7, 5.9], [3.4, 4.4, 7.2, 8.5, 10.8, 13.5]
    >>> fit = gf.lines.iso28037(x, y, ux=0.2, uy=[0.2, 0.2, 0.2, 0.4, 0.4, 0.4])
    >>> print(f"{fit.figures['a']:.4f} {fit.figures['u(a)']:.4f} {fit.figures['chi2']:.3f}")
    0.5788 0.4764 2.743
    """
    check_level(level)
    if U is not None:
        clause, fit = _joint(x, y, U, (ux, uy, cov_xy))
    elif uy is None:
        raise InputError("`uy` is needed: standard uncertainties of y, or give `U`.")
    else:
        clause = 6 if ux is None else 7 if cov_xy is None else 8
        fit = single(line(x, y, ux, uy, _correlation(cov_xy, ux, uy), absolute_sigma=True))
    at = [fit.names.index("intercept"), fit.names.index("slope")]
    cov = np.asarray(fit.cov)
    limit = chi2_quantile(level, fit.dof) if fit.dof > 0 else float("nan")
    figures = {
        "a": fit.params["intercept"],
        "b": fit.params["slope"],
        "u(a)": fit.stderr["intercept"],
        "u(b)": fit.stderr["slope"],
        "cov(a,b)": float(cov[at[0], at[1]]),
        "chi2": fit.chi2,
        "dof": float(fit.dof),
        "chi2_limit": limit,
        "accepted": float(fit.chi2 <= limit),
    }
    verdict = "accepted" if figures["accepted"] else "REJECTED: points and line do not agree"
    told = [
        ("a", value_text(figures["a"], figures["u(a)"])),
        ("b", value_text(figures["b"], figures["u(b)"])),
        ("cov(a, b)", number(figures["cov(a,b)"], 5)),
        (
            "chi-square test",
            f"{number(fit.chi2, 4)} against {number(limit, 4)} ({percent(level)}, {fit.dof} "
            f"degrees of freedom): {verdict}",
        ),
    ]
    return as_line(
        fit,
        f"Calibration line by ISO/TS 28037, clause {clause}",
        "that the standard uncertainties are right, and known absolutely",
        figures,
        told,
    )


def _correlation(cov_xy: Any, ux: Any, uy: Any) -> Any:
    if cov_xy is None:
        return None
    if ux is None:
        raise InputError("`cov_xy` needs `ux` as well as `uy`.")
    product = np.asarray(ux, dtype=np.float64) * np.asarray(uy, dtype=np.float64)
    if not np.all(product > 0):
        raise InputError("`cov_xy` needs positive `ux` and `uy` at every point.")
    return np.asarray(cov_xy, dtype=np.float64) / product


def _joint(x: Any, y: Any, U: Any, others: tuple[Any, ...]) -> tuple[int, Any]:
    """Fit with a covariance over all points: of y alone, or of x and y."""
    if any(v is not None for v in others):
        raise InputError("`U` holds all covariances; give it without `ux`, `uy` and `cov_xy`.")
    n = len(y)
    U = np.asarray(U, dtype=np.float64)
    if U.shape not in ((n, n), (2 * n, 2 * n)):
        raise InputError(
            f"`U` must be ({n}, {n}), for y, or ({2 * n}, {2 * n}), for x and y; got {U.shape}."
        )
    clause = 10
    if U.shape == (n, n):
        clause, whole = 9, np.zeros((2 * n, 2 * n))
        whole[n:, n:] = U
        U = whole
    first = single(line(x, y))
    found = general("line", x, y, start=first.params, cov_joint=U, absolute_sigma=True)
    return clause, single(found)
