"""What the engine asks at one point: the kernels, as scalar expressions of a :class:`Point`."""

from collections.abc import Sequence
from functools import cached_property

from gradfit._engine.control import EXACT
from gradfit._engine.feet import BENT, STRAIGHT
from gradfit._native.expression import FIRST, FREE, Term, needed, substitute
from gradfit._native.point import Point, Rows, dot, flat, total, transposed

PLACES, LONG = 8, 1000
"""Places around a foot that are looked at in one go, at most, and expressions that this may take.
"""
ROUNDING = (4.0 * 2.0**-52) ** 2
"""Square of what rounding errors do to a number, in parts of it."""


class Pointwise(Point):
    """What kernels are given, and what they find."""

    @property
    def rows(self) -> tuple[Term, ...]:
        """What a kernel is given for each point."""
        return (*self.data, *self.u)

    @property
    def pars(self) -> tuple[Term, ...]:
        """What it is given for all: parameters, a step of the free ones, loss scale, places."""
        return (*self.beta, *self.step, self.loss_scale, *self.places)

    @cached_property
    def places(self) -> tuple[Term, ...]:
        """Places around a foot, in units of the distance; symbols, since there may be many."""
        return self.symbols("o", self.together * len(self.u), FREE)

    @property
    def probe(self) -> list[Term]:
        """``r`` (q), ``J_u`` (q, mu), and the model itself (q)."""
        return [*self.residual, *flat(self.J_u), *self.moved(self.program.value)]

    @property
    def told(self) -> list[Term]:
        """What a result tells of a point: the model itself (q), and the weight of a robust loss."""
        weight = [] if self.layout.loss == "linear" else [self.robust[2]]
        return [*self.moved(self.program.value), *weight]

    @property
    def linear(self) -> list[Term]:
        """``J`` (q, p), ``h`` (q), ``K`` (q, mu), the tangent, phi, and rho' and rho'' of it."""
        J, h, K, tangent = self.white
        return [*flat(J), *h, *flat(K), tangent, *self.robust[:1], *self.robust[2:]]

    @property
    def look(self) -> list[Term]:
        """What a point adds: cost, tangent, the upper triangle of A row by row, and g."""
        J, h, _, tangent = self.metric
        _, cost, weight, _ = self.robust
        columns, p = [*J, h], len(J)
        heavy = [[weight * v for v in column.heavy] for column in J]
        sums = [dot(heavy[i], columns[j].light) for i in range(p) for j in range(i, p)]
        sums += [dot(heavy[i], h.light) for i in range(p)]
        return [cost, weight * tangent, *sums]

    @cached_property
    def advance(self) -> list[Term]:
        """The next foot point (mu) after a Gauss-Newton step."""
        J, h, K, _ = self.metric
        return self._next([c.light for c in J], h.light, [c.heavy for c in K])

    def _next(self, J: Rows, h: Sequence[Term], K: Rows) -> list[Term]:
        ahead = [dot(row, self.step) + b for row, b in zip(transposed(J), h, strict=True)]
        return [-dot(column, ahead) for column in K]

    @property
    def look_ahead(self) -> list[Term]:
        """What the point adds after that step; nothing where feet must find the curve first."""
        return self._ahead(self.look, self.advance) if self.layout.explicit else []

    def _ahead(self, terms: Sequence[Term], feet: Sequence[Term]) -> list[Term]:
        """Write terms for where a step leads."""
        known = dict(zip(self.u, feet, strict=True))
        for j, step in zip(self.layout.free, self.step, strict=True):
            known[self.beta[j]] = self.beta[j] + step
        return substitute(terms, known)

    @cached_property
    def kept(self) -> list[Term]:
        """What the next foot point is made of, as far as it is not data."""
        J, h, K, _ = self.metric
        parts = [*(v for c in J for v in c.light), *h.light, *(v for c in K for v in c.heavy)]
        moving = {*self.u, *self.beta}
        return list(
            dict.fromkeys(
                v
                for v in parts
                if v.marks & FIRST and not moving.isdisjoint(needed([v])) and v not in self.u
            )
        )

    @cached_property
    def kept_rows(self) -> tuple[Term, ...]:
        """The same as it was kept where the last step led."""
        return self.symbols("k", len(self.kept))

    @cached_property
    def stride(self) -> list[Term]:
        """The next foot point, by what was kept."""
        J, h, K, _ = self.metric
        known = dict(zip(self.kept, self.kept_rows, strict=True))

        def found(terms: Sequence[Term]) -> list[Term]:
            return [known.get(v, v) for v in terms]

        return self._next([found(c.light) for c in J], found(h.light), [found(c.heavy) for c in K])

    @property
    def arrival(self) -> list[Term]:
        """What is to be kept where the step leads, behind the foot point there."""
        return [*self.stride, *self._ahead(self.kept, self.stride)]

    @property
    def look_beyond(self) -> list[Term]:
        """What the point adds there."""
        return self._ahead(self.look, self.stride)

    @cached_property
    def noise(self) -> Term:
        """Square of what rounding errors of data and parameters do to the residuals."""
        beta, mu = [self.beta[j] for j in self.layout.free], len(self.u)
        rows = [[v * b for v, b in zip(row, beta, strict=True)] for row in self.J_beta]
        if mu:
            rows = [[*row, v] for row, v in zip(rows, self._blurred, strict=True)]
        parts = [dot(c.heavy, c.light) for c in self._columns(rows)]
        if self.layout.explicit:
            y = [row[0] for row in self.weighted([[y] for y in self.y])]
            parts.append(dot(y, y) * self.live)
        return ROUNDING * total(parts)

    @property
    def _blurred(self) -> list[Term]:
        """What a share of all x that carry errors does to each residual."""
        x = [self.x[i] for i in self.layout.rows]
        if self.layout.full_x or self.layout.cross:
            # The diagonal of a matrix, row by row.
            sigma = self.scale[:: len(x) + 1] if self.layout.full_x else self.scale
            sizes = [s.at("abs") for s in sigma]
            u = [s.at("gt", 0.0).at("where", v / s, 0.0) for v, s in zip(x, sizes, strict=True)]
            return [dot(row, u) for row in self.J_u]
        rows = [
            [
                total(
                    [
                        s.at("gt", 0.0).at("where", slope * v, 0.0)
                        for slope, v, s in zip(row[: len(x)], x, self.scale, strict=True)
                    ]
                )
            ]
            for row in self._slopes
        ]
        return [row[0] for row in (self.weighted(rows) if self.layout.explicit else rows)]

    @cached_property
    def together(self) -> int:
        """How many places around a foot :attr:`bends` looks at."""
        mu = len(self.u)
        if not mu:
            return 0
        length = len(needed([*self.residual, *flat(self.J_u)]))
        return max(1, min(PLACES, 4 if mu == 1 else 2 * mu * mu, LONG // length))

    @property
    def bends(self) -> Term:
        """1 where the residual bends across the ball of the distance, else 0.

        A distance that is no more than rounding error tells nothing.
        """
        share = BENT if self.layout.explicit or self.q == 1 else STRAIGHT
        phi, mu = self.robust[0], len(self.u)
        size = phi.at("sqrt")
        straight: Term | None = None
        for turn in range(self.together):
            place = self.places[turn * mu : (turn + 1) * mu]
            step = [size * v for v in place]
            moved = {u: u + d for u, d in zip(self.u, step, strict=True)}
            there = substitute(self.residual, moved)
            for r, r0, slopes in zip(there, self.residual, self.J_u, strict=True):
                rise = [k * d for k, d in zip(slopes, step, strict=True)]
                steep = dot(slopes, slopes) + (1.0 if self.layout.explicit else 0.0)
                wide = r.at("abs") + r0.at("abs")
                for v in rise:
                    wide = wide + v.at("abs")
                gap = (r - r0 - total(rise)).at("abs")
                least = (share * steep.at("sqrt") * size).at("maximum", STRAIGHT * wide)
                near = gap.at("le", least)
                straight = near if straight is None else straight.at("and", near)
        if straight is None:
            return self.number(0.0)
        far = phi.at("gt", EXACT * self.noise)
        return straight.at("where", 0.0, 1.0) * far.at("where", 1.0, 0.0) * self.live

    @cached_property
    def exact(self) -> list[Term]:
        """What pulls, ``J_u``, ``J_beta``, the curvature of the residuals times the multipliers.

        What pulls at foot and parameters are the residuals, or the multipliers of an implicit
        model, whose residuals follow last. The curvature is ``uu`` (mu, mu), ``ub`` (mu, p) and
        ``bb`` (p, p), all elements.
        """
        mu, p = len(self.layout.rows), len(self.layout.free)
        weighted, nu = self.multipliers, self.multipliers
        if self.layout.explicit:
            nu = list(self.residual)
            weighted = [row[0] for row in self.weighted([[v] for v in weighted], True)]
        H = self.second(weighted)
        uu = transposed([self.scaled(row) for row in transposed([
            self.scaled(row[:mu]) for row in H[:mu]])])  # fmt: skip
        ub = transposed([self.scaled([H[i][mu + k] for i in range(mu)]) for k in range(p)])
        bb = [row[mu:] for row in H[mu:]]
        first = [*nu, *flat(self.J_u), *flat(self.J_beta)]
        off = [] if self.layout.explicit else self.residual
        return [*first, *flat(uu), *flat(ub), *flat(bb), *off]
