"""A fit with the name, the figures and, where it has one of its own, the line of a trade."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace

import numpy as np

from gradfit._format import measured, number
from gradfit._result import FitResult
from gradfit._types import FloatArray, Status
from gradfit.lines.estimators import Estimator, LeastDistance
from gradfit.lines.models import LINE
from gradfit.lines.result import LineResult, Row


def as_line(  # noqa: PLR0917 - all that a line of a trade is made of
    fit: FitResult,
    method: str,
    assumes: str,
    figures: Mapping[str, float] | None = None,
    told: Sequence[Row] = (),
    picture: str = "line",
    left_out: FloatArray | None = None,
    estimator: Estimator | None = None,
    beyond: FloatArray | None = None,
) -> LineResult:
    """Give a fit the name and the figures of a trade."""
    known = {f.name: getattr(fit, f.name) for f in dataclass_fields(FitResult)}
    left = np.empty((0, 2)) if left_out is None else left_out
    return LineResult(
        **known,
        method=method,
        assumes=assumes,
        figures=dict(figures or {}),
        told=tuple(told),
        picture=picture,
        left_out=left,
        estimator=estimator or LeastDistance(),
        variance_beyond=beyond,
    )


def restate(
    fit: FitResult,
    slope: float,
    intercept: float,
    cov: FloatArray,
    source: str,
    beyond: FloatArray | None = None,
) -> FitResult:
    """Return a fit with another line through the same points, as an estimator of its own found it.

    Foot points are the most likely ones on the new line, where points have a variance of y
    ``beyond`` (N,) their errors; ``cov`` (2, 2) of slope and intercept comes from ``source``.
    """
    data = fit.observed
    x, y = np.asarray(data.x), np.asarray(data.y)
    plain = 1.0 if data.sx is None and data.sy is None else 0.0
    sx, sy = (np.asarray(plain if v is None else v) for v in (data.sx, data.sy))
    mixed = 0.0 if data.rho is None else np.asarray(data.rho) * sx * sy
    left = intercept + slope * x - y
    total = sy**2 + slope**2 * sx**2 - 2 * slope * mixed + (0.0 if beyond is None else beyond)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = np.where(total > 0, (mixed - slope * sx**2) * left / total, 0.0)
        chi2 = float(np.nansum(np.where(left == 0, 0.0, left**2 / total)))
    x_hat = x + delta
    y_hat = intercept + slope * x_hat
    stderr = np.sqrt(np.maximum(np.diag(cov), 0.0))
    finite = all(map(math.isfinite, (slope, intercept)))
    status = Status.COST if finite else Status.DEGENERATE
    return replace(
        fit,
        params={"slope": slope, "intercept": intercept},
        stderr={"slope": float(stderr[0]), "intercept": float(stderr[1])},
        cov=cov,
        chi2=chi2,
        mswd=chi2 / fit.dof if fit.dof > 0 else math.nan,
        p_value=math.nan,
        status=fit.status if fit.success and finite else status,
        success=status.ok,
        message=fit.message if fit.success and finite else status.message,
        rank=2,
        cov_type=source,
        delta=delta,
        eps=y_hat - y,
        x_hat=x_hat,
        y_hat=y_hat,
        model=LINE,
    )


def interval_text(low: float, high: float) -> str:
    """Write an interval."""
    return f"{number(low, 5)} .. {number(high, 5)}"


def value_text(value: float, error: float) -> str:
    """Write a value with its error."""
    return measured(value, error) if math.isfinite(error) and error > 0 else number(value, 6)
