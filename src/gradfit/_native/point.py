r"""A point as the engine sees it, as scalar expressions: residual, derivatives, elimination.

The formulas are those of :mod:`gradfit._engine.linearize` and :mod:`gradfit._engine.eliminate`,
written once more for a single point. Together with the captured model they become one straight
program: nothing is stored between the model and the elimination of its foot point, and whatever
cancels or is constant is gone before it is compiled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gradfit._native.differentiate import gradients
from gradfit._native.expression import FIRST, FREE, Term, substitute
from gradfit._native.lower import LIVE
from gradfit._native.program import Program

Rows = Sequence[Sequence[Term]]


class Layout(NamedTuple):
    """What a point is made of.

    Attributes
    ----------
    rows : tuple of int
        The variables of x that carry errors.
    free : tuple of int
        The parameters that are fitted.
    explicit : bool
        Whether there is a y, so that residuals are paid for and need not vanish.
    full_x, full_y : bool
        Whether the errors of x, and of y, are given by matrices instead of one number each.
    cross : bool
        Whether the errors of x tell about those of y.
    loss : str
        Name of the robust loss.
    """

    rows: tuple[int, ...]
    free: tuple[int, ...]
    explicit: bool
    full_x: bool
    full_y: bool
    cross: bool
    loss: str = "linear"


class Column(NamedTuple):
    """A column over the equations; ``heavy`` of one times ``light`` of another is their product."""

    light: list[Term]
    heavy: list[Term]


class Metric(NamedTuple):
    """``J`` (p), ``h`` and ``K`` (mu) of a point, and the tangent."""

    J: list[Column]
    h: Column
    K: list[Column]
    tangent: Term


@dataclass(frozen=True, eq=False)
class Point:
    """A point of one model and one layout.

    Attributes
    ----------
    program : Program
        The model.
    layout : Layout
        What a point is made of.
    """

    program: Program
    layout: Layout

    @property
    def q(self) -> int:
        """Number of equations."""
        return len(self.program.value)

    @cached_property
    def data(self) -> tuple[Term, ...]:
        """What is given at a point: x, y, ``L_x``, ``W``, ``C``, matrices row by row."""
        return (*self.x, *self.y, *self.scale, *self.weight, *self.cross)

    @cached_property
    def u(self) -> tuple[Term, ...]:
        """The foot point, whitened."""
        return self.symbols("u", len(self.layout.rows))

    @cached_property
    def beta(self) -> tuple[Term, ...]:
        """All parameters of the model."""
        return self.symbols("b", len(self.program.beta), FREE)

    @cached_property
    def residual(self) -> tuple[Term, ...]:
        """``r = W (f - y) - C u``, or f itself."""
        value = self.moved(self.program.value)
        if not self.layout.explicit:
            return tuple(value)
        gap = [v - y for v, y in zip(value, self.y, strict=True)]
        out = [row[0] for row in self.weighted([[v] for v in gap])]
        if self.layout.cross:
            out = [v - dot(c, self.u) for v, c in zip(out, self.square(self.cross), strict=True)]
        return tuple(out)

    @cached_property
    def J_u(self) -> list[list[Term]]:
        """``dr/du`` (q, mu)."""
        mu = len(self.layout.rows)
        rows = [self.scaled(row[:mu]) for row in self._slopes]
        if self.layout.explicit:
            rows = self.weighted(rows)
        if self.layout.cross:
            shift = self.square(self.cross)
            rows = [
                [a - c for a, c in zip(row, cs, strict=True)]
                for row, cs in zip(rows, shift, strict=True)
            ]
        return rows

    @cached_property
    def J_beta(self) -> list[list[Term]]:
        """``dr/dbeta`` (q, p) by the free parameters."""
        rows = [list(row[len(self.layout.rows) :]) for row in self._slopes]
        return self.weighted(rows) if self.layout.explicit else rows

    @cached_property
    def white(self) -> tuple[list[list[Term]], list[Term], list[list[Term]], Term]:
        """``J`` (q, p), ``h`` (q), ``K`` (q, mu) and the tangent."""
        p, tangent = len(self.layout.free), self.metric.tangent
        if not self.u and self.layout.explicit:
            return self.J_beta, list(self.residual), [[] for _ in self.residual], tangent
        white = self.whiten(self._rows)
        return [w[:p] for w in white], [w[p] for w in white], [w[p + 1 :] for w in white], tangent

    @cached_property
    def _rows(self) -> list[list[Term]]:
        """``J_beta``, ``h = r - J_u u`` and ``J_u`` side by side (q, p + 1 + mu), not yet white."""
        h = [r - dot(k, self.u) if k else r for r, k in zip(self.residual, self.J_u, strict=True)]
        return [[*b, c, *k] for b, c, k in zip(self.J_beta, h, self.J_u, strict=True)]

    @cached_property
    def metric(self) -> Metric:
        """Columns whose products are those of white ones."""
        p, tangent = len(self.layout.free), self.number(0.0)
        rows, weight = self._weighed(self._rows)
        columns, live = transposed(rows), weight * self.live
        *J, h = [Column(c, [v * live for v in c]) for c in columns[: p + 1]]
        # Where a lane only fills a register its foot moves as well: it is the foot of a real point,
        # and left behind it might be where the model is NaN, which no weight of 0 makes good.
        K = [Column(c, [v * weight for v in c]) for c in columns[p + 1 :]]
        if K:
            t = [u + dot(k.heavy, h.light) for u, k in zip(self.u, K, strict=True)]
            tangent = dot(t, t)
            if self.layout.explicit:
                bent = [dot(row, t) for row in self.J_u]
                tangent = tangent + dot(bent, bent)
        return Metric(J, h, K, tangent * self.live)

    def _columns(self, rows: Rows) -> list[Column]:
        rows, weight = self._weighed(rows)
        weight = weight * self.live
        return [Column(column, [v * weight for v in column]) for column in transposed(rows)]

    def _weighed(self, rows: Rows) -> tuple[Rows, Term]:
        """Return rows of which two columns have, with the weight, the product of white ones."""
        if self.u and self.q == 1:
            # One equation needs no root: a product of two columns takes its weight once.
            S = dot(self.J_u[0], self.J_u[0])
            return rows, 1.0 / (S + 1.0 if self.layout.explicit else S)
        white = self.u or not self.layout.explicit
        return self.whiten(rows) if white else rows, self.number(1.0)

    @cached_property
    def robust(self) -> tuple[Term, Term, Term, Term]:
        """Squared distance phi and rho, rho', rho'' of it (:mod:`gradfit._engine.loss`)."""
        _, h, _, tangent = self.metric
        phi = dot(h.heavy, h.light) + tangent
        one, c2 = self.number(1.0), self.loss_scale
        z, name = phi / c2, self.layout.loss
        if name == "huber":
            far, near = z.at("maximum", 1.0), z.at("le", 1.0)
            root = far.at("sqrt")
            value = near.at("where", phi, c2 * (2.0 * root - 1.0))
            return phi, value, 1.0 / root, near.at("where", 0.0, -0.5 * far**-1.5) / c2
        if name == "soft_l1":
            root = (1.0 + z).at("sqrt")
            return phi, 2.0 * c2 * (root - 1.0), 1.0 / root, -0.5 * (1.0 + z) ** -1.5 / c2
        if name == "cauchy":
            weight = 1.0 / (1.0 + z)
            return phi, c2 * z.at("log1p"), weight, -1.0 / (1.0 + z) ** 2.0 / c2
        if name == "tukey":
            rest, near = (1.0 - z).at("maximum", 0.0), z.at("le", 1.0)
            value = near.at("where", c2 / 3.0 * (1.0 - (1.0 - z) ** 3.0), c2 / 3.0)
            return phi, value, rest**2.0, -2.0 * rest / c2
        return phi, phi, one, self.number(0.0)

    @cached_property
    def step(self) -> tuple[Term, ...]:
        return self.symbols("d", len(self.layout.free), FREE)

    @cached_property
    def loss_scale(self) -> Term:
        """``c**2``, in sigmas squared."""
        return self.symbols("c2", 1, FREE)[0]

    @cached_property
    def live(self) -> Term:
        """1 at a point; 0 where a lane only fills a register."""
        return self.program.beta[0].pool.symbol(LIVE, 1.0, FIRST)

    @cached_property
    def x(self) -> tuple[Term, ...]:
        return self.symbols("x", len(self.program.x))

    @cached_property
    def y(self) -> tuple[Term, ...]:
        return self.symbols("y", self.q if self.layout.explicit else 0)

    @cached_property
    def scale(self) -> tuple[Term, ...]:
        mu = len(self.layout.rows)
        return self.symbols("l", mu * mu if self.layout.full_x else mu)

    @cached_property
    def weight(self) -> tuple[Term, ...]:
        q = self.q if self.layout.explicit else 0
        return self.symbols("w", q * q if self.layout.full_y else q)

    @cached_property
    def cross(self) -> tuple[Term, ...]:
        return self.symbols("c", self.q * len(self.layout.rows) if self.layout.cross else 0)

    @cached_property
    def x_hat(self) -> list[Term]:
        """``x + L_x u``."""
        out = list(self.x)
        mu = len(self.layout.rows)
        for i, row in enumerate(self.layout.rows):
            part = self.scale[mu * i : mu * (i + 1)] if self.layout.full_x else (self.scale[i],)
            out[row] = out[row] + dot(part, self.u if self.layout.full_x else (self.u[i],))
        return out

    @cached_property
    def _wanted(self) -> list[Term]:
        program, layout = self.program, self.layout
        return [*(program.x[i] for i in layout.rows), *(program.beta[j] for j in layout.free)]

    @cached_property
    def _slopes(self) -> list[list[Term]]:
        """Derivatives of each response by the x that move and the free parameters."""
        one = self.number(1.0)
        return [self.moved(gradients({v: one}, self._wanted)) for v in self.program.value]

    @cached_property
    def multipliers(self) -> list[Term]:
        """``S^-1 (r - J_u u)``, the residuals where the foot is: what weighs the curvature."""
        if self.layout.explicit and not self.u:
            return list(self.residual)
        q, h = self.q, self.white[1]
        eye = [[self.number(float(i == j)) for j in range(q)] for i in range(q)]
        inverse = self.whiten(eye)
        return [dot(h, [row[j] for row in inverse]) for j in range(q)]

    def second(self, weights: Sequence[Term]) -> list[list[Term]]:
        """Second derivatives of ``sum_j weights_j f_j``; the weights stand still."""
        program, wanted = self.program, self._wanted
        seeds: dict[Term, Term] = {}
        for v, nu in zip(program.value, program.nu, strict=True):
            seeds[v] = seeds[v] + nu if v in seeds else nu
        one, k = self.number(1.0), len(wanted)
        H: list[list[Term]] = [[one] * k for _ in wanted]
        for i, slope in enumerate(gradients(seeds, wanted)):
            for j, h in enumerate(gradients({slope: one}, wanted[i:]), i):
                H[i][j] = H[j][i] = h
        moved = self.moved(flat(H), dict(zip(program.nu, weights, strict=True)))
        return [moved[k * i : k * (i + 1)] for i in range(k)]

    def moved(self, terms: Sequence[Term], more: dict[Term, Term] | None = None) -> list[Term]:
        """Write ``x_hat`` for x in terms of the model."""
        program = self.program
        known = dict(zip((*program.x, *program.beta), (*self.x_hat, *self.beta), strict=True))
        return substitute(terms, known | (more or {}))

    def whiten(self, rows: Rows) -> list[list[Term]]:
        """Apply ``C^-1``, ``C`` the Cholesky factor of ``s + J_u J_u^T``, to (q, c).

        The rows of ``[J_u, sqrt(s)]`` are put at right angles one after the other.
        """
        ways: list[list[Term]] = []
        out: list[list[Term]] = []
        for way, row in zip(self.J_u, rows, strict=True):
            for other, white in zip(ways, out, strict=True):
                # The slack of an equation is none of those before.
                k = len(way)
                share = dot(way, other[:k])
                way = [a - share * b for a, b in zip(way, other[:k], strict=True)]
                way += [-(share * b) for b in other[k:]]
                row = [a - share * b for a, b in zip(row, white, strict=True)]
            if self.layout.explicit:
                way = [*way, self.number(1.0)]
            weight = 1.0 / dot(way, way).at("sqrt")
            ways.append([a * weight for a in way])
            out.append([a * weight for a in row])
        return out

    def scaled(self, row: Sequence[Term]) -> list[Term]:
        """Multiply a row (mu) by ``L_x``."""
        if not self.layout.full_x:
            # Of an exact variable no derivative is asked, be it infinite.
            return [
                s.at("eq", 0.0).at("where", 0.0, a * s)
                for a, s in zip(row, self.scale, strict=True)
            ]
        columns = transposed(self.square(self.scale))
        return [dot(row, column) for column in columns]

    def weighted(self, rows: Rows, turned: bool = False) -> list[list[Term]]:
        """Multiply rows (q, c) by ``W``, or by its transpose."""
        if not self.layout.full_y:
            return [[w * a for a in row] for w, row in zip(self.weight, rows, strict=True)]
        W = self.square(self.weight)
        W, columns = (transposed(W) if turned else W), transposed(rows)
        return [[dot(w, column) for column in columns] for w in W]

    def square(self, terms: Sequence[Term]) -> list[list[Term]]:
        """Cut a flat matrix into rows; each has as many elements as there are u, or responses."""
        n = self.q if terms is self.weight else len(self.layout.rows)
        return [list(terms[i : i + n]) for i in range(0, len(terms), max(1, n))]

    def number(self, value: float) -> Term:
        return self.program.beta[0].pool.constant(value)

    def symbols(self, name: str, count: int, marks: int = FIRST) -> tuple[Term, ...]:
        pool = self.program.beta[0].pool
        return tuple(pool.symbol(f"{name}:{i}", 0.5 + 0.1 * i, marks) for i in range(count))


def dot(a: Sequence[Term], b: Sequence[Term]) -> Term:
    """Return the sum of products."""
    return total([x * y for x, y in zip(a, b, strict=True)])


def total(terms: Sequence[Term]) -> Term:
    """Return a sum."""
    out = terms[0]
    for term in terms[1:]:
        out = out + term
    return out


def flat(rows: Rows) -> list[Term]:
    """Return all elements, row by row."""
    return [t for row in rows for t in row]


def transposed(rows: Rows) -> list[list[Term]]:
    """Return columns as rows."""
    return [list(column) for column in zip(*rows, strict=True)]
