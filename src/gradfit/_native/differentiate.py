"""Derivatives of scalar expressions, by one sweep from the results back to the variables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from gradfit._native.expression import FIRST, OTHER, CaptureError, Term
from gradfit._native.operations import OPERATIONS


class Backward(Protocol):
    """The backward of a custom Function, as the data of a ``custom`` term."""

    @property
    def sources(self) -> Sequence[Term]:
        """What the Function was applied to."""
        ...

    def pull(self, g: Term) -> Iterable[tuple[Term, Term]]:
        """Return pairs of a source and what flows to it when ``g`` flows to the result."""
        ...


def gradients(seeds: Mapping[Term, Term], wanted: Sequence[Term]) -> list[Term]:
    """Return the derivative by each of ``wanted`` of the sum of results times their seeds.

    Parameters
    ----------
    seeds : mapping of Term to Term
        What flows into each result.
    wanted : sequence of Term
        Symbols; where nothing flows the derivative is the constant 0.

    Raises
    ------
    CaptureError
        Some operation on the way has no derivative.
    """
    pool = wanted[0].pool
    path = _path(seeds, wanted)
    flow: dict[int, Term] = {}

    def add(term: Term, part: Term) -> None:
        if term.index in path and not (part.op == "const" and part.number == 0.0):
            old = flow.get(term.index)
            flow[term.index] = part if old is None else old + part

    pool.folds_zero = True
    try:
        for term, seed in seeds.items():
            add(term, seed)
        for index in sorted(path, reverse=True):
            if index in flow and path[index].op != "symbol":
                for source, part in _flow(path[index], flow[index]):
                    add(source, part)
    finally:
        pool.folds_zero = False
    return [flow.get(w.index, pool.constant(0.0)) for w in wanted]


def _sources(term: Term) -> Sequence[Term]:
    return term.data.sources if term.op == "custom" else term.args


def _path(results: Iterable[Term], wanted: Sequence[Term]) -> dict[int, Term]:
    """Return the terms that lie between results and wanted variables, by index."""
    reached: dict[int, Term] = {}
    waiting = list(results)
    while waiting:
        term = waiting.pop()
        if term.index not in reached:
            reached[term.index] = term
            if term.op != "stop":
                waiting.extend(_sources(term))
    ends = {w.index for w in wanted}
    path: dict[int, Term] = {}
    for index in sorted(reached):
        term = reached[index]
        through = term.op != "stop" and any(s.index in path for s in _sources(term))
        if index in ends or through:
            path[index] = term
    return path


def _flow(term: Term, g: Term) -> Iterator[tuple[Term, Term]]:
    if term.op == "custom":
        yield from term.data.pull(g)
        return
    if term.op in _ROOTS and term.args[0].op in ("mul", "div"):
        yield from _flow_of_power(term, g)
        return
    slope = OPERATIONS[term.op].slope
    if slope is None:
        raise CaptureError(f"torch has no derivative of {term.op}")
    for source, part in zip(term.args, slope(g, term, *term.args), strict=True):
        if part is not None:
            yield source, part


_ROOTS = frozenset({"pow", "power", "sqrt"})


def _flow_of_power(term: Term, g: Term) -> Iterator[tuple[Term, Term]]:
    """Differentiate a power of a product or quotient by its factors.

    Of ``(x/c)**b`` at x = 0 the derivative by c is 0, though that by ``x/c`` may be infinite: by a
    factor that is not x itself it is the power, times b, over that factor.
    """
    base = term.args[0]
    slopes = OPERATIONS[term.op].slope
    if slopes is None:
        raise CaptureError(f"torch has no derivative of {term.op}")
    to_base, *rest = slopes(g, term, *term.args)
    yield from zip(term.args[1:], rest, strict=True)
    exponent = 0.5 if term.op == "sqrt" else term.data if term.op == "power" else term.args[1]
    inner = OPERATIONS[base.op].slope
    if inner is None:
        raise CaptureError(f"torch has no derivative of {base.op}")
    for k, (factor, plain) in enumerate(
        zip(base.args, inner(to_base, base, *base.args), strict=True)
    ):
        if factor.op == "const":
            continue
        if factor.marks & (FIRST | OTHER) or not base.marks & (FIRST | OTHER):
            yield factor, plain
            continue
        over = g * (exponent * term / factor)
        over = -over if base.op == "div" and k else over
        yield factor, factor.at("eq", 0.0).at("where", plain, over)
