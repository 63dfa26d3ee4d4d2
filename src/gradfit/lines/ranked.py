"""Lines in closed form of many samples at once: medians of slopes, and Deming's."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradfit._distributions import normal_quantile
from gradfit._types import FloatArray

Counts: TypeAlias = NDArray[np.int64]
TOGETHER = 1 << 22
"""Slopes of pairs that are sorted together, which bounds the memory."""


def pair_slopes(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x and y differences (..., N(N-1)/2) of all pairs of points (..., N)."""
    i, j = np.triu_indices(x.shape[-1], 1)
    return x[..., j] - x[..., i], y[..., j] - y[..., i]


def in_parts(
    line: Callable[[FloatArray, FloatArray], FloatArray], x: FloatArray, y: FloatArray
) -> FloatArray:
    """Return what a line (B, 2) of samples (B, N) is, some samples at a time."""
    step = max(1, TOGETHER // max(1, x.shape[1] * (x.shape[1] - 1) // 2))
    parts = [line(x[k : k + step], y[k : k + step]) for k in range(0, len(x), step)]
    return np.concatenate(parts) if parts else np.empty((0, 2))


def theil_sen_lines(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return median slope and intercept (B, 2) of samples (B, N); NaN where all x are equal."""
    dx, dy = pair_slopes(x, y)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes = np.sort(np.where(dx == 0, np.nan, dy / dx), axis=1)
    count = (dx != 0).sum(1)
    slope = _middle(slopes, count, np.zeros_like(count))
    return np.stack([slope, np.median(y - slope[:, None] * x, axis=1)], 1)


def passing_bablok_lines(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return shifted median slope and intercept (B, 2) of samples (B, N); NaN where there is none.

    Points that coincide have no slope, and slopes of -1 do not count; those below shift the median.
    """
    slopes, count, shift = shifted_slopes(x, y)
    slope = _middle(slopes, count, shift)
    slope = np.where(np.isfinite(slope), slope, np.nan)
    return np.stack([slope, np.median(y - slope[:, None] * x, axis=1)], 1)


def shifted_slopes(x: FloatArray, y: FloatArray) -> tuple[FloatArray, Counts, Counts]:
    """Return the slopes that count, sorted, NaN behind; how many, and how many below -1."""
    dx, dy = pair_slopes(x, y)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes = dy / np.where(dx == 0, 0.0, dx)
        slopes = np.where(dx == 0, np.sign(dy) * np.inf, slopes)
    out = ((dx == 0) & (dy == 0)) | (slopes == -1)
    slopes = np.sort(np.where(out, np.nan, slopes), axis=1)
    return slopes, (~out).sum(1), (slopes < -1).sum(1)


def _middle(slopes: FloatArray, count: Counts, shift: Counts) -> FloatArray:
    """Return the medians (B,) of the first ``count`` of each row, moved up by ``shift``."""
    rows, at = np.arange(len(slopes)), count // 2 + shift
    there = (count > 0) & (at < count)
    at = np.where(there, at, 0)
    if not slopes.shape[1]:
        return np.full(len(slopes), np.nan)
    upper = slopes[rows, at]
    lower = np.where(count % 2 == 1, upper, slopes[rows, np.maximum(at - 1, 0)])
    with np.errstate(invalid="ignore"):
        return np.where(there, np.where(lower == upper, upper, (lower + upper) / 2), np.nan)


def deming_lines(x: FloatArray, y: FloatArray, ratio: float) -> FloatArray:
    """Return slope and intercept (B, 2) of samples (B, N); not finite where a line has none.

    The root is taken without cancellation, and squares that overflow are never formed.
    """
    mx, my = x.mean(-1), y.mean(-1)
    dx, dy = x - mx[:, None], y - my[:, None]
    sxx, syy, sxy = (dx * dx).sum(-1), (dy * dy).sum(-1), (dx * dy).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = syy - ratio * sxx
        root = np.hypot(gap, 2 * np.sqrt(ratio) * sxy)
        rising = (gap + root) / (2 * sxy)
        # As much, without the difference of two large numbers.
        flat = 2 * sxy / (root - gap) * ratio
        # A ratio beyond all measure leaves least squares.
        slope = np.where(gap > 0, rising, np.where(np.isfinite(root), flat, sxy / sxx))
        return np.stack([slope, my - slope * mx], -1)


def anchored_lines(x: FloatArray, y: FloatArray, anchor: dict[str, float] | None) -> FloatArray:
    """Return the orthogonal line (B, 2) of samples (B, N), of which one parameter may be known."""
    if anchor is None:
        return deming_lines(x, y, 1.0)
    if "slope" in anchor:
        slope = np.full(len(x), anchor["slope"])
        return np.stack([slope, (y - slope[:, None] * x).mean(-1)], -1)
    level = anchor["intercept"]
    sxx, syy, sxy = (x * x).sum(-1), ((y - level) ** 2).sum(-1), (x * (y - level)).sum(-1)
    gap = syy - sxx
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.hypot(gap, 2 * sxy)
        slope = np.where(gap > 0, (gap + root) / (2 * sxy), 2 * sxy / (root - gap))
    return np.stack([slope, np.full(len(x), level)], -1)


def sen_interval(x: FloatArray, y: FloatArray, level: float) -> tuple[float, float]:
    """Return the slopes between whose ranks the true one lies, with that probability."""
    dx, dy = pair_slopes(x, y)
    slopes = np.sort(dy[dx != 0] / dx[dx != 0])
    n, count = len(x), len(slopes)
    ties = [
        float(c * (c - 1) * (2 * c + 5))
        for v in (x, y)
        for c in np.unique(v, return_counts=True)[1]
        if c > 1
    ]
    variance = (n * (n - 1) * (2 * n + 5) - sum(ties)) / 18
    half = normal_quantile(0.5 + level / 2) * math.sqrt(max(variance, 0.0))
    upper = min(int(np.round((count + half) / 2)), count - 1)
    lower = max(int(np.round((count - half) / 2)) - 1, 0)
    return float(slopes[lower]), float(slopes[upper])


def passing_bablok_intervals(
    x: FloatArray, y: FloatArray, level: float
) -> list[tuple[float, float]]:
    """Return Passing and Bablok's intervals of slope and intercept."""
    slopes, count, shift = (part[0] for part in shifted_slopes(x[None], y[None]))
    n, count, shift = len(x), int(count), int(shift)
    half = normal_quantile(0.5 + level / 2) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first = round((count - half) / 2)
    low = float(slopes[min(max(first + shift - 1, 0), count - 1)])
    high = float(slopes[max(min(count - first + shift, count - 1), 0)])
    ends = [float(np.median(y - b * x)) if math.isfinite(b) else -math.inf for b in (high, low)]
    return [(low, high), (ends[0], ends[1] if math.isfinite(low) else math.inf)]
