"""A straight line with the figures of its trade."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._format import columns, measured, number
from gradfit._result import FitResult
from gradfit._types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[str, str]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LineResult(FitResult):
    """A fitted straight line: all that a fit knows, and what its trade asks besides.

    Attributes
    ----------
    method : str
        The name of the line.
    assumes : str
        What must be true of the points for it to be the right one.
    figures : mapping of str to float
        The figures of the trade; each function lists its own.
    told : tuple of (str, str)
        The same in words, as they stand in the summary.
    picture : str
        What to draw: ``"line"``, ``"ellipses"`` or ``"comparison"``.
    left_out : (K, 2)
        Points that were left out on purpose; drawn hollow.
    """

    method: str
    assumes: str
    figures: Mapping[str, float]
    told: tuple[Row, ...] = ()
    picture: str = "line"
    left_out: FloatArray

    def summary(self) -> str:
        """Return the line as text for a lab book, its trade's figures last."""
        head = [self.method, *wrap(f"assumes {self.assumes}", 80, subsequent_indent="  ")]
        parts = ["\n".join(head), super().summary()]
        if self.told:
            parts.append("\n".join(columns([list(row) for row in self.told], "ll")))
        return "\n\n".join(parts)

    def plot(self, ax: "Axes | None" = None, *, level: float = 0.95, theme: Any = "light") -> Any:
        """Draw the line as its trade does: error ellipses, or a comparison of two methods.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Draw points, line and envelope there.
        level : float
            Of the confidence envelope and of the ellipses.
        theme : "light" or "dark"
            Colours of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
        """
        if self.picture == "line":
            return super().plot(ax, level=level, theme=theme)
        from gradfit._views.lines import plot_line

        return plot_line(self, ax, level, theme)

    def evaluate(self, x: float, sx: float = 0.0) -> tuple[float, float]:
        r"""Return y at an x that was measured apart from the points, and its standard error.

        .. math::  u^2(y) = u^2(a) + x^2 u^2(b) + 2 x\,\mathrm{cov}(a, b) + b^2 u^2(x)

        Parameters
        ----------
        x, sx : float
            The new measurement and its standard deviation, in the unit of x.
        """
        slope, intercept = self.params["slope"], self.params["intercept"]
        at = [self.names.index("slope"), self.names.index("intercept")]
        J = np.array([x, 1.0])
        variance = float(J @ np.asarray(self.cov)[np.ix_(at, at)] @ J) + (slope * sx) ** 2
        return intercept + slope * x, math.sqrt(variance)


def as_line(  # noqa: PLR0917 - all that a line of a trade is made of
    fit: FitResult,
    method: str,
    assumes: str,
    figures: Mapping[str, float] | None = None,
    told: Sequence[Row] = (),
    picture: str = "line",
    left_out: FloatArray | None = None,
) -> LineResult:
    """Give a fit the name and the figures of a trade."""
    known = {f.name: getattr(fit, f.name) for f in fields(FitResult)}
    left = np.empty((0, 2)) if left_out is None else left_out
    return LineResult(
        **known,
        method=method,
        assumes=assumes,
        figures=dict(figures or {}),
        told=tuple(told),
        picture=picture,
        left_out=left,
    )


def restate(
    fit: FitResult, slope: float, intercept: float, cov: FloatArray, source: str
) -> FitResult:
    """Return a fit with another line through the same points, as an estimator of its own found it.

    Foot points are those of least distance on the new line; ``cov`` (2, 2) of slope and intercept
    comes from ``source``.
    """
    data = fit.observed
    x, y = np.asarray(data.x), np.asarray(data.y)
    plain = 1.0 if data.sx is None and data.sy is None else 0.0
    sx, sy = (np.asarray(plain if v is None else v) for v in (data.sx, data.sy))
    left = intercept + slope * x - y
    total = sy**2 + slope**2 * sx**2
    delta = -slope * sx**2 * left / total
    x_hat = x + delta
    y_hat = intercept + slope * x_hat
    stderr = np.sqrt(np.diag(cov))
    chi2 = float(np.nansum(left**2 / total))
    return replace(
        fit,
        params={"slope": slope, "intercept": intercept},
        stderr={"slope": float(stderr[0]), "intercept": float(stderr[1])},
        cov=cov,
        chi2=chi2,
        mswd=chi2 / fit.dof if fit.dof > 0 else math.nan,
        p_value=math.nan,
        cov_type=source,
        delta=delta,
        eps=y_hat - y,
        x_hat=x_hat,
        y_hat=y_hat,
    )


def interval_text(low: float, high: float) -> str:
    """Write an interval."""
    return f"{number(low, 5)} .. {number(high, 5)}"


def value_text(value: float, error: float) -> str:
    """Write a value with its error."""
    return measured(value, error) if math.isfinite(error) and error > 0 else number(value, 6)
