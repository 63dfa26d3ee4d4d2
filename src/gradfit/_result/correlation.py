"""Correlations, which say of a covariance what does not depend on units."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def correlation(cov: Any) -> Any:
    """Return the correlations (..., p, p) of a covariance; 0 where a parameter is fixed."""
    if isinstance(cov, Tensor):
        size = cov.diagonal(dim1=-2, dim2=-1).sqrt()
        corr = cov / (size[..., :, None] * size[..., None, :])
        return torch.where(cov == 0, 0.0, corr).clamp(-1, 1)
    return correlation(torch.from_numpy(np.asarray(cov))).numpy()
