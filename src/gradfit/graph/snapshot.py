"""Copy a tensor out of torch, or only its statistics when it is big."""

import numpy as np
import torch
from torch import Tensor

from gradfit.graph.record import Snapshot, Stats

_NAMES = {
    value: name
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and name == str(value).removeprefix("torch.")
}


def take(tensor: Tensor, keep: int) -> Snapshot:
    """Return a detached copy of up to ``keep`` entries, else the statistics of all."""
    dtype = _NAMES[tensor.dtype]
    device = "cpu" if tensor.is_cpu else str(tensor.device)
    if tensor.numel() > keep:
        return Snapshot(tuple(tensor.shape), dtype, device, None, _stats(tensor.detach()))
    try:
        values = tensor.numpy(force=True).copy()
    except (TypeError, RuntimeError):  # NumPy knows no such numbers or no such layout
        values = _dense(tensor.detach()).numpy(force=True).copy()
    return Snapshot(values.shape, dtype, device, values)


def _dense(tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.resolve_conj().resolve_neg()
    narrow = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.float() if narrow else tensor


def _stats(tensor: Tensor) -> Stats:
    numbers = _dense(tensor)
    numbers = numbers.abs() if numbers.is_complex() else numbers
    finite = numbers[torch.isfinite(numbers)]
    if finite.numel() == 0:
        return Stats(np.nan, np.nan, np.nan, numbers.numel())
    low, high = torch.aminmax(finite)
    mean = finite.mean(dtype=torch.float64)
    bad = numbers.numel() - finite.numel()
    return Stats(float(low), float(high), float(mean), bad)


def plus(one: Snapshot | None, other: Snapshot) -> Snapshot:
    """Add two gradients of the same tensor."""
    if one is None:
        return other
    if one.values is None or other.values is None:
        return other  # sums of statistics are not statistics of sums; the later one stands
    return Snapshot(one.shape, one.dtype, one.device, np.asarray(one.values + other.values))
