"""Points of a known curve with noise in every coordinate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._data import Data, gather
from gradfit._data.arrays import to_tensor
from gradfit._data.checks import shown, to_list, to_seed
from gradfit._data.foreign import refuse_foreign
from gradfit._data.synonyms import understood
from gradfit._model import Model, as_model
from gradfit._types import ArrayLike
from gradfit._whitening import factor
from gradfit.errors import InputError
from gradfit.graph.surroundings import undisturbed


@understood
@undisturbed
def simulate(
    model: Any,
    params: Mapping[str, Any] | Sequence[Any],
    x_true: ArrayLike,
    *,
    sx: "ArrayLike | None" = None,
    sy: "ArrayLike | None" = None,
    rho: "ArrayLike | None" = None,
    cov: "ArrayLike | None" = None,
    seed: int | np.random.Generator = 0,
) -> tuple[Any, Any]:
    r"""Draw points of a curve with normal errors in x and y.

    .. math::  (x_i, y_i) = (\xi_i, f(\xi_i; a, b, \dots)) + e_i, \qquad e_i \sim N(0, V_i)

    Parameters
    ----------
    model : callable, str or Model
        As for :func:`gradfit.fit`, explicit.
    params : mapping or sequence
        The true parameters, each a number or one value per point.
    x_true : array (N,) or (m, N)
        Where the true points lie, in the unit of x.
    sx, sy : number or array, optional
        Standard deviations in the units of x and y, as for :func:`gradfit.fit`; exact if left out.
        One of several responses is NaN where its ``sy`` is inf.
    rho : number or (N,), optional
        Correlation of the errors of x and y.
    cov : (m+q, m+q) or (N, m+q, m+q), optional
        Joint covariance of (x, y), instead of ``sx``, ``sy`` and ``rho``.
    seed : int or numpy.random.Generator
        The same seed gives the same noise, in units of sigma, whatever the sigmas are.

    Returns
    -------
    x, y : array or Tensor
        In the shape of ``x_true`` and of what the model returns; tensors if ``x_true`` is one.

    Raises
    ------
    InputError
        As for :func:`gradfit.fit`, or a parameter is missing or unknown.
    ModelError
        The model fails.

    Examples
    --------
    >>> x, y = simulate("a*x + b", {"a": 2.5, "b": 1.0}, [0.0, 1.0, 2.0], sy=0.0)
    >>> x, y
    (array([0., 1., 2.]), array([1. , 3.5, 6. ]))
    """
    noise_of = np.random.default_rng(to_seed("`seed`", seed))
    given = gather(x_true)
    m, n = given.x.shape
    law = as_model(model, given.x_names)
    with torch.no_grad():
        y = law.call(given.x[0] if given.vector_x else given.x, _values(law, params, given.x))
    if y.ndim == 0 or y.shape[-1] == 1:
        y = y.expand(*y.shape[:-1], n)
    if not bool(torch.isfinite(y).all()):
        raise InputError(f"the model {law.label!r} is NaN or inf at some `x_true` for `params`.")
    data = gather(given.x[0] if given.vector_x else given.x, y, sx, sy, rho, cov)
    z = data.x if data.y is None else torch.cat([data.x, data.y])
    noise = torch.from_numpy(noise_of.standard_normal(tuple(z.shape)))
    z = z + _correlated(data.filled, noise.to(z.device), m)
    x, y = z[0] if given.vector_x else z[:m], z[m] if data.vector_y else z[m:]
    return (x, y) if given.as_torch else (x.cpu().numpy(), y.cpu().numpy())


def _values(law: Model, params: Mapping[str, Any] | Sequence[Any], x: Tensor) -> list[Tensor]:
    """Return one tensor (N,) per parameter, in the order of the model."""
    if not isinstance(params, Mapping):
        refuse_foreign("`params`", params)
        params = to_list("`params`", params, '{"a": 1.0}')
        if len(params) != len(law.names):
            raise InputError(
                f"`params` has {len(params)} values, but {law.label!r} has {len(law.names)} "
                f"parameters: {', '.join(law.names)}."
            )
        params = dict(zip(law.names, params, strict=True))
    values = {**law.defaults, **params}
    for name in values:
        if name not in law.names:
            raise InputError(_unlike(law, f"names {shown(name)}, which is no parameter"))
    for name in law.names:
        if name not in values:
            raise InputError(_unlike(law, f"gives no value for {name!r}"))
    return [_value(name, values[name], x) for name in law.names]


def _unlike(law: Model, what: str) -> str:
    return f"`params` {what}; the parameters of {law.label!r} are {', '.join(law.names)}."


def _value(name: str, value: Any, x: Tensor) -> Tensor:
    t = to_tensor(f"`params` of {name!r}", value, x.device)
    n = x.shape[1]
    if tuple(t.shape) not in ((), (n,)):
        raise InputError(
            f"`params` of {name!r} must be a number or have shape ({n},), got {tuple(t.shape)}."
        )
    return t.expand(n)


def _correlated(data: Data, noise: Tensor, m: int) -> Tensor:
    """Return errors (m + q, N) from independent standard normal numbers."""
    if data.cov is not None:
        L = factor(data.cov.permute(2, 0, 1))
        return (L @ noise.T[..., None])[..., 0].T
    u, v = noise[:m], noise[m:]
    if data.rho is not None:
        v = data.rho * u + (1 - data.rho**2).sqrt() * v
    sx = 0.0 if data.sx is None else data.sx
    sy = 0.0 if data.sy is None else data.sy
    return torch.cat([sx * u, sy * v])
