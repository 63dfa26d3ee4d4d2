"""Values of a fitted model where nobody measured, and how far they may be off."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._data.arrays import to_array, to_tensor
from gradfit._data.checks import shown
from gradfit._distributions import check_level, normal_quantile, t_quantile
from gradfit._model import Model
from gradfit._result.observed import Observed
from gradfit._tangent import CHUNK, evaluate, tangent
from gradfit._types import FloatArray
from gradfit._views.fitted import as_array, rows
from gradfit.errors import InputError


class Band(NamedTuple):
    """Lower and upper edge of a band around the curve, in the unit of y."""

    lower: Any
    upper: Any


class Places(NamedTuple):
    """Where to evaluate: x as the model sees it, and how to hand answers back."""

    x: Tensor
    alone: bool
    as_torch: bool

    def give(self, values: Tensor) -> Any:
        """Return values (N,) or (q, N) in the kind and shape in which x came."""
        if self.alone:
            values = values[..., 0]
        if self.as_torch:
            return values
        array = values.detach().numpy()
        return float(array) if array.ndim == 0 else array


def places(x: Any, observed: Observed) -> Places:
    """Return where to evaluate.

    Raises
    ------
    InputError
        The model is implicit, or x has not the variables of the data.
    """
    if observed.y is None:
        raise InputError(
            "an implicit model has no y to predict; it is zero on the curve. "
            "Use plot() to see the curve, or model.fn for its value elsewhere."
        )
    as_torch = isinstance(x, Tensor)
    at = to_tensor("`x`", x, x.device if isinstance(x, Tensor) else None)
    if isinstance(x, Tensor) and x.requires_grad:
        at = x.to(torch.float64)
    m = 1 if observed.x.ndim == 1 else observed.x.shape[0]
    wanted = observed.x.ndim
    alone = at.ndim == wanted - 1
    if alone:
        at = at[..., None]
    if at.ndim != wanted or (wanted == 2 and at.shape[0] != m):
        shape = "(N,)" if wanted == 1 else f"({m}, N)"
        got = tuple(at.shape[:-1] if alone else at.shape)
        raise InputError(f"`x` must have shape {shape}, as in the fit; got {got}.")
    return Places(at, alone, as_torch)


def predict(model: Model, params: Mapping[str, float], at: Places) -> Any:
    """Return the model at the places."""
    return at.give(evaluate(model, list(params.values()), at.x))


def predict_each(model: Model, params: Sequence[Any], at: Places) -> Any:
    """Return the model of many fits at the same places; ``params`` holds (G,) numbers for each."""
    columns = [torch.from_numpy(np.array(as_array(values))).to(at.x) for values in params]
    n = at.x.shape[-1]
    pieces = [
        _side_by_side(model, part, at.x)
        for part in zip(
            *(column.split(max(1, CHUNK // max(n, 1))) for column in columns), strict=True
        )
    ]
    return at.give(torch.cat(pieces))


def _side_by_side(model: Model, params: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return the model of G fits at x (N,) or (m, N), as (G, N) or (G, q, N)."""
    shape = len(params[0]), x.shape[-1]
    many = x[..., None, :].expand(*x.shape[:-1], *shape).flatten(-2)
    with torch.no_grad():
        value = model.fn(many, *(column.repeat_interleave(shape[1]) for column in params))
    value = value.expand(*value.shape[:-1], many.shape[-1])
    return value.unflatten(-1, shape).movedim(-2, 0)


def check_method(method: str, known: Sequence[str]) -> None:
    """Raise an InputError that lists what exists unless ``method`` does."""
    if not (isinstance(cast(object, method), str) and method in known):
        raise InputError(f"`method` must be one of {', '.join(known)}; got {shown(method)}.")


def quantile(level: float, dof: float) -> float:
    """Return how many standard errors hold ``level`` on both sides; ``dof`` inf: normal."""
    check_level(level)
    if dof == math.inf:
        return normal_quantile((1 + level) / 2)
    return t_quantile((1 + level) / 2, dof) if dof > 0 else math.nan


def band(
    model: Model,
    params: Mapping[str, float],
    cov: Any,
    at: Places,
    width: float,
    noise: FloatArray | None,
) -> Band:
    """Return the curve minus and plus ``width`` standard errors.

    ``noise`` (k, k) is the covariance of a new measurement of (x, y); None for the curve alone.
    """
    here = tangent(model, list(params.values()), at.x)
    J = here.J_beta.cpu().numpy()
    variance = np.einsum("qpn,pr,qrn->qn", J, as_array(cov), J)
    if noise is not None:
        G = np.concatenate([-here.J_x.cpu().numpy(), _units(J.shape[0], J.shape[2])], 1)
        variance = variance + np.einsum("qin,ij,qjn->qn", G, noise, G)
    half = torch.from_numpy(width * np.sqrt(variance)).to(at.x.device)
    vector = evaluate(model, list(params.values()), at.x).ndim == 1
    lower, upper = here.value - half, here.value + half
    return Band(*(at.give(edge[0] if vector else edge) for edge in (lower, upper)))


def _units(q: int, n: int) -> FloatArray:
    return np.broadcast_to(np.eye(q)[:, :, None], (q, q, n))


def new_noise(observed: Observed, sx: Any, sy: Any) -> FloatArray:
    """Return the covariance (k, k) of one more measurement, by default like those that were fitted.

    Raises
    ------
    InputError
        The errors differ from point to point, so that there is no "like those".
    """
    m, q = rows(observed.x).shape[0], rows(observed.y).shape[0]
    if observed.cov is not None and sx is None and sy is None:
        if observed.cov.shape[-1] == 1:
            return observed.cov[:, :, 0]
        raise InputError(f"`cov` differs from point to point. {_GIVE}")
    missing = 1.0 if all(s is None for s in (observed.sx, observed.sy, observed.cov)) else 0.0
    scales = np.concatenate(
        [
            _one_sigma("sx", observed.sx if sx is None else sx, m, missing),
            _one_sigma("sy", observed.sy if sy is None else sy, q, missing),
        ]
    )
    noise = np.diag(scales**2)
    if observed.rho is not None and sx is None and sy is None:
        if np.ndim(observed.rho):
            raise InputError(f"`rho` differs from point to point. {_GIVE}")
        noise[0, 1] = noise[1, 0] = observed.rho * scales[0] * scales[1]
    return noise


_GIVE = "Give `sx` and `sy` of the new measurement."


def _one_sigma(name: str, sigma: Any, k: int, missing: float) -> FloatArray:
    values = to_array(f"`{name}`", _off_torch(missing if sigma is None else sigma))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape not in ((), (k,)):
        raise InputError(f"`{name}` differs from point to point. {_GIVE}")
    return broadcast_errors(name, values, k)


def _off_torch(value: Any) -> Any:
    return as_array(value) if isinstance(value, Tensor) else value


def broadcast_errors(name: str, sigma: Any, k: int) -> FloatArray:
    """Return k standard errors from a number or as many.

    Raises
    ------
    InputError
        Wrong shape, or a negative one.
    """
    values = to_array(f"`{name}`", _off_torch(sigma))
    if values.shape not in ((), (k,)):
        raise InputError(f"`{name}` must be a number or have shape ({k},), got {values.shape}.")
    if not (values >= 0).all():
        raise InputError(f"`{name}` must not be negative; got {shown(values.tolist())}.")
    return np.broadcast_to(values, (k,))
