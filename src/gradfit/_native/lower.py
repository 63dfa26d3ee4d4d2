"""Write expressions as Python over a block of points: one assignment per expression.

Points come in blocks of :data:`BLOCK` at most, each variable and each result a row of that length
in one flat array. The distance between rows is a constant of the text, so that the compiler knows
that rows do not overlap and fills vector registers; one call serves a block, so that calling
through a pointer costs nothing. What depends on parameters alone is computed before the loop.

Where fits go abreast each number is one for every lane, whose fit is its own, and what there is of
a point lies together.
"""

from collections.abc import Iterator, Sequence

from gradfit._native.expression import FIRST, Term, needed
from gradfit._native.operations import OPERATIONS

BLOCK = 64
"""Points in a block, at most: rows of 512 bytes keep a model of many parameters in cache."""
LANES = 8
"""Points that are computed side by side: rows are filled up to whole registers."""
LIVE = "live"
"""Name of the symbol that is 1 at a point and 0 at what stands behind the last."""
ABREAST = 0
"""In place of the length of a row: lanes are fits."""


def lower(
    name: str,
    rows: Sequence[Term],
    pars: Sequence[Term],
    results: Sequence[Term],
    sums: Sequence[Term],
    block: int = BLOCK,
) -> str:
    """Return the text of ``name(rows, pars, out, total, n)``.

    Parameters
    ----------
    name : str
        What the function is called.
    rows, pars : sequence of Term
        Symbols: one row of numbers each, and one number each.
    results : sequence of Term
        One row of ``out`` each.
    sums : sequence of Term
        What points add to one number of ``total`` each. :data:`LIVE` is 0 behind the ``n`` points,
        where lanes hold the last again up to a whole register.
    block : int
        Length of a row; :data:`ABREAST` where there are none: :data:`LIVE` is given behind the
        numbers of a point, and results are as far apart as points.
    """
    lines = [f"def {name}(rows, pars, out, total, n):"]
    lines.extend(f"    {line}" for line in _body((rows, pars), results, sums, block))
    return "\n".join(lines) + "\n"


def _body(
    given: tuple[Sequence[Term], Sequence[Term]],
    results: Sequence[Term],
    sums: Sequence[Term],
    block: int,
) -> Iterator[str]:
    rows, pars = given
    names: dict[int, str] = {}
    inputs = {t.index: f"pars[{j}]" for j, t in enumerate(pars)}
    width = len(rows) + 1
    inputs.update((t.index, f"rows[{_at(i, block, width)}]") for i, t in enumerate(rows))
    terms = needed((*results, *sums))
    live = f"rows[{_at(len(rows), block, width)}]" if block == ABREAST else "1.0 if i < n else 0.0"
    inputs.update((t.index, live) for t in terms if t.data == LIVE)
    lanes = f"(n + {LANES - 1}) // {LANES} * {LANES}" if block > 1 else "n"
    for inside in (False, True):
        if inside:
            yield from (f"s{k} = 0.0" for k in range(len(sums)))
            yield f"for i in range({lanes}):"
        pad = "    " if inside else ""
        for term in terms:
            if bool(term.marks & FIRST) == inside:
                text = _write(term, names, inputs)
                if text is not None:
                    names[term.index] = f"t{len(names)}"
                    yield f"{pad}{names[term.index]} = {text}"
    for row, term in enumerate(results):
        yield f"    out[{_at(row, block, width)}] = {_operand(term, names)}"
    for k, term in enumerate(sums):
        yield f"    s{k} = gather(s{k}, {_operand(term, names)})"
    if not results and not sums:
        yield "    pass"
    yield from (f"total[{k}] += s{k}" for k in range(len(sums)))


def _at(row: int, block: int, width: int) -> str:
    if block == ABREAST:
        return f"{width} * i + {row}"
    return f"{block * row} + i" if row else "i"


def _write(term: Term, names: dict[int, str], inputs: dict[int, str]) -> str | None:
    """Return the text of one expression; None where it needs no assignment."""
    if term.op == "const" or term.op in ("stop", "custom"):
        return None
    if term.op == "symbol":
        return inputs[term.index]
    given = [_operand(a, names) for a in term.args]
    if term.op == "where":
        # A choice between two plain numbers would be Python's, not NumPy's, without compilation.
        given[1:] = [
            f"np.float64({g})" if a.op == "const" and not a.is_bool else g
            for a, g in zip(term.args[1:], given[1:], strict=True)
        ]
    return OPERATIONS[term.op].write(term.data, given)


def _operand(term: Term, names: dict[int, str]) -> str:
    while term.op in ("stop", "custom"):
        term = term.args[0]
    return _constant(term) if term.op == "const" else names[term.index]


def _constant(term: Term) -> str:
    if term.is_bool:
        return str(bool(term.number))
    number = float(term.number)
    if number != number:
        return "np.nan"
    if abs(number) == float("inf"):
        return "np.inf" if number > 0 else "(-np.inf)"
    return repr(number) if str(number)[0] != "-" else f"({number!r})"
