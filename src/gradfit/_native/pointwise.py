r"""What the engine asks at one point, as scalar expressions: residual, derivatives, elimination.

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


@dataclass(frozen=True, eq=False)
class Pointwise:
    """The expressions of one model and one layout.

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
        return (*self._x, *self._y, *self._scale, *self._weight, *self._cross)

    @cached_property
    def u(self) -> tuple[Term, ...]:
        """The foot point, whitened."""
        return self._symbols("u", len(self.layout.rows))

    @cached_property
    def beta(self) -> tuple[Term, ...]:
        """All parameters of the model."""
        return self._symbols("b", len(self.program.beta), FREE)

    @cached_property
    def residual(self) -> tuple[Term, ...]:
        """``r = W (f - y) - C u``, or f itself."""
        value = self._moved(self.program.value)
        if not self.layout.explicit:
            return tuple(value)
        gap = [v - y for v, y in zip(value, self._y, strict=True)]
        out = [row[0] for row in self._weighted([[v] for v in gap])]
        if self.layout.cross:
            out = [v - _dot(c, self.u) for v, c in zip(out, self._square(self._cross), strict=True)]
        return tuple(out)

    @cached_property
    def J_u(self) -> list[list[Term]]:
        """``dr/du`` (q, mu)."""
        mu = len(self.layout.rows)
        rows = [self._scaled(row[:mu]) for row in self._slopes]
        if self.layout.explicit:
            rows = self._weighted(rows)
        if self.layout.cross:
            shift = self._square(self._cross)
            rows = [
                [a - c for a, c in zip(row, cs, strict=True)]
                for row, cs in zip(rows, shift, strict=True)
            ]
        return rows

    @cached_property
    def J_beta(self) -> list[list[Term]]:
        """``dr/dbeta`` (q, p) by the free parameters."""
        rows = [list(row[len(self.layout.rows) :]) for row in self._slopes]
        return self._weighted(rows) if self.layout.explicit else rows

    @property
    def rows(self) -> tuple[Term, ...]:
        """What a kernel is given for each point."""
        return (*self.data, *self.u)

    @property
    def pars(self) -> tuple[Term, ...]:
        """What it is given for all: all parameters, a step of the free ones, the loss scale."""
        return (*self.beta, *self._step, self._scale_of_loss)

    @property
    def probe(self) -> list[Term]:
        """``r`` (q), ``J_u`` (q, mu), and the model itself (q)."""
        return [*self.residual, *_flat(self.J_u), *self._moved(self.program.value)]

    @property
    def linear(self) -> list[Term]:
        """``J`` (q, p), ``h`` (q), ``K`` (q, mu), the tangent, phi, and rho' and rho'' of it."""
        J, h, K, tangent = self._linear
        return [*_flat(J), *h, *_flat(K), tangent, *self._robust[:1], *self._robust[2:]]

    @property
    def look(self) -> list[Term]:
        """What a point adds: cost, tangent, the upper triangle of A row by row, and g."""
        J, h, _, tangent = self._linear
        _, cost, weight, _ = self._robust
        columns = [*_transposed(J), h]
        heavy = [[weight * v for v in column] for column in columns]
        p = len(J[0])
        A = [_dot(heavy[i], columns[j]) for i in range(p) for j in range(i, p)]
        g = [_dot(heavy[i], h) for i in range(p)]
        return [cost, weight * tangent, *A, *g]

    @property
    def advance(self) -> list[Term]:
        """The next foot point (mu) after a Gauss-Newton step."""
        J, h, K, _ = self._linear
        ahead = [_dot(row, self._step) + b for row, b in zip(J, h, strict=True)]
        return [-_dot([row[i] for row in K], ahead) for i in range(len(self.u))]

    @cached_property
    def exact(self) -> list[Term]:
        """``r``, ``J_u``, ``J_beta``, and the curvature of the residuals times their multipliers.

        The curvature is ``uu`` (mu, mu), ``ub`` (mu, p) and ``bb`` (p, p), all elements.
        """
        mu, p = len(self.layout.rows), len(self.layout.free)
        weighted = self._multipliers
        if self.layout.explicit:
            weighted = [row[0] for row in self._weighted([[v] for v in weighted], True)]
        H = self._second(weighted)
        uu = _transposed([self._scaled(row) for row in _transposed([
            self._scaled(row[:mu]) for row in H[:mu]])])  # fmt: skip
        ub = _transposed([self._scaled([H[i][mu + k] for i in range(mu)]) for k in range(p)])
        bb = [row[mu:] for row in H[mu:]]
        first = [*self.residual, *_flat(self.J_u), *_flat(self.J_beta)]
        return [*first, *_flat(uu), *_flat(ub), *_flat(bb)]

    # -- parts -----------------------------------------------------------------------------------

    @cached_property
    def _linear(self) -> tuple[list[list[Term]], list[Term], list[list[Term]], Term]:
        """``J`` (q, p), ``h`` (q), ``K`` (q, mu) and the tangent."""
        r, u, mu = self.residual, self.u, len(self.u)
        if not mu and self.layout.explicit:
            return self.J_beta, list(r), [[] for _ in r], self._number(0.0)
        h = [a - _dot(row, u) for a, row in zip(r, self.J_u, strict=True)]
        whole = [[*b, c, *k] for b, c, k in zip(self.J_beta, h, self.J_u, strict=True)]
        white = self._white(whole)
        p = len(self.layout.free)
        h, K = [row[p] for row in white], [row[p + 1 :] for row in white]
        t = [ui + _dot([row[i] for row in K], h) for i, ui in enumerate(u)]
        tangent = _dot(t, t)
        if self.layout.explicit:
            bent = [_dot(row, t) for row in self.J_u]
            tangent = tangent + _dot(bent, bent)
        return [row[:p] for row in white], h, K, tangent

    @cached_property
    def _robust(self) -> tuple[Term, Term, Term, Term]:
        """Squared distance phi and rho, rho', rho'' of it (:mod:`gradfit._engine.loss`)."""
        _, h, _, tangent = self._linear
        phi, one, c2 = _dot(h, h) + tangent, self._number(1.0), self._scale_of_loss
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
        return phi, phi, one, self._number(0.0)

    @cached_property
    def _step(self) -> tuple[Term, ...]:
        return self._symbols("d", len(self.layout.free), FREE)

    @cached_property
    def _scale_of_loss(self) -> Term:
        """``c**2``, in sigmas squared."""
        return self._symbols("c2", 1, FREE)[0]

    @cached_property
    def _x(self) -> tuple[Term, ...]:
        return self._symbols("x", len(self.program.x))

    @cached_property
    def _y(self) -> tuple[Term, ...]:
        return self._symbols("y", self.q if self.layout.explicit else 0)

    @cached_property
    def _scale(self) -> tuple[Term, ...]:
        mu = len(self.layout.rows)
        return self._symbols("l", mu * mu if self.layout.full_x else mu)

    @cached_property
    def _weight(self) -> tuple[Term, ...]:
        q = self.q if self.layout.explicit else 0
        return self._symbols("w", q * q if self.layout.full_y else q)

    @cached_property
    def _cross(self) -> tuple[Term, ...]:
        return self._symbols("c", self.q * len(self.layout.rows) if self.layout.cross else 0)

    @cached_property
    def _x_hat(self) -> list[Term]:
        """``x + L_x u``."""
        out = list(self._x)
        mu = len(self.layout.rows)
        for i, row in enumerate(self.layout.rows):
            part = self._scale[mu * i : mu * (i + 1)] if self.layout.full_x else (self._scale[i],)
            out[row] = out[row] + _dot(part, self.u if self.layout.full_x else (self.u[i],))
        return out

    @cached_property
    def _wanted(self) -> list[Term]:
        program, layout = self.program, self.layout
        return [*(program.x[i] for i in layout.rows), *(program.beta[j] for j in layout.free)]

    @cached_property
    def _slopes(self) -> list[list[Term]]:
        """Derivatives of each response by the x that move and the free parameters."""
        one = self._number(1.0)
        return [self._moved(gradients({v: one}, self._wanted)) for v in self.program.value]

    @cached_property
    def _multipliers(self) -> list[Term]:
        """The residuals themselves, or for an implicit model what brings them to 0."""
        if self.layout.explicit:
            return list(self.residual)
        q, h = self.q, self._linear[1]
        eye = [[self._number(float(i == j)) for j in range(q)] for i in range(q)]
        inverse = self._white(eye)
        return [_dot(h, [row[j] for row in inverse]) for j in range(q)]

    def _second(self, weights: Sequence[Term]) -> list[list[Term]]:
        """Second derivatives of ``sum_j weights_j f_j``; the weights stand still."""
        program, wanted = self.program, self._wanted
        seeds: dict[Term, Term] = {}
        for v, nu in zip(program.value, program.nu, strict=True):
            seeds[v] = seeds[v] + nu if v in seeds else nu
        one, k = self._number(1.0), len(wanted)
        H: list[list[Term]] = [[one] * k for _ in wanted]
        for i, slope in enumerate(gradients(seeds, wanted)):
            for j, h in enumerate(gradients({slope: one}, wanted[i:]), i):
                H[i][j] = H[j][i] = h
        moved = self._moved(_flat(H), dict(zip(program.nu, weights, strict=True)))
        return [moved[k * i : k * (i + 1)] for i in range(k)]

    def _moved(self, terms: Sequence[Term], more: dict[Term, Term] | None = None) -> list[Term]:
        """Write ``x_hat`` for x in terms of the model."""
        program = self.program
        known = dict(zip((*program.x, *program.beta), (*self._x_hat, *self.beta), strict=True))
        return substitute(terms, known | (more or {}))

    def _white(self, rows: Rows) -> list[list[Term]]:
        """Apply ``C^-1``, ``C`` the Cholesky factor of ``s + J_u J_u^T``, to (q, c)."""
        slack = 1.0 if self.layout.explicit else 0.0
        S = [[_dot(a, b) for b in self.J_u] for a in self.J_u]
        if self.q == 1:
            weight = 1.0 / (S[0][0] + slack if slack else S[0][0]).at("sqrt")
            return [[v * weight for v in rows[0]]]
        out: list[list[Term]] = []
        factor: list[list[Term]] = []
        for i, row in enumerate(rows):
            row, entries = list(row), list[Term]()
            for j in range(i):
                s = S[i][j]
                for k in range(j):
                    s = s - entries[k] * factor[j][k]
                entries.append(s / factor[j][j])
                row = [a - entries[j] * b for a, b in zip(row, out[j], strict=True)]
            pivot = S[i][i] + slack
            for e in entries:
                pivot = pivot - e * e
            entries.append(pivot.at("sqrt"))
            factor.append(entries)
            out.append([a / entries[i] for a in row])
        return out

    def _scaled(self, row: Sequence[Term]) -> list[Term]:
        """Multiply a row (mu) by ``L_x``."""
        if not self.layout.full_x:
            return [a * s for a, s in zip(row, self._scale, strict=True)]
        columns = _transposed(self._square(self._scale))
        return [_dot(row, column) for column in columns]

    def _weighted(self, rows: Rows, transposed: bool = False) -> list[list[Term]]:
        """Multiply rows (q, c) by ``W``, or by its transpose."""
        if not self.layout.full_y:
            return [[w * a for a in row] for w, row in zip(self._weight, rows, strict=True)]
        W = self._square(self._weight)
        W, columns = (_transposed(W) if transposed else W), _transposed(rows)
        return [[_dot(w, column) for column in columns] for w in W]

    def _square(self, terms: Sequence[Term]) -> list[list[Term]]:
        """Cut a flat matrix into rows; each has as many elements as there are u, or responses."""
        n = self.q if terms is self._weight else len(self.layout.rows)
        return [list(terms[i : i + n]) for i in range(0, len(terms), n)]

    def _number(self, value: float) -> Term:
        return self.program.beta[0].pool.constant(value)

    def _symbols(self, name: str, count: int, marks: int = FIRST) -> tuple[Term, ...]:
        pool = self.program.beta[0].pool
        return tuple(pool.symbol(f"{name}:{i}", 0.5 + 0.1 * i, marks) for i in range(count))


def _dot(a: Sequence[Term], b: Sequence[Term]) -> Term:
    out = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        out = out + x * y
    return out


def _flat(rows: Rows) -> list[Term]:
    return [t for row in rows for t in row]


def _transposed(rows: Rows) -> list[list[Term]]:
    return [list(column) for column in zip(*rows, strict=True)]
