r"""What a function says of its parameters when it is tried: which are linear, and in which units.

Euler's theorem does the work. If multiplying x by :math:`\lambda` and each parameter by
:math:`\lambda^{\alpha_j}` leaves a model as it is, then at every point

.. math::  x f_x + \sum_j \alpha_j\, \theta_j f_{\theta_j} = 0 ,

so that the exponents of the unit of x in every parameter follow from derivatives at a few points,
by least squares; so do those of the unit of y, and which parameters are places on the x axis. What
comes out alike at many random places is taken as a law of the function.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Call = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""``call(x (m, N), params: (N,) each) -> (q, N)``."""

PROBES, POINTS = 48, 24
ENOUGH = 6
"""Probes that must agree."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is known about each of p parameters of a function of m variables.

    Attributes
    ----------
    linear : tuple of int
        Parameters in which the function is linear, all together.
    of_x : Tensor (p, m)
        Exponents of the units of x; NaN where there is no law.
    of_y : Tensor (p,)
        Exponents of the unit of y; NaN where there is no law.
    place : tuple of int
        The variable on whose axis a parameter is a place; -1 for none.
    turn : tuple of float
        What may be added to a parameter where x is a whole number, without any effect: 1 for a
        frequency in cycles, 2 pi for one in radians and for a phase; 0 for none.
    """

    linear: tuple[int, ...]
    of_x: Tensor
    of_y: Tensor
    place: tuple[int, ...]
    turn: tuple[float, ...]


def examine(call: Call, m: int, p: int, held: Sequence[int] = (), q: int = 1) -> Anatomy:
    """Try a function of m variables and p parameters at random places.

    Parameters
    ----------
    call : callable
        The function.
    m, p : int
        Numbers of variables and parameters.
    held : sequence of int
        Parameters that shall not be counted as linear.
    q : int
        Number of responses, 0 for an implicit function, of which the zeros alone matter.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        size = (
            torch.empty(shape, dtype=torch.float64, device="cpu")
            .uniform_(-1, 1, generator=generator)
            .exp()
        )
        return torch.where(
            torch.randint(0, 4, shape, generator=generator, device="cpu") > 0, size, -size
        )

    x = draw(m, PROBES, POINTS).abs()
    theta = draw(p, PROBES, 1).expand(-1, -1, POINTS)
    # A factor of a unit in the function may make it look straight at numbers near 1.
    unit = 10.0 ** torch.linspace(-15, 15, PROBES, dtype=x.dtype, device="cpu")[:, None]
    linear = linear_of(call, x, theta, held, q)
    if linear:
        linear = linear_of(call, x * unit, theta, [j for j in range(p) if j not in linear], q)
    f, f_x, f_theta = _derivatives(call, x, theta)
    # The zeros of a function stay where they are when it is multiplied by a number.
    free = [f] if q == 0 else []
    euler = list(theta[:, None] * f_theta)
    of_x = torch.stack([_law(x[i] * f_x[i], [*euler, *free])[:p] for i in range(m)], 1)
    # Variables may share one unit, as the coordinates of a circle do.
    of_all = _law((x[:, None] * f_x).sum(0), [*euler, *free])[:p]
    of_x = torch.where(torch.isfinite(of_x).all(1, keepdim=True), of_x, of_all[:, None] / m)
    place = [-1] * p
    for i in range(m):
        shift = _law(f_x[i], [*f_theta, *free])[:p]
        place = [i if abs(s - 1) < 1e-6 else old for s, old in zip(shift, place, strict=True)]
    return Anatomy(
        linear=linear,
        of_x=of_x,
        of_y=-_law(f, euler) if q > 0 else x.new_full((p,), torch.nan),
        place=tuple(place),
        turn=tuple(_turn(call, x, theta, j) for j in range(p)),
    )


def linear_of(
    call: Call, x: Tensor, theta: Tensor, held: Sequence[int] = (), q: int = 1
) -> tuple[int, ...]:
    """Return the parameters in which a function is linear, all together.

    Those of an implicit function (``q`` 0) count only where something else is left of it: of
    parameters of which 0 are a solution only their ratios matter.

    Parameters
    ----------
    call : callable
        The function.
    x : Tensor (m, P, n)
        Points at which it is tried, n for each of P draws.
    theta : Tensor (p, P, n)
        Draws of all parameters.
    held : sequence of int
        Parameters that shall not be counted.
    q : int
        Number of responses, 0 for an implicit function.
    """
    linear: list[int] = []
    for j in range(len(theta)):
        if j not in held and _affine(call, x, theta, [*linear, j]):
            linear.append(j)
    if q == 0 and linear:
        rest = theta.clone()
        rest[linear] = 0.0
        value = _values(call, x, rest)
        if value.shape[0] > 1 or not bool((torch.isfinite(value) & (value != 0)).any()):
            return ()
    return tuple(linear)


def of_linear(linear: tuple[int, ...], like: Tensor, p: int, m: int) -> Anatomy:
    """Return an anatomy of which no more is known than what is linear."""
    nothing = like.new_full((p, m), torch.nan)
    return Anatomy(linear, nothing, nothing[:, 0], (-1,) * p, (0.0,) * p)


def _affine(call: Call, x: Tensor, theta: Tensor, chosen: list[int]) -> bool:
    """Return whether the function is affine in the chosen parameters together."""
    a, b = theta[chosen], theta[chosen].roll(7, 1).flip(0) * 1.7

    def at(values: Tensor) -> Tensor:
        moved = theta.clone()
        moved[chosen] = values
        return _values(call, x, moved)

    origin, one, other = at(torch.zeros_like(a)), at(a), at(b)
    both = at(a + 2.5 * b)
    straight = one + 2.5 * other - 2.5 * origin
    fine = torch.isfinite(straight) & torch.isfinite(both)
    if float(fine.double().mean()) < 0.25:
        return False
    origin, one, other, both, straight = (t[fine] for t in (origin, one, other, both, straight))
    size = origin.abs() + one.abs() + other.abs() + both.abs()
    used = bool(((one - origin).abs() > 1e-9 * size).any())
    return used and bool(((both - straight).abs() <= 1e-9 * size).all())


def _turn(call: Call, x: Tensor, theta: Tensor, j: int) -> float:
    """Return the smaller of 1 and 2 pi that parameter j may be moved by at whole x, or 0."""
    whole = torch.arange(x.numel(), dtype=x.dtype, device="cpu").remainder(17).reshape(x.shape)
    before = _values(call, whole, theta)
    for turn in (1.0, 2 * math.pi):
        moved = theta.clone()
        moved[j] += turn
        after = _values(call, whole, moved)
        fine = torch.isfinite(before) & torch.isfinite(after)
        gap = (after - before)[fine].abs()
        moved[j] += 0.37 * turn
        used = (_values(call, whole, moved) - before)[fine].abs() > 1e-3 * before[fine].abs()
        same = bool((gap <= 1e-9 * (1 + before[fine].abs())).all())
        if same and float(fine.double().mean()) > 0.25 and bool(used.any()):
            return turn
    return 0.0


def _values(call: Call, x: Tensor, theta: Tensor) -> Tensor:
    """Return values (q, P, n) for x (m, P, n) and parameters (p, P, n)."""
    return call(x.flatten(1), list(theta.flatten(1))).reshape(-1, *x.shape[1:])


def _derivatives(call: Call, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return f (q, P, n), f_x (m, q, P, n) and f_theta (p, q, P, n)."""
    x, theta = x.clone().requires_grad_(), theta.clone().requires_grad_()
    slopes: list[tuple[Tensor, Tensor]] = []
    with torch.enable_grad():
        f = _values(call, x, theta)
        for total in f.sum((1, 2)):
            got = (None, None)
            if total.requires_grad:
                got = torch.autograd.grad(total, (x, theta), retain_graph=True, allow_unused=True)
            g_x, g_theta = got
            slopes.append(
                (
                    torch.zeros_like(x) if g_x is None else g_x,
                    torch.zeros_like(theta) if g_theta is None else g_theta,
                )
            )
    f_x, f_theta = (torch.stack(rows, 1) for rows in zip(*slopes, strict=True))
    return f.detach(), f_x, f_theta


def _law(target: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """Return the constants a with ``target + sum_j a_j columns_j = 0``; NaN where none fit."""
    v = torch.stack([c.movedim(1, 0).flatten(1) for c in columns], 2)
    b = target.movedim(1, 0).flatten(1)[..., None]
    fine = torch.isfinite(v).all(2, keepdim=True) & torch.isfinite(b)
    b = torch.where(fine, b, 0.0)
    v = torch.where(fine, v, 0.0)
    size = v.square().sum(1, keepdim=True).sqrt()
    unit = torch.where(size > 0, size, 1.0)
    a = -(torch.linalg.pinv(v / unit, rtol=1e-9) @ b) / unit.mT
    left = (v @ a + b).square().sum((1, 2)).sqrt()
    holds = (left <= 1e-7 * b.square().sum((1, 2)).sqrt()) & (fine.sum((1, 2)) > v.shape[2])
    if int(holds.sum()) < ENOUGH:
        return v.new_full((v.shape[2],), torch.nan)
    a, size = a[holds, :, 0], size[holds, 0]
    # Where a parameter does nothing its exponent is anything.
    a = torch.where(size > 1e-9 * size.amax(1, keepdim=True), a, torch.nan)
    middle = a.nanmedian(0)[0]
    simple = (12 * middle).round() / 12
    middle = torch.where((middle - simple).abs() < 1e-6, simple, middle)
    told = torch.isfinite(a).sum(0)
    agree = ((a - middle).abs() <= 1e-5 * (1 + middle.abs())).sum(0)
    return torch.where((told >= ENOUGH) & (agree > 0.8 * told), middle, torch.nan)
