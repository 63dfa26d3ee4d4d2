"""York's line, and isochrons in the words of geochronology."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gradfit._data.synonyms import understood
from gradfit._distributions import check_level, normal_quantile, t_quantile
from gradfit._fit import fit as general
from gradfit._format import number, percent, probability, shown
from gradfit._likelihood import said_of_scatter
from gradfit._result import FitResult
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed
from gradfit.lines.estimators import Estimator, LeastDistance
from gradfit.lines.least_squares import single
from gradfit.lines.points import plain_points, to_plain
from gradfit.lines.ranked import anchored_lines
from gradfit.lines.resampling import jackknife, jackknife_cov
from gradfit.lines.restated import as_line, value_text
from gradfit.lines.result import LineResult, Row
from gradfit.lines.scattered import disperse
from gradfit.lines.straight import line


@understood
@undisturbed
def york(x: Any, y: Any, sx: Any, sy: Any, rho: Any = None) -> LineResult:
    r"""Fit York's line: errors in x and in y, correlated at each point.

    Assumes that the errors given are right and that nothing else scatters. Standard errors are
    those of York and others (2004), from the expected information; they are not scaled.

    Parameters
    ----------
    x, y : array-like (N,)
        Observations.
    sx, sy : number or array-like (N,)
        Standard deviations.
    rho : number or array-like (N,), optional
        Correlation of the errors at each point.

    Returns
    -------
    LineResult
        Figure ``mswd``; the picture has error ellipses.

    References
    ----------
    .. [1] York, Evensen, Martinez and De Basabe Delgado, Am. J. Phys. 72 (2004) 367.

    Examples
    --------
    >>> import gradfit as gf
    >>> d = gf.datasets.pearson_york
    >>> fit = gf.lines.york(d.x, d.y, d.sx, d.sy)
    >>> print(f"{fit.params['slope']:.6f} {fit.stderr['slope']:.6f}")
    -0.480533 0.057985
    """
    fit = single(line(x, y, sx, sy, rho, absolute_sigma=True))
    return as_line(
        fit,
        "York's line",
        "that the errors of x and y are right and nothing else scatters",
        {"mswd": fit.mswd},
        picture="ellipses",
    )


@understood
@undisturbed
def isochron(
    x: Any,
    y: Any,
    sx: Any,
    sy: Any,
    rho: Any = None,
    *,
    model: Literal[1, 2, 3] = 1,
    anchor: dict[str, float] | None = None,
    omit: Any = None,
    dispersion: Literal["intercept", "slope"] = "intercept",
    errors: Literal["jackknife", "scatter"] = "jackknife",
    level: float = 0.95,
) -> LineResult:
    r"""Fit an isochron by model 1, 2 or 3.

    Model 1 is York's line. Where its MSWD is improbable (``p < 1 - level``) the scatter is more
    than the errors tell: the interval is then also given times :math:`\sqrt{\mathrm{MSWD}}` and
    Student's t. Model 2 ignores the errors and takes perpendicular distances. Model 3 adds a
    dispersion ``w`` of the intercepts, :math:`\sigma_y^2 + w^2`, or of the slopes,
    :math:`\sigma_y^2 + w^2 x^2`, by maximum likelihood.

    Parameters
    ----------
    x, y, sx, sy, rho : array-like (N,)
        Ratios, their standard errors (one sigma, absolute) and error correlations.
    model : 1, 2 or 3
        As above.
    anchor : mapping, optional
        ``{"intercept": 0.7}`` or ``{"slope": ...}``: a value that is known (models 1 and 2).
    omit : array-like of bool (N,), optional
        Points to leave out; drawn hollow.
    dispersion : "intercept" or "slope"
        To what model 3 attributes the scatter.
    errors : "jackknife" or "scatter"
        Where the standard errors of model 2 come from: lines without each point in turn, which hold
        whatever the scatter, or one scatter that all points share.
    level : float
        Of the intervals.

    Returns
    -------
    LineResult
        Figures ``a``, ``s[a]``, ``b``, ``s[b]``, ``cov.ab``, ``mswd``, ``p``, ``df``, ``n``,
        ``ci[a]``, ``ci[b]`` (half-widths), ``ci_over[a]``, ``ci_over[b]`` (with overdispersion),
        ``w``, ``s[w]`` and ``w_limit`` (model 3): where there may be no dispersion, the largest it
        can be (95 %, from the profile likelihood), else NaN.

    References
    ----------
    .. [1] Vermeesch, Geoscience Frontiers 9 (2018) 1479.
    .. [2] York, Evensen, Martinez and De Basabe Delgado, Am. J. Phys. 72 (2004) 367.

    Examples
    --------
    >>> import gradfit as gf
    >>> d = gf.datasets.pearson_york
    >>> fit = gf.lines.isochron(d.x, d.y, d.sx, d.sy)
    >>> print(f"{fit.figures['mswd']:.4f} {fit.figures['p']:.3f}")
    1.4833 0.157
    """
    if model not in (1, 2, 3):
        raise InputError(f"`model` must be 1, 2 or 3, got {model!r}.")
    if dispersion not in ("intercept", "slope"):
        raise InputError(f'`dispersion` must be "intercept" or "slope", got {shown(dispersion)}.')
    if errors not in ("jackknife", "scatter"):
        raise InputError(f'`errors` must be "jackknife" or "scatter", got {shown(errors)}.')
    check_level(level)
    x, y = plain_points(x, y, 1)
    keep, left_out = _kept(x, y, omit)
    x, y = _some(x, keep), _some(y, keep)
    sx, sy, rho = (
        None if v is None else _some(to_plain(name, v), keep)
        for name, v in (("sx", sx), ("sy", sy), ("rho", rho))
    )
    extra: dict[str, float] = {}
    said, own = "", None
    estimator: Estimator = LeastDistance()
    if model == 3:
        if anchor is not None:
            raise InputError("`anchor` is for models 1 and 2.")
        fit, estimator, own, verdict, u_w = disperse(x, y, sx, sy, rho, along=dispersion == "slope")
        w = abs(float(verdict.peak.theta[0, 2]))
        extra = {"w": w, "s[w]": u_w, "w_limit": verdict.limit}
        said = said_of_scatter("w", value_text(w, u_w), verdict.none, verdict.limit)
    elif model == 2:
        fit = _anchored(x, y, None, None, None, anchor)
        if errors == "jackknife":
            fit = _jackknifed(fit, anchor)
    else:
        fit = _anchored(x, y, sx, sy, rho, anchor)
    figures = _figures(fit, level, model) | extra
    return as_line(
        fit,
        f"Isochron, model {model}",
        {
            1: "that the errors given explain all scatter",
            2: "nothing of the errors: every point counts alike",
            3: f"scatter of the {dispersion} beyond the errors given, normally distributed",
        }[model],
        figures,
        _words(figures, level, said),
        "ellipses",
        left_out,
        estimator,
        own,
    )


def _jackknifed(fit: FitResult, anchor: dict[str, float] | None) -> FitResult:
    """Take the covariance from lines without each point, as far as there are such lines."""
    x, y = np.asarray(fit.observed.x), np.asarray(fit.observed.y)
    if not fit.success or fit.dof < 1:
        return fit
    left_out = jackknife(lambda a, b: anchored_lines(a, b, anchor), x, y)
    if not np.isfinite(left_out).all():
        return fit
    cov = jackknife_cov(left_out)
    stderr = dict(zip(fit.names, np.sqrt(np.diag(cov)).tolist(), strict=True))
    return replace(fit, cov=cov, stderr=stderr, cov_type="jackknife")


def _kept(x: Any, y: Any, omit: Any) -> tuple[Any, Any]:
    if omit is None:
        return None, None
    try:
        omit = np.asarray(omit, dtype=bool)
    except (TypeError, ValueError):
        omit = np.empty(0, dtype=bool)
    if omit.shape != (len(x),):
        raise InputError(f"`omit` must have one truth value for each of {len(x)} points.")
    return ~omit, np.stack([x, y], axis=1)[omit]


def _some(values: Any, keep: Any) -> Any:
    if values is None or keep is None or np.shape(values) != keep.shape:
        return values
    return values[keep]


def _anchored(
    x: Any, y: Any, sx: Any, sy: Any, rho: Any, anchor: dict[str, float] | None
) -> FitResult:
    if anchor is None:
        return single(line(x, y, sx, sy, rho))
    unknown = set(anchor) - {"slope", "intercept"}
    if unknown or len(anchor) != 1:
        raise InputError(f"`anchor` must be one of slope and intercept, got {dict(anchor)!r}.")
    start = single(line(x, y, sx, sy, rho)).params
    free = {k: v for k, v in start.items() if k not in anchor}
    return single(general("line", x, y, start=free, fixed=anchor, sx=sx, sy=sy, rho=rho))


def _figures(fit: FitResult, level: float, model: int) -> dict[str, float]:
    cov = np.asarray(fit.cov)
    at = [fit.names.index("intercept"), fit.names.index("slope")]
    z = normal_quantile(0.5 + level / 2)
    t = t_quantile(0.5 + level / 2, fit.dof) if fit.dof > 0 else math.nan
    u_a, u_b = fit.stderr["intercept"], fit.stderr["slope"]
    over = t * math.sqrt(fit.mswd) if model == 1 and fit.p_value < 1 - level else math.nan
    wide = t if model == 2 else z
    return {
        "a": fit.params["intercept"],
        "s[a]": u_a,
        "b": fit.params["slope"],
        "s[b]": u_b,
        "cov.ab": float(cov[at[0], at[1]]),
        "mswd": fit.mswd,
        "p": fit.p_value,
        "df": float(fit.dof),
        "n": float(fit.observed.n_points),
        "ci[a]": wide * u_a,
        "ci[b]": wide * u_b,
        "ci_over[a]": over * u_a,
        "ci_over[b]": over * u_b,
    }


def _words(f: dict[str, float], level: float, said: str) -> list[Row]:
    rows: list[Row] = []
    for name, key in (("intercept", "a"), ("slope", "b")):
        text = (
            f"{number(f[key], 6)} ± {number(f[f's[{key}]'], 2)} (1σ) | {number(f[f'ci[{key}]'], 2)}"
        )
        text += f" ({percent(level)})"
        if math.isfinite(f[f"ci_over[{key}]"]):
            text += f" | {number(f[f'ci_over[{key}]'], 2)} (with overdispersion)"
        rows.append((name, text))
    quality = f"MSWD {number(f['mswd'], 3)}, p {probability(f['p'])}, n {f['n']:.0f}"
    rows.append(("fit", quality))
    if "w" in f:
        rows.append(("dispersion w", said))
    return rows
