"""Bootstrap, jackknife and intervals of lines that are no minimum of chi-square."""

import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradfit._data.checks import to_count
from gradfit._format import plural, shown
from gradfit._result.outcome import Outcome
from gradfit._types import FloatArray
from gradfit._uncertainty.bootstrap import FEWEST, LEAVE_ONE_OUT, Bootstrap, Jackknife, bca_share
from gradfit._uncertainty.progress import Bar
from gradfit.errors import ConvergenceWarning, InputError
from gradfit.lines.estimators import Own, refit
from gradfit.lines.relations import Sample

Estimate: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
PARTS = 16
"""Parts in which refits are made, so that a bar can show them."""


def sample_of(fit: Outcome, index: NDArray[np.int64] | None = None) -> Sample:
    """Return the points of a line as one sample, or those listed in ``index`` (B, n)."""
    data = fit.observed
    x, y = np.asarray(data.x), np.asarray(data.y)
    given = (
        np.broadcast_to(np.asarray(0.0 if v is None else v, dtype=np.float64), x.shape)
        for v in (data.sx, data.sy, data.rho)
    )
    return Sample(*(v[None] if index is None else v[index] for v in (x, y, *given)))


def others(n: int) -> NDArray[np.int64]:
    """Return the points (N, N - 1) that are left without each."""
    index = np.arange(n - 1)
    return index + (index >= np.arange(n)[:, None])


def jackknife(estimate: Estimate, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the estimates (N, k) with each point left out in turn."""
    keep = others(len(x))
    return estimate(x[keep], y[keep])


def jackknife_cov(left_out: FloatArray) -> FloatArray:
    """Return the covariance (k, k) that estimates without each point show."""
    away = left_out - left_out.mean(0)
    return (len(away) - 1) / len(away) * away.T @ away


def draws(estimate: Estimate, x: FloatArray, y: FloatArray, count: int, seed: int) -> FloatArray:
    """Return the estimates (B, k) of points drawn with replacement, where there is one."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(x), (count, len(x)))
    found = estimate(x[index], y[index])
    return found[np.isfinite(found).all(1)]


def bootstrap_line(
    fit: Outcome, estimator: Own, n: int, seed: int | np.random.Generator, progress: bool
) -> Bootstrap:
    """Put ``n`` samples of the points, drawn with replacement, to the estimator of the line."""
    if to_count("`n`", n) < FEWEST:
        raise InputError(f"`n` must be at least {FEWEST}, got {n!r}.")
    seen = sample_of(fit)
    index = _generator(seed).integers(0, seen.x.shape[1], (n, seen.x.shape[1]))
    parts: list[FloatArray] = []
    with Bar("pairs bootstrap", n, progress) as bar:
        for rows in np.array_split(index, min(PARTS, n)):
            parts.append(refit(estimator, sample_of(fit, rows), len(fit.names)))
            bar.advance(len(rows))
    samples, failed = _usable(np.concatenate(parts), FEWEST)
    values = np.array([fit.params[name] for name in fit.names])
    told = _told(fit, samples, samples.mean(0) - values, np.cov(samples.T), failed)
    skew = np.zeros(len(values))
    if seen.x.shape[1] <= LEAVE_ONE_OUT:
        left_out = _left_out(fit, estimator)
        left_out = left_out[np.isfinite(left_out).all(1)]
        skew = np.array([skewness(column) for column in left_out.T])
    return Bootstrap(
        **told, kind="pairs", acceleration=dict(zip(fit.names, skew.tolist(), strict=True))
    )


def jackknife_line(fit: Outcome, estimator: Own, progress: bool) -> Jackknife:
    """Put the points without each in turn to the estimator of the line."""
    if fit.dof < 1:
        raise InputError("jackknife() needs more points than parameters.")
    with Bar("jackknife", fit.observed.n_points, progress) as bar:
        samples, failed = _usable(_left_out(fit, estimator), 2)
        bar.advance(len(samples) + failed)
    values = np.array([fit.params[name] for name in fit.names])
    bias = (len(samples) - 1) * (samples.mean(0) - values)
    return Jackknife(**_told(fit, samples, bias, jackknife_cov(samples), failed), dof=fit.dof)


def _left_out(fit: Outcome, estimator: Own) -> FloatArray:
    index = others(fit.observed.n_points)
    return refit(estimator, sample_of(fit, index), len(fit.names))


def _generator(seed: int | np.random.Generator) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise InputError(
            f"`seed` must be a whole number from 0 or a generator, got {shown(seed)}."
        ) from None


def _usable(samples: FloatArray, fewest: int) -> tuple[FloatArray, int]:
    good = samples[np.isfinite(samples).all(1)]
    failed = len(samples) - len(good)
    if len(good) < fewest:
        raise InputError(
            f"only {len(good)} of {len(samples)} refits found a line: the points are too few, or "
            "do not determine every parameter."
        )
    if failed > 0.05 * len(samples):
        warnings.warn(
            f"{failed:,} of {plural(len(samples), 'refit')} failed and are left out: what is left "
            "is not a fair sample",
            ConvergenceWarning,
            stacklevel=4,
        )
    return good, failed


def _told(
    fit: Outcome, samples: FloatArray, bias: FloatArray, cov: FloatArray, failed: int
) -> dict[str, Any]:
    stderr = np.sqrt(np.diag(cov))
    return {
        "names": fit.names,
        "estimate": dict(fit.params),
        "samples": dict(zip(fit.names, samples.T, strict=True)),
        "stderr": dict(zip(fit.names, stderr.tolist(), strict=True)),
        "bias": dict(zip(fit.names, bias.tolist(), strict=True)),
        "cov": cov,
        "n": len(samples),
        "n_failed": failed,
        "n_points": fit.observed.n_points,
    }


def skewness(left_out: FloatArray) -> float:
    """Return a sixth of the skewness of what leaving points out does, for BCa."""
    away = left_out.mean() - left_out
    total = float((away**2).sum())
    return float((away**3).sum()) / (6 * total**1.5) if total > 0 else 0.0


def bias_corrected(
    samples: FloatArray, left_out: FloatArray, value: float, level: float
) -> tuple[float, float]:
    r"""Return Efron's interval (BCa): percentiles, shifted for bias and skewness.

    Parameters
    ----------
    samples : (B,)
        Bootstrap estimates.
    left_out : (N,)
        Jackknife estimates.
    value : float
        The estimate itself.
    level : float
        Of the interval.

    References
    ----------
    .. [1] Efron, J. Am. Stat. Assoc. 82 (1987) 171.
    """
    share = float(
        np.clip(np.mean(samples < value) + 0.5 * np.mean(samples == value), 1e-6, 1 - 1e-6)
    )
    skew = skewness(left_out)
    ends = [bca_share(share, skew, tail) for tail in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(samples, [min(max(end, 0.0), 1.0) for end in ends])
    return float(low), float(high) if math.isfinite(high) else math.inf
