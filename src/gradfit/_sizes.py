r"""Sizes of parameters, read off what a model computes.

The arguments of exponentials and their kin are of order one where a model is of any use, terms of a
sum are of one size, and what comes out has the size of y. Written down for every operation of a
recorded model, with each argument as a sum of :math:`c_k(x) \prod_j \theta_j^{\alpha_{kj}}`, that
is a linear system in :math:`\log|\theta_j|`. The constants of the model and the data stand in the
:math:`c_k`, so a factor for a unit moves a size by that factor and nothing else.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._monomials import COMPUTE, Part, raised, times
from gradfit._native.expression import CaptureError, Term
from gradfit._native.program import Record, record

Call = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""``call(x (m, N), params: (N,) each) -> (q, N)``."""

MOST = 24
"""Terms of a sum that are looked at one by one."""
LOOSE = 0.3
"""Weight of what comes out beside what goes into a function."""
PRIOR = 1e-3
"""Weight that holds a size of which nothing is known at 1."""
TWO_PI = 2 * math.pi


class Axis(NamedTuple):
    """The values (G, n) that a parameter has to have to be a place at each point.

    ``edge`` says that it lies beyond them rather than among them, above (``toward`` 1) or below
    (-1): a pole, or the end of a domain.
    """

    values: Tensor
    edge: bool
    toward: float


class Cycles(NamedTuple):
    """Turns at each point (G, n) per unit of a parameter to the ``power``."""

    turns: Tensor
    power: float


class Row(NamedTuple):
    """One equation: powers times the logarithms of all sizes are minus ``size`` (G,).

    With ``far`` (G,) instead the parts are of order one, rather than what they change by.
    """

    powers: tuple[float, ...]
    size: Tensor
    far: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class Sizes:
    """What a model says of its p parameters for the points of G groups.

    Attributes
    ----------
    size, far : Tensor (p, G)
        Where the model changes by about its own size over the range of the points, and where its
        parts are of order one.
    lean : tuple of int
        1 for a rate, of which there may be many per range, -1 for a length, else 0.
    number : tuple of bool
        Whether nothing gives a parameter a unit.
    axis, cycles : dict
        What is known of places and of frequencies or periods, by parameter.
    period : dict of int to float
        What may be added to a phase.
    level : dict of int to Tensor (G,)
        Value of a parameter that is the logarithm of a size.
    """

    size: Tensor
    far: Tensor
    lean: tuple[int, ...]
    number: tuple[bool, ...]
    axis: Mapping[int, Axis]
    cycles: Mapping[int, Cycles]
    period: Mapping[int, float]
    level: Mapping[int, Tensor]


def write_down(call: Call, x: Tensor, p: int) -> Record | None:
    """Return the operations of a function of p parameters at points x (m, k); None if it hides."""
    points = x[:, [0, -1]].detach().cpu().double()
    beta = torch.linspace(1.0, 1.5, p, dtype=torch.float64, device="cpu")[:, None] * torch.tensor(
        [1.0, 1.0625], dtype=torch.float64, device="cpu"
    )
    try:
        return record(call, points, beta.double())
    except (CaptureError, RuntimeError):
        return None


def read_sizes(
    written: Record, x: Tensor, y: Tensor | None, w: Tensor, known: Mapping[int, float]
) -> Sizes:
    """Return the sizes of parameters for points x (m, G, n), y (q, G, n), of weights (G, n).

    ``known`` parameters are constants with these values.
    """
    reader = _Reader(written, x, w > 0, known)
    for i, term in enumerate(written.outputs):
        parts = reader.parts(term)
        if y is None:
            reader.collapse(parts, edge=False)
        else:
            reader.compare_with(parts, y[i])
    return reader.solve()


@dataclass(eq=False)
class _Reader:
    """Walks through the operations of a model, and collects what they say of sizes."""

    written: Record
    x: Tensor
    seen: Tensor
    known: Mapping[int, float]
    axis: dict[int, Axis] = field(default_factory=dict[int, Axis])
    cycles: dict[int, Cycles] = field(default_factory=dict[int, Cycles])
    period: dict[int, float] = field(default_factory=dict[int, float])
    lean: dict[int, int] = field(default_factory=dict[int, int])
    rows: list[Row] = field(default_factory=list[Row])
    found: dict[int, list[Part]] = field(default_factory=dict[int, list[Part]])

    def __post_init__(self) -> None:
        x, beta = self.written.x, self.written.beta
        p = len(beta)
        self.p, self.none = p, (0.0,) * (2 * p)
        for i, term in enumerate(x[:, 0]):
            self.found[term.index] = [Part(self.x[i], self.none, rough=False)]
        for j, term in enumerate(beta[:, 0]):
            one = torch.ones_like(self.x[0])
            part = Part(one, self.one(j), rough=False)
            if j in self.known:
                part = Part(one * self.known[j], self.none, rough=False)
            self.found[term.index] = [part]

    def one(self, j: int, value: float = 1.0) -> tuple[float, ...]:
        """Return powers of which all but one are 0."""
        return tuple(value if i == j else 0.0 for i in range(2 * self.p))

    # Sizes ----------------------------------------------------------------------------------------

    def range_of(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far coefficients (G, n) range, and the largest of them (G,)."""
        fine = self.seen & torch.isfinite(c)
        low = torch.where(fine, c, torch.inf).amin(1)
        high = torch.where(fine, c, -torch.inf).amax(1)
        there = fine.any(1)
        far = torch.where(there, torch.maximum(low.abs(), high.abs()), 0.0)
        return torch.where(there, high - low, 0.0), far

    def varies(self, part: Part) -> bool:
        """Return whether a term differs between points."""
        size, far = self.range_of(part.c)
        return part.rough or bool((size > 1e-9 * far).any())

    def logs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the logarithms of how far a term ranges, and of its largest value, but for theta.

        NaN where it is 0.
        """
        size, far = self.range_of(part.c)
        size = torch.where((size > 1e-9 * far) & (not part.rough), size, far)
        size, far = (torch.where(t > 0, t, torch.nan).log10() for t in (size, far))
        return size, far

    def want(self, part: Part, other: Part | None, weight: float = 1.0) -> None:
        """Note that two terms should be of one size; without another, that one is of order one."""
        size, far = self.logs(part)
        powers = part.powers
        if other is not None:
            powers = tuple(a - b for a, b in zip(powers, other.powers, strict=True))
            less, less_far = self.logs(other)
            size, far = size - less, far - less_far
        if any(powers):
            self.rows.append(Row(powers, size, far, weight))

    def lean_of(self, powers: Sequence[float]) -> None:
        """Note that parameters multiply (divide) something that differs between points."""
        for j, a in enumerate(powers):
            if a and j < self.p:
                self.lean.setdefault(j, 1 if a > 0 else -1)

    def compare_with(self, parts: Sequence[Part], y: Tensor) -> None:
        """Note that the terms of a response have the size of its observations (G, n)."""
        y = torch.where(y.isnan(), torch.inf, y)
        observed = Part(y, self.none, rough=False)
        for part in parts:
            self.want(part, observed, LOOSE)

    # Sums -----------------------------------------------------------------------------------------

    def collapse(self, parts: Sequence[Part], *, edge: bool) -> Part:
        """Return one term for a sum, all of whose terms are of one size.

        ``edge``: the sum has to keep its sign.
        """
        parts = [p for p in parts if bool((p.c != 0).any())] or list(parts)
        if len(parts) == 1:
            return parts[0]
        moving = [p for p in parts if self.varies(p)]
        free = [p for p in parts if not any(p.powers)]
        chief = next((p for p in moving if not any(p.powers)), (moving or free or parts)[0])
        for part in parts:
            if part is chief:
                continue
            ratio = [a - b for a, b in zip(part.powers, chief.powers, strict=True)]
            self._place(chief, part, ratio, edge=edge)
            self.want(part, chief)
            if part in moving and chief not in moving:
                self.lean_of(ratio)
            elif chief in moving and part not in moving:
                self.lean_of([-a for a in ratio])
        size, far = self.range_of(chief.c)
        size = torch.where((size > 1e-9 * far) & (not chief.rough), size / 2, far)
        return Part(size[:, None].expand_as(chief.c), chief.powers, rough=True)

    def _place(self, chief: Part, part: Part, ratio: Sequence[float], *, edge: bool) -> None:
        """Note a parameter that stands in a sum as a place: ``c(x) - theta``."""
        named = [j for j, a in enumerate(ratio) if a]
        if (
            len(named) != 1
            or named[0] >= self.p
            or ratio[named[0]] != 1
            or chief.rough
            or self.varies(part)
        ):
            return
        if not self.varies(chief):
            return
        values = -chief.c / part.c
        size, far = self.range_of(values)
        if not bool((size > 1e-9 * far).any()):
            return
        # Where a sum has to keep its sign, it is positive.
        upward = float(torch.where(self.seen, part.c, 0.0).sum()) > 0
        toward = 1.0 if upward else -1.0
        self.axis.setdefault(named[0], Axis(values, edge, toward))

    # Operations -----------------------------------------------------------------------------------

    def parts(self, term: Term) -> list[Part]:
        """Return an expression as a sum of terms."""
        known = self.found.get(term.index)
        if known is None:
            known = self._merged(self._read(term))
            self.found[term.index] = known
        return known

    def _merged(self, parts: Sequence[Part]) -> list[Part]:
        together: dict[tuple[tuple[float, ...], bool], Part] = {}
        for part in parts:
            key = part.powers, part.rough
            before = together.get(key)
            if before is None:
                together[key] = part
            elif part.rough:
                c = torch.maximum(before.c.abs(), part.c.abs())
                together[key] = replace(part, c=c)
            else:
                together[key] = replace(part, c=before.c + part.c)
        found = list(together.values())
        return found if len(found) <= MOST else [self.rough()]

    def rough(self) -> Part:
        """Return a term of order one of which nothing is known."""
        return Part(torch.ones_like(self.x[0]), self.none, rough=True)

    def _read(self, term: Term) -> list[Part]:
        op, args = term.op, term.args
        if op == "const":
            return [Part(torch.full_like(self.x[0], float(term.number)), self.none, rough=False)]
        if op == "symbol":
            return [self.rough()]
        given = [self.parts(a) for a in args]
        plain = self._computed(term, given)
        if plain is not None:
            return [Part(plain, self.none, rough=False)]
        rule = _RULES.get(op)
        if rule is not None:
            return rule(self, term, given)
        if op in _OSCILLATE:
            return self._turned(given[0])
        if op in ("exp", "exp2"):
            return self.exponential(given[0], 1.0 if op == "exp" else math.log(2.0))
        for parts in given:
            self._of_order_one(parts)
        return [self.rough()]

    def _computed(self, term: Term, given: Sequence[list[Part]]) -> Tensor | None:
        """Return the values (G, n) of what no unknown parameter enters, if they can be had."""
        if any(len(parts) != 1 or any(parts[0].powers) or parts[0].rough for parts in given):
            return None
        compute = COMPUTE.get(term.op)
        values = [parts[0].c for parts in given]
        if term.op == "power":
            return values[0] ** term.data
        if compute is None:
            return None
        return compute(*values).to(self.x)

    def _of_order_one(self, parts: Sequence[Part]) -> None:
        """Note that the argument of a function is of order one, and changes by as much."""
        moving = [p for p in parts if self.varies(p)]
        for part in parts:
            if part in moving:
                self.want(part, None)
                self.lean_of(part.powers)
            else:
                self._beside(moving, part)
                self.want(part, None, 0.1)

    def _beside(self, moving: Sequence[Part], part: Part) -> None:
        """Note that what is the same at all points may be a place: ``theta_i*(x - theta_j)``."""
        for other in moving[:1]:
            ratio = [a - b for a, b in zip(part.powers, other.powers, strict=True)]
            self._place(other, part, ratio, edge=False)

    def exponential(self, parts: Sequence[Part], factor: float) -> list[Part]:
        """Return an exponential of ``factor`` times a sum: what is constant in it is a size."""
        parts = [replace(p, c=factor * p.c) for p in parts]
        moving = [p for p in parts if self.varies(p)]
        powers, rest = list(self.none), list[Part]()
        for part in parts:
            named = [j for j, a in enumerate(part.powers) if a]
            if part in moving or len(named) != 1 or part.powers[named[0]] != 1:
                rest.append(part)
            elif named[0] < self.p:
                powers[self.p + named[0]] += float(part.c[self.seen].mean())
        self._of_order_one(rest)
        return [replace(self.rough(), powers=tuple(powers))]

    def _turned(self, parts: Sequence[Part]) -> list[Part]:
        """Note frequencies and phases in the argument of a sine."""
        moving = [p for p in parts if self.varies(p)]
        for part in parts:
            named = [j for j, a in enumerate(part.powers) if a]
            size, far = self.range_of(part.c)
            alone = len(named) == 1 and named[0] < self.p
            if part in moving:
                self.want(part, None)
                self.lean_of(part.powers)
                if alone and bool((size > 1e-9 * far).any()):
                    j = named[0]
                    self.cycles.setdefault(j, Cycles(part.c / TWO_PI, part.powers[j]))
                continue
            self._beside(moving, part)
            if alone and part.powers[named[0]] == 1 and float(far.max()) > 0:
                self.period.setdefault(named[0], TWO_PI / float(far.max()))
        return [self.rough()]

    # The system -----------------------------------------------------------------------------------

    def solve(self) -> Sizes:
        """Return sizes that agree best with all that was noted."""
        p, G, like = self.p, self.x.shape[1], self.x
        matrix = torch.stack(
            [
                *(like.new_tensor(row.powers) * row.weight for row in self.rows),
                *(PRIOR * torch.eye(2 * p, dtype=like.dtype, device=like.device)),
            ]
        )
        found: list[Tensor] = []
        for far in (False, True):
            right = [-(row.far if far else row.size) * row.weight for row in self.rows]
            b = torch.stack([*right, *like.new_zeros(2 * p, G)])
            there = torch.isfinite(b)
            rows = torch.where(there[..., None], matrix[:, None], 0.0).transpose(0, 1)
            values = torch.where(there, b, 0.0).mT[..., None]
            found.append(torch.linalg.lstsq(rows, values).solution[..., 0].mT)
        noted = [any(row.powers[j] for row in self.rows) for j in range(2 * p)]
        level = {j: found[0][p + j] * math.log(10.0) for j in range(p) if noted[p + j]}
        size, far_size = (10 ** logs[:p].clamp(-200, 200) for logs in found)
        return Sizes(
            size=size,
            far=far_size,
            lean=tuple(self.lean.get(j, 0) for j in range(p)),
            number=tuple(not n for n in noted[:p]),
            axis=self.axis,
            cycles=self.cycles,
            # A phase that is something else as well is that.
            period={j: turn for j, turn in self.period.items() if not noted[j]},
            level=level,
        )

    # Rules ----------------------------------------------------------------------------------------

    def add(self, term: Term, given: Sequence[list[Part]]) -> list[Part]:
        sign = -1.0 if term.op == "sub" else 1.0
        return [*given[0], *(replace(p, c=sign * p.c) for p in given[1])]

    def neg(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        return [replace(p, c=-p.c) for p in given[0]]

    def mul(self, term: Term, given: Sequence[list[Part]]) -> list[Part]:
        if term.args[0] is term.args[1]:
            return self.raise_to(given[0], 2.0)
        return [times(a, b) for a in given[0] for b in given[1]]

    def div(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        under = raised(self.collapse(given[1], edge=True), -1.0)
        return [times(a, under) for a in given[0]]

    def power(self, term: Term, given: Sequence[list[Part]]) -> list[Part]:
        return self.raise_to(given[0], float(term.data))

    def root(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        return self.raise_to(given[0], 0.5)

    def raise_to(self, parts: Sequence[Part], exponent: float) -> list[Part]:
        whole = exponent > 0 and exponent == int(exponent)
        return [raised(self.collapse(parts, edge=not whole), exponent)]

    def pow(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        base, exponent = given
        size, far = self.range_of(base[0].c)
        if len(base) == 1 and not any(base[0].powers) and not bool((size > 1e-9 * far).any()):
            # As 10**(-x/b): an exponential of another base.
            return self.exponential(exponent, math.log(max(float(far.max()), 1e-300)) or 1.0)
        for part in exponent:
            self.want(part, None)
        return [replace(self.collapse(base, edge=True), rough=True)]

    def logarithm(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        self.collapse(given[0], edge=True)
        return [self.rough()]

    def same(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        return list(given[0])

    def size(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        whole = self.collapse(given[0], edge=False)
        return [replace(whole, c=whole.c.abs())]

    def either(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        parts = [*given[0], *(replace(p, c=-p.c) for p in given[1])]
        self.collapse(self._merged(parts), edge=False)
        return [replace(p, rough=True) for g in given for p in g]

    def compare(self, term: Term, given: Sequence[list[Part]]) -> list[Part]:
        self.either(term, given)
        return [self.rough()]

    def choose(self, _: Term, given: Sequence[list[Part]]) -> list[Part]:
        return [replace(p, rough=True) for g in given[1:] for p in g]


_Rule = Callable[[_Reader, Term, Sequence[list[Part]]], list[Part]]
_RULES: dict[str, _Rule] = {
    "add": _Reader.add,
    "sub": _Reader.add,
    "neg": _Reader.neg,
    "mul": _Reader.mul,
    "div": _Reader.div,
    "power": _Reader.power,
    "pow": _Reader.pow,
    "sqrt": _Reader.root,
    "norm_root": _Reader.root,
    "abs": _Reader.size,
    "hypot": _Reader.either,
    "maximum": _Reader.either,
    "minimum": _Reader.either,
    "clamp": _Reader.either,
    "where": _Reader.choose,
    "stop": _Reader.same,
    "custom": _Reader.same,
    **dict.fromkeys(("log", "log2", "log10"), _Reader.logarithm),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _Reader.compare),
}
_OSCILLATE = frozenset({"sin", "cos", "tan"})
