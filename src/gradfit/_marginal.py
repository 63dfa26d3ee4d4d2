"""Curves with intrinsic scatter: marginalised normal regression."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._asked import other_columns
from gradfit._begin import find_start
from gradfit._data import Data, gather
from gradfit._data.synonyms import understood
from gradfit._engine.points import Function
from gradfit._format import columns, measured, number, plural
from gradfit._likelihood import Negative, Peak, judge_scatter, maximise, said_of_scatter
from gradfit._model import Model, as_model
from gradfit._problem import Problem, start_of, state_problem
from gradfit._promise import check_model
from gradfit._result import prediction
from gradfit._result.observed import Observed
from gradfit._types import FloatArray
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed, undisturbed_methods


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MarginalFit:
    """A curve with intrinsic scatter.

    Attributes
    ----------
    names : tuple of str
        Parameters of the model.
    params, stderr : mapping of str to float
        Values and standard errors; 0 where fixed.
    cov : ndarray (p, p)
        Their covariance.
    sigma_int, sigma_int_stderr : float
        Intrinsic scatter in y, one standard deviation, and its standard error; both 0 where the
        errors explain all scatter.
    sigma_int_limit : float
        Where there may be none, the largest it can be (95 %, from the profile likelihood); else
        NaN.
    x_mean, x_width : float
        Mean and standard deviation of the normal distribution of the true x.
    log_likelihood : float
        At the maximum.
    success : bool
        Whether a maximum was reached.
    message : str
        How it ended.
    n_steps : int
        Newton steps tried.
    observed : Observed
        The data.
    model : Model
        The model.
    """

    names: tuple[str, ...]
    params: Mapping[str, float]
    stderr: Mapping[str, float]
    cov: FloatArray
    sigma_int: float
    sigma_int_stderr: float
    x_mean: float
    x_width: float
    log_likelihood: float
    success: bool
    message: str
    n_steps: int
    observed: Observed
    model: Model
    sigma_int_limit: float = math.nan

    def predict(self, x: Any) -> Any:
        """Return the fitted model at x, as :meth:`gradfit.FitResult.predict`."""
        return prediction.predict(self.model, self.params, prediction.places(x, self.observed))

    def summary(self) -> str:
        """Return the fit as text; ``print(...)`` shows the same."""
        rows = [(n, measured(self.params[n], self.stderr[n])) for n in self.names]
        scatter = self._scatter()
        prior = f"normal, mean {number(self.x_mean, 4)}, standard deviation "
        return "\n".join(
            [
                f"Marginalised normal regression of {self.model.label}",
                plural(self.observed.n_points, "point"),
                "",
                *columns([("parameter", "value ± error"), *rows, ("sigma_int", scatter)], "lp"),
                "",
                f"true x          {prior}{number(self.x_width, 4)}",
                f"log-likelihood  {number(self.log_likelihood, 8)}",
                f"status          {self.message}",
            ]
        )

    def _scatter(self) -> str:
        value = measured(self.sigma_int, self.sigma_int_stderr)
        return said_of_scatter("sigma_int", value, self.sigma_int == 0.0, self.sigma_int_limit)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        values = ", ".join(f"{n}={number(v)}" for n, v in self.params.items())
        return f"<MarginalFit {values}, sigma_int={number(self.sigma_int)}>"


@understood
@undisturbed
def mnr(
    model: Callable[..., Tensor] | str | Model,
    x: Any = None,
    y: Any = None,
    *,
    data: Any = None,
    start: Mapping[str, Any] | Sequence[Any] | None = None,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    fixed: Mapping[str, float] | None = None,
) -> MarginalFit:
    r"""Fit a curve around which the truth itself scatters: marginalised normal regression.

    The true x are normal, :math:`N(\mu, w^2)`, the true y scatter around the curve by
    :math:`\sigma_{int}`, and both are measured with their errors. With the curve straight over the
    length of an error bar, :math:`f(t) \approx f_i + f'_i (t - x_i)`, the true values are
    integrated out: each point is normal around :math:`(\mu,\; f_i + f'_i (\mu - x_i))` with the
    covariance

    .. math::  \begin{pmatrix} w^2 + s_x^2 & f'_i w^2 + \rho s_x s_y \\
               \cdot & f_i'^2 w^2 + s_y^2 + \sigma_{int}^2 \end{pmatrix} ,

    and :math:`\beta, \sigma_{int}, \mu, w` maximise the likelihood. Plain distances, as
    :func:`gradfit.fit` minimises them, take intrinsic scatter for error of x as well and make a
    line too steep.

    Parameters
    ----------
    model, x, y, data, start, sx, sy, rho, fixed
        As for :func:`gradfit.fit`: one x, one y, with ``sx`` given.

    Returns
    -------
    MarginalFit

    Raises
    ------
    InputError
        As :func:`gradfit.fit`; an implicit model, several variables, or no ``sx``.

    Notes
    -----
    Standard errors are from the observed information. The normal distribution of the true x does
    no harm where it is wrong but wide; several variables and mixtures are not covered.

    References
    ----------
    Bartlett and Desmond, Open Journal of Astrophysics 6 (2023) 42.

    Examples
    --------
    >>> import gradfit as gf
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(0, 2, 2000)
    >>> x = truth + rng.normal(0, 1, 2000)
    >>> y = truth + rng.normal(0, 1.5, 2000) + rng.normal(0, 0.5, 2000)
    >>> fit = gf.mnr("a + b*x", x, y, sx=1.0, sy=0.5)
    >>> print(f"{fit.params['b']:.1f} {fit.sigma_int:.1f}")
    1.0 1.5
    """
    observed = gather(x, y, sx, sy, rho, data=data)
    if observed.y is None or len(observed.x) != 1 or len(observed.y) != 1:
        raise InputError("mnr() needs one `x` and one `y`, each with one value per point.")
    if observed.sx is None:
        raise InputError("`sx` is missing: mnr() needs the errors of x.")
    problem = state_problem(
        observed,
        as_model(model, observed.x_names, other_columns(data, observed.x_names, start, fixed)),
        fixed=fixed,
        bounds=None,
        fix_x=None,
        absolute_sigma=True,
    )
    _refuse_few(problem, observed)
    with torch.enable_grad():
        beta = start_of(problem, start)
        beta = find_start(problem, None).beta if beta is None else beta
        problem = check_model(problem, beta)
        points = _Points(observed.x, observed.y[0], *_variances(observed))
        fn = problem.plain()
        negative = _negative(fn, points)
        found = maximise(negative, _begin(fn, points, beta[0])[None])
    return _tell(problem, found, points, negative)


class _Points(NamedTuple):
    """Observed x (1, N) and y (N,); variances and covariance of their errors, (N,) or (1,)."""

    x: Tensor
    y: Tensor
    var_x: Tensor
    var_y: Tensor
    mixed: Tensor


def _variances(data: Data) -> tuple[Tensor, Tensor, Tensor]:
    zero = data.x.new_zeros(1)
    sx = zero if data.sx is None else data.sx[0]
    sy = zero if data.sy is None else data.sy[0]
    return sx**2, sy**2, zero if data.rho is None else data.rho * sx * sy


def _begin(fn: Function, points: _Points, beta: Tensor) -> Tensor:
    """Return where to start: the parameters, the scatter, mean and width of x."""
    x = points.x[0]
    with torch.no_grad():
        off = points.y - fn(points.x, [b.expand(len(x)) for b in beta])[0]
    least = 0.01 * float(off.var() + points.var_y.mean())
    scatter = (off.var() - points.var_y.mean()).clamp(min=least)
    width = (x.var() - points.var_x.mean()).clamp(min=0.01 * float(x.var()))
    return torch.cat([beta, torch.stack([scatter.sqrt(), x.mean(), width.sqrt()])])


def _negative(fn: Function, points: _Points) -> Negative:
    """Return the negative log-likelihood as a function of all unknowns (1, p), up to a constant."""
    x, y, var_x, var_y, mixed = points

    def negative(unknowns: Tensor) -> Tensor:
        *beta, scatter, mean, width = unknowns[0].unbind()
        value, slope = _tangent(fn, x, beta)
        spread = width * width
        a = spread + var_x
        b = slope * spread + mixed
        c = slope * slope * spread + var_y + scatter * scatter
        dx, dy = x[0] - mean, y - value - slope * (mean - x[0])
        rest = c - b * b / a
        left = dy - b / a * dx
        parts = dx * dx / a + left * left / rest + torch.log(a) + torch.log(rest)
        return parts.sum()[None] / 2

    return negative


def _tangent(fn: Function, x: Tensor, beta: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the curve and its slope (N,) at the observations, both connected to ``beta``."""
    at = x.detach().requires_grad_()
    value = fn(at, [b.expand(x.shape[1]) for b in beta])[0]
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True, materialize_grads=True)
    return value, slope[0]


def _tell(problem: Problem, found: Peak, points: _Points, negative: Negative) -> MarginalFit:
    names, free = problem.model.names, problem.free
    p = len(free)
    verdict = judge_scatter(negative, found, p)
    at, cov = verdict.peak.theta[0], verdict.peak.cov[0]
    values = dict(problem.fixed) | dict(zip(free, at[:p].tolist(), strict=True))
    errors = dict.fromkeys(names, 0.0)
    errors |= dict(zip(free, cov.diagonal()[:p].clamp(min=0).sqrt().tolist(), strict=True))
    places = [names.index(n) for n in free]
    wide = np.zeros((len(names), len(names)))
    wide[np.ix_(places, places)] = cov[:p, :p].numpy()
    scatter, mean, width = at[p:].tolist()
    n = len(points.y)
    success = bool(verdict.peak.settled[0]) and bool(torch.isfinite(at).all())
    return MarginalFit(
        names=names,
        params={name: values[name] for name in names},
        stderr=errors,
        cov=wide,
        sigma_int=abs(scatter),
        sigma_int_stderr=math.sqrt(max(float(cov[p, p]), 0.0)),
        sigma_int_limit=verdict.limit,
        x_mean=mean,
        x_width=abs(width),
        log_likelihood=-float(verdict.peak.value[0]) - n * math.log(2 * math.pi),
        success=success,
        message="converged" if success else "stopped before converging; start closer",
        n_steps=found.n_steps,
        observed=Observed(
            x=points.x[0].numpy().copy(),
            y=points.y.numpy().copy(),
            x_names=problem.data.x_names,
            y_names=problem.data.y_names,
        ),
        model=problem.model,
    )


def _refuse_few(problem: Problem, data: Data) -> None:
    """Raise where the points cannot tell a scatter, or stand at one x."""
    n, least = data.x.shape[1], len(problem.free) + 3
    if n < least:
        raise InputError(
            f"{plural(n, 'point')} cannot tell {plural(len(problem.free), 'parameter')} and a "
            f"scatter; at least {least} are needed."
        )
    if not bool(data.x.amin() < data.x.amax()):
        raise InputError("`x` has one value only; a curve with scatter needs several.")
