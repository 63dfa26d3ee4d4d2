"""What machine code is told, and what it tells: the same for every kind of machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._engine.covariance import Spread
from gradfit._engine.feet import around, offsets
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Bounds, Options
from gradfit._native.ending import TOLD, answer_room
from gradfit._native.expression import Term
from gradfit._native.kernel import Kernel
from gradfit._native.lower import ABREAST, BLOCK
from gradfit._native.machine import Code
from gradfit._native.memory import LARGE, large
from gradfit._native.place import Spec
from gradfit._native.pointwise import Pointwise

PLANS = 64
"""Plans that kernels remember."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of one model and one layout, and plans that were made with them.

    Attributes
    ----------
    pointwise : Pointwise
        The model with its derivatives, at one point.
    block : int
        Points in a block: 1 on a GPU, where a fit is one thread's.
    """

    pointwise: Pointwise
    block: int = BLOCK
    plans: "dict[Any, Plan]" = field(default_factory=dict[Any, "Plan"], repr=False)

    @property
    def backend(self) -> str:
        """What runs them."""
        return "cuda" if self.block == 1 else "native"

    @cached_property
    def all(self) -> tuple[Kernel, ...]:
        """``probe``, ``linear``, ``look``, ``advance``, ``exact``, ``noise``, ``bends``."""
        point = self.pointwise
        rows, pars, bends = point.rows, point.pars, [point.bends]
        made: tuple[tuple[str, Sequence[Term], Sequence[Term]], ...] = (
            ("probe", point.probe, ()),
            ("linear", point.linear, ()),
            ("look", (), point.look),
            ("advance", point.advance, point.look_ahead),
            ("exact", point.exact, ()),
            ("noise", (), [point.noise]),
            ("bends", bends, bends),
        )
        return tuple(
            Kernel(name, rows, pars, results, sums, self.block) for name, results, sums in made
        )

    @cached_property
    def abreast(self) -> tuple[Kernel, ...]:
        """``look``, ``advance``, ``noise``, ``bends`` and ``probe`` for fits abreast."""
        point = self.pointwise
        rows, pars = (*point.rows, *point.kept_rows), point.pars
        made: tuple[tuple[str, Sequence[Term], Sequence[Term]], ...] = (
            ("look", point.kept, point.look),
            ("advance", point.arrival, point.look_beyond),
            ("noise", (), [point.noise]),
            ("bends", (), [point.bends]),
            ("probe", point.told, ()),
        )
        return tuple(
            Kernel(name, rows, pars, results, sums, ABREAST) for name, results, sums in made
        )

    def are_ready(self, lanes: bool) -> bool:
        """Whether they can be had without compiling them, with ``lanes`` those for fits abreast."""
        held = vars(self)
        if "addresses" in held and not (lanes and "addresses_abreast" not in held):
            return True
        return all(k.is_ready for k in (self.all + self.abreast if lanes else self.all))

    @cached_property
    def _codes(self) -> tuple[Code, ...]:
        """Machine code, held here: what nobody holds is unloaded, and its addresses with it."""
        return tuple(k.code for k in self.all)

    @cached_property
    def _codes_abreast(self) -> tuple[Code, ...]:
        return tuple(k.code for k in self.abreast)

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """Where the machine code lies, for as long as this object lives."""
        return tuple(c.address for c in self._codes)

    @cached_property
    def addresses_abreast(self) -> tuple[int, ...]:
        """Where that for fits abreast lies."""
        return tuple(c.address for c in self._codes_abreast)


@dataclass(frozen=True)
class Fitted:
    """What came out of G fits of N points.

    Attributes
    ----------
    spec : Spec
        Sizes and kinds.
    told : Tensor (G, R)
        What :func:`gradfit._native.solver.fit_one` tells of each fit.
    made : Tensor (k, N)
        What it makes of the points, row by row.
    """

    spec: Spec
    told: Tensor
    made: Tensor

    @property
    def p(self) -> int:
        """Number of free parameters."""
        return self.spec.p

    @property
    def delta(self) -> Tensor:
        """Corrections (mu, N) in the units of x."""
        return self.made[: self.spec.mu]

    @property
    def u(self) -> Tensor:
        """The same whitened: foot points (mu, N)."""
        return self.made[self.spec.mu : 2 * self.spec.mu]

    @property
    def value(self) -> Tensor:
        """The model (q, N) at the foot points."""
        start = 2 * self.spec.mu
        return self.made[start : start + self.spec.q]

    @property
    def weights(self) -> Tensor | None:
        """Weights (N,) of a robust loss."""
        return self.made[-1] if self.spec.robust else None

    @property
    def first(self) -> list[float]:
        """All numbers of the first fit."""
        return self.told[0].tolist()

    def column(self, k: int) -> Tensor:
        """Return one of the numbers in front of the vectors."""
        return self.told[:, k]

    def vector(self, k: int) -> Tensor:
        """Return parameters (0), covariance rows (1 to p), weakest (p + 1), free (p + 2)."""
        start = TOLD + k * self.p
        return self.told[:, start : start + self.p]

    @property
    def cov(self) -> Tensor:
        """Covariance (G, p, p)."""
        p = self.p
        return self.told[:, TOLD + p : TOLD + p + p * p].reshape(-1, p, p)


def spread_of(fitted: Fitted) -> Spread:
    """Return covariance, rank and condition as the engine tells them."""
    p = fitted.p
    return Spread(
        fitted.cov,
        fitted.column(6).to(torch.int64),
        fitted.column(5),
        fitted.vector(p + 1),
        fitted.vector(p + 2) > 0,
    )


class Plan(NamedTuple):
    """What is the same for all fits of one kind, written down once.

    Attributes
    ----------
    kernels : Kernels
        The model.
    spec : Spec
        Sizes and kinds.
    head : Tensor
        Both of these, and all numbers that fits have in common, as the solver reads them.
    """

    kernels: Kernels
    spec: Spec
    head: Tensor


def plan_of(
    kernels: Kernels,
    points: Points,
    options: Options,
    loss: Loss | None,
    values: tuple[float, ...],
    limits: Bounds | None,
    *,
    feet: int,
) -> Plan:
    """Plan fits of points of one kind.

    ``values`` are those of all parameters, where fixed; ``feet`` is how often nearer ones are
    searched, at most.
    """
    shapes = [None if t is None else t.shape for t in (*points[:2], *points[3:])]
    key = *shapes, points.x.device, options, values, loss, feet
    found = kernels.plans.get(key)
    if found is None or limits is not None:
        spec = _spec_of(kernels, points, options, loss)
        spec = spec._replace(bounded=limits is not None, rounds=feet)
        head = _head_of(spec, kernels, limits, values, loss).to(points.x.device)
        found = Plan(kernels, spec, head)
    if limits is None:
        if len(kernels.plans) >= PLANS:
            kernels.plans.clear()
        kernels.plans[key] = found
    return found


def _spec_of(kernels: Kernels, points: Points, options: Options, loss: Loss | None) -> Spec:
    """Say what is the same for all fits."""
    layout, program = kernels.pointwise.layout, kernels.pointwise.program
    n, mu = points.n, len(points.rows)

    def wide(t: Tensor | None) -> bool:
        return t is not None and t.shape[-1] == n and n > 1

    return Spec(
        n=n,
        m=points.x.shape[0],
        q=len(program.value),
        mu=mu,
        p=len(layout.free),
        everything=len(program.beta),
        explicit=layout.explicit,
        robust=loss is not None,
        full_x=layout.full_x,
        full_y=layout.full_y,
        cross=layout.cross,
        wide_x=wide(points.scale_x),
        wide_y=wide(points.weight_y),
        wide_cross=wide(points.cross),
        trials=len(_trials(mu)[0]) // max(1, mu),
        around=len(_trials(mu)[1]) // max(1, mu),
        together=kernels.pointwise.together,
        kept=len(kernels.pointwise.kept),
        bounded=False,
        alone=points.group is None,
        asks=False,
        rounds=0,
        gtol=options.gtol,
        ftol=options.ftol,
        xtol=options.xtol,
        max_steps=options.max_steps,
    )


@lru_cache(maxsize=16)
def _trials(mu: int) -> tuple[Tensor, Tensor]:
    """Return trial points, and places around a foot, row after row."""
    like = torch.zeros((), dtype=torch.float64, device="cpu")
    if not mu:
        return like[None][:0], like[None][:0]
    return offsets(mu, like).ravel(), around(mu, like.dtype, like.device).ravel()


def _head_of(
    s: Spec,
    kernels: Kernels,
    limits: Bounds | None,
    values: tuple[float, ...],
    loss: Loss | None,
) -> Tensor:
    """Write down what all fits have in common, in the order in which the solver reads it."""
    low, high = [-math.inf] * s.p, [math.inf] * s.p
    if limits is not None:
        low, high = limits.lower[0].tolist(), limits.upper[0].tolist()
    layout, scale = kernels.pointwise.layout, 1.0 if loss is None else loss.scale**2
    later = s.together * s.mu
    numbers = [*s, *layout.free, *layout.rows, *low, *high, *values, *[0.0] * s.p, scale]
    numbers += [0.0] * later
    return torch.cat([torch.tensor(numbers, dtype=torch.float64, device="cpu"), *_trials(s.mu)])


def room_for(plan: Plan, count: int, ended: Tensor | None) -> Fitted:
    """Return room for what ``count`` fits are to tell, and to make of the points.

    ``ended`` (G,) holds the status of fits that are not to be run, 0 for the others.
    """
    s, like = plan.spec, plan.head
    each, points = answer_room(s.p), (2 * s.mu + s.q + s.robust, s.n)
    if like.is_cpu and count * each >= LARGE:
        told = large(count, each)
        told[:, 0] = 0.0
    else:
        told = like.new_zeros(count, each)
    if ended is not None:
        told[:, 0] = ended
    made = large(*points) if like.is_cpu else like.new_empty(points)
    return Fitted(s, told, made)
