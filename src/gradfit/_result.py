"""What a fit gives back: one frozen value, or a table with one row per group."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradfit._types import FloatArray, Status

if TYPE_CHECKING:
    from gradfit._model import Model

Array: TypeAlias = FloatArray | Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What was measured, as the fit used it: every row of the user, in the user's order.

    Attributes
    ----------
    x : ndarray (N,) or (m, N)
        NaN in rows that were left out.
    y : ndarray (N,) or (q, N), or None
        None for an implicit model.
    sx, sy : float, ndarray that broadcasts against x (y), or None
        Standard deviations; 0 where ``fix_x`` made a coordinate exact. None where none was given:
        with neither ``sx``, ``sy`` nor ``cov`` all are 1, otherwise what is not given is exact.
    rho : float, ndarray (N,), or None
        Correlation of the errors of x and y.
    cov : ndarray (k, k, N) or (k, k, 1), or None
        Joint covariance of x and y, ``k = m + q``.
    x_names, y_names : tuple of str
        Names of columns, kept as given; they become labels of axes.
    """

    x: FloatArray
    y: FloatArray | None
    sx: FloatArray | float | None = None
    sy: FloatArray | float | None = None
    rho: FloatArray | float | None = None
    cov: FloatArray | None = None
    x_names: tuple[str, ...] = ("x",)
    y_names: tuple[str, ...] = ("y",)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitResult:
    r"""A model fitted to data: parameters, their uncertainties, and how well it all agrees.

    NumPy in, NumPy out; tensors in, tensors out. ``p`` counts all parameters, ``N`` all rows of the
    user's data; rows left out hold NaN.

    Attributes
    ----------
    names : tuple of str
        Parameters, in the order of the model.
    params, stderr : mapping of str to float
        Values and standard errors, ``stderr[n] == sqrt(cov[n, n])``; 0 where fixed or at a bound.
    cov, corr : (p, p)
        Covariance and correlation; rows of fixed parameters are 0.
    chi2 : float
        Weighted squared distance at the solution.
    dof : int
        Degrees of freedom, ``N*q - p_free``.
    mswd : float
        ``chi2 / dof``; NaN when ``dof`` is 0.
    p_value : float
        Probability of a larger ``chi2`` if model and sigmas are right; NaN when ``dof`` is 0 or no
        sigmas were given.
    delta, x_hat : (N,) or (m, N)
        ``x_hat - x``, and the foot points on the curve.
    eps, y_hat : (N,) or (q, N), or None
        ``y_hat - y``, and the model at the foot points; None for an implicit model.
    weights : (N,)
        Weights of a robust loss in 0..1; all 1 for ``loss="linear"``.
    status : Status
        How the fit ended.
    success : bool
        ``status.ok``.
    message : str
        What happened and, where it failed, what to try.
    n_steps, n_eval : int
        Steps tried, evaluations of the model.
    condition : float
        Ratio of the largest to the smallest singular value of the column-scaled Jacobian.
    rank : int
        Number of parameters, or combinations of them, that the data determine.
    seconds : float
        Wall time of the fit.
    backend : str
        What ran it.
    absolute_sigma : bool
        Whether ``cov`` takes the sigmas as they are (True) or is scaled by ``mswd``.
    cov_type, loss : str
        As asked.
    fixed, at_bound : tuple of str
        Parameters that were held, and those that ended at a bound.
    observed : Observed
        The data.
    model : Model
        The model.
    """

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
    model: "Model"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitTable:
    """One fit per group: the names of :class:`FitResult`, one row per group.

    ``many[key]`` is one fit, ``for key in many`` goes over the keys, ``len(many)`` counts groups.

    Attributes
    ----------
    keys : tuple
        Labels of the groups, in order of first appearance.
    group : ndarray (N,) int64
        Which key each row of the user belongs to; -1 for rows left out.
    names : tuple of str
    params, stderr : mapping of str to (G,)
    cov, corr : (G, p, p)
    chi2, mswd, p_value, condition : (G,)
    dof, status, n_steps, n_eval, rank : ndarray (G,) int64
    success : ndarray (G,) bool
    delta, eps, x_hat, y_hat, weights
        Per point, in the user's row order, as in :class:`FitResult`.
    at_bound : ndarray (G, p) bool
        Parameters that ended at a bound.
    seconds : float
        Wall time of all fits together.
    backend, absolute_sigma, cov_type, loss, fixed, observed, model
        As in :class:`FitResult`; the same for every group.
    """

    keys: tuple[Hashable, ...]
    group: NDArray[np.int64]
    names: tuple[str, ...]
    params: Mapping[str, Array]
    stderr: Mapping[str, Array]
    cov: Array
    corr: Array
    chi2: Array
    dof: NDArray[np.int64]
    mswd: Array
    p_value: Array
    delta: Array
    eps: Array | None
    x_hat: Array
    y_hat: Array | None
    weights: Array
    status: NDArray[np.int64]
    success: NDArray[np.bool_]
    n_steps: NDArray[np.int64]
    n_eval: NDArray[np.int64]
    condition: Array
    rank: NDArray[np.int64]
    seconds: float
    backend: str
    absolute_sigma: bool
    cov_type: str
    loss: str
    fixed: tuple[str, ...]
    at_bound: NDArray[np.bool_]
    observed: Observed
    model: "Model"
