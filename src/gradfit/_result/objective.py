"""Chi-square as a function of the parameters, around a solution, opened up as a graph."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gradfit._tangent import tangent
from gradfit._views.fitted import Fitted, as_array, rows
from gradfit._views.residuals import scatter

if TYPE_CHECKING:
    from gradfit.graph import Film, Graph


class Named:
    """A function of parameters whose names its signature tells."""

    def __init__(self, fn: Callable[..., Tensor], name: str, parameters: tuple[str, ...]) -> None:
        self.__name__ = name
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in parameters])
        self.fn = fn

    def __call__(self, *params: Tensor) -> Tensor:
        return self.fn(*params)


def trace_objective(fit: Fitted) -> "Graph":
    """Trace chi-square at the solution, with every foot point held on its tangent."""
    from gradfit.graph import trace

    values = [
        torch.tensor(value, dtype=torch.float64, requires_grad=name not in fit.fixed, device="cpu")
        for name, value in fit.params.items()
    ]
    return trace(Named(_objective(fit), "chi2", fit.names), *values)


def film_objective(fit: Fitted, path: Sequence[Mapping[str, float]]) -> "Film":
    """Trace the same chi-square at every point of a path of parameters."""
    from gradfit.graph import Film

    objective = Named(_objective(fit), "chi2", fit.names)
    frames = [
        [
            torch.tensor(
                float(at.get(name, value)),
                dtype=torch.float64,
                requires_grad=name not in fit.fixed,
                device="cpu",
            )
            for name, value in fit.params.items()
        ]
        for at in path
    ]
    return Film.of(objective, frames)


def _objective(fit: Fitted) -> Callable[..., Tensor]:
    used = np.isfinite(rows(fit.x_hat)).all(0)
    data, model = fit.observed, fit.model
    x_hat = torch.from_numpy(np.array(as_array(fit.x_hat)[..., used]))
    slope = tangent(model, list(fit.params.values()), x_hat).J_x.numpy()
    noise = np.moveaxis(scatter(data, slope, used), -1, 0)
    weights = torch.from_numpy(np.sqrt(as_array(fit.weights)[used]))
    target = torch.from_numpy(np.einsum("qmn,mn->qn", slope, rows(fit.delta)[:, used]))
    gone = np.zeros(target.shape, dtype=bool)
    if data.y is not None:
        y = rows(data.y)[:, used]
        gone = np.isnan(y)
        target = target + torch.from_numpy(np.where(gone, 0.0, y))
    if len(target) > 1:
        # Independent of the others, a response that was not measured then gets no weight.
        beside = gone.T[:, :, None] | gone.T[:, None]
        noise = np.where(beside, np.eye(len(gone)), noise)
        inverse = np.moveaxis(np.linalg.inv(np.linalg.cholesky(noise)), 0, -1)
        inverse = np.where(gone[:, None] | gone, 0.0, inverse)
        return _of_many(model.fn, x_hat, target, torch.from_numpy(inverse) * weights)
    sigma = torch.from_numpy(np.sqrt(noise[:, 0, 0])) / weights
    return _of_one(model.fn, x_hat, target[0], sigma)


def _of_one(
    model: Callable[..., Tensor], x_hat: Tensor, target: Tensor, sigma: Tensor
) -> Callable[..., Tensor]:
    def chi2(*params: Tensor) -> Tensor:
        curve = model(x_hat, *params)
        return torch.sum(((target - curve) / sigma) ** 2)

    return chi2


def _of_many(
    model: Callable[..., Tensor], x_hat: Tensor, target: Tensor, whiten: Tensor
) -> Callable[..., Tensor]:
    def chi2(*params: Tensor) -> Tensor:
        curve = model(x_hat, *params)
        residual = torch.einsum("qrn,rn->qn", whiten, target - curve)
        return torch.sum(residual**2)

    return chi2
