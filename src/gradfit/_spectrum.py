"""The strongest frequencies in unevenly spaced points, and the fastest that they can show."""

import torch
from torch import Tensor

PEAKS = 64
"""Frequencies taken from a spectrum."""
LONGEST = 1 << 20
"""Points and bins of a spectrum."""


def fastest_of(x: Tensor, w: Tensor) -> Tensor:
    """Return the frequency (G,) where the median spacing of x is half a turn."""
    if x.shape[1] < 2:
        return torch.ones_like(x[:, 0])
    gap = torch.where(w > 0, x, torch.nan).sort(1)[0].diff(dim=1)
    gap = torch.where(gap > 1e-9 * gap.nan_to_num().sum(1, keepdim=True), gap, torch.nan)
    return 0.5 / gap.nanmedian(1)[0].nan_to_num(1.0)


def spectrum_of(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strongest frequencies (G, PEAKS), and where aliases begin (G,).

    The spectrum is that of points moved to the nearest of many bins, so that uneven sampling and
    repeated x are welcome.
    """
    G, n = x.shape
    low = torch.where(w > 0, x, torch.inf).amin(1, keepdim=True)
    size = torch.where(w > 0, x, -torch.inf).amax(1, keepdim=True) - low
    size = torch.where(torch.isfinite(size) & (size > 0), size, 1.0)
    bins = min(1 << (4 * n - 1).bit_length(), LONGEST)
    mean = (w * y).sum(1, keepdim=True) / w.sum(1, keepdim=True).clamp(min=1e-300)
    at = ((x - low) / size * (bins - 1)).nan_to_num(0.0).round().long().clamp(0, bins - 1)
    signal = x.new_zeros(G, 4 * bins).scatter_add_(1, at, w * (y - mean))
    power = torch.fft.rfft(signal).abs()
    rates = torch.arange(power.shape[1], dtype=x.dtype, device=x.device) * (bins - 1) / (4 * bins)
    fastest = fastest_of(x, w)
    power = torch.where(rates <= (fastest[:, None] * size), power, -1.0)
    return rates[power.topk(min(PEAKS, power.shape[1]), 1)[1]] / size, fastest
