"""Correlations, which say of a covariance what does not depend on units."""

from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from gradfit._types import FloatArray

Array: TypeAlias = FloatArray | Tensor


class Correlated:
    """What has a covariance, and correlations with it, told when first asked for."""

    cov: Array

    @property
    def corr(self) -> Array:
        """Correlation of the parameters, in the shape of ``cov``; rows of fixed ones are 0."""
        return self._corr

    @cached_property
    def _corr(self) -> Array:
        cov = self.cov
        if isinstance(cov, Tensor):
            return _correlation(cov)
        return _correlation(torch.from_numpy(np.asarray(cov))).numpy()


def _correlation(cov: Tensor) -> Tensor:
    size = cov.diagonal(dim1=-2, dim2=-1).sqrt()
    corr = cov / (size[..., :, None] * size[..., None, :])
    corr = torch.where(cov == 0, 0.0, corr).clamp(-1, 1)
    # A root times itself is not always what it is the root of.
    own = corr.diagonal(dim1=-2, dim2=-1)
    own.copy_(torch.where(own > 0, 1.0, own))
    return corr
