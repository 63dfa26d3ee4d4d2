"""Shapes in practitioners' parameters: functions that are zero on them.

Each is nearly a distance near the shape, whatever its size, so that foot points on it are found to
rounding error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradfit._model import Model, Ties


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
    size = (ux * ux + uy * uy + uz * uz).sqrt() * radius
    return ((p / size) ** 2 + (q / size) ** 2 + (r / size) ** 2 - 1) * radius / 2


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
    across, along = (p * p + q * q + r * r).sqrt(), ux * u + uy * v + uz * w
    return torch.cos(half_angle) * across - torch.sin(half_angle) * along.abs()


def _unit(u: Sequence[Tensor]) -> list[Tensor]:
    size = torch.stack(list(u)).norm(dim=0)
    return [v / size for v in u]


def _settle_plane(params: Sequence[Tensor], centre: Tensor) -> list[Tensor]:
    size = torch.stack(list(params[:3])).norm(dim=0)
    return [v / size for v in params]


def _settle_axis(params: Sequence[Tensor], centre: Tensor) -> list[Tensor]:
    """Tell the point of an axis that is nearest to the centre of the data, and a unit vector."""
    p, u = params[:3], _unit(params[3:6])
    away = sum(((c - q) * v for c, q, v in zip(centre, p, u, strict=True)), torch.zeros_like(u[0]))
    return [*(q + away * v for q, v in zip(p, u, strict=True)), *u, *params[6:]]


def _settle_cone(params: Sequence[Tensor], centre: Tensor) -> list[Tensor]:
    return [*params[:3], *_unit(params[3:6]), params[6]]


def _settle_conic(params: Sequence[Tensor], centre: Tensor) -> list[Tensor]:
    A, B, C = params[:3]
    size = (A * A + B * B / 2 + C * C).sqrt()
    return [v / size for v in params]


_POINT, _AXIS = ("x0", "y0", "z0"), ("ux", "uy", "uz")
_NORMAL, _BEND = (
    Ties(("nx", "ny", "nz"), (), _settle_plane),
    Ties(("A", "B", "C"), (), _settle_conic),
)
_LINE, _APEX = Ties(_AXIS, _POINT, _settle_axis), Ties(_AXIS, (), _settle_cone)


def _shape(
    fn: Callable[..., Tensor], names: tuple[str, ...], label: str, ties: Ties | None = None
) -> Model:
    return Model(fn, names, label, ties=ties, correctable=False)


LINE2D = _shape(_line2d, ("angle", "offset"), "line2d")
CIRCLE = _shape(_circle, ("x0", "y0", "radius"), "circle")
ELLIPSE = _shape(_ellipse, ("x0", "y0", "a", "b", "angle"), "ellipse")
CONIC = _shape(_conic, ("A", "B", "C", "D", "E", "F"), "conic", _BEND)
PLANE = _shape(_plane, ("nx", "ny", "nz", "offset"), "plane", _NORMAL)
LINE3D = _shape(_line3d, (*_POINT, *_AXIS), "line3d", _LINE)
SPHERE = _shape(_sphere, ("x0", "y0", "z0", "radius"), "sphere")
CYLINDER = _shape(_cylinder, (*_POINT, *_AXIS, "radius"), "cylinder", _LINE)
CONE = _shape(_cone, (*_POINT, *_AXIS, "half_angle"), "cone", _APEX)
