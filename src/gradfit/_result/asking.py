"""What a fit can be asked: predictions, bands, intervals, and where its uncertainty comes from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor

from gradfit._model import Model
from gradfit._result import prediction
from gradfit._result.observed import Observed
from gradfit._result.prediction import Band, places
from gradfit._types import FloatArray, Status
from gradfit.errors import InputError

Array: TypeAlias = FloatArray | Tensor


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Asking:
    """The fields of a :class:`FitResult`, and the questions that they answer."""

    names: tuple[str, ...]
    params: Mapping[str, float]
    stderr: Mapping[str, float]
    cov: Array
    corr: Array
    chi2: float
    dof: int
    mswd: float
    p_value: float
    delta: Array
    eps: Array | None
    x_hat: Array
    y_hat: Array | None
    weights: Array
    status: Status
    success: bool
    message: str
    n_steps: int
    n_eval: int
    condition: float
    rank: int
    seconds: float
    backend: str
    absolute_sigma: bool
    cov_type: str
    loss: str
    fixed: tuple[str, ...]
    at_bound: tuple[str, ...]
    observed: Observed
    model: Model
    loss_scale: float = math.nan
    bounds: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    shared: tuple[str, ...] = ()

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
        if kind not in ("confidence", "prediction"):
            raise InputError(f'`kind` must be "confidence" or "prediction", got {kind!r}.')
        noise = None
        if kind == "prediction":
            noise = prediction.new_noise(self.observed, sx, sy)
            if not self.absolute_sigma:
                noise = noise * self.mswd
        width = self._quantile(level)
        return prediction.band(self.model, self.params, self.cov, at, width, noise)

    def interval(self, level: float = 0.95, method: str = "t") -> dict[str, tuple[float, float]]:
        """Return a confidence interval for every parameter.

        Parameters
        ----------
        level : float
            Probability that an interval holds the true value.
        method : "t"
            Value plus and minus standard errors: as many as Student's t asks for if the covariance
            was scaled by the scatter of ``dof`` degrees of freedom, as the normal distribution does
            if the sigmas were known (``absolute_sigma``).

        Raises
        ------
        InputError
            Unknown method, or a level outside 0..1.

        Examples
        --------
        >>> import gradfit as gf
        >>> fit = gf.fit("a*x", [1, 2, 3], [1.1, 1.9, 3.0], sy=0.1, start={"a": 1})
        >>> low, high = fit.interval()["a"]
        >>> print(f"{low:.4f} {high:.4f}")
        0.9405 1.0452
        """
        prediction.check_method(method)
        width = self._quantile(level)
        return {
            n: (value - width * self.stderr[n], value + width * self.stderr[n])
            for n, value in self.params.items()
        }

    def _quantile(self, level: float) -> float:
        return prediction.quantile(level, math.inf if self.absolute_sigma else self.dof)
