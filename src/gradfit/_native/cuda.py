"""Fits on a GPU: one thread each, where the points lie, without a copy."""

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from gradfit._engine.points import Points
from gradfit._native.device import kernel_of, simulated
from gradfit._native.kind import kind_of
from gradfit._native.plan import Fitted, Plan, room_for

THREADS = 64
"""Fits of one block of threads."""


def obstacle() -> str | None:
    """Return why nothing runs on a GPU here, if so."""
    if find_spec("numba") is None:
        return "numba-cuda is not installed (pip install 'gradfit[cuda]')"
    return None if simulated() or torch.cuda.is_available() else "there is no CUDA GPU"


def device() -> torch.device:
    """Return where points go that are not on a GPU yet; simulated, where they are."""
    return torch.device("cpu" if simulated() else "cuda")


def fit(
    plan: Plan, points: Points, firsts: Tensor, starts: Tensor, ended: Tensor | None = None
) -> Fitted:
    """Run fits as :func:`gradfit._native.cpu.fit` does, on the device of the points.

    Numbers are there when the stream of torch gets to them, as those of its own operations.
    """
    count = starts.shape[0]
    fitted = room_for(plan, count, ended)
    nothing = plan.head.new_zeros(1)
    given = (points.x, points.y, points.scale_x, points.weight_y, points.cross, fitted.made)
    arrays = [nothing if t is None else t.contiguous() for t in given]
    arrays += [firsts, starts.contiguous(), fitted.told, plan.head]
    kernel = kernel_of(plan.kernels, kind_of(plan.spec))
    if simulated():
        kernel[count, 1](*(t.detach().numpy().reshape(-1) for t in arrays), count)
        return fitted
    cuda: Any = importlib.import_module("numba.cuda")
    with cuda.gpus[points.x.device.index or 0]:
        handle = torch.cuda.current_stream(points.x.device).cuda_stream
        stream = cuda.external_stream(handle) if handle else cuda.default_stream()
        flat = [cuda.as_cuda_array(t.detach().reshape(-1), sync=False) for t in arrays]
        kernel[-(-count // THREADS), THREADS, stream](*flat, count)
    return fitted
