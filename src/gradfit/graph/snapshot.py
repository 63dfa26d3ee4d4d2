"""Copy a tensor out of torch, or only its statistics when it is big."""

from math import isfinite, nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit.graph.values import Snapshot, Stats

_NAMES = {
    value: name
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and name == str(value).removeprefix("torch.")
}


def take(tensor: Tensor, keep: int) -> Snapshot:
    """Return a detached copy of up to ``keep`` entries, else the statistics of all.

    The copy is made by torch: ``Tensor.numpy()`` lends the memory itself, which can never be
    resized again, although the caller's function may do so.
    """
    dtype = _NAMES.get(tensor.dtype, str(tensor.dtype))
    device = "cpu" if tensor.is_cpu else str(tensor.device)
    shape = _shape(tensor)
    if shape is None or tensor.is_meta:
        return Snapshot(shape or (), dtype, device, None)
    try:
        if tensor.numel() > keep:
            return Snapshot(shape, dtype, device, None, _stats(tensor.detach()))
        values = _copied(tensor.detach())
    except (TypeError, RuntimeError, NotImplementedError):  # a fake tensor, a layout of its own
        return Snapshot(shape, dtype, device, None)
    return Snapshot(values.shape, dtype, device, values)


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    """Return the shape; ``None`` where there is no single one, as for nested tensors."""
    try:
        return tuple(int(size) for size in tensor.shape)
    except (TypeError, RuntimeError):
        return None


def _copied(tensor: Tensor) -> NDArray[Any]:
    try:
        return tensor.clone().numpy(force=True)
    except (TypeError, RuntimeError):  # NumPy knows no such numbers or no such layout
        return _dense(tensor).clone().numpy(force=True)


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
    if numbers.is_complex():
        numbers = numbers.abs()
    elif numbers.dtype == torch.bool:
        numbers = numbers.byte()
    low, high = map(float, torch.aminmax(numbers))
    if isfinite(low) and isfinite(high):  # a NaN or an inf anywhere would show in these
        return Stats(low, high, float(numbers.mean(dtype=torch.float64)), 0)
    finite = numbers[torch.isfinite(numbers)]
    bad = numbers.numel() - finite.numel()
    if finite.numel() == 0:
        return Stats(nan, nan, nan, bad)
    low, high = map(float, torch.aminmax(finite))
    return Stats(low, high, float(finite.mean(dtype=torch.float64)), bad)


def plus(one: Snapshot | None, other: Snapshot) -> Snapshot:
    """Add two gradients of the same tensor."""
    if one is None:
        return other
    if one.values is None or other.values is None:
        return other  # sums of statistics are not statistics of sums; the later one stands
    return Snapshot(one.shape, one.dtype, one.device, np.asarray(one.values + other.values))
