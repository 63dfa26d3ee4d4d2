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
NEAR = "sin", "cos"
"""What has a form for numbers that are not far from 0 (:mod:`gradfit._native.vector`); a block in
which one is far is gone through again."""
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
    yield from _assign([t for t in terms if t.marks & FIRST == 0], names, inputs)
    inner = [t for t in terms if t.marks & FIRST]
    far = [t for t in inner if t.op in NEAR and block > 1]
    for swift in (True, False) if far else (False,):
        pad = "" if swift or not far else "    "
        if pad:
            yield "if far > 0.0:"
        elif swift:
            yield "far = 0.0"
        yield from (f"{pad}s{k} = 0.0" for k in range(len(sums)))
        yield f"{pad}for i in range({lanes}):"
        pad += "    "
        form = "near_" if swift else "np." if far else ""
        yield from (f"{pad}{line}" for line in _assign(inner, names, inputs, form))
        for row, term in enumerate(results):
            yield f"{pad}out[{_at(row, block, width)}] = {_operand(term, names)}"
        for k, term in enumerate(sums):
            yield f"{pad}s{k} = gather(s{k}, {_operand(term, names)})"
        if swift:
            for term in far:
                yield f"{pad}far = gather(far, is_far({_operand(term.args[0], names)}))"
        if not results and not sums:
            yield f"{pad}pass"
    yield from (f"total[{k}] += s{k}" for k in range(len(sums)))


def _assign(
    terms: Sequence[Term], names: dict[int, str], inputs: dict[int, str], form: str = ""
) -> Iterator[str]:
    """Write one assignment for each expression that needs one, in a form if it has several."""
    for term in terms:
        text = _write(term, names, inputs)
        if text is not None:
            names.setdefault(term.index, f"t{len(names)}")
            text = f"{form}{text}" if term.op in NEAR else text
            yield f"{names[term.index]} = {text}"


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
