"""Scalar expressions: each distinct one exists once, with its value at a sample.

A :class:`Pool` keeps expressions in the order in which they can be computed. Making one that is
there already gives the old one back, so common subexpressions never arise and dead code is what no
result leads to. Only rewrites that leave every bit of an IEEE result alone are made (the sign of a
NaN apart).

Every expression carries its number at the sample on which it was captured. It folds constants,
feeds a custom backward with real numbers, and lets the whole capture be compared with torch.
"""

import math
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradfit._native.operations import OPERATIONS

Terms: TypeAlias = NDArray[Any]
"""An array of :class:`Term`: one expression per element of a tensor."""

MOST = 20_000
"""Expressions that one model may have; code that is longer takes minutes to compile."""

FIRST, OTHER = 1, 2
"""Marks of expressions that depend on x at the first point, or at another."""
FREE = 4
"""Mark of expressions that depend on parameters of the first point."""
ALIEN = 8
"""Mark of expressions that depend on parameters of another point."""

_COMMUTES = frozenset({"add", "mul", "eq", "ne", "and", "or"})


class CaptureError(Exception):
    """A model cannot become machine code; the message says why in half a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One scalar expression.

    Attributes
    ----------
    pool : Pool
        Where it lives.
    index : int
        Its place there; arguments have smaller ones.
    op : str
        Name of the operation, ``"const"`` or ``"symbol"``.
    args : tuple of Term
        What it is made of.
    data : object
        Value of a constant, name of a symbol, or settings of the operation that are no terms.
    number : float or bool
        Value at the sample.
    marks : int
        What it depends on.
    """

    pool: "Pool"
    index: int
    op: str
    args: tuple["Term", ...]
    data: Any
    number: Any
    marks: int

    @property
    def is_bool(self) -> bool:
        """Whether it is a truth value."""
        return isinstance(self.number, (bool, np.bool_))

    def as_float(self) -> "Term":
        """Return 1.0 for true and 0.0 for false; numbers stay what they are."""
        return self.at("where", 1.0, 0.0) if self.is_bool else self

    def at(self, op: str, *others: Any, data: Any = None) -> "Term":
        """Return ``op(self, *others)``; numbers among the others become constants."""
        return self.pool.make(op, (self, *map(self.pool.term, others)), data)

    def _arithmetic(self, op: str, other: Any) -> "Term":
        return self.pool.make(op, (self.as_float(), self.pool.term(other).as_float()))

    def __add__(self, other: Any) -> "Term":
        return self._arithmetic("add", other)

    def __radd__(self, other: Any) -> "Term":
        return self.pool.term(other) + self

    def __sub__(self, other: Any) -> "Term":
        return self._arithmetic("sub", other)

    def __rsub__(self, other: Any) -> "Term":
        return self.pool.term(other) - self

    def __mul__(self, other: Any) -> "Term":
        return self._arithmetic("mul", other)

    def __rmul__(self, other: Any) -> "Term":
        return self.pool.term(other) * self

    def __truediv__(self, other: Any) -> "Term":
        return self._arithmetic("div", other)

    def __rtruediv__(self, other: Any) -> "Term":
        return self.pool.term(other) / self

    def __pow__(self, other: Any) -> "Term":
        exponent = self.pool.term(other).as_float()
        if exponent.op != "const":
            return self._arithmetic("pow", other)
        if exponent.number in (0.0, 1.0):
            return self.as_float() if exponent.number else self.pool.constant(1.0)
        return self.pool.make("power", (self.as_float(),), float(exponent.number))

    def __neg__(self) -> "Term":
        return self.pool.make("neg", (self.as_float(),))


class Pool:
    """All expressions of one model; threads may add to it side by side."""

    def __init__(self) -> None:
        self.most: float = MOST
        self._known: dict[tuple[Any, ...], Term] = {}
        self._next = count().__next__
        self._own = threading.local()

    @property
    def folds_zero(self) -> bool:
        """Whether ``0 * x`` is 0: true of derivatives, where it means that nothing flows."""
        return getattr(self._own, "folds_zero", False)

    @folds_zero.setter
    def folds_zero(self, value: bool) -> None:
        self._own.folds_zero = value

    def symbol(self, name: str, number: float, marks: int) -> Term:
        """Return a new variable."""
        return self._enter("symbol", (), name, np.float64(number), marks)

    def constant(self, value: Any) -> Term:
        """Return a constant number or truth value."""
        if isinstance(value, (bool, np.bool_)):
            return self._enter("const", (), bool(value), bool(value), 0)
        number = np.float64(value)
        return self._enter("const", (), struct.pack("d", number), number, 0)

    def term(self, value: Any) -> Term:
        """Return a term as it is, a number as a constant."""
        return value if isinstance(value, Term) else self.constant(value)

    def array(self, values: Any) -> Terms:
        """Return constants for an array of numbers."""
        given = np.asarray(values)
        out = np.empty(given.shape, dtype=object)
        for at in np.ndindex(given.shape):
            out[at] = self.constant(given[at])
        return out

    def make(self, op: str, args: tuple[Term, ...], data: Any = None) -> Term:
        """Return ``op(*args)``, simplified."""
        simple = _SIMPLER.get(op)
        found = None if simple is None else simple(self, *args)
        if found is not None:
            return found
        if op in _COMMUTES and args[0].index > args[1].index:
            args = args[::-1]
        key = (op, *(a.index for a in args), data)
        if key in self._known:
            return self._known[key]
        marks = 0
        for a in args:
            marks |= a.marks
        with np.errstate(all="ignore"):
            number = OPERATIONS[op].compute(data, *(a.number for a in args))
        if all(a.op == "const" for a in args):
            return self.constant(number)
        return self._enter(op, args, data, number, marks)

    def custom(self, value: Term, data: Any) -> Term:
        """Return ``value`` with a derivative of its own, which ``data`` knows."""
        return self._enter("custom", (value,), data, value.number, value.marks)

    @property
    def written(self) -> tuple[Any, ...]:
        """All expressions in their order; equal where pools are."""
        return tuple(self._known)

    def _enter(self, op: str, args: tuple[Term, ...], data: Any, number: Any, marks: int) -> Term:
        key = (op, *(a.index for a in args), data)
        known = self._known.get(key)
        if known is not None:
            return known
        if len(self._known) >= self.most:
            raise CaptureError(f"it takes more than {self.most} operations per point")
        # Both of these happen at once, whatever other threads do.
        return self._known.setdefault(key, Term(self, self._next(), op, args, data, number, marks))


def lift(fn: Callable[..., Term], *arrays: Terms) -> Terms:
    """Apply a function of terms to each element of arrays that broadcast."""
    found = np.frompyfunc(fn, len(arrays), 1)(*arrays)
    # Of arrays without an axis NumPy makes the element itself.
    return found if isinstance(found, np.ndarray) else np.array(found, dtype=object)


def needed(results: Iterable[Term]) -> list[Term]:
    """Return what the results are made of, and they, in the order of computation."""
    found: dict[int, Term] = {}
    waiting = list(results)
    while waiting:
        term = waiting.pop()
        if term.index not in found:
            found[term.index] = term
            waiting.extend(term.args)
    return [found[i] for i in sorted(found)]


def substitute(results: Sequence[Term], known: Mapping[Term, Term]) -> list[Term]:
    """Write other terms for symbols. Nothing is differentiated after it: marks of that are gone."""
    new: dict[int, Term] = {s.index: t for s, t in known.items()}
    for term in needed(results):
        if term.index not in new:
            args = tuple(new[a.index] for a in term.args)
            if term.op in ("const", "symbol"):
                new[term.index] = term
            elif term.op in ("stop", "custom"):
                new[term.index] = args[0]
            else:
                new[term.index] = term.pool.make(term.op, args, term.data)
    return [new[t.index] for t in results]


def is_number(term: Term, value: float) -> bool:
    """Return whether a term is this constant; -0.0 is not 0.0."""
    return (
        term.op == "const"
        and term.number == value
        and math.copysign(1.0, term.number) == math.copysign(1.0, value)
    )


# Rewrites that keep every bit ---------------------------------------------------------------------


def _add(pool: Pool, a: Term, b: Term) -> Term | None:
    if b.op == "neg":
        return pool.make("sub", (a, b.args[0]))
    if a.op == "neg":
        return pool.make("sub", (b, a.args[0]))
    return None


def _sub(pool: Pool, a: Term, b: Term) -> Term | None:
    if is_number(b, 0.0):
        return a
    return pool.make("add", (a, b.args[0])) if b.op == "neg" else None


def _mul(pool: Pool, a: Term, b: Term) -> Term | None:
    for one, other in ((a, b), (b, a)):
        if is_number(one, 1.0):
            return other
        if is_number(one, -1.0):
            return -other
        if pool.folds_zero and one.op == "const" and one.number == 0.0:
            return one
        if one.op == "neg" and other.op != "const":
            return -(one.args[0] * other)
        if one.op == "neg":
            return one.args[0] * -other
    return None


def _div(pool: Pool, a: Term, b: Term) -> Term | None:
    if is_number(b, 1.0):
        return a
    if is_number(b, -1.0):
        return -a
    if pool.folds_zero and a.op == "const" and a.number == 0.0:
        return a
    if a.op == "neg":
        return -(a.args[0] / b)
    return -(a / b.args[0]) if b.op == "neg" else None


def _neg(pool: Pool, a: Term) -> Term | None:
    if a.op == "neg":
        return a.args[0]
    return None


def _where(pool: Pool, c: Term, a: Term, b: Term) -> Term | None:
    if c.op == "const":
        return a if c.number else b
    if a is b:
        return a
    return None if a.is_bool == b.is_bool else pool.make("where", (c, a.as_float(), b.as_float()))


def _not(pool: Pool, a: Term) -> Term | None:
    return a.args[0] if a.op == "not" else None


_SIMPLER: dict[str, Callable[..., Term | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "where": _where,
    "not": _not,
}


def evaluate(results: Sequence[Term], symbols: Mapping[Term, float]) -> list[Any]:
    """Return the numbers of terms when symbols have other numbers than at the sample."""
    numbers: dict[int, Any] = {t.index: np.float64(v) for t, v in symbols.items()}
    with np.errstate(all="ignore"):
        for term in needed(results):
            if term.index not in numbers:
                given = [numbers[a.index] for a in term.args]
                known = term.op in ("const", "symbol")
                numbers[term.index] = (
                    term.number if known else OPERATIONS[term.op].compute(term.data, *given)
                )
    return [numbers[t.index] for t in results]
