"""Start vectors for models that nobody has written a guess for."""

import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._model import Model


def propose_starts(model: Model, data: Data, n: int, seed: int) -> Tensor:
    """Return ``n`` start vectors (n, p), diverse in size and sign, scaled to the data."""
    draws = torch.quasirandom.SobolEngine(2 * len(model.names), seed=seed).draw(n).double()
    p = len(model.names)
    size = 10 ** (6 * draws[:, :p] - 3)
    sign = torch.where(draws[:, p:] < 0.35, -1.0, 1.0)
    starts = size * sign
    starts[0] = 1.0
    for j, name in enumerate(model.names):
        if name in model.defaults:
            starts[:, j] = model.defaults[name]
    return starts
