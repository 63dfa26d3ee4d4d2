"""How the line of a trade is found, so that other samples of its points can be put to it again."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from gradfit._data.checks import shown
from gradfit._distributions import normal_quantile
from gradfit._likelihood import maximise, profile_end
from gradfit._types import FloatArray
from gradfit.errors import InputError
from gradfit.lines.ranked import in_parts, passing_bablok_lines, theil_sen_lines
from gradfit.lines.relations import (
    Dispersion,
    Relation,
    Sample,
    Scatter,
    at_origin,
    cloud_of,
    told,
)

TOGETHER = 1 << 16
"""Points of all samples whose likelihoods are maximised at once, which bounds the memory."""


@dataclass(frozen=True)
class LeastDistance:
    """A minimum of chi-square: the engine finds it, and answers every question itself."""

    name = "least_distance"


@dataclass(frozen=True)
class TheilSen:
    """Median slope of all pairs."""

    name = "theil_sen"


@dataclass(frozen=True)
class PassingBablok:
    """Shifted median slope of all pairs."""

    name = "passing_bablok"


Own = TheilSen | PassingBablok | Relation
"""Estimators that are no minimum of chi-square."""
Estimator = LeastDistance | Own

_KINDS = (LeastDistance, TheilSen, PassingBablok, Scatter, Dispersion)


def refit(estimator: Own, sample: Sample, k: int) -> FloatArray:
    """Return the first ``k`` parameters (B, k) of samples (B, N); NaN where there is no line."""
    if isinstance(estimator, TheilSen):
        return in_parts(theil_sen_lines, sample.x, sample.y)
    if isinstance(estimator, PassingBablok):
        return in_parts(passing_bablok_lines, sample.x, sample.y)
    step = max(1, TOGETHER // sample.x.shape[1])
    found = [
        _most_likely(estimator, Sample(*(v[first : first + step] for v in sample)), k)
        for first in range(0, len(sample.x), step)
    ]
    return np.concatenate(found)


def _most_likely(relation: Relation, sample: Sample, k: int) -> FloatArray:
    p = cloud_of(sample)
    peak = maximise(relation.negative(p), relation.start(p))
    values = torch.where(peak.settled[:, None], told(p, peak.theta), torch.nan)
    return values[:, :k].numpy()


def profile(
    relation: Relation, sample: Sample, width: float, values: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """Return where the profile likelihood of each parameter has fallen by ``width^2/2``.

    A scatter has no lower end where none is as likely; then it is 0.
    """
    p = cloud_of(sample)
    inner = relation.negative(p)
    peak = maximise(inner, relation.start(p))
    if not bool(peak.settled[0]):
        raise InputError('interval("profile") needs a fit that converged.')
    theta, size = peak.theta[0], peak.cov[0].diagonal().clamp(min=0).sqrt()
    rise = width * width / 2
    outer, phi = at_origin(inner, p), theta.clone()
    phi[1] = told(p, peak.theta)[0, 1]
    J = torch.tensor([-float(p.x0), 1.0], dtype=torch.float64, device="cpu").to(theta)
    far = float((J @ peak.cov[0, :2, :2] @ J).clamp(min=0).sqrt())
    found: dict[str, tuple[float, float]] = {}
    for k, name in enumerate(values):
        negative, at, unit = (outer, phi, far) if k == 1 else (inner, theta, float(size[k]))
        if k != relation.scatter_at:
            low, high = (
                profile_end(negative, at, k, side * width * unit, rise) for side in (-1, 1)
            )
            found[name] = (low, high)
            continue
        at = at.clone()
        at[k] = at[k].abs()
        none = at.clone()
        none[k] = 0.0
        lowest = maximise(inner, none[None])
        open_ = bool(lowest.value[0] - peak.value[0] < rise)
        # From 0 up, a step of a whole width would leave the parabola far behind.
        low = 0.0 if open_ else _between(negative, at, k, rise)
        found[name] = (low, profile_end(negative, at, k, width * unit, rise))
    return found


def _between(negative: Any, at: torch.Tensor, k: int, rise: float) -> float:
    """Return the end between 0 and a scatter, whose likelihood is even."""
    return max(profile_end(negative, at, k, -float(at[k]), rise), 0.0)


def quantile_of(level: float) -> float:
    """Return the normal quantile of an interval with two equal tails."""
    return normal_quantile(0.5 + level / 2)


def to_plain(estimator: Estimator) -> dict[str, Any]:
    """Return an estimator as names and options."""
    return {"name": estimator.name, **asdict(estimator)}


def from_plain(plain: Any) -> Estimator:
    """Return the estimator that :func:`to_plain` wrote."""
    options = dict(plain) if isinstance(plain, dict) else {}
    name = options.pop("name", None)
    for kind in _KINDS:
        if kind.name == name:
            try:
                return kind(**options)
            except TypeError:
                break
    raise InputError(f"this line names no estimator that gradfit knows: {shown(plain)}.")
