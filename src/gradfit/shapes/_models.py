"""Shapes in practitioners' parameters: functions that are zero on them.

Each is nearly a distance near the shape, whatever its size, so that foot points on it are found to
rounding error.
"""

import torch
from torch import Tensor

from gradfit._model import Model


def _line2d(x: Tensor, angle: Tensor, offset: Tensor) -> Tensor:
    return torch.cos(angle) * x[1] - torch.sin(angle) * x[0] - offset


def _circle(x: Tensor, x0: Tensor, y0: Tensor, radius: Tensor) -> Tensor:
    return (((x[0] - x0) / radius) ** 2 + ((x[1] - y0) / radius) ** 2 - 1) * radius / 2


def _ellipse(x: Tensor, x0: Tensor, y0: Tensor, a: Tensor, b: Tensor, angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    u, v = x[0] - x0, x[1] - y0
    return (((c * u + s * v) / a) ** 2 + ((c * v - s * u) / b) ** 2 - 1) * b / 2


def _conic(x: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, E: Tensor, F: Tensor) -> Tensor:  # noqa: PLR0917
    return A * x[0] ** 2 + B * x[0] * x[1] + C * x[1] ** 2 + D * x[0] + E * x[1] + F


def _plane(x: Tensor, nx: Tensor, ny: Tensor, nz: Tensor, offset: Tensor) -> Tensor:
    return nx * x[0] + ny * x[1] + nz * x[2] - offset


def _line3d(  # noqa: PLR0917
    x: Tensor, x0: Tensor, y0: Tensor, z0: Tensor, ux: Tensor, uy: Tensor, uz: Tensor
) -> Tensor:
    away, u = torch.stack([x[0] - x0, x[1] - y0, x[2] - z0]), torch.stack([ux, uy, uz])
    # Two directions across the line: the axis farthest from it, made orthogonal, and its partner.
    axis = torch.zeros_like(u).scatter(0, u.abs().argmin(0, keepdim=True), 1.0)
    first = torch.linalg.cross(u, axis, dim=0)
    first = first / first.norm(dim=0)
    second = torch.linalg.cross(u, first, dim=0)
    return torch.stack([(first * away).sum(0), (second * away).sum(0)])


def _sphere(x: Tensor, x0: Tensor, y0: Tensor, z0: Tensor, radius: Tensor) -> Tensor:
    far = ((x[0] - x0) / radius) ** 2 + ((x[1] - y0) / radius) ** 2 + ((x[2] - z0) / radius) ** 2
    return (far - 1) * radius / 2


def _cylinder(  # noqa: PLR0917
    x: Tensor,
    x0: Tensor,
    y0: Tensor,
    z0: Tensor,
    ux: Tensor,
    uy: Tensor,
    uz: Tensor,
    radius: Tensor,
) -> Tensor:
    u, v, w = x[0] - x0, x[1] - y0, x[2] - z0
    p, q, r = uy * w - uz * v, uz * u - ux * w, ux * v - uy * u
    return ((p / radius) ** 2 + (q / radius) ** 2 + (r / radius) ** 2 - 1) * radius / 2


def _cone(  # noqa: PLR0917
    x: Tensor,
    x0: Tensor,
    y0: Tensor,
    z0: Tensor,
    ux: Tensor,
    uy: Tensor,
    uz: Tensor,
    half_angle: Tensor,
) -> Tensor:
    u, v, w = x[0] - x0, x[1] - y0, x[2] - z0
    p, q, r = uy * w - uz * v, uz * u - ux * w, ux * v - uy * u
    across = (p * p + q * q + r * r).sqrt()
    return torch.cos(half_angle) * across - torch.sin(half_angle) * (ux * u + uy * v + uz * w)


LINE2D = Model(_line2d, ("angle", "offset"), "line2d")
CIRCLE = Model(_circle, ("x0", "y0", "radius"), "circle")
ELLIPSE = Model(_ellipse, ("x0", "y0", "a", "b", "angle"), "ellipse")
CONIC = Model(_conic, ("A", "B", "C", "D", "E", "F"), "conic")
PLANE = Model(_plane, ("nx", "ny", "nz", "offset"), "plane")
LINE3D = Model(_line3d, ("x0", "y0", "z0", "ux", "uy", "uz"), "line3d")
SPHERE = Model(_sphere, ("x0", "y0", "z0", "radius"), "sphere")
CYLINDER = Model(_cylinder, ("x0", "y0", "z0", "ux", "uy", "uz", "radius"), "cylinder")
CONE = Model(_cone, ("x0", "y0", "z0", "ux", "uy", "uz", "half_angle"), "cone")
