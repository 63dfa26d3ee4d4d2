"""Responses of a point that were not measured, while others were."""

import torch
from torch import Tensor


def find_missing(y: Tensor, spread: Tensor | None, omit: bool) -> Tensor | None:
    """Return which responses were not measured (q, N), None if all were.

    Parameters
    ----------
    y : Tensor (q, N)
        Observed responses.
    spread : Tensor (q, N|1) or None
        Their standard deviations or variances: inf says that a response was not measured.
    omit : bool
        Whether NaN and inf in either say the same.

    A point of which no response was measured has nothing missing: it is no point.
    """
    if y.shape[0] == 1:
        return None
    gone = torch.zeros_like(y, dtype=torch.bool)
    if spread is not None:
        gone = gone | (~torch.isfinite(spread) if omit else spread == torch.inf)
    if omit:
        gone = gone | ~torch.isfinite(y)
    gone = gone & ~gone.all(0)
    return gone if bool(gone.any()) else None


def spread_of(cov: Tensor, q: int) -> Tensor:
    """Return the variances (q, N|1) of the responses, which come last in ``cov`` (k, k, N|1)."""
    return cov.diagonal(dim1=0, dim2=1).mT[cov.shape[0] - q :]


def decouple(cov: Tensor, gone: Tensor) -> Tensor:
    """Return ``cov`` (k, k, N) with those responses (q, N) made independent, of unit variance.

    What is left of the others is their marginal covariance.
    """
    k, n = cov.shape[0], max(cov.shape[2], gone.shape[1])
    out = torch.zeros(k, n, dtype=torch.bool, device=cov.device)
    out[k - gone.shape[0] :] = gone
    unit = torch.eye(k, dtype=cov.dtype, device=cov.device)[..., None]
    return torch.where(out[None] | out[:, None], unit, cov)
