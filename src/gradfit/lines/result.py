"""A straight line with the figures of its trade."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradfit._distributions import check_level
from gradfit._format import columns, number
from gradfit._result import FitResult, plain, prediction
from gradfit._result.asking import Method
from gradfit._result.inverse import Inverse
from gradfit._result.outcome import Outcome
from gradfit._result.prediction import Band
from gradfit._types import FloatArray
from gradfit.errors import FitError, InputError
from gradfit.graph.surroundings import undisturbed_methods
from gradfit.lines.estimators import (
    Estimator,
    LeastDistance,
    PassingBablok,
    TheilSen,
    from_plain,
    profile,
    quantile_of,
    to_plain,
)
from gradfit.lines.models import LINE, RELATION
from gradfit.lines.ranked import passing_bablok_intervals, sen_interval
from gradfit.lines.relations import Dispersion, Scatter
from gradfit.lines.resampling import bootstrap_line, jackknife_line, sample_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradfit._uncertainty.bootstrap import Bootstrap, Jackknife
    from gradfit._uncertainty.diagnostics import Diagnostics
    from gradfit._uncertainty.influence import Influence
    from gradfit.graph import Film, Graph

Row = tuple[str, str]


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LineResult(Outcome):
    """A fitted straight line: its numbers, and what its trade asks besides.

    It has the fields of a :class:`gradfit.FitResult`, and answers for its own estimator: whatever
    resamples the points puts them to the same estimator again. What has no meaning for it is
    refused in one line that names what to use.

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
    estimator : object
        How the line is found from points.
    variance_beyond : (N,) or None
        Variance of y that points have beyond their errors, of lines that find one.
    """

    method: str
    assumes: str
    figures: Mapping[str, float]
    told: tuple[Row, ...] = ()
    picture: str = "line"
    left_out: FloatArray
    estimator: Estimator = field(default_factory=LeastDistance)
    variance_beyond: FloatArray | None = None

    def beyond(self) -> FloatArray | None:
        """Return the variance of y (N,) that points have beyond their errors; None if none."""
        return self.variance_beyond

    @cached_property
    def _numbers(self) -> FitResult:
        """The same numbers as a fit: all that curve, band and inverse ask for."""
        return FitResult(**{f.name: getattr(self, f.name) for f in dataclass_fields(FitResult)})

    def _least_distance(self, asked: str, instead: str) -> FitResult:
        """Return the fit, of a line that is a minimum of chi-square."""
        if isinstance(self.estimator, LeastDistance):
            return self._numbers
        raise InputError(
            f"{asked} speaks of a minimum of chi-square, which {self.method} is not; {instead}."
        )

    # -- looking ---------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return the line as text for a lab book, its trade's figures last."""
        from gradfit._views.summary import summary

        head = [self.method, *wrap(f"assumes {self.assumes}", 80, subsequent_indent="  ")]
        parts = ["\n".join(head), summary(self)]
        if self.told:
            parts.append("\n".join(columns([list(row) for row in self.told], "ll")))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        values = ", ".join(f"{n}={number(value)}" for n, value in self.params.items())
        return f"<LineResult {self.status.name}: {values}, {self.method}>"

    def _repr_html_(self) -> str:
        from gradfit._views.html import fit_fragment, trade_fragment

        return trade_fragment(fit_fragment(self), self.method, self.assumes, self.told)

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
        return self._draw(ax, level, theme, True)

    def _draw(self, ax: Any, level: float, theme: str, titled: bool) -> Any:
        check_level(level)
        if self.picture == "line" or not self.success:
            from gradfit._views.plot import plot_fit

            return plot_fit(self, ax, level, theme, titled)
        from gradfit._views.lines import plot_line

        return plot_line(self, ax, level, theme, titled)

    def report(self, path: str | Path | None = None) -> str:
        """Return one self-contained HTML page about this line; write it to ``path`` if given."""
        from gradfit._views.report import Trade, page

        trade = Trade(
            self.method, self.assumes, self.told, lambda theme: self._draw(None, 0.95, theme, False)
        )
        text = page(self, trade)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def graph(self) -> "Graph":
        """Return the computational graph of chi-square at the solution, of least distances."""
        return self._least_distance("graph()", "trace a function of your own with gf.trace").graph()

    def film(self, path: Sequence[Mapping[str, float]]) -> "Film":
        """Return the graph of chi-square at every step of a path, of least distances."""
        return self._least_distance("film()", "trace with gf.trace").film(path)

    # -- asking ----------------------------------------------------------------------------------

    def predict(self, x: Any) -> Any:
        """Return y on the line at x, as :meth:`gradfit.FitResult.predict`."""
        return self._numbers.predict(x)

    def band(
        self,
        x: Any,
        level: float = 0.95,
        kind: Literal["confidence", "prediction"] = "confidence",
        *,
        sx: float | None = None,
        sy: float | None = None,
    ) -> Band:
        """Return a band around the line, as :meth:`gradfit.FitResult.band`.

        A new measurement scatters as the points do, where the line has a scatter of its own; where
        that differs from point to point, ``sy`` must hold it.
        """
        if kind == "prediction":
            sy = self._error_of_y(sy)
        return self._numbers.band(x, level, kind, sx=sx, sy=sy)

    def invert(
        self,
        y: Any,
        sy: Any = None,
        *,
        near: float | None = None,
        between: tuple[float, float] | None = None,
    ) -> Inverse:
        """Return the x at which the line has the value y, as :meth:`gradfit.FitResult.invert`."""
        sy = self._error_of_y(sy) if sy is None else sy
        return self._numbers.invert(y, sy, near=near, between=between)

    def _error_of_y(self, sy: float | None) -> float | None:
        """Return the error of a new y, the scatter of the line included where it is one number."""
        own = self.beyond()
        if own is None:
            return sy
        if np.ptp(own) > 1e-9 * own.max():
            if sy is None:
                raise InputError(
                    "the scatter differs from point to point; give `sy` of the new measurement, "
                    "its scatter included."
                )
            return sy
        given = np.asarray(self.observed.sy if sy is None else sy, dtype=np.float64)
        sizes = np.unique(np.where(np.isnan(given), 0.0, given))
        if len(sizes) > 1:
            raise InputError("`sy` differs from point to point; give that of the new measurement.")
        return math.hypot(float(sizes[0]), math.sqrt(float(own[0])))

    def interval(
        self, level: float = 0.95, method: "Method | Literal['ranks'] | None" = None
    ) -> dict[str, tuple[float, float]]:
        """Return a confidence interval for every parameter.

        Parameters
        ----------
        level : float
            Probability that an interval holds the true value.
        method : str, optional
            ``"t"``: value plus and minus standard errors; ``"profile"``: from the profile of
            chi-square, or of the likelihood that this line maximises; ``"bootstrap"`` and
            ``"jackknife"``: of the same estimator; ``"ranks"``: those of Theil and Sen's line and
            of Passing and Bablok's, from the ranks of the slopes. By default ``"ranks"`` for these
            two, ``"t"`` for all others.

        Raises
        ------
        InputError
            Unknown method, one that this line has not, or a level outside 0..1.
        """
        check_level(level)
        ranked = isinstance(self.estimator, TheilSen | PassingBablok)
        method = method or ("ranks" if ranked else "t")
        prediction.check_method(method, ("t", "profile", "bootstrap", "jackknife", "ranks"))
        if method == "ranks":
            return self._rank_interval(level)
        if method == "bootstrap":
            return self.bootstrap().interval(level)
        if method == "jackknife":
            return self.jackknife().interval(level)
        if method == "profile":
            return self._profile_interval(level)
        if isinstance(self.estimator, LeastDistance):
            return self._numbers.interval(level)
        found = {
            n: (v - quantile_of(level) * self.stderr[n], v + quantile_of(level) * self.stderr[n])
            for n, v in self.params.items()
        }
        if "scatter" in found:
            low, high = found["scatter"]
            if "scatter" in self.at_bound:
                high = self._profile_interval(level)["scatter"][1]
            found["scatter"] = (max(low, 0.0), high)
        return found

    def _profile_interval(self, level: float) -> dict[str, tuple[float, float]]:
        if isinstance(self.estimator, Scatter | Dispersion):
            return profile(self.estimator, sample_of(self), quantile_of(level), dict(self.params))
        instead = 'use interval(method="ranks") or interval(method="bootstrap")'
        return self._least_distance('interval(method="profile")', instead).interval(
            level, "profile"
        )

    def _rank_interval(self, level: float) -> dict[str, tuple[float, float]]:
        x, y = np.asarray(self.observed.x), np.asarray(self.observed.y)
        if isinstance(self.estimator, TheilSen):
            return {
                "slope": sen_interval(x, y, level),
                "intercept": self.interval(level, "t")["intercept"],
            }
        if isinstance(self.estimator, PassingBablok):
            return dict(zip(self.names, passing_bablok_intervals(x, y, level), strict=True))
        raise InputError(
            f'interval(method="ranks") is for lines of ranks, and {self.method} is none; '
            'use "t", "jackknife" or "bootstrap".'
        )

    def bootstrap(
        self,
        n: int = 2000,
        kind: Literal["pairs", "residual", "parametric"] = "pairs",
        *,
        seed: "int | np.random.Generator" = 0,
        progress: bool = False,
    ) -> "Bootstrap":
        """Put resampled points to the same estimator many times.

        Parameters
        ----------
        n, seed, progress
            As of :meth:`gradfit.FitResult.bootstrap`.
        kind : "pairs", "residual" or "parametric"
            The last two draw errors, and are for lines of least distance.

        Raises
        ------
        InputError
            Wrong ``n`` or ``kind``; a line that draws no errors.
        """
        if isinstance(self.estimator, LeastDistance):
            return self._numbers.bootstrap(n, kind, seed=seed, progress=progress)
        if kind != "pairs":
            raise InputError(
                f'`kind` must be "pairs" for {self.method}: other errors than those that its '
                "points show are not known."
            )
        self._refuse_failed("bootstrap()")
        return bootstrap_line(self, self.estimator, n, seed, progress)

    def jackknife(self, *, progress: bool = False) -> "Jackknife":
        """Put the points without each in turn to the same estimator.

        Raises
        ------
        InputError
            No more points than parameters; points that share errors; a line that was not found.
        """
        if isinstance(self.estimator, LeastDistance):
            return self._numbers.jackknife(progress=progress)
        self._refuse_failed("jackknife()")
        return jackknife_line(self, self.estimator, progress)

    def _refuse_failed(self, asked: str) -> None:
        if not self.success:
            raise InputError(f"{asked} needs a solution; this line ended with {self.status.name}.")

    @property
    def bias(self) -> dict[str, float]:
        """How far curvature moves each parameter on average; NaN but for least distances.

        See Also
        --------
        gradfit.FitResult.bias
        """
        if isinstance(self.estimator, LeastDistance):
            return self._numbers.bias
        return dict.fromkeys(self.names, math.nan)

    @property
    def carried(self) -> dict[str, float]:
        """Propagated over expected standard errors; empty but for least distances.

        See Also
        --------
        gradfit.FitResult.carried
        """
        return self._numbers.carried if isinstance(self.estimator, LeastDistance) else {}

    def influence(self) -> "Influence":
        """Return how every parameter moves with every datum, of least distances."""
        instead = "jackknife().samples says what each point does"
        return self._least_distance("influence()", instead).influence()

    def diagnostics(self) -> "Diagnostics":
        """Return leverage, Cook's distance, residuals and runs, of least distances."""
        instead = "jackknife().samples says what each point does"
        return self._least_distance("diagnostics()", instead).diagnostics()

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

    # -- keeping ---------------------------------------------------------------------------------

    def raise_for_status(self) -> None:
        """Raise a :class:`gradfit.errors.FitError` unless the line was found."""
        if not self.success:
            raise FitError(f"{self.status.name}: {self.message}", self)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as numbers, text, lists and dictionaries."""
        own = self.beyond()
        return self._numbers.to_dict() | {
            "kind": "line",
            "method": self.method,
            "assumes": self.assumes,
            "figures": dict(self.figures),
            "told": [list(row) for row in self.told],
            "picture": self.picture,
            "left_out": self.left_out.tolist(),
            "estimator": to_plain(self.estimator),
            "variance_beyond": None if own is None else own.tolist(),
        }

    def to_json(self) -> str:
        """Return every field as JSON; NaN becomes null, infinities become text."""
        return plain.to_json(self.to_dict())

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "LineResult":
        """Return the line that :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            The fields are not those of a line.
        """
        if fields.get("kind") != "line":
            raise InputError(
                f"this is no line that to_dict() wrote: kind is {fields.get('kind')!r}; a fit is "
                "read by gf.FitResult.from_dict."
            )
        missing = [name for name in _READERS if name not in fields]
        if missing:
            raise InputError(f"this line is incomplete: {', '.join(missing)} missing.")
        try:
            own = {name: read(fields[name]) for name, read in _READERS.items()}
        except (TypeError, ValueError, AttributeError, KeyError) as e:
            raise InputError(f"this line is damaged: {e}.") from None
        fit = FitResult.from_dict({**fields, "kind": "fit"})
        known = {f.name: getattr(fit, f.name) for f in dataclass_fields(FitResult)}
        model = RELATION if fit.names == RELATION.names else LINE
        return cls(**known | {"model": model}, **own)

    @classmethod
    def from_json(cls, text: str) -> "LineResult":
        """Return the line that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            The fields are not those of a line.
        """
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise InputError("`text` must be what to_json() wrote, and is no such document.")
        return cls.from_dict(found)


def _rows(value: Any) -> tuple[Row, ...]:
    return tuple((str(a), str(b)) for a, b in value)


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("method", "assumes", "picture"), str),
    "figures": plain.reals,
    "told": _rows,
    "left_out": lambda value: np.asarray(value, dtype=np.float64).reshape(-1, 2),
    "estimator": from_plain,
    "variance_beyond": plain.array,
}
