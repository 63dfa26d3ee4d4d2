"""A search for start values of any model: many draws on sensible scales, ranked by how they fit.

Parameters in which the model is linear are solved for (variable projection: Golub and Pereyra, SIAM
J. Numer. Anal. 10 (1973) 413), the others are drawn on the scale that their units demand;
:mod:`gradfit._anatomy` finds both out. All draws for all groups are one call of the model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradfit._anatomy import Anatomy, Call
from gradfit._sizes import Sizes
from gradfit._spectrum import fastest_of, spectrum_of

Limits = tuple[float | None, float | None]

GOLDEN = 0.6180339887498949
DECADES = 12.0
"""Powers of ten over which a unit is sought that nothing tells."""
RANK = 1e-12
"""A column of which less than this is new does not count."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A function to be tried on the points of G groups.

    Attributes
    ----------
    call : callable
        ``call(x (m, N), params) -> (q, N)``.
    x : Tensor (m, G, n)
        Points.
    y : Tensor (q, G, n) or None
        Observed, NaN where one of several was not; None for an implicit function.
    w : Tensor (G, n)
        Weights, 0 for no point.
    rates : Tensor (G, K)
        Frequencies to try, in cycles; K may be 0.
    fastest : Tensor (G,)
        The frequency in cycles beyond which there are aliases.
    """

    call: Call
    x: Tensor
    y: Tensor | None
    w: Tensor
    rates: Tensor
    fastest: Tensor

    def take(self, rows: Tensor) -> "Trial":
        """Return some of the groups."""
        y = None if self.y is None else self.y[:, rows]
        return replace(
            self,
            x=self.x[:, rows],
            y=y,
            w=self.w[rows],
            rates=self.rates[rows],
            fastest=self.fastest[rows],
        )

    def values(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the function (q, G, K, n) for parameters (p, G, K)."""
        x = self.spread(theta) if x is None else x
        shape = x.shape[1:]
        params = [t[..., None].expand(shape).reshape(-1) for t in theta]
        return self.call(x.reshape(x.shape[0], -1), params).reshape(-1, *shape)

    def spread(self, theta: Tensor) -> Tensor:
        """Return x (m, G, K, n), once for each draw."""
        return self.x[:, :, None].expand(-1, -1, theta.shape[2], -1)

    def weights(self, y: Tensor) -> Tensor:
        """Return weights (q, G, 1, n) that let every response count the same, 0 where it is NaN."""
        w, y = seen(y, self.w), y.nan_to_num(0.0)
        mean = (w * y).sum(2) / w.sum(2).clamp(min=1e-300)
        variance = (w * (y - mean[..., None]) ** 2).sum(2)
        return (w / torch.where(variance > 0, variance, 1.0)[..., None])[:, :, None]

    def misfit(self, theta: Tensor) -> Tensor:
        """Return how badly parameters (p, G, K) fit: (G, K), inf where not at all."""
        if self.y is None:
            left = self._distance(theta)
        else:
            w = self.weights(self.y)
            rest = self.values(theta) - self.y[:, :, None]
            left = torch.where(w > 0, w * rest**2, 0.0).sum((0, 3))
        return torch.where(torch.isfinite(left), left, torch.inf)

    def _distance(self, theta: Tensor) -> Tensor:
        """Return squared distances from the curve to first order (Sampson), summed over points.

        The value alone would prefer parameters that make the function small everywhere.
        """
        x = self.spread(theta).clone().requires_grad_()
        scale = reach(self.x, self.w)[1][..., None, None]
        total = torch.zeros_like(self.w[:, None])
        with torch.enable_grad():
            for g in self.values(theta, x).unbind(0):
                (slope,) = torch.autograd.grad(g.sum(), x, retain_graph=True)
                steep = (slope * scale).square().sum(0)
                total = total + g.detach() ** 2 / torch.where(steep > 0, steep, torch.nan)
        return torch.where(self.w[:, None] > 0, self.w[:, None] * total, 0.0).sum(2)


def seen(y: Tensor, w: Tensor) -> Tensor:
    """Return weights ``w`` (G, n) for responses (..., G, n), 0 where they are NaN."""
    return torch.where(y.isnan(), 0.0, w)


def reach(t: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return lowest value and range (k, G) of coordinates (k, G, n); a range is never 0."""
    low = torch.where(w > 0, t, torch.inf).amin(2)
    size = torch.where(w > 0, t, -torch.inf).amax(2) - low
    low = torch.where(torch.isfinite(low), low, 0.0)
    instead = torch.where(low.abs() > 0, low.abs(), 1.0)
    return low, torch.where(torch.isfinite(size) & (size > 0), size, instead)


def search(
    trial: Trial,
    anatomy: Anatomy,
    known: Mapping[int, float],
    limits: Mapping[int, Limits],
    theta: Tensor,
    n: int,
) -> Tensor:
    """Return up to ``n`` parameter vectors (p, G, n) that differ, the best first.

    Parameters
    ----------
    trial : Trial
        What to fit.
    anatomy : Anatomy
        What is known about the parameters.
    known : mapping of int to float
        Parameters whose value is given.
    limits : mapping of int to (lower, upper)
        Where others may lie.
    theta : Tensor (p, G, K)
        Draws of all parameters.
    n : int
        Number wanted.
    """
    theta = theta.clone()
    for j, (low, high) in limits.items():
        theta[j] = _inside(theta[j], low, high)
    for j, value in known.items():
        theta[j] = value
    if anatomy.linear:
        theta = _solve(trial, theta, anatomy.linear)
        for j in limits.keys() & set(anatomy.linear):
            theta[j] = theta[j].clamp(*limits[j])
    rest = [j for j in range(len(theta)) if j not in known and j not in anatomy.linear]
    return _best(theta, trial.misfit(theta), rest, n)


def draw(
    trial: Trial, anatomy: Anatomy | None, sizes: Sizes | None, p: int, draws: int, seed: int
) -> Tensor:
    """Return random parameters (p, G, K), evenly spread on their scales.

    These are what the model says of ``sizes``, or else what its ``anatomy`` says of units.
    """
    device = trial.w.device
    sobol = torch.quasirandom.SobolEngine(3 * p, scramble=True, seed=seed)
    u = sobol.draw(draws, dtype=torch.float64).T.reshape(p, 3, draws).to(device)
    scales = _Scales.of(trial)
    if sizes is None:
        # A unit may hide in the function: half of the draws are made for one that is.
        count = torch.arange(draws, device=device, dtype=torch.int64)
        decades = DECADES * (2 * (count * GOLDEN).remainder(1.0) - 1)
        unit = torch.where(count % 2 == 0, 1.0, 10.0**decades).to(scales.size)
        scales = scales.in_units(unit)
    if sizes is not None:
        return torch.stack([_sized(trial, scales, sizes, j, u[j]) for j in range(p)])
    if anatomy is None:
        raise ValueError("draws need sizes or an anatomy")
    return torch.stack([_one(scales, anatomy, j, *u[j]) for j in range(p)])


@dataclass(frozen=True, eq=False)
class _Scales:
    """What the points of G groups say of sizes; each (m, G, 1) or (G, 1)."""

    low: Tensor
    size: Tensor
    far: Tensor
    y_low: Tensor
    y_size: Tensor
    extremes: Tensor
    outer: Tensor
    rates: Tensor
    fastest: Tensor
    fine: float

    @classmethod
    def of(cls, trial: Trial) -> "_Scales":
        low, size = reach(trial.x, trial.w)
        y = trial.x[:1] if trial.y is None else trial.y[:1]
        w = seen(y[0], trial.w)
        y_low, y_size = reach(y, w)
        outer = torch.cat(
            [
                torch.where(w > 0, y[0], -torch.inf).argmax(1, keepdim=True),
                torch.where(w > 0, y[0], torch.inf).argmin(1, keepdim=True),
            ],
            1,
        )
        return cls(
            low=low[..., None],
            size=size[..., None],
            far=torch.maximum(low.abs(), (low + size).abs())[..., None],
            y_low=y_low[0, :, None],
            y_size=y_size[0, :, None],
            extremes=torch.stack([x.gather(1, outer) for x in trial.x])[..., None],
            outer=outer,
            rates=trial.rates,
            fastest=trial.fastest[:, None],
            fine=max(2.2, math.log10(trial.w.shape[1])),
        )

    def in_units(self, unit: Tensor) -> "_Scales":
        """Return the same with x in other units for each draw (K,)."""
        return replace(
            self,
            low=self.low * unit,
            size=self.size * unit,
            far=self.far * unit,
            extremes=self.extremes * unit,
        )


def _one(s: _Scales, anatomy: Anatomy, j: int, kind: Tensor, sign: Tensor, t: Tensor) -> Tensor:
    """Return draws (G, K) of parameter j from three random numbers each."""
    of_x, turn, i = anatomy.of_x[j].to(s.low), anatomy.turn[j], anatomy.place[j]
    of_y = float(anatomy.of_y[j].nan_to_num())
    sign = torch.where(sign < 0.75, 1.0, -1.0)
    shape = (s.low.shape[1], len(t))
    if i >= 0:
        outer = (2 * t).long().clamp(max=1)[None, None].expand(len(s.low[i]), 1, -1)
        peak = s.extremes[i].expand(-1, -1, len(t)).gather(1, outer)[:, 0]
        value = torch.where(kind < 0.8, s.low[i] + s.size[i] * (1.4 * t - 0.2), peak)
    elif turn and not bool(of_x.any()):
        value = (t - 0.5) * turn
    elif turn:
        # The spectrum has sharp peaks at high frequencies, and says little below one cycle.
        rates = s.rates[:, (t**2 * s.rates.shape[1]).long()]
        value = turn * torch.where(kind < 0.5, rates, t**2 * s.fastest)
        slow = _power(t, -1.0, 0.7) / s.size[0]
        value = torch.where(kind < 0.8, value, turn * torch.minimum(slow, s.fastest))
    elif not bool(torch.isfinite(of_x).all()):
        value = _anything(s, kind, sign, t)
    elif not bool(of_x.any()) and of_y == 0:
        value = sign * _power(t, -1.5, 1.2)
    else:
        # Rates may be many per range and lengths a small part of it, seldom the other way round.
        power = float(of_x.sum())
        span = (-s.fine, 0.7) if power > 0 else (-0.7, 2.2) if power < 0 else (-1.0, 1.0)
        unit = torch.where(kind < 0.75, s.size, s.far) ** of_x[:, None, None]
        value = sign * unit.prod(0) * s.y_size**of_y * _power(t, *span)
    return value.expand(shape)


def _sized(trial: Trial, s: _Scales, sizes: Sizes, j: int, u: Tensor) -> Tensor:
    """Return draws (G, K) of parameter j, of which the model tells the size, from u (3, K)."""
    kind, sign, t = u
    shape, sign = (s.low.shape[1], len(t)), torch.where(sign < 0.75, 1.0, -1.0)
    if j in sizes.cycles:
        turns, power = sizes.cycles[j]
        return _rates(trial, turns, kind, t) ** (1 / power)
    if j in sizes.period:
        return ((t - 0.5) * sizes.period[j]).expand(shape)
    unit = torch.where(kind < 0.75, sizes.size[j, :, None], sizes.far[j, :, None])
    lean = sizes.lean[j]
    span = (-0.7, 2.2) if lean > 0 else (-s.fine, 0.7) if lean < 0 else (-1.0, 1.0)
    value = sign * unit * _power(t, *((-1.5, 1.2) if sizes.number[j] else span))
    if j in sizes.axis:
        return _along(trial, s, sizes, j, kind, t)
    if j in sizes.level:
        here = sizes.level[j][:, None] + math.log(1e3) * (2 * t - 1)
        value = torch.where(kind < 0.6, here, value)
    return value.expand(shape)


def _along(trial: Trial, s: _Scales, sizes: Sizes, j: int, kind: Tensor, t: Tensor) -> Tensor:
    """Return draws (G, K) of a place on an axis: among its values, or beyond them."""
    values, edge, toward = sizes.axis[j]
    values = torch.where(torch.isfinite(values), values, 0.0)
    low, size = (v[0, :, None] for v in reach(values[None], trial.w))
    inside = low + size * (1.4 * t - 0.2)
    if edge:
        away = size * _power(t, -s.fine, 1.2)
        above, below = low + size + away, low - away
        beyond, other = (above, below) if toward > 0 else (below, above)
        return torch.where(kind < 0.7, beyond, torch.where(kind < 0.85, other, inside))
    peak = values.gather(1, s.outer.gather(1, (2 * t).long().clamp(max=1).expand(inside.shape)))
    return torch.where(kind < 0.8, inside, peak)


def _rates(trial: Trial, turns: Tensor, kind: Tensor, t: Tensor) -> Tensor:
    """Return draws (G, K) of a frequency, in what makes ``turns`` (G, n) of the points."""
    rates, fastest = _spectrum_along(trial, turns)
    size = reach(turns[None], trial.w)[1][0, :, None]
    # The spectrum has sharp peaks at high frequencies, and says little below one cycle.
    value = torch.where(
        kind < 0.5, rates[:, (t**2 * rates.shape[1]).long()], t**2 * fastest[:, None]
    )
    slow = torch.minimum(_power(t, -1.0, 0.7) / size, fastest[:, None])
    return torch.where(kind < 0.8, value, slow)


def _spectrum_along(trial: Trial, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strongest frequencies (G, K) and the fastest (G,) along an axis (G, n)."""
    scale = _scale_along(trial, turns)
    if scale is not None and trial.rates.shape[1] > 1:
        return trial.rates * scale[:, None], trial.fastest * scale
    if trial.y is None:
        return turns.new_zeros(len(turns), 1), fastest_along(trial, turns)
    turns = torch.where(torch.isfinite(turns), turns, 0.0)
    return spectrum_of(turns, trial.y[0].nan_to_num(0.0), seen(trial.y[0], trial.w))


def fastest_along(trial: Trial, turns: Tensor) -> Tensor:
    """Return the frequency (G,) beyond which there are aliases, along an axis (G, n)."""
    scale = _scale_along(trial, turns)
    if scale is not None and trial.rates.shape[1] > 0:
        return trial.fastest * scale
    return fastest_of(torch.where(torch.isfinite(turns), turns, 0.0), trial.w)


def _scale_along(trial: Trial, turns: Tensor) -> Tensor | None:
    """Return the length (G,) of an axis in units of the first variable, if it is that, shifted."""
    x, w = trial.x[0], trial.w
    turns = torch.where(torch.isfinite(turns), turns, 0.0)
    low, size = (v[..., None] for v in reach(torch.stack([x, turns]), w))
    part, other = (x - low[0]) / size[0], (turns - low[1]) / size[1]
    gap = torch.minimum((part - other).abs(), (part - 1 + other).abs())
    return (size[0] / size[1])[:, 0] if bool((gap[w > 0] < 1e-9).all()) else None


def _power(t: Tensor, low: float, high: float) -> Tensor:
    """Return 10**low to 10**high for t from 0 to 1."""
    return 10 ** (low + (high - low) * t)


def _anything(s: _Scales, kind: Tensor, sign: Tensor, t: Tensor) -> Tensor:
    """Return draws (G, K) of a parameter of which nothing is known: a mixture."""
    ways = [
        (sign * _power(t, -1.5, 1.2)).expand(len(s.y_low), -1),
        s.low[0] + s.size[0] * (1.4 * t - 0.2),
        sign * s.size[0] * _power(t, -s.fine, 0.7),
        sign / s.size[0] * _power(t, -0.7, 2.2),
        s.y_low + s.y_size * (2 * t - 0.5),
        sign * s.y_size / s.size[0] * _power(t, -1.0, 1.0),
    ]
    way = (kind * len(ways)).long().clamp(max=len(ways) - 1)
    return torch.stack(ways, 2).gather(2, way[None, :, None].expand(len(s.y_low), -1, 1))[..., 0]


def _inside(value: Tensor, low: float | None, high: float | None) -> Tensor:
    """Return draws that keep their limits: reflected at one limit, folded between two."""
    if low is None or high is None:
        edge = low if low is not None else high
        if edge is None:
            return value
        return edge + (value - edge).abs() * (1.0 if low is not None else -1.0)
    turn = (value - low).remainder(2 * (high - low))
    folded = low + torch.minimum(turn, 2 * (high - low) - turn)
    # The bounds are a scale, too, and may be a better one.
    count = torch.arange(value.shape[-1], device=value.device, dtype=torch.int64)
    even = low + (high - low) * (count * GOLDEN).remainder(1.0)
    return torch.where(count % 4 == 3, even, folded)


def _solve(trial: Trial, theta: Tensor, linear: Sequence[int]) -> Tensor:
    """Return the draws with the linear parameters solved for."""
    chosen = list(linear)
    theta[chosen] = 0.0
    origin = trial.values(theta)
    y = torch.zeros_like(origin[:, :, 0]) if trial.y is None else trial.y
    columns: list[Tensor] = []
    for j in chosen:
        theta[j] = 1.0
        columns.append(trial.values(theta) - origin)
        theta[j] = 0.0
    w = trial.weights(y)
    left = torch.where(w > 0, y[:, :, None] - origin, 0.0)
    # The responses side by side, as more points.
    rows = [t.movedim(0, 2).flatten(2) for t in (*columns, left, w)]
    theta[chosen] = _project(rows[:-2], rows[-2], rows[-1]).movedim(2, 0)
    return theta


def _project(columns: Sequence[Tensor], y: Tensor, w: Tensor) -> Tensor:
    """Return least-squares coefficients (G, K, k) of k columns (G, K, n); w is (G, 1, n).

    By modified Gram-Schmidt, each column twice: as good as a factorisation, for all draws at once.
    """
    root = w.sqrt()
    left, basis = y * root, list[Tensor]()
    R = left.new_zeros(*left.shape[:2], len(columns), len(columns) + 1)
    for j, column in enumerate(columns):
        # A point without weight may well lie where a column is infinite.
        v = torch.where(root > 0, column * root, 0.0).expand_as(left)
        size = v.square().sum(2).sqrt()
        for i, e in [*enumerate(basis)] * 2:
            part = (e * v).sum(2)
            R[:, :, i, j] += part
            v = v - part[..., None] * e
        rest = v.square().sum(2).sqrt()
        # Columns may coincide for a draw; then the later one does nothing.
        new = rest > RANK * size
        R[:, :, j, j] = torch.where(new, rest, torch.inf)
        basis.append(torch.where(new[..., None], v / rest[..., None], 0.0))
        part = (basis[-1] * left).sum(2)
        R[:, :, j, -1] = part
        left = left - part[..., None] * basis[-1]
    found: list[Tensor] = []
    for j in reversed(range(len(columns))):
        above = sum((R[:, :, j, -2 - i] * c for i, c in enumerate(found)), R[:, :, j, -1] * 0.0)
        found.append((R[:, :, j, -1] - above) / R[:, :, j, j])
    return torch.stack(found[::-1], 2)


def _best(theta: Tensor, misfit: Tensor, chosen: Sequence[int], n: int) -> Tensor:
    """Return (p, G, n): the best, then the best of those that differ from all before."""
    few = misfit.topk(min(16 * n, misfit.shape[1]), 1, largest=False)[1]
    theta = theta.gather(2, few.expand(len(theta), -1, -1))
    misfit = misfit.gather(1, few)
    marks = theta[list(chosen)]
    found: list[Tensor] = []
    while len(found) < n:
        at = misfit.argmin(1, keepdim=True)
        if found and not bool(torch.isfinite(misfit.gather(1, at)).any()):
            break
        found.append(theta.gather(2, at.expand(len(theta), -1, -1)))
        mark = marks.gather(2, at.expand(len(marks), -1, -1))
        near = (marks - mark).abs() <= 0.1 * torch.maximum(marks.abs(), mark.abs())
        misfit = torch.where(near.all(0), torch.inf, misfit)
    return torch.cat(found, 2)
