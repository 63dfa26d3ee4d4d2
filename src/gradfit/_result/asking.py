"""What a fit can be asked: predictions, bands, intervals, and where its uncertainty comes from."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._data.checks import shown, to_finite
from gradfit._result import inverse, prediction
from gradfit._result.inverse import Inverse
from gradfit._result.outcome import Outcome
from gradfit._result.prediction import Band, places
from gradfit.errors import GradfitError, InputError
from gradfit.graph.surroundings import undisturbed_methods

if TYPE_CHECKING:
    from gradfit._uncertainty.bootstrap import Bootstrap, Jackknife
    from gradfit._uncertainty.diagnostics import Diagnostics
    from gradfit._uncertainty.influence import Influence
    from gradfit._uncertainty.restate import Case


Method: TypeAlias = Literal["t", "profile", "bootstrap", "jackknife"]


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Asking(Outcome):
    """The fields of a :class:`FitResult`, and the questions that they answer."""

    def predict(self, x: Any) -> Any:
        """Return the fitted model at x.

        Parameters
        ----------
        x : number, (N,) or (m, N)
            In the unit of the data; NumPy in, NumPy out, tensors in, tensors out.

        Returns
        -------
        float, (N,) or (q, N)

        Raises
        ------
        InputError
            Wrong shape, or an implicit model, which has no y.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a*x + b", [0, 1, 2], [1.0, 3.1, 4.9], sy=0.1, start={"a": 1, "b": 0})
        >>> print(f"{fit.predict(3.0):.6f}")
        6.900000
        """
        return prediction.predict(self.model, self.params, places(x, self.observed))

    def band(
        self,
        x: Any,
        level: float = 0.95,
        kind: Literal["confidence", "prediction"] = "confidence",
        *,
        sx: float | None = None,
        sy: float | None = None,
    ) -> Band:
        r"""Return a band around the curve, from the full covariance of the parameters.

        With :math:`J = \partial f / \partial \beta`, the half-width is a quantile times the root of
        :math:`J C J^T`; for ``kind="prediction"`` plus the variance
        :math:`f_x^2 s_x^2 + s_y^2` of one more measurement.

        Parameters
        ----------
        x : number, (N,) or (m, N)
            In the unit of the data.
        level : float
            Probability, at each x on its own, that the band holds the true curve
            (``"prediction"``: the new measurement).
        kind : "confidence" or "prediction"
        sx, sy : float, optional
            Errors of the new measurement, in the units of x and y; by default those of the fit,
            where they are the same at every point.

        Returns
        -------
        Band
            ``(lower, upper)``, each in the shape of ``predict(x)``.

        Raises
        ------
        InputError
            Wrong level, kind or shape; errors that differ from point to point and are not given.

        Notes
        -----
        To first order in the errors. The quantile is that of :meth:`interval`.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a*x + b", [0, 1, 2], [1.0, 3.1, 4.9], sy=0.1, start={"a": 1, "b": 0})
        >>> lower, upper = fit.band(1.0)
        >>> print(f"{lower:.4f} {upper:.4f}")
        2.8868 3.1132
        """
        at = places(x, self.observed)
        if not (isinstance(cast(object, kind), str) and kind in ("confidence", "prediction")):
            raise InputError(f'`kind` must be "confidence" or "prediction", got {shown(kind)}.')
        noise = None
        if kind == "prediction":
            noise = prediction.new_noise(self.observed, sx, sy)
            noise = noise * self.sigma_factor**2
        width = self._quantile(level)
        return prediction.band(self.model, self.params, self.cov, at, width, noise)

    def interval(self, level: float = 0.95, method: Method = "t") -> dict[str, tuple[float, float]]:
        """Return a confidence interval for every parameter.

        Parameters
        ----------
        level : float
            Probability that an interval holds the true value.
        method : str
            ``"t"``: value plus and minus standard errors, as many as Student's t asks for if the
            covariance was scaled by the scatter of ``dof`` degrees of freedom, as the normal
            distribution does if the sigmas were known (``absolute_sigma``).
            Of a parameter at a bound, the bound and the end of its profile. Where the errors of x
            are so large that such an interval holds the truth less often than it says, a
            :class:`gradfit.errors.CoverageWarning` says so (:attr:`carried`).
            ``"profile"``: where chi-square, minimised over all other parameters, has risen by the
            square of that number; follows the curvature of the model and need not be symmetric.
            Infinite where chi-square never rises so far.
            ``"bootstrap"``: BCa of the default :meth:`bootstrap`.
            ``"jackknife"``: that of :meth:`jackknife`.

        Raises
        ------
        InputError
            Unknown method, or a level outside 0..1; whatever the methods named above raise.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a*x", [1, 2, 3], [1.1, 1.9, 3.0], sy=0.1, start={"a": 1})
        >>> low, high = fit.interval()["a"]
        >>> print(f"{low:.4f} {high:.4f}")
        0.9405 1.0452
        """
        prediction.check_method(method, ("t", "profile", "bootstrap", "jackknife"))
        width = self._quantile(level)
        if method == "bootstrap":
            return self.bootstrap().interval(level)
        if method == "jackknife":
            return self.jackknife().interval(level)
        if method == "profile":
            from gradfit._uncertainty.profile import profile_interval

            return profile_interval(self, self._case("interval()"), width)
        from gradfit._uncertainty.profile import plain_interval

        return plain_interval(self, width)

    @property
    def carried(self) -> dict[str, float]:
        r"""How much larger standard errors are that carry all errors of the data through the fit.

        ``cov_type="propagated"`` over ``"expected"``, by name; empty where x has no errors or
        nothing can be said, as for robust losses and shared parameters.
        """
        return dict(self._carried)

    @cached_property
    def _carried(self) -> dict[str, float]:
        from gradfit._uncertainty.carried import carried_of

        return carried_of(self)

    def bootstrap(
        self,
        n: int = 2000,
        kind: Literal["pairs", "residual", "parametric"] = "pairs",
        *,
        seed: "int | np.random.Generator" = 0,
        progress: bool = False,
    ) -> "Bootstrap":
        """Refit resampled data many times, as one batch.

        Parameters
        ----------
        n : int
            How many times; intervals want thousands.
        kind : "pairs", "residual" or "parametric"
            Draw whole points; standardised residuals around the fitted curve; or normal errors of
            the given size (scaled by the scatter, if the covariance is). The first needs no
            assumption but that points are alike, the last believes the stated errors.
        seed : int or numpy.random.Generator
            The same seed gives the same refits.
        progress : bool
            Show a bar on standard error. An interrupt keeps what is done so far.

        Returns
        -------
        Bootstrap
            ``samples``, ``stderr``, ``bias``, ``cov``, ``interval(level, "bca" | "percentile")``.

        Raises
        ------
        InputError
            Wrong ``n`` or ``kind``; points that share errors, unless ``"parametric"``; a fit that
            shares parameters with others or has no solution.

        References
        ----------
        Efron and Tibshirani, An Introduction to the Bootstrap (1993).

        Examples
        --------
        >>> import gradfit as gf
        >>> x, y = [1, 2, 3, 4, 5, 6], [1.1, 1.9, 3.2, 3.8, 5.1, 6.0]
        >>> many = gf.fit("a*x", x, y, sy=0.1, start={"a": 1}).bootstrap(500, "parametric")
        >>> print(f"{many.stderr['a']:.2f}")
        0.01
        """
        from gradfit._uncertainty.bootstrap import bootstrap

        return bootstrap(self, self._case("bootstrap()"), n, kind, seed, progress)

    def jackknife(self, *, progress: bool = False) -> "Jackknife":
        """Refit without each point in turn, as one batch.

        Parameters
        ----------
        progress : bool
            Show a bar on standard error.

        Returns
        -------
        Jackknife
            ``samples`` in the order of the points, ``stderr``, ``bias``, ``cov``,
            ``interval(level)``.

        Raises
        ------
        InputError
            No more points than parameters; points that share errors; a fit that shares parameters
            with others or has no solution.

        References
        ----------
        Tukey, Ann. Math. Stat. 29 (1958) 614; for lines, Linnet, Stat. Med. 9 (1990) 1463.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a + 0*x", [0, 1, 2, 3], [1.0, 2.0, 3.0, 6.0], sy=1, start={"a": 0})
        >>> print(f"{fit.jackknife().stderr['a']:.4f}")
        1.0801
        """
        from gradfit._uncertainty.bootstrap import jackknife

        return jackknife(self, self._case("jackknife()"), progress)

    def _case(self, asked: str, determined: bool = True) -> "Case":
        from gradfit._uncertainty.restate import restate

        return restate(self, asked, determined)

    def invert(
        self,
        y: Any,
        sy: Any = None,
        *,
        near: float | None = None,
        between: tuple[float, float] | None = None,
    ) -> Inverse:
        r"""Return the x at which the curve has the value y, with its standard error.

        By the implicit function, :math:`dx = (dy - f_\beta\, d\beta) / f_x`:

        .. math::  s_x^2 = \left(s_y^2 + f_\beta C f_\beta^T\right) / f_x^2 .

        Parameters
        ----------
        y : number or (K,)
            New readings, independent of the data, in the unit of y.
        sy : number or (K,), optional
            Their standard errors; by default those of the fit, where they are the same at every
            point. 0 asks for the uncertainty of the curve alone.
        near : float, optional
            Which x to take where the curve has the value more than once.
        between : (float, float), optional
            Where to look; by default over the range of the data.

        Returns
        -------
        Inverse
            ``(x, stderr)`` in the shape of ``y``.

        Raises
        ------
        InputError
            No such x in the range, or several and no ``near``; a model of several variables.

        Notes
        -----
        First order in the errors, as ISO/TS 28037, clause 11.2. Where the curve is flat compared
        with its error, x is not determined and the standard error grows without limit.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a*x + b", [0, 1, 2], [1.0, 3.1, 4.9], sy=0.1, start={"a": 1, "b": 0})
        >>> x, error = fit.invert(4.0, sy=0.1)
        >>> print(f"{x:.4f} {error:.4f}")
        1.5128 0.0621
        """
        at, alone, as_torch = inverse.readings(y, self.observed)
        if sy is None:
            noise = prediction.new_noise(self.observed, None, None)[1, 1]
            sy = math.sqrt(noise) * self.sigma_factor
        errors = prediction.broadcast_errors("sy", sy, len(at))
        ends = inverse.range_of(self.observed, self.x_hat, between)
        near = None if near is None else to_finite("`near`", near)
        x = inverse.find_roots(self.model, self.params, at, ends, near)
        stderr = inverse.spread_of(self.model, self.params, self.cov, x, errors)
        if alone:
            x, stderr = x[0], stderr[0]
        if as_torch:
            return Inverse(*(torch.from_numpy(np.array(v)) for v in (x, stderr)))
        return Inverse(float(x), float(stderr)) if alone else Inverse(x, stderr)

    @property
    def bias(self) -> dict[str, float]:
        r"""How far curvature moves each parameter on average, to second order in the errors.

        Box's formula for all parameters and foot points together,

        .. math::  \operatorname{E}\,\hat\eta - \eta \approx
                   -\tfrac12 (F^T F)^{-1} F^T \operatorname{tr}\left((F^T F)^{-1}
                   \nabla^2 r\right) ,

        from the second derivatives of the graph. With errors in x it does not shrink with more
        points, as standard errors do. A quarter of a standard error may be ignored; beyond one, the
        next order matters too, and :meth:`bootstrap` with ``"parametric"`` tells it. After
        ``bias_correction`` this is what was taken off.

        NaN for robust losses, fits that share parameters, a fit without solution or with an
        undetermined parameter, and a model that is lost.

        References
        ----------
        Box, J. R. Stat. Soc. B 33 (1971) 171.

        Examples
        --------
        Of one over a mean, the average is larger than one over the average:

        >>> import gradfit as gf
        >>> fit = gf.fit("1/a + 0*x", [0, 1], [0.5, 0.5], sy=0.1, start={"a": 1})
        >>> print(f"{fit.params['a']:.3f} {fit.bias['a']:.3f}")
        2.000 0.040
        """
        return dict(self.correction or self._bias)

    @cached_property
    def _bias(self) -> dict[str, float]:
        from gradfit._uncertainty.unbias import bias_of, unknown_bias

        if self.loss != "linear" or not (self.absolute_sigma or self.dof > 0):
            return unknown_bias(self.names)
        if math.inf in self.stderr.values():
            return unknown_bias(self.names)
        try:
            case = self._case("bias")
        except GradfitError:
            return unknown_bias(self.names)
        return bias_of(case, self.sigma_factor**2)

    def influence(self) -> "Influence":
        r"""Return how every parameter moves with every datum, standard deviation and correlation.

        Exact first derivatives of the fit, by implicit differentiation through the graph:

        .. math::  \frac{d\beta}{dd_i} = -H^{-1}
                   \frac{\partial}{\partial d_i} \frac{\partial \chi^2/2}{\partial \beta} ,

        with the foot points following and the observed information :math:`H`.

        Returns
        -------
        Influence
            ``.x["a"]`` is the derivative of ``a`` by every x, in the shape of x; so ``.y``,
            ``.sx``, ``.sy``, ``.rho`` and ``.cov``. Fixed parameters do not move.

        Raises
        ------
        InputError
            The fit has no solution, or shares parameters with others.
        ModelError
            The model was code and is lost.

        Examples
        --------
        Without errors in x and with equal ones in y, the mean depends on all points alike:

        >>> import gradfit as gf
        >>> fit = gf.fit("a + 0*x", [0, 1, 2, 3], [1.0, 2.0, 3.0, 6.0], sy=1, start={"a": 0})
        >>> fit.influence().y["a"]
        array([0.25, 0.25, 0.25, 0.25])
        """
        from gradfit._uncertainty.influence import influence

        return influence(self._case("influence()"), isinstance(self.cov, Tensor))

    def diagnostics(self) -> "Diagnostics":
        """Return leverage, Cook's distance, residuals and runs, and what is determined, in words.

        Raises
        ------
        InputError
            The fit has no solution, or shares parameters with others.
        ModelError
            The model was code and is lost.

        Examples
        --------
        >>> import gradfit as gf
        >>> x, y = [0, 1, 2, 3, 9], [1.1, 2.0, 2.9, 4.1, 10.0]
        >>> found = gf.fit("a + b*x", x, y, sx=0.1, sy=0.1, start={"a": 0, "b": 1}).diagnostics()
        >>> found.leverage.round(3)
        array([0.376, 0.281, 0.223, 0.2  , 0.92 ])
        """
        from gradfit._uncertainty.diagnostics import diagnose

        case = self._case("diagnostics()", determined=False)
        return diagnose(self, case, isinstance(self.cov, Tensor))

    def _quantile(self, level: float) -> float:
        known = self.absolute_sigma and self.loss == "linear"
        return prediction.quantile(level, math.inf if known else self.dof)
