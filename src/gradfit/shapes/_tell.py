r"""From the parameters inside to those that practitioners use, and their covariance.

A covariance is carried to first order, :math:`J C J^T`, with the Jacobian from the graph of the
very function that tells the parameters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradfit.shapes._charts import normal_of, turned
from gradfit.shapes._frame import Frame

Told = Callable[[Sequence[Tensor], Frame], list[Tensor]]


def carry(tell: Callable[[Sequence[Tensor]], list[Tensor]], beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is told (F, P) of parameters (F, p), and its Jacobian (F, P, p)."""
    with torch.enable_grad():
        leaves = [c.detach().clone().requires_grad_() for c in beta.mT]
        told = tell(leaves)
        rows = [
            torch.autograd.grad(
                t.sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            if t.requires_grad
            else [torch.zeros_like(leaf) for leaf in leaves]
            for t in told
        ]
    values = torch.stack([t.detach() for t in told], 1)
    return values, torch.stack([torch.stack(list(row), -1) for row in rows], 1)


def line2d(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the direction of the line, and its distance from the origin."""
    s, alpha = beta
    angle = _half_turn(alpha - torch.pi / 2)
    n = (-torch.sin(angle), torch.cos(angle))
    on = frame.place(s * torch.stack(normal_of(alpha)))
    return [angle, n[0] * on[0] + n[1] * on[1]]


def circle(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return centre and radius."""
    s, alpha, k = beta
    centre = frame.place((s - 1 / k) * torch.stack(normal_of(alpha)))
    return [*centre, frame.scale / k.abs()]


def plane(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the unit normal, and the distance from the origin along it."""
    s, a, b = beta
    n = torch.stack(turned(a, b, 0.0)[2])
    on, normal = frame.place(s * n), upright(frame.direction(n))
    return [*normal, (normal * on).sum(0)]


def line3d(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the point nearest to the centre of the data, and the unit direction."""
    u, v, a, b = beta
    first, second, third = (torch.stack(axis) for axis in turned(a, b, 0.0))
    on = _nearest(u * first + v * second, third, frame)
    return [*frame.place(on), *upright(frame.direction(third))]


def sphere(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return centre and radius."""
    s, a, b, k = beta
    centre = frame.place((s - 1 / k) * torch.stack(turned(a, b, 0.0)[2]))
    return [*centre, frame.scale / k.abs()]


def cylinder(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the point of the axis nearest to the centre of the data, its direction, the radius."""
    s, a, b, c, k = beta
    _, d, n = (torch.stack(axis) for axis in turned(a, b, c))
    on = _nearest((s - 1 / k) * n, d, frame)
    return [*frame.place(on), *upright(frame.direction(d)), frame.scale / k.abs()]


def cone(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the apex, the direction of the axis towards the points, half the opening angle."""
    s, a, b, c, k, m = beta
    _, d, n = (torch.stack(axis) for axis in turned(a, b, c))
    on = s * n + d / (k * m)
    axis = (d + m * n) / (1 + m * m).sqrt()
    side = torch.sign((axis * (frame.middle() - on)).sum(0).detach())
    axis = torch.where(side < 0, -axis, axis)
    return [*frame.place(on), *frame.direction(axis), torch.atan(m.abs())]


def _nearest(on: Tensor, direction: Tensor, frame: Frame) -> Tensor:
    """Return the point of a line through ``on`` that is nearest to the centre of the data."""
    return on + direction * (direction * (frame.middle() - on)).sum(0)


def _half_turn(angle: Tensor) -> Tensor:
    """Return the angle of a direction without sense, in (-pi/2, pi/2]."""
    turns = torch.ceil((angle.detach() - torch.pi / 2) / torch.pi)
    return angle - torch.pi * turns


def upright(direction: Tensor) -> Tensor:
    """Return unit vectors (3, F) with their largest coordinate positive; the last of equals."""
    prefer = direction.new_tensor([1.0, 1.01, 1.02])[:, None]
    largest = (direction.detach().abs() * prefer).argmax(0, keepdim=True)
    return direction * torch.sign(direction.detach().gather(0, largest))


def conic(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return the six coefficients, with ``A^2 + B^2/2 + C^2 = 1``."""
    s, alpha, p, q, r = beta
    n = normal_of(alpha)
    L, (o0, o1) = frame.scale, frame.place(s * torch.stack(n))
    A, B, C = p / L, 2 * q / L, r / L
    D = n[0] - 2 * A * o0 - B * o1
    E = n[1] - 2 * C * o1 - B * o0
    F = A * o0 * o0 + B * o0 * o1 + C * o1 * o1 - n[0] * o0 - n[1] * o1
    size = (A * A + B * B / 2 + C * C).sqrt()
    sign = torch.sign((A + C).detach())
    size = torch.where(sign < 0, -size, size)
    return [v / size for v in (A, B, C, D, E, F)]


def ellipse(beta: Sequence[Tensor], frame: Frame) -> list[Tensor]:
    """Return centre, half axes and the direction of the longer one; NaN if it is no ellipse."""
    s, alpha, p, q, r = beta
    n = normal_of(alpha)
    det = p * r - q * q
    off = torch.stack([-(r * n[0] - q * n[1]), -(p * n[1] - q * n[0])]) / (2 * det)
    centre = frame.place(s * torch.stack(n) + off)
    level = -(off[0] * n[0] + off[1] * n[1]) / 2
    half = (p + r).abs() / 2
    spread = ((p - r).square() / 4 + q * q).sqrt()
    long, short = (level.abs() / e for e in (half - spread, half + spread))
    sign = torch.sign((p + r).detach())
    angle = torch.atan2(-2 * q * sign, (r - p) * sign) / 2
    return [*centre, frame.scale * long.sqrt(), frame.scale * short.sqrt(), _half_turn(angle)]
