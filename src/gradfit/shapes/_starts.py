"""Algebraic fits: where to begin, from moments of the points alone.

All fits of a batch at once; a candidate is a frame in which the shape passes the origin, and
the parameters there (see :mod:`gradfit.shapes._charts`).

Taubin, IEEE Trans. Pattern Anal. Mach. Intell. 13 (1991) 1115; Fitzgibbon, Pilu and Fisher, ibid.
21 (1999) 476, in the stable form of Halir and Flusser, WSCG (1998) 125; Kasa, IEEE Trans. Instrum.
Meas. 25 (1976) 8.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit.shapes import _tell
from gradfit.shapes._frame import Cloud, Frame

TINY = 1e-300
THINNED, SUBSETS = 12, 4
"""Points in each of so many random subsets from which an ellipse begins as well."""


class Seed(NamedTuple):
    """A start for every fit.

    Attributes
    ----------
    base : Tensor (m, G)
        Where the shape passes, in the coordinates of the cloud.
    turn : Tensor (m, m, G) or None
        Rows are the axes of the frame.
    beta : Tensor (G, p)
        Parameters in that frame.
    """

    base: Tensor
    turn: Tensor | None
    beta: Tensor


Seeder = Callable[[Cloud], list[Seed]]


def _axes(cloud: Cloud) -> tuple[Tensor, Tensor]:
    """Return the mean (m, G) and the principal axes (G, m, m), least spread first, as columns."""
    mean = cloud.mean(cloud.x).nan_to_num(0.0, 0.0, 0.0)
    M = cloud.moments(cloud.x) - mean.mT[:, :, None] * mean.mT[:, None, :]
    return mean, torch.linalg.eigh(M)[1]


def seed_line2(cloud: Cloud) -> list[Seed]:
    """Begin with the orthogonal line."""
    mean, V = _axes(cloud)
    alpha = torch.atan2(V[:, 1, 0], V[:, 0, 0])
    return [Seed(mean, None, torch.stack([torch.zeros_like(alpha), alpha], 1))]


def seed_plane(cloud: Cloud) -> list[Seed]:
    """Begin with the orthogonal plane."""
    mean, V = _axes(cloud)
    turn = _frame_of(V[:, :, 0].mT, V[:, :, 2].mT)
    return [Seed(mean, turn, mean.new_zeros(mean.shape[1], 3))]


def seed_line3(cloud: Cloud) -> list[Seed]:
    """Begin with the orthogonal line."""
    mean, V = _axes(cloud)
    turn = _frame_of(V[:, :, 2].mT, V[:, :, 0].mT)
    return [Seed(mean, turn, mean.new_zeros(mean.shape[1], 4))]


def _frame_of(third: Tensor, second: Tensor) -> Tensor:
    """Return a right-handed turn (3, 3, G) with these two of its axes, at right angles."""
    return torch.stack([torch.linalg.cross(second, third, dim=0), second, third])


class _Round(NamedTuple):
    """Circles or spheres: where they pass, the unit normal there (m, G), curvature (G,)."""

    base: Tensor
    normal: Tensor
    k: Tensor


def _taubin(cloud: Cloud) -> _Round:
    """Fit circles or spheres: least squares of ``g`` over the mean square of its gradient."""
    mean = cloud.mean(cloud.x).nan_to_num(0.0, 0.0, 0.0)
    x = cloud.x - cloud.grouping.spread(mean)
    z = x.square().sum(0)
    size = cloud.mean(z[None])[0].nan_to_num(1.0).clamp(min=TINY)
    rows = torch.cat([(z - cloud.grouping.spread(size))[None], x])
    M = cloud.moments(rows)
    root = torch.ones_like(M[:, 0])
    root[:, 0] = 2 * size.sqrt()
    v = torch.linalg.eigh(M / (root[:, :, None] * root[:, None, :]))[1][:, :, 0] / root
    A, B = v[:, 0], v[:, 1:].mT
    D = -A * size
    length = B.square().sum(0).sqrt()
    first = torch.zeros_like(B)
    first[0] = 1.0
    n = torch.where(length > TINY, B / length.clamp(min=TINY), first)
    gradient = (length.square() - 4 * A * D).clamp(min=TINY).sqrt()
    return _Round(mean - n * (2 * D / (length + gradient)), n, 2 * A / gradient)


def seed_circle(cloud: Cloud) -> list[Seed]:
    """Begin with Taubin's circle, and with a straight line."""
    found = _taubin(cloud)
    alpha = torch.atan2(found.normal[1], found.normal[0])
    beta = torch.stack([torch.zeros_like(alpha), alpha, found.k], 1)
    flat = seed_line2(cloud)[0]
    return [
        Seed(found.base, None, beta),
        flat._replace(beta=torch.cat([flat.beta, torch.zeros_like(beta[:, :1])], 1)),
    ]


def seed_sphere(cloud: Cloud) -> list[Seed]:
    """Begin with Taubin's sphere, and with a plane."""
    found = _taubin(cloud)
    turn = _frame_of(found.normal, _across(found.normal))
    flat = seed_plane(cloud)[0]
    zero = torch.zeros_like(found.k)
    return [
        Seed(found.base, turn, torch.stack([zero, zero, zero, found.k], 1)),
        flat._replace(beta=torch.cat([flat.beta, zero[:, None]], 1)),
    ]


def _across(n: Tensor) -> Tensor:
    """Return a unit vector (3, G) at right angles to each of ``n``."""
    axis = torch.zeros_like(n).scatter(0, n.abs().argmin(0, keepdim=True), 1.0)
    side = torch.linalg.cross(n, axis, dim=0)
    return side / side.norm(dim=0)


def _monomials(x: Tensor) -> Tensor:
    """Return the products of two coordinates, (3, N) or (6, N), and the coordinates."""
    i, j = torch.triu_indices(len(x), len(x), device=x.device)
    return torch.cat([x[i] * x[j], x])


def _taubin_quadric(cloud: Cloud) -> Tensor:
    """Return the coefficients (k, G) of the quadric of least ``g`` over its mean square gradient.

    In the order of the monomials, and the constant.
    """
    x = cloud.x
    rows = _monomials(x)
    mean = cloud.mean(rows).nan_to_num(0.0, 0.0, 0.0)
    S = cloud.moments(rows - cloud.grouping.spread(mean))
    i, j = torch.triu_indices(len(x), len(x), device=x.device)
    unit = torch.eye(len(x), dtype=x.dtype, device=x.device)
    N = torch.zeros_like(S)
    for e in unit:
        products = e[i, None] * x[j] + e[j, None] * x[i]
        N = N + cloud.moments(torch.cat([products, e[:, None].expand_as(x)]))
    eye = torch.eye(len(rows), dtype=N.dtype, device=N.device)
    inverse = torch.linalg.inv(torch.linalg.cholesky(N + 1e-12 * eye))
    v = inverse.mT @ torch.linalg.eigh(inverse @ S @ inverse.mT)[1][:, :, :1]
    v = v[..., 0].mT
    return torch.cat([v, -(v * mean).sum(0, keepdim=True)])


def _direct_ellipse(cloud: Cloud) -> Tensor:
    """Return the coefficients (6, G) of the ellipse of least ``g`` with ``4ac - b^2 = 1``."""
    rows = torch.cat([_monomials(cloud.x), torch.ones_like(cloud.x[:1])])
    S = cloud.moments(rows)
    eye = torch.eye(3, dtype=S.dtype, device=S.device)
    T = -torch.linalg.solve(S[:, 3:, 3:] + 1e-14 * eye, S[:, 3:, :3])
    M = S[:, :3, :3] + S[:, :3, 3:] @ T
    M = torch.stack([M[:, 2] / 2, -M[:, 1], M[:, 0] / 2], 1)
    v = torch.linalg.eig(M)[1].real
    best = (4 * v[:, 0] * v[:, 2] - v[:, 1] ** 2).argmax(1)
    a = v.gather(2, best[:, None, None].expand(-1, 3, 1))
    return torch.cat([a, T @ a], 1)[..., 0].mT


def _value(coefficients: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a conic (N,) and its gradient (2, N) at ``x``."""
    A, B, C, D, E, F = coefficients
    gradient = torch.stack([2 * A * x[0] + B * x[1] + D, B * x[0] + 2 * C * x[1] + E])
    return ((gradient + torch.stack([D, E])) * x).sum(0) / 2 + F, gradient


def _at_base(cloud: Cloud, coefficients: Tensor) -> Seed:
    """Return a conic seen from where it passes the points nearest to their centre."""
    own = cloud.grouping.spread(coefficients)
    x = cloud.x
    for _ in range(8):
        g, gradient = _value(own, x)
        x = x - gradient * (g / gradient.square().sum(0).clamp(min=TINY))
    g, gradient = _value(own, x)
    steep = gradient.square().sum(0).sqrt()
    far = x.square().sum(0) + torch.where(g.abs() < 1e-6 * steep, 0.0, 1e6)
    at = cloud.first_least(far.nan_to_num(torch.inf))
    base, size = x[:, at], steep[at].clamp(min=TINY)
    n = gradient[:, at] / size
    A, B, C = coefficients[:3] / size
    alpha = torch.atan2(n[1], n[0])
    return Seed(base, None, torch.stack([torch.zeros_like(alpha), alpha, A, B / 2, C], 1))


def _moment_ellipse(cloud: Cloud) -> Tensor:
    """Return the coefficients (6, G) of the ellipse with the second moments of the points."""
    mean = cloud.mean(cloud.x).nan_to_num(0.0, 0.0, 0.0)
    M = cloud.moments(cloud.x) - mean.mT[:, :, None] * mean.mT[:, None, :]
    eye = torch.eye(2, dtype=M.dtype, device=M.device)
    P = torch.linalg.inv(2 * M + 1e-12 * eye)
    slope = -2 * (P @ mean.mT[..., None])[..., 0].mT
    level = (mean * -slope).sum(0) / 2 - 1
    return torch.stack([P[:, 0, 0], 2 * P[:, 0, 1], P[:, 1, 1], *slope, level])


def seed_conic(cloud: Cloud) -> list[Seed]:
    """Begin with Taubin's conic, the direct ellipse, that of the moments, and Taubin's circle."""
    round_ = seed_circle(cloud)[0]
    s, alpha, k = round_.beta.mT
    zero = torch.zeros_like(k)
    return [
        _at_base(cloud, _taubin_quadric(cloud)),
        _at_base(cloud, _direct_ellipse(cloud)),
        _at_base(cloud, _moment_ellipse(cloud)),
        round_._replace(beta=torch.stack([s, alpha, k / 2, zero, k / 2], 1)),
    ]


def reseat_conic(cloud: Cloud, base: Tensor, beta: Tensor) -> Seed:
    """Return conics in frames at ``base`` (2, G) seen from where they pass nearest the centre."""
    inside = Frame(base, torch.zeros_like(base), None, torch.ones_like(cloud.scale))
    return _at_base(cloud, torch.stack(_tell.conic(list(beta.mT), inside)))


def seed_ellipse(cloud: Cloud) -> list[Seed]:
    """Begin like a conic, and with direct ellipses through some of the points."""
    thinned = (cloud.thinned(THINNED, seed) for seed in range(SUBSETS))
    return seed_conic(cloud) + [_at_base(each, _direct_ellipse(each)) for each in thinned]


DIRECTIONS = 48
"""Axes tried for a cylinder or a cone, evenly over the half sphere, beside those of the points."""
FOLLOWED = 5
"""Of which so many are followed."""


def _directions(like: Tensor) -> Tensor:
    """Return unit vectors (3, K) spread evenly over the half sphere (a Fibonacci lattice)."""
    k = torch.arange(DIRECTIONS, dtype=like.dtype, device=like.device)
    z = 1 - (k + 0.5) / DIRECTIONS
    rho, turn = (1 - z * z).sqrt(), k * (torch.pi * (3 - 5**0.5))
    return torch.stack([rho * torch.cos(turn), rho * torch.sin(turn), z])


def _quadric_axes(cloud: Cloud) -> Tensor:
    """Return the axes (3, 3, G) of the quadric through the points, one after another."""
    xx, xy, xz, yy, yz, zz = _taubin_quadric(cloud)[:6].nan_to_num(0.0, 0.0, 0.0)
    rows = [xx, xy / 2, xz / 2, xy / 2, yy, yz / 2, xz / 2, yz / 2, zz]
    Q = torch.stack(rows, 1).reshape(-1, 3, 3)
    return torch.linalg.eigh(Q)[1].permute(2, 1, 0)


class _Axial(NamedTuple):
    """A solid of revolution about one axis per fit.

    Attributes
    ----------
    axis : Tensor (3, G)
    centre : Tensor (3, G)
        A point of the axis.
    radius, slope : Tensor (G,)
        Radius there, and its growth along the axis.
    misfit : Tensor (G,)
        Mean square distance, roughly.
    """

    axis: Tensor
    centre: Tensor
    radius: Tensor
    slope: Tensor
    misfit: Tensor


def _about(cloud: Cloud, axis: Tensor, tapered: bool) -> _Axial:
    """Fit circles about an axis (3, G) in its plane, of a radius that may grow along it.

    Kasa's fit, linear in what it asks for: ``|p|^2 = 2 c.p + (r + g t)^2 - |c|^2`` for points
    ``p`` across and ``t`` along the axis.
    """
    own = cloud.grouping.spread(axis)
    t = (own * cloud.x).sum(0)
    across = cloud.x - own * t
    side = _across(axis)
    pair = torch.stack([side, torch.linalg.cross(axis, side, dim=0)])
    p = (cloud.grouping.spread(pair) * across).sum(1)
    rows = [p[0], p[1], torch.ones_like(t), *([t, t * t] if tapered else []), (p * p).sum(0)]
    M = cloud.moments(torch.stack(rows))
    N, b = M[:, :-1, :-1], M[:, :-1, -1:]
    eye = torch.eye(N.shape[1], dtype=N.dtype, device=N.device)
    v = torch.linalg.solve(N + 1e-12 * eye, b)[..., 0].mT
    c = v[:2] / 2
    centre = (pair * c[:, None]).sum(0)
    off = (p - cloud.grouping.spread(c)).square().sum(0).sqrt()
    level = (v[2] + c.square().sum(0)).clamp(min=1e-12)
    radius = level.sqrt()
    # The slope from the term linear in t, which equal errors disturb less than the square.
    slope = v[3] / (2 * radius) if tapered else torch.zeros_like(radius)
    left = off - cloud.grouping.spread(radius) - cloud.grouping.spread(slope) * t
    single = _Axial(axis, centre, radius, slope, _true_square(cloud, left, slope))
    if not tapered:
        return single
    return _better(single, _both_nappes(cloud, single, v[3:], t, off))


def _both_nappes(cloud: Cloud, single: _Axial, v: Tensor, t: Tensor, off: Tensor) -> _Axial:
    """Return the cone about the same axis of which both nappes may hold points.

    Its apex and slope come from ``v[0] t + v[1] t^2``, for the linear term alone vanishes where the
    apex is in the middle. It is seen from beside the points, never from the apex.
    """
    slope = v[1].clamp(min=1e-12).sqrt()
    apex = -v[0] / (2 * slope.square())
    away = t - cloud.grouping.spread(apex)
    left = off - cloud.grouping.spread(slope) * away.abs()
    reach = cloud.mean(away.square()[None])[0].sqrt()
    return _Axial(
        single.axis,
        single.centre + single.axis * (apex + reach),
        slope * reach,
        slope,
        _true_square(cloud, left, slope),
    )


def _true_square(cloud: Cloud, left: Tensor, slope: Tensor) -> Tensor:
    """Return the mean square distance from a surface that is ``left`` away across its axis."""
    return cloud.mean(left.square()[None])[0] / (1 + slope.square())


def _better(one: _Axial, other: _Axial) -> _Axial:
    """Return of every fit the solid that its points are nearer to."""
    nearer = other.misfit < one.misfit
    return _Axial(*(torch.where(nearer, b, a) for a, b in zip(one, other, strict=True)))


def _best_axes(cloud: Cloud, tapered: bool) -> list[_Axial]:
    """Return the solids about those axes about which the points lie most evenly."""
    G = len(cloud.scale)
    principal = _axes(cloud)[1].permute(2, 1, 0)
    given = [d[:, None].expand(3, G) for d in _directions(cloud.x).mT]
    axes = (*principal, *_quadric_axes(cloud), *given)
    found = [_about(cloud, axis, tapered) for axis in axes]
    every = _Axial(*(torch.stack(each) for each in zip(*found, strict=True)))
    order = every.misfit.nan_to_num(torch.inf).argsort(0)[:FOLLOWED]
    fits = torch.arange(G, device=order.device, dtype=torch.int64)
    return [
        _Axial(
            every.axis[k, :, fits].mT,
            every.centre[k, :, fits].mT,
            every.radius[k, fits],
            every.slope[k, fits],
            every.misfit[k, fits],
        )
        for k in order
    ]


def seed_cylinder(cloud: Cloud) -> list[Seed]:
    """Begin with circles about the axes that suit best."""
    return [_standing(solid)[0] for solid in _best_axes(cloud, False)]


def seed_cone(cloud: Cloud) -> list[Seed]:
    """Begin with circles of growing radius about the axes that suit best."""
    seeds: list[Seed] = []
    for solid in _best_axes(cloud, True):
        seed, m = _standing(solid)
        seeds.append(seed._replace(beta=torch.cat([seed.beta, m[:, None]], 1)))
    return seeds


def _standing(solid: _Axial) -> tuple[Seed, Tensor]:
    """Return a solid seen from its side towards the middle of the points, and its taper."""
    off = solid.centre - solid.axis * (solid.axis * solid.centre).sum(0)
    length = off.norm(dim=0)
    out = torch.where(length > TINY, -off / length.clamp(min=TINY), _across(solid.axis))
    h = (1 + solid.slope.square()).sqrt()
    ruling, normal = (solid.axis + solid.slope * out) / h, (out - solid.slope * solid.axis) / h
    zero = torch.zeros_like(h)
    beta = torch.stack([zero, zero, zero, zero, 1 / (solid.radius * h)], 1)
    return Seed(solid.centre + solid.radius * out, _frame_of(normal, ruling), beta), -solid.slope
