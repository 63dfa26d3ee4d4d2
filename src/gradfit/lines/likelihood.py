"""Maximum likelihood of a handful of parameters, with exact second derivatives from the graph."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 200


class Peak(NamedTuple):
    """Where a likelihood is largest.

    Attributes
    ----------
    theta : Tensor (p,)
        The parameters.
    cov : Tensor (p, p)
        Inverse of the second derivatives of the negative log-likelihood there.
    value : float
        The negative log-likelihood.
    n_steps : int
        Newton steps taken.
    settled : bool
        Whether the gradient vanished.
    """

    theta: Tensor
    cov: Tensor
    value: float
    n_steps: int
    settled: bool


def maximise(negative: Callable[[Tensor], Tensor], start: Tensor) -> Peak:
    """Minimise a negative log-likelihood by Newton's method, downhill at every step.

    Directions in which it is not convex are turned round, and a step that does not go down is
    halved until it does.
    """
    theta = start.detach().clone()
    value = float(negative(theta))
    settled, taken = False, 0
    H = torch.eye(len(theta), dtype=theta.dtype)
    for taken in range(1, STEPS + 1):  # noqa: B007 - told at the end
        g, H = _derivatives(negative, theta)
        scale = H.diagonal().abs().clamp(min=1e-300).rsqrt()
        e, V = torch.linalg.eigh(H * scale[:, None] * scale)
        along = V.mT @ (g * scale)
        step = -scale * (V @ (along / e.abs().clamp(min=1e-10)))
        promise = -float(g @ step)
        if not promise > 1e-22 * (1 + abs(value)):
            settled = True
            break
        share = 1.0
        while share > 1e-12:
            trial = float(negative(theta + share * step))
            if trial <= value - 1e-4 * share * promise:
                break
            share /= 2
        else:
            # Rounding hides what is left to gain.
            settled = promise <= 1e-10 * (1 + abs(value))
            break
        theta, value = theta + share * step, trial
    return Peak(theta, torch.linalg.pinv(H, hermitian=True), value, taken, settled)


def _derivatives(negative: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        at = theta.detach().requires_grad_()
        g = torch.autograd.grad(negative(at), at, create_graph=True)[0]
        rows = [torch.autograd.grad(part, at, retain_graph=True)[0] for part in g]
    return g.detach(), torch.stack(rows)
