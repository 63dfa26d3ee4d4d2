"""Memory for the results of many fits, which costs more to get than to fill."""

import math

import numpy as np
import torch
from torch import Tensor

from gradfit._native.lower import LANES

LARGE = 1 << 19
"""Numbers from which NumPy asks the system for large pages."""


def large(*shape: int) -> Tensor:
    """Return memory that holds nothing yet, and begins where a line of the cache does.

    The system hands out large pages in half the time of small ones, and torch asks for none.
    """
    n = math.prod(shape)
    if n < LARGE:
        return torch.empty(shape, dtype=torch.float64, device="cpu")
    memory = np.empty(n + LANES)
    begin = -(memory.ctypes.data // memory.itemsize) % LANES
    return torch.from_numpy(memory[begin : begin + n].reshape(shape))
