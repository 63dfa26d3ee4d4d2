"""What is wrong with numbers, in one line each."""

from typing import NoReturn

import torch
from torch import Tensor

from gradfit.errors import InputError


def check_covariance(cov: Tensor) -> None:
    """Raise unless every matrix (N, k, k) is symmetric and positive semidefinite."""
    fine = torch.isfinite(cov).flatten(1).all(1)
    variance = cov.diagonal(dim1=1, dim2=2)
    negative = (variance < 0).any(1) & fine
    if bool(negative.any()):
        _refuse_matrix(negative, "has a negative variance")
    size = variance.sqrt()
    scale = size[:, :, None] * size[:, None, :]
    skew = ((cov - cov.mT).abs() > 1e-8 * scale).flatten(1).any(1) & fine
    if bool(skew.any()):
        _refuse_matrix(skew, "is not symmetric")
    # Of correlations, so that the tolerance does not depend on units; 0/0 is an exact coordinate.
    loose = ((scale == 0) & (cov != 0)).flatten(1).any(1)
    corr = torch.where(scale > 0, cov / scale, 0.0)
    corr[~fine] = 0
    lowest = torch.linalg.eigvalsh(corr)[:, 0] if cov.shape[1] > 2 else _lowest_of_two(corr)
    indefinite = ((lowest < -1e-9) | loose) & fine
    if bool(indefinite.any()):
        _refuse_matrix(indefinite, "is not positive semidefinite")


def _lowest_of_two(corr: Tensor) -> Tensor:
    return 1 - corr[:, 0, 1].abs() if corr.shape[1] == 2 else corr[:, 0, 0]


def _refuse_matrix(bad: Tensor, what: str) -> NoReturn:
    where = (
        f"; {int(bad.sum())} of {len(bad)} matrices (first at index {int(bad.nonzero()[0])})"
        if len(bad) > 1
        else ""
    )
    raise InputError(
        f"`cov` {what}{where}. Give variances on the diagonal and covariances beside it."
    )


def refuse_where(bad: Tensor, values: Tensor, what: str, advice: str) -> None:
    """Raise if any is bad: how many, the first, and what to do."""
    if not bool(bad.any()):
        return
    one_row = bad.ndim == 1 or bad.shape[0] == 1
    at = bad.nonzero()[0].tolist()
    place = at[-1] if one_row else tuple(at)
    if bad.numel() == 1:
        raise InputError(f"{what}, got {float(values.reshape(-1)[0]):g}. {advice}")
    count = int(bad.sum())
    raise InputError(
        f"{what}; {count} of {bad.numel()} values {'is' if count == 1 else 'are'} wrong "
        f"(first at index {place}: {float(values[tuple(at)]):g}). {advice}"
    )
