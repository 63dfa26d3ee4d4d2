r"""Shapes near a point through which they pass: the parameters in which they are fitted.

With a base point :math:`q = s\,n` and the unit normal :math:`n` there, all shapes are

.. math::  g(x) = (x - q)^T Q\, (x - q) + n^T (x - q) = 0 ,

with a symmetric :math:`Q` that holds curvatures. Where it vanishes the shape is flat, so that a
circle may become a straight line and an ellipse a parabola without any parameter running away,
and near the base point :math:`g` is the distance itself. In space the normal and the direction
along which a cylinder does not bend are the axes of a turn about the axes of the frame.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradfit._model import Model


def along(axis: Sequence[Tensor] | Tensor, x: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the inner product of two vectors, each given by its coordinates."""
    total = axis[0] * x[0]
    for a, v in zip(axis[1:], x[1:], strict=True):
        total = total + a * v
    return total


def normal_of(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit vector in the direction ``alpha``."""
    return torch.cos(alpha), torch.sin(alpha)


def turned(a: Tensor, b: Tensor, c: Tensor | float) -> tuple[tuple[Tensor, ...], ...]:
    """Return the three axes after a turn by the quaternion ``(1, a/2, b/2, c/2)``, normalised."""
    x, y, z = a / 2, b / 2, c / 2
    size = 1 + x * x + y * y + z * z
    first = (1 + x * x - y * y - z * z, 2 * (x * y + z), 2 * (x * z - y))
    second = (2 * (x * y - z), 1 - x * x + y * y - z * z, 2 * (y * z + x))
    third = (2 * (x * z + y), 2 * (y * z - x), 1 - x * x - y * y + z * z)
    return tuple(tuple(v / size for v in axis) for axis in (first, second, third))


def _flat2(x: Tensor, s: Tensor, alpha: Tensor) -> Tensor:
    return along(normal_of(alpha), x) - s


def _round2(x: Tensor, s: Tensor, alpha: Tensor, k: Tensor) -> Tensor:
    n = normal_of(alpha)
    v, w = along(n, x) - s, along((-n[1], n[0]), x)
    return k / 2 * (v * v + w * w) + v


def _conic2(x: Tensor, s: Tensor, alpha: Tensor, p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    n = normal_of(alpha)
    u, v = x[0] - s * n[0], x[1] - s * n[1]
    return p * u * u + 2 * q * u * v + r * v * v + n[0] * u + n[1] * v


def _parabola2(x: Tensor, s: Tensor, alpha: Tensor, p: Tensor, q: Tensor) -> Tensor:
    n = normal_of(alpha)
    u, v = x[0] - s * n[0], x[1] - s * n[1]
    return (p * u + q * v) ** 2 + n[0] * u + n[1] * v


def _flat3(x: Tensor, s: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return along(turned(a, b, 0.0)[2], x) - s


def _straight3(x: Tensor, u: Tensor, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    first, second, _ = turned(a, b, 0.0)
    return torch.stack([along(first, x) - u, along(second, x) - v])


def _round3(x: Tensor, s: Tensor, a: Tensor, b: Tensor, k: Tensor) -> Tensor:
    v = along(turned(a, b, 0.0)[2], x) - s
    rest = along(x, x) - (v + s) ** 2
    return k / 2 * (rest + v * v) + v


def _tube3(x: Tensor, s: Tensor, a: Tensor, b: Tensor, c: Tensor, k: Tensor) -> Tensor:
    e, _, n = turned(a, b, c)
    v, w = along(n, x) - s, along(e, x)
    return k / 2 * (v * v + w * w) + v


def _cone3(x: Tensor, s: Tensor, a: Tensor, b: Tensor, c: Tensor, k: Tensor, m: Tensor) -> Tensor:  # noqa: PLR0917
    e, d, n = turned(a, b, c)
    v, w, t = along(n, x) - s, along(e, x), along(d, x)
    return k / 2 * (w * w - 2 * m * t * v + (1 - m * m) * v * v) + v


FLAT2 = Model(_flat2, ("s", "alpha"), "line")
ROUND2 = Model(_round2, ("s", "alpha", "k"), "circle")
CONIC2 = Model(_conic2, ("s", "alpha", "p", "q", "r"), "conic")
PARABOLA2 = Model(_parabola2, ("s", "alpha", "p", "q"), "parabola")
FLAT3 = Model(_flat3, ("s", "a", "b"), "plane")
STRAIGHT3 = Model(_straight3, ("u", "v", "a", "b"), "line")
ROUND3 = Model(_round3, ("s", "a", "b", "k"), "sphere")
TUBE3 = Model(_tube3, ("s", "a", "b", "c", "k"), "cylinder")
CONE3 = Model(_cone3, ("s", "a", "b", "c", "k", "m"), "cone")
