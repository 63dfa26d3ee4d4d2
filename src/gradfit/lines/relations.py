"""Likelihoods of lines whose points scatter beyond their errors, of many samples at once."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._likelihood import Negative
from gradfit._types import FloatArray


class Sample(NamedTuple):
    """Samples of points (B, N) with their standard deviations and correlations."""

    x: FloatArray
    y: FloatArray
    sx: FloatArray
    sy: FloatArray
    rho: FloatArray


class Cloud(NamedTuple):
    """Centred points (B, N), variances and covariance of their errors, and centres (B, 1)."""

    x: Tensor
    y: Tensor
    vx: Tensor
    vy: Tensor
    c: Tensor
    x0: Tensor
    y0: Tensor


def cloud_of(sample: Sample) -> Cloud:
    """Centre each sample."""
    x, y, sx, sy, rho = (torch.from_numpy(np.array(v)) for v in sample)
    x0, y0 = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    return Cloud(x - x0, y - y0, sx * sx, sy * sy, rho * sx * sy, x0, y0)


def begin(p: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return slopes of the moments, levels, scatters and widths of the true x (B,) to begin with.

    Half of the scatter about the line is taken as its own.
    """
    sxx, syy, sxy = p.x.square().mean(1), p.y.square().mean(1), (p.x * p.y).mean(1)
    real = torch.maximum(sxx - p.vx.mean(1), 0.1 * sxx)
    slope = (sxy - p.c.mean(1)) / real
    left = torch.maximum(syy - slope * sxy, 0.01 * (syy + p.vy.mean(1)))
    return slope, torch.zeros_like(slope), (left / 2).sqrt(), real.sqrt()


@dataclass(frozen=True)
class Scatter:
    """A line with intrinsic scatter: slope, level, scatter; with a normal prior mean and width."""

    direction: str = "y"
    prior: str = "normal"

    name = "scatter"
    scatter_at = 2

    @property
    def across(self) -> bool:
        """Whether points scatter perpendicular to the line."""
        return self.direction == "perpendicular"

    def start(self, p: Cloud) -> Tensor:
        """Return where to begin (B, 3 or 5)."""
        slope, level, own, width = begin(p)
        if self.across:
            own = own / (1 + slope * slope).sqrt()
        parts = [slope, level, own]
        return torch.stack(parts + ([level, width] if self.prior == "normal" else []), 1)

    def own(self, p: Cloud, theta: Tensor) -> Tensor:
        """Return the variance (B, N) of y that is not the errors'."""
        b, s = theta[:, :1], theta[:, 2:3]
        own = s * s * (1 + b * b) if self.across else s * s
        return own.expand_as(p.x)

    def negative(self, p: Cloud) -> Negative:
        """Return the negative log-likelihood, without its constant."""
        if self.prior == "flat":

            def flat(theta: Tensor) -> Tensor:
                b, a = theta[:, :1], theta[:, 1:2]
                S = p.vy + b * b * p.vx - 2 * b * p.c + self.own(p, theta)
                return 0.5 * ((S / (1 + b * b)).log() + (p.y - a - b * p.x) ** 2 / S).sum(1)

            return flat

        def normal(theta: Tensor) -> Tensor:
            b, a, s, m, w = theta.unbind(1)
            b, a, s, m, w2 = b[:, None], a[:, None], s[:, None], m[:, None], w[:, None] ** 2
            share = s * s / (1 + b * b) if self.across else s * s
            dxx, dxy = (share * b * b, -share * b) if self.across else (0 * share, 0 * share)
            xx, xy, yy = w2 + p.vx + dxx, b * w2 + p.c + dxy, b * b * w2 + p.vy + share
            det = xx * yy - xy * xy
            u, v = p.x - m, p.y - a - b * m
            return 0.5 * (det.log() + (yy * u * u - 2 * xy * u * v + xx * v * v) / det).sum(1)

        return normal


@dataclass(frozen=True)
class Dispersion:
    """York's line with a dispersion of intercepts, or of slopes: slope, level, dispersion."""

    along: bool = False

    name = "dispersion"
    scatter_at = 2

    def _factor(self, p: Cloud) -> Tensor:
        return (p.x + p.x0) ** 2 if self.along else torch.ones_like(p.x)

    def start(self, p: Cloud) -> Tensor:
        """Return where to begin (B, 3)."""
        slope, level, own, _ = begin(p)
        factor = self._factor(p).mean(1)
        return torch.stack([slope, level, own / factor.sqrt()], 1)

    def own(self, p: Cloud, theta: Tensor) -> Tensor:
        """Return the variance (B, N) of y that is not the errors'."""
        return theta[:, 2:3] ** 2 * self._factor(p)

    def negative(self, p: Cloud) -> Negative:
        """Return the negative log-likelihood, without its constant."""

        def negative(theta: Tensor) -> Tensor:
            b, a = theta[:, :1], theta[:, 1:2]
            S = p.vy + b * b * p.vx - 2 * b * p.c + self.own(p, theta)
            left = p.y - a - b * p.x
            return 0.5 * (S.log() + left * left / S).sum(1)

        return negative


Relation = Scatter | Dispersion


def at_origin(negative: Negative, p: Cloud) -> Negative:
    """Return a single likelihood as a function of the intercept in the place of the level."""

    def moved(phi: Tensor) -> Tensor:
        b, intercept, *rest = phi.unbind(1)
        level = intercept - p.y0[0] + b * p.x0[0]
        return negative(torch.stack([b, level, *rest], 1))

    return moved


def told(p: Cloud, theta: Tensor) -> Tensor:
    """Return slope, intercept and scatter (B, 3) as users know them."""
    b, a, s = theta[:, 0], theta[:, 1], theta[:, 2]
    return torch.stack([b, p.y0[:, 0] + a - b * p.x0[:, 0], s.abs()], 1)


def told_cov(p: Cloud, cov: Tensor, sign: float) -> FloatArray:
    """Return their covariance (3, 3) of a single sample."""
    rows = [[1.0, 0, 0], [-float(p.x0), 1, 0], [0, 0, math.copysign(1, sign)]]
    J = cov.new_tensor(rows)
    return (J @ cov[0, :3, :3] @ J.mT).numpy()
